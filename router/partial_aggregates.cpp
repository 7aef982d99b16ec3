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

// What may stand behind the condition of an inner join.
constexpr auto behind_on = std::to_array<std::string_view>({"", ",", ")", "join", "inner", "cross"});

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
           const BlocksBelow& below, const std::vector<FunctionCall>& calls, std::string_view gathered,
           const JoinedPart* part)
      : request_(request),
        statement_(request.statement),
        sql_(request.sql),
        index_(index),
        block_(request.statement.blocks[index]),
        tables_(tables),
        below_(below),
        calls_(calls),
        gathered_(gathered),
        part_(part),
        own_(part == nullptr ? block_.tables : part->tables) {}

  std::optional<PartialAggregates> run() {
    if (!has_the_form() || !functions_fit() || !others_fit()) return {};
    for (const FunctionCall* call : aggregates_)
      if (!split(*call)) return {};
    if (!group() || !name_targets()) return {};
    std::string list = columns_;
    for (const std::string& partial : partials_) list += fmt::format("{} {}", list.empty() ? "" : ",", partial);
    out_.query = fmt::format("SELECT{} {}", list, part_ == nullptr ? take_source() : part_source());
    if (!keys_.empty()) out_.query += fmt::format(" GROUP BY {}", fmt::join(keys_, ", "));
    return std::move(out_);
  }

