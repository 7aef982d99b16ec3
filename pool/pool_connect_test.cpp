// Connecting, failing to connect, and what becomes of idle connections.
#include "pool/pool_fixture.hpp"

namespace tessera::pool {
namespace {

using namespace script;
using testing::ElementsAre;
using testing::HasSubstr;

// ---- connecting -----------------------------------------------------------------------------------------------------

EndpointRef nobody_there() {
  auto made = std::make_shared<Endpoint>();
  made->name = "s0";
  // Bound and not listening: nobody else gets the port while the test runs, and connects are refused.
  static net::Descriptor bound;
  net::SocketAddress any = net::resolve("127.0.0.1", 0).value().front();
  bound = net::Descriptor(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  EXPECT_EQ(::bind(bound.get(), reinterpret_cast<const sockaddr*>(&any.storage), any.length), 0);
  socklen_t size = sizeof any.storage;
  ::getsockname(bound.get(), reinterpret_cast<sockaddr*>(&any.storage), &size);
  made->addresses = {any};
  made->database = "db";
  return made;
}

TEST_F(PoolTest, FailedConnectsBackOff) {
  config::Pool limits = default_limits();
  limits.reconnect_min = limits.reconnect_max = 1s;
  make(limits, nobody_there());
  Client client;
  EXPECT_FALSE(checkout(client));
  ASSERT_TRUE(lane_.eventually([&] { return pool_->totals().connect_failures == 1; }));
  EXPECT_THAT(lane_.on([&] { return pool_->last_error(); }), HasSubstr("cannot connect to shard \"s0\""));
  EXPECT_FALSE(lane_.on([&] { return pool_->healthy(); }));
  sweep();
  EXPECT_EQ(totals().connects, 1u) << "not again at once";
  EXPECT_FALSE(client.failure) << "and the client waits on";
  std::this_thread::sleep_for(1100ms);
  sweep();
  ASSERT_TRUE(lane_.eventually([&] { return pool_->totals().connect_failures == 2; }));
  EXPECT_EQ(budget_->open(), 0);
  sweep(6s);
  ASSERT_TRUE(client.failure);
  EXPECT_EQ(client.failure->code, sqlstate::connection_failure);
  EXPECT_THAT(client.failure->detail, HasSubstr("cannot connect"));
}

// Whoever meets a restart waits for its end; once the shard has been away for longer than anybody would wait, nobody
// waits for it any more, until an attempt succeeds.
TEST_F(PoolTest, AShardThatStaysAwayCostsNoWait) {
  config::Pool limits = default_limits();
  limits.checkout_timeout = 300ms;
  limits.reconnect_min = limits.reconnect_max = 10s;
  make(limits, nobody_there());
  Client first, second;
  EXPECT_FALSE(checkout(first));
  ASSERT_TRUE(lane_.eventually([&] { return pool_->totals().connect_failures == 1; }));
  sweep();
  EXPECT_FALSE(first.failure) << "it may come back";
  sweep(400ms);
  ASSERT_TRUE(first.failure);
  std::this_thread::sleep_for(350ms);
  EXPECT_FALSE(checkout(second));
  sweep();
  ASSERT_TRUE(second.failure) << "at once, not after 300 ms";
  EXPECT_EQ(second.failure->code, sqlstate::connection_failure);
  EXPECT_EQ(second.failure->message, "shard \"s0\" cannot be reached");
  EXPECT_THAT(second.failure->detail, HasSubstr("cannot connect"));
  EXPECT_EQ(totals().timeouts, 0u) << "the pool is not what is short";
  EXPECT_EQ(totals().connects, 1u);
}

TEST_F(PoolTest, ASecondAddressIsTried) {
  auto both = std::make_shared<Endpoint>(*server_.endpoint());
  both->addresses.insert(both->addresses.begin(), nobody_there()->addresses.front());
  make(default_limits(), both);
  Client client;
  obtain(client);
  EXPECT_EQ(totals().connect_failures, 0u);
  EXPECT_EQ(lane_.on([&] { return client.backend->address().text(); }), both->addresses.back().text());
}

TEST_F(PoolTest, RefusedLoginsFailAllWaitersAtOnce) {
  make();
  server_.login_with(fields('E', "FATAL", "28P01", "password authentication failed"));
  Client first, second;
  lane_.on([&] {
    EXPECT_FALSE(first.checkout(*pool_));
    EXPECT_FALSE(second.checkout(*pool_));
  });
  ASSERT_TRUE(lane_.eventually([&] { return first.failure && second.failure; }));
  EXPECT_EQ(first.failure->code.view(), "28P01");
  EXPECT_THAT(first.failure->message, HasSubstr("login to shard \"s0\" failed"));
  ASSERT_TRUE(eventually_counts(0, 0));
  server_.login_normally();
  checkout(first);
  ASSERT_TRUE(lane_.eventually([&] {
    pool_->sweep(lane_.loop.now());
    return first.backend != nullptr;
  }));
  EXPECT_TRUE(lane_.on([&] { return pool_->healthy(); }));
}

TEST_F(PoolTest, TemporaryRefusalsLetThemWait) {
  make();
  server_.login_with(fatal("57P03"));
  Client client;
  EXPECT_FALSE(checkout(client));
  ASSERT_TRUE(lane_.eventually([&] { return pool_->totals().connect_failures == 1; }));
  EXPECT_FALSE(client.failure);
  server_.login_normally();
  ASSERT_TRUE(lane_.eventually([&] {
    pool_->sweep(lane_.loop.now());
    return client.backend != nullptr;
  }));
}

TEST_F(PoolTest, ASilentServerCostsTheConnectTimeout) {
  make();
  server_.login_with("");
  Client client;
  EXPECT_FALSE(checkout(client));
  ASSERT_TRUE(lane_.eventually([&] { return server_.accepted() == 1; }));
  sweep(4s);
  EXPECT_EQ(totals().connect_failures, 0u);
  sweep(6s);
  EXPECT_EQ(totals().connect_failures, 1u);
  EXPECT_THAT(lane_.on([&] { return pool_->last_error(); }), HasSubstr("timed out after 5000 ms"));
  EXPECT_EQ(budget_->open(), 0);
}

// It is there, and has room again when others leave.
TEST_F(PoolTest, AFullServerIsWaitedFor) {
  config::Pool limits = default_limits();
  limits.checkout_timeout = 200ms;
  limits.reconnect_min = limits.reconnect_max = 10s;
  make(limits);
  server_.login_with(fatal("53300"));
  Client first, second;
  EXPECT_FALSE(checkout(first));
  ASSERT_TRUE(lane_.eventually([&] { return pool_->totals().connect_failures == 1; }));
  std::this_thread::sleep_for(250ms);
  sweep();
  ASSERT_TRUE(first.failure);
  EXPECT_THAT(first.failure->message, HasSubstr("no connection to shard \"s0\" became free"));
  EXPECT_FALSE(checkout(second));
  sweep();
  EXPECT_FALSE(second.failure);
}

TEST_F(PoolTest, WhoWaitsForASilentServerIsNotToldOfAFullPool) {
  config::Pool limits = default_limits();
  limits.checkout_timeout = 1s;
  make(limits);
  server_.login_with("");
  Client client;
  EXPECT_FALSE(checkout(client));
  ASSERT_TRUE(lane_.eventually([&] { return server_.accepted() == 1; }));
  sweep(2s);
  ASSERT_TRUE(client.failure);
  EXPECT_EQ(client.failure->code, sqlstate::too_many_connections);
  EXPECT_EQ(client.failure->detail, "the server has not answered yet to the connection that is being opened");
}

// What a server says in the same packet as its greeting was not asked for.
TEST_F(PoolTest, AServerThatGreetsAndLeavesCountsAsAFailedConnect) {
  make();
  server_.after_login(fatal());
  Client client;
  EXPECT_FALSE(checkout(client));
  ASSERT_TRUE(lane_.eventually([&] { return pool_->totals().connect_failures >= 1; }));
  EXPECT_EQ(counts().connecting, 0);
  EXPECT_EQ(totals().closed, 0u);
  server_.after_login(notice() + parameter("TimeZone", "CET"));
  ASSERT_TRUE(lane_.eventually([&] {
    pool_->sweep(lane_.loop.now());
    return client.backend != nullptr;
  }));
  EXPECT_EQ(lane_.on([&] { return client.backend->parameters().at("TimeZone"); }), "CET");
}

TEST_F(PoolTest, MinIdleIsFilledAndKept) {
  config::Pool limits = default_limits();
  limits.size = 5;
  limits.min_idle = 3;
  limits.idle_timeout = 10min;
  make(limits);
  sweep();
  ASSERT_TRUE(eventually_counts(3, 0));
  Client first, second;
  obtain(first);
  obtain(second);
  sweep();
  ASSERT_TRUE(eventually_counts(3, 2)) << "busy ones do not count";
  checkin(first);
  checkin(second);
  EXPECT_EQ(counts().idle, 5);
  sweep(11min);
  ASSERT_TRUE(eventually_counts(3, 0)) << "the surplus goes";
}

// ---- idle connections -----------------------------------------------------------------------------------------------

TEST_F(PoolTest, IdleConnectionsAreChecked) {
  make();
  Client client;
  obtain(client);
  checkin(client);
  sweep(29s);
  EXPECT_EQ(server_.times_asked("S"), 0u);
  sweep(31s);
  ASSERT_TRUE(lane_.eventually([&] { return server_.times_asked("S") == 1; }));
  ASSERT_TRUE(eventually_counts(1, 0));
  EXPECT_TRUE(checkout(client)) << "and go on serving";
}

TEST_F(PoolTest, AnUnansweredCheckDestroys) {
  make();
  Client client;
  obtain(client);
  checkin(client);
  server_.answer("S", "");
  sweep(31s);
  EXPECT_EQ(counts().busy, 1);
  EXPECT_FALSE(checkout(client)) << "nobody gets it while it is checked";
  ASSERT_TRUE(lane_.eventually([&] { return client.backend != nullptr; }));
  EXPECT_EQ(server_.accepted(), 2);
  sweep(9s);
  EXPECT_EQ(counts().busy, 2);
  sweep(11s);
  EXPECT_EQ(counts().busy, 1);
  EXPECT_EQ(budget_->open(), 1);
}

TEST_F(PoolTest, ChecksDoNotKeepAnUnusedConnectionAlive) {
  config::Pool limits = default_limits();
  limits.health_interval = 1ms;
  limits.idle_timeout = 300ms;
  make(limits);
  Client client;
  obtain(client);
  checkin(client);
  for (int i = 0; i < 100 && counts().idle + counts().busy > 0; ++i) {
    sweep();
    std::this_thread::sleep_for(10ms);
  }
  EXPECT_GT(server_.times_asked("S"), 1u);
  EXPECT_EQ(counts().idle + counts().busy, 0);
}

TEST_F(PoolTest, OldConnectionsAreNotLeasedAgain) {
  config::Pool limits = default_limits();
  limits.max_lifetime = 100ms;
  make(limits);
  Client client;
  obtain(client);
  std::this_thread::sleep_for(150ms);
  lane_.settle();
  checkin(client);
  EXPECT_EQ(counts().idle, 0);
  obtain(client);
  EXPECT_EQ(server_.accepted(), 2);
}

}  // namespace
}  // namespace tessera::pool
