// What to ask a shard about its catalog, and how to read the answer. Pure.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "pool/text_query.hpp"
#include "router/catalog.hpp"

namespace tessera::proxy {

// A digest of what follows, relations with their columns, unique indexes and views' queries, and functions. Names are
// qualified, so that nobody's search_path can put objects of his own in between. The digest is asked for first: what
// changes before the rest has been read shows in the next one.
std::vector<std::string> catalog_queries();
std::string catalog_digest(const std::vector<std::vector<pool::TextQuery::Row>>& results);
// `read_only_functions`: what the configuration says may be called like a function that only reads. An error where the
// rows do not have the columns that were asked for.
Result<std::shared_ptr<router::Catalog>> read_catalog(const std::vector<std::vector<pool::TextQuery::Row>>& results,
                                                      const std::vector<std::string>& read_only_functions);

}  // namespace tessera::proxy
