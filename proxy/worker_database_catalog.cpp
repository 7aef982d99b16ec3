// What a worker knows of the shards' catalog: read at the start, at the latest before the first statement, after
// definitions that went through us, and when a look at the server now and then shows that others have changed it.
#include <algorithm>
#include <atomic>

#include "proxy/catalog_query.hpp"
#include "proxy/log.hpp"
#include "proxy/worker_database.hpp"

namespace tessera::proxy {

namespace {
std::atomic<std::uint64_t> next_reading = 1;

// From one attempt to read the catalog unasked to the next.
constexpr std::chrono::seconds pause_while_unfit{5}, pause_while_away{1}, pause_while_locked_out{60};

postgres::ServerCredential with_password(const Secret& password) {
  if (password.empty()) return {};
  return postgres::PlainPassword{password};
}
}  // namespace

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

bool WorkerDatabase::await_catalog(std::uint64_t reading, std::function<void(const Result<void>&)> then) {
  if (routing_ && routing_->reading >= reading) return true;
  waiting_for_catalog_.push_back(std::move(then));
  return false;
}

Result<std::shared_ptr<router::Catalog>> WorkerDatabase::read_catalog(
    const Result<pool::TextQuery::Answer>& answer) const {
  if (!answer) return std::unexpected(answer.error());
  return proxy::read_catalog(answer->results, settings().read_only_functions);
}

std::uint64_t WorkerDatabase::catalog_changed(const pool::IdentityRef& identity) {
  loading_catalog_ = true;
  const std::uint64_t reading = next_reading.fetch_add(1, std::memory_order_relaxed);
  run(pool(identity, identity->user, catalog_shard()), pool::no_settings(), catalog_queries(),
      [this, reading](Result<pool::TextQuery::Answer> answer) {
        loading_catalog_ = false;
        // What the servers of old say is better than nothing, and no more.
        auto catalog = read_catalog(answer);
        if (catalog) return shared_.publish_catalog(name_, std::move(*catalog), retired_ ? 0 : reading);
        log::error("the catalog cannot be read", {{"database", name_}, {"reason", catalog.error().message}});
        const Result<void> failed = std::unexpected(catalog.error());
        for (auto& waiting : std::exchange(waiting_for_catalog_, {})) waiting(failed);
      });
  return reading;
}

// Migrations may go to the servers past us. One worker's look serves all; a database that nobody uses is left in peace.
void WorkerDatabase::check_catalog(TimePoint now) {
  if (loading_catalog_ || looking_ || retired_ || paused_ || resuming_) return;
  if (!routing_ || routing_problem_) return look_unasked(now);
  if (routing_->catalog->digest.empty()) return;
  TimePoint looked_at = routing_->looked_at.load(std::memory_order_relaxed);
  if (!look_is_due(now, looked_at)) return;
  const pool::IdentityRef identity = connected_identity();
  if (!identity && look_asked_at_ && look_pause_ == Duration::zero()) return look_unasked(now);
  if (!identity || !routing_->looked_at.compare_exchange_strong(looked_at, now, std::memory_order_relaxed)) return;
  looking_ = true;
  run(pool(identity, identity->user, catalog_shard()), pool::no_settings(), {catalog_queries().front()},
      [this, identity](Result<pool::TextQuery::Answer> answer) {
        looking_ = false;
        activity_looked_at_ = activity();
        if (!answer)
          return log::warn("the catalog cannot be checked for changes",
                           {{"database", name_}, {"reason", answer.error().message}});
        if (loading_catalog_ || !routing_ || catalog_digest(answer->results) == routing_->catalog->digest) return;
        log::info("the catalog has changed on the servers", {{"database", name_}});
        catalog_changed(identity);
      });
}

// Mistakes in the rules must not wait for the first client, nor must a database for one when they are mended, or when a
// reload wants to know. No client waits for this reading, so it has a connection of its own, under whatever role there
// is a password for; without one the first client reads the catalog.
void WorkerDatabase::look_unasked(TimePoint now) {
  CatalogLook& look = runtime_->catalog_look;
  TimePoint due = look.next_at.load(std::memory_order_relaxed);
  if (now < due) return;
  pool::IdentityRef identity = connected_identity();
  if (!identity) identity = configured_identity();
  if (!identity) identity = likely_identity();
  if (!look.next_at.compare_exchange_strong(due, identity ? TimePoint::max() : now + pause_while_away)) return;
  if (!identity) {
    look.told = true;
    return;
  }
  const std::uint64_t reading = next_reading.fetch_add(1, std::memory_order_relaxed);
  const auto complain = [this, asked = runtime_](const Error& reason) {
    asked->catalog_look.told = true;
    note_catalog_failure(reason);
  };
  pool::Pool& pool =
      *catalog_pools_.emplace_back(own_pool(identity, identity->user, catalog_shard(), "catalog", complain));
  run(pool, pool::no_settings(), catalog_queries(),
      [this, reading, asked = runtime_](const Result<pool::TextQuery::Answer>& answer) {
        looked_unasked(*asked, reading, answer);
      });
}

void WorkerDatabase::looked_unasked(const DatabaseRuntime& asked, std::uint64_t reading,
                                    const Result<pool::TextQuery::Answer>& answer) {
  Duration pause = settings().catalog_interval;
  pause = pause == Duration::zero() ? pause_while_unfit : std::min<Duration>(pause, pause_while_unfit);
  if (!answer) pause = pool::is_permanent(answer.error().code.view()) ? pause_while_locked_out : pause_while_away;
  asked.catalog_look.next_at = loop_->now() + pause;
  if (!answer) {
    asked.catalog_look.told = true;
    // A shard that cannot be reached was told of by the pool.
    if (!answer.error().code.view().starts_with("08")) note_catalog_failure(answer.error());
    return;
  }
  if (!std::exchange(catalog_failure_, {}).empty()) log::info("the catalog has been read", {{"database", name_}});
  const std::string digest = catalog_digest(answer->results);
  // Nothing has changed since it was found that the rules do not fit: no need to say so again.
  if (routing_problem_ && !digest.empty() && digest == unfit_digest_) return;
  if (!routing_problem_ && routing_ && digest == routing_->catalog->digest)
    return routing_->looked_at.store(loop_->now());
  auto catalog = read_catalog(answer);
  if (!catalog) return note_catalog_failure(catalog.error());
  shared_.publish_catalog(name_, std::move(*catalog), retired_ ? 0 : reading);
}

// Once for each reason, however long it lasts.
void WorkerDatabase::note_catalog_failure(const Error& reason) {
  if (std::exchange(catalog_failure_, reason.message) == reason.message) return;
  log::warn(
      "the catalog cannot be read yet",
      {{"database", name_}, {"shard", runtime_->primaries[catalog_shard().value()]->name}, {"reason", reason.message}});
}

bool WorkerDatabase::look_is_due(TimePoint now, TimePoint looked_at) {
  if (look_asked_at_ && looked_at >= *look_asked_at_) look_asked_at_.reset();
  if (look_asked_at_) return now - looked_at >= look_pause_;
  const Duration interval = settings().catalog_interval;
  return interval != Duration::zero() && now - looked_at >= interval && activity_looked_at_ != activity();
}

// Soon, but not within `pause` of the last look.
void WorkerDatabase::look_at_catalog(Duration pause) {
  look_asked_at_ = loop_->now();
  look_pause_ = pause;
}

// RESUME. While nothing ran the tables may have been changed, which is what PAUSE is for: statements, also those that
// have waited since, are planned by the catalog as it is now. One shard gets all statements whatever the catalog says.
void WorkerDatabase::resume() {
  if (!std::exchange(paused_, false)) return;
  if (retired_ || !routing_ || shard_count() == 1) return resume_pools();
  if (sessions_ == 0 && !inherited_) {
    routing_.reset();  // the first session reads it
    cache_.clear();
    return resume_pools();
  }
  resuming_ = true;
  read_catalog_to_resume(loop_->now());
}

// All pools are still held back, so by a connection beside them.
void WorkerDatabase::read_catalog_to_resume(TimePoint now) {
  const pool::IdentityRef identity = likely_identity();
  if (!identity) {
    look_at_catalog(Duration::zero());
    return catalog_is_read();
  }
  constexpr std::chrono::seconds patience{10};
  read_again_at_ = now + patience;
  const std::uint64_t reading = next_reading.fetch_add(1, std::memory_order_relaxed);
  pool::Pool& pool = *catalog_pools_.emplace_back(own_pool(identity, identity->user, catalog_shard(), "catalog"));
  run(pool, pool::no_settings(), catalog_queries(), [this, reading](Result<pool::TextQuery::Answer> answer) {
    if (!resuming_) return;
    auto catalog = read_catalog(answer);
    if (catalog) return shared_.publish_catalog(name_, std::move(*catalog), reading);
    read_again_at_ = loop_->now() + std::chrono::seconds(1);
    log::error("the catalog cannot be read after RESUME: statements still wait",
               {{"database", name_}, {"reason", catalog.error().message}});
  });
}

void WorkerDatabase::inherit(const WorkerDatabase& before) {
  inherited_ = before.likely_identity();
  if (before.paused_ || before.resuming_) pause();
  if (before.resuming_) resume();
}

void WorkerDatabase::catalog_is_read() {
  if (std::exchange(resuming_, false)) resume_pools();
}

void WorkerDatabase::sweep_catalog_pools(TimePoint now) {
  if (resuming_ && now >= read_again_at_) read_catalog_to_resume(now);
  for (auto& pool : catalog_pools_) pool->sweep(now);
  std::erase_if(catalog_pools_, [this](std::unique_ptr<pool::Pool>& pool) {
    if (!pool->unused()) return false;
    pool->shut_down({sqlstate::admin_shutdown, "the catalog has been read", {}, {}, 0});
    loop_->defer([doomed = std::move(pool)] {});
    return true;
  });
}

pool::IdentityRef WorkerDatabase::likely_identity() const {
  pool::IdentityRef found = inherited_;
  for (const auto& [key, pool] : pools_)
    if (!superseded_.contains(pool->options().identity) && (!found || found == inherited_ || pool->healthy()))
      found = pool->options().identity;
  return found;
}

// As whom the configuration alone lets us in. (A verifier is of no use before its user has logged in.)
pool::IdentityRef WorkerDatabase::configured_identity() const {
  const auto made = [](const std::string& role, postgres::ServerCredential credential) {
    return std::make_shared<const pool::Identity>(pool::Identity{role, std::move(credential)});
  };
  const config::Backend& backend = settings().backend;
  if (backend.auth == config::BackendAuth::password) return made(backend.user, with_password(backend.password));
  const auto role_of = [](const config::User& user) {
    return user.backend_user.empty() ? user.name : user.backend_user;
  };
  for (const config::User& user : settings().users) {
    const Secret& password = user.backend_password.empty() ? user.password : user.backend_password;
    if (!password.empty()) return made(role_of(user), with_password(password));
  }
  if (const auto& query = settings().auth_query) return made(query->user, with_password(query->password));
  for (const config::User& user : settings().users)
    if (user.trust) return made(role_of(user), {});
  return nullptr;
}

pool::IdentityRef WorkerDatabase::connected_identity() const {
  for (const auto& [key, pool] : pools_)
    if (pool->sample() != nullptr && !superseded_.contains(pool->options().identity)) return pool->options().identity;
  return nullptr;
}

// Grows with all that clients ask; what is refused here takes no connection, and may be refused for an old catalog.
std::uint64_t WorkerDatabase::activity() const {
  std::uint64_t total = texts_planned_;
  for (const auto& [key, pool] : pools_) total += pool->totals().checkouts;
  return total;
}

}  // namespace tessera::proxy
