// Tests only: three servers by script, a pool for each, and a client that keeps what it gets.
#pragma once

#include <gtest/gtest.h>

#include "executor/execution.hpp"
#include "pool/fake_server.hpp"

namespace tessera::executor {

using namespace pool::script;
using namespace std::chrono_literals;

class ExecutionTest : public testing::Test {
protected:
  static constexpr std::size_t shards = 3;

  ExecutionTest() {
    limits_.size = 2;
    limits_.reconnect_min = limits_.reconnect_max = 10ms;
    lane_.on([this] {
      for (std::size_t i = 0; i < shards; ++i)
        pools_.push_back(std::make_unique<pool::Pool>(
            pool::Pool::Options{"db", "alice",
                                server_[i].endpoint("s" + std::to_string(i), static_cast<std::uint32_t>(i)), identity_,
                                limits_},
            std::make_shared<pool::Budget>(2, nullptr), lane_.loop, derivation_));
    });
  }
  ~ExecutionTest() override {
    lane_.on([this] {
      execution_.reset();
      pools_.clear();
    });
    lane_.settle();
  }
  // `make`: the execution, from its places and events.
  template <typename Make>
  void run(Make&& make) {
    lane_.on([&] {
      std::vector<Place> places;
      for (const auto& pool : pools_) places.push_back({.pool = pool.get()});
      Events events{.relay =
                        [this](std::string_view bytes) {
                          client_.append(bytes);
                          congested_ = congested_ || client_.size() > takes_;
                        },
                    .flush = [this] { ++flushes_; },
                    .congested = [this] { return congested_; },
                    .done =
                        [this](const Result<void>& result) {
                          result_ = result;
                          if (result) client_ += execution_->completion();
                          cut_ = execution_->cut();
                        }};
      execution_ = make(places, std::move(events));
      execution_->start();
      EXPECT_FALSE(result_) << "never from inside start()";
    });
  }
  bool finish() {
    return lane_.eventually([this] {
      for (const auto& pool : pools_) pool->sweep(lane_.loop.now());
      return result_.has_value();
    });
  }
  void forget() {
    lane_.on([this] {
      execution_.reset();
      client_.clear();
      result_.reset();
    });
  }
  std::string message() const { return result_ && !*result_ ? result_->error().message : ""; }
  std::pair<int, int> idle_and_busy(std::size_t shard) {
    return lane_.on([&] {
      const pool::PoolCounts counts = pools_[shard]->counts();
      return std::pair(counts.idle, counts.busy);
    });
  }

  FakeServer server_[shards];
  pool::KeyDerivation derivation_;
  Lane lane_;
  config::Pool limits_;
  pool::IdentityRef identity_ = std::make_shared<const pool::Identity>(pool::Identity{"alice", {}});
  std::vector<std::unique_ptr<pool::Pool>> pools_;
  std::unique_ptr<Execution> execution_;
  // What the client has, on the lane.
  std::string client_;
  int flushes_ = 0;
  std::size_t takes_ = SIZE_MAX;  // so many bytes, and then it is slow
  bool congested_ = false;
  std::optional<Result<void>> result_;
  bool cut_ = false;
};

}  // namespace tessera::executor
