#include "proxy/shard_names.hpp"

#include <algorithm>

namespace tessera::proxy {

namespace {

bool follows(const DatabaseRuntime& database) {
  return database.settings->backend.resolve_interval > Duration::zero();
}

// How often the most demanding database wants it; zero: nobody does.
Duration interval(const Runtime& runtime) {
  Duration least = Duration::zero();
  for (const auto& [name, database] : runtime.databases) {
    if (!follows(*database)) continue;
    const Duration wanted = database->settings->backend.resolve_interval;
    least = least == Duration::zero() ? wanted : std::min(least, wanted);
  }
  return least;
}

}  // namespace

bool have_moved(const Runtime& runtime, const Resolve& resolve) {
  for (const auto& [name, database] : runtime.databases) {
    if (!follows(*database)) continue;
    for (const pool::EndpointRef& endpoint : database->primaries) {
      if (!net::is_name(endpoint->host)) continue;
      const auto now = resolve(endpoint->host, endpoint->port);
      if (now && !net::same_addresses(*now, endpoint->addresses)) return true;
    }
  }
  return false;
}

ShardNames::ShardNames(std::function<void(const Runtime&)> moved, Resolve resolve)
    : moved_(std::move(moved)), resolve_(std::move(resolve)), looked_up_at_(Clock::now()) {}

void ShardNames::check(const std::shared_ptr<const Runtime>& runtime, TimePoint now, bool failing) {
  const Duration wanted = interval(*runtime);
  if (wanted == Duration::zero()) return;
  const Duration pause = failing ? std::min<Duration>(pause_when_failing, wanted) : wanted;
  if (now - looked_up_at_.load(std::memory_order_relaxed) < pause || busy_.exchange(true)) return;
  const bool taken = thread_.post([this, runtime] {
    if (have_moved(*runtime, resolve_)) moved_(*runtime);
    looked_up_at_.store(Clock::now(), std::memory_order_relaxed);
    busy_ = false;
  });
  if (!taken) busy_ = false;
}

}  // namespace tessera::proxy
