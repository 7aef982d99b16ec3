// Explain over pools with servers by script.
#include "executor/explain.hpp"

#include <gtest/gtest.h>

#include "executor/execution_fixture.hpp"

namespace tessera::executor {
namespace {

class ExplainTest : public ExecutionTest {
protected:
  ExplainTest() {
    for (std::size_t i = 0; i < shards; ++i)
      server_[i].answer("E", row("plan of " + std::to_string(i)) + row("cost") + complete("EXPLAIN"));
  }
  void start(const std::vector<Explain::Question>& questions, Explain::Order order = Explain::Order::at_once) {
    run([&](const std::vector<Place>& places, Events events) {
      std::vector<Explain::Share> shares;
      for (const Place& place : places) shares.push_back({place, questions});
      return std::make_unique<Explain>(Request{.sql = "EXPLAIN SELECT 1", .bound = raw('2', "")}, shares, order,
                                       pool::no_settings(), lane_.loop, std::move(events));
    });
  }
  auto answers() { return static_cast<const Explain&>(*execution_).answers(); }
};

TEST_F(ExplainTest, EachAnswerIsKeptAndTheClientGetsNoneOfThem) {
  start({{}, {"EXPLAIN SELECT 2"}});
  ASSERT_TRUE(finish());
  ASSERT_TRUE(*result_) << message();
  EXPECT_EQ(client_, raw('2', "")) << "the parameters have been taken";
  const auto told = answers();
  ASSERT_EQ(told.size(), shards);
  for (std::size_t i = 0; i < shards; ++i) {
    ASSERT_EQ(told[i].size(), 2u);
    for (const Explain::Answer& answer : told[i])
      EXPECT_EQ(answer.lines, (std::vector<std::string>{"plan of " + std::to_string(i), "cost"}));
    EXPECT_EQ(idle_and_busy(i), std::pair(1, 0)) << "connections are back";
  }
}

TEST_F(ExplainTest, InTurnOneIsAskedWhenTheOneBeforeItHasAnswered) {
  server_[0].answer("S", "");
  server_[0].answer("E", "");
  start({{}}, Explain::Order::in_turn);
  ASSERT_TRUE(lane_.eventually([&] { return server_[0].times_asked("S") == 1; }));
  lane_.settle();
  EXPECT_EQ(server_[1].times_asked("E"), 0);
  server_[0].say(row("late") + complete("EXPLAIN") + ready());
  ASSERT_TRUE(finish());
  ASSERT_TRUE(*result_) << message();
  EXPECT_EQ(answers()[0][0].lines, std::vector<std::string>{"late"});
  EXPECT_EQ(answers()[2][0].lines.front(), "plan of 2");
}

TEST_F(ExplainTest, AnErrorSaysWhichShardItIsOf) {
  for (const Explain::Order order : {Explain::Order::at_once, Explain::Order::in_turn}) {
    for (std::size_t bad = 0; bad < shards; ++bad) {
      SCOPED_TRACE(bad);
      server_[bad].answer_once("E", error("22012"));
      start({{}}, order);
      ASSERT_TRUE(finish());
      ASSERT_FALSE(*result_);
      EXPECT_EQ(result_->error().code.view(), "22012");
      EXPECT_EQ(result_->error().detail, "on shard s" + std::to_string(bad));
      lane_.on([&] { execution_.reset(); });
      for (std::size_t i = 0; i < shards; ++i) EXPECT_EQ(idle_and_busy(i).second, 0) << "nothing is left over";
      forget();
    }
  }
}

TEST_F(ExplainTest, AShardThatIsLostIsNamed) {
  server_[1].hang_up_on("E");
  start({{}});
  ASSERT_TRUE(finish());
  ASSERT_FALSE(*result_);
  EXPECT_EQ(result_->error().detail.substr(result_->error().detail.size() - 11), "on shard s1");
}

}  // namespace
}  // namespace tessera::executor
