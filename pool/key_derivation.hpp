// SCRAM's key derivation, off the I/O threads: one thread, a queue, and a cache, so that each (password, salt,
// iterations) is derived once in the life of the process however often it is needed. Thread-safe. The cache holds keys
// under a digest of the request, never the password.
#pragma once

#include <condition_variable>
#include <deque>
#include <functional>
#include <mutex>
#include <thread>
#include <unordered_map>

#include "net/event_loop.hpp"
#include "wire/postgres/scram.hpp"

namespace tessera::pool {

class KeyDerivation {
public:
  using Done = std::move_only_function<void(postgres::ScramKeys)>;
  static constexpr std::size_t max_cached = 100'000;
  static constexpr std::size_t max_queued = 10'000;

  KeyDerivation();
  ~KeyDerivation();

  // Calls `done` on `loop`'s thread, later. False: too many wait already, nothing will happen.
  bool derive(postgres::KeyRequest request, net::EventLoop& loop, Done done);

private:
  struct Job {
    std::string cache_key;
    postgres::KeyRequest request;
    net::EventLoop* loop;
    Done done;
  };
  void run();

  std::mutex mutex_;  // guards everything below
  std::condition_variable wake_;
  bool stopping_ = false;
  std::deque<Job> jobs_;
  std::unordered_map<std::string, postgres::ScramKeys> cache_;
  std::thread thread_;
};

}  // namespace tessera::pool
