// What the shards' catalogs say about the tables, views and functions that clients can name. Plain immutable data; read
// from a shard by a control thread (router knows nothing of connections), or made from the configuration for offline
// `tessera explain`.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "config/config.hpp"
#include "router/key.hpp"

namespace tessera::router {

struct Column {
  std::string name;
  TypeOid type = 0;
  std::string type_name;  // format_type(): "character varying(20)"
  KeyType key_type = KeyType::unsupported;
  bool not_null = false;
  bool deterministic_c_order = true;  // its collation orders bytewise (C, POSIX) or it has none
  bool deterministic = true;          // its collation's equality is bytewise
  bool generated =
      false;  // GENERATED ALWAYS … STORED: not among INSERT's positional columns? it is; given as DEFAULT only
};

// A key column as a predicate needs it: its quoted name and its type.
struct KeyColumn {
  std::string quoted;
  KeyType type;
};

struct Relation {
  enum class Kind { table, partitioned_table, view, materialized_view, foreign_table, sequence, other };
  std::string schema;
  std::string name;
  Kind kind = Kind::table;
  std::vector<Column> columns;  // in attribute order, dropped ones left out
  bool complete = true;         // `columns` are all there are, in their order (not so offline, without `columns`)
  std::vector<std::string> depends_on;  // a view's base relations (through views), as "schema.name"
  std::string parent;                   // partition or inheritance parent, "schema.name"; empty: none
  const Column* find_column(std::string_view column) const;
};

struct FunctionFacts {
  char volatility = 'v';   // provolatile: i, s, v (the gravest of all overloads)
  bool builtin = false;    // lives in pg_catalog
  bool aggregate = false;  // prokind 'a' (any overload): its result over several shards is not the rows' concatenation
};

struct Catalog {
  std::uint64_t version = 0;  // part of the plan cache's key
  bool loaded = false;        // false: made from the configuration alone
  std::vector<Relation> relations;
  std::unordered_map<std::string, FunctionFacts> functions;  // by unqualified name
  const Relation* find(std::string_view schema, std::string_view name) const;

  // Offline: only what the configuration says (key, key_type, columns).
  static Catalog from_config(const config::Database& database);
  // Call after filling `relations`.
  void index();

private:
  std::unordered_map<std::string, std::size_t> by_name_;  // "schema.name"
};

}  // namespace tessera::router
