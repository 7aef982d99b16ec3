// EXPLAIN of a statement over several shards: what they say of their parts, composed under a plan of Tessera's. Pure.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/clock.hpp"
#include "base/error.hpp"
#include "parser/statement.hpp"

namespace tessera::proxy {

// What a server tells of the root of its plan.
struct Measured {
  std::optional<std::uint64_t> rows;     // with ANALYZE: of its result
  std::optional<std::uint64_t> changed;  // …inserted, updated or deleted
  std::optional<std::uint64_t> width;    // bytes of a row, as it guesses
};
// `lines`: as a server gives them.
Measured measure(const std::vector<std::string>& lines, bool json);

struct MovedData {
  std::uint64_t rows = 0, bytes = 0;
};

// What one shard says of one statement.
struct ShardPlan {
  std::string shard;
  std::string statement = {};  // if it is not the client's own
  std::vector<std::string> lines = {};
  Duration took{};
  std::optional<MovedData> sent = {};  // to the merge node; not set: nothing, or it is there already
};

struct ExplainedFragment {
  std::string table;
  std::string query;
  std::vector<ShardPlan> shards;
};

struct ExplainedPlan {
  std::string node;  // "Scatter"
  std::vector<ShardPlan> shards = {};
  // Gather
  std::vector<ExplainedFragment> fragments = {};
  std::optional<ShardPlan> merge = {};
  // Merge Sort, and Limit
  std::vector<std::string> sort_keys = {};
  std::uint64_t offset = 0;
  std::optional<std::uint64_t> limit = {};
  bool certain = true;  // otherwise only the shards know whether it is one, or a Gather
  bool changes_rows = false;
  bool copies = false;  // each shard does the same
  Duration took{};
};

// The values of QUERY PLAN, in text format a line each, in JSON all in one. An error: a shard's plan cannot be read.
Result<std::vector<std::string>> explain_rows(const ExplainedPlan& plan, const parser::Explain& options);

}  // namespace tessera::proxy
