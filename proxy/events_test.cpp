#include "proxy/events.hpp"

#include <fmt/format.h>
#include <gtest/gtest.h>

namespace tessera::proxy {
namespace {

TEST(Events, AreKeptInOrder) {
  Events events;
  events.add("info", "started", {{"version", "1"}});
  events.add("warn", "login failed", {{"user", "a"}, {"long", std::string(5'000, 'x')}});
  const std::vector<Event> all = events.after(0);
  ASSERT_EQ(all.size(), 2u);
  EXPECT_EQ(all[0].text, "started");
  EXPECT_EQ(all[1].fields[0], std::pair(std::string("user"), std::string("a")));
  EXPECT_EQ(all[1].fields[1].second.size(), 1'000u);
  EXPECT_EQ(events.after(all[0].id).size(), 1u);
  EXPECT_TRUE(events.after(all[1].id).empty());
}

TEST(Events, AFloodOfOneKindLeavesTheOthers) {
  Events events;
  events.add("info", "started", {});
  for (int i = 0; i < 5'000; ++i) events.add("warn", "login failed", {{"n", std::to_string(i)}});
  const std::vector<Event> all = events.after(0);
  ASSERT_EQ(all.size(), 1 + Events::most_of_a_kind);
  EXPECT_EQ(all.front().text, "started");
  EXPECT_EQ(all.back().fields[0].second, "4999");
}

TEST(Events, AreBounded) {
  Events events;
  for (int i = 0; i < 5'000; ++i) events.add("info", fmt::format("kind {}", i), {});
  const std::vector<Event> all = events.after(0);
  ASSERT_EQ(all.size(), Events::most);
  EXPECT_EQ(all.front().id, 4'001u);
}

}  // namespace
}  // namespace tessera::proxy
