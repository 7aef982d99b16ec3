#include <algorithm>
#include <map>

#include "router/planning.hpp"
#include "router/split.hpp"
#include "router/text.hpp"

namespace tessera::router {
namespace {

using parser::SourceSpan;

bool within(std::uint32_t at, SourceSpan span) {
  return at >= span.begin && at < span.end;
}

bool returns_each(const parser::Statement& statement, std::string_view sql) {
  const parser::Insert& insert = *statement.insert;
  const parser::Clauses& clauses = statement.blocks.front().clauses;
  if (!clauses.returning) return false;
  if (!insert.on_conflict) return true;
  if (insert.conflict_assignments.empty() || !clauses.on_conflict) return false;  // DO NOTHING
  return !lower(text_of(sql, *clauses.on_conflict)).contains("where");
}

SplitPart part_of(const parser::Statement& statement, std::string_view sql, ShardId shard,
                  std::vector<std::uint32_t> rows) {
  const auto& spans = statement.insert->row_spans;
  const SourceSpan all{spans.front().begin, spans.back().end};
  std::string list;
  for (const std::uint32_t row : rows) {
    if (!list.empty()) list += ", ";
    list += text_of(sql, spans[row]);
  }
  SplitPart part{
      .shard = shard, .sql = rewritten(sql, statement.span, {{all, std::move(list)}}), .parameters = {}, .rows = {}};
  for (const parser::ParameterUse& use : statement.parameter_uses) {
    const auto behind = std::ranges::upper_bound(spans, use.begin, {}, &SourceSpan::begin);
    const bool here = within(use.begin, all) ? std::ranges::binary_search(rows, behind - spans.begin() - 1)
                                             : within(use.begin, statement.span);
    if (here) part.parameters.push_back(use.parameter);
  }
  part.rows = std::move(rows);
  return part;
}

}  // namespace

Result<SplitPlan> split(const parser::Statement& statement, const Values& values, const Topology& topology,
                        const Catalog& catalog, const SessionView& session) {
  const PlanTemplate plan = router::plan(statement, values.sql, values.slots, {}, topology, catalog, session);
  if (plan.refusal) return std::unexpected(*plan.refusal);
  if (plan.many_refusal) return std::unexpected(*plan.many_refusal);
  if (!plan.insert_rows) return fail(sqlstate::internal_error, "a statement without rows to insert was to be split");
  BindScratch scratch;
  const auto shards = row_shards(plan, topology, values, scratch);
  if (!shards) return std::unexpected(shards.error());
  std::map<ShardId, std::vector<std::uint32_t>> rows;
  for (std::uint32_t row = 0; row < shards->size(); ++row) rows[(*shards)[row]].push_back(row);
  SplitPlan out{.parts = {},
                .rows = static_cast<std::uint32_t>(shards->size()),
                .returns_each = returns_each(statement, values.sql)};
  for (auto& [shard, own] : rows) out.parts.push_back(part_of(statement, values.sql, shard, std::move(own)));
  return out;
}

}  // namespace tessera::router
