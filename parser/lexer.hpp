// PostgreSQL's lexical rules (scan.l of version 15) as a pull lexer: text in, one token at a time out. The fingerprint
// hashes these tokens; the PostgreSQL parser uses them to find where the clauses of a statement stand, which its syntax
// tree does not say. One lexer for both, so that a literal has the same span for the plan cache and for the planner.
//
// Borrows the text, allocates nothing, never fails: what it cannot read is a token of kind `bad`, after which nothing
// is promised. Keywords are ordinary words. Comments and white space are not tokens.
#pragma once

#include <cstdint>
#include <string_view>

#include "parser/fingerprint.hpp"

namespace tessera::parser {

enum class TokenKind : std::uint8_t {
  end,
  bad,                 // unterminated, or a byte that no token starts with
  word,                // identifier or keyword, not quoted
  quoted_identifier,   // "…"
  unicode_identifier,  // U&"…"
  national_prefix,     // the N of N'…'; the string follows as a token of its own
  parameter,           // $n
  symbol,              // ( ) [ ] , ; . : :: := .. or an operator
  integer,             // from here on the literals, in the order of LiteralKind
  numeric,
  string,
  escape_string,
  dollar_string,
  bit_string,
  unicode_string
};

constexpr bool is_literal(TokenKind kind) {
  return kind >= TokenKind::integer;
}
constexpr bool is_number(TokenKind kind) {
  return kind == TokenKind::integer || kind == TokenKind::numeric;
}
constexpr LiteralKind literal_kind(TokenKind kind) {
  return static_cast<LiteralKind>(static_cast<int>(kind) - static_cast<int>(TokenKind::integer));
}

struct Token {
  TokenKind kind = TokenKind::end;
  std::uint32_t begin = 0;
  std::uint32_t end = 0;
};

class Lexer {
public:
  // `sql` must be shorter than 4 GiB.
  Lexer(std::string_view sql, LexerMode mode)
      : first_(sql.data()), at_(sql.data()), last_(sql.data() + sql.size()), mode_(mode) {}

  Token next();

  // If a block comment stands at the very start (white space before it is allowed), its text without the delimiters.
  static std::string_view leading_comment(std::string_view sql);

private:
  bool skip_blanks();
  Token token(TokenKind kind, const char* begin) const;
  Token word(const char* begin);
  Token prefixed(const char* begin);
  Token number(const char* begin);
  Token dollar(const char* begin);
  Token symbol(const char* begin);
  Token quoted(TokenKind kind, const char* begin, char quote, bool doubled, bool backslash);
  bool sees(std::ptrdiff_t ahead, char byte) const { return last_ - at_ > ahead && at_[ahead] == byte; }

  const char* first_;
  const char* at_;
  const char* last_;
  LexerMode mode_;
};

}  // namespace tessera::parser
