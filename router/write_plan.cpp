// UPDATE, DELETE and MERGE: on the shards that the conditions lead to.
#include <algorithm>
#include <fmt/core.h>

#include "router/contains.hpp"
#include "router/planning.hpp"

namespace tessera::router {

using parser::no_index;
using parser::TableUse;
using Kind = ResolvedTable::Kind;

namespace {

bool modifies(TableUse use) {
  return use == TableUse::insert_target || use == TableUse::update_target || use == TableUse::delete_target ||
         use == TableUse::merge_target;
}

}  // namespace

// The table that an INSERT, UPDATE or DELETE is about.
parser::TableIndex Planning::target() const {
  const auto found = std::ranges::find_if(
      statement_.tables, [](const parser::TableRef& table) { return table.block == 0 && modifies(table.use); });
  return static_cast<parser::TableIndex>(found - statement_.tables.begin());
}

// A table that is written to: not a reference table (all shards would have to be), not a system catalog.
bool Planning::check_target(const parser::TableRef& table, std::string_view command) {
  const ResolvedTable& target = tables_[static_cast<std::size_t>(&table - statement_.tables.data())];
  if (target.kind == Kind::reference) {
    refuse_all(refuse(request_,
                      fmt::format("{} on the reference table \"{}\", which lives on every shard, is not supported yet",
                                  command, table.name),
                      table.span, "write to each shard " + by_hint(request_)));
    return false;
  }
  if (target.kind == Kind::catalog) {
    refuse_all(refuse(
        request_, fmt::format("{} on the system catalog \"{}\" is not possible on several shards", command, table.name),
        table.span, "write to each shard " + by_hint(request_)));
    return false;
  }
  return true;
}

// INSERT, UPDATE, DELETE and MERGE within WITH: which key they write is not known.
bool Planning::check_modifying_ctes() {
  for (std::size_t i = 0; i < statement_.tables.size(); ++i) {
    const parser::TableRef& table = statement_.tables[i];
    if (!modifies(table.use) || table.block == 0) continue;
    if (!check_target(table, "a write within WITH")) return false;
    if (tables_[i].kind == Kind::sharded && table.use != TableUse::delete_target) {
      refuse_all(
          refuse(request_,
                 fmt::format("INSERT, UPDATE or MERGE of the sharded table \"{}\" within WITH is not supported yet",
                             table.name),
                 table.span, "use a statement of its own"));
      return false;
    }
  }
  return true;
}

void Planning::update_or_delete() {
  if (!check_modifying_ctes()) return;
  for (std::size_t i = 0; i < statement_.tables.size(); ++i) {
    const parser::TableRef& table = statement_.tables[i];
    if (table.block != 0 || !modifies(table.use)) continue;
    if (tables_[i].kind == Kind::reference) return replicate();
    if (!check_target(table, out_.command)) return;
    if (tables_[i].kind != Kind::sharded) continue;
    if (statement_.kind == parser::StatementKind::update) {
      if (auto refusal = generated_key(tables_[i], table.span)) return refuse_all(std::move(*refusal));
      if (auto refusal = default_refusal(statement_.assignments, tables_[i])) return refuse_all(std::move(*refusal));
    }
    const auto& keys = tables_[i].routing->key_columns;
    for (const parser::Assignment& assignment : statement_.assignments) {
      if (!contains(keys, assignment.column)) continue;
      return refuse_all(refuse(
          request_,
          fmt::format("UPDATE of the sharding key \"{}\" of table \"{}\" is not supported yet, since the row could "
                      "belong to another shard",
                      assignment.column, table.name),
          assignment.span, "delete the row and insert it again"));
    }
  }
  add_components(request_, tables_, no_index, out_, component_of_, driving_);
  // With more than one component, finish_reads names the tables.
  if (uses(Kind::sharded) && out_.components.size() == 1) out_.many_refusal = scattered_write_refusal();
  out_.moment_matters = uses(Kind::sharded) && !out_.many_refusal && moment_possible();
  finish_reads();
}

void Planning::merge() {
  if (!check_modifying_ctes()) return;
  for (std::size_t i = 0; i < statement_.tables.size(); ++i) {
    const parser::TableRef& table = statement_.tables[i];
    if (table.block != 0 || !modifies(table.use)) continue;
    if (!check_target(table, out_.command)) return;
    if (tables_[i].kind == Kind::sharded) {
      return refuse_all(
          refuse(request_, fmt::format("MERGE into the sharded table \"{}\" is not supported yet", table.name),
                 table.span, "use INSERT … ON CONFLICT, UPDATE or DELETE with a condition on the sharding key"));
    }
  }
  query_without_scatter(out_.command);
}

}  // namespace tessera::router
