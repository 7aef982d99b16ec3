// The loop's promises: what runs when, on which thread, and that handlers may vanish in the middle.
#include "net/event_loop.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/eventfd.h>
#include <thread>
#include <unistd.h>

#include "net/socket.hpp"

namespace tessera::net {
namespace {

using namespace std::chrono_literals;
using testing::ElementsAre;

// An eventfd is always writable and readable once it was signalled.
struct Signal final : EventHandler {
  Descriptor fd{::eventfd(0, EFD_NONBLOCK)};
  std::function<void(bool, bool)> react;
  int calls = 0;
  void raise() const {
    const std::uint64_t one = 1;
    ASSERT_EQ(::write(fd.get(), &one, sizeof one), static_cast<ssize_t>(sizeof one));
  }
  void on_ready(bool readable, bool writable) override {
    ++calls;
    if (react) react(readable, writable);
  }
};

TEST(EventLoop, PostedTasksRunInOrderOnTheLoopsThread) {
  EventLoop loop;
  std::vector<int> order;
  std::thread::id ran_on;
  std::thread thread([&] { loop.run(); });
  const std::thread::id wanted = thread.get_id();
  for (int i = 0; i < 100; ++i)
    loop.post([&, i] {
      order.push_back(i);
      ran_on = std::this_thread::get_id();
    });
  loop.post([&] { loop.stop(); });
  thread.join();
  ASSERT_EQ(order.size(), 100u);
  EXPECT_TRUE(std::is_sorted(order.begin(), order.end()));
  EXPECT_EQ(ran_on, wanted);
}

TEST(EventLoop, PostFromManyThreadsLosesNothing) {
  EventLoop loop;
  std::thread runner([&] { loop.run(); });
  int done = 0;  // touched on the loop's thread only
  std::vector<std::thread> posters;
  for (int t = 0; t < 4; ++t)
    posters.emplace_back([&] {
      for (int i = 0; i < 20'000; ++i) loop.post([&done] { ++done; });
    });
  for (std::thread& poster : posters) poster.join();
  loop.post([&] { loop.stop(); });
  runner.join();
  EXPECT_EQ(done, 80'000);
}

TEST(EventLoop, StopBeforeRunStillRunsWhatWasPosted) {
  EventLoop loop;
  bool ran = false;
  loop.post([&] { ran = true; });
  loop.stop();
  loop.run();
  EXPECT_TRUE(ran);
}

TEST(EventLoop, DeferredTasksRunAfterAllEventsOfTheRound) {
  EventLoop loop;
  std::vector<std::string> order;
  Signal first, second;
  for (Signal* signal : {&first, &second}) {
    signal->raise();
    ASSERT_TRUE(loop.add(signal->fd.get(), *signal));
    signal->react = [&](bool, bool) {
      order.push_back("event");
      loop.defer([&] {
        order.push_back("deferred");
        loop.defer([&] { order.push_back("deferred again"); });
      });
    };
  }
  loop.set_ticker(1h, [] {});
  loop.post([&] { loop.defer([&] { loop.stop(); }); });
  loop.run();
  EXPECT_THAT(order, ElementsAre("event", "event", "deferred", "deferred", "deferred again", "deferred again"));
}

TEST(EventLoop, AHandlerMayRemoveAndDestroyAnotherOfTheSameRound) {
  EventLoop loop;
  std::vector<std::unique_ptr<Signal>> signals;
  int called = 0;
  for (int i = 0; i < 10; ++i) {
    auto signal = std::make_unique<Signal>();
    signal->raise();
    ASSERT_TRUE(loop.add(signal->fd.get(), *signal));
    signal->react = [&, self = signal.get()](bool, bool) {
      ++called;
      for (auto& other : signals) {
        if (!other || other.get() == self) continue;
        loop.remove(other->fd.get(), *other);
        other.reset();
      }
    };
    signals.push_back(std::move(signal));
  }
  loop.post([&] { loop.stop(); });
  loop.run();
  EXPECT_EQ(called, 1) << "the others were gone before their turn";
  for (auto& signal : signals)
    if (signal) loop.remove(signal->fd.get(), *signal);
}

TEST(EventLoop, AHandlerMayRemoveItself) {
  EventLoop loop;
  Signal signal;
  signal.raise();
  ASSERT_TRUE(loop.add(signal.fd.get(), signal));
  signal.react = [&](bool, bool) {
    loop.remove(signal.fd.get(), signal);
    signal.raise();
    loop.post([&] { loop.stop(); });
  };
  loop.run();
  EXPECT_EQ(signal.calls, 1);
}

TEST(EventLoop, ReadinessIsReportedOnceForEachChange) {
  EventLoop loop;
  Signal signal;
  ASSERT_TRUE(loop.add(signal.fd.get(), signal));
  std::vector<std::pair<bool, bool>> seen;
  signal.react = [&](bool readable, bool writable) {
    seen.emplace_back(readable, writable);
    if (seen.size() == 1) loop.post([&] { signal.raise(); });
    if (seen.size() == 2) loop.post([&] { loop.post([&] { loop.stop(); }); });
  };
  loop.run();
  ASSERT_EQ(seen.size(), 2u) << "nobody reads, and still there is no third event";
  EXPECT_EQ(seen[0], std::pair(false, true));
  EXPECT_TRUE(seen[1].first);
}

TEST(EventLoop, TheEndOfAStreamIsReadable) {
  EventLoop loop;
  int ends[2];
  ASSERT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, ends), 0);
  Descriptor near(ends[0]), far(ends[1]);
  struct Watch final : EventHandler {
    EventLoop* loop = nullptr;
    bool told = false;
    void on_ready(bool readable, bool) override {
      if (!readable) return;
      told = true;
      loop->stop();
    }
  } watch;
  watch.loop = &loop;
  ASSERT_TRUE(loop.add(near.get(), watch));
  loop.post([&] { far.reset(); });
  loop.run();
  EXPECT_TRUE(watch.told);
}

TEST(EventLoop, WatchingAClosedDescriptorFails) {
  EventLoop loop;
  Signal signal;
  signal.fd.reset();
  EXPECT_FALSE(loop.add(signal.fd.get(), signal));
}

TEST(EventLoop, TheTickerTicksAboutEveryInterval) {
  EventLoop loop;
  int ticks = 0;
  const TimePoint begin = Clock::now();
  loop.set_ticker(10ms, [&] {
    EXPECT_GE(loop.now(), begin + (ticks + 1) * 10ms);
    if (++ticks == 5) loop.stop();
  });
  loop.run();
  EXPECT_EQ(ticks, 5);
  const auto took = Clock::now() - begin;
  EXPECT_GE(took, 50ms);
  EXPECT_LT(took, 5s);
}

TEST(EventLoop, TimeStandsStillWithinARound) {
  EventLoop loop;
  loop.post([&] {
    const TimePoint before = loop.now();
    std::this_thread::sleep_for(3ms);
    EXPECT_EQ(loop.now(), before);
    loop.post([&, before] {
      EXPECT_GE(loop.now(), before + 3ms);
      loop.stop();
    });
  });
  loop.run();
}

TEST(EventLoop, WhatIsLeftBehindIsDestroyedWithTheLoop) {
  auto posted = std::make_shared<int>(0);
  auto deferred = std::make_shared<int>(0);
  {
    EventLoop loop;
    loop.post([posted] {});
    loop.defer([deferred] { ++*deferred; });
    EXPECT_EQ(posted.use_count(), 2);
  }
  EXPECT_EQ(posted.use_count(), 1);
  EXPECT_EQ(deferred.use_count(), 1);
}

}  // namespace
}  // namespace tessera::net
