// Gather with servers by script: what is sent where, and a failure at every step on every shard.
#include "executor/gather.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "executor/execution_fixture.hpp"

namespace tessera::executor {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

const std::string original = "SELECT count(*) FROM t";
const std::string first = "SELECT \"a\" FROM t";
const std::string second = "SELECT \"b\" FROM u";
const std::string create_first = "CREATE TEMPORARY TABLE pg_temp.g1 ON COMMIT DROP AS " + first + " WITH DATA";
const std::string create_second = "CREATE TEMPORARY TABLE pg_temp.g2 ON COMMIT DROP AS " + second + " WITH NO DATA";
const std::string copy_first = "COPY pg_temp.g1 FROM STDIN (FORMAT binary)";
const std::string copy_second = "COPY pg_temp.g2 FROM STDIN (FORMAT binary)";
const std::string check_first = "SELECT 'columns of t'";
const std::string check_second = "SELECT 'columns of u'";
const std::string rewritten = "SELECT count(*) FROM pg_temp.g1 AS \"t\"";
const std::string begin_merge =
    "BEGIN ISOLATION LEVEL REPEATABLE READ, READ WRITE; SET LOCAL synchronous_commit = off; "
    "SET LOCAL idle_in_transaction_session_timeout = 0";
const std::string begin_source =
    "BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY; SET LOCAL idle_in_transaction_session_timeout = 0; "
    "LOCK TABLE t IN ACCESS SHARE MODE";
const std::string begin_source_of_both =
    "BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY; SET LOCAL idle_in_transaction_session_timeout = 0; "
    "LOCK TABLE t, u IN ACCESS SHARE MODE";
const std::string copy_in = raw('G', std::string("\1\0\0", 3));
const std::string no_types = raw('t', std::string("\0\0", 2));

// The merge node is s1: its own rows of the first fragment, of the second one those of s2 alone.
class GatherTest : public ExecutionTest {
protected:
  GatherTest() {
    plan_.merge = ShardId(1);
    plan_.fragments = {{"pg_temp.g1", first, {ShardId(0), ShardId(1), ShardId(2)}, check_first, "a\nx", {}, "t"},
                       {"pg_temp.g2", second, {ShardId(2)}, check_second, "b", {}, "u"}};
    plan_.statement = rewritten;
    script();
  }
  // A row of router::GatherFragment::check.
  static std::string table(const std::string& names, const std::string& types) {
    std::string out;
    const std::array<postgres::Value, 2> values{names, types};
    EXPECT_TRUE(postgres::append_data_row(out, values));
    return out + complete("SELECT 1");
  }
  void script() {
    for (FakeServer& server : server_) {
      server.answer("E " + check_first, table("a\nx", "int4\ntext"));
      server.answer("E " + check_second, table("b", "int8"));
    }
    merge().answer("DS", no_types + columns());
    merge().answer("DP", columns());
    merge().answer(copy_first, copy_in);
    merge().answer(copy_second, copy_in);
    merge().answer("c", complete("COPY 1") + ready());
    merge().answer("E " + rewritten, row("3") + complete("SELECT 1"));
    for (FakeServer* source : {&server_[0], &server_[2]}) {
      source->answer("E " + first, row("a") + row("aa") + complete("SELECT 2"));
      source->answer("E " + second, row("b") + complete("SELECT 1"));
    }
  }
  FakeServer& merge() { return server_[1]; }
  void start(const Request& request = {.sql = original, .describe = false}) {
    run([&](const std::vector<Place>& places, Events events) {
      std::vector<Place> sources = places;
      const auto merge = sources.begin() + plan_.merge.value();
      const Place node = *merge;
      sources.erase(merge);
      return std::make_unique<Gather>(request, plan_, node, sources, pool::no_settings(), "", lane_.loop,
                                      std::move(events));
    });
  }

