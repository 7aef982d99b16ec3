// What a worker knows of the shards' catalog: read before the first statement, after definitions that went through us,
// and when a look at the server now and then shows that others have changed it.
#include <atomic>

#include "proxy/catalog_query.hpp"
#include "proxy/log.hpp"
#include "proxy/worker_database.hpp"

namespace tessera::proxy {

bool WorkerDatabase::ensure_catalog(const pool::IdentityRef& identity, std::function<void(const Result<void>&)> then) {
  if (routing_) return true;
  waiting_for_catalog_.push_back(std::move(then));
  if (!loading_catalog_) catalog_changed(identity);
  return false;
}

ShardId WorkerDatabase::catalog_shard() const {
  for (std::uint32_t i = 0; i < shard_count(); ++i)
    if (settings().shards[i].name == settings().default_shard) return ShardId(i);
  return ShardId(0);
}

void WorkerDatabase::catalog_changed(const pool::IdentityRef& identity) {
  loading_catalog_ = true;
  static std::atomic<std::uint64_t> next_reading = 1;
  const std::uint64_t reading = next_reading.fetch_add(1, std::memory_order_relaxed);
  run(pool(identity, identity->user, catalog_shard()), pool::no_settings(), catalog_queries(),
      [this, reading](Result<pool::TextQuery::Answer> answer) {
        loading_catalog_ = false;
        if (answer) {
          known_catalog_ = {.digest = catalog_digest(answer->results), .checkouts = total_checkouts()};
          // What the servers of old say is better than nothing, and no more.
          return shared_.publish_catalog(name_, read_catalog(answer->results, settings().read_only_functions),
                                         retired_ ? 0 : reading);
        }
        log::error("the catalog cannot be read", {{"database", name_}, {"reason", answer.error().message}});
        const Result<void> failed = std::unexpected(answer.error());
        for (auto& waiting : std::exchange(waiting_for_catalog_, {})) waiting(failed);
      });
}

// Migrations may go to the servers past us. A database that nobody uses is left in peace.
void WorkerDatabase::check_catalog(TimePoint now) {
  KnownCatalog& known = known_catalog_;
  if (known.digest.empty() || known.checking || retired_ || paused_) return;
  if (!known.wanted) {
    const Duration interval = settings().catalog_interval;
    if (interval == Duration::zero()) return;
    if (known.next_check == TimePoint{}) known.next_check = now + interval;
    if (known.checkouts == total_checkouts()) return;
  }
  if (now < known.next_check) return;
  const pool::IdentityRef identity = connected_identity();
  if (!identity) return;
  known.checking = true;
  known.wanted = false;
  run(pool(identity, identity->user, catalog_shard()), pool::no_settings(), {catalog_queries().front()},
      [this, identity](Result<pool::TextQuery::Answer> answer) {
        known_catalog_.checking = false;
        known_catalog_.next_check = {};
        known_catalog_.checkouts = total_checkouts();
        if (!answer)
          return log::warn("the catalog cannot be checked for changes",
                           {{"database", name_}, {"reason", answer.error().message}});
        if (loading_catalog_ || catalog_digest(answer->results) == known_catalog_.digest) return;
        log::info("the catalog has changed on the servers", {{"database", name_}});
        catalog_changed(identity);
      });
}

void WorkerDatabase::look_at_catalog(TimePoint when) {
  known_catalog_.wanted = true;
  if (known_catalog_.next_check == TimePoint{} || known_catalog_.next_check > when) known_catalog_.next_check = when;
}

pool::IdentityRef WorkerDatabase::connected_identity() const {
  for (const auto& [key, pool] : pools_)
    if (pool->sample() != nullptr && !superseded_.contains(pool->options().identity)) return pool->options().identity;
  return nullptr;
}

std::uint64_t WorkerDatabase::total_checkouts() const {
  std::uint64_t total = 0;
  for (const auto& [key, pool] : pools_) total += pool->totals().checkouts;
  return total;
}

}  // namespace tessera::proxy
