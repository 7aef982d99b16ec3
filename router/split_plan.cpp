#include <algorithm>
#include <charconv>
#include <fmt/format.h>
#include <map>
#include <set>
#include <unordered_map>

#include "parser/lexer.hpp"
#include "router/planning.hpp"
#include "router/split.hpp"
#include "router/text.hpp"

namespace tessera::router {
namespace {

using parser::SourceSpan;

bool returns_each(const parser::Statement& statement, std::string_view sql) {
  const parser::Insert& insert = *statement.insert;
  const parser::Clauses& clauses = statement.blocks.front().clauses;
  if (!clauses.returning) return false;
  if (!insert.on_conflict) return true;
  if (insert.conflict_assignments.empty() || !clauses.on_conflict) return false;  // DO NOTHING
  return !lower(text_of(sql, *clauses.on_conflict)).contains("where");
}

// Gives the parameters of a part numbers without gaps: what it does not use would have no type.
void renumber(SplitPart& part) {
  std::string sql;
  std::size_t copied = 0;
  std::unordered_map<int, std::size_t> numbers;  // by what they were
  parser::Lexer lexer(part.sql, {});
  for (parser::Token token = lexer.next(); token.kind != parser::TokenKind::end; token = lexer.next()) {
    if (token.kind != parser::TokenKind::parameter) continue;
    int number = 0;
    std::from_chars(part.sql.data() + token.begin + 1, part.sql.data() + token.end, number);
    const auto [known, added] = numbers.emplace(number, numbers.size() + 1);
    if (added) part.parameters.push_back(number);
    sql.append(part.sql, copied, token.begin - copied);
    sql += fmt::format("${}", known->second);
    copied = token.end;
  }
  part.sql = sql + part.sql.substr(copied);
}

// A parameter without a declared type has that of its first place in the statement, and a part may not have that place.
Result<void> types_are_certain(const parser::Statement& statement, const Values& values,
                               const std::vector<ShardId>& shards) {
  constexpr TypeOid unknown = 705;
  const auto& spans = statement.insert->row_spans;
  std::map<int, std::set<int>> places;  // of each parameter: a shard's rows, or -1 for outside of the rows
  for (const parser::ParameterUse& use : statement.parameter_uses) {
    const auto behind = std::ranges::upper_bound(spans, use.begin, {}, &SourceSpan::begin);
    const auto row = static_cast<std::size_t>(behind - spans.begin());
    const bool outside = row == 0 || use.begin >= spans.back().end;
    places[use.parameter].insert(outside ? -1 : static_cast<int>(shards[row - 1].value()));
  }
  for (const auto& [parameter, where] : places) {
    const auto index = static_cast<std::size_t>(parameter - 1);
    const TypeOid declared = index < values.parameters.size() ? values.parameters[index].declared : 0;
    if (where.size() < 2 || (declared != 0 && declared != unknown)) continue;
    return fail(sqlstate::feature_not_supported,
                fmt::format("${} stands in rows for several shards and its type is not declared", parameter),
                "declare its type when you prepare the statement, or give each row a parameter of its own");
  }
  return {};
}

SplitPart part_of(const parser::Statement& statement, const PlanTemplate& plan, std::string_view sql, ShardId shard,
                  std::vector<std::uint32_t> rows) {
  const auto& spans = statement.insert->row_spans;
  const SourceSpan all{spans.front().begin, spans.back().end};
  std::string list;
  for (const std::uint32_t row : rows) {
    if (!list.empty()) list += ", ";
    list += text_of(sql, spans[row]);
  }
  std::vector<Replacement> replacements{{all, std::move(list)}};
  SplitPart part{.shard = shard, .sql = {}, .parameters = {}, .rows = {}};
  if (plan.column_list) {
    const auto at = static_cast<std::uint32_t>(behind_tokens(sql, plan.column_list->tokens, {}));
    replacements.push_back({{at, at}, plan.column_list->text});
    part.columns_at = position_of(sql.substr(statement.span.begin), at - statement.span.begin);
    part.columns = static_cast<int>(characters(plan.column_list->text));
  }
  part.sql = rewritten(sql, statement.span, std::move(replacements));
  renumber(part);
  part.rows = std::move(rows);
  return part;
}

}  // namespace

Result<SplitPlan> split(const parser::Statement& statement, const Values& values, const Topology& topology,
                        const Catalog& catalog, const SessionView& session) {
  if (statement.kind == parser::StatementKind::explain) {
    const std::string text = without_explain(values.sql, statement);
    Values inner = values;
    inner.sql = text;
    return split(statement.inner.front(), inner, topology, catalog, session);
  }
  const PlanTemplate plan = router::plan(statement, values.sql, values.slots, {}, topology, catalog, session);
  if (plan.refusal) return std::unexpected(*plan.refusal);
  if (plan.many_refusal) return std::unexpected(*plan.many_refusal);
  if (!plan.insert_rows) return fail(sqlstate::internal_error, "a statement without rows to insert was to be split");
  BindScratch scratch;
  const auto shards = row_shards(plan, topology, values, scratch);
  if (!shards) return std::unexpected(shards.error());
  if (const Result<void> certain = types_are_certain(statement, values, *shards); !certain)
    return std::unexpected(certain.error());
  std::map<ShardId, std::vector<std::uint32_t>> rows;
  for (std::uint32_t row = 0; row < shards->size(); ++row) rows[(*shards)[row]].push_back(row);
  SplitPlan out{.parts = {},
                .rows = static_cast<std::uint32_t>(shards->size()),
                .returns_each = returns_each(statement, values.sql)};
  for (auto& [shard, own] : rows) out.parts.push_back(part_of(statement, plan, values.sql, shard, std::move(own)));
  return out;
}

}  // namespace tessera::router
