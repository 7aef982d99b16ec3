#include "router/partial_aggregates.hpp"

#include <algorithm>
#include <array>
#include <fmt/format.h>
#include <set>

#include "parser/lexer.hpp"
#include "router/contains.hpp"
#include "router/group_expressions.hpp"
#include "router/sum_type.hpp"
#include "router/text.hpp"

namespace tessera::router {
namespace {

using parser::Block;
using parser::BlockIndex;
using parser::Clauses;
using parser::FunctionCall;
using parser::SourceSpan;
using parser::TableIndex;
using parser::TargetItem;
using parser::Token;
using parser::TokenKind;

// pg_type.oid
constexpr TypeOid text = 25, varchar = 1043, bpchar = 1042;
using type_oid::int2, type_oid::int4, type_oid::int8, type_oid::numeric;
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

// Equal values are one and the same. Numbers of one scale are, and texts that are padded to one length.
bool is_exact(const Column& column) {
  const bool modified = (column.type == numeric || column.type == bpchar) && column.type_name.contains('(');
  const bool text_type = column.type == text || column.type == varchar || column.type == bpchar;
  return (contains(exact_types, column.type) || modified) && (!text_type || column.deterministic);
}

class Splitter {
public:
  Splitter(const PlanRequest& request, const std::vector<ResolvedTable>& tables, BlockIndex index,
           const BlocksBelow& below, const std::vector<FunctionCall>& calls, std::string_view gathered)
      : request_(request),
        statement_(request.statement),
        sql_(request.sql),
        index_(index),
        block_(request.statement.blocks[index]),
        tables_(tables),
        below_(below),
        calls_(calls),
        gathered_(gathered) {}

  std::optional<PartialAggregates> run() {
    if (!has_the_form() || !functions_fit() || !others_fit()) return {};
    for (const FunctionCall* call : aggregates_)
      if (!split(*call)) return {};
    if (!group() || !name_targets()) return {};
    const Clauses& clauses = block_.clauses;
    out_.replacements.push_back({*clauses.from, fmt::format("FROM {} ", fmt::join(sources_, ", "))});
    if (clauses.where) out_.replacements.push_back({*clauses.where, " "});
    std::string list = columns_;
    for (const std::string& partial : partials_) list += fmt::format("{} {}", list.empty() ? "" : ",", partial);
    out_.query = fmt::format("SELECT{} {}", list, trim_space(text_of(sql_, *clauses.from)));
    if (clauses.where) out_.query += fmt::format(" {}", trim_space(text_of(sql_, *clauses.where)));
    if (!keys_.empty()) out_.query += fmt::format(" GROUP BY {}", fmt::join(keys_, ", "));
    return std::move(out_);
  }

private:
  // Over tables that are known, with clauses that work on groups as they do on rows.
  bool has_the_form() const {
    const Clauses& clauses = block_.clauses;
    // A comment to the end of its line would swallow what is put behind it.
    if (sql_.contains("--") || hides_system(request_.session.search_path)) return false;
    if (block_.values || block_.tables.empty() || !clauses.from) return false;
    // What cannot be found has the block's span.
    for (const auto& clause : {clauses.from, clauses.where})
      if (clause && *clause == block_.span) return false;
    // Of the whole statement they are found by their names.
    for (const auto& clause : {clauses.group_by, clauses.having, clauses.window, clauses.order_by, clauses.limit})
      if (index_ > 0 && clause && (*clause == block_.span || !inside(*clause, block_.span))) return false;
    std::set<std::string> aliases;
    for (const TableIndex table : block_.tables) {
      const parser::TableRef& written = statement_.tables[table];
      const Relation* relation = tables_[table].relation;
      if (relation == nullptr || !relation->complete || written.renamed || !inside(written.span, *clauses.from) ||
          !aliases.insert(written.alias).second)
        return false;
    }
    return !clauses.distinct_on && !clauses.locking && !clauses.into && !clauses.table_sample &&
           !clauses.range_function && !clauses.natural_join && !clauses.with_query && block_.set_operation.empty();
  }

