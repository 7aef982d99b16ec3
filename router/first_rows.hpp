// ORDER BY … LIMIT n on one table: no shard need give more than its own first n rows, and as many as OFFSET passes
// over. Pure.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "router/planning.hpp"

namespace tessera::router {

// What each shard puts behind its list of columns: FROM … WHERE … ORDER BY … LIMIT …. `calls`: the functions of the
// statement's only block. Nothing: all rows are needed.
std::optional<std::string> first_rows(const PlanRequest& request, const ResolvedTable& table,
                                      const std::vector<parser::FunctionCall>& calls);

// The value in LIMIT n, FETCH FIRST n ROWS ONLY, OFFSET n ROWS, as it is written; empty: it is not told.
std::string value_of_clause(std::string_view clause);

}  // namespace tessera::router
