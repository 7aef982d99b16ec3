// Which statements can be merged, and how.
#include <algorithm>
#include <charconv>
#include <fmt/format.h>

#include "parser/lexer.hpp"
#include "router/first_rows.hpp"
#include "router/merge.hpp"
#include "router/planning.hpp"
#include "router/rewrite.hpp"
#include "router/text.hpp"

namespace tessera::router {
namespace {

using parser::Block;
using parser::BlockRole;
using parser::Clauses;
using parser::SourceSpan;
using parser::TargetItem;
using parser::Token;
using parser::TokenKind;

constexpr std::string_view key_name = "tessera_key_";

// One item of ORDER BY.
struct SortItem {
  std::vector<Token> tokens;  // of its expression, with places in the whole text
  SortDirection direction;
  bool bytewise = false;  // ends with COLLATE "C"
  SourceSpan span() const { return {tokens.front().begin, tokens.back().end}; }
};

class SortClause {
public:
  SortClause(std::string_view sql, SourceSpan clause) : sql_(sql) {
    parser::Lexer lexer(sql.substr(clause.begin, clause.end - clause.begin), {});
    for (Token token = lexer.next(); token.kind != TokenKind::end; token = lexer.next())
      tokens_.push_back({token.kind, token.begin + clause.begin, token.end + clause.begin});
  }

  // None: it cannot be read here.
  std::optional<std::vector<SortItem>> items() const {
    std::vector<SortItem> found;
    std::vector<Token> item;
    int depth = 0;
    if (tokens_.size() < 3) return {};
    for (std::size_t i = 2; i < tokens_.size(); ++i) {  // behind ORDER BY
      const std::string_view text = text_of(tokens_[i]);
      if (tokens_[i].kind == TokenKind::bad) return {};
      if (text == "(" || text == "[") ++depth;
      if (text == ")" || text == "]") --depth;
      const bool comma = depth == 0 && text == ",";
      if (!comma) item.push_back(tokens_[i]);
      if (!comma && i + 1 < tokens_.size()) continue;
      auto read = read_item(std::exchange(item, {}));
      if (!read) return {};
      found.push_back(std::move(*read));
    }
    return found;
  }

private:
  std::string_view text_of(const Token& token) const { return sql_.substr(token.begin, token.end - token.begin); }
  bool is(const Token& token, std::string_view word) const {
    return token.kind == TokenKind::word && equal_ignoring_case(text_of(token), word);
  }

  std::optional<SortItem> read_item(std::vector<Token> tokens) const {
    SortItem item;
    std::optional<bool> nulls_first;
    const auto ends_with = [&](std::string_view word, std::size_t before = 0) {
      return tokens.size() > before && is(tokens[tokens.size() - 1 - before], word);
    };
    if (ends_with("nulls", 1) && (ends_with("first") || ends_with("last"))) {
      nulls_first = ends_with("first");
      tokens.resize(tokens.size() - 2);
    }
    item.direction.descending = ends_with("desc");
    if (ends_with("desc") || ends_with("asc")) tokens.pop_back();
    item.direction.nulls_first = nulls_first.value_or(item.direction.descending);
    if (tokens.empty() || uses_operator(tokens)) return {};
    while (is_enclosed(tokens)) tokens = {tokens.begin() + 1, tokens.end() - 1};
    if (tokens.empty()) return {};
    item.bytewise =
        ends_with("collate", 1) && (text_of(tokens.back()) == "\"C\"" || text_of(tokens.back()) == "\"POSIX\"");
    item.tokens = std::move(tokens);
    return item;
  }

  // ORDER BY a USING >
  bool uses_operator(const std::vector<Token>& tokens) const {
    return std::ranges::any_of(tokens, [this](const Token& token) { return is(token, "using"); });
  }

  // One pair of parentheses around it all.
  bool is_enclosed(const std::vector<Token>& tokens) const {
    if (tokens.size() < 2 || text_of(tokens.front()) != "(") return false;
    int depth = 0;
    for (const Token& token : tokens) {
      if (text_of(token) == "(") ++depth;
      if (text_of(token) == ")") --depth;
      if (depth == 0) return &token == &tokens.back();
    }
    return false;
  }

