// The planner's tests as data: files of a configuration, a catalog and many statements, each with what is made of it.
// Format:
//
//   %config     the YAML of one database, as under `databases:`
//   %catalog    may be missing: then the plan is made offline, from the configuration alone. Lines:
//                 table public.users: id bigint, name character varying(20)      (partition … of <parent>: …)
//               also `partitioned`, `sequence`, `hidden` (behind a table of pg_catalog) and `view`; a column may be `id
//               bigint sequence` or `… sequence always`, `… generated`, `… per_row` or `… unsteady` (its default),
//               `… linguistic` (its collation is not C), a view `view public.v moody` (its query is not steady) or `…
//               code`
//                 depends public.v: public.users, public.countries
//                 unique public.users users_pkey: id      index public.users by_name
//                 function f v      function f v native      aggregate f      (a user's own)
//   %case       SQL, before or behind it lines of the form `-- name: value`: search_path, temporary, shard, $1,
//               `$1 bigint` (declared by the client)
//   %expect     describe() of the template, and of the plan bound to the statement's own literals and the parameters
//
// Tests only.
#pragma once

#include <string>
#include <vector>

#include "router/planner.hpp"

namespace tessera::router::golden {

struct Case {
  std::string sql;
  std::string expected;
};

struct File {
  std::string path;
  std::string head;  // everything before the first case, as it stands
  config::Database database;
  Catalog catalog;
  std::vector<Case> cases;
};

// Throws std::runtime_error for a file that cannot be understood.
File read(const std::string& path);
void write(const File& file);

// What is made of one statement.
std::string explain(const File& file, const Topology& topology, const std::string& sql);

// A database from the YAML under `databases:`.
config::Database database_from(const std::string& yaml);

}  // namespace tessera::router::golden