  // Finds the aggregates. False: some function must see all rows at once, or has another value on each shard.
  bool functions_fit() {
    for (const FunctionCall& call : calls_) {
      const FunctionTrait trait = trait_of(call, request_.catalog);
      const auto known = request_.catalog.functions.find(call.name);
      const bool random = known != request_.catalog.functions.end() && known->second.volatility == 'v';
      if (trait.per_server || random) return false;
      const bool aggregate = trait.aggregate || call.aggregate_syntax;
      // Of different values there are as many in the groups; and windows are over groups.
      const bool distinct = aggregate && first_word(argument_of(call)) == "distinct";
      distinct_ = distinct_ || (distinct && !call.window);
      if (call.window || call.name == "grouping" || distinct) continue;
      if (aggregate) aggregates_.push_back(&call);
    }
    // Without any, it is groups that are put together, or equal rows.
    return !aggregates_.empty() || distinct_ || block_.clauses.group_by ||
           (block_.clauses.distinct && std::ranges::none_of(calls_, &FunctionCall::window));
  }

  // Subqueries of the groups stay where they are. An aggregate in one could be that of the rows here.
  bool others_fit() const {
    for (BlockIndex i = 0; i < statement_.blocks.size(); ++i) {
      const Block& other = statement_.blocks[i];
      if (i == index_ || contains(below_.inner, i) || !is_below(i)) continue;
      if (!inside(other.span, block_.span) || other.role == parser::BlockRole::cte) return false;
      if (is_blind(other.span)) continue;
      for (const FunctionCall& call : other.functions)
        if ((call.aggregate_syntax || trait_of(call, request_.catalog).aggregate) && argument_of(call) != "*")
          return false;
    }
    return true;
  }
  bool is_blind(SourceSpan span) const {
    return std::ranges::any_of(below_.blind, [&](BlockIndex i) { return inside(span, statement_.blocks[i].span); });
  }
  bool is_below(BlockIndex i) const {
    while (i != parser::no_index && i != index_) i = statement_.blocks[i].parent;
    return i == index_;
  }

  // What stands in its parentheses.
  std::string_view argument_of(const FunctionCall& call) const {
    const std::string_view whole = text_of(sql_, call.span);
    const std::size_t open = whole.find('(');
    if (open == std::string_view::npos || !whole.ends_with(')')) return {};
    return trim_space(whole.substr(open + 1, whole.size() - open - 2));
  }

  // Its part for each shard, and what takes its place.
  bool split(const FunctionCall& call) {
    if (!call.schema.empty() && call.schema != "pg_catalog") return false;
    const std::string argument(argument_of(call));
    SourceSpan span = call.span;
    const std::string next = word_behind(span.end);
    if (argument.empty() || next == "within" || next == "over") return false;
    if (next == "filter") span.end = behind_parentheses(span.end);
    const std::string filter(text_of(sql_, {call.span.end, span.end}));
    // A subquery's tables are not all on each shard.
    if (std::ranges::any_of(statement_.blocks, [&](const Block& other) { return inside(other.span, span); }))
      return false;
    const bool star = call.name == "count" && argument == "*";
    if (!star && (call.argument_count != 1 || (call.aggregate_syntax && filter.empty()))) return false;
    if (!filter.empty() && Names(argument).has("order")) return false;
    std::string merged;
    if (call.name == "count") {
      merged = fmt::format("coalesce(pg_catalog.sum({}), 0)::bigint", part("count", argument, filter));
    } else if (contains(self_merging, call.name)) {
      merged = fmt::format("pg_catalog.{0}({1})", call.name, part(call.name, argument, filter));
    } else if (call.name == "sum" || call.name == "avg") {
      const TypeOid type =
          sum_type(argument, [this](auto alias, const auto& name) { return type_of_column(alias, name); });
      if (type == 0) return false;
      merged = fmt::format("pg_catalog.sum({})", part("sum", argument, filter));
      if (call.name == "avg") {
        merged += fmt::format(" / nullif(pg_catalog.sum({}), 0)", part("count", argument, filter));
      } else if (type == int2 || type == int4) {
        merged += "::bigint";
      }
    } else {
      return false;
    }
    replaced_.push_back(span);
    out_.replacements.push_back({span, '(' + merged + ')'});
    return true;
  }

