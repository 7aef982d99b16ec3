// Leases, cleaning, the queue and what is not trusted any more.
#include "pool/pool_fixture.hpp"

namespace tessera::pool {
namespace {

using namespace script;
using testing::ElementsAre;
using testing::HasSubstr;

TEST_F(PoolTest, LogsInAndLeases) {
  make();
  Client client;
  EXPECT_FALSE(checkout(client)) << "the first has to be opened";
  ASSERT_TRUE(lane_.eventually([&] { return client.backend != nullptr; }));
  lane_.on([&] {
    EXPECT_EQ(client.backend->parameters().at("TimeZone"), "UTC");
    EXPECT_EQ(client.backend->pid(), 101u);
    EXPECT_EQ(client.backend->cancel_key(), FakeServer::key_of(101));
    EXPECT_EQ(client.backend->state(), Backend::State::leased);
    EXPECT_EQ(pool_->sample(), client.backend);
    client.query("SELECT 1");
  });
  ASSERT_TRUE(lane_.eventually([&] { return client.idle(); }));
  EXPECT_EQ(client.relayed, complete("OK") + ready());
  EXPECT_EQ(counts().busy, 1);
  checkin(client);
  EXPECT_EQ(counts().idle, 1);
  EXPECT_EQ(counts().busy, 0);
  Client second;
  EXPECT_TRUE(checkout(second)) << "at once";
  EXPECT_EQ(lane_.on([&] { return second.backend->pid(); }), 101u);
  EXPECT_EQ(totals().connects, 1u);
  EXPECT_EQ(totals().checkouts, 2u);
  EXPECT_EQ(totals().waits, 1u);
  EXPECT_EQ(server_.queries(), std::vector<std::string>{"SELECT 1"}) << "nothing of our own on a clean connection";
}

// No event follows when the owner itself makes room: what is still in the kernel must be read all the same.
TEST_F(PoolTest, AnOwnerThatWasCongestedForAMomentGetsTheRest) {
  std::string big;
  for (int i = 0; i < 400'000; ++i) big += row();
  server_.answer("big", big + complete() + ready());
  make();
  Client client;
  obtain(client);
  lane_.on([&] {
    client.congested_above = 0;
    client.query("big");
  });
  ASSERT_TRUE(lane_.eventually([&] { return client.idle(); }));
  EXPECT_EQ(client.relayed, big + complete() + ready());
  checkin(client);
}

TEST_F(PoolTest, DirtyConnectionsAreResetBeforeTheirNextClient) {
  config::Pool limits = default_limits();
  limits.size = 1;
  make(limits);
  Client first, second;
  obtain(first);
  EXPECT_FALSE(checkout(second));
  lane_.on([&] { first.backend->mark_dirty(); });
  lane_.on([&] { EXPECT_EQ(first.backend->prepared().insert("x"), std::nullopt); });
  lane_.on([&] {
    pool_->checkin(*std::exchange(first.backend, nullptr), false);
    EXPECT_EQ(second.backend, nullptr) << "not before it is clean";
  });
  ASSERT_TRUE(lane_.eventually([&] { return second.backend != nullptr; }));
  EXPECT_THAT(server_.queries(), ElementsAre("DISCARD ALL"));
  lane_.on([&] {
    EXPECT_FALSE(second.backend->dirty());
    EXPECT_FALSE(second.backend->prepared().contains("x"));
  });
  checkin(second, true);
  ASSERT_TRUE(eventually_counts(1, 0));
  EXPECT_EQ(server_.times_asked("DISCARD ALL"), 2u) << "the caller may ask for it too";
}

TEST_F(PoolTest, TheConfiguredResetQueryFollows) {
  config::Pool limits = default_limits();
  limits.reset_query = "SELECT my_reset()";
  make(limits);
  Client client;
  obtain(client);
  checkin(client);
  ASSERT_TRUE(eventually_counts(1, 0));
  EXPECT_THAT(server_.queries(), ElementsAre("DISCARD ALL", "SELECT my_reset()"));
}

TEST_F(PoolTest, AFailedResetDestroys) {
  make();
  server_.answer("DISCARD ALL", error("0A000") + ready());
  Client client;
  obtain(client);
  checkin(client, true);
  ASSERT_TRUE(eventually_counts(0, 0));
  EXPECT_EQ(totals().closed, 1u);
  EXPECT_EQ(budget_->open(), 0);
}

TEST_F(PoolTest, AResetThatLeavesATransactionOpenDestroys) {
  make();
  server_.answer("DISCARD ALL", complete("DISCARD ALL") + ready('T'));
  Client client;
  obtain(client);
  checkin(client, true);
  ASSERT_TRUE(eventually_counts(0, 0));
}

TEST_F(PoolTest, AResetThatIsNotAnsweredDestroys) {
  make();
  server_.answer("DISCARD ALL", "");
  Client client;
  obtain(client);
  checkin(client, true);
  sweep(9s);
  EXPECT_EQ(counts().busy, 1);
  sweep(11s);
  EXPECT_EQ(counts().busy, 0);
  EXPECT_EQ(budget_->open(), 0);
}

TEST_F(PoolTest, WhatIsNotUnderstoodDoesNotComeBack) {
  make();
  server_.answer("BEGIN", complete("BEGIN") + ready('T'));
  server_.answer("SELECT pg_sleep(100)", "");
  for (const char* sql : {"BEGIN", "SELECT pg_sleep(100)"}) {
    Client client;
    obtain(client);
    lane_.on([&] { client.query(sql); });
    if (std::string_view(sql) == "BEGIN") ASSERT_TRUE(lane_.eventually([&] { return client.idle(); }));
    checkin(client);
    EXPECT_EQ(counts().idle, 0) << sql;
    EXPECT_EQ(budget_->open(), 0) << sql;
  }
}

TEST_F(PoolTest, UnexpectedBytesDestroyALeasedConnection) {
  make();
  Client client;
  obtain(client);
  server_.say(complete("GHOST"));
  ASSERT_TRUE(lane_.eventually([&] { return client.backend == nullptr; }));
  EXPECT_THAT(client.events.back(), HasSubstr("the server broke the protocol: unexpected message 'C'"));
  EXPECT_EQ(client.relayed, "");
  EXPECT_EQ(counts().busy, 0);
  EXPECT_EQ(budget_->open(), 0);
}

TEST_F(PoolTest, UnexpectedBytesDestroyAnIdleConnection) {
  make();
  Client client;
  obtain(client);
  checkin(client);
  server_.say(row());
  ASSERT_TRUE(eventually_counts(0, 0));
}

TEST_F(PoolTest, ALeftoverAnswerDestroys) {
  make();
  server_.answer("SELECT 1", complete() + ready() + complete() + ready());
  Client client;
  obtain(client);
  lane_.on([&] { client.query("SELECT 1"); });
  ASSERT_TRUE(lane_.eventually([&] { return client.backend == nullptr; }));
  EXPECT_EQ(client.relayed, complete() + ready());
}

TEST_F(PoolTest, AsynchronousMessagesDoNotDisturbAnIdleConnection) {
  make();
  Client client;
  obtain(client);
  checkin(client);
  server_.say(parameter("TimeZone", "CET") + notice() + notification());
  ASSERT_TRUE(lane_.eventually(
      [&] { return pool_->sample() != nullptr && pool_->sample()->parameters().at("TimeZone") == "CET"; }));
  EXPECT_EQ(counts().idle, 1);
}

TEST_F(PoolTest, TheServersDeathIsNoticed) {
  make();
  Client leased, other;
  obtain(leased);
  obtain(other);
  checkin(other);
  server_.hang_up();
  ASSERT_TRUE(eventually_counts(0, 0));
  EXPECT_THAT(leased.events.back(), testing::StartsWith("lost: connection to shard \"s0\" was lost"));
  obtain(leased);
}

// ---- the queue ------------------------------------------------------------------------------------------------------

TEST_F(PoolTest, WaitersAreServedInTheirOrder) {
  config::Pool limits = default_limits();
  limits.size = 1;
  make(limits);
  Client holder, first, second, third;
  obtain(holder);
  EXPECT_FALSE(checkout(first));
  EXPECT_FALSE(checkout(second));
  EXPECT_FALSE(checkout(third));
  EXPECT_EQ(counts().waiting, 3);
  lane_.on([&] { pool_->forget(second); });
  checkin(holder);
  EXPECT_TRUE(first.backend != nullptr);
  EXPECT_FALSE(checkout(holder)) << "nobody overtakes";
  checkin(first);
  EXPECT_TRUE(third.backend != nullptr);
  EXPECT_TRUE(second.backend == nullptr && second.events.empty());
  EXPECT_EQ(totals().connects, 1u);
  checkin(third);
}

TEST_F(PoolTest, WaitingEndsAtTheDeadline) {
  config::Pool limits = default_limits();
  limits.size = 1;
  limits.checkout_timeout = 3000ms;
  make(limits);
  Client holder, waiter;
  obtain(holder);
  EXPECT_FALSE(checkout(waiter));
  EXPECT_GE(lane_.on([&] { return pool_->longest_wait(lane_.loop.now() + 1s); }), 1s);
  sweep(2000ms);
  EXPECT_FALSE(waiter.failure);
  sweep(4000ms);
  ASSERT_TRUE(waiter.failure);
  EXPECT_EQ(waiter.failure->code, sqlstate::too_many_connections);
  EXPECT_EQ(waiter.failure->message, "no connection to shard \"s0\" became free within 3000 ms");
  EXPECT_EQ(waiter.failure->detail, "all 1 connections of user \"alice\" are in use");
  EXPECT_EQ(totals().timeouts, 1u);
  EXPECT_EQ(counts().waiting, 0);
  EXPECT_EQ(lane_.on([&] { return pool_->longest_wait(lane_.loop.now()); }), Duration::zero());
  checkin(holder);
  EXPECT_EQ(waiter.backend, nullptr);
}

TEST_F(PoolTest, ZeroMeansWaitingForEver) {
  config::Pool limits = default_limits();
  limits.size = 1;
  limits.checkout_timeout = 0ms;
  make(limits);
  Client holder, waiter;
  obtain(holder);
  EXPECT_FALSE(checkout(waiter));
  sweep(1h - 1min);
  EXPECT_FALSE(waiter.failure);
  EXPECT_EQ(counts().waiting, 1);
}

}  // namespace
}  // namespace tessera::pool
