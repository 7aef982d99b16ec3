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

TEST(UndoLog, WhatIsSkippedBehindHasNothingToBringBack) {
  UndoLog log;
  std::uint32_t tags[3] = {};
  for (std::uint32_t& tag : tags) {
    Undo& entry = log.add(7, tag);
    entry.named = true;
    entry.name = "s";
  }
  EXPECT_EQ(log.first_redefinition("s"), log.find(tags[0]));
  EXPECT_EQ(log.first_redefinition("other"), nullptr);
  log.drop_redefinitions_behind(tags[1], "s");
  EXPECT_TRUE(log.find(tags[0])->named);
  EXPECT_TRUE(log.find(tags[1])->named);
  EXPECT_FALSE(log.find(tags[2])->named);
  log.drop_redefinitions_behind(tags[0], "other");
  EXPECT_TRUE(log.find(tags[1])->named);
}

TEST(UndoLog, NobodyGoesBackToAParseThatHasFailed) {
  UndoLog log;
  std::uint32_t first = 0, second = 0;
  for (std::uint32_t* tag : {&first, &second}) {
    Undo& entry = log.add(7, *tag);
    entry.was_on_backend = true;
    entry.sent_before = tag == &first ? 100 : 101;
  }
  log.unnamed_failed(101);
  EXPECT_TRUE(log.find(first)->was_on_backend);
  EXPECT_FALSE(log.find(second)->was_on_backend);
}

TEST(UndoLog, KnowsWhatIsStillBeingPrepared) {
  UndoLog log;
  std::uint32_t first = 0, second = 0;
  log.add(7, first).server_name = "tessera_1";
  EXPECT_TRUE(log.prepares_before("tessera_1", 8));
  EXPECT_FALSE(log.prepares_before("tessera_1", 7));
  EXPECT_FALSE(log.prepares_before("tessera_2", 8));
  EXPECT_FALSE(log.prepares("tessera_1", first));
  log.add(8, second).server_name = "tessera_1";
  EXPECT_TRUE(log.prepares("tessera_1", first));
  EXPECT_TRUE(log.prepares("tessera_1", second));
  log.forget(first);
  EXPECT_FALSE(log.prepares("tessera_1", second));
}

}  // namespace
}  // namespace tessera::proxy
