#include "router/rewrite.hpp"

#include <algorithm>
#include <fmt/format.h>
#include <utility>

#include "parser/lexer.hpp"
#include "router/text.hpp"

namespace tessera::router {

using parser::Token;
using parser::TokenKind;

std::string quoted(std::string_view name) {
  std::string text = "\"";
  for (const char c : name) text.append(c == '"' ? 2 : 1, c);
  return text + '"';
}

std::string rewritten(std::string_view sql, parser::SourceSpan whole, std::vector<Replacement> replacements) {
  std::ranges::sort(replacements, {},
                    [](const Replacement& replaced) { return std::pair(replaced.span.begin, replaced.span.end); });
  std::string text;
  std::uint32_t at = whole.begin;
  for (const Replacement& replaced : replacements) {
    text += sql.substr(at, replaced.span.begin - at);
    text += replaced.text;
    at = replaced.span.end;
  }
  return text.append(sql.substr(at, whole.end - at));
}

Replacement in_place_of(std::string_view sql, const parser::TableRef& table, std::string_view name) {
  std::string text = table.aliased ? fmt::format(" {} ", name) : fmt::format(" {} AS {} ", name, quoted(table.name));
  parser::SourceSpan span = table.span;
  parser::Lexer lexer(sql, {});
  Token before[2];
  for (Token token = lexer.next(); token.kind != TokenKind::end && token.begin < span.begin; token = lexer.next()) {
    before[0] = before[1];
    before[1] = token;
  }
  const auto is = [&](const Token& token, std::string_view word) {
    return token.kind == TokenKind::word && equal_ignoring_case(sql.substr(token.begin, token.end - token.begin), word);
  };
  const Token& command = is(before[1], "only") ? before[0] : before[1];
  if (!is(command, "table")) return {span, std::move(text)};
  return {{command.begin, span.end}, fmt::format("SELECT * FROM {}{}", table.only ? "ONLY " : "", text)};
}

std::size_t behind_tokens(std::string_view sql, std::uint32_t tokens, parser::LexerMode mode) {
  parser::Lexer lexer(sql, mode);
  Token last;
  for (; tokens > 0; --tokens) last = lexer.next();
  return last.end;
}

std::string without_explain(std::string_view sql, const parser::Statement& explain) {
  std::string text(sql);
  const std::uint32_t behind = explain.inner.front().span.begin;
  parser::Lexer lexer(sql, {});
  for (Token token = lexer.next(); token.kind != TokenKind::end && token.begin < behind; token = lexer.next())
    std::fill(text.begin() + token.begin, text.begin() + token.end, ' ');
  return text;
}

bool in_sequence(std::string_view sql, std::string_view first, std::string_view second) {
  parser::Lexer lexer(sql, {});
  bool behind = false;
  for (Token token = lexer.next(); token.kind != TokenKind::end && token.kind != TokenKind::bad; token = lexer.next()) {
    const std::string_view text = text_of(sql, {token.begin, token.end});
    if (behind && equal_ignoring_case(text, second)) return true;
    behind = token.kind == TokenKind::word && equal_ignoring_case(text, first);
  }
  return false;
}

namespace {
// Empty: the token is no name.
std::string name_of(TokenKind kind, std::string_view text) {
  std::string folded;
  if (kind == TokenKind::word) return lower(text);
  if (kind != TokenKind::quoted_identifier) return folded;
  for (std::size_t i = 1; i + 1 < text.size(); ++i) {
    folded += text[i];
    if (text[i] == '"') ++i;
  }
  return folded;
}
}  // namespace

std::size_t items_named(std::string_view order_by, const std::string& name) {
  std::size_t found = 0;
  int depth = 0;
  bool begins = true, named = false;  // at the beginning of an item; behind the name there
  parser::Lexer lexer(order_by, {});
  for (Token token = lexer.next();; token = lexer.next()) {
    const std::string_view text = text_of(order_by, {token.begin, token.end});
    const bool end = token.kind == TokenKind::end || token.kind == TokenKind::bad;
    const bool comma = text == "," && depth == 0;
    const std::string word = name_of(token.kind, text);
    if (named && (end || comma || word == "asc" || word == "desc" || word == "nulls")) ++found;
    if (end) return found;
    named = begins && word == name;
    begins = comma || (depth == 0 && token.kind == TokenKind::word && (word == "order" || word == "by"));
    depth += text == "(" || text == "[" ? 1 : text == ")" || text == "]" ? -1 : 0;
  }
}

Names::Names(std::string_view sql) {
  parser::Lexer lexer(sql, {});
  std::string last, table;                 // the name before this token; the one before the dot before this token
  bool after_dot = false, before = false;  // whether a dot stands before this token, before the last
  for (Token token = lexer.next(); token.kind != TokenKind::end && !unreadable_; token = lexer.next()) {
    const std::string_view text = sql.substr(token.begin, token.end - token.begin);
    const bool dot = token.kind == TokenKind::symbol && text == ".";
    if (!last.empty() && !dot && !before) ++alone_[last];
    if (after_dot && text == "*") ++stars_;
    before = std::exchange(after_dot, dot);
    if (dot) table = last;
    last = name_of(token.kind, text);
    if (!last.empty()) all_.insert(last);
    if (!last.empty() && before) qualified_.emplace(table, last);
    // The server cuts names off at 63 bytes.
    unreadable_ = token.kind == TokenKind::unicode_identifier || token.kind == TokenKind::bad || last.size() > 63;
  }
  if (!last.empty() && !before) ++alone_[last];
}

std::size_t Names::alone(const std::string& name) const {
  const auto found = alone_.find(name);
  return found == alone_.end() ? 0 : found->second;
}

}  // namespace tessera::router
