// Rows of three servers by script in one order: what the client gets, unknown orders, and failures at every step.
#include "executor/merge_sort.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "executor/execution_fixture.hpp"

namespace tessera::executor {
namespace {

using testing::EndsWith;
using testing::HasSubstr;

constexpr postgres::Oid int4 = 23, text = 25;

std::string described(postgres::Oid key, std::string_view name = "a") {
  std::string bytes = raw('t', std::string(2, '\0'));
  const postgres::FieldView fields[] = {{.name = name, .type = text, .type_size = -1},
                                        {.name = "tessera_key_1", .type = key, .type_size = 4}};
  EXPECT_TRUE(postgres::append_row_description(bytes, fields));
  return bytes;
}

class MergeSortTest : public ExecutionTest {
protected:
  MergeSortTest() {
    for (std::size_t i = 0; i < shards; ++i) {
      server_[i].answer("D", described(int4));
      rows(i, {static_cast<std::uint8_t>(i)});
    }
  }
  // Each row is called by its key.
  void rows(std::size_t shard, const std::vector<std::uint8_t>& keys) {
    server_[shard].answer("E", bytes_of(keys) + complete("SELECT " + std::to_string(keys.size())));
  }
  static std::string bytes_of(const std::vector<std::uint8_t>& keys) {
    std::string bytes;
    for (const std::uint8_t key : keys) {
      const std::string name = std::to_string(key), value = std::string(3, '\0') + static_cast<char>(key);
      const postgres::Value values[] = {name, value};
      EXPECT_TRUE(postgres::append_data_row(bytes, values));
    }
    return bytes;
  }
  static router::MergePlan plan(std::uint64_t offset = 0, std::optional<std::uint64_t> limit = {}) {
    return {.sql = "SELECT a, (k) AS tessera_key_1 FROM t ORDER BY k",
            .keys = {{.text = "k", .direction = {}}},
            .offset = offset,
            .limit = limit};
  }
  void start(const Request& request = {.sql = "SELECT a FROM t ORDER BY k"}, router::MergePlan merge = plan()) {
    run([&](const std::vector<Place>& places, Events events) {
      return std::make_unique<MergeSort>(request, std::move(merge), places, pool::no_settings(), lane_.loop,
                                         std::move(events));
    });
  }
  void expect_clean() {
    lane_.on([&] { execution_.reset(); });
    for (std::size_t i = 0; i < shards; ++i) EXPECT_EQ(idle_and_busy(i).second, 0) << "nothing is left over";
  }
};

TEST_F(MergeSortTest, RowsComeInOrderUnderADescriptionWithoutKeys) {
  rows(0, {2, 5, 9});
  rows(1, {});
  rows(2, {1, 5, 7});
  start();
  ASSERT_TRUE(finish());
  ASSERT_TRUE(*result_) << message();
  EXPECT_EQ(client_,
            columns() + row("1") + row("2") + row("5") + row("5") + row("7") + row("9") + complete("SELECT 6"));
  for (std::size_t i = 0; i < shards; ++i) EXPECT_EQ(idle_and_busy(i), std::pair(1, 0)) << "connections are back";
}

TEST_F(MergeSortTest, WhatIsLeftBehindTheLimitIsDropped) {
  rows(0, {1, 4, 7, 10});
  rows(1, {2, 5, 8, 11});
  rows(2, {3, 6, 9, 12});
  start({.sql = "…", .bound = raw('2', "")}, plan(2, 2));
  ASSERT_TRUE(finish());
  EXPECT_EQ(client_, raw('2', "") + columns() + row("3") + row("4") + complete("SELECT 2"));
  for (std::size_t i = 0; i < shards; ++i) EXPECT_EQ(idle_and_busy(i), std::pair(1, 0)) << "connections are back";
}

TEST_F(MergeSortTest, WithARowLimitThePortalIsSuspended) {
  rows(0, {1, 4});
  start({.sql = "…", .limit = 2, .describe = false});
  ASSERT_TRUE(finish());
  EXPECT_EQ(client_, row("1") + row("1") + raw('s', ""));
  forget();
  start({.sql = "…", .limit = 10, .describe = false});
  ASSERT_TRUE(finish());
  EXPECT_EQ(client_, row("1") + row("1") + row("2") + row("4") + complete("SELECT 4"));
}

TEST_F(MergeSortTest, AnOrderThatIsNotKnownIsNotRunAtAll) {
  server_[1].answer("D", described(text));
  start();
  ASSERT_TRUE(finish());
  ASSERT_FALSE(*result_);
  EXPECT_EQ(message(), "the shards answer this statement with different columns");
  forget();
  for (FakeServer& server : server_) server.answer("D", described(text));
  start();
  ASSERT_TRUE(finish());
  ASSERT_FALSE(*result_);
  EXPECT_TRUE(lane_.on([&] { return static_cast<MergeSort&>(*execution_).unknown_order(); }));
  EXPECT_EQ(client_, "");
  for (std::size_t i = 0; i < shards; ++i) {
    EXPECT_EQ(server_[i].times_asked("E"), 0u);
    EXPECT_EQ(idle_and_busy(i).second, 0);
  }
}

TEST_F(MergeSortTest, DifferentColumnsAreRefused) {
  server_[2].answer("D", described(int4, "b"));
  start();
  ASSERT_TRUE(finish());
  EXPECT_EQ(message(), "the shards answer this statement with different columns");
  EXPECT_EQ(client_, "");
}

TEST_F(MergeSortTest, AShardWithoutOrderIsFoundOut) {
  rows(1, {3, 2});
  start();
  ASSERT_TRUE(finish());
  EXPECT_EQ(message(), "a shard's rows do not come in the order of ORDER BY");
  expect_clean();
}

TEST_F(MergeSortTest, AsManyFormatsAsColumns) {
  const std::string two("\0\0\0\0\0\2\0\1\0\1", 10);
  start({.sql = "…", .bind = two});
  ASSERT_TRUE(finish());
  EXPECT_EQ(message(), "bind message has 2 result formats but query has 1 columns");
}

TEST_F(MergeSortTest, AnErrorsPlaceIsTheClients) {
  router::MergePlan merge = plan();
  merge.sql = "SELECT a, (k) AS tessera_key_1 FROM t ORDER BY k";
  merge.origins = {{0, 0}, {11, 25}, {30, 8}};
  EXPECT_EQ(merge.position_in("SELECT a FROM t ORDER BY k", 1), 1);
  EXPECT_EQ(merge.position_in("SELECT a FROM t ORDER BY k", 12), 26) << "the key";
  EXPECT_EQ(merge.position_in("SELECT a FROM t ORDER BY k", 37), 15) << "the table";
  EXPECT_EQ(merge.position_in("SELECT a FROM t ORDER BY k", 0), 0);
}

TEST_F(MergeSortTest, AnErrorOrALossOnAnyShardEndsItOnce) {
  for (std::size_t bad = 0; bad < shards; ++bad) {
    for (const char* where : {"P", "D", "B", "E"}) {
      for (const bool lost : {false, true}) {
        SCOPED_TRACE(std::string(where) + std::to_string(bad) + (lost ? " lost" : ""));
        if (lost) {
          server_[bad].hang_up_on(where);
        } else {
          server_[bad].answer(where, error("22012"));
          const std::string order = *where == 'P' || *where == 'D' ? "PD" : "BE";
          for (std::size_t i = order.find(*where) + 1; i < order.size(); ++i)
            server_[bad].answer(order.substr(i, 1), "");
        }
        forget();
        start();
        ASSERT_TRUE(finish());
        ASSERT_FALSE(*result_);
        EXPECT_EQ(result_->error().code.view(), lost ? "08006" : "22012");
        EXPECT_FALSE(cut_);
        expect_clean();
        server_[bad].hang_up_on("");
        server_[bad].answer("P", raw('1', ""));
        server_[bad].answer("B", raw('2', ""));
        server_[bad].answer("D", described(int4));
        rows(bad, {static_cast<std::uint8_t>(bad)});
      }
    }
  }
  forget();
  start();
  ASSERT_TRUE(finish());
  EXPECT_TRUE(*result_) << message();
}

TEST_F(MergeSortTest, AnErrorBehindRowsComesBehindWholeRows) {
  server_[1].answer("E", bytes_of({1, 2}) + error("22012"));
  rows(0, {1, 5});
  start();
  ASSERT_TRUE(finish());
  ASSERT_FALSE(*result_);
  EXPECT_EQ(result_->error().code.view(), "22012");
  EXPECT_FALSE(cut_);
  expect_clean();
}

TEST_F(MergeSortTest, ASlowClientStopsTheReading) {
  for (std::size_t i = 0; i < shards; ++i) rows(i, std::vector<std::uint8_t>(50'000, 7));
  takes_ = 100'000;
  start();
  ASSERT_TRUE(lane_.eventually([&] { return congested_; }));
  for (int i = 0; i < 20; ++i) lane_.settle();
  EXPECT_LT(lane_.on([&] { return client_.size(); }), 200'000u);
  EXPECT_FALSE(lane_.on([&] { return result_.has_value(); }));
  lane_.on([&] {
    takes_ = SIZE_MAX;
    congested_ = false;
    execution_->resume();
  });
  ASSERT_TRUE(finish());
  ASSERT_TRUE(*result_) << message();
  EXPECT_THAT(client_, EndsWith(complete("SELECT 150000")));
}

TEST_F(MergeSortTest, TheSlowestShardIsWaitedFor) {
  server_[0].answer("S", "");
  start();
  lane_.settle();
  for (std::size_t i = 0; i < shards; ++i) EXPECT_EQ(server_[i].times_asked("E"), 0u) << "not all are described";
  server_[0].answer_as_usual("S");
  server_[0].say(ready());
  ASSERT_TRUE(finish());
  EXPECT_TRUE(*result_) << message();
}

}  // namespace
}  // namespace tessera::executor