  std::string_view sql_;
  std::vector<Token> tokens_;
};

// The new text, and where its parts come from.
class Composition {
public:
  explicit Composition(std::string_view sql) : sql_(sql) {}
  void copy(std::uint32_t begin, std::uint32_t end) {
    origins.push_back({static_cast<std::uint32_t>(text.size()), begin});
    text += sql_.substr(begin, end - begin);
  }
  void add(std::string_view own) { text += own; }

  std::string text;
  std::vector<MergePlan::Origin> origins;

private:
  std::string_view sql_;
};

// Of LIMIT or OFFSET.
struct Amount {
  std::string text = {};               // as it stands; empty: the clause is missing
  std::optional<std::uint64_t> value;  // none: all, or NULL
  bool parameter = false;
};

std::optional<std::uint64_t> whole_number(std::string_view text) {
  constexpr std::size_t most_digits = 18;  // two of them can be added up
  std::uint64_t number = 0;
  if (text.empty() || text.size() > most_digits || !std::ranges::all_of(text, is_digit)) return {};
  std::from_chars(text.data(), text.data() + text.size(), number);
  return number;
}

// A parameter that is certainly taken for a bigint.
std::optional<Amount> amount_of(const Values::Parameter& parameter) {
  constexpr TypeOid int8 = 20, int2 = 21, int4 = 23;
  Amount amount{.parameter = true};
  const TypeOid type = parameter.declared == 0 ? int8 : parameter.declared;
  const std::size_t width = type == int8 ? 8 : type == int4 ? 4 : type == int2 ? 2 : 0;
  if (width == 0) return {};
  if (parameter.null) return amount;
  if (!parameter.binary) {
    amount.value = whole_number(parameter.bytes);
    return amount.value ? std::optional(amount) : std::nullopt;
  }
  if (parameter.bytes.size() != width) return {};
  std::uint64_t number = 0;
  for (const char c : parameter.bytes) number = number << 8 | static_cast<unsigned char>(c);
  if (number > std::uint64_t{1} << 60) return {};
  if ((parameter.bytes.front() & '\x80') != 0) return {};
  amount.value = number;
  return amount;
}

// None: only a server can tell it.
std::optional<Amount> amount_of(std::string_view sql, const std::optional<SourceSpan>& clause, const Values& values) {
  if (!clause) return Amount{};
  const std::string text = value_of_clause(text_of(sql, *clause));
  if (!text.starts_with('$')) {
    const auto number = whole_number(text);
    return number ? std::optional(Amount{.text = text, .value = number}) : std::nullopt;
  }
  const auto number = whole_number(std::string_view(text).substr(1));
  if (!number || *number == 0 || *number > values.parameters.size()) return {};
  auto amount = amount_of(values.parameters[*number - 1]);
  if (amount) amount->text = text;
  return amount;
}

// The server takes a parameter's type from where it stands first, and its additional column stands before WHERE.
bool types_are_given(const SortItem& item, std::string_view sql, const Values& values) {
  return std::ranges::none_of(item.tokens, [&](const Token& token) {
    if (token.kind != TokenKind::parameter) return false;
    const auto number = whole_number(sql.substr(token.begin + 1, token.end - token.begin - 1));
    return !number || *number == 0 || *number > values.parameters.size() ||
           values.parameters[*number - 1].declared == 0;
  });
}

bool has_order(const Clauses& c) {
  return c.order_by || c.limit || c.offset;
}

}  // namespace

// The rest that decides, which hangs on values, is in merge().
bool Planning::merges() const {
  if (statement_.blocks.empty() || !has_order(statement_.blocks.front().clauses) || rows_refusal()) return false;
  const Block& top = statement_.blocks.front();
  const Clauses& c = top.clauses;
  if (hides_system(request_.session.search_path) || c.with_ties || !c.from || top.values) return false;
  // Clauses that stand around the parentheses of the rest: (SELECT … ORDER BY …) LIMIT 1.
  for (const auto& clause : {c.from, c.where, c.order_by, c.limit, c.offset})
    if (clause && *clause == top.span) return false;
  if (top.targets.empty() || top.targets.front().span.begin >= c.from->begin) return false;  // TABLE t
  // The same however often it is computed, and one row for each row.
  return std::ranges::none_of(statement_.blocks, [&](const Block& block) {
    return std::ranges::any_of(calls(block), [&](const parser::FunctionCall& call) {
      const auto known = request_.catalog.functions.find(call.name);
      return known == request_.catalog.functions.end() || known->second.volatility == 'v' ||
             (&block == &top && known->second.set);
    });
  });
}

namespace {

// What ORDER BY names.
class KeyFinder {
public:
  KeyFinder(const PlanRequest& request, const std::vector<ResolvedTable>& tables)
      : sql_(request.sql), statement_(request.statement), tables_(tables), top_(request.statement.blocks.front()) {}

