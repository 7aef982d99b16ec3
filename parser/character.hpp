// What a byte can be in SQL text, by one table look-up. Bytes from 0x80 on are letters, whatever the encoding, as in
// PostgreSQL's scanner.
#pragma once

#include <array>
#include <cstdint>

namespace tessera::parser {

enum CharacterClass : std::uint8_t {
  blank_class = 1,
  letter_class = 2,  // may start an identifier
  digit_class = 4,
  dollar_class = 8,  // may continue an identifier
  operator_class = 16,
  free_operator_class = 32  // an operator with one of these may end in + or -
};

inline constexpr std::array<std::uint8_t, 256> character_classes = [] {
  std::array<std::uint8_t, 256> table{};
  for (char c : {' ', '\t', '\n', '\r', '\f'}) table[static_cast<unsigned char>(c)] = blank_class;
  for (unsigned c = 'a'; c <= 'z'; ++c) table[c] = table[c - 'a' + 'A'] = letter_class;
  for (unsigned c = 0x80; c <= 0xff; ++c) table[c] = letter_class;
  table['_'] = letter_class;
  for (unsigned c = '0'; c <= '9'; ++c) table[c] = digit_class;
  table['$'] = dollar_class;
  for (char c : {'+', '-', '*', '/', '<', '>', '='}) table[static_cast<unsigned char>(c)] = operator_class;
  for (char c : {'~', '!', '@', '#', '^', '&', '|', '`', '?', '%'}) {
    table[static_cast<unsigned char>(c)] = operator_class | free_operator_class;
  }
  return table;
}();

constexpr bool has_class(char c, int classes) {
  return (character_classes[static_cast<unsigned char>(c)] & classes) != 0;
}

constexpr char to_lower(char c) {
  return c >= 'A' && c <= 'Z' ? static_cast<char>(c | 0x20) : c;
}

}  // namespace tessera::parser
