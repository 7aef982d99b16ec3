// From a name in the statement to what the configuration says of the table.
#include <algorithm>
#include <fmt/core.h>
#include <set>

#include "router/contains.hpp"
#include "router/planning.hpp"
#include "router/text.hpp"

namespace tessera::router {
namespace {

using Kind = ResolvedTable::Kind;
constexpr int most_parents = 64;  // levels of partitioning; a longer chain is a loop

bool system_schema(std::string_view schema) {
  return schema == "pg_catalog" || schema == "information_schema" || schema.starts_with("pg_toast");
}

// The listed table that this one is, or is a partition of.
const TableRouting* routing_of(std::string_view schema, std::string_view name, const PlanRequest& request) {
  const TableRouting* routing = request.topology.find_table(schema, name);
  const Relation* relation = request.catalog.find(schema, name);
  for (int level = 0; routing == nullptr && relation != nullptr && !relation->parents.empty(); ++level) {
    if (level == most_parents) return nullptr;
    const auto parent = std::ranges::find_if(request.catalog.relations, [relation](const Relation& candidate) {
      return candidate.schema + '.' + candidate.name == relation->parents.front();
    });
    if (parent == request.catalog.relations.end()) return nullptr;
    relation = &*parent;
    routing = request.topology.find_table(relation->schema, relation->name);
  }
  return routing;
}

bool same_place(const TableRouting* a, const TableRouting* b) {
  if (a == b) return true;
  if (a == nullptr || b == nullptr || a->kind != b->kind) return false;
  return a->rule == b->rule && a->key_columns == b->key_columns && a->shard == b->shard;
}

// A table's rows are also those of its partitions and heirs, which could live elsewhere.
void check_descendants(const parser::TableRef& table, const TableRouting* routing, const PlanRequest& request,
                       ResolvedTable& resolved) {
  if (table.only || resolved.relation == nullptr || resolved.refusal) return;
  const bool partitioned = resolved.relation->kind == Relation::Kind::partitioned_table;
  if (table.use == parser::TableUse::insert_target && !partitioned) return;
  for (const Relation* heir : request.catalog.descendants(*resolved.relation)) {
    if (same_place(routing_of(heir->schema, heir->name, request), routing)) continue;
    resolved.refusal = Error{
        sqlstate::feature_not_supported,
        fmt::format("the rows of table \"{}\" include those of \"{}\", which lives elsewhere", table.name, heir->name),
        {},
        "list the parent under `tables`, and its partitions and heirs not at all or in the same way",
        0};
    return;
  }
}

void place(const TableRouting& routing, const parser::TableRef& written, const PlanRequest& request,
           ResolvedTable& table) {
  switch (routing.kind) {
    case TableRouting::Kind::reference:
      table.kind = Kind::reference;
      return;
    case TableRouting::Kind::plain:
      table.kind = Kind::plain;
      table.shard = routing.shard;
      return;
    case TableRouting::Kind::sharded:
      break;
  }
  table.kind = Kind::sharded;
  table.routing = &routing;
  if (!routing.key_types.empty()) return;
  table.rows_refusal =
      request.catalog.loaded
          ? Error{sqlstate::undefined_table,
                  fmt::format("relation \"{}{}{}\" does not exist", written.schema, written.schema.empty() ? "" : ".",
                              written.name),
                  "the configuration lists it, but it is not in the shards' catalog", "create it through Tessera", 0}
          : Error{sqlstate::feature_not_supported,
                  fmt::format("the type of the sharding key of table \"{}\" is not known", table.name),
                  {},
                  "without a server the configuration must say it: key_type, beside the table's key",
                  0};
}

void place_unlisted(const PlanRequest& request, ResolvedTable& table) {
  table.kind = Kind::plain;
  if (const auto shard = request.topology.default_shard()) {
    table.shard = *shard;
    return;
  }
  table.refusal = Error{
      sqlstate::feature_not_supported,
      fmt::format("table \"{}\" is not listed in the configuration and the database has no default_shard", table.name),
      {},
      "list the table under `tables`, or set `default_shard`",
      0};
}

// A view over reference tables alone: the same everywhere, if its query is steady. Code in it may read other tables.
void place_reference_view(const Relation& view, const PlanRequest& request, ResolvedTable& table) {
  table.kind = Kind::reference;
  table.everywhere = true;
  table.moody = !view.steady;
  if (!view.runs_code) return;
  table.rows_refusal =
      Error{sqlstate::feature_not_supported,
            fmt::format("view \"{}\" calls functions that may use sharded or reference tables, and would see those of "
                        "one shard only",
                        table.name),
            {},
            fmt::format("say which shard: {}", by_hint(request)),
            0};
}

// A view is where everything that it reads is. The names are "schema.table", either part of which may hold a dot.
void place_view(const Relation& view, const PlanRequest& request, ResolvedTable& table) {
  std::set<ShardId> shards;
  bool reference = false;
  for (const std::string& base : view.depends_on) {
    const TableRouting* routing = nullptr;
    std::string_view schema;
    for (std::size_t dot = base.find('.'); dot != std::string::npos && routing == nullptr;
         dot = base.find('.', dot + 1)) {
      schema = std::string_view(base).substr(0, dot);
      routing = routing_of(schema, std::string_view(base).substr(dot + 1), request);
    }
    if (routing == nullptr) {
      if (system_schema(schema)) continue;
      ResolvedTable unlisted{.name = base};
      place_unlisted(request, unlisted);
      if (unlisted.refusal) table.refusal = unlisted.refusal;
      shards.insert(unlisted.shard);
      continue;
    }
    if (routing->kind == TableRouting::Kind::sharded) {
      table.everywhere = true;
      table.expands = !view.definition.empty();
      table.rows_refusal =
          Error{sqlstate::feature_not_supported,
                fmt::format("view \"{}\" reads the sharded table \"{}\", {}", table.name, routing->name,
                            table.expands ? "which only a query can do" : "and its own query is not known"),
                {},
                "put the view's query into the statement, with a condition on the sharding key",
                0};
      return;
    }
    if (routing->kind == TableRouting::Kind::plain) shards.insert(routing->shard);
    reference = reference || routing->kind == TableRouting::Kind::reference;
  }
  if (shards.empty()) {
    if (!reference) return place_unlisted(request, table);
    return place_reference_view(view, request, table);
  }
  table.kind = Kind::plain;
  table.shard = *shards.begin();
  if (shards.size() > 1 && !table.refusal) {
    table.refusal = Error{sqlstate::feature_not_supported,
                          fmt::format("view \"{}\" reads tables on different shards", table.name),
                          {},
                          "query the tables one by one",
                          0};
  }
}

// The schema that an unqualified name is found in. Empty: a system catalog.
std::string_view schema_of(const std::string& name, const PlanRequest& request) {
  const auto& path = request.session.search_path;
  const auto listed = std::ranges::find_if(
      path, [&](const std::string& schema) { return request.topology.find_table(schema, name) != nullptr; });
  if (request.catalog.loaded) {
    const auto real = std::ranges::find_if(
        path, [&](const std::string& schema) { return request.catalog.find(schema, name) != nullptr; });
    const bool behind_system =
        real != path.end() && !hides_system(path) && request.catalog.find(*real, name)->hidden_by_system;
    if (behind_system) return {};
    if (real != path.end()) return *real;
  }
  if (listed != path.end()) return *listed;
  if (name.starts_with("pg_")) return {};
  return path.empty() ? std::string_view("public") : std::string_view(path.front());
}

// The schema that an unqualified name is made in: the first of the path that exists. One that the configuration alone
// names may not.
std::string creation_schema(const std::string& name, const PlanRequest& request, ResolvedTable& resolved) {
  const auto& path = request.session.search_path;
  const auto names = [](std::string_view schema, const auto& tables) {
    return std::ranges::any_of(tables, [schema](const auto& table) { return table.schema == schema; });
  };
  const std::string* first = nullptr;
  for (const std::string& schema : path) {
    const bool exists =
        schema == "public" || system_schema(schema) || schema == "pg_temp" || names(schema, request.catalog.relations);
    if (!exists && !names(schema, request.topology.tables())) continue;
    if (first == nullptr) first = &schema;
    const TableRouting* here = request.topology.find_table(schema, name);
    const bool temporary = schema == "pg_temp";
    if (temporary || !same_place(request.topology.find_table(*first, name), here)) {
      resolved.refusal =
          Error{sqlstate::feature_not_supported,
                fmt::format("by the search_path \"{}\" would be made {}", name,
                            temporary ? "as a temporary one" : fmt::format("in \"{}\" or in \"{}\"", *first, schema)),
                {},
                temporary ? "say so: CREATE TEMPORARY; or write the schema before the name"
                          : "write the schema before the name",
                0};
    }
    if (exists) break;
  }
  if (first != nullptr) return *first;
  return path.empty() ? "public" : path.front();
}

// The configuration lists a table of that name in a schema which the path names before the one where the catalog has
// such a table, and the catalog (of one shard) does not have the listed one.
bool ambiguous(const std::string& name, const PlanRequest& request) {
  if (!request.catalog.loaded) return false;
  bool listed = false;
  for (const std::string& schema : request.session.search_path) {
    if (request.catalog.find(schema, name) != nullptr) return listed;
    listed = listed || request.topology.find_table(schema, name) != nullptr;
  }
  return false;
}

// The table that has an index of that name, if the name means one: indexes and relations share their names.
const Relation* indexed(const parser::TableRef& name, const PlanRequest& request) {
  const auto in = [&](std::string_view schema) -> std::optional<const Relation*> {
    if (request.catalog.find(schema, name.name) != nullptr) return nullptr;
    const Relation* table = request.catalog.find_indexed(schema, name.name);
    return table == nullptr ? std::nullopt : std::optional(table);
  };
  if (!name.schema.empty()) return in(name.schema).value_or(nullptr);
  for (const std::string& schema : request.session.search_path)
    if (const auto found = in(schema)) return *found;
  return nullptr;
}

// An index is where its table is.
ResolvedTable resolve_index(parser::TableRef index, const Relation& owner, const PlanRequest& request) {
  index.schema = owner.schema;
  index.name = owner.name;
  ResolvedTable table = resolve_table(index, request);
  table.index = true;
  return table;
}

}  // namespace

ResolvedTable resolve_table(const parser::TableRef& table, const PlanRequest& request) {
  ResolvedTable resolved;
  resolved.name = table.name;
  const bool temporary = table.schema.empty() ? !table.created && contains(request.session.temporary_tables, table.name)
                                              : table.schema.starts_with("pg_temp");
  if (temporary) {
    resolved.kind = Kind::temporary;
    return resolved;
  }
  // ALTER TABLE takes an index, too, and ALTER INDEX a table.
  if (table.use == parser::TableUse::ddl_target && !table.created)
    if (const Relation* owner = indexed(table, request)) return resolve_index(table, *owner, request);
  std::string schema = table.schema;
  if (schema.empty())
    schema =
        table.created ? creation_schema(table.name, request, resolved) : std::string(schema_of(table.name, request));
  if (schema.empty() || system_schema(schema)) return resolved;
  resolved.relation = request.catalog.find(schema, table.name);
  const TableRouting* routing = routing_of(schema, table.name, request);
  resolved.listed = routing != nullptr;
  if (routing != nullptr) {
    place(*routing, table, request, resolved);
  } else if (resolved.relation != nullptr && resolved.relation->kind == Relation::Kind::view) {
    place_view(*resolved.relation, request, resolved);
  } else {
    place_unlisted(request, resolved);
    // An index that is not known may be one of a temporary table.
    if (table.index && resolved.relation == nullptr && !request.session.temporary_tables.empty())
      return {.kind = Kind::temporary, .name = table.name};
  }
  check_descendants(table, routing, request, resolved);
  if (table.schema.empty() && !table.created && ambiguous(table.name, request)) {
    resolved.refusal = Error{
        sqlstate::feature_not_supported,
        fmt::format("\"{}\" could mean a table that is listed but does not exist on the default shard, or \"{}.{}\"",
                    table.name, schema, table.name),
        {},
        "write the schema before the table's name, or create the listed table on the default shard too",
        0};
  }
  return resolved;
}

// pg_catalog is searched first unless the path names it: then what stands before it can hide types and operators.
bool hides_system(const std::vector<std::string>& search_path) {
  const auto system = std::ranges::find(search_path, "pg_catalog");
  return system != search_path.end() && system != search_path.begin();
}

Error refuse(const PlanRequest& request, std::string message, parser::SourceSpan span, std::string hint) {
  const int position = span.end > span.begin ? position_of(request.sql, span.begin) : 0;
  return {sqlstate::feature_not_supported, std::move(message), {}, std::move(hint), position};
}

std::string by_hint(const PlanRequest& request) {
  return fmt::format("by a hint /* tessera: shard=… */{}",
                     request.session.hints_allowed ? "" : " (which takes hints: true in the configuration)");
}

std::string on_each_shard(const PlanRequest& request) {
  return fmt::format("run it on each shard, directly or {}", by_hint(request));
}

}  // namespace tessera::router
