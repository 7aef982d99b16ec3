// Keys compare as the server orders the values they are made of.
#include "router/sort_key.hpp"

#include <bit>
#include <cmath>
#include <gtest/gtest.h>
#include <limits>
#include <vector>

namespace tessera::router {
namespace {

using Value = std::optional<std::string>;

template <typename Number>
std::string big_endian(Number number) {
  std::string bytes;
  for (std::size_t i = sizeof number; i-- > 0;) bytes += static_cast<char>(number >> (8 * i));
  return bytes;
}
std::string of_double(double number) {
  return big_endian(std::bit_cast<std::uint64_t>(number));
}
std::string of_float(float number) {
  return big_endian(std::bit_cast<std::uint32_t>(number));
}
std::string numeric(int weight, std::uint16_t sign, const std::vector<std::uint16_t>& digits, std::uint16_t scale = 0) {
  std::string bytes = big_endian(static_cast<std::uint16_t>(digits.size())) +
                      big_endian(static_cast<std::uint16_t>(weight)) + big_endian(sign) + big_endian(scale);
  for (const std::uint16_t digit : digits) bytes += big_endian(digit);
  return bytes;
}

std::string key_of(SortOrder order, const Value& value, SortDirection direction = {}) {
  std::string key;
  EXPECT_TRUE(append_sort_key(key, order, direction, value ? std::optional<std::string_view>(*value) : std::nullopt));
  return key;
}

// Ascending values, each group equal; in all four directions, and behind what comes before them in a row.
void expect_order(SortOrder order, const std::vector<std::vector<Value>>& groups) {
  for (const bool descending : {false, true}) {
    const SortDirection direction{.descending = descending};
    for (std::size_t i = 0; i < groups.size(); ++i) {
      for (const Value& a : groups[i]) {
        for (std::size_t j = 0; j < groups.size(); ++j) {
          for (const Value& b : groups[j]) {
            // What follows in the row decides only if they are equal.
            const std::string left = key_of(order, a, direction) + (i < j ? "\xff" : std::string(1, '\0'));
            const std::string right = key_of(order, b, direction) + (i < j ? std::string(1, '\0') : "\xff");
            if (i == j)
              EXPECT_EQ(key_of(order, a, direction), key_of(order, b, direction)) << i;
            else
              EXPECT_EQ(left < right, (i < j) != descending) << i << " and " << j;
          }
        }
      }
    }
  }
}

TEST(SortKey, Booleans) {
  expect_order(SortOrder::boolean, {{std::string(1, '\0')}, {std::string(1, '\1')}});
}

TEST(SortKey, NumbersOfEachWidth) {
  expect_order(SortOrder::signed_number, {{big_endian(std::numeric_limits<std::int16_t>::min())},
                                          {big_endian(std::int16_t{-1})},
                                          {big_endian(std::int16_t{0})},
                                          {big_endian(std::int16_t{255})},
                                          {big_endian(std::int16_t{256})}});
  expect_order(SortOrder::signed_number, {{big_endian(std::numeric_limits<std::int64_t>::min())},
                                          {big_endian(std::int64_t{-256})},
                                          {big_endian(std::int64_t{7})},
                                          {big_endian(std::numeric_limits<std::int64_t>::max())}});
  expect_order(SortOrder::unsigned_number,
               {{big_endian(std::uint32_t{0})}, {big_endian(std::uint32_t{1})}, {big_endian(0xffff'ffffu)}});
}

TEST(SortKey, FloatsWithInfinitiesAndNaN) {
  const double infinity = std::numeric_limits<double>::infinity();
  expect_order(SortOrder::floating, {{of_double(-infinity)},
                                     {of_double(-1e300)},
                                     {of_double(-1e-300)},
                                     {of_double(-0.0), of_double(0.0)},
                                     {of_double(5e-324)},
                                     {of_double(1.5)},
                                     {of_double(infinity)},
                                     {of_double(std::nan("")), of_double(-std::nan("1"))}});
  const float narrow = std::numeric_limits<float>::infinity();
  expect_order(SortOrder::floating, {{of_float(-narrow)},
                                     {of_float(-2)},
                                     {of_float(-0.0f), of_float(0)},
                                     {of_float(2)},
                                     {of_float(narrow)},
                                     {of_float(std::nanf(""))}});
}

TEST(SortKey, NumericsWhateverTheirScale) {
  constexpr std::uint16_t minus = 0x4000;
  expect_order(SortOrder::numeric,
               {{numeric(0, 0xF000, {})},
                {numeric(1, minus, {1, 1})},  // -10001
                {numeric(1, minus, {1}, 4), numeric(1, minus, {1, 0})},
                {numeric(0, minus, {9999, 1})},
                {numeric(0, minus, {9999})},
                {numeric(-1, minus, {5000})},
                {numeric(0, 0, {}), numeric(3, 0, {}, 2), numeric(0, 0, {0, 0}), numeric(0, minus, {})},
                {numeric(-2, 0, {1})},
                {numeric(-1, 0, {1})},
                {numeric(0, 0, {1}), numeric(0, 0, {1}, 7), numeric(1, 0, {0, 1}), numeric(0, 0, {1, 0, 0})},
                {numeric(0, 0, {1, 1})},
                {numeric(0, 0, {1, 1, 9999})},
                {numeric(0, 0, {1, 2})},
                {numeric(0, 0, {256})},
                {numeric(7, 0, {1})},
                {numeric(0, 0xD000, {})},
                {numeric(0, 0xC000, {})}});
}

TEST(SortKey, BytesAndPaddedTexts) {
  using namespace std::string_literals;
  expect_order(SortOrder::bytes, {{""s},
                                  {"\0"s},
                                  {"\0\0"s},
                                  {"\0\1"s},
                                  {"A"s},
                                  {"a"s},
                                  {"a\0"s},
                                  {"a\0b"s},
                                  {"a "s},
                                  {"ab"s},
                                  {"\xc3\xa9"s},
                                  {"\xff"s}});
  expect_order(SortOrder::padded, {{""s, "  "s}, {"A"s}, {"a"s, "a "s}, {"a b"s, "a b  "s}, {"ab"s}});
}

TEST(SortKey, NullsComeWhereTheyAreSaidTo) {
  const std::string low = std::string(1, '\0'), high = std::string(1, '\1');
  for (const bool descending : {false, true}) {
    for (const std::string& value : {low, high}) {
      EXPECT_LT(key_of(SortOrder::boolean, value, {descending, false}),
                key_of(SortOrder::boolean, {}, {descending, false}));
      EXPECT_GT(key_of(SortOrder::boolean, value, {descending, true}),
                key_of(SortOrder::boolean, {}, {descending, true}));
    }
  }
}

TEST(SortKey, ValuesOfAnotherSizeAreRefused) {
  std::string key;
  for (const SortOrder order : {SortOrder::boolean, SortOrder::signed_number, SortOrder::unsigned_number,
                                SortOrder::floating, SortOrder::numeric})
    for (const std::string_view value : {"", "123", "12345", "123456789"})
      EXPECT_FALSE(append_sort_key(key, order, {}, value));
  EXPECT_FALSE(append_sort_key(key, SortOrder::boolean, {}, "\2"));
  EXPECT_FALSE(append_sort_key(key, SortOrder::numeric, {}, numeric(0, 0x1234, {1})));
  EXPECT_FALSE(append_sort_key(key, SortOrder::numeric, {}, numeric(0, 0, {1}) + "x"));
}

TEST(SortKey, TextsHaveAnOrderUnderACollationOfBytesOnly) {
  for (const TypeOid type : {25u, 1043u, 1042u}) {
    EXPECT_TRUE(sort_order_of(type, true));
    EXPECT_FALSE(sort_order_of(type, false));
  }
  for (const TypeOid unknown : {19u, 114u, 869u, 1186u, 1266u, 3802u, 16384u})
    EXPECT_FALSE(sort_order_of(unknown, true));
}

}  // namespace
}  // namespace tessera::router
