#include "router/quote.hpp"

#include <fmt/core.h>

namespace tessera::router {
namespace {

// The length of the UTF-8 character that a text begins with; 0: it begins with none (RFC 3629, section 4).
std::size_t character_length(std::string_view text) {
  const auto byte = [text](std::size_t i) { return i < text.size() ? static_cast<unsigned char>(text[i]) : 0u; };
  const auto follows = [&byte](std::size_t i, unsigned low, unsigned high) {
    return byte(i) >= low && byte(i) <= high;
  };
  const unsigned first = byte(0);
  if (first < 0x80) return text.empty() ? 0 : 1;
  if (first >= 0xC2 && first <= 0xDF) return follows(1, 0x80, 0xBF) ? 2 : 0;
  const unsigned low = first == 0xE0 ? 0xA0 : first == 0xF0 ? 0x90 : 0x80;   // no longer forms than needed
  const unsigned high = first == 0xED ? 0x9F : first == 0xF4 ? 0x8F : 0xBF;  // no surrogates, nothing above U+10FFFF
  if (first < 0xE0 || first > 0xF4 || !follows(1, low, high) || !follows(2, 0x80, 0xBF)) return 0;
  if (first < 0xF0) return 3;
  return follows(3, 0x80, 0xBF) ? 4 : 0;
}

}  // namespace

std::string quote_identifier(std::string_view name) {
  std::string quoted = "\"";
  for (const char c : name) {
    if (c == '"') quoted += '"';
    quoted += c;
  }
  return quoted + '"';
}

std::string quote_literal(std::string_view text) {
  std::string quoted = text.contains('\\') ? "E'" : "'";
  for (const char c : text) {
    if (c == '\'' || c == '\\') quoted += c;
    quoted += c;
  }
  return quoted + '\'';
}

std::string for_message(std::string_view text, std::size_t most) {
  std::string shown;
  while (!text.empty()) {
    const std::size_t length = character_length(text);
    const bool plain = length > 1 || (length == 1 && text[0] >= ' ' && text[0] != '\x7f');
    std::string next =
        plain ? std::string(text.substr(0, length)) : fmt::format("\\x{:02x}", static_cast<unsigned char>(text[0]));
    if (shown.size() + next.size() > most) return shown + "...";
    shown += next;
    text.remove_prefix(plain ? length : 1);
  }
  return shown;
}

}  // namespace tessera::router
