// Counters of one worker. Written by its thread alone, read by the admin thread at any time: relaxed atomics, so that a
// statement pays a plain increment. What is kept per shard or per SQLSTATE is bounded.
#pragma once

#include <array>
#include <atomic>
#include <bit>
#include <chrono>
#include <cstdint>
#include <deque>
#include <map>
#include <mutex>
#include <string>

namespace tessera::proxy {

class Counter {
public:
  void add(std::uint64_t n = 1) { value_.store(value_.load(std::memory_order_relaxed) + n, std::memory_order_relaxed); }
  void set(std::uint64_t n) { value_.store(n, std::memory_order_relaxed); }
  std::uint64_t get() const { return value_.load(std::memory_order_relaxed); }

private:
  std::atomic<std::uint64_t> value_ = 0;
};

// Latencies in powers of two of microseconds: bucket i holds those below 2^i µs, the last all others (above 34 s).
class LatencyHistogram {
public:
  static constexpr std::size_t buckets = 26;
  void observe(std::chrono::nanoseconds latency) {
    const auto us = static_cast<std::uint64_t>(latency.count()) / 1000;
    const auto bucket = std::min<std::size_t>(static_cast<std::size_t>(std::bit_width(us)), buckets - 1);
    counts_[bucket].add();
    sum_us_.add(us);
  }
  std::uint64_t count(std::size_t bucket) const { return counts_[bucket].get(); }
  std::uint64_t sum_us() const { return sum_us_.get(); }
  // Upper bound of a bucket in seconds.
  static double upper_bound(std::size_t bucket) { return static_cast<double>(1ull << bucket) / 1e6; }

private:
  std::array<Counter, buckets> counts_;
  Counter sum_us_;
};

enum class StatementClass : std::uint8_t { select, insert, update, delete_, copy, transaction, session, ddl, other };
inline constexpr std::size_t statement_classes = 9;
inline constexpr std::array<const char*, statement_classes> statement_class_names = {
    "select", "insert", "update", "delete", "copy", "transaction", "session", "ddl", "other"};

// Of one database on one worker.
struct DatabaseMetrics {
  struct Shard {
    std::array<Counter, statement_classes> statements;
    LatencyHistogram latency;
  };
  explicit DatabaseMetrics(std::size_t shard_count) { resize(shard_count); }
  void resize(std::size_t shard_count) {
    while (shards.size() < shard_count) shards.emplace_back();
  }
  // A deque: shards come in addition while others count, and none ever moves.
  std::deque<Shard> shards;
  Counter scattered, refused, local;
  Counter cache_hits, cache_misses, cache_entries;
  Counter transactions;
  Counter client_bytes_in, client_bytes_out;
  Counter moved_bytes;  // from one shard to another, for statements that are gathered
  Counter clients, logins, login_failures, cancels;
  Counter waits, wait_ns;

  // Errors that clients saw, by SQLSTATE; rare enough for a lock.
  void count_error(std::string_view sqlstate) {
    const std::scoped_lock lock(errors_mutex_);
    if (errors_.size() < 300 || errors_.contains(std::string(sqlstate))) ++errors_[std::string(sqlstate)];
  }
  std::map<std::string, std::uint64_t> errors() const {
    const std::scoped_lock lock(errors_mutex_);
    return errors_;
  }

private:
  mutable std::mutex errors_mutex_;
  std::map<std::string, std::uint64_t> errors_;
};

}  // namespace tessera::proxy
