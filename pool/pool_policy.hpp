// The pool's decisions, as pure functions of counts and times: when to open, when to close, whom to serve. `Pool`
// carries them out.
#pragma once

#include <algorithm>
#include <chrono>

#include "base/clock.hpp"
#include "config/config.hpp"

namespace tessera::pool {

// Waits after failed connects: doubled from the minimum to the maximum, forgotten after a success.
class Backoff {
public:
  Backoff(Duration minimum, Duration maximum) : minimum_(minimum), maximum_(maximum) {}
  bool may_try(TimePoint now) const { return now >= next_; }
  void failed(TimePoint now) {
    // Several connects that were under way together count as one attempt.
    if (!may_try(now)) return;
    delay_ = delay_ == Duration::zero() ? minimum_ : std::min(delay_ * 2, maximum_);
    next_ = now + delay_;
  }
  void succeeded() {
    delay_ = Duration::zero();
    next_ = TimePoint::min();
  }
  Duration delay() const { return delay_; }

private:
  Duration minimum_, maximum_;
  Duration delay_ = Duration::zero();
  TimePoint next_ = TimePoint::min();
};

struct PoolCounts {
  int idle = 0;
  int busy = 0;  // leased, cleaning
  int connecting = 0;
  int waiting = 0;  // clients in the queue
};

// How many connections to open now, budget aside: one for each waiting client that no connection under way will serve,
// and what min_idle lacks.
inline int connections_wanted(const PoolCounts& counts, int min_idle) {
  const int for_waiters = std::max(0, counts.waiting - counts.connecting);
  const int for_idle = std::max(0, min_idle - counts.idle - counts.connecting);
  return std::max(for_waiters, for_idle);
}

enum class IdleAction { keep, close, check };

// What to do with a connection that nobody uses. `checked_at`: when its server was last heard of, by a client or by a
// health check. `surplus`: closing it leaves min_idle intact.
inline IdleAction idle_action(const config::Pool& limits, TimePoint now, TimePoint connected_at, TimePoint idle_since,
                              TimePoint checked_at, bool surplus) {
  using std::chrono::milliseconds;
  if (limits.max_lifetime > milliseconds::zero() && now - connected_at >= limits.max_lifetime) return IdleAction::close;
  if (surplus && limits.idle_timeout > milliseconds::zero() && now - idle_since >= limits.idle_timeout)
    return IdleAction::close;
  if (limits.health_interval > milliseconds::zero() && now - checked_at >= limits.health_interval)
    return IdleAction::check;
  return IdleAction::keep;
}

// Errors that waiting will not cure: whoever waits is told at once.
inline bool is_permanent(std::string_view sqlstate) {
  return sqlstate.starts_with("28") || sqlstate == "3D000" || sqlstate == "42501";
}

}  // namespace tessera::pool
