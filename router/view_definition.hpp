// What a view's query says of the view: whether its tables alone decide its rows, whether users' code runs in it, and
// whether reading it may change something.
#pragma once

#include "parser/statement.hpp"
#include "router/catalog.hpp"

namespace tessera::router {

struct ViewDefinition {
  bool steady = false;        // as Relation::steady, its own query alone: views that it reads have their own
  bool runs_code = true;      // as Relation::runs_code
  bool volatile_code = true;  // as Relation::volatile_code
};

// `catalog` needs its functions. A query that is not understood runs code and is not steady.
ViewDefinition judge_view(const parser::Statement& query, const Catalog& catalog);

}  // namespace tessera::router
