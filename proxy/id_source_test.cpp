#include "proxy/id_source.hpp"

#include <algorithm>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <numeric>
#include <set>

#include "proxy/id_sources.hpp"

namespace tessera::proxy {
namespace {

using namespace std::chrono_literals;
using testing::ElementsAre;
using Numbers = IdSource::Numbers;

// A sequence, and somebody who fetches at once what is to be fetched.
struct Served {
  IdSource source;
  TimePoint now{1h};
  std::int64_t next = 1;
  std::vector<std::size_t> fetches;

  Numbers block(std::size_t count) {
    Numbers numbers(count);
    std::iota(numbers.begin(), numbers.end(), next);
    next += static_cast<std::int64_t>(count);
    return numbers;
  }
  void serve() {
    for (std::size_t count = source.fetch(now); count > 0; count = source.fetch(now)) {
      fetches.push_back(count);
      source.fetched(block(count));
    }
  }
  Numbers get(std::size_t count = 1) {
    Numbers got;
    if (auto taken = source.take(count, now))
      got = *taken;
    else
      source.ask(count, now, [&got](Result<Numbers> numbers) { got = numbers.value(); });
    serve();
    return got;
  }
};

TEST(IdSource, GrowsWithDemandAndGivesEachNumberOnce) {
  Served one;
  for (std::int64_t i = 1; i <= 2000; ++i) EXPECT_THAT(one.get(), ElementsAre(i));
  EXPECT_THAT(std::vector(one.fetches.begin(), one.fetches.begin() + 4), ElementsAre(1u, 2u, 4u, 8u));
  EXPECT_EQ(*std::ranges::max_element(one.fetches), IdSource::longest_block);
  EXPECT_LT(one.fetches.size(), 20u);
}

TEST(IdSource, LeavesNoGapsWhereLittleIsAskedFor) {
  Served one;
  for (std::int64_t i = 1; i <= 20; ++i) {
    EXPECT_THAT(one.get(), ElementsAre(i));
    one.now += 2s;
  }
  EXPECT_THAT(one.fetches, testing::Each(1u));
}

TEST(IdSource, WhatIsNotUsedSoonIsVoid) {
  Served one;
  for (int i = 0; i < 5; ++i) one.get();  // 1, 2 3, 4 5 6 7
  one.now += 1s;
  EXPECT_THAT(one.get(), ElementsAre(8));
  EXPECT_EQ(one.fetches.back(), 2u) << "as many as were used of the last";
}

TEST(IdSource, ManyAtOnceAreOfOneRequest) {
  Served one;
  EXPECT_THAT(one.get(3), ElementsAre(1, 2, 3));
  EXPECT_THAT(one.get(2), ElementsAre(4, 5));
  EXPECT_THAT(one.fetches, ElementsAre(3u, 2u));
}

TEST(IdSource, WhoeverCameFirstIsServedFirst) {
  IdSource source;
  const TimePoint now{1h};
  std::vector<int> served;
  Numbers large, small;
  source.ask(3, {}, [&](Result<Numbers> numbers) { served.push_back(1), large = *numbers; });
  EXPECT_EQ(source.fetch(now), 3u);
  source.ask(1, {}, [&](Result<Numbers> numbers) { served.push_back(2), small = *numbers; });
  EXPECT_FALSE(source.take(1, now));
  source.fetched(Numbers{5, 6});
  EXPECT_THAT(served, ElementsAre()) << "the first is not passed over";
  EXPECT_EQ(source.fetch(now), 2u);
  source.fetched(Numbers{7, 8});
  EXPECT_THAT(served, ElementsAre(1, 2));
  EXPECT_THAT(large, ElementsAre(5, 6, 7));
  EXPECT_THAT(small, ElementsAre(8));
}

TEST(IdSource, ASequenceThatIsSetMakesVoidWhatIsHereAndOnItsWay) {
  Served one;
  for (int i = 0; i < 5; ++i) one.get();
  one.source.forget();
  one.next = 100;
  EXPECT_THAT(one.get(), ElementsAre(100));
  Numbers got;
  one.source.ask(1, one.now, [&](Result<Numbers> numbers) { got = *numbers; });
  const std::size_t count = one.source.fetch(one.now);
  const Numbers old = one.block(count);
  one.source.forget();
  one.next = 500;
  one.source.fetched(old);
  EXPECT_TRUE(got.empty()) << "it goes on waiting";
  one.serve();
  EXPECT_THAT(got, ElementsAre(500));
}

TEST(IdSource, AnErrorIsToldToAllWhoWaitAndNobodyElse) {
  Served one;
  std::vector<std::string> told;
  const auto note = [&](Result<Numbers> numbers) { told.push_back(numbers ? "number" : numbers.error().message); };
  one.source.ask(1, one.now, note);
  one.source.ask(2, one.now, note);
  EXPECT_EQ(one.source.fetch(one.now), 3u);
  one.source.fetched(fail(SqlState("2200H"), "reached the maximum"));
  EXPECT_THAT(told, ElementsAre("reached the maximum", "reached the maximum"));
  EXPECT_THAT(one.get(), ElementsAre(1));
}

TEST(IdSource, FewerThanAskedForAreUsedBeforeTheError) {
  Served one;
  for (int i = 0; i < 3; ++i) one.get();
  std::vector<Numbers> got;
  const auto note = [&](Result<Numbers> numbers) { got.push_back(numbers.value_or(Numbers{})); };
  one.source.ask(1, one.now, note);
  EXPECT_EQ(one.source.fetch(one.now), 4u);
  one.source.fetched(Numbers{9, 10});
  one.source.ask(2, one.now, note);
  EXPECT_EQ(one.source.fetch(one.now), 8u);
  one.source.fetched(fail(SqlState("2200H"), "reached the maximum"));
  EXPECT_THAT(got, ElementsAre(Numbers{9}, Numbers{}));
  EXPECT_THAT(one.source.take(1, one.now).value(), ElementsAre(10));
}

TEST(IdSources, AnIdHasItsTimeItsShardAndANumber) {
  const Numbers ids = IdSources::ids_from(147'171'961'083, 6752, 2050);
  EXPECT_EQ(ids[277], 1234567890123456789) << "see `tessera id` in docs/operations.md";
  EXPECT_EQ(ids[1024] >> 23, (ids[0] >> 23) + 1);
  EXPECT_EQ(ids[2049] & 1023, 1);
  EXPECT_EQ(std::set(ids.begin(), ids.end()).size(), ids.size());
}

}  // namespace
}  // namespace tessera::proxy
