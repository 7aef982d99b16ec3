#include "router/moment.hpp"

#include <array>
#include <string>

#include "parser/lexer.hpp"
#include "router/contains.hpp"
#include "router/text.hpp"

namespace tessera::router {
namespace {

using parser::LiteralKind;
using parser::Token;
using parser::TokenKind;

constexpr auto moments = std::to_array<std::string_view>({"now", "today", "tomorrow", "yesterday"});
// What may stand beside them.
constexpr auto companions =
    std::to_array<std::string_view>({"allballs", "am", "at", "gmt", "null", "on", "pm", "t", "utc", "z"});

constexpr bool is_letter(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

}  // namespace

bool tells_moment(std::string_view text) {
  bool found = false;
  for (std::size_t at = 0; at < text.size();) {
    std::size_t end = at;
    while (end < text.size() && is_letter(text[end])) ++end;
    if (end == at) {
      ++at;
      continue;
    }
    const std::string word = lower(text.substr(at, end - at));
    const bool moment = contains(moments, std::string_view(word));
    if (!moment && !contains(companions, std::string_view(word))) return false;
    found = found || moment;
    at = end;
  }
  return found;
}

std::optional<std::size_t> literal_of_moment(std::string_view sql) {
  parser::Lexer lexer(sql, {});
  std::string text;
  for (Token token = lexer.next(); token.kind != TokenKind::end && token.kind != TokenKind::bad; token = lexer.next()) {
    if (!is_literal(token.kind) || is_number(token.kind)) continue;
    const std::string_view literal = sql.substr(token.begin, token.end - token.begin);
    const bool escapes = literal.contains('\\');  // perhaps, as the session's settings are
    for (const LiteralKind kind : {literal_kind(token.kind), LiteralKind::escape_string}) {
      if (kind == LiteralKind::escape_string && token.kind != TokenKind::escape_string && !escapes) continue;
      if (parser::decode_string(literal, kind, text) && tells_moment(text)) return token.begin;
    }
  }
  return std::nullopt;
}

}  // namespace tessera::router