  // The column that holds it.
  std::string part(std::string_view function, std::string_view argument, std::string_view filter) {
    std::string name = fmt::format("tessera_part_{}", partials_.size() + 1);
    partials_.push_back(fmt::format("pg_catalog.{}({}){} AS {}", function, argument, filter, name));
    return name;
  }

  TypeOid type_of_column(std::string_view alias, const std::string& name) const {
    TypeOid type = 0;
    for (const TableIndex table : block_.tables) {
      if (!alias.empty() && statement_.tables[table].alias != alias) continue;
      const Column* column = tables_[table].relation->find_column(name);
      if (column == nullptr) continue;
      if (type != 0) return 0;  // merged by USING
      type = column->type;
    }
    return type;
  }

  // Columns that are used outside of aggregates, FROM and WHERE tell the groups apart.
  bool group() {
    const SourceSpan whole = index_ == 0 ? statement_.span : block_.span;
    std::string outside(sql_.substr(0, whole.end));
    const auto blank = [&](SourceSpan span) {
      std::fill(outside.begin() + span.begin, outside.begin() + span.end, ' ');
    };
    for (const SourceSpan span : replaced_) blank(span);
    for (const TargetItem& target : block_.targets) blank(label_of(target));
    for (const BlockIndex blind : below_.blind) blank(statement_.blocks[blind].span);
    blank(*block_.clauses.from);
    if (block_.clauses.where) blank(*block_.clauses.where);
    std::vector<GroupExpression> expressions = group_expressions(request_, tables_, block_, outside, untouchable());
    std::string without = outside;
    for (const GroupExpression& expression : expressions)
      for (const SourceSpan place : expression.places)
        std::fill(without.begin() + place.begin, without.begin() + place.end, ' ');
    Names names(std::string_view(without).substr(whole.begin));
    // A column that is needed besides tells the groups apart by itself.
    const bool needed = std::ranges::any_of(expressions, [&](const GroupExpression& expression) {
      return std::ranges::any_of(expression.columns, [&](const auto& column) {
        return names.alone(column.second) > 0 || names.qualified(statement_.tables[column.first].alias, column.second);
      });
    });
    if (needed) {
      expressions.clear();
      names = Names(std::string_view(outside).substr(whole.begin));
    }
    if (names.unreadable() || names.stars() > 0 || std::ranges::any_of(block_.targets, &TargetItem::star)) return false;
    const bool merges = Names(text_of(sql_, *block_.clauses.from)).has("using");
    for (const TableIndex table : block_.tables)
      if (!group_by_columns(table, names, merges)) return false;
    group_by_expressions(expressions);
    // Whole rows as an aggregate's argument, or in WHERE, are fine where they are. Groups of no column at all would be
    // there even without rows.
    return !keys_.empty() || (!block_.clauses.group_by && !block_.clauses.distinct && !distinct_);
  }

  void group_by_expressions(const std::vector<GroupExpression>& expressions) {
    for (const GroupExpression& expression : expressions) {
      keys_.push_back(expression.text);
      const std::string name = fmt::format("tessera_column_{}", keys_.size());
      columns_ += fmt::format("{} {} AS {}", columns_.empty() ? "" : ",", expression.text, name);
      for (const SourceSpan place : expression.places) {
        replaced_.push_back(place);
        out_.replacements.push_back(
            {place, fmt::format("{}.{}", quoted(statement_.tables[block_.tables.front()].alias), name)});
      }
    }
  }

  // What must stay whole: aggregates, and queries whose names may be their own.
  std::vector<SourceSpan> untouchable() const {
    std::vector<SourceSpan> spans;
    for (const FunctionCall& call : calls_)
      if (call.window ||
          (call.name != "grouping" && (trait_of(call, request_.catalog).aggregate || call.aggregate_syntax)))
        spans.push_back(call.span);
    for (BlockIndex i = 0; i < statement_.blocks.size(); ++i)
      if (i != index_ && is_below(i)) spans.push_back(statement_.blocks[i].span);
    return spans;
  }

