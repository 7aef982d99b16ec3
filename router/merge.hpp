// MergeSort: ORDER BY, LIMIT and OFFSET over rows that several shards give each by itself. All get the same statement,
// which has what it is sorted by as additional last columns, `tessera_key_1` and so on, and of which each gives the
// first rows that can be needed. The executor merges their rows and drops those columns. Without ORDER BY it is LIMIT.
//
// Only values whose order is known to be the server's are compared (sort_key.hpp). A column's type says so before the
// statement runs; that of an expression only the server knows.
// Pure: made anew for each execution, since LIMIT and ORDER BY 2 are values.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "router/planner.hpp"
#include "router/sort_key.hpp"

namespace tessera::router {

struct MergeKey {
  std::string text;  // as the statement has it, for people
  SortDirection direction;
  bool bytewise = false;  // if it is a text, its collation is C or POSIX
  friend bool operator==(const MergeKey&, const MergeKey&) = default;
};

struct MergePlan {
  std::string sql;
  std::vector<MergeKey> keys;
  std::uint64_t offset = 0;
  std::optional<std::uint64_t> limit;
  bool certain = true;  // the keys' types are columns' types of known order; otherwise it can turn out to be unknown

  // From the byte `at` of `sql` on it is the client's text from `from` on.
  struct Origin {
    std::uint32_t at, from;
    friend bool operator==(const Origin&, const Origin&) = default;
  };
  std::vector<Origin> origins;
  // Where in the client's text an error is whose position, as servers count, is one in `sql`.
  int position_in(std::string_view client_sql, int position) const;
};

// For a statement whose template `merges`, or EXPLAIN of one. None: not with these values, or an order that is not
// known here.
std::optional<MergePlan> merge(const parser::Statement& statement, const Values& values, const Topology& topology,
                               const Catalog& catalog, const SessionView& session);

std::string describe(const MergeKey& key);  // as in ORDER BY
std::string describe(const MergePlan& plan);
// What the operator does of a statement with this plan: how its rows come together, or what each shard gets; empty for
// others.
std::string describe_rows(const Plan& plan, const parser::Statement& statement, const Values& values,
                          const Topology& topology, const Catalog& catalog, const SessionView& session,
                          bool in_transaction);

}  // namespace tessera::router
