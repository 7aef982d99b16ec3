// The map against std::map, and what a change of it leaves untouched.
#include "pool/settings_map.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <map>
#include <random>
#include <set>

#include "pool/settings.hpp"

namespace tessera::pool {
namespace {

using Model = std::map<std::string, std::string>;

std::string name_of(int number) {
  return "name" + std::to_string(number);
}

// Entries of `after` that are not the very ones of `before`: what had to be made anew.
std::size_t made_anew(const SettingsMap& before, const SettingsMap& after) {
  std::set<const void*> known;
  for (const auto& entry : before) known.insert(&entry);
  std::size_t count = 0;
  for (const auto& entry : after) count += known.contains(&entry) ? 0 : 1;
  return count;
}

TEST(SettingsMap, RandomChangesAgreeWithAModel) {
  std::mt19937 random(20261128);
  const auto pick = [&](int n) { return std::uniform_int_distribution<int>(0, n - 1)(random); };
  for (int round = 0; round < 200; ++round) {
    const int names = 1 + pick(200);
    SettingsMap map, earlier;
    Model model, model_earlier;
    for (int step = 0; step < 500; ++step) {
      const std::string name = name_of(pick(names));
      if (pick(3) == 0) {
        map.erase(name);
        model.erase(name);
      } else {
        const std::string value = std::to_string(pick(3));
        map.set(name, value);
        model[name] = value;
      }
      ASSERT_EQ(map.size(), model.size());
      ASSERT_EQ(map.contains(name), model.contains(name));
      if (pick(50) == 0) {
        earlier = map;
        model_earlier = model;
      }
    }
    ASSERT_THAT(map, testing::ElementsAreArray(model));
    ASSERT_THAT(earlier, testing::ElementsAreArray(model_earlier)) << "a copy has changed with the original";
    ASSERT_EQ(map == earlier, model == model_earlier);
    std::vector<std::string> told, expected;
    for (const auto& change : SettingsMap::differences(earlier, map))
      told.push_back(std::string(change.name) + (change.before ? *change.before : "-") +
                     (change.after ? *change.after : "-"));
    for (int i = 0; i < names; ++i) {
      const std::string name = name_of(i);
      const std::string was = model_earlier.contains(name) ? model_earlier[name] : "-";
      const std::string is = model.contains(name) ? model[name] : "-";
      if (was != is) expected.push_back(name + was + is);
    }
    std::ranges::sort(expected);
    std::ranges::sort(told);
    ASSERT_EQ(told, expected);
  }
}

TEST(SettingsMap, EqualWhateverTheOrderTheyCameIn) {
  SettingsMap up, down;
  for (int i = 0; i < 1000; ++i) up.set(name_of(i), "v");
  for (int i = 999; i >= 0; --i) down.set(name_of(i), "v");
  EXPECT_EQ(up, down);
  EXPECT_EQ(up.hash(), down.hash());
  down.set("name7", "w");
  EXPECT_NE(up, down);
  down.set("name7", "v");
  EXPECT_EQ(up, down);
}

TEST(SettingsMap, AChangeLeavesAllButAFewEntriesWhereTheyAre) {
  SettingsMap map;
  for (int i = 0; i < 10'000; ++i) map.set(name_of(i), "v");
  for (const int number : {0, 5'000, 9'999, 20'000}) {
    SettingsMap changed = map;
    changed.set(name_of(number), "w");
    EXPECT_LE(made_anew(map, changed), 20u);
    changed = map;
    changed.erase(name_of(number));
    EXPECT_LE(made_anew(map, changed), 20u);
  }
}

// A SET costs the same whether the session has set ten names or ten thousand; each savepoint keeps a map of its own.
TEST(SettingsMap, ATrackersSetLeavesAllButAFewEntriesWhereTheyAre) {
  SettingsTracker tracker;
  tracker.begin();
  for (int i = 0; i < 10'000; ++i) tracker.set(name_of(i), "v");
  const Settings before = tracker.current();
  tracker.savepoint("s");
  tracker.set("another", "v");
  EXPECT_LE(made_anew(*before, *tracker.current()), 20u);
  tracker.reset("name77");
  EXPECT_LE(made_anew(*before, *tracker.current()), 40u);
  EXPECT_EQ(settings_change(*before, *tracker.current()), "RESET \"name77\";v;");
  tracker.rollback_to("s");
  EXPECT_EQ(tracker.current(), before);
}

}  // namespace
}  // namespace tessera::pool
