#include "router/ids.hpp"

#include <algorithm>
#include <charconv>
#include <fmt/format.h>
#include <ranges>

#include "parser/lexer.hpp"
#include "router/planning.hpp"
#include "router/quote.hpp"
#include "router/text.hpp"

namespace tessera::router {

using parser::no_index;
using parser::Operand;
using parser::SourceSpan;
using parser::Token;
using parser::TokenKind;

namespace {

// The tokens of a text, to find places in it.
class Tokens {
public:
  Tokens(std::string_view sql, parser::LexerMode mode) : sql_(sql) {
    parser::Lexer lexer(sql, mode);
    for (Token token = lexer.next(); token.kind != TokenKind::end && token.kind != TokenKind::bad; token = lexer.next())
      tokens_.push_back(token);
  }
  std::uint32_t size() const { return static_cast<std::uint32_t>(tokens_.size()); }
  bool is(std::size_t index, std::string_view word) const {
    return index < tokens_.size() && equal_ignoring_case(text_of(sql_, span(index)), word);
  }
  // The first one that does not begin before this byte.
  std::uint32_t at(std::uint32_t byte) const {
    return static_cast<std::uint32_t>(std::ranges::lower_bound(tokens_, byte, {}, &Token::begin) - tokens_.begin());
  }
  // How many bytes there are up to the end of that many tokens.
  std::uint32_t behind(std::uint32_t count) const {
    return count == 0 || tokens_.empty() ? 0 : tokens_[std::min<std::size_t>(count, tokens_.size()) - 1].end;
  }
  SourceSpan span(std::size_t index) const { return {tokens_[index].begin, tokens_[index].end}; }

private:
  std::string_view sql_;
  std::vector<Token> tokens_;
};

// Of a row `( …, DEFAULT, … )`: the first token of its item `position`.
std::uint32_t item_of(const Tokens& tokens, SourceSpan row, std::size_t position) {
  std::uint32_t at = tokens.at(row.begin) + 1;
  for (int depth = 0; position > 0 && at < tokens.size(); ++at) {
    if (tokens.is(at, "(") || tokens.is(at, "[")) ++depth;
    if (tokens.is(at, ")") || tokens.is(at, "]")) --depth;
    if (depth == 0 && tokens.is(at, ",")) --position;
  }
  return at;
}

// Of columns of an INSERT.
class Giving {
public:
  Giving(const parser::Insert& insert, const Relation& relation, std::string_view sql, std::uint32_t target_end)
      : insert_(insert), relation_(relation), tokens_(sql, {}), target_(target_end) {}

  // None: the text is not understood.
  std::optional<GivenIds> give(const std::vector<std::size_t>& left, bool override, const TableRouting* routing) {
    for (const std::size_t column : left) add(relation_.columns[column], routing);
    override = override && !insert_.overriding_system_value;
    if (!(insert_.default_values ? all_defaults(override) : rows(left, override))) return std::nullopt;
    return std::move(out_);
  }

private:
  static constexpr std::string_view overriding = " OVERRIDING SYSTEM VALUE ";

  void add(const Column& column, const TableRouting* routing) {
    if (is_made(column, routing))
      out_.columns.push_back({.name = column.name, .source = GivenIds::Source::made, .slots = routing->id_slots});
    else
      out_.columns.push_back({.name = column.name, .sequence = column.sequence_name});
  }
  void edit(std::uint32_t tokens, std::string text, std::uint32_t dropped = 0) {
    out_.add({.tokens = tokens, .dropped = dropped, .text = std::move(text)});
  }
  void value(std::uint32_t tokens, std::string text, std::uint32_t column, std::uint32_t dropped = 0) {
    out_.add({tokens, dropped, std::move(text), column, out_.columns[column].count++, {}});
  }

  bool all_defaults(bool override) {
    if (!tokens_.is(target_, "default") || !tokens_.is(target_ + 1, "values")) return false;
    std::string list;
    for (const GivenIds::Column& column : out_.columns)
      list += fmt::format("{}{}", list.empty() ? " (" : ", ", quoted(column.name));
    edit(target_, fmt::format("{}){}VALUES (", list, override ? overriding : " "), 2);
    for (std::uint32_t i = 0; i < out_.columns.size(); ++i) value(target_ + 2, i == 0 ? "" : ", ", i);
    edit(target_ + 2, ")");
    return true;
  }