  router::GatherPlan plan_;
};

TEST_F(GatherTest, CopiesTheFragmentsAndRunsTheRestOnTheMergeNode) {
  start();
  ASSERT_TRUE(finish());
  ASSERT_TRUE(*result_) << message();
  EXPECT_EQ(client_, row("3") + complete("SELECT 1"));
  EXPECT_THAT(merge().queries(),
              ElementsAre(begin_merge, "P", "D", "B", "D", "P", "B", "E", "P", "B", "E", "S",  // what the client asked
                          "P", "B", "E", "P", "B", "E", "S",                                   // the tables
                          copy_first, "d", "d", "d", "d", "d", "d", "c",  // header, four rows, trailer
                          copy_second, "d", "d", "d", "c",                // one row
                          "P", "B", "D", "E", "S", "COMMIT"));
  EXPECT_THAT(server_[0].queries(), ElementsAre(begin_source, "P", "B", "E", "P", "B", "E", "S", "COMMIT"));
  EXPECT_THAT(server_[2].queries(), ElementsAre(begin_source_of_both, "P", "B", "E", "P", "B", "E", "P", "B", "E", "P",
                                                "B", "E", "S", "COMMIT"));
  for (std::size_t i = 0; i < shards; ++i) EXPECT_EQ(idle_and_busy(i), std::pair(1, 0)) << "connections are back";
}

TEST_F(GatherTest, TellsTheColumnsOfTheStatementAsItWas) {
  start({.sql = original, .bound = raw('2', "")});
  ASSERT_TRUE(finish());
  EXPECT_EQ(client_, raw('2', "") + columns() + row("3") + complete("SELECT 1"));
}

struct Step {
  std::size_t server;
  std::string asked;
};
const std::vector<Step> steps{{1, begin_merge},
                              {1, "P " + original},
                              {1, "DS"},
                              {1, "B " + original},
                              {1, "DP"},
                              {1, "P " + create_first},
                              {1, "B " + create_first},
                              {1, "E " + create_first},
                              {1, "P " + create_second},
                              {1, "E " + create_second},
                              {1, copy_first},
                              {1, copy_second},
                              {1, "c"},
                              {1, "B " + rewritten},
                              {1, "E " + rewritten},
                              {1, "COMMIT"},
                              {0, begin_source},
                              {0, "P " + first},
                              {0, "B " + first},
                              {0, "E " + first},
                              {0, "COMMIT"},
                              {2, begin_source_of_both},
                              {2, "E " + first},
                              {2, "P " + second},
                              {2, "E " + second},
                              {2, "COMMIT"}};

TEST_F(GatherTest, AnErrorAtAnyStepEndsItOnce) {
  for (const Step& step : steps) {
    SCOPED_TRACE(std::to_string(step.server) + ' ' + step.asked);
    // After an error a server skips to Sync; this one answers what follows, which makes its connection unusable.
    server_[step.server].answer(step.asked, error("22012") + (step.asked.size() > 6 ? "" : ready()));
    start();
    ASSERT_TRUE(finish());
    ASSERT_FALSE(*result_);
    EXPECT_EQ(result_->error().code.view(), "22012");
    EXPECT_FALSE(cut_);
    forget();
    for (std::size_t i = 0; i < shards; ++i) EXPECT_EQ(idle_and_busy(i).second, 0) << "nothing is left over";
    server_[step.server].answer_as_usual(step.asked);
    script();
  }
  start();
  ASSERT_TRUE(finish());
  EXPECT_TRUE(*result_) << message();
}

TEST_F(GatherTest, AConnectionLostAtAnyStepEndsIt) {
  for (const Step& step : steps) {
    SCOPED_TRACE(std::to_string(step.server) + ' ' + step.asked);
    server_[step.server].hang_up_on(step.asked);
    start();
    ASSERT_TRUE(finish());
    EXPECT_THAT(message(), HasSubstr("was lost"));
    forget();
    for (std::size_t i = 0; i < shards; ++i) EXPECT_EQ(idle_and_busy(i).second, 0);
    server_[step.server].hang_up_on("");
  }
  start();
  ASSERT_TRUE(finish());
  EXPECT_TRUE(*result_) << message();
}

TEST_F(GatherTest, ColumnsOfOtherTypesThanTheClientWasToldAreRefused) {
  std::string other = columns();
  other[17] = 20;  // the last byte of the type's number
  ASSERT_NE(other, columns());
  merge().answer("DS", no_types + other);
  merge().answer("DP", other);
  start();
  ASSERT_TRUE(finish());
  EXPECT_TRUE(*result_) << message();
  forget();
  merge().answer_once("DP", columns());
  start();
  ASSERT_TRUE(finish());
  ASSERT_FALSE(*result_);
  EXPECT_EQ(result_->error().detail, "its columns would have other types");
  EXPECT_EQ(client_, "");
}

TEST_F(GatherTest, TablesThatAreNotAsTheyWerePlannedForAreRefused) {
  for (std::size_t server = 0; server < shards; ++server) {
    server_[server].answer_once("E " + check_first, server == 1 ? table("a", "int4") : table("a\nx", "int4\nint8"));
    start();
    ASSERT_TRUE(finish());
    ASSERT_FALSE(*result_) << server;
    EXPECT_EQ(result_->error().code.view(), "0A000");
    EXPECT_EQ(client_, "");
    forget();
  }
  start();
  ASSERT_TRUE(finish());
  EXPECT_TRUE(*result_) << message();
}

TEST_F(GatherTest, WhatCannotRunOnCopiedRowsIsRefusedByName) {
  merge().answer("P " + rewritten, error("42803"));
  start();
  ASSERT_TRUE(finish());
  ASSERT_FALSE(*result_);
  EXPECT_EQ(result_->error().code.view(), "0A000");
  EXPECT_EQ(result_->error().detail, "no");
}

}  // namespace
}  // namespace tessera::executor
