// Limits that hold over threads, and keys that are derived once.
#include "pool/budget.hpp"

#include <gtest/gtest.h>
#include <thread>

#include "pool/key_derivation.hpp"

namespace tessera::pool {
namespace {

using namespace std::chrono_literals;

TEST(Budget, CountsUpToItsLimit) {
  Budget budget(2, nullptr);
  EXPECT_TRUE(budget.acquire());
  EXPECT_TRUE(budget.acquire());
  EXPECT_FALSE(budget.acquire());
  EXPECT_EQ(budget.open(), 2);
  budget.release();
  EXPECT_TRUE(budget.acquire());
  budget.set_limit(1);
  budget.release();
  EXPECT_FALSE(budget.acquire()) << "the new limit counts what is open already";
  budget.set_limit(0);
  EXPECT_TRUE(budget.acquire()) << "0: unlimited";
}

TEST(Budget, AServersLimitCountsAllIdentities) {
  Budgets budgets;
  const auto alice = budgets.get("db/s0/alice", 10, "db/s0", 3);
  const auto bob = budgets.get("db/s0/bob", 10, "db/s0", 3);
  EXPECT_EQ(alice, budgets.get("db/s0/alice", 10, "db/s0", 3));
  EXPECT_NE(alice, bob);
  EXPECT_TRUE(alice->acquire());
  EXPECT_TRUE(alice->acquire());
  EXPECT_TRUE(bob->acquire());
  EXPECT_FALSE(bob->acquire());
  EXPECT_EQ(bob->open(), 1) << "a refusal by the server's limit leaves no trace in the own one";
  alice->release();
  EXPECT_TRUE(bob->acquire());
  const auto elsewhere = budgets.get("db/s1/bob", 10, "db/s1", 3);
  EXPECT_TRUE(elsewhere->acquire());
}

TEST(Budget, ManyThreadsNeverExceedEitherLimit) {
  auto server = std::make_shared<ServerBudget>();
  server->limit = 7;
  Budget one(5, server), two(5, server);
  std::atomic<int> open_one = 0, open_all = 0, worst_one = 0, worst_all = 0, granted = 0;
  const auto raise = [](std::atomic<int>& worst, int seen) {
    for (int now = worst; seen > now && !worst.compare_exchange_weak(now, seen);) {
    }
  };
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      Budget& mine = t % 2 == 0 ? one : two;
      for (int i = 0; i < 30'000; ++i) {
        if (!mine.acquire()) continue;
        ++granted;
        if (t % 2 == 0) raise(worst_one, ++open_one);
        raise(worst_all, ++open_all);
        std::this_thread::yield();
        --open_all;
        if (t % 2 == 0) --open_one;
        mine.release();
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_LE(worst_one, 5);
  EXPECT_LE(worst_all, 7);
  EXPECT_GT(granted, 1000);
  EXPECT_EQ(one.open() + two.open() + server->open, 0);
}

// ---- key derivation -------------------------------------------------------------------------------------------------

postgres::KeyRequest request(std::string password, std::string salt, std::uint32_t iterations) {
  postgres::KeyRequest made;
  made.password = std::move(password);
  made.salt = std::move(salt);
  made.iterations = iterations;
  return made;
}

class Derivation : public testing::Test {
protected:
  void SetUp() override {
    // A test that waits for nothing must still end.
    loop_.set_ticker(10s, [this] {
      ADD_FAILURE() << "timed out";
      loop_.stop();
    });
  }
  postgres::ScramKeys derive(const postgres::KeyRequest& wanted) {
    postgres::ScramKeys got;
    bool called = false;
    EXPECT_TRUE(derivation_.derive(wanted, loop_, [&](const postgres::ScramKeys& keys) {
      EXPECT_EQ(std::this_thread::get_id(), here_);
      got = keys;
      called = true;
      stop();
    }));
    EXPECT_FALSE(called) << "never from inside derive()";
    run();
    return got;
  }
  void run() { loop_.run(); }
  void stop() { loop_.stop(); }

  net::EventLoop loop_;
  KeyDerivation derivation_;
  std::thread::id here_ = std::this_thread::get_id();
};

TEST_F(Derivation, GivesTheKeysOnTheCallersLoop) {
  const postgres::KeyRequest wanted = request("secret", "salt1234", 4096);
  EXPECT_EQ(derive(wanted), postgres::derive_scram_keys(wanted));
}

TEST_F(Derivation, ManyRequestsEachGetTheirOwnKeys) {
  std::vector<postgres::KeyRequest> wanted;
  for (const char* password : {"a", "b"})
    for (const char* salt : {"salt", "salt/4096"})
      for (const std::uint32_t iterations : {4096u, 4097u}) wanted.push_back(request(password, salt, iterations));
  std::size_t left = wanted.size() * 3;
  std::vector<std::pair<std::size_t, postgres::ScramKeys>> got;
  for (int round = 0; round < 3; ++round)
    for (std::size_t i = 0; i < wanted.size(); ++i)
      ASSERT_TRUE(derivation_.derive(wanted[i], loop_, [&, i](const postgres::ScramKeys& keys) {
        got.emplace_back(i, keys);
        if (--left == 0) stop();
      }));
  run();
  ASSERT_EQ(got.size(), wanted.size() * 3);
  for (const auto& [index, keys] : got) EXPECT_EQ(keys, postgres::derive_scram_keys(wanted[index])) << index;
}

TEST_F(Derivation, ASecondRequestIsAnsweredFromMemory) {
  const postgres::KeyRequest slow = request("secret", "salt", 300'000);
  std::chrono::nanoseconds first{}, second{};
  postgres::ScramKeys keys;
  const auto begin = Clock::now();
  ASSERT_TRUE(derivation_.derive(slow, loop_, [&](const postgres::ScramKeys& one) {
    first = Clock::now() - begin;
    keys = one;
    const auto again = Clock::now();
    ASSERT_TRUE(derivation_.derive(slow, loop_, [&, again](const postgres::ScramKeys& two) {
      second = Clock::now() - again;
      EXPECT_EQ(two, keys);
      stop();
    }));
  }));
  run();
  EXPECT_LT(second, first / 4);
}

TEST_F(Derivation, TwoLoopsHearOnTheirOwnThreads) {
  net::EventLoop other;
  std::thread::id heard_on, other_id;
  std::thread thread([&] {
    other_id = std::this_thread::get_id();
    other.run();
  });
  ASSERT_TRUE(derivation_.derive(request("x", "y", 1000), other, [&](const postgres::ScramKeys&) {
    heard_on = std::this_thread::get_id();
    other.stop();
    loop_.stop();
  }));
  run();
  thread.join();
  EXPECT_EQ(heard_on, other_id);
  EXPECT_NE(heard_on, here_);
}

TEST_F(Derivation, TheQueueIsBounded) {
  // The first keeps the thread busy while the queue fills.
  ASSERT_TRUE(derivation_.derive(request("slow", "salt", 2'000'000), loop_, [](const postgres::ScramKeys&) {}));
  std::size_t taken = 0;
  while (taken <= KeyDerivation::max_queued + 1 &&
         derivation_.derive(request("x" + std::to_string(taken), "s", 1), loop_, [](const postgres::ScramKeys&) {}))
    ++taken;
  EXPECT_LE(taken, KeyDerivation::max_queued + 1);
  EXPECT_GE(taken, KeyDerivation::max_queued - 1);
}

}  // namespace
}  // namespace tessera::pool
