#include "router/partial_aggregates.hpp"

#include <algorithm>
#include <array>
#include <fmt/format.h>

#include "parser/lexer.hpp"
#include "router/contains.hpp"
#include "router/text.hpp"

namespace tessera::router {
namespace {

using parser::Block;
using parser::FunctionCall;
using parser::SourceSpan;
using parser::TargetItem;
using parser::Token;
using parser::TokenKind;

// pg_type.oid
constexpr TypeOid int2 = 21, int4 = 23, int8 = 20, numeric = 1700, text = 25, varchar = 1043;
// Types whose equal values are one and the same: bool, bytea, "char", int8, int2, int4, text, oid, varchar, date, time,
// timestamp, timestamptz, uuid. (1.0 equals 1.00, and is not the same.)
constexpr auto exact_types =
    std::to_array<TypeOid>({16, 17, 18, int8, int2, int4, text, 26, varchar, 1082, 1083, 1114, 1184, 2950});
// Put together by themselves.
constexpr auto self_merging =
    std::to_array<std::string_view>({"min", "max", "bool_and", "bool_or", "every", "bit_and", "bit_or"});

bool inside(SourceSpan inner, SourceSpan outer) {
  return inner.begin >= outer.begin && inner.end <= outer.end;
}

class Splitter {
public:
  Splitter(const PlanRequest& request, const ResolvedTable& table, const std::vector<FunctionCall>& calls)
      : request_(request),
        statement_(request.statement),
        sql_(request.sql),
        block_(request.statement.blocks.front()),
        table_(*table.relation),
        calls_(calls) {}

  std::optional<PartialAggregates> run() {
    if (!has_the_form() || !functions_fit()) return {};
    for (const FunctionCall* call : aggregates_)
      if (!split(*call)) return {};
    if (!group() || !name_targets()) return {};
    const parser::Clauses& clauses = block_.clauses;
    if (clauses.where) out_.replacements.push_back({*clauses.where, " "});
    std::string list = columns_;
    for (const std::string& partial : partials_) list += fmt::format("{} {}", list.empty() ? "" : ",", partial);
    out_.query = fmt::format("SELECT{} {}", list, trim_space(text_of(sql_, *clauses.from)));
    if (clauses.where) out_.query += fmt::format(" {}", trim_space(text_of(sql_, *clauses.where)));
    if (!columns_.empty()) out_.query += " GROUP BY" + columns_;
    return std::move(out_);
  }

private:
  // One block over one table, whose clauses work on groups as they do on rows.
  bool has_the_form() const {
    const parser::Clauses& clauses = block_.clauses;
    if (statement_.blocks.size() != 1 || statement_.tables.size() != 1 || statement_.tables.front().renamed)
      return false;
    // A comment to the end of its line would swallow what is put behind it.
    if (sql_.contains("--")) return false;
    if (hides_system(request_.session.search_path) || !table_.complete || block_.values) return false;
    if (!clauses.from || !inside(statement_.tables.front().span, *clauses.from)) return false;
    if (*clauses.from == block_.span || (clauses.where && *clauses.where == block_.span)) return false;
    return !clauses.distinct_on && !clauses.window && !clauses.locking && !clauses.into && !clauses.grouping_sets &&
           !clauses.table_sample && !clauses.range_function && !clauses.natural_join;
  }

  // Finds the aggregates. False: some function must see all rows at once, or has another value on each shard.
  bool functions_fit() {
    for (const FunctionCall& call : calls_) {
      const FunctionTrait trait = trait_of(call, request_.catalog);
      const auto known = request_.catalog.functions.find(call.name);
      const bool random = known != request_.catalog.functions.end() && known->second.volatility == 'v';
      if (call.window || trait.per_server || random) return false;
      if (trait.aggregate || call.aggregate_syntax) aggregates_.push_back(&call);
    }
    // Without any, it is groups that are put together, or equal rows.
    return !aggregates_.empty() || block_.clauses.group_by || block_.clauses.distinct;
  }

