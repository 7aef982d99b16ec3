#include "proxy/undo_log.hpp"

#include <gtest/gtest.h>

namespace tessera::proxy {
namespace {

TEST(UndoLog, KeepsEntriesUnderTagsOfTheirOwn) {
  UndoLog log;
  std::uint32_t first = 0, second = 0;
  log.add(1, first).name = "a";
  log.add(1, second).name = "b";
  EXPECT_NE(first, second);
  EXPECT_NE(first, 0u);  // which means: none
  EXPECT_FALSE(UndoLog::is_unnamed(first));
  ASSERT_NE(log.find(first), nullptr);
  EXPECT_EQ(log.find(first)->name, "a");
  log.forget(first);
  log.forget(first);
  EXPECT_EQ(log.find(first), nullptr);
  EXPECT_EQ(log.find(second)->name, "b");
  log.forget(second);
  EXPECT_TRUE(log.empty());
}

TEST(UndoLog, CountsWhatItsEntriesHold) {
  UndoLog log;
  std::uint32_t large = 0, small = 0;
  log.charge(log.add(1, large), 1000);
  log.charge(log.add(1, small), 10);
  EXPECT_EQ(log.bytes(), 1010u);
  log.forget(large);
  EXPECT_EQ(log.bytes(), 10u);
  log.clear();
  EXPECT_EQ(log.bytes(), 0u);
}

TEST(UndoLog, PlanningWaitsForAllThatDelayIt) {
  UndoLog log;
  std::uint32_t first = 0, second = 0;
  Undo& twice = log.add(1, first);
  log.delay_planning(twice);
  log.delay_planning(twice);
  log.delay_planning(log.add(1, second));
  log.forget(first);
  EXPECT_TRUE(log.delays_planning());
  log.forget(second);
  EXPECT_FALSE(log.delays_planning());
  log.delay_planning(log.add(1, first));
  log.clear();
  EXPECT_FALSE(log.delays_planning());
}

TEST(UndoLog, KnowsWhichNamesEarlierUnitsRedefine) {
  UndoLog log;
  std::uint32_t tag = 0;
  Undo& entry = log.add(7, tag);
  entry.named = true;
  entry.name = "s";
  EXPECT_TRUE(log.redefines("s", 8));
  EXPECT_FALSE(log.redefines("s", 7));  // what skips that one skips this one
  EXPECT_FALSE(log.redefines("t", 8));
}

}  // namespace
}  // namespace tessera::proxy
