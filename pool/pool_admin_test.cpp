// Administration, settings, cancel requests and queries of our own.
#include "pool/cancel.hpp"
#include "pool/pool_fixture.hpp"
#include "pool/text_query.hpp"

namespace tessera::pool {
namespace {

using namespace script;
using testing::ElementsAre;
using testing::HasSubstr;

// ---- administration -------------------------------------------------------------------------------------------------

TEST_F(PoolTest, ReconnectClosesIdleNowAndBusyOnReturn) {
  make();
  Client busy, idle;
  obtain(busy);
  obtain(idle);
  checkin(idle);
  lane_.on([&] { pool_->reconnect(); });
  EXPECT_EQ(counts().idle, 0);
  EXPECT_EQ(counts().busy, 1);
  EXPECT_NE(busy.backend, nullptr);
  checkin(busy);
  EXPECT_EQ(counts().idle + counts().busy, 0);
  obtain(busy);
  checkin(busy);
  EXPECT_EQ(counts().idle, 1) << "new ones stay";
}

TEST_F(PoolTest, ANewEndpointReplacesConnections) {
  make();
  Client client;
  obtain(client);
  checkin(client);
  FakeServer elsewhere;
  lane_.on([&] { pool_->reconfigure(pool_->options().endpoint, identity_, default_limits()); });
  EXPECT_EQ(counts().idle, 1) << "nothing has moved";
  lane_.on([&] { pool_->reconfigure(elsewhere.endpoint(), identity_, default_limits()); });
  EXPECT_EQ(counts().idle, 0);
  obtain(client);
  EXPECT_EQ(elsewhere.accepted(), 1);
  checkin(client);
  lane_.on([this] { pool_.reset(); });
}

TEST_F(PoolTest, PauseHoldsClientsBack) {
  make();
  Client client;
  obtain(client);
  lane_.on([&] { pool_->pause(); });
  checkin(client);
  EXPECT_FALSE(checkout(client));
  sweep();
  EXPECT_EQ(client.backend, nullptr);
  EXPECT_EQ(counts().idle, 1);
  lane_.on([&] { pool_->resume(); });
  EXPECT_NE(client.backend, nullptr);
  checkin(client);
}

TEST_F(PoolTest, ShuttingDownTellsEverybody) {
  config::Pool limits = default_limits();
  limits.size = 1;
  make(limits);
  Client holder, waiter;
  obtain(holder);
  EXPECT_FALSE(checkout(waiter));
  lane_.on([&] { pool_->shut_down({sqlstate::admin_shutdown, "bye", {}, {}, 0}); });
  EXPECT_EQ(waiter.failure->message, "bye");
  EXPECT_THAT(holder.events.back(), testing::StartsWith("lost"));
  EXPECT_EQ(budget_->open(), 0);
  ASSERT_TRUE(lane_.eventually([&] { return server_.open() == 0; }));
}

TEST_F(PoolTest, AFailedWaiterMayTakeAnotherOutOfTheQueue) {
  struct Chain final : PoolClient {
    Pool* pool = nullptr;
    std::unique_ptr<Chain> other;
    int failures = 0;
    void on_checkout(Backend&) override {}
    void on_checkout_failed(const Error&) override {
      ++failures;
      if (!other) return;
      pool->forget(*other);
      other.reset();
    }
  } first;
  config::Pool limits = default_limits();
  limits.size = 1;
  make(limits);
  Client holder;
  obtain(holder);
  lane_.on([&] {
    first.pool = pool_.get();
    first.other = std::make_unique<Chain>();
    EXPECT_EQ(pool_->checkout(first), nullptr);
    EXPECT_EQ(pool_->checkout(*first.other), nullptr);
    pool_->shut_down({sqlstate::admin_shutdown, "bye", {}, {}, 0});
  });
  EXPECT_EQ(first.failures, 1);
}

// ---- settings -------------------------------------------------------------------------------------------------------

Settings settings_of(SettingsMap map) {
  return std::make_shared<const SettingsMap>(std::move(map));
}

TEST_F(PoolTest, SettingsAreReplayedAndRemembered) {
  make();
  Client client;
  obtain(client);
  const Settings wanted = settings_of({{"work_mem", "SET work_mem = 1"}});
  EXPECT_FALSE(lane_.on([&] { return client.backend->prepare(wanted); }));
  ASSERT_TRUE(lane_.eventually([&] { return !client.events.empty() && client.events.back() == "prepared"; }));
  EXPECT_THAT(server_.queries(), ElementsAre("SET work_mem = 1;"));
  EXPECT_TRUE(lane_.on([&] { return client.backend->prepare(wanted); }));
  EXPECT_TRUE(lane_.on([&] { return client.backend->prepare(settings_of(*wanted)); }))
      << "another map with the same in it";
  EXPECT_EQ(client.relayed, "");
  checkin(client);
  Client next;
  obtain(next);
  EXPECT_FALSE(lane_.on([&] { return next.backend->prepare(no_settings()); }));
  ASSERT_TRUE(lane_.eventually([&] { return !next.events.empty(); }));
  EXPECT_THAT(server_.queries().back(), "RESET \"work_mem\";");
}

TEST_F(PoolTest, SettingsThatFailChangeNothing) {
  make();
  server_.answer("SET work_mem = x;", error("22023") + ready());
  Client client;
  obtain(client);
  EXPECT_FALSE(lane_.on([&] { return client.backend->prepare(settings_of({{"work_mem", "SET work_mem = x"}})); }));
  ASSERT_TRUE(lane_.eventually([&] { return !client.events.empty() && client.events.back() == "not prepared: no"; }));
  EXPECT_EQ(lane_.on([&] { return client.backend->settings(); }), no_settings());
  checkin(client);
  EXPECT_EQ(counts().idle, 1);
}

TEST_F(PoolTest, AResetForgetsTheSettings) {
  make();
  Client client;
  obtain(client);
  EXPECT_FALSE(lane_.on([&] { return client.backend->prepare(settings_of({{"a", "SET a = 1"}})); }));
  ASSERT_TRUE(lane_.eventually([&] { return !client.events.empty() && client.events.back() == "prepared"; }));
  checkin(client, true);
  ASSERT_TRUE(eventually_counts(1, 0));
  EXPECT_TRUE(checkout(client));
  EXPECT_TRUE(lane_.on([&] { return client.backend->prepare(no_settings()); }));
}

// ---- cancel requests ------------------------------------------------------------------------------------------------

TEST_F(PoolTest, ACancelInFlightHoldsItsConnectionBack) {
  make();
  Client first, second;
  obtain(first);
  Backend* const held = first.backend;
  lane_.on([&] { held->cancel_started(); });
  checkin(first);
  EXPECT_EQ(counts().idle, 1);
  obtain(second);
  EXPECT_NE(second.backend, held) << "a late cancel would hit this client's statement";
  EXPECT_EQ(server_.accepted(), 2);
  lane_.on([&] { held->cancel_finished(); });
  EXPECT_TRUE(checkout(first));
  EXPECT_EQ(first.backend, held);
}

TEST_F(PoolTest, AWaiterGetsItWhenTheCancelHasArrived) {
  config::Pool limits = default_limits();
  limits.size = 1;
  make(limits);
  Client first, second;
  obtain(first);
  Backend* const held = first.backend;
  EXPECT_FALSE(checkout(second));
  lane_.on([&] { held->cancel_started(); });
  checkin(first);
  sweep();
  EXPECT_EQ(second.backend, nullptr);
  lane_.on([&] { held->cancel_finished(); });
  sweep();
  EXPECT_EQ(second.backend, held);
}

TEST_F(PoolTest, ACancelRequestCarriesTheServersOwnKey) {
  make();
  Client client;
  obtain(client);
  std::unique_ptr<CancelDelivery> delivery;
  std::vector<bool> settled;
  lane_.on([&] {
    delivery = std::make_unique<CancelDelivery>(*client.backend, lane_.loop,
                                                [&](bool arrived) { settled.push_back(arrived); });
    delivery->start();
  });
  ASSERT_TRUE(lane_.eventually([&] { return !settled.empty(); })) << "when the server has closed";
  EXPECT_THAT(settled, ElementsAre(true));
  EXPECT_THAT(server_.cancels(), ElementsAre(std::pair(std::uint32_t{101}, FakeServer::key_of(101))));
  lane_.on([&] {
    delivery->check_deadline(lane_.loop.now() + 1h);
    delivery.reset();
  });
  EXPECT_EQ(settled.size(), 1u);
}

// Nobody knows when a request will be read that a server has taken and not answered.
TEST_F(PoolTest, ACancelRequestThatNobodyAnswersIsNotSettled) {
  make();
  Client client;
  obtain(client);
  server_.keep_cancels();
  std::unique_ptr<CancelDelivery> delivery;
  std::vector<bool> settled;
  lane_.on([&] {
    delivery = std::make_unique<CancelDelivery>(*client.backend, lane_.loop,
                                                [&](bool arrived) { settled.push_back(arrived); });
    delivery->start();
  });
  ASSERT_TRUE(lane_.eventually([&] { return server_.cancels().size() == 1; }));
  lane_.on([&] { delivery->check_deadline(lane_.loop.now() + 4s); });
  EXPECT_TRUE(settled.empty());
  lane_.on([&] { delivery->check_deadline(lane_.loop.now() + 6s); });
  EXPECT_THAT(settled, ElementsAre(false));
  lane_.on([&] { delivery.reset(); });
}

TEST_F(PoolTest, TextQueriesCollectRows) {
  make();
  server_.answer("SELECT a", columns() + row("1") + raw('D', std::string("\0\2\xff\xff\xff\xff\0\0\0\0", 10)) +
                                 complete() + ready());
  Result<TextQuery::Answer> answer;
  bool called = false;
  std::unique_ptr<TextQuery> query;
  lane_.on([&] {
    query = std::make_unique<TextQuery>(*pool_, settings_of({{"a", "SET a = 1"}}),
                                        std::vector<std::string>{"SELECT a", "SELECT nothing"},
                                        [&](Result<TextQuery::Answer> got) {
                                          answer = std::move(got);
                                          called = true;
                                        });
    query->start();
  });
  ASSERT_TRUE(lane_.eventually([&] { return called; }));
  ASSERT_TRUE(answer) << answer.error().message;
  ASSERT_EQ(answer->results.size(), 2u);
  EXPECT_EQ(answer->results[0], (std::vector<TextQuery::Row>{{"1"}, {std::nullopt, ""}}));
  EXPECT_TRUE(answer->results[1].empty());
  EXPECT_EQ(answer->parameters.at("server_version"), "17.0");
  EXPECT_THAT(server_.queries(), ElementsAre("SET a = 1;", "SELECT a", "SELECT nothing"));
  EXPECT_EQ(counts().idle, 1);
  lane_.on([&] { query.reset(); });
}

TEST_F(PoolTest, TextQueriesReportErrorsAndLosses) {
  make();
  server_.answer("bad", columns() + row() + error("42P01") + ready());
  server_.answer("worse", columns() + row().substr(0, 8));
  for (const std::string sql : {"bad", "worse"}) {
    Result<TextQuery::Answer> answer;
    bool called = false;
    std::unique_ptr<TextQuery> query;
    lane_.on([&] {
      query = std::make_unique<TextQuery>(*pool_, no_settings(), std::vector<std::string>{sql},
                                          [&](Result<TextQuery::Answer> got) {
                                            answer = std::move(got);
                                            called = true;
                                          });
      query->start();
    });
    if (sql == "worse") {
      ASSERT_TRUE(lane_.eventually([&] { return server_.times_asked("worse") == 1; }));
      EXPECT_FALSE(lane_.on([&] { return called; }));
      server_.hang_up();
    }
    ASSERT_TRUE(lane_.eventually([&] { return called; })) << sql;
    ASSERT_FALSE(answer);
    EXPECT_EQ(answer.error().code.view(), sql == "bad" ? "42P01" : "08006");
    lane_.on([&] { query.reset(); });
    ASSERT_TRUE(eventually_counts(0, 0));
  }
}

TEST_F(PoolTest, AnAbandonedTextQueryLeavesNothing) {
  make();
  server_.answer("slow", "");
  bool called = false;
  std::unique_ptr<TextQuery> query;
  lane_.on([&] {
    query = std::make_unique<TextQuery>(*pool_, no_settings(), std::vector<std::string>{"slow"},
                                        [&](const Result<TextQuery::Answer>&) { called = true; });
    query->start();
  });
  ASSERT_TRUE(lane_.eventually([&] { return server_.times_asked("slow") == 1; }));
  lane_.on([&] { query.reset(); });
  EXPECT_EQ(counts().busy, 0);
  EXPECT_EQ(budget_->open(), 0);
  lane_.on([&] {
    query = std::make_unique<TextQuery>(*pool_, no_settings(), std::vector<std::string>{"slow"},
                                        [&](const Result<TextQuery::Answer>&) { called = true; });
    query->start();
    query.reset();
  });
  EXPECT_EQ(counts().waiting, 0);
  EXPECT_FALSE(called);
}

}  // namespace
}  // namespace tessera::pool
