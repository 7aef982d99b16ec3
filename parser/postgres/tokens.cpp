#include "parser/postgres/tokens.hpp"

#include <algorithm>
#include <array>
#include <functional>

#include "parser/character.hpp"

namespace tessera::parser::postgres {

TokenList::TokenList(std::string_view sql) : sql_(sql) {
  entries_.reserve(sql.size() / 5 + 4);
  Lexer lexer(sql, LexerMode{});
  std::vector<TokenIndex> open;
  for (Token token = lexer.next(); token.kind != TokenKind::end; token = lexer.next()) {
    if (token.kind == TokenKind::bad) {
      complete_ = false;
      break;
    }
    const char c = token.kind == TokenKind::symbol ? sql[token.begin] : ' ';
    const TokenIndex index = size();
    const bool closes = (c == ')' || c == ']') && !open.empty();
    const TokenIndex partner = closes ? open.back() : 0;
    if (closes) open.pop_back();
    entries_.push_back({token, static_cast<int>(open.size()), closes ? partner : ~TokenIndex{0}});
    if (closes) entries_[partner].match = index;
    if (c == '(' || c == '[') open.push_back(index);
  }
  for (Entry& entry : entries_) entry.match = std::min(entry.match, size());
}

std::uint32_t TokenList::begin(TokenIndex i) const {
  return i < size() ? entries_[i].token.begin : static_cast<std::uint32_t>(sql_.size());
}

bool TokenList::is(TokenIndex i, std::string_view lower) const {
  if (i >= size()) return false;
  const Token& token = entries_[i].token;
  if (token.end - token.begin != lower.size()) return false;
  if (token.kind != TokenKind::word && token.kind != TokenKind::symbol) return false;
  return std::ranges::equal(text(i), lower, {}, to_lower);
}

bool TokenList::is_name(TokenIndex i) const {
  const TokenKind k = kind(i);
  return k == TokenKind::word || k == TokenKind::quoted_identifier || k == TokenKind::unicode_identifier;
}

TokenIndex TokenList::at(std::uint32_t offset) const {
  const auto found = std::ranges::lower_bound(entries_, offset, {}, [](const Entry& e) { return e.token.begin; });
  return static_cast<TokenIndex>(found - entries_.begin());
}

namespace {

// What stands between an opening and its closing: brackets, or CASE and END.
struct Level {
  int base = 0;
  int structure = 0;
  int chain = 0;
  int between = 0;  // BETWEENs whose AND has not come
  bool is_case = false;
  int total() const { return base + structure + chain; }
};

// The word itself, and not a column or label of that name: `x.end`, `AS case`.
bool is_keyword(const TokenList& tokens, TokenIndex i, const char* word) {
  return tokens.is(i, word) && tokens.kind(i) == TokenKind::word &&
         (i == 0 || (!tokens.is(i - 1, ".") && !tokens.is(i - 1, "as")));
}

// Cuts siblings apart.
bool is_cut(const TokenList& tokens, TokenIndex i, Level& level) {
  if (tokens.is(i, ",") || tokens.is(i, "or")) return true;
  if (level.is_case && (tokens.is(i, "when") || tokens.is(i, "then") || tokens.is(i, "else"))) return true;
  if (!tokens.is(i, "and")) return false;
  if (level.between == 0) return true;
  --level.between;
  return false;
}

void close_cases(std::vector<Level>& levels) {
  while (levels.size() > 1 && levels.back().is_case) levels.pop_back();
}

}  // namespace

// Siblings are cut apart by commas and, since the grammar flattens them, by AND and OR; whatever stands between two
// cuts may be one chain (a + b + c, NOT NOT a, x::int::text). CASE … END is a bracket, whose arms are siblings. Joins,
// set operations and subqueries nest across cuts, so these words count until their bracket closes.
int nesting_bound(const TokenList& tokens) {
  constexpr std::array structural = {"join", "union", "intersect", "except", "select", "with", "values"};
  std::vector<Level> levels(1);
  int bound = 0;
  for (TokenIndex i = 0; i < tokens.size(); ++i) {
    if (tokens.is_opening(i) || is_keyword(tokens, i, "case")) {
      const int inner = levels.back().total() + 1;
      levels.push_back({.base = inner, .is_case = !tokens.is_opening(i)});
    } else if (tokens.is_closing(i)) {
      close_cases(levels);
      if (levels.size() > 1) levels.pop_back();
      ++levels.back().chain;
    } else if (levels.back().is_case && is_keyword(tokens, i, "end")) {
      levels.pop_back();
      ++levels.back().chain;
    } else if (tokens.is(i, ";")) {
      const bool in_brackets = std::ranges::any_of(levels.begin() + 1, levels.end(), std::not_fn(&Level::is_case));
      if (!in_brackets) levels.assign(1, {});
    } else if (is_cut(tokens, i, levels.back())) {
      levels.back().chain = 0;
    } else {
      Level& level = levels.back();
      ++level.chain;
      const auto is_word = [&](const char* word) { return tokens.is(i, word); };
      if (tokens.kind(i) == TokenKind::word && std::ranges::any_of(structural, is_word)) ++level.structure;
      if (tokens.is(i, "between")) ++level.between;
    }
    bound = std::max(bound, levels.back().total());
  }
  return bound;
}

}  // namespace tessera::parser::postgres