  bool rows(const std::vector<std::size_t>& left, bool override) {
    if (insert_.row_spans.size() != insert_.rows.size() || insert_.rows.empty()) return false;
    std::uint32_t list_end = tokens_.at(insert_.row_spans.front().begin);
    if (list_end-- == 0 || !tokens_.is(list_end, "values")) return false;
    while (tokens_.is(list_end - 1, "(")) --list_end;
    if (insert_.overriding_system_value) list_end -= 3;
    std::vector<std::string> listed = insert_.columns;
    if (listed.empty()) {
      std::size_t longest = 0;
      for (const auto& row : insert_.rows) longest = std::max(longest, row.size());
      for (const Column& column : relation_.columns | std::views::take(static_cast<std::ptrdiff_t>(longest)))
        listed.push_back(column.name);
      std::string list;
      for (const std::string& name : listed) list += fmt::format("{}{}", list.empty() ? " (" : ", ", quoted(name));
      edit(target_, std::move(list));
      list_end = target_;
    } else {
      if (!tokens_.is(list_end - 1, ")")) return false;
      --list_end;
    }
    std::vector<std::size_t> positions;
    std::string added;
    for (const std::size_t column : left) {
      const std::string& name = relation_.columns[column].name;
      positions.push_back(static_cast<std::size_t>(std::ranges::find(listed, name) - listed.begin()));
      if (positions.back() == listed.size()) added += fmt::format(", {}", quoted(name));
    }
    if (insert_.columns.empty()) added += ") ";
    edit(list_end, std::move(added));
    if (override) edit(insert_.columns.empty() ? list_end : list_end + 1, std::string(overriding));
    for (std::size_t row = 0; row < insert_.rows.size(); ++row)
      for (std::uint32_t i = 0; i < positions.size(); ++i)
        if (!row_value(row, positions[i], listed.size(), i)) return false;
    return true;
  }

  bool row_value(std::size_t row, std::size_t position, std::size_t columns, std::uint32_t column) {
    const SourceSpan span = insert_.row_spans[row];
    if (position == columns) {
      value(tokens_.at(span.end - 1), ", ", column);
      return true;
    }
    if (position >= insert_.rows[row].size()) return false;  // too short: the server says so
    if (insert_.rows[row][position].kind != Operand::Kind::default_) return true;
    const std::uint32_t token = item_of(tokens_, span, position);
    if (!tokens_.is(token, "default")) return false;
    value(token, " ", column, 1);
    return true;
  }