private:
  // FROM and WHERE, which go to the shards.
  std::string take_source() {
    const Clauses& clauses = block_.clauses;
    std::string source(trim_space(text_of(sql_, *clauses.from)));
    out_.replacements.push_back({*clauses.from, fmt::format("FROM {} ", fmt::join(sources_, ", "))});
    if (!clauses.where) return source;
    out_.replacements.push_back({*clauses.where, " "});
    return fmt::format("{} {}", source, trim_space(text_of(sql_, *clauses.where)));
  }

  std::string part_source() const {
    std::string source;
    for (std::size_t i = 0; i < own_.size(); ++i)
      source += fmt::format("{}({}) AS {}", i == 0 ? "FROM " : ", ", part_->rows[i], quoted(alias_of(own_[i])));
    if (!part_->conditions.empty()) source += fmt::format(" WHERE {}", fmt::join(part_->conditions, " AND "));
    return source;
  }

  const std::string& alias_of(TableIndex table) const { return statement_.tables[table].alias; }

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
    if (part_ == nullptr ? clauses.with_query : clauses.outer_join || Names(text_of(sql_, *clauses.from)).has("using"))
      return false;
    return !clauses.distinct_on && !clauses.locking && !clauses.into && !clauses.table_sample &&
           !clauses.range_function && !clauses.natural_join && block_.set_operation.empty();
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
      if (is_blind(other.span)) continue;
      if (!inside(other.span, block_.span) || other.role == parser::BlockRole::cte) return false;
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
    if (!filter.empty() && (part_ != nullptr || Names(argument).has("order"))) return false;
    if (part_ != nullptr && !star) {
      const TableIndex table = table_of(argument);
      const bool sums = call.name == "sum" || call.name == "avg";
      if (table != parser::no_index && !contains(own_, table) && contains(self_merging, call.name))
        return distinct_ = true;  // however often the row is joined
      if (sums ? Names(argument).has("case") : !contains(own_, table)) return false;
    }
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
      if (type != 0 || !contains(own_, table)) return 0;  // merged by USING, or not the shards'
      type = column->type;
    }
    return type;
  }

  // Of what is nothing but a column; no_index: it is not.
  TableIndex table_of(std::string_view argument) const {
    parser::Lexer lexer(argument, {});
    std::vector<std::string> words;
    for (Token token = lexer.next(); token.kind != TokenKind::end; token = lexer.next())
      words.emplace_back(lower(argument.substr(token.begin, token.end - token.begin)));
    if (words.size() != 1 && (words.size() != 3 || words[1] != ".")) return parser::no_index;
    TableIndex found = parser::no_index;
    for (const TableIndex table : block_.tables) {
      if (words.size() == 3 && alias_of(table) != words[0]) continue;
      if (tables_[table].relation->find_column(words.back()) == nullptr) continue;
      if (found != parser::no_index) return parser::no_index;
      found = table;
    }
    return found;
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
    std::vector<GroupExpression> expressions;
    if (part_ == nullptr) {
      blank(*block_.clauses.from);
      if (block_.clauses.where) blank(*block_.clauses.where);
      expressions = group_expressions(request_, tables_, block_, outside, untouchable());
    } else {
      for (const SourceSpan span : spans_in_from()) blank(span);
    }
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
    for (const TableIndex table : own_)
      if (!group_by_columns(table, names, merges)) return false;
    group_by_expressions(expressions);
    if (part_ != nullptr) return !keys_.empty() && !in_vain();
    // Whole rows as an aggregate's argument, or in WHERE, are fine where they are. Groups of no column at all would be
    // there even without rows.
    return !keys_.empty() || (!block_.clauses.group_by && !block_.clauses.distinct && !distinct_);
  }

  // Of the tables' names, and of what the shards join the part by.
  std::vector<SourceSpan> spans_in_from() {
    std::vector<SourceSpan> spans;
    for (const TableIndex table : block_.tables) {
      const parser::TableRef& written = statement_.tables[table];
      spans.push_back(written.span);
      if (written.aliased) spans.push_back(label_behind(written.span.end));
    }
    const SourceSpan from = *block_.clauses.from;
    std::vector<Token> tokens;
    parser::Lexer lexer(text_of(sql_, from), {});
    for (Token token = lexer.next(); token.kind != TokenKind::end; token = lexer.next())
      tokens.push_back({token.kind, token.begin + from.begin, token.end + from.begin});
    const auto at = [&](std::size_t i) {
      return i < tokens.size() ? lower(text_of(sql_, {tokens[i].begin, tokens[i].end})) : std::string();
    };
    // ON a.key = b.key, and nothing else.
    for (std::size_t i = 0; i + 7 < tokens.size(); ++i) {
      const std::string next = at(i + 8);
      if (at(i) != "on" || at(i + 2) != "." || at(i + 4) != "=" || at(i + 6) != "." || !contains(behind_on, next) ||
          at(i + 1) == at(i + 5) || !is_key(at(i + 1), at(i + 3)) || !is_key(at(i + 5), at(i + 7)))
        continue;
      spans.push_back({tokens[i + 1].begin, tokens[i + 7].end});
      out_.replacements.push_back({spans.back(), "true"});
    }
    return spans;
  }

  bool is_key(const std::string& alias, const std::string& name) const {
    return std::ranges::any_of(own_, [&](TableIndex table) {
      const auto& keys = tables_[table].routing->key_columns;
      return alias_of(table) == alias && keys.size() == 1 && keys.front() == name;
    });
  }

  // Each row is a group of its own.
  bool in_vain() const {
    return std::ranges::all_of(own_, [&](TableIndex table) {
      return std::ranges::any_of(tables_[table].relation->unique_indexes, [&](const UniqueIndex& index) {
        return std::ranges::all_of(index.columns, [&](const std::string& column) {
          return contains(keys_, fmt::format("{}.{}", quoted(alias_of(table)), quoted(column)));
        });
      });
    });
  }

  void group_by_expressions(const std::vector<GroupExpression>& expressions) {
    for (const GroupExpression& expression : expressions) {
      keys_.push_back(expression.text);
      const std::string name = fmt::format("tessera_column_{}", keys_.size());
      columns_ += fmt::format("{} {} AS {}", columns_.empty() ? "" : ",", expression.text, name);
      for (const SourceSpan place : expression.places) {
        replaced_.push_back(place);
        out_.replacements.push_back({place, fmt::format("{}.{}", quoted(alias_of(own_.front())), name)});
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
    const std::string& first = alias_of(own_.front());
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
      if (table == own_.front()) continue;
      columns_ += fmt::format(" AS tessera_column_{}", keys_.size());
      shown += fmt::format("{} {}.tessera_column_{} AS {}", shown.empty() ? "" : ",", quoted(first), keys_.size(),
                           quoted(column.name));
    }
    const std::string source =
        table == own_.front() ? std::string(gathered_) : fmt::format("LATERAL (SELECT{})", shown);
    if (part_ != nullptr)
      out_.replacements.push_back(in_place_of(sql_, statement_.tables[table], source));
    else if (table == own_.front() || !shown.empty())
      sources_.push_back(fmt::format("{} AS {}", source, quoted(alias)));
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
    const std::string next = word_behind(target.span.end);
    if (next == "," || next == "from") return {target.span.end, target.span.end};
    return label_behind(target.span.end);
  }
  SourceSpan label_behind(std::uint32_t offset) const {
    parser::Lexer lexer(sql_.substr(offset), {});
    Token token = lexer.next();
    if (word_behind(offset) == "as") token = lexer.next();
    return {offset, offset + token.end};
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
  const JoinedPart* part_;
  const std::vector<TableIndex>& own_;  // the tables whose rows the shards aggregate
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
                                                    std::string_view gathered, const JoinedPart* part) {
  return Splitter(request, tables, block, below, calls, gathered, part).run();
}

}  // namespace tessera::router
