// What to ask a shard about its catalog, and how to read the answer. Pure.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "pool/text_query.hpp"
#include "router/catalog.hpp"

namespace tessera::proxy {

// Relations with their columns, unique indexes and views' queries, and functions. Names are qualified, so that nobody's
// search_path can put objects of his own in between.
std::vector<std::string> catalog_queries();
// `read_only_functions`: what the configuration says may be called like a function that only reads.
std::shared_ptr<router::Catalog> read_catalog(const std::vector<std::vector<pool::TextQuery::Row>>& results,
                                              const std::vector<std::string>& read_only_functions);

}  // namespace tessera::proxy
