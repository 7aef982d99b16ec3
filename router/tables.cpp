// From a name in the statement to what the configuration says of the table.
#include <algorithm>
#include <fmt/core.h>
#include <set>

#include "router/contains.hpp"
#include "router/planning.hpp"

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
  for (int level = 0; routing == nullptr && relation != nullptr && !relation->parent.empty(); ++level) {
    if (level == most_parents) return nullptr;
    const auto parent = std::ranges::find_if(request.catalog.relations, [relation](const Relation& candidate) {
      return candidate.schema + '.' + candidate.name == relation->parent;
    });
    if (parent == request.catalog.relations.end()) return nullptr;
    relation = &*parent;
    routing = request.topology.find_table(relation->schema, relation->name);
  }
  return routing;
}

void place(const TableRouting& routing, ResolvedTable& table) {
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
  table.refusal =
      Error{sqlstate::feature_not_supported,
            fmt::format("the type of the sharding key of table \"{}\" is not known", table.name),
            {},
            "the table is not in the shards' catalog; create it there, or give its key_type in the configuration",
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
      table.refusal =
          Error{sqlstate::feature_not_supported,
                fmt::format("view \"{}\" reads the sharded table \"{}\", and views over sharded tables are not "
                            "supported yet",
                            table.name, routing->name),
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
    table.kind = Kind::reference;
    return;
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
  if (name.starts_with("pg_") && listed == path.end()) return {};
  if (request.catalog.loaded) {
    const auto real = std::ranges::find_if(
        path, [&](const std::string& schema) { return request.catalog.find(schema, name) != nullptr; });
    if (real != path.end()) return *real;
  }
  if (listed != path.end()) return *listed;
  return path.empty() ? std::string_view("public") : std::string_view(path.front());
}

}  // namespace

ResolvedTable resolve_table(const parser::TableRef& table, const PlanRequest& request) {
  ResolvedTable resolved;
  resolved.name = table.name;
  const bool temporary = table.schema.empty() ? contains(request.session.temporary_tables, table.name)
                                              : table.schema.starts_with("pg_temp");
  if (temporary) {
    resolved.kind = Kind::temporary;
    return resolved;
  }
  const std::string schema{table.schema.empty() ? schema_of(table.name, request) : std::string_view(table.schema)};
  if (schema.empty() || system_schema(schema)) return resolved;
  resolved.relation = request.catalog.find(schema, table.name);
  if (const TableRouting* routing = routing_of(schema, table.name, request)) {
    place(*routing, resolved);
  } else if (resolved.relation != nullptr && resolved.relation->kind == Relation::Kind::view) {
    place_view(*resolved.relation, request, resolved);
  } else {
    place_unlisted(request, resolved);
  }
  return resolved;
}

int position_of(std::string_view sql, std::uint32_t offset) {
  const std::string_view before = sql.substr(0, offset);
  const auto starts_character = [](char c) { return (static_cast<unsigned char>(c) & 0xC0) != 0x80; };
  return static_cast<int>(std::ranges::count_if(before, starts_character)) + 1;
}

Error refuse(const PlanRequest& request, std::string message, parser::SourceSpan span, std::string hint) {
  const int position = span.end > span.begin ? position_of(request.sql, span.begin) : 0;
  return {sqlstate::feature_not_supported, std::move(message), {}, std::move(hint), position};
}

}  // namespace tessera::router
