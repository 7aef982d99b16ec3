// SELECT, and the question whether the same text sent to several shards gives, put together, the rows of one server.
#include <algorithm>
#include <array>
#include <fmt/core.h>
#include <numeric>

#include "router/planning.hpp"

namespace tessera::router {
namespace {

using parser::Block;
using parser::BlockIndex;
using parser::BlockRole;
using parser::Clauses;
using parser::no_index;
using parser::SourceSpan;
using Kind = ResolvedTable::Kind;

struct NamedClause {
  std::optional<SourceSpan> Clauses::* span;
  std::string_view name;
};
// Clauses of the outermost block that several shards cannot answer one by one.
constexpr auto unmergeable = std::to_array<NamedClause>({{&Clauses::distinct_on, "DISTINCT ON"},
                                                         {&Clauses::distinct, "DISTINCT"},
                                                         {&Clauses::group_by, "GROUP BY"},
                                                         {&Clauses::having, "HAVING"},
                                                         {&Clauses::window, "WINDOW"},
                                                         {&Clauses::locking, "FOR UPDATE or SHARE"},
                                                         {&Clauses::into, "INTO"}});

// …unless their rows are merged.
constexpr auto ordering = std::to_array<NamedClause>(
    {{&Clauses::order_by, "ORDER BY"}, {&Clauses::limit, "LIMIT"}, {&Clauses::offset, "OFFSET"}});

// Clauses that make a block's rows depend on the server's mood, so that two shards may give different ones.
constexpr auto moody = std::to_array<NamedClause>({{&Clauses::distinct_on, "DISTINCT ON"},
                                                   {&Clauses::limit, "LIMIT"},
                                                   {&Clauses::offset, "OFFSET"},
                                                   {&Clauses::locking, "FOR UPDATE or SHARE"}});

}  // namespace

void Planning::select() {
  if (!check_modifying_ctes()) return;
  if (!place_targets(parser::TableUse::ddl_target, "SELECT INTO")) return;
  add_components(request_, tables_, no_index, out_, component_of_, driving_);
  // With more than one component, finish_reads names the tables.
  if (uses(Kind::sharded) && out_.components.size() == 1) out_.many_refusal = scatter_refusal();
  finish_reads();
  if (out_.many_refusal && !out_.refusal) {
    out_.merges = out_.components.size() == 1 && merges();
    std::optional<Error> reason = gather_refusal();
    out_.gathers = !reason;
    if (reason) out_.many_refusal = std::move(reason);
  }
}

// A query that must be one shard's, whatever its clauses are.
void Planning::query_without_scatter(std::string_view what) {
  if (!check_modifying_ctes()) return;
  add_components(request_, tables_, no_index, out_, component_of_, driving_);
  if (uses(Kind::sharded)) {
    out_.many_refusal = refuse(request_, fmt::format("{} over rows of several shards is not supported yet", what),
                               statement_.span, key_hint_text());
  }
  finish_reads();
}

std::optional<Error> Planning::scatter_refusal() const {
  if (statement_.blocks.empty()) return refuse(request_, "the statement has no query", statement_.span, {});
  if (auto refusal = clause_refusal(statement_.blocks.front())) return refusal;
  return rows_refusal();
}

// Why the rows of several shards, in whatever order, are not one server's.
std::optional<Error> Planning::rows_refusal() const {
  const Block& top = statement_.blocks.front();
  if (auto refusal = form_refusal(top)) return refusal;
  if (top.clauses.range_function)
    return refuse(request_, "a function in FROM over rows of several shards is not supported yet",
                  top.clauses.from.value_or(top.span), key_hint_text());
  if (auto refusal = function_refusal(top, true)) return refusal;
  const parser::Effects& effects = statement_.effects;
  if (effects.writes || effects.locks_rows || effects.session_advisory_lock || effects.changes_settings) {
    return refuse(request_, "a query that writes, locks or changes settings cannot run on several shards yet",
                  statement_.span, key_hint_text());
  }
  std::vector<BlockIndex> inner(statement_.blocks.size() - 1);
  std::iota(inner.begin(), inner.end(), BlockIndex{1});
  return source_refusal(top, inner);
}

// …those of the block's FROM and WHERE, where `inner` are the blocks in there.
std::optional<Error> Planning::source_refusal(const Block& block, std::span<const BlockIndex> inner) const {
  for (const BlockIndex i : inner)
    if (auto refusal = block_refusal(i)) return refusal;
  if (auto refusal = table_refusal()) return refusal;
  const bool driven = std::ranges::any_of(
      block.tables, [this](parser::TableIndex table) { return driving_[table] && !statement_.tables[table].nullable; });
  if (driven) return std::nullopt;
  return refuse(
      request_,
      "the rows come from an outer join's other side, or from a subquery, so several shards could give the same row",
      block.clauses.from.value_or(block.span), key_hint_text());
}

// Tables whose rows are not the same wherever they are read.
std::optional<Error> Planning::table_refusal() const {
  if (const auto* table = first_table(Kind::catalog)) {
    return refuse(request_, fmt::format("the system catalog \"{}\" differs from shard to shard", table->name),
                  table->span, key_hint_text());
  }
  const auto moody_view = std::ranges::find(tables_, true, &ResolvedTable::moody);
  if (moody_view == tables_.end()) return std::nullopt;
  return refuse(request_,
                fmt::format("the view \"{}\" may have other rows on each shard: its query is not one whose result "
                            "its tables alone decide",
                            moody_view->name),
                statement_.tables[static_cast<std::size_t>(moody_view - tables_.begin())].span, key_hint_text());
}

// Then those in subqueries are the subqueries' own.
bool Planning::outermost_has_no_aggregates() const {
  return statement_.kind == parser::StatementKind::update || statement_.kind == parser::StatementKind::delete_ ||
         (statement_.insert && statement_.insert->source == no_index);
}

// What the outermost block must not have.
std::optional<Error> Planning::clause_refusal(const Block& block) const {
  if (auto refusal = form_refusal(block)) return refusal;
  for (const NamedClause& clause : ordering)
    if (const auto& span = block.clauses.*clause.span) return refuse_clause(clause.name, *span);
  return std::nullopt;
}

Error Planning::refuse_clause(std::string_view what, SourceSpan span) const {
  return refuse(request_, fmt::format("{} over rows of several shards is not supported yet", what), span,
                key_hint_text());
}

// …if its rows are merged either.
std::optional<Error> Planning::form_refusal(const Block& block) const {
  const auto refused = [this](std::string_view what, SourceSpan span) { return refuse_clause(what, span); };
  if (!block.set_operation.empty()) return refused("UNION, INTERSECT and EXCEPT", block.span);
  for (const NamedClause& clause : unmergeable) {
    if (const auto& span = block.clauses.*clause.span) return refused(clause.name, *span);
  }
  const SourceSpan from = block.clauses.from.value_or(block.span);
  if (block.clauses.table_sample) return refused("TABLESAMPLE", from);
  if (block.clauses.natural_join) return refused("NATURAL JOIN", from);
  if (block.values) return refused("VALUES", block.span);
  return std::nullopt;
}

std::optional<Error> Planning::function_refusal(const Block& block, bool top) const {
  for (const parser::FunctionCall& call : calls(block)) {
    const FunctionTrait trait = trait_of(call, request_.catalog);
    const auto refused = [&](std::string_view what) {
      return refuse(request_, fmt::format("{} {}() over rows of several shards is not supported yet", what, call.name),
                    call.span, key_hint_text());
    };
    if (call.window) return refused("the window function");
    // Inside a subquery an aggregate may belong to the query around it; of a derived table that cannot be.
    const bool own =
        block.role == BlockRole::from_subquery || block.role == BlockRole::cte || outermost_has_no_aggregates();
    if ((trait.aggregate || call.aggregate_syntax) && (top || !own)) return refused("the aggregate");
    if (trait.by_order) {
      return refuse(request_,
                    fmt::format("{}() in a subquery may put the rows in another order on each shard", call.name),
                    call.span, key_hint_text());
    }
    if (trait.per_server) {
      return refuse(
          request_,
          fmt::format("{}() has another value on each shard, and one server would give all rows the same", call.name),
          call.span, fmt::format("give the value as a literal or parameter; or {}", key_hint_text()));
    }
    if (trait.server_state) return refused("the function");
    if (trait.unknown) return refused("the unknown function");
    if (trait.user || trait.may_write) return refused("the user-defined function");
  }
  return std::nullopt;
}

// A block within the query: its rows must be the same wherever it is evaluated, or belong to the row that it is
// evaluated for.
std::optional<Error> Planning::block_refusal(BlockIndex index) const {
  const Block& block = statement_.blocks[index];
  if (block.role == BlockRole::set_operand || block.kind != parser::StatementKind::select) {
    return refuse(request_, "such a subquery over rows of several shards is not supported yet", block.span,
                  key_hint_text());
  }
  if (auto refusal = function_refusal(block, false)) return refusal;
  if (auto refusal = nested_refusal(block)) return refusal;
  return std::nullopt;
}

std::optional<Error> Planning::nested_refusal(const Block& block) const {
  const bool sharded = std::ranges::any_of(
      block.tables, [this](parser::TableIndex table) { return tables_[table].kind == Kind::sharded; });
  const bool per_row = block.role == BlockRole::exists_subquery || block.role == BlockRole::in_subquery ||
                       block.role == BlockRole::expression_subquery;
  if (sharded && !per_row) {
    return refuse(request_,
                  "a sharded table in a subquery or WITH query over rows of several shards is not supported yet",
                  block.span, key_hint_text());
  }
  if (sharded) {
    // One component: attached to the rows that the subquery is evaluated for. But a driving table in here would mean
    // that it is this block which decides.
    const bool drives = std::ranges::any_of(block.tables, [this](parser::TableIndex table) { return driving_[table]; });
    if (!drives) return std::nullopt;
    return refuse(request_, "a subquery on a sharded table is not joined with the query around it on the sharding key",
                  block.span, key_hint_text());
  }
  for (const NamedClause& clause : moody) {
    if (const auto& span = block.clauses.*clause.span) {
      return refuse(request_, fmt::format("{} in a subquery may give other rows on each shard", clause.name), *span,
                    key_hint_text());
    }
  }
  if (block.clauses.table_sample) {
    return refuse(request_, "TABLESAMPLE in a subquery gives other rows on each shard", block.span, key_hint_text());
  }
  const bool random = std::ranges::any_of(calls(block), [this](const parser::FunctionCall& call) {
    const auto known = request_.catalog.functions.find(call.name);
    return known != request_.catalog.functions.end() && known->second.volatility == 'v';
  });
  if (!random) return std::nullopt;
  return refuse(request_, "a volatile function in a subquery may give other values on each shard", block.span,
                key_hint_text());
}

}  // namespace tessera::router
