// Two workers that share a limit: idle connections move to the one that starves.
#include "pool/pool_fixture.hpp"

namespace tessera::pool {
namespace {

using namespace script;
using testing::ElementsAre;
using testing::HasSubstr;

// ---- two workers ----------------------------------------------------------------------------------------------------

class TwoWorkers : public testing::Test {
protected:
  TwoWorkers() {
    config::Pool limits = default_limits();
    limits.size = 1;
    budget_ = std::make_shared<Budget>(1, nullptr);
    for (std::size_t i = 0; i < 2; ++i)
      lane_[i].on([&] {
        pool_[i] = std::make_unique<Pool>(Pool::Options{"db", "alice", endpoint_, identity_, limits}, budget_,
                                          lane_[i].loop, derivation_);
      });
  }
  ~TwoWorkers() override {
    for (std::size_t i = 0; i < 2; ++i) lane_[i].on([&] { pool_[i].reset(); });
    for (Lane& lane : lane_) lane.settle();
  }
  FakeServer server_;
  EndpointRef endpoint_ = server_.endpoint();
  IdentityRef identity_ = std::make_shared<const Identity>(Identity{"alice", {}});
  KeyDerivation derivation_;
  std::shared_ptr<Budget> budget_;
  Lane lane_[2];
  std::unique_ptr<Pool> pool_[2];
};

TEST_F(TwoWorkers, AnIdleConnectionMovesToTheWorkerThatStarves) {
  Client here, there;
  lane_[0].on([&] { here.checkout(*pool_[0]); });
  ASSERT_TRUE(lane_[0].eventually([&] { return here.backend != nullptr; }));
  lane_[0].on([&] { pool_[0]->checkin(*std::exchange(here.backend, nullptr), false); });
  lane_[1].on([&] { EXPECT_FALSE(there.checkout(*pool_[1])); });
  ASSERT_TRUE(lane_[1].eventually([&] { return there.backend != nullptr; }));
  EXPECT_EQ(server_.accepted(), 1) << "the same one";
  EXPECT_EQ(budget_->open(), 1);
  EXPECT_EQ(budget_->starving().load(), 0);
  EXPECT_EQ(lane_[0].on([&] { return pool_[0]->counts().idle; }), 0);
  lane_[1].on([&] { there.query("SELECT 1"); });
  ASSERT_TRUE(lane_[1].eventually([&] { return there.idle(); })) << "it works over there";
  EXPECT_EQ(there.relayed, complete("OK") + ready());
  lane_[1].on([&] { pool_[1]->checkin(*std::exchange(there.backend, nullptr), false); });
}

TEST_F(TwoWorkers, ABusyConnectionMovesWhenItIsReturned) {
  Client here, there;
  lane_[0].on([&] { here.checkout(*pool_[0]); });
  ASSERT_TRUE(lane_[0].eventually([&] { return here.backend != nullptr; }));
  lane_[1].on([&] { EXPECT_FALSE(there.checkout(*pool_[1])); });
  ASSERT_TRUE(lane_[0].eventually([&] { return budget_->starving().load() == 1; }));
  lane_[0].on([&] { pool_[0]->checkin(*std::exchange(here.backend, nullptr), true); });
  ASSERT_TRUE(lane_[1].eventually([&] { return there.backend != nullptr; }));
  EXPECT_EQ(server_.times_asked("DISCARD ALL"), 1u) << "clean first";
  EXPECT_EQ(server_.accepted(), 1);
}

TEST_F(TwoWorkers, WhoGivesUpDoesNotStarve) {
  Client here, there;
  lane_[0].on([&] { here.checkout(*pool_[0]); });
  ASSERT_TRUE(lane_[0].eventually([&] { return here.backend != nullptr; }));
  lane_[1].on([&] { EXPECT_FALSE(there.checkout(*pool_[1])); });
  EXPECT_EQ(budget_->starving().load(), 1);
  lane_[1].on([&] { pool_[1]->forget(there); });
  EXPECT_EQ(budget_->starving().load(), 0);
  lane_[0].on([&] { pool_[0]->checkin(*std::exchange(here.backend, nullptr), false); });
  EXPECT_EQ(lane_[0].on([&] { return pool_[0]->counts().idle; }), 1);
}

TEST_F(TwoWorkers, AConnectionToAnotherPlaceIsNotAdopted) {
  FakeServer elsewhere;
  Client here, there;
  lane_[0].on([&] { here.checkout(*pool_[0]); });
  ASSERT_TRUE(lane_[0].eventually([&] { return here.backend != nullptr; }));
  // The second worker has the new configuration already, the first does not.
  lane_[1].on([&] {
    pool_[1]->reconfigure(elsewhere.endpoint(), identity_, pool_[1]->options().limits);
    EXPECT_FALSE(there.checkout(*pool_[1]));
  });
  ASSERT_TRUE(lane_[0].eventually([&] { return budget_->starving().load() == 1; }));
  lane_[0].on([&] { pool_[0]->checkin(*std::exchange(here.backend, nullptr), false); });
  ASSERT_TRUE(lane_[1].eventually([&] { return there.backend != nullptr; }));
  EXPECT_EQ(elsewhere.accepted(), 1);
  EXPECT_EQ(budget_->open(), 1);
  lane_[1].on([&] { pool_[1]->discard(*std::exchange(there.backend, nullptr), "end of the test"); });
}

// The same role, but who waits has said another password.
TEST_F(TwoWorkers, AConnectionOfOtherCredentialsIsNotAdopted) {
  const auto other =
      std::make_shared<const Identity>(Identity{"alice", postgres::PlainPassword{Secret("another password")}});
  Client here, there;
  lane_[0].on([&] { here.checkout(*pool_[0]); });
  ASSERT_TRUE(lane_[0].eventually([&] { return here.backend != nullptr; }));
  lane_[1].on([&] {
    pool_[1]->set_identity(other);
    EXPECT_FALSE(there.checkout(*pool_[1]));
  });
  ASSERT_TRUE(lane_[0].eventually([&] { return budget_->starving().load() == 1; }));
  lane_[0].on([&] { pool_[0]->checkin(*std::exchange(here.backend, nullptr), false); });
  ASSERT_TRUE(lane_[1].eventually([&] { return there.backend != nullptr; }));
  EXPECT_TRUE(lane_[1].on([&] { return there.backend->identity() == *other; }));
  EXPECT_EQ(server_.accepted(), 2) << "a login of its own";
  EXPECT_EQ(budget_->open(), 1);
  lane_[1].on([&] { pool_[1]->discard(*std::exchange(there.backend, nullptr), "end of the test"); });
}

// Equal ones are as good as the same: each worker makes its own.
TEST_F(TwoWorkers, AConnectionOfEqualCredentialsIsAdopted) {
  Client here, there;
  lane_[0].on([&] { here.checkout(*pool_[0]); });
  ASSERT_TRUE(lane_[0].eventually([&] { return here.backend != nullptr; }));
  lane_[1].on([&] {
    pool_[1]->set_identity(std::make_shared<const Identity>(*identity_));
    EXPECT_FALSE(there.checkout(*pool_[1]));
  });
  ASSERT_TRUE(lane_[0].eventually([&] { return budget_->starving().load() == 1; }));
  lane_[0].on([&] { pool_[0]->checkin(*std::exchange(here.backend, nullptr), false); });
  ASSERT_TRUE(lane_[1].eventually([&] { return there.backend != nullptr; }));
  EXPECT_EQ(server_.accepted(), 1);
  lane_[1].on([&] { pool_[1]->checkin(*std::exchange(there.backend, nullptr), false); });
}

// A reload or new credentials take a pool away while the other worker calls for it, or has sent it a connection.
TEST_F(TwoWorkers, WhatComesForAPoolThatHasGoneHarmsNobody) {
  Client here, there;
  lane_[0].on([&] { here.checkout(*pool_[0]); });
  ASSERT_TRUE(lane_[0].eventually([&] { return here.backend != nullptr; }));
  lane_[1].on([&] { EXPECT_FALSE(there.checkout(*pool_[1])); });
  ASSERT_TRUE(lane_[0].eventually([&] { return budget_->starving().load() == 1; }));
  lane_[1].on([&] {
    budget_->ask_peers(*pool_[0], TimePoint{});  // a call for help to the second pool
    lane_[0].on([&] { pool_[0]->checkin(*std::exchange(here.backend, nullptr), false); });
    pool_[1]->forget(there);
    pool_[1].reset();
  });
  ASSERT_TRUE(lane_[0].eventually([&] { return budget_->open() == 0; })) << "its place is free again";
}

// Gives its connection back in its turn, while the connection's own code is on the stack, and then the servers move.
struct Returning final : Client {
  Pool* pool = nullptr;
  void on_backend_turn(Backend&) override {
    if (relayed.empty() || !idle()) return;
    pool->checkin(*std::exchange(backend, nullptr), false);
    pool->reconnect();
  }
};

TEST_F(TwoWorkers, AConnectionThatIsOfferedLaterMayBeTooOldByThen) {
  Returning first;
  Client second, there;
  lane_[0].on([&] {
    first.pool = pool_[0].get();
    first.checkout(*pool_[0]);
  });
  ASSERT_TRUE(lane_[0].eventually([&] { return first.backend != nullptr; }));
  lane_[0].on([&] { EXPECT_FALSE(second.checkout(*pool_[0])); });
  std::this_thread::sleep_for(std::chrono::milliseconds(2));
  lane_[1].on([&] { EXPECT_FALSE(there.checkout(*pool_[1])); });
  ASSERT_TRUE(lane_[0].eventually([&] { return budget_->starving().load() > 0; }));
  lane_[0].on([&] { first.query("SELECT 1"); });
  ASSERT_TRUE(lane_[0].eventually([&] { return second.backend != nullptr; }));
  EXPECT_EQ(server_.accepted(), 2) << "not the one from before RECONNECT";
  lane_[1].on([&] { pool_[1]->forget(there); });
  lane_[0].on([&] { pool_[0]->checkin(*std::exchange(second.backend, nullptr), false); });
}

// The first worker always has a client waiting when its only connection comes back.
TEST_F(TwoWorkers, ABusyWorkerDoesNotKeepWhatTheOtherHasWaitedForLonger) {
  Client first, second, there;
  lane_[0].on([&] { first.checkout(*pool_[0]); });
  ASSERT_TRUE(lane_[0].eventually([&] { return first.backend != nullptr; }));
  lane_[1].on([&] { EXPECT_FALSE(there.checkout(*pool_[1])); });
  std::this_thread::sleep_for(std::chrono::milliseconds(2));
  lane_[0].on([&] { EXPECT_FALSE(second.checkout(*pool_[0])); });
  lane_[0].on([&] { pool_[0]->checkin(*std::exchange(first.backend, nullptr), false); });
  ASSERT_TRUE(lane_[1].eventually([&] { return there.backend != nullptr; })) << "it came first";
  EXPECT_EQ(lane_[0].on([&] { return second.backend; }), nullptr);
  lane_[1].on([&] { pool_[1]->checkin(*std::exchange(there.backend, nullptr), false); });
  ASSERT_TRUE(lane_[0].eventually([&] { return second.backend != nullptr; })) << "and back";
  EXPECT_EQ(budget_->starving().load(), 0);
  EXPECT_EQ(server_.accepted(), 1);
  lane_[0].on([&] { pool_[0]->checkin(*std::exchange(second.backend, nullptr), false); });
}

TEST_F(TwoWorkers, ConnectionsGoToAndFroWithoutBeingLost) {
  constexpr int rounds = 300;
  struct Worker {
    Client client;
    int served = 0;
  } workers[2];
  std::thread threads[2];
  for (std::size_t i = 0; i < 2; ++i) {
    threads[i] = std::thread([&, i] {
      Worker& me = workers[i];
      for (int round = 0; round < rounds; ++round) {
        lane_[i].on([&] { me.client.checkout(*pool_[i]); });
        if (!lane_[i].eventually([&] {
              pool_[i]->sweep(lane_[i].loop.now());
              return me.client.backend != nullptr;
            }))
          return;
        ++me.served;
        lane_[i].on([&] { pool_[i]->checkin(*std::exchange(me.client.backend, nullptr), false); });
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(workers[0].served, rounds);
  EXPECT_EQ(workers[1].served, rounds);
  EXPECT_EQ(budget_->open(), 1);
  EXPECT_EQ(server_.accepted(), 1);
}

}  // namespace
}  // namespace tessera::pool
