// Who may come in, and whom a cancel request may reach.
#include "proxy/admission.hpp"

#include <atomic>
#include <gtest/gtest.h>
#include <set>
#include <thread>
#include <vector>

#include "proxy/cancel_registry.hpp"

namespace tessera::proxy {
namespace {

TEST(Admission, CountsUntilTheTicketIsGone) {
  Admission admission;
  auto first = admission.enter("alice", 2);
  auto second = admission.enter("alice", 2);
  ASSERT_TRUE(first && second);
  EXPECT_FALSE(admission.enter("alice", 2));
  EXPECT_TRUE(admission.enter("bob", 2)) << "a temporary ticket";
  EXPECT_EQ(admission.count("bob"), 0u);
  EXPECT_EQ(admission.count("alice"), 2u);
  first.reset();
  EXPECT_EQ(admission.count("alice"), 1u);
  first = admission.enter("alice", 2);
  EXPECT_TRUE(first);
  EXPECT_FALSE(admission.enter("alice", 1)) << "a smaller limit counts who is there";
  EXPECT_TRUE(admission.enter("alice", 0)) << "0: unlimited";
}

TEST(Admission, TicketsMove) {
  Admission admission;
  std::vector<Admission::Ticket> kept;
  for (int i = 0; i < 10; ++i) kept.push_back(*admission.enter("a", 0));
  EXPECT_EQ(admission.count("a"), 10u);
  {
    Admission::Ticket other = *admission.enter("b", 0);
    kept.front() = std::move(other);
  }
  EXPECT_EQ(admission.count("a"), 9u) << "the ticket that was overwritten counts no more";
  EXPECT_EQ(admission.count("b"), 1u);
  kept.clear();
  EXPECT_EQ(admission.count("a"), 0u);
}

TEST(Admission, ThreadsNeverExceedTheLimit) {
  Admission admission;
  std::atomic<int> inside = 0, worst = 0;
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t)
    threads.emplace_back([&] {
      for (int i = 0; i < 20'000; ++i) {
        const auto ticket = admission.enter("key", 3);
        if (!ticket) continue;
        const int now = ++inside;
        for (int seen = worst; now > seen && !worst.compare_exchange_weak(seen, now);) {
        }
        --inside;
      }
    });
  for (std::thread& thread : threads) thread.join();
  EXPECT_LE(worst, 3);
  EXPECT_GE(worst, 1);
  EXPECT_EQ(admission.count("key"), 0u);
}

// The registry hands workers through and never looks into them.
Worker& worker(int number) {
  static char places[4];
  return reinterpret_cast<Worker&>(places[number]);
}

TEST(CancelRegistry, FindsByNumberAndSecret) {
  CancelRegistry registry;
  const CancelKey key = registry.add(worker(1), SessionId(7));
  EXPECT_GT(key.pid, 0u);
  EXPECT_LE(key.pid, 0x7fff'ffffu);
  EXPECT_EQ(key.secret.size(), 4u);
  const auto found = registry.find(key.pid, key.secret);
  ASSERT_TRUE(found);
  EXPECT_EQ(found->worker, &worker(1));
  EXPECT_EQ(found->session, SessionId(7));
  registry.remove(key);
  EXPECT_FALSE(registry.find(key.pid, key.secret));
  registry.remove(key);
}

TEST(CancelRegistry, NothingForAWrongSecret) {
  CancelRegistry registry;
  const CancelKey key = registry.add(worker(0), SessionId(1));
  for (std::size_t byte = 0; byte < 4; ++byte) {
    for (int bit = 0; bit < 8; ++bit) {
      std::string wrong = key.secret;
      wrong[byte] = static_cast<char>(wrong[byte] ^ (1 << bit));
      EXPECT_FALSE(registry.find(key.pid, wrong));
    }
    EXPECT_FALSE(registry.find(key.pid, key.secret.substr(0, byte)));
  }
  EXPECT_FALSE(registry.find(key.pid, key.secret + '\0'));
  EXPECT_FALSE(registry.find(key.pid, ""));
  // An unknown number is compared with zeros, and those are nobody's key.
  EXPECT_FALSE(registry.find(key.pid ^ 1, std::string(4, '\0')));
}

TEST(CancelRegistry, KeysAreUniqueAndUnpredictable) {
  CancelRegistry registry;
  std::set<std::uint32_t> pids;
  std::set<std::string> secrets;
  for (std::uint64_t i = 0; i < 5000; ++i) {
    const CancelKey key = registry.add(worker(0), SessionId(i));
    pids.insert(key.pid);
    secrets.insert(key.secret);
    ASSERT_EQ(registry.find(key.pid, key.secret)->session, SessionId(i));
  }
  EXPECT_EQ(pids.size(), 5000u);
  EXPECT_GT(secrets.size(), 4990u);
}

}  // namespace
}  // namespace tessera::proxy
