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
  std::string sql;
  std::vector<int> parameters;      // which of the statement's its own $1, $2, … are, from 1
  std::vector<std::uint32_t> rows;  // of the statement, from 0, ascending
  // The columns that the client did not name: how many characters, and the position of the first in `sql`.
  int columns = 0;
  int columns_at = 0;
  friend bool operator==(const SplitPart&, const SplitPart&) = default;
};

struct SplitPlan {
  std::vector<SplitPart> parts;  // ascending shards
  std::uint32_t rows = 0;
  // RETURNING, and each row gives exactly one, as far as the text says: no ON CONFLICT that could pass one over. Then
  // one server gives them in the order of the statement.
  bool returns_each = false;
};

// For a statement that bind has made Operator::split of, or EXPLAIN of one. Errors: as those of bind.
Result<SplitPlan> split(const parser::Statement& statement, const Values& values, const Topology& topology,
                        const Catalog& catalog, const SessionView& session);

std::string describe(const SplitPlan& plan, const Topology& topology);

}  // namespace tessera::router
