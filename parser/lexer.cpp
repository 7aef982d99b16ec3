#include "parser/lexer.hpp"

#include <cstring>

#include "parser/character.hpp"

namespace tessera::parser {

namespace {

constexpr int identifier_classes = letter_class | digit_class | dollar_class;

// Behind the end of the comment whose "/*" stands at `at`, or null when it has none. Comments nest.
const char* behind_comment(const char* at, const char* last) {
  int depth = 0;
  while (last - at >= 2) {
    if (at[0] == '/' && at[1] == '*') {
      ++depth;
      at += 2;
    } else if (at[0] == '*' && at[1] == '/') {
      at += 2;
      if (--depth == 0) return at;
    } else {
      ++at;
    }
  }
  return nullptr;
}

}  // namespace

std::string_view Lexer::leading_comment(std::string_view sql) {
  const char* at = sql.data();
  const char* last = at + sql.size();
  while (at < last && has_class(*at, blank_class)) ++at;
  if (last - at < 4 || at[0] != '/' || at[1] != '*') return {};
  const char* behind = behind_comment(at, last);
  if (behind == nullptr) return {};
  return {at + 2, static_cast<std::size_t>(behind - at) - 4};
}

// To the next token. False: an unterminated comment.
bool Lexer::skip_blanks() {
  for (;;) {
    while (at_ < last_ && has_class(*at_, blank_class)) ++at_;
    if (at_ == last_) return true;
    if (*at_ == '-' && sees(1, '-')) {
      while (at_ < last_ && *at_ != '\n' && *at_ != '\r') ++at_;
    } else if (*at_ == '/' && sees(1, '*')) {
      const char* behind = behind_comment(at_, last_);
      if (behind == nullptr) return false;
      at_ = behind;
    } else {
      return true;
    }
  }
}

Token Lexer::token(TokenKind kind, const char* begin) const {
  return {kind, static_cast<std::uint32_t>(begin - first_), static_cast<std::uint32_t>(at_ - first_)};
}

Token Lexer::next() {
  if (!skip_blanks()) {
    const char* begin = at_;
    at_ = last_;
    return token(TokenKind::bad, begin);
  }
  const char* begin = at_;
  if (at_ == last_) return token(TokenKind::end, begin);
  const char c = *at_;
  switch (character_classes[static_cast<unsigned char>(c)] & (letter_class | digit_class | dollar_class)) {
    case letter_class:
      return sees(1, '\'') || sees(1, '&') ? prefixed(begin) : word(begin);
    case digit_class:
      return number(begin);
    case dollar_class:
      return dollar(begin);
    default:
      break;
  }
  if (c == '\'') {
    const bool backslash = !mode_.standard_conforming_strings;
    return quoted(backslash ? TokenKind::escape_string : TokenKind::string, begin, '\'', true, backslash);
  }
  if (c == '"') return quoted(TokenKind::quoted_identifier, begin, '"', true, false);
  if (c == '.' && last_ - at_ > 1 && has_class(at_[1], digit_class)) return number(begin);
  return symbol(begin);
}

Token Lexer::word(const char* begin) {
  do ++at_;
  while (at_ < last_ && has_class(*at_, identifier_classes));
  return token(TokenKind::word, begin);
}

// A letter with a quote or an ampersand behind it.
Token Lexer::prefixed(const char* begin) {
  const char prefix = to_lower(*begin);
  if (at_[1] == '\'') {
    if (prefix == 'n') {
      ++at_;
      return token(TokenKind::national_prefix, begin);
    }
    if (prefix == 'e' || prefix == 'b' || prefix == 'x') {
      ++at_;
      if (prefix == 'e') return quoted(TokenKind::escape_string, begin, '\'', true, true);
      return quoted(TokenKind::bit_string, begin, '\'', false, false);
    }
  } else if (prefix == 'u' && (sees(2, '\'') || sees(2, '"'))) {
    at_ += 2;
    const bool string = *at_ == '\'';
    return quoted(string ? TokenKind::unicode_string : TokenKind::unicode_identifier, begin, *at_, true, false);
  }
  return word(begin);
}

// `at_` is on the opening quote.
Token Lexer::quoted(TokenKind kind, const char* begin, char quote, bool doubled, bool backslash) {
  ++at_;
  while (at_ < last_) {
    const char c = *at_++;
    if (c == quote) {
      if (!doubled || at_ == last_ || *at_ != quote) return token(kind, begin);
      ++at_;
    } else if (c == '\0') {
      return token(TokenKind::bad, begin);
    } else if (c == '\\' && backslash && at_ < last_) {
      ++at_;
    }
  }
  return token(TokenKind::bad, begin);
}

Token Lexer::number(const char* begin) {
  const auto digits = [this] {
    const char* start = at_;
    while (at_ < last_ && has_class(*at_, digit_class)) ++at_;
    return at_ > start;
  };
  TokenKind kind = TokenKind::integer;
  digits();
  if (at_ < last_ && *at_ == '.') {
    if (at_ > begin && sees(1, '.')) return token(TokenKind::integer, begin);  // 1..10 is 1 and ..
    ++at_;
    digits();
    kind = TokenKind::numeric;
  }
  if (at_ < last_ && to_lower(*at_) == 'e') {
    ++at_;
    if (at_ < last_ && (*at_ == '+' || *at_ == '-')) ++at_;
    if (!digits()) return token(TokenKind::bad, begin);
    kind = TokenKind::numeric;
  }
  if (at_ < last_ && has_class(*at_, letter_class)) return token(TokenKind::bad, begin);  // 1a; 0x1f of version 16 too
  return token(kind, begin);
}

Token Lexer::dollar(const char* begin) {
  ++at_;
  if (at_ < last_ && has_class(*at_, digit_class)) {
    while (at_ < last_ && has_class(*at_, digit_class)) ++at_;
    const bool junk = at_ < last_ && has_class(*at_, letter_class);
    return token(junk ? TokenKind::bad : TokenKind::parameter, begin);
  }
  while (at_ < last_ && has_class(*at_, letter_class | digit_class)) ++at_;
  if (at_ == last_ || *at_ != '$') return token(TokenKind::bad, begin);
  ++at_;
  const std::string_view tag(begin, static_cast<std::size_t>(at_ - begin));
  const std::string_view rest(at_, static_cast<std::size_t>(last_ - at_));
  const std::size_t close = rest.find(tag);
  if (close == std::string_view::npos || rest.substr(0, close).find('\0') != std::string_view::npos) {
    at_ = last_;
    return token(TokenKind::bad, begin);
  }
  at_ += close + tag.size();
  return token(TokenKind::dollar_string, begin);
}

// An operator takes all operator characters up to the start of a comment; it may end in + or - only when it has a
// character in it that no standard operator has, so that `a=-1` is `a = -1`.
Token Lexer::symbol(const char* begin) {
  const char c = *at_++;
  if (!has_class(c, operator_class)) {
    switch (c) {
      case ':':
        if (at_ < last_ && (*at_ == ':' || *at_ == '=')) ++at_;
        return token(TokenKind::symbol, begin);
      case '.':
        if (at_ < last_ && *at_ == '.') ++at_;
        return token(TokenKind::symbol, begin);
      case '(':
      case ')':
      case '[':
      case ']':
      case ',':
      case ';':
        return token(TokenKind::symbol, begin);
      default:
        return token(TokenKind::bad, begin);
    }
  }
  while (at_ < last_ && has_class(*at_, operator_class) && !(*at_ == '-' && sees(1, '-')) &&
         !(*at_ == '/' && sees(1, '*'))) {
    ++at_;
  }
  bool free = false;
  for (const char* p = begin; p < at_; ++p) free = free || has_class(*p, free_operator_class);
  if (!free) {
    while (at_ - begin > 1 && (at_[-1] == '+' || at_[-1] == '-')) --at_;
  }
  return token(TokenKind::symbol, begin);
}

}  // namespace tessera::parser
