// The pure decisions of a pool: when to connect, how many, what to do with idle connections, what a server may hold.
#include "pool/pool_policy.hpp"

#include <deque>
#include <gtest/gtest.h>
#include <random>

#include "pool/prepared_cache.hpp"

namespace tessera::pool {
namespace {

using namespace std::chrono_literals;
constexpr TimePoint start{1000s};

TEST(Backoff, DoublesUpToTheMaximumAndForgetsAfterASuccess) {
  Backoff backoff(100ms, 1s);
  EXPECT_TRUE(backoff.may_try(TimePoint::min()));
  TimePoint now = start;
  for (const Duration wanted : {100ms, 200ms, 400ms, 800ms, 1000ms, 1000ms}) {
    backoff.failed(now);
    EXPECT_EQ(backoff.delay(), wanted);
    EXPECT_FALSE(backoff.may_try(now + wanted - 1ns));
    EXPECT_TRUE(backoff.may_try(now + wanted));
    now += wanted;
  }
  backoff.succeeded();
  EXPECT_TRUE(backoff.may_try(start));
  backoff.failed(now);
  EXPECT_EQ(backoff.delay(), 100ms);
}

TEST(Backoff, ConnectsThatFailTogetherCountOnce) {
  Backoff backoff(100ms, 10s);
  for (int i = 0; i < 20; ++i) backoff.failed(start + i * 1ms);
  EXPECT_EQ(backoff.delay(), 100ms);
  backoff.failed(start + 100ms);
  EXPECT_EQ(backoff.delay(), 200ms);
}

TEST(ConnectionsWanted, OneForEachWaiterThatNobodyServes) {
  EXPECT_EQ(connections_wanted({.waiting = 3}, 0), 3);
  EXPECT_EQ(connections_wanted({.connecting = 2, .waiting = 3}, 0), 1);
  EXPECT_EQ(connections_wanted({.connecting = 5, .waiting = 3}, 0), 0);
  EXPECT_EQ(connections_wanted({.idle = 0, .busy = 7}, 0), 0);
}

TEST(ConnectionsWanted, FillsUpToMinIdle) {
  EXPECT_EQ(connections_wanted({}, 4), 4);
  EXPECT_EQ(connections_wanted({.idle = 1, .busy = 9, .connecting = 1}, 4), 2);
  EXPECT_EQ(connections_wanted({.idle = 5}, 4), 0);
  EXPECT_EQ(connections_wanted({.waiting = 6}, 4), 6);
}

config::Pool limits() {
  config::Pool pool;
  pool.max_lifetime = 1h;
  pool.idle_timeout = 10min;
  pool.health_interval = 30s;
  return pool;
}
IdleAction action(const config::Pool& pool, Duration age, Duration idle, Duration unheard, bool surplus) {
  const TimePoint now = start + 10h;
  return idle_action(pool, now, now - age, now - idle, now - unheard, surplus);
}

TEST(IdleAction, ChecksWhatWasNotHeardOf) {
  EXPECT_EQ(action(limits(), 5min, 29s, 29s, true), IdleAction::keep);
  EXPECT_EQ(action(limits(), 5min, 30s, 30s, true), IdleAction::check);
  EXPECT_EQ(action(limits(), 5min, 300s, 5s, true), IdleAction::keep) << "it was checked 5 s ago";
}

TEST(IdleAction, ClosesWhatNobodyUses) {
  EXPECT_EQ(action(limits(), 30min, 10min, 5s, true), IdleAction::close) << "health checks are no use";
  EXPECT_EQ(action(limits(), 30min, 10min - 1ns, 5s, true), IdleAction::keep);
  EXPECT_EQ(action(limits(), 30min, 10min, 5s, false), IdleAction::keep) << "min_idle stays";
  EXPECT_EQ(action(limits(), 1h, 1s, 1s, false), IdleAction::close) << "too old";
  EXPECT_EQ(action(limits(), 1h - 1ns, 1s, 1s, false), IdleAction::keep);
}

TEST(IdleAction, ZeroMeansNever) {
  config::Pool never_at_all = limits();
  never_at_all.max_lifetime = never_at_all.idle_timeout = never_at_all.health_interval = 0ms;
  EXPECT_EQ(action(never_at_all, 9h, 9h, 9h, true), IdleAction::keep);
}

TEST(IsPermanent, WhatWaitingWillNotCure) {
  for (const char* code : {"28000", "28P01", "3D000", "42501"}) EXPECT_TRUE(is_permanent(code)) << code;
  for (const char* code : {"53300", "57P03", "08006", "08P01", "XX000", ""}) EXPECT_FALSE(is_permanent(code)) << code;
}

// ---- prepared statements --------------------------------------------------------------------------------------------

TEST(PreparedText, NamesDependOnTextTypesAndSettingsAndNothingElse) {
  const PreparedTextRef one = make_prepared_text("SELECT $1", {23});
  EXPECT_EQ(one->sql, "SELECT $1");
  EXPECT_EQ(one->types, std::vector<std::uint32_t>{23});
  EXPECT_EQ(one->server_name.size(), prepared_prefix.size() + 32);
  EXPECT_TRUE(one->server_name.starts_with(prepared_prefix));
  EXPECT_EQ(one->server_name, make_prepared_text("SELECT $1", {23})->server_name);
  EXPECT_NE(one->server_name, make_prepared_text("SELECT $1", {20})->server_name);
  EXPECT_NE(one->server_name, make_prepared_text("SELECT $1", {})->server_name);
  EXPECT_NE(one->server_name, make_prepared_text("SELECT $1 ", {23})->server_name);
  EXPECT_NE(one->server_name, make_prepared_text("SELECT $1", {23}, "a")->server_name);
  EXPECT_NE(make_prepared_text("SELECT $1", {23}, {}, "a")->server_name,
            make_prepared_text("SELECT $1", {23}, "a")->server_name);
}

// Nobody can make up a text that goes by the name of another text with other types.
TEST(PreparedText, TextCannotPoseAsTypes) {
  const PreparedTextRef victim = make_prepared_text("SELECT 1", {0x2a2a2f00});
  EXPECT_NE(make_prepared_text(std::string("/**\1SELECT 1"), {})->server_name, victim->server_name);
  const std::vector<std::uint32_t> many(257, 25);
  EXPECT_NE(make_prepared_text("x", many)->server_name, make_prepared_text("x", {25})->server_name);
}

TEST(PreparedCache, EvictsTheLeastRecentlyUsed) {
  PreparedCache cache(3);
  EXPECT_FALSE(cache.contains("a"));
  EXPECT_EQ(cache.insert("a"), std::nullopt);
  EXPECT_EQ(cache.insert("b"), std::nullopt);
  EXPECT_EQ(cache.insert("c"), std::nullopt);
  EXPECT_EQ(cache.insert("a"), std::nullopt) << "known already: used";
  EXPECT_TRUE(cache.contains("b"));
  EXPECT_EQ(cache.insert("d"), "c");
  EXPECT_FALSE(cache.contains("c"));
  EXPECT_EQ(cache.size(), 3u);
  cache.erase("a");
  cache.erase("unknown");
  EXPECT_EQ(cache.insert("e"), std::nullopt) << "there is room again";
  cache.clear();
  EXPECT_EQ(cache.size(), 0u);
  EXPECT_FALSE(cache.contains("b"));
}

TEST(PreparedCache, AgreesWithANaiveList) {
  std::mt19937 random(3);
  PreparedCache cache(8);
  std::deque<std::string> model;
  for (int i = 0; i < 100'000; ++i) {
    const std::string name = std::to_string(random() % 20);
    const auto at = std::find(model.begin(), model.end(), name);
    const bool known = at != model.end();
    switch (random() % 8) {
      case 0:
        cache.erase(name);
        if (known) model.erase(at);
        break;
      case 1:
      case 2:
      case 3:
        ASSERT_EQ(cache.contains(name), known);
        if (known) {
          model.erase(at);
          model.push_front(name);
        }
        break;
      default: {
        std::optional<std::string> evicted;
        if (known) {
          model.erase(at);
        } else if (model.size() == 8) {
          evicted = model.back();
          model.pop_back();
        }
        model.push_front(name);
        ASSERT_EQ(cache.insert(name), evicted);
      }
    }
    ASSERT_EQ(cache.size(), model.size());
  }
}

}  // namespace
}  // namespace tessera::pool
