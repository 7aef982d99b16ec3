#include "parser/normalize.hpp"

#include "parser/lexer.hpp"

namespace tessera::parser {

std::string normalize(std::string_view sql, LexerMode mode) {
  Fingerprint print;
  fingerprint(sql, mode, print);
  if (!print.exact) return "<unreadable>";
  std::string text;
  std::size_t at = 0;
  Lexer lexer(sql, mode);
  for (Token token = lexer.next(); token.kind != TokenKind::end; token = lexer.next()) {
    // Something more than blanks between two tokens is a comment.
    const std::string_view between = sql.substr(at, token.begin - at);
    const bool comment = between.find_first_not_of(" \t\n\r\f\v") != std::string_view::npos;
    text += !comment ? between : text.empty() ? "" : " ";
    text += is_literal(token.kind) ? "?" : sql.substr(token.begin, token.end - token.begin);
    at = token.end;
  }
  return text;
}

}  // namespace tessera::parser
