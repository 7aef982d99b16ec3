// What the shards' catalogs say about the tables, views and functions that clients can name. Plain immutable data; read
// from a shard by a control thread (router knows nothing of connections), or made from the configuration for offline
// `tessera explain`.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "config/config.hpp"
#include "router/key.hpp"

namespace tessera::router {

// What a row gets in a column that it leaves out, where several servers each do it for themselves.
enum class DefaultValue : std::uint8_t {
  steady,   // the same on each; none: NULL
  per_row,  // another for each row, wherever it is: random(), gen_random_uuid()
  unsteady  // one for all rows of a statement, of a sequence, of a user's function, or not known: now()
};

struct Column {
  std::string name;
  TypeOid type = 0;
  std::string type_name;  // format_type(): "character varying(20)"
  KeyType key_type = KeyType::unsupported;
  bool not_null = false;
  bool deterministic_c_order = true;  // its collation orders bytewise (C, POSIX) or it has none
  bool deterministic = true;          // its collation's equality is bytewise
  bool generated = false;             // GENERATED ALWAYS AS (…) STORED: follows other columns, takes only DEFAULT
  bool sequence = false;              // serial or identity: its default is the next number of a sequence
  bool always = false;                // GENERATED ALWAYS AS IDENTITY: takes a value of its own only by OVERRIDING
  DefaultValue default_value = DefaultValue::steady;
  std::string sequence_name;  // of `sequence`: "schema"."name"; empty: its default is more than the next number
};

// A key column as a predicate needs it: its quoted name and its type.
struct KeyColumn {
  std::string quoted;
  KeyType type;
};

// A unique index or an exclusion constraint.
struct UniqueIndex {
  std::string name;
  std::vector<std::string> columns;  // empty names: expressions
  bool primary = false;
};

struct Relation {
  enum class Kind { table, partitioned_table, view, materialized_view, foreign_table, sequence, other };
  std::string schema;
  std::string name;
  Kind kind = Kind::table;
  std::vector<Column> columns;  // in attribute order, dropped ones left out
  bool complete = true;         // `columns` are all there are, in their order (not so offline, without `columns`)
  // A view's base relations (through views), as "schema.name"; the table that a sequence belongs to.
  std::vector<std::string> depends_on;
  std::vector<std::string> parents;  // what it is a partition of or inherits from, as "schema.name"
  std::vector<UniqueIndex> unique_indexes;
  std::vector<std::string> indexes;  // all of them, in the relation's schema
  bool hidden_by_system = false;     // pg_catalog has one of that name, which an unqualified name means
  // Of a view: the same rows on every shard whose base tables have the same rows; no code that reads tables runs in it.
  bool steady = false;
  bool runs_code = true;
  // Of a view: it calls volatile functions, so that reading it may change the session, or more.
  bool volatile_code = false;
  std::string definition;     // of a view: its query, all names in it with their schemas; empty: not known
  bool row_security = false;  // policies choose the rows that a user sees
  const Column* find_column(std::string_view column) const;
};

struct FunctionFacts {
  char volatility = 'v';   // provolatile: i, s, v (the gravest of all overloads)
  bool builtin = false;    // all overloads live in pg_catalog or information_schema
  bool aggregate = false;  // prokind 'a' (any overload): its result over several shards is not the rows' concatenation
  bool native = false;     // all overloads are machine code (languages c and internal): an extension's, hardly a user's
  bool set = false;        // any overload returns a set
};

struct Catalog {
  bool loaded = false;  // false: made from the configuration alone
  std::string digest;   // of what the server said; empty: it was not asked
  std::vector<Relation> relations;
  std::unordered_map<std::string, FunctionFacts> functions;  // by unqualified name
  // Whose code may leave something in the session (session_code.hpp): unqualified names in lower case.
  std::unordered_set<std::string> session_functions, session_views;
  const Relation* find(std::string_view schema, std::string_view name) const;
  const Relation* find(const std::string& qualified) const;  // "schema.name"
  // The relation that an index belongs to.
  const Relation* find_indexed(std::string_view schema, std::string_view index) const;
  // Its partitions and the tables that inherit from it, on all levels.
  std::vector<const Relation*> descendants(const Relation& relation) const;
  // Whether a view of that name, in any schema, has volatile code.
  bool has_volatile_view(std::string_view name) const { return volatile_views_.contains(std::string(name)); }

  bool is_session_function(std::string_view name) const;
  bool is_session_view(std::string_view name) const;

  // Offline: only what the configuration says (key, key_type, columns).
  static Catalog from_config(const config::Database& database);
  // Call after filling `relations`.
  void index();

private:
  std::unordered_set<std::string> volatile_views_;                      // unqualified names
  std::unordered_map<std::string, std::size_t> by_name_;                // "schema.name"
  std::unordered_map<std::string, std::vector<std::size_t>> children_;  // by the parent's "schema.name"
};

}  // namespace tessera::router
