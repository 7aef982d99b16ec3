// Commands on connections of their own, one shard after the other. (On those of a transaction: commit_test.cpp.)
#include "executor/everywhere.hpp"

#include "executor/execution_fixture.hpp"

namespace tessera::executor {
namespace {

class EverywhereTest : public ExecutionTest {
protected:
  void start() {
    run([this](const std::vector<Place>& places, Events events) {
      return std::make_unique<Everywhere>("VACUUM", places, Everywhere::Order::in_turn, pool::no_settings(), lane_.loop,
                                          std::move(events));
    });
  }
};

// The first has ended long before the last has its connection.
TEST_F(EverywhereTest, EachHasItsTurnWhenItHasItsConnection) {
  for (FakeServer& server : server_) server.answer("VACUUM", complete("VACUUM") + ready());
  for (int round = 0; round < 2; ++round) {
    start();
    ASSERT_TRUE(finish());
    EXPECT_TRUE(*result_) << message();
    EXPECT_EQ(client_, complete("VACUUM"));
    for (std::size_t i = 0; i < shards; ++i) EXPECT_EQ(idle_and_busy(i), std::pair(1, 0));
    forget();
  }
}

TEST_F(EverywhereTest, AnErrorSaysWhereItIsDone) {
  for (FakeServer& server : server_) server.answer("VACUUM", complete("VACUUM") + ready());
  server_[2].answer("VACUUM", error("42P01") + ready());
  start();
  ASSERT_TRUE(finish());
  ASSERT_FALSE(*result_);
  EXPECT_EQ(result_->error().code.view(), "42P01");
  EXPECT_EQ(result_->error().detail, "on shard s2; it has been done on s0, s1");
}

}  // namespace
}  // namespace tessera::executor
