// Aggregates over several shards: each shard aggregates its own rows, and the merge node only what they give. For query
// blocks whose aggregates can be put together exactly: count, sum, avg, min, max and the like of types for which that
// is the server's own arithmetic; what looks at different values only (DISTINCT) is left to the merge node. Pure.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "router/planning.hpp"
#include "router/rewrite.hpp"

namespace tessera::router {

struct PartialAggregates {
  std::string query;                      // for each shard
  std::vector<Replacement> replacements;  // in the statement, FROM and WHERE of the block included
};

// The blocks below one: those in its FROM and WHERE, and of the others those in which no name is a column of its
// tables.
struct BlocksBelow {
  std::span<const parser::BlockIndex> inner, blind;
};

// Of one block, whose FROM and WHERE each shard can answer by itself. `calls`: the block's own functions. `gathered`:
// the table on the merge node that the shards' rows will be in. Nothing: the rows themselves are needed.
std::optional<PartialAggregates> partial_aggregates(const PlanRequest& request,
                                                    const std::vector<ResolvedTable>& tables, parser::BlockIndex block,
                                                    const BlocksBelow& below,
                                                    const std::vector<parser::FunctionCall>& calls,
                                                    std::string_view gathered);

}  // namespace tessera::router
