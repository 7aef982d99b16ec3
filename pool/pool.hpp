// The server connections of one worker for one (database, identity, shard, role). A client checks one out for as long
// as its transaction (or session) needs it; whoever finds none waits in a queue with a deadline. Limits count over all
// workers (budget.hpp). Runs on its worker's thread; only `help_starving` and `adopt` are reached from others, through
// the loop.
#pragma once

#include <deque>
#include <functional>
#include <list>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "pool/backend.hpp"
#include "pool/budget.hpp"
#include "pool/pool_policy.hpp"

namespace tessera::pool {

// Who waits for a connection.
class PoolClient {
public:
  virtual ~PoolClient() = default;
  // Leased and ours from now on, or why not. Never called from inside checkout().
  virtual void on_checkout(Backend& backend) = 0;
  virtual void on_checkout_failed(const Error& reason) = 0;
};

// Counted since the pool was made.
struct PoolTotals {
  std::uint64_t checkouts = 0;
  std::uint64_t waits = 0;
  std::uint64_t wait_ns = 0;
  std::uint64_t timeouts = 0;
  std::uint64_t connects = 0;
  std::uint64_t connect_failures = 0;
  std::uint64_t closed = 0;
};

class Pool final : public BackendObserver {
public:
  struct Options {
    std::string database, user;  // for SHOW and metrics
    EndpointRef endpoint;
    IdentityRef identity;
    config::Pool limits;
    std::uint64_t message_size = postgres::max_message_length;
    std::function<void(const Error&)> complain =
        {};  // why no connection can be made; now and then, not for each attempt
  };

  Pool(Options options, std::shared_ptr<Budget> budget, net::EventLoop& loop, KeyDerivation& derivation);
  ~Pool() override;

  // A connection at once, or nullptr: then `client` is queued and will be called. The caller leases it.
  Backend* checkout(PoolClient& client);
  // `client` does not want it any more.
  void forget(PoolClient& client);
  // Returns a leased connection. Unless it is provably clean and idle, it is reset or destroyed.
  void checkin(Backend& backend, bool reset);
  // Likewise, of one that is inside a transaction, in which nothing was done that is to last.
  void roll_back(Backend& backend);
  // Destroys a leased connection instead.
  void discard(Backend& backend, std::string_view why);

  void sweep(TimePoint now);
  // New configuration, addresses or credentials: connections made under the old ones are closed when they are next
  // idle.
  void reconfigure(EndpointRef endpoint, IdentityRef identity, const config::Pool& limits);
  void set_message_size(std::uint64_t bytes) { options_.message_size = bytes; }  // of connections made from now on
  void set_identity(IdentityRef identity) { options_.identity = std::move(identity); }
  // Closes idle connections now, busy ones when they come back (RECONNECT).
  void reconnect();
  void pause() { paused_ = true; }
  void resume();
  bool paused() const { return paused_; }
  // Closes everything; waiting clients fail.
  void shut_down(const Error& reason);

  // From other workers, on this pool's thread.
  void help_starving();
  void adopt(std::unique_ptr<Backend> backend);

  PoolCounts counts() const;
  // Nobody has a connection of it, waits for one or means to.
  bool unused() const { return backends_.size() == idle_.size() && waiters_.empty() && holds_ == 0; }
  // Somebody will ask for a connection later: the pool must still be there.
  void hold() { ++holds_; }
  void release_hold() { --holds_; }
  const PoolTotals& totals() const { return totals_; }
  const Options& options() const { return options_; }
  const Budget& budget() const { return *budget_; }
  Duration longest_wait(TimePoint now) const;
  const std::string& last_error() const { return last_error_.message; }
  bool healthy() const { return last_error_.message.empty(); }
  // Any connection that has logged in, for what it knows of the server; nullptr: none.
  const Backend* sample() const;
  template <typename Visit>
  void each(Visit&& visit) const {
    for (const auto& [id, backend] : backends_) visit(*backend.backend);
  }

private:
  struct Member {
    std::unique_ptr<Backend> backend;
    std::uint64_t generation = 0;
  };
  struct Waiter {
    PoolClient* client;
    TimePoint since;
    TimePoint deadline;
  };

  void on_backend_ready(Backend& backend) override;
  void on_backend_failed(Backend& backend, const Error& reason) override;
  void on_backend_closed(Backend& backend, const Error& reason) override;
  void on_backend_clean(Backend& backend) override;

  void offer(Backend& backend);  // an idle, clean connection: to a waiter, a starving worker, or the idle list
  void serve_waiter(Backend& backend);
  bool give_away(Backend& backend);
  void offer_later(BackendId id);
  Backend* take_idle();
  void open_wanted();
  void open_one();
  void drop(Backend& backend);
  void fail_waiters(const Error& reason);
  bool no_server() const;
  bool stays_away(TimePoint now) const;
  Error unreachable() const;
  Error checkout_error();
  void sweep_waiters(TimePoint now);
  void sweep_idle(TimePoint now);
  bool stale(const Backend& backend) const;
  bool expired(const Backend& backend) const;
  Member& member(const Backend& backend) { return backends_.at(backend.id()); }

  Options options_;
  std::shared_ptr<Budget> budget_;
  net::EventLoop* loop_;
  KeyDerivation* derivation_;
  std::unordered_map<BackendId, Member> backends_;
  std::vector<Backend*> idle_;  // most recently used last: the others may grow old and be closed
  std::deque<Waiter> waiters_;
  Backoff backoff_;
  int connecting_ = 0;
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);  // for what is deferred
  std::uint64_t generation_ = 0;
  bool paused_ = false;
  bool shut_down_ = false;
  int holds_ = 0;
  Error last_error_{sqlstate::internal_error, "", {}, {}, 0};
  TimePoint failing_since_{};  // while not healthy()
  TimePoint complained_at_{};
  PoolTotals totals_;
};

}  // namespace tessera::pool
