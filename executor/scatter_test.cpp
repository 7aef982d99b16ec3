// Scatter over pools with servers by script: the order of rows, one description, one completion, and what happens when
// a shard fails, at every step.
#include "executor/scatter.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "executor/execution_fixture.hpp"

namespace tessera::executor {
namespace {

using testing::HasSubstr;

class ScatterTest : public ExecutionTest {
protected:
  ScatterTest() {
    for (std::size_t i = 0; i < shards; ++i) {
      describe(i, columns());
      rows(i, {std::string(1, static_cast<char>('a' + i))});
    }
  }
  void describe(std::size_t shard, std::string bytes) { server_[shard].answer("D", std::move(bytes)); }
  void rows(std::size_t shard, const std::vector<std::string>& values) {
    std::string bytes;
    for (const std::string& value : values) bytes += row(value);
    server_[shard].answer("E", bytes + complete("SELECT " + std::to_string(values.size())));
  }
  void start(const Request& request, const pool::Settings& settings = pool::no_settings(),
             Combine combine = Combine::concatenate, const std::vector<std::vector<std::uint32_t>>& rows_of = {},
             Scatter::Order order = Scatter::Order::at_once) {
    run([&](const std::vector<Place>& places, Events events) {
      std::vector<Piece> pieces;
      for (const Place& place : places) pieces.push_back({.place = place});
      for (std::size_t i = 0; i < rows_of.size(); ++i) pieces[i].rows = rows_of[i];
      return std::make_unique<Scatter>(request, pieces, combine, order, settings, lane_.loop, std::move(events));
    });
  }
};

TEST_F(ScatterTest, RowsComeInShardOrderUnderOneDescription) {
  rows(0, {"1", "2"});
  rows(1, {});
  rows(2, {"3"});
  start({.sql = "SELECT v FROM t"});
  ASSERT_TRUE(finish());
  ASSERT_TRUE(*result_) << message();
  EXPECT_EQ(client_, columns() + row("1") + row("2") + row("3") + complete("SELECT 3"));
  EXPECT_GT(flushes_, 0);
  for (std::size_t i = 0; i < shards; ++i) EXPECT_EQ(idle_and_busy(i), std::pair(1, 0)) << "connections are back";
}

TEST_F(ScatterTest, WithoutADescriptionIfNobodyAskedForOne) {
  start({.sql = "SELECT v FROM t", .describe = false});
  ASSERT_TRUE(finish());
  EXPECT_EQ(client_, row("a") + row("b") + row("c") + complete("SELECT 3"));
}

TEST_F(ScatterTest, WhatTheClientIsToldOfBindStandsBeforeTheRowsAndNotBeforeAnErrorInBind) {
  start({.sql = "SELECT v FROM t", .bound = raw('2', "")});
  ASSERT_TRUE(finish());
  EXPECT_EQ(client_, raw('2', "") + columns() + row("a") + row("b") + row("c") + complete("SELECT 3"));
  lane_.on([&] {
    client_.clear();
    result_.reset();
  });
  server_[0].answer("B", error("22P02"));
  for (const char* skipped : {"D", "E"}) server_[0].answer(skipped, "");
  start({.sql = "SELECT v FROM t", .bound = raw('2', "")});
  ASSERT_TRUE(finish());
  EXPECT_EQ(client_, "");
}

TEST_F(ScatterTest, AShardWhoseTurnHasNotComeWaits) {
  server_[0].answer("S", "");
  server_[0].answer("E", "");
  start({.sql = "SELECT v FROM t"});
  ASSERT_TRUE(lane_.eventually([&] { return server_[2].times_asked("E") == 1; })) << "all work at the same time";
  ASSERT_TRUE(lane_.eventually([&] { return !client_.empty(); }));
  lane_.settle();
  EXPECT_EQ(lane_.on([&] { return client_; }), columns()) << "the others' rows wait";
  EXPECT_EQ(lane_.on([&] { return execution_->active().size(); }), shards);
  server_[0].say(row("late") + complete("SELECT 1") + ready());
  ASSERT_TRUE(finish());
  ASSERT_TRUE(*result_) << message();
  EXPECT_EQ(client_, columns() + row("late") + row("b") + row("c") + complete("SELECT 3"));
}

TEST_F(ScatterTest, SettingsArePutInPlaceOnAllShardsBeforeRowsFlow) {
  congested_ = true;
  start({.sql = "SELECT v FROM t"}, std::make_shared<const pool::SettingsMap>(pool::SettingsMap{{"a", "SET a = 1"}}));
  ASSERT_TRUE(lane_.eventually([&] { return server_[2].times_asked("E") == 1; }))
      << "the last shard does not wait for the first one's rows";
  for (FakeServer& server : server_) EXPECT_EQ(server.queries().front(), "SET a = 1;");
  lane_.on([&] {
    congested_ = false;
    execution_->resume();
  });
  ASSERT_TRUE(finish());
  EXPECT_TRUE(*result_) << message();
}

TEST_F(ScatterTest, OfASplitRowsComeInTheOrderOfTheStatement) {
  rows(0, {"b", "e"});
  rows(1, {"c"});
  rows(2, {"a", "d"});
  start({.sql = "INSERT …"}, pool::no_settings(), Combine::by_row, {{1, 4}, {2}, {0, 3}});
  ASSERT_TRUE(finish());
  ASSERT_TRUE(*result_) << message();
  EXPECT_EQ(client_, columns() + row("a") + row("b") + row("c") + row("d") + row("e") + complete("SELECT 5"));
}

TEST_F(ScatterTest, OfAReplicateTheClientGetsTheFirstAnswerAndTheOthersMustAgree) {
  for (std::size_t i = 0; i < shards; ++i) rows(i, {"same"});
  start({.sql = "UPDATE …"}, pool::no_settings(), Combine::first);
  ASSERT_TRUE(finish());
  ASSERT_TRUE(*result_) << message();
  EXPECT_EQ(client_, columns() + row("same") + complete("SELECT 1"));
  forget();
  rows(2, {"same", "one more"});
  start({.sql = "UPDATE …"}, pool::no_settings(), Combine::first);
  ASSERT_TRUE(finish());
  ASSERT_FALSE(*result_);
  EXPECT_EQ(result_->error().code.view(), "XX001");
}

TEST_F(ScatterTest, OfAReplicateASlowClientHoldsUpOnlyWhatItReads) {
  for (std::size_t i = 0; i < shards; ++i) rows(i, {"same"});
  server_[1].answer("E", "");
  server_[1].answer("S", "");
  takes_ = 1;
  start({.sql = "UPDATE …"}, pool::no_settings(), Combine::first);
  ASSERT_TRUE(lane_.eventually([&] { return congested_ && server_[1].times_asked("S") == 1; }));
  for (const std::string& part : {row("same"), complete("SELECT 1") + ready()}) {
    server_[1].say(part);
    std::this_thread::sleep_for(20ms);
  }
  lane_.on([&] {
    takes_ = SIZE_MAX;
    congested_ = false;
    execution_->resume();
  });
  ASSERT_TRUE(finish()) << "nobody is left waiting";
  EXPECT_TRUE(*result_) << message();
}

TEST_F(ScatterTest, ASlowClientStopsTheReading) {
  std::vector<std::string> many(20'000, "0123456789012345678901234567890123456789");
  rows(0, many);
  takes_ = 100'000;
  start({.sql = "SELECT v FROM t"});
  ASSERT_TRUE(lane_.eventually([&] { return congested_; }));
  for (int i = 0; i < 20; ++i) lane_.settle();
  const std::size_t so_far = lane_.on([&] { return client_.size(); });
  EXPECT_LT(so_far, 20'000u * 51u);
  EXPECT_FALSE(lane_.on([&] { return result_.has_value(); }));
  lane_.on([&] {
    takes_ = SIZE_MAX;
    congested_ = false;
    execution_->resume();
  });
  ASSERT_TRUE(finish());
  ASSERT_TRUE(*result_) << message();
  EXPECT_THAT(client_, testing::EndsWith(complete("SELECT 20002")));
}

TEST_F(ScatterTest, DifferentColumnsAreRefused) {
  std::string other = columns();
  other[7] = 'b';
  describe(1, other);
  start({.sql = "SELECT v FROM t"});
  ASSERT_TRUE(finish());
  EXPECT_EQ(message(), "the shards answer this statement with different columns");
  EXPECT_FALSE(cut_);
}

TEST_F(ScatterTest, AnErrorOnAnyShardEndsItOnce) {
  for (std::size_t bad = 0; bad < shards; ++bad) {
    for (const char* where : {"P", "B", "D", "E"}) {
      SCOPED_TRACE(std::string(where) + std::to_string(bad));
      server_[bad].answer(where, error("22012"));
      // After an error a server skips to Sync; this one would answer what follows.
      const std::string order = "PBDE";
      for (std::size_t i = order.find(*where) + 1; i < order.size(); ++i) server_[bad].answer(order.substr(i, 1), "");
      lane_.on([&] {
        client_.clear();
        result_.reset();
      });
      start({.sql = "SELECT v FROM t"});
      ASSERT_TRUE(finish());
      ASSERT_FALSE(*result_);
      EXPECT_EQ(result_->error().code.view(), "22012");
      EXPECT_FALSE(cut_);
      lane_.on([&] { execution_.reset(); });
      for (std::size_t i = 0; i < shards; ++i) EXPECT_EQ(idle_and_busy(i).second, 0) << "nothing is left over";
      server_[bad].answer("P", raw('1', ""));
      server_[bad].answer("B", raw('2', ""));
      describe(bad, columns());
      rows(bad, {"x"});
    }
  }
}

TEST_F(ScatterTest, ALostConnectionFails) {
  server_[1].answer("E", "");
  server_[1].answer("S", "");
  start({.sql = "SELECT v FROM t"});
  ASSERT_TRUE(lane_.eventually([&] { return server_[1].times_asked("S") == 1; }));
  server_[1].hang_up();
  ASSERT_TRUE(finish());
  EXPECT_THAT(message(), HasSubstr("connection to shard \"s1\" was lost"));
  EXPECT_FALSE(cut_) << "the client has whole messages only";
}

TEST_F(ScatterTest, AConnectionThatEndsBehindItsAnswerHasAnswered) {
  server_[1].answer("S", ready() + fatal());
  start({.sql = "SELECT v FROM t"});
  ASSERT_TRUE(finish());
  ASSERT_TRUE(*result_) << message();
  EXPECT_EQ(client_, columns() + row("a") + row("b") + row("c") + complete("SELECT 3"));
}

TEST_F(ScatterTest, AConnectionThatEndsBehindAnErrorHasSaidWhy) {
  server_[1].answer("E", error("22012"));
  server_[1].answer("S", ready() + fatal());
  start({.sql = "SELECT v FROM t"});
  ASSERT_TRUE(finish());
  ASSERT_FALSE(*result_);
  EXPECT_EQ(result_->error().code.view(), "22012");
}

TEST_F(ScatterTest, ALossInTheMiddleOfARowCutsTheClient) {
  server_[0].answer("E", row("0123456789").substr(0, 12));
  server_[0].answer("S", "");
  start({.sql = "SELECT v FROM t"});
  ASSERT_TRUE(lane_.eventually([&] { return client_.size() > columns().size(); }));
  server_[0].hang_up();
  ASSERT_TRUE(finish());
  EXPECT_FALSE(*result_);
  EXPECT_TRUE(cut_);
}

TEST_F(ScatterTest, AnAbandonedScatterDestroysWhatIsUnderWay) {
  for (FakeServer& server : server_) server.answer("E", "");
  for (FakeServer& server : server_) server.answer("S", "");
  start({.sql = "SELECT v FROM t"});
  ASSERT_TRUE(lane_.eventually([&] { return execution_->active().size() == shards; }));
  lane_.on([&] { execution_.reset(); });
  for (std::size_t i = 0; i < shards; ++i) EXPECT_EQ(idle_and_busy(i), std::pair(0, 0));
  lane_.settle();
  EXPECT_FALSE(result_) << "nobody is called any more";
}

// Another client has all connections of a pool.
class Holders {
public:
  Holders(Lane& lane, pool::Pool& pool) : lane_(lane), pool_(pool) {
    lane_.on([this] {
      for (Holder& holder : holders_) holder.backend = pool_.checkout(holder);
    });
    EXPECT_TRUE(lane_.eventually([this] { return holders_[0].backend != nullptr && holders_[1].backend != nullptr; }));
  }
  ~Holders() { release(); }
  void release() {
    lane_.on([this] {
      for (Holder& holder : holders_)
        if (pool::Backend* backend = std::exchange(holder.backend, nullptr)) pool_.checkin(*backend, false);
    });
  }

private:
  struct Holder final : pool::PoolClient {
    pool::Backend* backend = nullptr;
    void on_checkout(pool::Backend& got) override { backend = &got; }
    void on_checkout_failed(const Error&) override {}
  } holders_[2];
  Lane& lane_;
  pool::Pool& pool_;
};

TEST_F(ScatterTest, WaitsForConnectionsInAscendingOrder) {
  Holders holders(lane_, *pools_[1]);
  start({.sql = "SELECT v FROM t"});
  ASSERT_TRUE(lane_.eventually([&] { return pools_[1]->counts().waiting == 1; }));
  EXPECT_EQ(server_[2].accepted(), 0) << "shard 2 is not touched before shard 1 is ours";
  holders.release();
  ASSERT_TRUE(finish());
  EXPECT_TRUE(*result_) << message();
}

const Error canceled{sqlstate::query_canceled, "canceled", {}, {}, 0};

TEST_F(ScatterTest, ACancelGivesUpAPartThatWaitsThoughTheOthersHaveEnded) {
  const Holders holders(lane_, *pools_[1]);
  congested_ = true;
  start({.sql = "SELECT v FROM t"});
  ASSERT_TRUE(lane_.eventually([&] { return pools_[1]->counts().waiting == 1; }));
  ASSERT_TRUE(lane_.eventually([&] { return server_[0].times_asked("S") == 1; }));
  lane_.on([&] { execution_->cancel(canceled); });
  EXPECT_EQ(lane_.on([&] { return pools_[1]->counts().waiting; }), 0);
  ASSERT_TRUE(finish());
  EXPECT_EQ(message(), "canceled");
  EXPECT_FALSE(cut_);
  lane_.on([&] { execution_.reset(); });
  EXPECT_EQ(idle_and_busy(0).second, 0);
}

TEST_F(ScatterTest, ARowThatTheClientHasTheFirstPartOfIsCompletedBeforeAnError) {
  const Holders holders(lane_, *pools_[1]);
  server_[0].answer("E", row("0123456789").substr(0, 12));
  server_[0].answer("S", "");
  start({.sql = "SELECT v FROM t"});
  ASSERT_TRUE(lane_.eventually([&] { return client_.size() > columns().size(); }));
  lane_.on([&] { execution_->cancel(canceled); });
  EXPECT_EQ(lane_.on([&] { return pools_[1]->counts().waiting; }), 0) << "others need not wait for the client";
  lane_.settle();
  EXPECT_FALSE(lane_.on([&] { return result_.has_value(); }));
  server_[0].say(row("0123456789").substr(12) + row("more").substr(0, 9));
  ASSERT_TRUE(finish());
  EXPECT_EQ(message(), "canceled");
  EXPECT_FALSE(cut_);
  EXPECT_EQ(client_, columns() + row("0123456789"));
}

TEST_F(ScatterTest, ACancelIsTheServersBusinessWhereAllPartsAreWithThem) {
  server_[0].answer("E", "");
  server_[0].answer("S", "");
  start({.sql = "SELECT v FROM t"});
  ASSERT_TRUE(lane_.eventually([&] { return server_[2].times_asked("S") == 1; }));
  lane_.on([&] { execution_->cancel(canceled); });
  lane_.settle();
  EXPECT_FALSE(lane_.on([&] { return result_.has_value(); }));
  server_[0].say(error("57014") + ready());
  ASSERT_TRUE(finish());
  ASSERT_FALSE(*result_);
  EXPECT_EQ(result_->error().code.view(), "57014");
}

}  // namespace
}  // namespace tessera::executor
