// Expressions that a query block groups by and the shards can compute, such as date_trunc('month', o.at)::date: so that
// they give groups of months, and not of moments. Internal to router, pure.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "router/planning.hpp"

namespace tessera::router {

struct GroupExpression {
  std::string text;                                                 // as it is written somewhere
  std::vector<parser::SourceSpan> places;                           // wherever it stands
  std::vector<std::pair<parser::TableIndex, std::string>> columns;  // in it
};

// Those of a block over tables that are known. `outside`: the statement, blank where the shards compute anyway;
// `others`: spans that no expression may touch. Each is an item of GROUP BY, so that it is computed for every row on
// one server too; equal values of its type are one and the same; where it stands, nothing around it binds tighter.
std::vector<GroupExpression> group_expressions(const PlanRequest& request, const std::vector<ResolvedTable>& tables,
                                               const parser::Block& block, std::string_view outside,
                                               std::span<const parser::SourceSpan> others);

}  // namespace tessera::router
