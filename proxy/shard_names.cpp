#include "proxy/shard_names.hpp"

#include <algorithm>

#include "proxy/log.hpp"

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

// The shards that are given by a name which is to be followed.
std::vector<const pool::Endpoint*> named(const Runtime& runtime) {
  std::vector<const pool::Endpoint*> found;
  for (const auto& [name, database] : runtime.databases)
    for (const pool::EndpointRef& endpoint : database->primaries)
      if (follows(*database) && net::is_name(endpoint->host)) found.push_back(endpoint.get());
  return found;
}

}  // namespace

NamesSeen look_up(const Runtime& runtime, const Resolve& resolve) {
  NamesSeen seen;
  for (const pool::Endpoint* endpoint : named(runtime)) {
    const auto now = resolve(endpoint->host, endpoint->port);
    seen.reasons[endpoint->host] = now ? "" : now.error().message;
    seen.moved = now && !net::same_addresses(*now, endpoint->addresses);
    if (seen.moved) break;
  }
  return seen;
}

ShardNames::ShardNames(Moved moved, Resolve resolve)
    : moved_(std::move(moved)), resolve_(std::move(resolve)), looked_up_at_(Clock::now()) {}

void ShardNames::check(const std::shared_ptr<const Runtime>& runtime, TimePoint now, bool failing) {
  const Duration wanted = interval(*runtime);
  if (wanted == Duration::zero()) return;
  const Duration pause = failing ? std::min<Duration>(pause_when_failing, wanted) : wanted;
  if (now - looked_up_at_.load(std::memory_order_relaxed) < pause || busy_.exchange(true)) return;
  const bool taken = thread_.post([this, runtime] {
    look(*runtime);
    looked_up_at_.store(Clock::now(), std::memory_order_relaxed);
    busy_ = false;
  });
  if (!taken) busy_ = false;
}

void ShardNames::look(const Runtime& runtime) {
  const NamesSeen seen = look_up(runtime, resolve_);
  note_reasons(runtime, seen);
  const Result<void> taken = seen.moved ? moved_(runtime) : Result<void>();
  const std::string refused = taken ? "" : taken.error().message;
  if (refused != refused_ && !refused.empty())
    log::error("shards have other addresses, which cannot be used", {{"reason", refused}});
  refused_ = refused;
}

void ShardNames::note_reasons(const Runtime& runtime, const NamesSeen& seen) {
  for (const auto& [host, reason] : seen.reasons) {
    if (reason.empty() && unknown_.erase(host) > 0)
      log::info("the host name of a shard can be looked up again", {{"host", host}});
    if (!reason.empty() && unknown_.insert(host).second)
      log::warn("the host name of a shard cannot be looked up: the addresses known go on being used",
                {{"host", host}, {"reason", reason}});
  }
  std::set<std::string> hosts;
  for (const pool::Endpoint* endpoint : named(runtime)) hosts.insert(endpoint->host);
  std::erase_if(unknown_, [&](const std::string& host) { return !hosts.contains(host); });
}

}  // namespace tessera::proxy
