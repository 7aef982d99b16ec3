// The ring by itself, and the loop's rounds with it. (Where the kernel forbids io_uring the former is left out, and the
// latter must work all the same.)
#include "net/send_batch.hpp"

#include <functional>
#include <gtest/gtest.h>
#include <list>

#include "net/stream.hpp"

namespace tessera::net {
namespace {

struct Pair {
  Descriptor near, far;
  Pair() {
    int ends[2];
    if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, ends) != 0) std::abort();
    near = Descriptor(ends[0]);
    far = Descriptor(ends[1]);
  }
};

std::string received(int socket) {
  std::string all(1 << 20, '\0');
  const ssize_t n = ::recv(socket, all.data(), all.size(), 0);
  all.resize(n > 0 ? static_cast<std::size_t>(n) : 0);
  return all;
}

TEST(SendBatch, SendsOnManySocketsAtOnce) {
  const std::unique_ptr<SendBatch> batch = SendBatch::open();
  if (!batch) GTEST_SKIP() << "no io_uring here";
  for (int round = 0; round < 3; ++round) {
    std::list<Pair> pairs(SendBatch::capacity);
    std::list<std::string> texts;
    for (const Pair& pair : pairs) batch->add(pair.near.get(), texts.emplace_back(texts.size() + 1, 'x'));
    const std::span<const int> results = batch->send();
    ASSERT_EQ(results.size(), pairs.size());
    std::size_t i = 0;
    for (const Pair& pair : pairs) {
      EXPECT_EQ(results[i], static_cast<int>(i) + 1);
      EXPECT_EQ(received(pair.far.get()).size(), i + 1);
      ++i;
    }
  }
  EXPECT_TRUE(batch->send().empty());
  EXPECT_FALSE(batch->broken());
}

TEST(SendBatch, SaysWhatBecameOfEach) {
  const std::unique_ptr<SendBatch> batch = SendBatch::open();
  if (!batch) GTEST_SKIP() << "no io_uring here";
  Pair good, full, gone;
  gone.far.reset();
  const std::string much(1 << 16, 'm');
  while (::send(full.near.get(), much.data(), much.size(), MSG_DONTWAIT) > 0) continue;
  for (const Pair* pair : {&full, &good, &gone}) batch->add(pair->near.get(), "hello");
  const std::span<const int> results = batch->send();
  ASSERT_EQ(results.size(), 3u);
  EXPECT_EQ(results[0], -EAGAIN);
  EXPECT_EQ(results[1], 5);
  EXPECT_EQ(results[2], -EPIPE);
  EXPECT_EQ(received(good.far.get()), "hello");
  EXPECT_FALSE(batch->broken());
}

// A round in which one event has many streams send.
class Round : public testing::TestWithParam<bool>, public EventHandler {
protected:
  struct Peer : EventHandler {
    explicit Peer(Round& round) : stream(round.loop_, std::move(pair.near)) {
      if (!stream.open(*this)) std::abort();
    }
    void on_ready(bool, bool) override {}
    Pair pair;
    Stream stream;
  };

  // Runs `act` inside an event, and the loop to the end of that round.
  void run(std::function<void()> act) {
    act_ = std::move(act);
    if (GetParam()) loop_.send_together();
    if (!loop_.add(trigger_.near.get(), *this)) std::abort();
    ASSERT_EQ(::send(trigger_.far.get(), "!", 1, 0), 1);
    loop_.run();
  }
  void on_ready(bool readable, bool) override {
    if (!readable || received(trigger_.near.get()).empty()) return;
    act_();
    loop_.defer([this] { loop_.stop(); });
  }

  EventLoop loop_;
  Pair trigger_;
  std::function<void()> act_;
  std::list<Peer> peers_;
};

TEST_P(Round, AllThatItsEventsProducedGoesOut) {
  for (int i = 0; i < 150; ++i) peers_.emplace_back(*this);
  run([this] {
    for (Peer& peer : peers_) {
      peer.stream.append("one ");
      peer.stream.flush_soon();
      peer.stream.append("two");
      peer.stream.flush_soon();
    }
    if (GetParam() && SendBatch::open()) EXPECT_EQ(peers_.front().stream.pending(), 7u);  // not yet
  });
  for (Peer& peer : peers_) {
    EXPECT_EQ(received(peer.pair.far.get()), "one two");
    EXPECT_EQ(peer.stream.pending(), 0u);
    EXPECT_EQ(peer.stream.bytes_out(), 7u);
  }
}

TEST_P(Round, WhoLeavesSendsBefore) {
  for (int i = 0; i < 4; ++i) peers_.emplace_back(*this);
  std::list<Descriptor> far;
  run([&] {
    for (Peer& peer : peers_) {
      peer.stream.append("last words");
      peer.stream.flush_soon();
      far.push_back(std::move(peer.pair.far));
    }
    peers_.front().stream.close();
    peers_.pop_back();
    auto third = std::next(peers_.begin(), 2);
    third->stream.detach(*third);
  });
  for (const Descriptor& end : far) EXPECT_EQ(received(end.get()), "last words");
}

TEST_P(Round, ALargePieceGoesAtOnce) {
  peers_.emplace_back(*this);
  const std::string large(32 * 1024, 'l');
  std::string got;
  run([&] {
    Peer& peer = peers_.front();
    peer.stream.append("small ");
    peer.stream.flush_soon();
    peer.stream.append(large);
    peer.stream.flush_soon();
    got = received(peer.pair.far.get());
  });
  EXPECT_EQ(got, "small " + large);
}

TEST_P(Round, WhatASlowPeerDoesNotTakeWaits) {
  for (int i = 0; i < 3; ++i) peers_.emplace_back(*this);
  Peer& slow = peers_.front();
  std::size_t filled = 0;
  const std::string much(1 << 16, 'm');
  for (ssize_t n = 0; (n = ::send(slow.stream.descriptor(), much.data(), much.size(), MSG_DONTWAIT)) > 0;)
    filled += static_cast<std::size_t>(n);
  run([this] {
    for (Peer& peer : peers_) {
      peer.stream.append("behind");
      peer.stream.flush_soon();
    }
  });
  EXPECT_EQ(slow.stream.pending(), 6u);
  EXPECT_EQ(received(peers_.back().pair.far.get()), "behind");
  std::string got;
  while (got.size() < filled) got += received(slow.pair.far.get());
  slow.stream.flush();
  EXPECT_EQ(received(slow.pair.far.get()), "behind");
}

INSTANTIATE_TEST_SUITE_P(, Round, testing::Bool(), [](const auto& info) { return info.param ? "together" : "alone"; });

}  // namespace
}  // namespace tessera::net
