#include "parser/postgres/tokens.hpp"

#include <algorithm>
#include <array>

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

// Siblings are cut apart by commas and, since the grammar flattens them, by AND and OR; whatever stands between two
// cuts may be one chain (a + b + c, NOT NOT a, x::int::text). Joins, set operations, CASE and subqueries nest across
// cuts, so these words count until their bracket closes.
int nesting_bound(const TokenList& tokens) {
  constexpr std::array structural = {"join", "union", "intersect", "except", "case", "select", "with", "values"};
  struct Level {
    int base = 0;
    int structure = 0;
    int chain = 0;
    int total() const { return base + structure + chain; }
  };
  std::vector<Level> levels(1);
  int bound = 0;
  for (TokenIndex i = 0; i < tokens.size(); ++i) {
    Level& level = levels.back();
    if (tokens.is_opening(i)) {
      const int inner = level.total() + 1;
      levels.push_back({inner, 0, 0});
    } else if (tokens.is_closing(i)) {
      if (levels.size() > 1) levels.pop_back();
      ++levels.back().chain;
    } else if (tokens.is(i, ";") && levels.size() == 1) {
      level = {};
    } else if (tokens.is(i, ",") || tokens.is(i, "and") || tokens.is(i, "or")) {
      level.chain = 0;
    } else {
      ++level.chain;
      const auto is_word = [&](const char* word) { return tokens.is(i, word); };
      if (tokens.kind(i) == TokenKind::word && std::ranges::any_of(structural, is_word)) ++level.structure;
    }
    bound = std::max(bound, levels.back().total());
  }
  return bound;
}

}  // namespace tessera::parser::postgres
