// What a column's default says of the rows that take it on several servers.
#pragma once

#include <string_view>

#include "parser/statement.hpp"
#include "router/catalog.hpp"

namespace tessera::router {

// Of an expression that calls these.
DefaultValue judge_calls(const std::vector<parser::FunctionCall>& calls, const Catalog& catalog);
// `query` is SELECT `expression`. `catalog` needs its functions. What is not understood is unsteady.
DefaultValue judge_default(const parser::Statement& query, std::string_view expression, const Catalog& catalog);

}  // namespace tessera::router
