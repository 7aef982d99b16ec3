#include "router/view_expansion.hpp"

#include <algorithm>
#include <fmt/format.h>

#include "parser/postgres/parse.hpp"
#include "router/text.hpp"

namespace tessera::router {
namespace {

// Views that read views twice can double with each level.
constexpr std::size_t longest = 1 << 20;

// The server reads a view's tables by the rights of the view's owner: policies would choose other rows for the client.
const Relation* with_policies(const Relation& view, const Catalog& catalog) {
  for (const std::string& base : view.depends_on) {
    const Relation* table = catalog.find(base);
    if (table != nullptr && table->row_security) return table;
  }
  return nullptr;
}

std::optional<Error> refusal_of(const PlanRequest& request, const parser::TableRef& table, const Relation& view) {
  const auto refused = [&](std::string why) {
    return refuse(request, fmt::format("the view \"{}\" reads sharded tables, and {}", view.name, why), table.span,
                  "put the view's query into the statement");
  };
  if (table.only) return refused("ONLY before it is not supported");
  if (hides_system(request.session.search_path))
    return refused("its operators could mean others where search_path names a schema before pg_catalog");
  if (const Relation* guarded = with_policies(view, request.catalog))
    return refused(fmt::format("the row security policies of \"{}\" would be those for another user", guarded->name));
  return std::nullopt;
}

std::string_view query_of(const Relation& view) {
  std::string_view query = trim_space(view.definition);
  if (query.ends_with(';')) query.remove_suffix(1);
  return query;
}

}  // namespace

Result<Expansion> Expansion::of(const PlanRequest& request, const std::vector<ResolvedTable>& tables) {
  const parser::Statement& statement = request.statement;
  Expansion out;
  out.before_ = request.sql;
  out.span_ = statement.span;
  std::vector<Replacement> replacements;
  for (std::size_t i = 0; i < tables.size(); ++i) {
    if (!tables[i].expands) continue;
    const Relation& view = *tables[i].relation;
    if (auto refusal = refusal_of(request, statement.tables[i], view)) return std::unexpected(*std::move(refusal));
    replacements.push_back(in_place_of(request.sql, statement.tables[i], fmt::format("({})", query_of(view))));
    out.views.push_back(fmt::format("{}.{}", quoted(view.schema), quoted(view.name)));
  }
  std::ranges::sort(replacements, {}, [](const Replacement& replaced) { return replaced.span.begin; });
  std::size_t at = 0;
  std::uint32_t before = statement.span.begin;
  for (const Replacement& replaced : replacements) {
    at += replaced.span.begin - before;
    before = replaced.span.end;
    const auto begin = static_cast<std::uint32_t>(at);
    at += replaced.text.size();
    out.moved_.push_back({replaced.span, {begin, static_cast<std::uint32_t>(at)}});
  }
  out.sql = rewritten(request.sql, statement.span, std::move(replacements));
  if (out.sql.size() > longest)
    return std::unexpected(refuse(request, "the statement is too long with the queries of its views in their place",
                                  statement.span, "put the views' queries into the statement"));
  auto parsed = parser::postgres::parse(out.sql);
  if (!parsed || parsed->size() != 1)
    return std::unexpected(refuse(request, "the statement cannot be read with the queries of its views in their place",
                                  statement.span, "put the views' queries into the statement"));
  out.statement = std::move(parsed->front());
  out.move_slots(request);
  return out;
}

void Expansion::move_slots(const PlanRequest& request) {
  const auto nowhere = static_cast<std::uint32_t>(sql.size());
  for (parser::Slot slot : request.slots) {
    const bool ours = slot.begin >= span_.begin && slot.end <= span_.end;
    const std::uint32_t length = slot.end - slot.begin;
    slot.begin = slot.begin < span_.begin ? 0 : ours ? moved(slot.begin) : nowhere;
    slot.end = ours ? slot.begin + length : slot.begin;
    slots.push_back(slot);
  }
}

std::uint32_t Expansion::moved(std::uint32_t offset) const {
  const auto behind = std::ranges::find_if(moved_, [offset](const Moved& one) { return one.before.begin > offset; });
  if (behind == moved_.begin()) return offset - span_.begin;
  const Moved& last = *std::prev(behind);
  return last.now.end + (offset - last.before.end);
}

int Expansion::position_before(int position) const {
  if (position <= 0) return 0;
  const auto offset = static_cast<std::uint32_t>(offset_of(sql, position));
  const auto behind = std::ranges::find_if(moved_, [offset](const Moved& one) { return one.now.end > offset; });
  if (behind != moved_.end() && behind->now.begin <= offset) return position_of(before_, behind->before.begin);
  const std::uint32_t old = behind == moved_.begin()
                                ? span_.begin + offset
                                : std::prev(behind)->before.end + offset - std::prev(behind)->now.end;
  return position_of(before_, old);
}

}  // namespace tessera::router
