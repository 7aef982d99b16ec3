// Writes of reference tables: the same statement on every shard. Each must do exactly the same to its own copy, so
// nothing may depend on the server, its clock, the order of its rows, or tables that are not the same everywhere.
#include <algorithm>
#include <array>
#include <fmt/core.h>

#include "router/contains.hpp"
#include "router/planning.hpp"

namespace tessera::router {

using parser::Block;
using parser::no_index;
using parser::StatementKind;
using Kind = ResolvedTable::Kind;

namespace {

// Aggregates whose result does not depend on the order of the rows, nor on which of equal values comes first.
constexpr auto orderless =
    std::to_array<std::string_view>({"count", "bool_and", "bool_or", "every", "bit_and", "bit_or", "bit_xor"});

constexpr std::string_view give_values = "read what it needs first, and give the values as literals or parameters";

}  // namespace

void Planning::replicate() {
  if (auto refusal = replicate_refusal()) return refuse_all(std::move(*refusal));
  out_.placement = Placement::every_shard;
  out_.moment_matters = statement_.kind != StatementKind::truncate && moment_possible();
  for (const bool written : {true, false}) {
    for (const parser::TableRef& table : statement_.tables) {
      std::string name(text_of(request_.sql, table.span));
      if (written == (table.use != parser::TableUse::read) && !contains(out_.copies, name))
        out_.copies.push_back(std::move(name));
    }
  }
}

std::optional<Error> Planning::replicate_refusal() const {
  for (std::size_t i = 0; i < tables_.size(); ++i) {
    const ResolvedTable& table = tables_[i];
    const parser::TableRef& named = statement_.tables[i];
    const auto refused = [&](std::string_view what) {
      return refuse(request_,
                    fmt::format("{} of a reference table together with \"{}\", {}, is not supported yet", out_.command,
                                named.name, what),
                    named.span, std::string(give_values));
    };
    if (table.kind != Kind::reference) return refused("which is not one");
    const bool plain = table.relation == nullptr ? !request_.catalog.loaded
                                                 : table.relation->kind == Relation::Kind::table ||
                                                       table.relation->kind == Relation::Kind::partitioned_table;
    if (!plain) return refused("which is not an ordinary table");
  }
  if (statement_.kind == StatementKind::truncate) return std::nullopt;
  const parser::Effects& effects = statement_.effects;
  if (effects.locks_rows || effects.session_advisory_lock || effects.changes_settings || effects.temporary_objects)
    return refuse(request_, "a write of a reference table that locks rows or changes settings besides is not supported",
                  statement_.span, std::string(give_values));
  for (const Block& block : statement_.blocks) {
    if (auto refusal = copy_function_refusal(block)) return refusal;
    if (&block == &statement_.blocks.front()) continue;
    if (auto refusal = copy_block_refusal(block)) return refusal;
  }
  if (in_sequence(request_.sql, "array", "("))
    return refuse(request_, "ARRAY(SELECT …) could put the rows in another order in each shard's copy", statement_.span,
                  std::string(give_values));
  const Block& top = statement_.blocks.front();
  if (statement_.kind == StatementKind::update && top.clauses.from) {
    return refuse(
        request_,
        "UPDATE … FROM of a reference table is not supported yet: of several rows that match, each shard could "
        "take another",
        *top.clauses.from, "use a subquery: SET column = (SELECT …)");
  }
  if (statement_.insert && statement_.insert->source != no_index && statement_.insert->on_conflict) {
    return refuse(request_,
                  "INSERT … SELECT … ON CONFLICT into a reference table is not supported yet: of several rows that "
                  "conflict, each shard could take another",
                  top.clauses.on_conflict.value_or(top.span), "insert the rows as VALUES");
  }
  if (auto refusal = place_refusal()) return refusal;
  return default_value_refusal(DefaultValue::steady);
}

std::optional<Error> Planning::copy_function_refusal(const Block& block) const {
  for (const parser::FunctionCall& call : calls(block)) {
    const FunctionTrait trait = trait_of(call, request_.catalog);
    const auto known = request_.catalog.functions.find(call.name);
    const bool found = known != request_.catalog.functions.end();
    const bool aggregate = trait.aggregate || call.aggregate_syntax;
    const bool fits = !call.window && !trait.per_server && !trait.server_state && !trait.unknown && !trait.user &&
                      !trait.may_write && !trait.by_order && call.name != "current_setting" &&
                      !(found && known->second.volatility == 'v') &&
                      (!aggregate || (contains(orderless, call.name) && found && known->second.builtin));
    if (fits) continue;
    return refuse(
        request_,
        fmt::format("{}() in a write of a reference table could give each shard's copy another value", call.name),
        call.span, std::string(give_values));
  }
  return std::nullopt;
}

// A subquery, or what an INSERT selects: its rows must not depend on their order on the server. (1.0 equals 1.00.)
std::optional<Error> Planning::copy_block_refusal(const Block& block) const {
  const parser::Clauses& c = block.clauses;
  const bool unordered = c.distinct_on || c.distinct || c.group_by || c.limit || c.offset || c.table_sample;
  const bool set = !block.set_operation.empty() && block.set_operation != "union all";
  if (block.kind == StatementKind::select && !unordered && !set) return std::nullopt;
  return refuse(
      request_,
      "a subquery with LIMIT, DISTINCT, GROUP BY, a set operation or the like could give each shard's copy of a "
      "reference table other rows",
      block.span, std::string(give_values));
}

}  // namespace tessera::router
