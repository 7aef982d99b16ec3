// Split: an INSERT … VALUES whose rows belong to several shards. Each shard gets the statement with its own rows alone.
//
// Pure: a function of the statement, its values and the snapshots; made anew for each execution, since it holds the
// statement's text.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/error.hpp"
#include "base/ids.hpp"
#include "router/planner.hpp"

namespace tessera::router {

struct SplitPart {
  ShardId shard;
  // With the statement's own numbers of parameters, of which it need not have all. Their types are to be those that the
  // whole statement gives them: a parameter that stands in several rows has its type from the first.
  std::string sql;
  std::vector<int> parameters;      // n of each $n in it
  std::vector<std::uint32_t> rows;  // of the statement, from 0, ascending
  friend bool operator==(const SplitPart&, const SplitPart&) = default;
};

struct SplitPlan {
  std::vector<SplitPart> parts;  // ascending shards
  std::uint32_t rows = 0;
  // RETURNING, and each row gives exactly one, as far as the text says: no ON CONFLICT that could pass one over. Then
  // one server gives them in the order of the statement.
  bool returns_each = false;
};

// For a statement that bind has made Operator::split of. Errors: as those of bind.
Result<SplitPlan> split(const parser::Statement& statement, const Values& values, const Topology& topology,
                        const Catalog& catalog, const SessionView& session);

std::string describe(const SplitPlan& plan, const Topology& topology);

}  // namespace tessera::router
