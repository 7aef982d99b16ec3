// Aggregates over several shards: each shard aggregates its own rows, and the merge node only what they give. For
// queries on one table whose aggregates can be put together exactly: count, sum, avg, min, max and the like of types
// for which that is the server's own arithmetic. Pure.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "router/planning.hpp"
#include "router/rewrite.hpp"

namespace tessera::router {

struct PartialAggregates {
  std::string query;                      // for each shard
  std::vector<Replacement> replacements;  // in the statement, but for the table itself
};

// `calls`: the functions of the statement's only block. Nothing: the rows themselves are needed.
std::optional<PartialAggregates> partial_aggregates(const PlanRequest& request, const ResolvedTable& table,
                                                    const std::vector<parser::FunctionCall>& calls);

}  // namespace tessera::router
