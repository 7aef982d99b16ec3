// COPY, DDL, TRUNCATE, LOCK, maintenance, CALL and DO: whole tables, or what cannot be looked into.
#include <algorithm>
#include <fmt/core.h>

#include "router/contains.hpp"
#include "router/planning.hpp"

namespace tessera::router {

using parser::no_index;
using parser::TableUse;
using Kind = ResolvedTable::Kind;

namespace {
std::string on_each_shard(const PlanRequest& request) {
  return fmt::format("run it on each shard, directly or {}", by_hint(request));
}
}  // namespace

// The tables that are acted on as a whole must be plain ones. False: refused.
bool Planning::place_targets(TableUse use, std::string_view command) {
  for (std::size_t i = 0; i < statement_.tables.size(); ++i) {
    const parser::TableRef& table = statement_.tables[i];
    if (table.use != use) continue;
    const bool reads_any =
        use == TableUse::copy_to && (tables_[i].kind == Kind::reference || tables_[i].kind == Kind::catalog);
    if (tables_[i].kind == Kind::plain || tables_[i].kind == Kind::temporary || reads_any) continue;
    const char* what = tables_[i].kind == Kind::sharded     ? "sharded table"
                       : tables_[i].kind == Kind::reference ? "reference table"
                                                            : "system catalog";
    out_.placement = Placement::every_shard;
    refuse_all(refuse(
        request_,
        fmt::format("{} on the {} \"{}\", which concerns every shard, is not supported yet", command, what, table.name),
        table.span, on_each_shard(request_)));
    return false;
  }
  return true;
}

void Planning::copy() {
  // One that is understood is planned as a statement of its own.
  if (statement_.copy->query) {
    return refuse_all(refuse(request_, "the query of this COPY is not understood", statement_.span, {}));
  }
  if (!place_targets(TableUse::copy_from, "COPY") || !place_targets(TableUse::copy_to, "COPY")) return;
  query_without_scatter("COPY");
}

void Planning::definition() {
  if (!place_targets(TableUse::ddl_target, out_.command)) return;
  const bool targets = contains(statement_.tables, TableUse::ddl_target, &parser::TableRef::use);
  if (!targets && !statement_.effects.temporary_objects) {
    out_.placement = Placement::every_shard;
    return refuse_all(refuse(request_,
                             fmt::format("{}, which concerns every shard, is not supported yet", out_.command),
                             statement_.span, on_each_shard(request_)));
  }
  query_without_scatter(out_.command);
  // A view or table that is made of rows of several shards: a condition would make it another one.
  if (out_.many_refusal && uses(Kind::sharded)) out_.many_refusal->hint = on_each_shard(request_);
}

void Planning::whole_tables() {
  if (statement_.tables.empty()) {
    out_.placement = Placement::every_shard;
    return refuse_all(refuse(request_, fmt::format("{} of all shards is not supported yet", out_.command),
                             statement_.span, on_each_shard(request_)));
  }
  const bool copies =
      std::ranges::all_of(tables_, [](const ResolvedTable& table) { return table.kind == Kind::reference; });
  if (statement_.kind == parser::StatementKind::truncate && copies) return replicate();
  for (const TableUse use : {TableUse::truncate_target, TableUse::lock, TableUse::ddl_target, TableUse::read}) {
    if (!place_targets(use, out_.command)) return;
  }
  query_without_scatter(out_.command);
}

// DO, CALL and what else there may be: anything could happen in there, so it happens on the one server, if the database
// has nothing that other servers have a part of.
void Planning::code() {
  for (const parser::TableRef& table : statement_.tables) {
    if (tables_[static_cast<std::size_t>(&table - statement_.tables.data())].kind != Kind::sharded) continue;
    return refuse_all(
        refuse(request_, fmt::format("{} on the sharded table \"{}\" is not supported yet", out_.command, table.name),
               table.span, "name a shard " + by_hint(request_)));
  }
  add_components(request_, tables_, no_index, out_, component_of_, driving_);
  const bool hidden =
      statement_.kind == parser::StatementKind::do_block || statement_.kind == parser::StatementKind::call;
  if (hidden) {
    hidden_code(out_.command, statement_.span);
  } else {
    same_server(out_.command.empty() ? "this statement" : out_.command, statement_.span);
  }
  if (!out_.refusal) finish_reads();
}

}  // namespace tessera::router
