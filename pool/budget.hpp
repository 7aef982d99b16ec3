// What the workers' pools of one (identity, server) share: how many connections may be open in all, and who lacks one.
// Every worker has a pool of its own, without locks; only opening and closing connections, and moving an idle one to a
// worker that starves, go through here. Thread-safe.
#pragma once

#include <atomic>
#include <memory>
#include <mutex>
#include <string>
#include <unordered_map>
#include <vector>

#include "net/event_loop.hpp"

namespace tessera::pool {

class Pool;

// Connections of one server over all identities (pool.max_server_connections).
struct ServerBudget {
  std::atomic<int> open = 0;
  std::atomic<int> limit = 0;  // 0: unlimited
};

class Budget {
public:
  Budget(int limit, std::shared_ptr<ServerBudget> server) : limit_(limit), server_(std::move(server)) {}

  bool acquire();
  void release();
  int open() const { return open_.load(std::memory_order_relaxed); }
  int limit() const { return limit_.load(std::memory_order_relaxed); }
  // A reload may have lowered the limit: then connections are closed as they come back.
  bool exceeded() const { return open() > limit(); }
  void set_limit(int limit) { limit_.store(limit, std::memory_order_relaxed); }

  // A pool on `loop`'s thread. `alive` says there whether the pool still stands when a task for it runs.
  void join(Pool& pool, net::EventLoop& loop, std::shared_ptr<const bool> alive);
  void leave(Pool& pool);
  // `pool` has clients waiting, the first one `since` then, and may not open more: asks the others for a connection.
  void ask_peers(Pool& pool, TimePoint since);
  // How many pools are short of connections; a pool that frees one looks here first.
  std::atomic<int>& starving() { return starving_; }
  // Who has starved the longest, other than `giver`, whose own first client has waited since `own` (never: nobody
  // waits): its loop and pool, or nullptr if `giver` comes first. Pools take turns: the chosen one counts as served
  // `now`.
  struct Taker {
    Pool* pool = nullptr;
    net::EventLoop* loop = nullptr;
    std::shared_ptr<const bool> alive;
  };
  Taker pick_starving(Pool& giver, TimePoint own, TimePoint now);
  void set_starving(Pool& pool, bool starving, TimePoint since = never);

private:
  struct Peer {
    Pool* pool;
    net::EventLoop* loop;
    std::shared_ptr<const bool> alive;
    bool starving = false;
    TimePoint since = never;  // its first client has waited since then, or it was served then
  };
  std::atomic<int> open_ = 0;
  std::atomic<int> limit_;
  std::atomic<int> starving_ = 0;
  std::shared_ptr<ServerBudget> server_;
  std::mutex mutex_;  // guards peers_
  std::vector<Peer> peers_;
};

// All budgets of the process, by name: "database/user/shard/role".
class Budgets {
public:
  std::shared_ptr<Budget> get(const std::string& name, int limit, const std::string& server, int server_limit);
  // One connection that nobody shares, which counts among the server's.
  std::shared_ptr<Budget> single(const std::string& server, int server_limit);

private:
  std::shared_ptr<ServerBudget> of_server(const std::string& server, int limit);
  std::mutex mutex_;
  std::unordered_map<std::string, std::shared_ptr<Budget>> budgets_;
  std::unordered_map<std::string, std::shared_ptr<ServerBudget>> servers_;
};

}  // namespace tessera::pool