  struct Found {
    SourceSpan span;                 // the expression
    const Column* column = nullptr;  // that it surely is
  };

  // As the server resolves it (findTargetlistEntrySQL92): a number or a name of the result first. None: it could mean
  // something else.
  std::optional<Found> find(const SortItem& item) const {
    const Token& first = item.tokens.front();
    if (item.tokens.size() == 1 && first.kind == TokenKind::integer) return by_number(item);
    if (item.tokens.size() == 1 && is_name(first)) return by_name(item.span(), name_of(first));
    if (first.kind == TokenKind::unicode_identifier) return {};
    const bool qualified = item.tokens.size() == 3 && is_name(first) && is_name(item.tokens[2]) &&
                           text_of(sql_, {item.tokens[1].begin, item.tokens[1].end}) == ".";
    return Found{item.span(), qualified ? column(name_of(first), name_of(item.tokens[2])) : nullptr};
  }

private:
  static bool is_name(const Token& token) {
    return token.kind == TokenKind::word || token.kind == TokenKind::quoted_identifier;
  }
  std::string name_of(const Token& token) const {
    const std::string_view text = sql_.substr(token.begin, token.end - token.begin);
    if (token.kind == TokenKind::word) return lower(text);
    std::string name;
    for (std::size_t i = 1; i + 1 < text.size(); ++i) {
      name += text[i];
      if (text[i] == '"') ++i;
    }
    return name;
  }

  Found target(const TargetItem& item) const {
    if (!item.column) return {item.span};
    return {item.span, column(item.column->qualifier, item.column->name)};
  }

  std::optional<Found> by_number(const SortItem& item) const {
    const auto number = whole_number(text_of(sql_, item.span()));
    if (!number || *number == 0 || *number > top_.targets.size()) return {};
    const auto last = top_.targets.begin() + static_cast<std::ptrdiff_t>(*number);
    if (std::any_of(top_.targets.begin(), last, [](const TargetItem& one) { return one.star; })) return {};
    return target(*std::prev(last));
  }

  std::optional<Found> by_name(SourceSpan span, const std::string& name) const {
    const auto named = [&](const TargetItem& one) { return !one.star && one.name == name; };
    const auto found = std::ranges::find_if(top_.targets, named);
    if (found != top_.targets.end()) {
      if (std::find_if(std::next(found), top_.targets.end(), named) != top_.targets.end()) return {};
      return target(*found);
    }
    const Column* known = column({}, name);
    // Of several tables' columns of that name t.* may show one.
    const bool star = std::ranges::any_of(top_.targets, &TargetItem::star);
    if (star && known == nullptr) return {};
    return Found{span, known};
  }

  // The only one of that name. None: it cannot be told.
  const Column* column(const std::string& qualifier, const std::string& name) const {
    const Column* found = nullptr;
    if (top_.clauses.join_alias) return nullptr;  // which may have given other names
    for (const Block& block : statement_.blocks)
      if (block.role == BlockRole::from_subquery || block.role == BlockRole::lateral_subquery ||
          block.role == BlockRole::cte)
        return nullptr;
    for (const parser::TableIndex i : top_.tables) {
      const parser::TableRef& table = statement_.tables[i];
      if (table.renamed || tables_[i].relation == nullptr || !tables_[i].relation->complete) return nullptr;
      if (!qualifier.empty() && qualifier != table.alias) continue;
      const Column* const one = tables_[i].relation->find_column(name);
      if (one == nullptr) continue;
      if (found != nullptr) return nullptr;
      found = one;
    }
    return found;
  }

