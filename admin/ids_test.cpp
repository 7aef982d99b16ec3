#include "admin/ids.hpp"

#include <gtest/gtest.h>
#include <limits>

namespace tessera::admin::ids {
namespace {

TEST(Ids, TakesAnIdApart) {
  const std::int64_t id = (std::int64_t{147'000'000'000} << 23) | (5 << 10) | 7;
  EXPECT_EQ(take_apart(id), (Parts{epoch + 147'000'000'000, 5, 7}));
  EXPECT_EQ(take_apart(0), (Parts{epoch, 0, 0}));
  // All 41 bits of time, as a bigint negative.
  EXPECT_EQ(take_apart(-1), (Parts{epoch + (std::int64_t{1} << 41) - 1, 8191, 1023}));
  EXPECT_EQ(take_apart(std::int64_t{1} << 23, 0).time_ms, 1);
}

TEST(Ids, ReadsIds) {
  EXPECT_EQ(parse_id("1234567890123456789"), 1234567890123456789);
  EXPECT_EQ(parse_id("-9223372036854775808"), std::numeric_limits<std::int64_t>::min());
  for (const char* bad : {"", " 1", "1 ", "+1", "0x10", "1.5", "9223372036854775808", "abc", "--1"}) {
    const auto read = parse_id(bad);
    ASSERT_FALSE(read) << bad;
    EXPECT_EQ(read.error().message, "\"" + std::string(bad) + "\" is not an id");
  }
}

TEST(Ids, ReadsEpochs) {
  EXPECT_EQ(parse_epoch("2020-01-01"), epoch);
  EXPECT_EQ(parse_epoch("1314220021721"), 1314220021721);
  EXPECT_EQ(parse_epoch("0"), 0);
  for (const char* bad : {"", "2020-02-30", "2020-1-1", "1969-12-31", "-1", "2020-01-01T00", "99999999999999", "soon"})
    EXPECT_FALSE(parse_epoch(bad)) << bad;
}

TEST(Ids, WritesTimes) {
  EXPECT_EQ(time_text(epoch), "2020-01-01T00:00:00.000Z");
  EXPECT_EQ(time_text(951'827'696'789), "2000-02-29T12:34:56.789Z");
}

}  // namespace
}  // namespace tessera::admin::ids
