#include "router/key.hpp"

#include <bit>
#include <gtest/gtest.h>

#include "router/array.hpp"
#include "router/numeric.hpp"

namespace tessera::router {
namespace {

using parser::LiteralKind;

// The value as text, "no row" or "unknown".
std::string shown(Conversion conversion, const KeyValue& value) {
  if (conversion == Conversion::no_row) return "no row";
  return conversion == Conversion::unknown ? "unknown" : to_text(value);
}

LiteralKind kind_of(std::string_view token) {
  if (token.starts_with('\'')) return LiteralKind::string;
  if (token.starts_with('E')) return LiteralKind::escape_string;
  if (token.starts_with('$')) return LiteralKind::dollar_string;
  return token.find_first_not_of("0123456789") == std::string_view::npos ? LiteralKind::integer : LiteralKind::numeric;
}

std::string literal(std::string_view token, KeyType column, KeyType cast = KeyType::unsupported) {
  const bool negative = token.starts_with('-');
  if (negative) token.remove_prefix(1);
  std::string scratch;
  KeyValue value;
  const auto conversion = from_literal(token, kind_of(token), negative, column, cast, scratch, value);
  if (conversion == Conversion::value) {
    EXPECT_EQ(value.type, column) << token;
  }
  return shown(conversion, value);
}

struct LiteralCase {
  std::string_view token;
  KeyType column;
  std::string_view expected;
  KeyType cast = KeyType::unsupported;
};

TEST(Key, Literals) {
  using enum KeyType;
  const std::vector<LiteralCase> cases = {
      // integers
      {"42", int8, "42"},
      {"-42", int8, "-42"},
      {"042", int4, "42"},
      {"' 42 '", int8, "42"},
      {"'+42'", int8, "42"},
      {"'+-42'", int8, "unknown"},
      {"'-42'", int8, "-42"},
      {"'42x'", int8, "unknown"},
      {"''", int8, "unknown"},
      {"'4_2'", int8, "unknown"},
      {"'0x2a'", int8, "unknown"},
      {"'4.0'", int8, "unknown"},
      {"42.0", int8, "42"},
      {"4.2e1", int4, "42"},
      {"42.5", int8, "no row"},
      {"9223372036854775807", int8, "9223372036854775807"},
      {"-9223372036854775808", int8, "-9223372036854775808"},
      {"9223372036854775808", int8, "no row"},
      {"3000000000", int4, "no row"},
      {"'3000000000'", int4, "unknown"},
      {"40000", int2, "no row"},
      {"42", int4, "42", int8},
      {"3000000000", int4, "no row", int8},
      {"3000000000", int8, "unknown", int4},
      {"42.5", int8, "unknown", int4},
      {"'42'", int8, "42", int4},
      {"'42'", int8, "unknown", text},
      {"'42.0'", int8, "42", numeric},
      {"1e400", int8, "no row"},
      {"1e999999999999999999999", int8, "unknown"},
      {"42", oid, "42"},
      {"-1", oid, "unknown"},
      {"4294967295", oid, "4294967295"},
      // text
      {"'acme'", text, "acme"},
      {"'it''s'", text, "it's"},
      {"E'a\\x62'", varchar, "ab"},
      {"$$a'b$$", text, "a'b"},
      {"'a  '", text, "a  "},
      {"'a  '", bpchar, "a"},
      {"'a  '", bpchar, "unknown", text},
      {"'a'", bpchar, "a", text},
      {"'a'", text, "a", varchar},
      {"42", text, "unknown"},
      {"42", text, "unknown", text},
      // dates and times
      {"'2024-02-29'", date, "2024-02-29"},
      {"'2023-02-29'", date, "unknown"},
      {"' 2024-02-29 '", date, "2024-02-29"},
      {"'24-02-29'", date, "unknown"},
      {"'02/29/2024'", date, "unknown"},
      {"'today'", date, "unknown"},
      {"'infinity'", date, "infinity"},
      {"'-INFINITY'", date, "-infinity"},
      {"20240229", date, "unknown"},
      {"'2024-02-29'", date, "2024-02-29", date},
      {"'2024-02-29 00:00'", date, "2024-02-29", timestamp},
      {"'2024-02-29 00:01'", date, "no row", timestamp},
      {"'2024-02-29 00:00+00'", date, "unknown", timestamptz},
      {"'2024-02-29 12:34:56.5'", timestamp, "2024-02-29 12:34:56.5"},
      {"'2024-02-29T12:34'", timestamp, "2024-02-29 12:34:00"},
      {"'2024-02-29'", timestamp, "2024-02-29 00:00:00"},
      {"'2024-02-29'", timestamp, "2024-02-29 00:00:00", date},
      {"'2024-02-29 12:34+02'", timestamp, "unknown"},
      {"'2024-02-29 12:34:56.1234567'", timestamp, "unknown"},
      {"'2024-02-29 24:00:00'", timestamp, "2024-03-01 00:00:00"},
      {"'2024-02-29 12:34:56+02'", timestamptz, "2024-02-29 10:34:56+00"},
      {"'2024-02-29 12:34:56-05:30'", timestamptz, "2024-02-29 18:04:56+00"},
      {"'2024-02-29 12:34:56Z'", timestamptz, "2024-02-29 12:34:56+00"},
      {"'2024-02-29 12:34:56 +0200'", timestamptz, "2024-02-29 10:34:56+00"},
      {"'2024-02-29 12:34:56'", timestamptz, "unknown"},
      {"'2024-02-29 12:34:56 CET'", timestamptz, "unknown"},
      {"'2024-02-29'", timestamptz, "unknown"},
      {"'infinity'", timestamptz, "infinity"},
      {"'12:34'", time, "12:34:00"},
      {"'24:00:01'", time, "unknown"},
      {"'12:60'", time, "unknown"},
      // others
      {"'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'", uuid, "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"},
      {"'{A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11}'", uuid, "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"},
      {"'a0eebc999c0b4ef8bb6d6bb9bd380a11'", uuid, "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"},
      {"'a0ee-bc99-9c0b-4ef8-bb6d-6bb9-bd38-0a11'", uuid, "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"},
      {"'a0e-ebc99-9c0b-4ef8-bb6d-6bb9bd380a11'", uuid, "unknown"},
      {"'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a1'", uuid, "unknown"},
      {"'\\xDEadBE'", bytea, "\\xdeadbe"},
      {"'\\xDEadB'", bytea, "unknown"},
      {"'a\\\\b\\101'", bytea, "\\x615c6241"},
      {"'a\\9'", bytea, "unknown"},
      {"true", boolean, "true"},
      {"FALSE", boolean, "false"},
      {"'yes'", boolean, "true"},
      {"'of'", boolean, "false"},
      {"'o'", boolean, "unknown"},
      {"1", boolean, "unknown"},
      {"1.50", numeric, "1.5"},
      {"150", numeric, "150"},
      {"'-0.0'", numeric, "0"},
      {"'NaN'", numeric, "NaN"},
      {"1.5e3", numeric, "1500"},
      {"'1e-3'", numeric, "0.001"},
      {"0.1", float8, "0.1"},
      {"'0.1'", float4, "0.10000000149011612"},
      {"0.1", float4, "no row"},
      {"0.5", float4, "0.5"},
      {"'1e999'", float8, "unknown"},
      {"'-0'", float8, "0"},
      {"42", float8, "42"},
      {"'0.1'", float8, "0.10000000149011612", float4},
      {"'a'", char_, "a"},
      {"'ab'", char_, "unknown"},
      {"'08:00:2b:01:02:03'", macaddr, "08:00:2b:01:02:03"},
      {"'08002b:010203'", macaddr, "unknown"},
      {"'10.0.0.1/8'", inet, "10.0.0.1/8"},
      {"'10.1'", inet, "unknown"},
      {"'::FFFF'", inet, "::ffff"},
      {"-'5'", int8, "unknown"},
  };
  for (const LiteralCase& one : cases) {
    EXPECT_EQ(literal(one.token, one.column, one.cast), one.expected) << one.token << " as " << name_of(one.column);
  }
}

std::string big_endian(std::uint64_t value, std::size_t width) {
  std::string bytes;
  for (std::size_t i = width; i-- > 0;) bytes += static_cast<char>(value >> (8 * i));
  return bytes;
}

std::string parameter(std::string_view bytes, bool binary, TypeOid declared, KeyType column,
                      KeyType cast = KeyType::unsupported) {
  std::string scratch;
  KeyValue value;
  return shown(from_parameter(bytes, binary, declared, column, cast, scratch, value), value);
}

constexpr TypeOid int4_oid = 23;
constexpr TypeOid int8_oid = 20;
constexpr TypeOid text_oid = 25;
constexpr TypeOid varchar_oid = 1043;
constexpr TypeOid numeric_oid = 1700;
constexpr TypeOid timestamp_oid = 1114;

TEST(Key, ParametersInText) {
  using enum KeyType;
  EXPECT_EQ(parameter("42", false, 0, int8), "42");
  EXPECT_EQ(parameter("42", false, int4_oid, int8), "42");
  EXPECT_EQ(parameter("3000000000", false, int8_oid, int4), "no row");
  EXPECT_EQ(parameter("42", false, text_oid, int8), "unknown");
  EXPECT_EQ(parameter("42", false, 705, int8), "42");
  EXPECT_EQ(parameter("4.5", false, numeric_oid, int8), "no row");
  EXPECT_EQ(parameter("4.0", false, numeric_oid, int8), "4");
  EXPECT_EQ(parameter("42", false, 0, int8, int4), "42");
  EXPECT_EQ(parameter("acme", false, varchar_oid, text), "acme");
  EXPECT_EQ(parameter("a ", false, varchar_oid, bpchar), "unknown");
  EXPECT_EQ(parameter("a ", false, 0, bpchar), "a");
  EXPECT_EQ(parameter("a", false, 1042, text), "unknown");
  EXPECT_EQ(parameter("2024-01-01", false, timestamp_oid, date), "2024-01-01");
  EXPECT_EQ(parameter("42", false, 999999, int8), "unknown");
  // int4 = oid compares oids: -5 is 4294967291 then.
  EXPECT_EQ(parameter("42", false, 26, int4), "unknown");
  EXPECT_EQ(parameter("4294967291", false, 26, int4), "unknown");
}

TEST(Key, ParametersInBinary) {
  using enum KeyType;
  EXPECT_EQ(parameter(big_endian(42, 8), true, 0, int8), "42");
  EXPECT_EQ(parameter(big_endian(42, 4), true, int4_oid, int8), "42");
  EXPECT_EQ(parameter(big_endian(42, 4), true, 0, int8), "unknown");
  EXPECT_EQ(parameter(big_endian(static_cast<std::uint64_t>(-42), 2), true, 21, int8), "-42");
  EXPECT_EQ(parameter(std::string(16, '\1'), true, 0, uuid), "01010101-0101-0101-0101-010101010101");
  EXPECT_EQ(parameter("short", true, 0, uuid), "unknown");
  EXPECT_EQ(parameter("acme", true, text_oid, varchar), "acme");
  EXPECT_EQ(parameter(big_endian(8825, 4), true, 0, date), "2024-02-29");
  EXPECT_EQ(parameter(std::string("\1", 1), true, 0, boolean), "true");
  EXPECT_EQ(parameter(big_endian(std::bit_cast<std::uint64_t>(0.5), 8), true, 0, float8), "0.5");
  // 1.5 as numeric: two groups, weight 0, positive, scale 1.
  EXPECT_EQ(parameter(std::string("\0\2\0\0\0\0\0\1\0\1\x13\x88", 12), true, 0, numeric), "1.5");
  EXPECT_EQ(parameter(std::string("\0\1\0\0\0\0\0\0\0\x2a", 10), true, numeric_oid, int8), "42");
  // More groups promised than there are; a group above 9999.
  EXPECT_EQ(parameter(std::string("\xff\xff\0\0\0\0\0\0", 8), true, 0, numeric), "unknown");
  EXPECT_EQ(parameter(std::string("\0\1\0\0\0\0\0\0\x7f\xff", 10), true, 0, numeric), "unknown");
  EXPECT_EQ(parameter(std::string("\2\x20\0\4\x0a\0\0\1", 8), true, 0, inet), "10.0.0.1");
  EXPECT_EQ(parameter(std::string("\2\xff\0\4\x0a\0\0\1", 8), true, 0, inet), "unknown");
}

TEST(Key, TextIsTheInverseOfReading) {
  using enum KeyType;
  const std::vector<std::pair<KeyType, std::string_view>> keys = {{int8, "-5"},
                                                                  {boolean, "true"},
                                                                  {date, "0001-01-01"},
                                                                  {timestamp, "1999-12-31 23:59:59.999999"},
                                                                  {timestamptz, "2024-01-01 00:00:00+00"},
                                                                  {time, "00:00:00.000001"},
                                                                  {bytea, "\\x00ff"},
                                                                  {numeric, "-0.00001"},
                                                                  {float8, "1e+300"},
                                                                  {macaddr, "00:00:00:00:00:01"},
                                                                  {inet, "2001:db8::/32"},
                                                                  {char_, "x"},
                                                                  {text, " a "}};
  for (const auto& [type, text] : keys) {
    std::string scratch;
    const auto key = from_text(text, type, scratch);
    ASSERT_TRUE(key) << text;
    EXPECT_EQ(to_text(*key), text);
  }
}

TEST(Key, Order) {
  const auto order = [](KeyType type, std::string_view a, std::string_view b) {
    std::string scratch_a;
    std::string scratch_b;
    return compare(*from_text(a, type, scratch_a), *from_text(b, type, scratch_b));
  };
  EXPECT_LT(order(KeyType::numeric, "-10", "-9.5"), 0);
  EXPECT_LT(order(KeyType::numeric, "9.95", "10"), 0);
  EXPECT_LT(order(KeyType::numeric, "1.5", "1.51"), 0);
  EXPECT_LT(order(KeyType::numeric, "Infinity", "NaN"), 0);
  EXPECT_LT(order(KeyType::numeric, "-Infinity", "-1e100"), 0);
  EXPECT_EQ(order(KeyType::numeric, "1.50", "1.5"), 0);
  EXPECT_GT(order(KeyType::float8, "NaN", "Infinity"), 0);
  EXPECT_LT(order(KeyType::text, "Z", "a"), 0);
  EXPECT_LT(order(KeyType::text, "a", "\xc3\xa4"), 0);
  EXPECT_LT(order(KeyType::inet, "10.0.0.0/8", "10.0.0.0/9"), 0);
  EXPECT_LT(order(KeyType::inet, "255.255.255.255", "::"), 0);
  EXPECT_LT(order(KeyType::date, "-infinity", "0001-01-01"), 0);
}

TEST(Key, TypeNames) {
  EXPECT_EQ(key_type_of("character varying(20)"), KeyType::varchar);
  EXPECT_EQ(key_type_of("timestamp(3) with time zone"), KeyType::timestamptz);
  EXPECT_EQ(key_type_of("TIMESTAMP  WITHOUT TIME ZONE"), KeyType::timestamp);
  EXPECT_EQ(key_type_of("numeric(10,2)"), KeyType::numeric);
  EXPECT_EQ(key_type_of("time with time zone"), KeyType::unsupported);
  EXPECT_EQ(key_type_of("\"char\""), KeyType::char_);
  EXPECT_EQ(key_type_of("char(3)"), KeyType::bpchar);
  EXPECT_EQ(key_type_of("bigint[]"), KeyType::unsupported);
  EXPECT_EQ(key_type_of(""), KeyType::unsupported);
  EXPECT_EQ(name_of(key_type_of(TypeOid{1184})), "timestamp with time zone");
}

std::string elements(std::string_view array, bool binary = false) {
  ArrayReader reader(array, binary);
  std::string scratch;
  std::string_view element;
  std::string found;
  for (;;) {
    switch (reader.next(scratch, element)) {
      case ArrayReader::Item::element:
        found += '[' + std::string(element) + ']';
        break;
      case ArrayReader::Item::null:
        found += "[]null";
        break;
      case ArrayReader::Item::end:
        return found;
      case ArrayReader::Item::malformed:
        return "malformed";
    }
  }
}

TEST(Key, Arrays) {
  EXPECT_EQ(elements("{}"), "");
  EXPECT_EQ(elements(" { } "), "");
  EXPECT_EQ(elements("{1, 2 ,NULL}"), "[1][2][]null");
  EXPECT_EQ(elements(R"({"a,b","say \"x\"",c,"NULL"})"), "[a,b][say \"x\"][c][NULL]");
  for (const char* bad :
       {"", "{", "1,2", "{1,2", "{1,,2}", "{,1}", "{1,}", "{{1},{2}}", "[1:2]={1,2}", "{\"a}", "{\"a\"b}", "{a\\b}"}) {
    EXPECT_EQ(elements(bad), "malformed") << bad;
  }
  const std::string head = big_endian(1, 4) + big_endian(0, 4) + big_endian(23, 4);
  const std::string two =
      head + big_endian(2, 4) + big_endian(1, 4) + big_endian(1, 4) + "a" + big_endian(0xffffffff, 4);
  EXPECT_EQ(elements(two, true), "[a][]null");
  EXPECT_EQ(elements(big_endian(0, 4) + big_endian(0, 4) + big_endian(23, 4), true), "");
  for (std::size_t cut = 0; cut < two.size(); ++cut) EXPECT_EQ(elements(two.substr(0, cut), true), "malformed") << cut;
  EXPECT_EQ(elements(head + big_endian(0xffffffff, 4) + big_endian(1, 4), true), "malformed");
  EXPECT_EQ(elements(head + big_endian(1, 4) + big_endian(1, 4) + big_endian(0x7fffffff, 4) + "a", true), "malformed");
}

}  // namespace
}  // namespace tessera::router
