#include "parser/fingerprint.hpp"

#include <gtest/gtest.h>
#include <set>
#include <utility>

namespace tessera::parser {
namespace {

Fingerprint of(std::string_view sql, LexerMode mode = {}) {
  Fingerprint result;
  fingerprint(sql, mode, result);
  return result;
}

std::pair<std::uint64_t, std::uint64_t> key(std::string_view sql, LexerMode mode = {}) {
  const Fingerprint f = of(sql, mode);
  EXPECT_TRUE(f.exact) << sql;
  return {f.high, f.low};
}

std::string slots(std::string_view sql, LexerMode mode = {}) {
  constexpr const char* names[] = {"integer", "numeric", "string", "escape", "dollar", "bit", "unicode"};
  std::string text;
  for (const Slot& slot : of(sql, mode).slots) {
    text += std::string(names[static_cast<int>(slot.kind)]) + ":" +
            std::string(sql.substr(slot.begin, slot.end - slot.begin)) + " ";
  }
  return text;
}

TEST(Fingerprint, LiteralValuesDoNotCount) {
  EXPECT_EQ(key("SELECT a FROM t WHERE id = 12345"), key("SELECT a FROM t WHERE id = 7"));
  EXPECT_EQ(key("SELECT 'a', 1.5"), key("SELECT 'it''s', 2e9"));
}

TEST(Fingerprint, LiteralKindsCount) {
  const std::set keys = {key("SELECT 1"),     key("SELECT 1.0"),   key("SELECT '1'"),   key("SELECT E'1'"),
                         key("SELECT $$1$$"), key("SELECT B'1'"),  key("SELECT U&'1'"), key("SELECT N'1'"),
                         key("SELECT $1"),    key("SELECT N '1'"), key("SELECT TRUE"),  key("SELECT NULL")};
  EXPECT_EQ(keys.size(), 12u);
}

TEST(Fingerprint, TheNumberThatNamesATypeCounts) {
  // real and double precision.
  EXPECT_NE(key("SELECT 0.1::float(24)"), key("SELECT 0.1::float(53)"));
  EXPECT_NE(key("SELECT 0.1::FLOAT /* x */ (24)"), key("SELECT 0.1::float(53)"));
  EXPECT_NE(key("SELECT 1::float(1)"), key("SELECT 1::float(1, 1)"));
  EXPECT_EQ(key("SELECT 0.1::float(24)"), key("SELECT 7.5::Float ( 24 )"));
  EXPECT_EQ(slots("SELECT 0.1::float(24)"), "numeric:0.1 integer:24 ");
  EXPECT_EQ(key("SELECT '1'::numeric(3)"), key("SELECT '1'::numeric(4)"));
  EXPECT_EQ(key("SELECT float8(1)"), key("SELECT float8(2)"));
  EXPECT_EQ(key("SELECT 1 AS float, (1)"), key("SELECT 1 AS float, (2)"));
}

TEST(Fingerprint, BlanksCommentsAndCaseDoNotCount) {
  const auto plain = key("SELECT a FROM t");
  EXPECT_EQ(plain, key("  select\tA\nfrom /* x /* nested */ y */ T -- end"));
  EXPECT_EQ(plain, key("SELECT a FROM t;"));
  EXPECT_EQ(plain, key("SELECT a FROM t ; ; -- nothing"));
  EXPECT_EQ(plain, key("SELECT--\ra FROM t"));
}

TEST(Fingerprint, TokensCount) {
  EXPECT_NE(key("SELECT a b"), key("SELECT ab"));
  EXPECT_NE(key("SELECT a"), key("SELECT \"a\""));
  EXPECT_NE(key("SELECT \"a\""), key("SELECT \"A\""));
  EXPECT_NE(key("SELECT \"a\", \"b\""), key("SELECT \"a\"\", \"\"b\""));
  EXPECT_NE(key("SELECT $1"), key("SELECT $2"));
  EXPECT_NE(key("SELECT a < b"), key("SELECT a <= b"));
  EXPECT_NE(key("SELECT a <- b"), key("SELECT a @- b"));
  EXPECT_NE(key("SELECT abcdefgh"), key("SELECT abcdefg h"));
  EXPECT_NE(key("SELECT abcdefghi"), key("SELECT abcdefgh i"));
  EXPECT_NE(key("SELECT (1), 2"), key("SELECT 1, (2)"));
  EXPECT_NE(key("SELECT a"), key("SELECT \xc3\xa4"));
  EXPECT_EQ(key("SELECT a -1"), key("SELECT a - 1"));
  EXPECT_EQ(key("SELECT a<-1"), key("SELECT a < - 1"));
}

TEST(Fingerprint, LongNamesFoldInEveryPlace) {
  const std::string lower = "select the_quick_brown_fox_jumps_over_the_lazy_dog from z@";
  for (std::size_t i = 0; i < lower.size(); ++i) {
    std::string mixed = lower;
    mixed[i] = static_cast<char>(std::toupper(static_cast<unsigned char>(mixed[i])));
    EXPECT_EQ(key(lower), key(mixed)) << mixed;
    std::string other = lower;
    if (lower[i] == ' ' || lower[i] == '@') continue;
    other[i] = lower[i] == 'x' ? 'y' : 'x';
    EXPECT_NE(key(lower), key(other)) << other;
  }
}

// The hash reads eight bytes at a time where it can: a text that ends in mid-token must not read or hash what is
// behind.
TEST(Fingerprint, BytesBehindTheTextDoNotCount) {
  const std::string text = "SELECT identifier_that_is_long, \"Quoted name\", 1";
  for (std::size_t size = 1; size <= text.size(); ++size) {
    const Fingerprint inside = of(std::string_view(text).substr(0, size));
    const std::vector<char> alone(text.begin(), text.begin() + static_cast<std::ptrdiff_t>(size));
    const Fingerprint exact = of({alone.data(), alone.size()});
    EXPECT_EQ(std::tie(inside.high, inside.low, inside.exact), std::tie(exact.high, exact.low, exact.exact)) << size;
  }
}

TEST(Fingerprint, SlotsAreTheLiteralsAsWritten) {
  EXPECT_EQ(slots("SELECT 1, -2, .5, 5., 1e10, 1.5E-3, x1"),
            "integer:1 integer:2 numeric:.5 numeric:5. numeric:1e10 numeric:1.5E-3 ");
  EXPECT_EQ(slots("SELECT 'a', 'it''s', E'a\\'b', B'01', x'1F', U&'d\\0061', $$a'b$$, $x$a$$b$x$"),
            "string:'a' string:'it''s' escape:E'a\\'b' bit:B'01' bit:x'1F' unicode:U&'d\\0061' dollar:$$a'b$$ "
            "dollar:$x$a$$b$x$ ");
  EXPECT_EQ(slots("SELECT N'abc', e1, b, u & 'x'"), "string:'abc' string:'x' ");
  EXPECT_EQ(slots("SELECT a[1..10]"), "integer:1 integer:10 ");
  EXPECT_EQ(slots("SELECT '/* no */ -- no', 1 /* '2' */ -- '3'"), "string:'/* no */ -- no' integer:1 ");
  EXPECT_EQ(slots("SELECT a$1, b$$c$$"), "");
  EXPECT_EQ(slots("SELECT $1, 2"), "integer:2 ");
}

TEST(Fingerprint, BackslashesFollowTheMode) {
  EXPECT_EQ(slots("SELECT 'a\\', 'b'"), "string:'a\\' string:'b' ");
  EXPECT_EQ(slots("SELECT 'a\\', ' b'", {.standard_conforming_strings = false}), "escape:'a\\', ' ");
  EXPECT_EQ(slots("SELECT 'a\\'b'", {.standard_conforming_strings = false}), "escape:'a\\'b' ");
  EXPECT_EQ(slots("SELECT $$a\\$$", {.standard_conforming_strings = false}), "dollar:$$a\\$$ ");
}

TEST(Fingerprint, WhatIsNotSureIsNotExact) {
  using std::string_view_literals::operator""sv;
  for (const std::string_view sql :
       {"SELECT 'abc"sv,     "SELECT \"abc"sv,    "SELECT $$abc"sv,      "SELECT $x$abc$$"sv,
        "SELECT /* abc"sv,   "SELECT /* /* */"sv, "SELECT E'abc\\'"sv,   "SELECT 1a"sv,
        "SELECT 0x1f"sv,     "SELECT 1_000"sv,    "SELECT 1e"sv,         "SELECT $1a"sv,
        "SELECT $"sv,        "SELECT $a"sv,       "SELECT 'a' \n 'b'"sv, "SELECT 'a' -- c\n 'b'"sv,
        "SELECT U&\"d\""sv,  "SELECT \x01"sv,     "SELECT \0"sv,         "SELECT 'a\0b'"sv,
        "SELECT \"a\0b\""sv, "SELECT \v1"sv,      "SELECT {"sv,          "SELECT \\"sv}) {
    EXPECT_FALSE(of(sql).exact) << sql;
  }
  EXPECT_TRUE(of("SELECT 'a', 'b'").exact);
  EXPECT_TRUE(of("").exact);
}

TEST(Fingerprint, SeveralStatements) {
  EXPECT_TRUE(of("SELECT 1; SELECT 2").multiple);
  EXPECT_TRUE(of("; SELECT 2").multiple);
  EXPECT_FALSE(of("SELECT ';'").multiple);
  EXPECT_FALSE(of("SELECT 1; /* ; */ ;").multiple);
  EXPECT_NE(key("SELECT a; b"), key("SELECT a b"));
}

TEST(Fingerprint, HintIsTheFirstTokenOnly) {
  const auto hint = [](std::string_view sql) {
    const Fingerprint f = of(sql);
    return std::string(sql.substr(f.hint_begin, f.hint_end - f.hint_begin));
  };
  EXPECT_EQ(hint("/* tessera: shard=s1 */ SELECT 1"), "shard=s1");
  EXPECT_EQ(hint("  \n/*tessera:key=42*/SELECT 1"), "key=42");
  EXPECT_EQ(hint("/* other */ /* tessera: shard=s1 */ SELECT 1"), "");
  EXPECT_EQ(hint("SELECT /* tessera: shard=s1 */ 1"), "");
  EXPECT_EQ(hint("-- tessera: shard=s1\nSELECT 1"), "");
  EXPECT_EQ(hint("/* tessera shard=s1 */ SELECT 1"), "");
  EXPECT_EQ(hint("/* tessera: */ SELECT 1"), "");
  EXPECT_EQ(hint("/* tessera: shard=s1 SELECT 1"), "");
  EXPECT_EQ(hint("/*/ SELECT 1"), "");
}

TEST(Fingerprint, VectorsKeepTheirCapacity) {
  Fingerprint f;
  fingerprint("SELECT 1, 2, 3", {}, f);
  const auto* before = f.slots.data();
  fingerprint("SELECT 4, 5", {}, f);
  EXPECT_EQ(f.slots.data(), before);
  EXPECT_EQ(f.slots.size(), 2u);
}

// No two of many short token lists collide.
TEST(Fingerprint, ManyShortTextsAreAllDifferent) {
  std::set<std::pair<std::uint64_t, std::uint64_t>> seen;
  const std::string_view tokens[] = {"a", "b", "ab", "\"a\"", "\"ab\"", "1", "'x'", "+", "(", "$1", "abcdefgh", ","};
  std::size_t count = 0;
  for (const auto a : tokens) {
    for (const auto b : tokens) {
      for (const auto c : tokens) {
        ++count;
        const Fingerprint f = of(std::string(a) + " " + std::string(b) + " " + std::string(c));
        seen.insert({f.high, f.low});
      }
    }
  }
  EXPECT_EQ(seen.size(), count);
}

std::string decoded(std::string_view literal, LiteralKind kind) {
  std::string out;
  return decode_string(literal, kind, out) ? out : "(refused)";
}

TEST(DecodeString, Plain) {
  EXPECT_EQ(decoded("'it''s'", LiteralKind::string), "it's");
  EXPECT_EQ(decoded("'a\\n'", LiteralKind::string), "a\\n");
  EXPECT_EQ(decoded("''", LiteralKind::string), "");
  EXPECT_EQ(decoded("'a'b'", LiteralKind::string), "(refused)");
  EXPECT_EQ(decoded("'a", LiteralKind::string), "(refused)");
  EXPECT_EQ(decoded("", LiteralKind::string), "(refused)");
  EXPECT_EQ(decoded("'", LiteralKind::string), "(refused)");
}

TEST(DecodeString, Escapes) {
  EXPECT_EQ(decoded("E'\\b\\f\\n\\r\\t\\v\\\\\\'\\q'", LiteralKind::escape_string), "\b\f\n\r\t\v\\'q");
  EXPECT_EQ(decoded("'a\\'b'", LiteralKind::escape_string), "a'b");
  EXPECT_EQ(decoded("e'\\x41\\x4a4\\101\\1012\\x'", LiteralKind::escape_string), "AJ4AA2x");
  EXPECT_EQ(decoded("E'\\u00e4\\U0001F600\\ud83d\\ude00'", LiteralKind::escape_string), "ä😀😀");
  for (const char* bad : {"E'\\0'", "E'\\x00'", "E'\\u12'", "E'\\u0000'", "E'\\ud83d'", "E'\\ud83dx'", "E'\\ude00'",
                          "E'\\U00110000'", "E'\\ud83d\\u0041'", "E'abc\\"}) {
    EXPECT_EQ(decoded(bad, LiteralKind::escape_string), "(refused)") << bad;
  }
}

TEST(DecodeString, OtherKinds) {
  EXPECT_EQ(decoded("$$a'b$$", LiteralKind::dollar_string), "a'b");
  EXPECT_EQ(decoded("$x$a$$b$x$", LiteralKind::dollar_string), "a$$b");
  EXPECT_EQ(decoded("$$", LiteralKind::dollar_string), "(refused)");
  EXPECT_EQ(decoded("B'01'", LiteralKind::bit_string), "b01");
  EXPECT_EQ(decoded("42", LiteralKind::integer), "42");
  EXPECT_EQ(decoded("U&'d'", LiteralKind::unicode_string), "(refused)");
}

}  // namespace
}  // namespace tessera::parser
