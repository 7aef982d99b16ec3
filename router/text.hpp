// Small questions about text, in ASCII and without regard to any locale, as the server's input functions ask them.
#pragma once

#include <algorithm>
#include <string>
#include <string_view>

namespace tessera::router {

constexpr bool is_digit(char c) {
  return c >= '0' && c <= '9';
}
constexpr bool is_space(char c) {
  return c == ' ' || (c >= '\t' && c <= '\r');
}
constexpr char to_lower(char c) {
  return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
}

inline std::string lower(std::string_view text) {
  std::string folded(text);
  std::ranges::transform(folded, folded.begin(), to_lower);
  return folded;
}

constexpr bool equal_ignoring_case(std::string_view a, std::string_view b) {
  return std::ranges::equal(a, b, [](char x, char y) { return to_lower(x) == to_lower(y); });
}

constexpr std::string_view trim_space(std::string_view text) {
  while (!text.empty() && is_space(text.front())) text.remove_prefix(1);
  while (!text.empty() && is_space(text.back())) text.remove_suffix(1);
  return text;
}

constexpr std::string_view trim_trailing_blanks(std::string_view text) {
  while (text.ends_with(' ')) text.remove_suffix(1);
  return text;
}

constexpr bool starts_character(char c) {
  return (static_cast<unsigned char>(c) & 0xC0) != 0x80;
}

// As servers count positions.
constexpr std::size_t characters(std::string_view text) {
  return static_cast<std::size_t>(std::ranges::count_if(text, starts_character));
}

// Of the character that begins at the byte `offset`, counted from 1.
constexpr int position_of(std::string_view sql, std::size_t offset) {
  return static_cast<int>(characters(sql.substr(0, offset))) + 1;
}

// The reverse.
constexpr std::size_t offset_of(std::string_view sql, int position) {
  std::size_t offset = 0;
  while (offset < sql.size() && !(starts_character(sql[offset]) && --position == 0)) ++offset;
  return offset;
}

}  // namespace tessera::router