  const parser::Insert& insert_;
  const Relation& relation_;
  Tokens tokens_;
  std::uint32_t target_;
  GivenIds out_;
};

}  // namespace

void GivenIds::add(Edit edit) {
  const auto behind = std::ranges::upper_bound(edits, edit.tokens, {}, &Edit::tokens);
  edits.insert(behind, std::move(edit));
}

bool is_made(const Column& column, const TableRouting* routing) {
  return routing != nullptr && !routing->id_column.empty() && column.name == routing->id_column;
}

std::uint32_t GivenIds::count() const {
  std::uint32_t sum = 0;
  for (const Column& column : columns) sum += column.count;
  return sum;
}

std::size_t position_before(const std::vector<Moved>& moves, std::size_t position) {
  std::ptrdiff_t by = 0;
  for (const Moved& move : moves)
    if (position > move.from) by = move.by;
  return position == 0 ? 0 : static_cast<std::size_t>(static_cast<std::ptrdiff_t>(position) + by);
}

std::string with_ids(std::string_view sql, parser::LexerMode mode, const GivenIds& ids,
                     const std::vector<std::vector<std::string>>& values, std::vector<Moved>& moves) {
  const Tokens tokens(sql, mode);
  const auto no_value = [&values](const GivenIds::Edit& edit) {
    return edit.column != GivenIds::Edit::no_value && values[edit.column][edit.number].empty();
  };
  std::string text;
  std::uint32_t at = 0;
  std::size_t made = 0, read = 0;  // characters
  for (const GivenIds::Edit& edit : ids.edits) {
    if (no_value(edit)) continue;
    // A word that is replaced leaves the blanks before it.
    const std::uint32_t begin =
        edit.dropped > 0 && edit.tokens < tokens.size() ? tokens.span(edit.tokens).begin : tokens.behind(edit.tokens);
    const std::uint32_t end = edit.dropped > 0 ? tokens.behind(edit.tokens + edit.dropped) : begin;
    const std::string_view kept = sql.substr(at, std::max(begin, at) - at);
    text += kept;
    made += characters(kept);
    read += characters(kept);
    moves.push_back({made, static_cast<std::ptrdiff_t>(read) - static_cast<std::ptrdiff_t>(made)});
    std::string put = edit.text;
    if (edit.column != GivenIds::Edit::no_value) put += values[edit.column][edit.number] + edit.behind;
    text += put;
    made += characters(put);
    at = std::max(begin, at);
    read += characters(sql.substr(at, std::max(end, at) - at));
    at = std::max(end, at);
    moves.push_back({made, static_cast<std::ptrdiff_t>(read) - static_cast<std::ptrdiff_t>(made)});
  }
  return text.append(sql.substr(at));
}

std::uint32_t largest_parameter(std::string_view sql, parser::LexerMode mode) {
  std::uint32_t largest = 0;
  parser::Lexer lexer(sql, mode);
  for (Token token = lexer.next(); token.kind != TokenKind::end && token.kind != TokenKind::bad; token = lexer.next()) {
    if (token.kind != TokenKind::parameter) continue;
    std::uint32_t number = 0;
    std::from_chars(sql.data() + token.begin + 1, sql.data() + token.end, number);
    largest = std::max(largest, number);
  }
  return largest;
}

std::vector<std::vector<std::string>> id_parameters(const GivenIds& ids, std::uint32_t first) {
  std::vector<std::vector<std::string>> names;
  for (const GivenIds::Column& column : ids.columns) {
    std::vector<std::string>& own = names.emplace_back();
    for (std::uint32_t i = 0; i < column.count; ++i, ++first)
      own.push_back(column.is_asked() ? fmt::format("coalesce(${}::bigint, {})", first, column.name)
                                      : fmt::format("${}", first));
  }
  return names;
}

std::vector<std::string> Planning::own_sequences(const Relation* relation) const {
  if (relation == nullptr) return {""};
  std::vector<std::string> names;
  for (std::size_t i = 0; i < relation->columns.size(); ++i)
    if (relation->columns[i].sequence && leaves_out(*relation, i)) names.push_back(relation->columns[i].sequence_name);
  return names;
}

// True: it is planned anew with its ids, or is refused.
bool Planning::gives_ids(parser::TableIndex table) {
  out_.ids = given_ids(table);
  if (out_.ids) refuse_all(*sequence_refusal(tables_[table]));
  return out_.refusal.has_value();
}

// What the INSERT leaves to sequences, if there is one sequence for all shards: the default shard's.
std::optional<GivenIds> Planning::given_ids(parser::TableIndex table) {
  const Relation* relation = tables_[table].relation;
  const parser::Insert& insert = *statement_.insert;
  if (relation == nullptr || insert.source != no_index || insert.overriding_user_value) return std::nullopt;
  if (!request_.topology.default_shard()) return std::nullopt;
  const TableRouting* routing = tables_[table].routing;
  const bool one = tables_[table].kind == ResolvedTable::Kind::sharded &&
                   (request_.topology.shard_count() == 1 ||
                    request_.topology.rule(routing->rule).shards().size() == 1);  // whose own sequence it is
  std::vector<std::size_t> left;
  bool override = false;
  for (std::size_t i = 0; i < relation->columns.size(); ++i) {
    const Column& column = relation->columns[i];
    const bool made = is_made(column, routing);
    if ((!made && (!column.sequence || one)) || !leaves_out(*relation, i)) continue;
    if (column.sequence_name.empty() && !made) return std::nullopt;
    left.push_back(i);
    override = override || column.always;
  }
  if (left.empty()) return std::nullopt;
  if (override && !insert.overriding_system_value) {
    if (auto refusal = always_refusal(*relation)) {
      refuse_all(std::move(*refusal));
      return std::nullopt;
    }
  }
  std::optional<GivenIds> ids =
      Giving(insert, *relation, request_.sql, target_tokens(table)).give(left, override, routing);
  if (ids) add_asked(*ids);
  return ids;
}

// Of an INSERT in a database of one shard.
void Planning::made_ids() {
  if (std::ranges::all_of(request_.topology.tables(), &std::string::empty, &TableRouting::id_column)) return;
  const auto target = std::ranges::find(statement_.tables, parser::TableUse::insert_target, &parser::TableRef::use);
  if (target == statement_.tables.end() || !resolve_tables()) return out_.refusal.reset();
  const auto index = static_cast<parser::TableIndex>(target - statement_.tables.begin());
  if (tables_[index].kind != ResolvedTable::Kind::sharded || gives_ids(index)) return;
  if (auto refusal = made_refusal(tables_[index])) refuse_all(std::move(*refusal));
}

// Of a SELECT.
void Planning::asked_ids() {
  GivenIds ids;
  add_asked(ids);
  if (!ids.columns.empty()) out_.ids = std::move(ids);
}

// lastval() and currval('…').
void Planning::add_asked(GivenIds& ids) {
  std::optional<Tokens> tokens;
  const bool named = statement_.kind == parser::StatementKind::select;  // the columns of the result go by the function
  for (const parser::Block& block : statement_.blocks) {
    for (const parser::FunctionCall& call : block.functions) {
      const bool last = call.name == "lastval" && call.arguments.empty();
      const bool current = call.name == "currval" && call.arguments.size() == 1;
      if ((!last && !current) || (!call.schema.empty() && call.schema != "pg_catalog") || call.span.end == 0) continue;
      std::string sequence;
      if (current) {
        out_.literals_matter = true;
        sequence = named_sequence(call);
        if (sequence.empty()) continue;
      }
      if (!tokens) tokens.emplace(request_.sql, parser::LexerMode{});
      const std::uint32_t first = tokens->at(call.span.begin);
      ids.add({.tokens = first,
               .dropped = tokens->at(call.span.end) - first,
               .text = named ? "(SELECT " : "(",
               .column = static_cast<std::uint32_t>(ids.columns.size()),
               .behind = named ? fmt::format(" AS {})", call.name) : ")"});
      ids.columns.push_back({.name = std::string(text_of(request_.sql, call.span)),
                             .sequence = std::move(sequence),
                             .count = 1,
                             .source = last ? GivenIds::Source::last : GivenIds::Source::current});
    }
  }
}

// The sequence that the call's argument names, as columns name theirs. Empty: it cannot be told.
std::string Planning::named_sequence(const parser::FunctionCall& call) const {
  const auto named = named_relation(call, request_);
  if (!named) return {};
  const auto known = [&](const std::string& schema) -> std::string {
    const Relation* relation = request_.catalog.find(schema, named->name);
    if (relation == nullptr || relation->kind != Relation::Kind::sequence) return {};
    return quote_identifier(schema) + '.' + quote_identifier(named->name);
  };
  if (!named->schema.empty()) return known(named->schema);
  for (const std::string& schema : request_.session.search_path)
    if (request_.catalog.find(schema, named->name) != nullptr) return known(schema);
  return {};
}

// As rewriteTargetListIU: our OVERRIDING, for the values that we give, must not let the client's own pass.
std::optional<Error> Planning::always_refusal(const Relation& relation) const {
  for (std::size_t i = 0; i < relation.columns.size(); ++i) {
    const Column& column = relation.columns[i];
    if (!column.always) continue;
    const auto& listed = statement_.insert->columns;
    const std::size_t position =
        listed.empty() ? i : static_cast<std::size_t>(std::ranges::find(listed, column.name) - listed.begin());
    for (const auto& row : statement_.insert->rows) {
      if (position >= row.size() || row[position].kind == Operand::Kind::default_) continue;
      return Error{SqlState("428C9"), fmt::format("cannot insert a non-DEFAULT value into column \"{}\"", column.name),
                   fmt::format("Column \"{}\" is an identity column defined as GENERATED ALWAYS.", column.name),
                   "Use OVERRIDING SYSTEM VALUE to override.", 0};
    }
  }
  return std::nullopt;
}

}  // namespace tessera::router