  // Its part for each shard, and what takes its place.
  bool split(const FunctionCall& call) {
    if (!call.schema.empty() && call.schema != "pg_catalog") return false;
    const std::string_view whole = text_of(sql_, call.span);
    const std::size_t open = whole.find('(');
    if (open == std::string_view::npos || !whole.ends_with(')')) return false;
    const std::string argument(trim_space(whole.substr(open + 1, whole.size() - open - 2)));
    const std::string next = word_behind(call.span.end);
    if (next == "filter" || next == "within" || next == "over") return false;
    const bool star = call.name == "count" && argument == "*";
    if (!star && (call.aggregate_syntax || call.argument_count != 1)) return false;
    std::string merged;
    if (call.name == "count") {
      merged = fmt::format("coalesce(pg_catalog.sum({}), 0)::bigint", part("count", argument));
    } else if (contains(self_merging, call.name)) {
      merged = fmt::format("pg_catalog.{0}({1})", call.name, part(call.name, argument));
    } else if (call.name == "sum" || call.name == "avg") {
      const TypeOid type = type_of(argument);
      if (type != int2 && type != int4 && type != int8 && type != numeric) return false;
      merged = fmt::format("pg_catalog.sum({})", part("sum", argument));
      if (call.name == "avg") {
        merged += fmt::format(" / nullif(pg_catalog.sum({}), 0)", part("count", argument));
      } else if (type == int2 || type == int4) {
        merged += "::bigint";
      }
    } else {
      return false;
    }
    out_.replacements.push_back({call.span, '(' + merged + ')'});
    return true;
  }

  // The column that holds it.
  std::string part(std::string_view function, std::string_view argument) {
    std::string name = fmt::format("tessera_part_{}", partials_.size() + 1);
    partials_.push_back(fmt::format("pg_catalog.{}({}) AS {}", function, argument, name));
    return name;
  }

  // Of an argument that is nothing but a column; 0: it is not.
  TypeOid type_of(std::string_view argument) const {
    parser::Lexer lexer(argument, {});
    std::string name;
    for (int i = 0; i < 4; ++i) {
      const Token token = lexer.next();
      if (token.kind == TokenKind::end) break;
      const std::string_view word = argument.substr(token.begin, token.end - token.begin);
      if (i == 3 || (i == 1 ? word != "." : token.kind != TokenKind::word)) return 0;
      name = lower(word);
    }
    const Column* column = table_.find_column(name);
    return column == nullptr ? 0 : column->type;
  }

  // Columns that are used outside of aggregates and WHERE tell the groups apart.
  bool group() {
    std::string outside(sql_.substr(0, statement_.span.end));
    const auto blank = [&](SourceSpan span) {
      std::fill(outside.begin() + span.begin, outside.begin() + span.end, ' ');
    };
    for (const FunctionCall* call : aggregates_) blank(call->span);
    blank(*block_.clauses.from);
    if (block_.clauses.where) blank(*block_.clauses.where);
    const Names names(std::string_view(outside).substr(statement_.span.begin));
    const std::string& alias = statement_.tables.front().alias;
    if (names.unreadable() || names.stars() > 0 || names.alone(alias) > 0 ||
        std::ranges::any_of(block_.targets, &TargetItem::star))
      return false;
    for (const Column& column : table_.columns) {
      if (!names.has(column.name)) continue;
      const bool text_type = column.type == text || column.type == varchar;
      if (!contains(exact_types, column.type) || (text_type && !column.deterministic)) return false;
      columns_ += fmt::format("{} {}", columns_.empty() ? "" : ",", quoted(column.name));
    }
    // Whole rows as an aggregate's argument, or in WHERE, are fine where they are. Groups of no column at all would be
    // there even without rows.
    return !columns_.empty() || (!block_.clauses.group_by && !block_.clauses.distinct);
  }

  // Output columns that are named after a function keep their names, which ORDER BY may use.
  bool name_targets() {
    for (const TargetItem& target : block_.targets) {
      const bool changed =
          std::ranges::any_of(aggregates_, [&](const FunctionCall* call) { return inside(call->span, target.span); });
      if (!changed || target.name == "?column?") continue;
      const std::string next = word_behind(target.span.end);
      if (next == "," || next == "from")
        out_.replacements.push_back({{target.span.end, target.span.end}, " AS " + quoted(target.name)});
    }
    return true;
  }

  std::string word_behind(std::uint32_t offset) const {
    const std::string_view rest = sql_.substr(offset);
    parser::Lexer lexer(rest, {});
    const Token token = lexer.next();
    return token.kind == TokenKind::end ? "" : lower(rest.substr(token.begin, token.end - token.begin));
  }

  const PlanRequest& request_;
  const parser::Statement& statement_;
  std::string_view sql_;
  const Block& block_;
  const Relation& table_;
  const std::vector<FunctionCall>& calls_;
  std::vector<const FunctionCall*> aggregates_;
  std::vector<std::string> partials_;
  std::string columns_;
  PartialAggregates out_;
};

}  // namespace

std::optional<PartialAggregates> partial_aggregates(const PlanRequest& request, const ResolvedTable& table,
                                                    const std::vector<FunctionCall>& calls) {
  if (table.relation == nullptr || request.statement.blocks.empty()) return {};
  return Splitter(request, table, calls).run();
}

}  // namespace tessera::router
