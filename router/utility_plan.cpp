// TRUNCATE, LOCK, maintenance, CALL and DO: whole tables, or what cannot be looked into.
#include <algorithm>
#include <fmt/core.h>

#include "router/contains.hpp"
#include "router/planning.hpp"

namespace tessera::router {

using parser::no_index;
using parser::TableUse;
using Kind = ResolvedTable::Kind;

// The tables that are acted on as a whole must be plain ones. False: refused.
bool Planning::place_targets(TableUse use, std::string_view command) {
  for (std::size_t i = 0; i < statement_.tables.size(); ++i) {
    const parser::TableRef& table = statement_.tables[i];
    if (table.use != use) continue;
    if (tables_[i].kind == Kind::plain || tables_[i].kind == Kind::temporary) continue;
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

// LOCK, TRUNCATE, VACUUM and the like: each shard does it to its own part.
void Planning::whole_tables() {
  const bool maintains = statement_.kind == parser::StatementKind::maintenance;
  const auto on_each = [this](std::string message, parser::SourceSpan span) {
    out_.placement = Placement::every_shard;
    refuse_all(refuse(request_, std::move(message), span, on_each_shard(request_)));
  };
  if (statement_.effects.opaque_code)
    return on_each(fmt::format("{} on all shards is not supported", out_.command), statement_.span);
  const auto count = [this](Kind kind) { return std::ranges::count(tables_, kind, &ResolvedTable::kind); };
  const auto all = std::ssize(tables_);
  for (std::size_t i = 0; i < tables_.size(); ++i) {
    if (tables_[i].kind != Kind::catalog || tables_[i].everywhere) continue;
    return on_each(fmt::format("{} on the system catalog \"{}\", of which every shard has its own, is not supported",
                               out_.command, statement_.tables[i].name),
                   statement_.tables[i].span);
  }
  if (statement_.kind == parser::StatementKind::truncate && count(Kind::reference) == all) return replicate();
  const auto views = std::ranges::count(tables_, true, &ResolvedTable::everywhere);
  if (count(Kind::sharded) + count(Kind::reference) + views == 0 && all > 0) return query_without_scatter(out_.command);
  if (count(Kind::plain) + count(Kind::temporary) > 0) {
    return on_each(
        fmt::format("{} of tables that are on every shard together with others is not supported", out_.command),
        statement_.span);
  }
  out_.replicates = true;
  if (count(Kind::sharded) != all || all == 0 || maintains) {
    out_.placement = Placement::every_shard;
    return;
  }
  out_.placement = Placement::by_components;
  add_components(request_, tables_, no_index, out_, component_of_, driving_);
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