  std::string_view sql_;
  const parser::Statement& statement_;
  const std::vector<ResolvedTable>& tables_;
  const Block& top_;
};

// What each shard gives at most.
std::string first_rows_clause(const Amount& limit, const Amount& offset) {
  if (limit.text.empty()) return {};
  if (!limit.parameter && !offset.parameter) return fmt::format(" LIMIT {}", *limit.value + offset.value.value_or(0));
  if (offset.text.empty()) return fmt::format(" LIMIT {}", limit.text);
  // NULL is all of them.
  return fmt::format(" LIMIT least(({})::bigint::numeric + ({})::bigint::numeric, 9223372036854775807)::bigint",
                     limit.text, offset.text);
}

}  // namespace

std::optional<MergePlan> Planning::merge(const Values& values) const {
  constexpr TypeOid first_own = 16384;  // a domain, perhaps
  const std::string_view sql = request_.sql;
  const Clauses& c = statement_.blocks.front().clauses;
  if (sql.contains(key_name)) return {};
  const auto limit = amount_of(sql, c.limit, values), offset = amount_of(sql, c.offset, values);
  // A parameter that is left out would have no type.
  if (!limit || !offset || (offset->parameter && limit->text.empty())) return {};
  std::vector<SortItem> items;
  if (c.order_by) {
    auto read = SortClause(sql, *c.order_by).items();
    if (!read) return {};
    items = std::move(*read);
  }
  MergePlan plan;
  Composition made(sql);
  made.copy(statement_.span.begin, c.from->begin);
  const KeyFinder finder(request_, tables_);
  for (const SortItem& item : items) {
    const auto found = finder.find(item);
    if (!found || !types_are_given(item, sql, values)) return {};
    const bool bytewise =
        values.same_encoding && (item.bytewise || (found->column != nullptr && found->column->deterministic_c_order));
    const bool own = found->column != nullptr && found->column->type >= first_own;
    if (found->column == nullptr || own)
      plan.certain = false;
    else if (!sort_order_of(found->column->type, bytewise))
      return {};
    plan.keys.push_back({std::string(text_of(sql, item.span())), item.direction, bytewise});
    made.add(", (");
    made.copy(found->span.begin, found->span.end);
    made.add(fmt::format(") AS {}{} ", key_name, plan.keys.size()));
  }
  std::uint32_t at = c.from->begin;
  std::vector<SourceSpan> amounts;
  for (const auto& clause : {c.limit, c.offset})
    if (clause) amounts.push_back(*clause);
  std::ranges::sort(amounts, {}, &SourceSpan::begin);
  for (const SourceSpan& clause : amounts) {
    made.copy(at, clause.begin);
    if (clause == amounts.front()) made.add(first_rows_clause(*limit, *offset));
    at = clause.end;
  }
  made.copy(at, statement_.span.end);
  plan.sql = std::move(made.text);
  plan.origins = std::move(made.origins);
  plan.offset = offset->value.value_or(0);
  plan.limit = limit->value;
  return plan;
}

int MergePlan::position_in(std::string_view client_sql, int position) const {
  if (position <= 0) return 0;
  const auto byte = static_cast<std::uint32_t>(offset_of(sql, position));
  const auto behind = std::ranges::upper_bound(origins, byte, {}, &Origin::at);
  if (behind == origins.begin()) return 0;
  const Origin& origin = *std::prev(behind);
  return position_of(client_sql, std::min<std::size_t>(origin.from + (byte - origin.at), client_sql.size()));
}

std::optional<MergePlan> merge(const parser::Statement& statement, const Values& values, const Topology& topology,
                               const Catalog& catalog, const SessionView& session) {
  if (statement.kind == parser::StatementKind::explain) {
    const std::string text = without_explain(values.sql, statement);
    Values inner = values;
    inner.sql = text;
    return merge(statement.inner.front(), inner, topology, catalog, session);
  }
  // Without slots: operands stand for themselves.
  const PlanRequest request{statement, values.sql, {}, {}, topology, catalog, session};
  Planning planning(request);
  if (!planning.run().merges) return {};
  return planning.merge(values);
}

}  // namespace tessera::router