  // `merges`: a column of several tables may be one in the text.
  bool group_by_columns(TableIndex table, const Names& names, bool merges) {
    const std::string& alias = statement_.tables[table].alias;
    const std::string& first = statement_.tables[block_.tables.front()].alias;
    if (names.alone(alias) > 0) return false;
    std::string shown;
    for (const Column& column : tables_[table].relation->columns) {
      const bool shared = std::ranges::any_of(block_.tables, [&](TableIndex other) {
        return other != table && tables_[other].relation->find_column(column.name) != nullptr;
      });
      const bool alone = names.alone(column.name) > 0;
      if (alone && shared && merges) return false;
      // A name that several columns have, and that is none merged of them, means something else, or is an error.
      if (!names.qualified(alias, column.name) && (!alone || shared)) continue;
      if (!is_exact(column)) return false;
      keys_.push_back(fmt::format("{}.{}", quoted(alias), quoted(column.name)));
      columns_ += fmt::format("{} {}", columns_.empty() ? "" : ",", keys_.back());
      if (table == block_.tables.front()) continue;
      columns_ += fmt::format(" AS tessera_column_{}", keys_.size());
      shown += fmt::format("{} {}.tessera_column_{} AS {}", shown.empty() ? "" : ",", quoted(first), keys_.size(),
                           quoted(column.name));
    }
    if (table == block_.tables.front())
      sources_.push_back(fmt::format("{} AS {}", gathered_, quoted(alias)));
    else if (!shown.empty())
      sources_.push_back(fmt::format("LATERAL (SELECT{}) AS {}", shown, quoted(alias)));
    return true;
  }

  // Output columns that are named after a function keep their names, which ORDER BY may use.
  bool name_targets() {
    for (const TargetItem& target : block_.targets) {
      const bool changed = std::ranges::any_of(replaced_, [&](SourceSpan span) { return inside(span, target.span); });
      if (!changed || target.name == "?column?") continue;
      if (label_of(target).begin == label_of(target).end)
        out_.replacements.push_back({{target.span.end, target.span.end}, " AS " + quoted(target.name)});
    }
    return true;
  }

  // Behind it, with AS; empty: it has none.
  SourceSpan label_of(const TargetItem& target) const {
    const std::string_view rest = sql_.substr(target.span.end);
    parser::Lexer lexer(rest, {});
    Token token = lexer.next();
    const std::string next = first_word(rest);
    if (next == "," || next == "from") return {target.span.end, target.span.end};
    if (next == "as") token = lexer.next();
    return {target.span.end, target.span.end + token.end};
  }

  std::string word_behind(std::uint32_t offset) const { return first_word(sql_.substr(offset)); }
  static std::string first_word(std::string_view written) {
    parser::Lexer lexer(written, {});
    const Token token = lexer.next();
    return token.kind == TokenKind::end ? "" : lower(written.substr(token.begin, token.end - token.begin));
  }

  // Of the first ones behind the offset.
  std::uint32_t behind_parentheses(std::uint32_t offset) const {
    const std::string_view rest = sql_.substr(offset);
    parser::Lexer lexer(rest, {});
    int depth = 0;
    for (Token token = lexer.next(); token.kind != TokenKind::end; token = lexer.next()) {
      const std::string_view here = rest.substr(token.begin, token.end - token.begin);
      if (here == "(") ++depth;
      if (here == ")" && --depth == 0) return offset + token.end;
    }
    return offset;
  }

  const PlanRequest& request_;
  const parser::Statement& statement_;
  std::string_view sql_;
  const BlockIndex index_;
  const Block& block_;
  const std::vector<ResolvedTable>& tables_;
  const BlocksBelow& below_;
  const std::vector<FunctionCall>& calls_;
  std::string_view gathered_;
  std::vector<const FunctionCall*> aggregates_;
  bool distinct_ = false;  // some aggregate is of different values, and left as it is
  std::vector<SourceSpan> replaced_;
  std::vector<std::string> partials_;
  std::vector<std::string> keys_;     // of the groups, for the shards
  std::string columns_;               // those, as the shards give them
  std::vector<std::string> sources_;  // the new FROM
  PartialAggregates out_;
};

}  // namespace

std::optional<PartialAggregates> partial_aggregates(const PlanRequest& request,
                                                    const std::vector<ResolvedTable>& tables, BlockIndex block,
                                                    const BlocksBelow& below, const std::vector<FunctionCall>& calls,
                                                    std::string_view gathered) {
  return Splitter(request, tables, block, below, calls, gathered).run();
}

}  // namespace tessera::router
