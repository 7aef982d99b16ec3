// COPY over several shards. FROM: each row goes to the shard of its own key, or, into a reference table, to all. TO:
// the shards' streams one after another, as one.
//
// Pure: a function of the statement and the snapshots; made anew for each execution, since the options are literals.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "base/error.hpp"
#include "base/ids.hpp"
#include "parser/copy_splitter.hpp"
#include "router/planner.hpp"

namespace tessera::router {

struct CopyKey {
  std::string column;
  KeyType type = KeyType::unsupported;
  int modifier = -1;  // as in ShardTerm
  friend bool operator==(const CopyKey&, const CopyKey&) = default;
};

// A column that the data has not, and a row gets a value for.
struct CopyId {
  GivenIds::Column column;
  int bytes = 8;  // of the integer
  friend bool operator==(const CopyId&, const CopyId&) = default;
};

struct CopyPlan {
  bool from = false;
  std::string table;  // as servers name it in errors; empty: COPY (query)
  parser::CopyFormat format;
  std::string probe;       // TO: a query with the same columns, whose description tells them
  std::string sql;         // FROM: for each shard, with the columns by name, so that they mean the same everywhere
  bool rewritten = false;  // it is not the client's text
  std::string encoding;    // as the statement says; empty: the client's
  // FROM only:
  std::optional<RuleId> rule;  // that decides on rows; none: each goes to all shards
  std::vector<CopyKey> key;
  // In which text such as 'now' would mean another moment on each shard.
  std::vector<std::string> moments;
  std::vector<parser::CopyColumn> columns;  // where in a row those of `key` stand, and behind them those of `moments`
  std::vector<CopyId> ids;                  // behind the row's own fields
  bool same_encoding = true;                // the data's and the database's; as in Values
  friend bool operator==(const CopyPlan&, const CopyPlan&) = default;
};

// For a COPY that bind leads to several shards.
Result<CopyPlan> copy_plan(const parser::Statement& statement, const Values& values, const Topology& topology,
                           const Catalog& catalog, const SessionView& session);

std::string describe(const CopyPlan& plan, const Topology& topology);

// The row with values for the plan's ids behind its fields; the header of text or csv with their names. Empty: it has
// none, and is as it was.
std::string with_copy_ids(const CopyPlan& plan, const parser::CopyRow& row, const std::vector<std::int64_t>& ids);

// Says of one row after the other where it goes.
class CopyRouter {
public:
  CopyRouter(const CopyPlan& plan, std::shared_ptr<const Topology> topology);
  // Whether all rows go to all shards, whatever is in them.
  bool indifferent() const { return plan_.columns.empty() && plan_.ids.empty(); }
  // The shard of a row, or none: all. Errors: those of an INSERT of such a row, or a row that cannot be read.
  Result<std::optional<ShardId>> shard_of(const parser::CopyRow& row);

private:
  const CopyPlan plan_;
  const std::shared_ptr<const Topology> topology_;
  parser::CopyFields fields_;
  std::vector<std::string> texts_;
  std::vector<KeyValue> key_;
};

}  // namespace tessera::router
