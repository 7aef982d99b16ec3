#include "router/plan_cache.hpp"

#include <gtest/gtest.h>

namespace tessera::router {
namespace {

PlanCache::Key key(std::uint64_t number) {
  return {number, number * 31, 0};
}
PlannedTextRef text() {
  return std::make_shared<PlannedText>();
}

TEST(PlanCache, FindsWhatWasPutIn) {
  PlanCache cache(4);
  const PlannedTextRef first = text(), second = text();
  cache.insert(key(1), first);
  ASSERT_NE(cache.find(key(1)), nullptr);
  EXPECT_EQ(*cache.find(key(1)), first);
  cache.insert(key(1), second);
  EXPECT_EQ(*cache.find(key(1)), second);
  EXPECT_EQ(cache.find(key(2)), nullptr);
  EXPECT_EQ(cache.size(), 1u);
  EXPECT_EQ(cache.hits(), 3u);
  EXPECT_EQ(cache.misses(), 1u);
  cache.clear();
  EXPECT_EQ(cache.find(key(1)), nullptr);
}

TEST(PlanCache, AFloodOfNewShapesLeavesThoseThatAreUsed) {
  PlanCache cache(100);
  for (std::uint64_t hot = 0; hot < 50; ++hot) cache.insert(key(hot), text());
  for (std::uint64_t shape = 1000; shape < 11000; ++shape) {
    cache.insert(key(shape), text());
    ASSERT_LE(cache.size(), 100u);
    if (shape % 10 == 0)
      for (std::uint64_t hot = 0; hot < 50; ++hot) ASSERT_NE(cache.find(key(hot)), nullptr) << shape;
  }
  EXPECT_NE(cache.find(key(10999)), nullptr) << "the newest is there";
  EXPECT_EQ(cache.find(key(1000)), nullptr);
}

TEST(PlanCache, IsFullOfUsedOnesAndGoesOn) {
  PlanCache cache(10);
  for (std::uint64_t number = 0; number < 1000; ++number) {
    cache.insert(key(number), text());
    ASSERT_NE(cache.find(key(number)), nullptr);
    ASSERT_LE(cache.size(), 10u);
  }
  cache.clear();
  for (std::uint64_t number = 0; number < 30; ++number) cache.insert(key(number), text());
  EXPECT_EQ(cache.size(), 10u);
}

}  // namespace
}  // namespace tessera::router
