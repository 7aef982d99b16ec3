// decode_string: the value between the quotes.
#include <cstdint>

#include "parser/character.hpp"
#include "parser/fingerprint.hpp"

namespace tessera::parser {

namespace {

bool append_utf8(std::uint32_t code, std::string& out) {
  if (code == 0 || code > 0x10ffff || (code >= 0xd800 && code < 0xe000)) return false;
  const auto put = [&out](std::uint32_t byte) { out.push_back(static_cast<char>(static_cast<unsigned char>(byte))); };
  if (code < 0x80) {
    put(code);
  } else if (code < 0x800) {
    put(0xc0 | code >> 6);
    put(0x80 | (code & 0x3f));
  } else if (code < 0x10000) {
    put(0xe0 | code >> 12);
    put(0x80 | (code >> 6 & 0x3f));
    put(0x80 | (code & 0x3f));
  } else {
    put(0xf0 | code >> 18);
    put(0x80 | (code >> 12 & 0x3f));
    put(0x80 | (code >> 6 & 0x3f));
    put(0x80 | (code & 0x3f));
  }
  return true;
}

int hex_value(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  const char letter = to_lower(c);
  return letter >= 'a' && letter <= 'f' ? letter - 'a' + 10 : -1;
}

// Takes up to `most` digits of base 8 or 16 off the front; `count` says how many there were.
std::uint32_t take_digits(std::string_view& text, int base, int most, int& count) {
  std::uint32_t value = 0;
  for (count = 0; count < most && !text.empty(); ++count) {
    const int digit = hex_value(text.front());
    if (digit < 0 || digit >= base) break;
    value = value * static_cast<std::uint32_t>(base) + static_cast<std::uint32_t>(digit);
    text.remove_prefix(1);
  }
  return value;
}

// \uXXXX or \UXXXXXXXX, `text` behind the letter; a high surrogate must have its low one right behind it.
bool decode_unicode_escape(std::string_view& text, int digits, std::string& out) {
  int count = 0;
  std::uint32_t code = take_digits(text, 16, digits, count);
  if (count != digits) return false;
  if (code >= 0xd800 && code < 0xdc00) {
    if (!text.starts_with("\\u") && !text.starts_with("\\U")) return false;
    const int more = text[1] == 'u' ? 4 : 8;
    text.remove_prefix(2);
    const std::uint32_t low = take_digits(text, 16, more, count);
    if (count != more || low < 0xdc00 || low >= 0xe000) return false;
    code = 0x10000 + ((code - 0xd800) << 10) + (low - 0xdc00);
  }
  return append_utf8(code, out);
}

// `text` is behind the backslash and not empty.
bool decode_escape(std::string_view& text, std::string& out) {
  const char c = text.front();
  int count = 0;
  if (c >= '0' && c <= '7') {
    const auto byte = static_cast<unsigned char>(take_digits(text, 8, 3, count));
    out.push_back(static_cast<char>(byte));
    return byte != 0;
  }
  text.remove_prefix(1);
  switch (c) {
    case 'b':
      out.push_back('\b');
      return true;
    case 'f':
      out.push_back('\f');
      return true;
    case 'n':
      out.push_back('\n');
      return true;
    case 'r':
      out.push_back('\r');
      return true;
    case 't':
      out.push_back('\t');
      return true;
    case 'v':
      out.push_back('\v');
      return true;
    case 'u':
      return decode_unicode_escape(text, 4, out);
    case 'U':
      return decode_unicode_escape(text, 8, out);
    case 'x': {
      const auto byte = static_cast<unsigned char>(take_digits(text, 16, 2, count));
      out.push_back(count == 0 ? 'x' : static_cast<char>(byte));
      return count == 0 || byte != 0;
    }
    default:
      out.push_back(c);
      return true;
  }
}

bool decode_quoted(std::string_view text, bool backslash, std::string& out) {
  while (!text.empty()) {
    const char c = text.front();
    text.remove_prefix(1);
    if (c == '\'') {
      if (!text.starts_with('\'')) return false;
      text.remove_prefix(1);
      out.push_back(c);
    } else if (c == '\\' && backslash) {
      if (text.empty() || !decode_escape(text, out)) return false;
    } else {
      out.push_back(c);
    }
  }
  return true;
}

bool unquote(std::string_view& text) {
  if (text.size() < 2 || text.front() != '\'' || text.back() != '\'') return false;
  text = text.substr(1, text.size() - 2);
  return true;
}

}  // namespace

bool decode_string(std::string_view literal, LiteralKind kind, std::string& out) {
  out.clear();
  switch (kind) {
    case LiteralKind::integer:
    case LiteralKind::numeric:
      out = literal;
      return true;
    case LiteralKind::string:
      return unquote(literal) && decode_quoted(literal, false, out);
    case LiteralKind::escape_string:
      if (!literal.empty() && to_lower(literal.front()) == 'e') literal.remove_prefix(1);
      return unquote(literal) && decode_quoted(literal, true, out);
    case LiteralKind::dollar_string: {
      const std::size_t tag = literal.find('$', 1);
      if (!literal.starts_with('$') || tag == std::string_view::npos || literal.size() < 2 * (tag + 1)) return false;
      out = literal.substr(tag + 1, literal.size() - 2 * (tag + 1));
      return true;
    }
    case LiteralKind::bit_string: {  // as the server writes it down: b0101, x1f
      if (literal.empty()) return false;
      const char prefix = to_lower(literal.front());
      literal.remove_prefix(1);
      if (!unquote(literal)) return false;
      out = prefix;
      out += literal;
      return true;
    }
    case LiteralKind::unicode_string:
      return false;
  }
  return false;
}

}  // namespace tessera::parser
