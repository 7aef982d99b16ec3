// The reader of wire bytes at every length, and the small value types beside it.
#include "base/byte_reader.hpp"

#include <gtest/gtest.h>
#include <limits>
#include <string>
#include <type_traits>
#include <unordered_set>

#include "base/error.hpp"
#include "base/ids.hpp"
#include "base/secret.hpp"

namespace tessera {
namespace {

using namespace std::literals;

TEST(ByteReader, NumbersAreBigEndian) {
  ByteReader reader("\x01\x02\x03\x04\x05\x06\x07\xff\xfe\xff\xff\xff\xfd\x80\x00\x00\x00\x00\x00\x00\x01"sv);
  EXPECT_EQ(reader.u8(), 0x01);
  EXPECT_EQ(reader.u16(), 0x0203);
  EXPECT_EQ(reader.u32(), 0x0405'0607u);
  EXPECT_EQ(reader.i16(), -2);
  EXPECT_EQ(reader.i32(), -3);
  EXPECT_EQ(reader.u64(), 0x8000'0000'0000'0001u);
  EXPECT_TRUE(reader.finished());
}

TEST(ByteReader, ABadReadIsBadForGood) {
  ByteReader reader("\x01\x02\x03"sv);
  EXPECT_EQ(reader.u32(), 0u);
  EXPECT_FALSE(reader.ok());
  EXPECT_EQ(reader.left(), 0u);
  EXPECT_EQ(reader.u8(), 0) << "though a byte was there before";
  EXPECT_EQ(reader.bytes(0), ""sv);
  EXPECT_EQ(reader.rest(), ""sv);
  EXPECT_EQ(reader.c_string(), ""sv);
  EXPECT_FALSE(reader.ok());
  EXPECT_FALSE(reader.finished());
}

TEST(ByteReader, LengthsThatWouldOverflow) {
  for (const std::size_t n : {std::size_t{4}, std::size_t{0x7fff'ffff}, std::size_t{0xffff'ffff},
                              std::numeric_limits<std::size_t>::max() - 2, std::numeric_limits<std::size_t>::max()}) {
    ByteReader reader("abc"sv);
    EXPECT_EQ(reader.bytes(n), ""sv);
    EXPECT_FALSE(reader.ok()) << n;
  }
  ByteReader exact("abc"sv);
  EXPECT_EQ(exact.bytes(3), "abc"sv);
  EXPECT_TRUE(exact.finished());
}

TEST(ByteReader, StringsEndWithAZero) {
  ByteReader reader("one\0\0two\0rest"sv);
  EXPECT_EQ(reader.c_string(), "one"sv);
  EXPECT_EQ(reader.c_string(), ""sv);
  EXPECT_TRUE(reader.ok());
  EXPECT_EQ(reader.c_string(), "two"sv);
  EXPECT_EQ(reader.left(), 4u);
  EXPECT_EQ(reader.c_string(), ""sv) << "no zero: not a string";
  EXPECT_FALSE(reader.ok());
  ByteReader nothing(""sv);
  nothing.c_string();
  EXPECT_FALSE(nothing.ok());
}

TEST(ByteReader, ReturnsViewsOfItsBytes) {
  const std::string bytes = "abcdef";
  ByteReader reader(bytes);
  EXPECT_EQ(reader.bytes(2).data(), bytes.data());
  EXPECT_EQ(reader.rest().data(), bytes.data() + 2);
  EXPECT_TRUE(reader.finished());
}

TEST(ByteReader, NothingLeftIsNotAnErrorAndLeftoversAreNotFinished) {
  ByteReader empty(""sv);
  EXPECT_TRUE(empty.finished());
  EXPECT_EQ(empty.rest(), ""sv);
  EXPECT_TRUE(empty.finished());
  ByteReader some("a"sv);
  EXPECT_TRUE(some.ok());
  EXPECT_FALSE(some.finished());
  some.fail();
  EXPECT_FALSE(some.ok());
  EXPECT_FALSE(some.finished());
}

// The same three fields, of inputs cut at every byte: bad exactly when something is missing.
TEST(ByteReader, CutAtEveryByte) {
  const std::string whole = "\x00\x05hello\x12\x34\x56\x78name\0"s;
  for (std::size_t size = 0; size <= whole.size(); ++size) {
    const std::string cut = whole.substr(0, size);
    ByteReader reader(cut);
    const std::string_view text = reader.bytes(reader.u16());
    const std::uint32_t number = reader.u32();
    const std::string_view name = reader.c_string();
    EXPECT_EQ(reader.finished(), size == whole.size()) << size;
    if (!reader.finished()) continue;
    EXPECT_EQ(text, "hello");
    EXPECT_EQ(number, 0x1234'5678u);
    EXPECT_EQ(name, "name");
  }
}

TEST(SqlState, FromTheWire) {
  EXPECT_EQ(SqlState::from_wire("42601"), sqlstate::syntax_error);
  EXPECT_EQ(SqlState::from_wire("42601").view(), "42601");
  for (const char* bad : {"", "4260", "426011"}) EXPECT_EQ(SqlState::from_wire(bad), sqlstate::internal_error) << bad;
}

TEST(Result, Fail) {
  const auto failing = []() -> Result<int> { return fail(sqlstate::undefined_table, "no such table", "create it"); };
  const Result<int> result = failing();
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error(), (Error{sqlstate::undefined_table, "no such table", {}, "create it", 0}));
}

TEST(StrongId, MeansOneThing) {
  static_assert(!std::is_convertible_v<int, ShardId> && !std::is_convertible_v<ShardId, int>);
  static_assert(!std::is_constructible_v<ShardId, RuleId> && !std::is_same_v<ShardId, RuleId>);
  EXPECT_LT(ShardId(1), ShardId(2));
  EXPECT_EQ((std::unordered_set<ShardId>{ShardId(1), ShardId(1), ShardId(2)}.size()), 2u);
}

TEST(Secret, HasNoWayOutButReveal) {
  static_assert(!std::is_convertible_v<Secret, std::string> && !std::is_convertible_v<Secret, std::string_view>);
  static_assert(!std::is_convertible_v<std::string, Secret>);
  const Secret secret("hidden");
  EXPECT_EQ(secret.reveal(), "hidden");
  EXPECT_FALSE(secret.empty());
  EXPECT_TRUE(Secret().empty());
  EXPECT_EQ(secret, Secret("hidden"));
}

}  // namespace
}  // namespace tessera
