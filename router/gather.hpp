// Gather: the answer to every query that the shards cannot answer each by itself. The rows that it needs are copied
// from the shards into temporary tables on one server, the merge node, and the statement, its tables replaced by those,
// runs there: so types, collations, windows, recursion and every function are PostgreSQL's own.
//
// The merge node is one of the shards: it has the same schema, the reference tables, and its own share of the rows.
// Inside a transaction it is a connection besides those of the transaction, and sees nothing of what that has written:
// then all rows, those of reference tables too, come from the transaction's own connections.
// Pure: a function of the statement, its values and the snapshots; made anew for each execution, since it holds the
// statement's text.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.hpp"
#include "base/ids.hpp"
#include "router/planner.hpp"

namespace tessera::router {

// The rows of one table that the statement can need; or what the shards make of tables (router/prepared_block.hpp).
struct GatherFragment {
  std::string table;            // on the merge node, its name with its schema
  std::string query;            // the same for each shard, with the statement's own parameters
  std::vector<ShardId> shards;  // ascending; none: there are no such rows
  // Asks a server for one row: the names of the columns of what the query reads, a line for each, and their types. The
  // names must be `columns`, for which the query is made; the types must be the same everywhere.
  std::string check;
  std::string columns;
  std::vector<int> parameters;  // n of each $n in the query
  std::string lock = {};        // what the query reads, for LOCK TABLE; empty: it cannot be locked
  friend bool operator==(const GatherFragment&, const GatherFragment&) = default;
};

struct GatherPlan {
  ShardId merge;
  std::vector<GatherFragment> fragments;
  std::string statement;                // what runs on the merge node
  std::vector<std::string> locks = {};  // the tables that it reads there, or copies of which it reads
  bool in_transaction = false;
  std::vector<ShardId> sources() const;  // of all fragments, ascending
  std::vector<ShardId> shards() const;   // and the merge node
};

// For a statement whose template `gathers`, or EXPLAIN of one. `spread` chooses the merge node where it does not
// matter. Errors: as those of bind, and what cannot be gathered inside a transaction.
Result<GatherPlan> gather(const parser::Statement& statement, const Values& values, const Topology& topology,
                          const Catalog& catalog, const SessionView& session, bool in_transaction,
                          std::uint32_t spread);

std::string describe(const GatherPlan& plan, const Topology& topology);

}  // namespace tessera::router
