// The fingerprint lexer: one pass over the SQL that drops comments and folds white space, replaces each literal by a
// slot and hashes what is left. Statements that differ only in literals share a fingerprint and so a cached plan; the
// kind of a literal (integer, string, …) is part of the fingerprint, its value is not, but for the number in float(24):
// it says which type that is. The lexer never decides what a statement means; whatever it is unsure of makes the
// fingerprint unusable (`exact == false`) and the parser decides.
//
// Pure; borrows the text; writes into a caller's `Fingerprint`, whose vectors keep their capacity, so a warmed-up
// lexer does not allocate. Cost: a few nanoseconds per token.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace tessera::parser {

enum class LiteralKind : std::uint8_t {
  integer,        // 42 (also 0x2a where the dialect has it)
  numeric,        // 4.2, 1e3
  string,         // 'text' without escapes, '' doubled at most
  escape_string,  // E'…' (or any string when standard_conforming_strings is off)
  dollar_string,  // $tag$…$tag$
  bit_string,     // B'…' X'…'
  unicode_string  // U&'…'
};

struct Slot {
  std::uint32_t begin;  // offset of the literal's first byte (its quote or E/B/X/U prefix included)
  std::uint32_t end;
  LiteralKind kind;
};

struct LexerMode {
  bool standard_conforming_strings = true;
  friend bool operator==(const LexerMode&, const LexerMode&) = default;
};

struct Fingerprint {
  std::uint64_t high =
      0;  // 128 bits over kinds and text of all tokens, so that an accidental collision cannot happen and
  std::uint64_t low = 0;  // a wilful one needs 2^64 work; keyed with a per-process random seed
  bool exact = false;     // false: unterminated quote or comment, or a byte that the lexer does not know
  bool multiple = false;  // a semicolon with something other than white space and comments behind it
  std::uint32_t hint_begin = 0, hint_end = 0;  // text inside a leading /* tessera: … */ comment; equal: none
  std::vector<Slot> slots;
};

// Reads `sql` into `out`. Never fails; see `exact`.
void fingerprint(std::string_view sql, LexerMode mode, Fingerprint& out);

// The value of a string literal as the server would see it (quotes removed, '' and, for escape strings, backslash
// sequences decoded; adjacent-line concatenation is not a single slot and so not seen here). Returns false for
// malformed escapes and for unicode strings.
bool decode_string(std::string_view literal, LiteralKind kind, std::string& out);

}  // namespace tessera::parser
