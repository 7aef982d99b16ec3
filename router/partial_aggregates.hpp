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

// Some of the tables of a block's FROM, which are joined on their sharding keys: what each shard has of them, and by
// what they are joined.
struct JoinedPart {
  std::vector<parser::TableIndex> tables;
  std::vector<std::string> rows;        // a query for each
  std::vector<std::string> conditions;  // over their aliases
};

// Of one block, whose FROM and WHERE each shard can answer by itself. `calls`: the block's own functions. `gathered`:
// the table on the merge node that the shards' rows will be in. Nothing: the rows themselves are needed.
// `part`: the shards aggregate the rows of these tables alone, before the others are joined with them.
std::optional<PartialAggregates> partial_aggregates(const PlanRequest& request,
                                                    const std::vector<ResolvedTable>& tables, parser::BlockIndex block,
                                                    const BlocksBelow& below,
                                                    const std::vector<parser::FunctionCall>& calls,
                                                    std::string_view gathered, const JoinedPart* part = nullptr);

}  // namespace tessera::router
