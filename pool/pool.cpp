#include "pool/pool.hpp"

#include <algorithm>
#include <fmt/format.h>

namespace tessera::pool {

namespace {
std::atomic<std::uint64_t> next_backend_id = 1;
}

Pool::Pool(Options options, std::shared_ptr<Budget> budget, net::EventLoop& loop, KeyDerivation& derivation)
    : options_(std::move(options)),
      budget_(std::move(budget)),
      loop_(&loop),
      derivation_(&derivation),
      backoff_(options_.limits.reconnect_min, options_.limits.reconnect_max) {
  budget_->join(*this, loop, alive_);
}

Pool::~Pool() {
  *alive_ = false;
  budget_->leave(*this);
  for (std::size_t i = 0; i < backends_.size(); ++i) budget_->release();
}

// ---- clients --------------------------------------------------------------------------------------------------------

Backend* Pool::checkout(PoolClient& client) {
  ++totals_.checkouts;
  if (waiters_.empty() && !paused_)
    if (Backend* backend = take_idle()) return backend;
  ++totals_.waits;
  const auto timeout = options_.limits.checkout_timeout;
  const TimePoint now = loop_->now();
  waiters_.push_back({&client, now, timeout.count() == 0 ? never : now + timeout});
  open_wanted();
  return nullptr;
}

// The most recently used connection that is fit for a client.
Backend* Pool::take_idle() {
  for (std::size_t i = idle_.size(); i-- > 0;) {
    Backend* backend = idle_[i];
    if (backend->cancel_in_flight()) continue;  // stays until the request has arrived, see offer()
    idle_.erase(idle_.begin() + static_cast<std::ptrdiff_t>(i));
    if (backend->state() == Backend::State::idle && !expired(*backend)) return backend;
    backend->close_quietly();
  }
  return nullptr;
}

void Pool::forget(PoolClient& client) {
  std::erase_if(waiters_, [&](const Waiter& waiter) { return waiter.client == &client; });
  if (waiters_.empty() && budget_->starving() > 0) budget_->set_starving(*this, false);
}

void Pool::checkin(Backend& backend, bool reset) {
  backend.unlease();
  if (backend.state() != Backend::State::idle) return;
  const bool clean = backend.replies().empty() && backend.transaction_status() == postgres::TransactionStatus::idle &&
                     backend.pending() == 0;
  if (!clean || shut_down_ || expired(backend)) return backend.close_quietly();
  if (reset || backend.dirty() || !options_.limits.reset_query.empty())
    return backend.clean(options_.limits.reset_query);
  offer(backend);
}

void Pool::roll_back(Backend& backend) {
  backend.unlease();
  if (backend.state() != Backend::State::idle) return;
  const bool rests = backend.replies().empty() && backend.pending() == 0;
  if (!rests || shut_down_ || expired(backend)) return backend.close_quietly();
  backend.clean(options_.limits.reset_query);
}

void Pool::discard(Backend& backend, std::string_view why) {
  backend.unlease();
  backend.close({sqlstate::connection_failure, std::string(why), {}, {}, 0});
}

void Pool::offer(Backend& backend) {
  if (backend.cancel_in_flight()) {
    // A cancel request that arrives late would hit the next client's statement: wait for it (checked by the sweep).
    idle_.insert(idle_.begin(), &backend);
    return;
  }
  if (paused_) {
    idle_.push_back(&backend);
    return;
  }
  // A worker that is busy all the time must not keep what others have waited for longer.
  const bool others_starve = budget_->starving().load(std::memory_order_relaxed) > 0;
  if (others_starve && backend.reading()) return offer_later(backend.id());
  if (others_starve && give_away(backend)) {
    if (!waiters_.empty()) budget_->set_starving(*this, true, waiters_.front().since);
    return;
  }
  if (!waiters_.empty()) return serve_waiter(backend);
  idle_.push_back(&backend);
}

// When the connection's own code is not on the stack any more.
void Pool::offer_later(BackendId id) {
  loop_->defer([this, alive = alive_, id] {
    if (!*alive) return;
    const auto found = backends_.find(id);
    if (found == backends_.end() || found->second.backend->state() != Backend::State::idle) return;
    Backend& backend = *found->second.backend;
    if (shut_down_ || expired(backend)) return backend.close_quietly();
    offer(backend);
  });
}

void Pool::serve_waiter(Backend& backend) {
  const Waiter waiter = waiters_.front();
  waiters_.pop_front();
  totals_.wait_ns += static_cast<std::uint64_t>((loop_->now() - waiter.since).count());
  if (waiters_.empty() && budget_->starving() > 0) budget_->set_starving(*this, false);
  waiter.client->on_checkout(backend);
}

// ---- between workers ------------------------------------------------------------------------------------------------

bool Pool::give_away(Backend& backend) {
  const TimePoint own = waiters_.empty() ? never : waiters_.front().since;
  Budget::Taker taker = budget_->pick_starving(*this, own, loop_->now());
  if (taker.pool == nullptr || stale(backend)) return false;
  auto node = backends_.extract(backend.id());
  std::unique_ptr<Backend> owned = std::move(node.mapped().backend);
  owned->leave_loop();
  // The budget moves with the connection. The posted task owns it should the other loop, or the pool, end first.
  taker.loop->post(
      [to = taker.pool, alive = std::move(taker.alive), budget = budget_, owned = std::move(owned)]() mutable {
        if (*alive) return to->adopt(std::move(owned));
        owned.reset();
        budget->release();
      });
  return true;
}

void Pool::adopt(std::unique_ptr<Backend> backend) {
  Backend& adopted = *backend;
  backends_[adopted.id()] = {std::move(backend), generation_};
  if (Result<void> joined = adopted.join_loop(*loop_, *this); !joined) return adopted.close(joined.error());
  // The giver may not have heard of a new configuration yet, or may work for somebody who logs in to the same role
  // otherwise. (Each worker has identities of its own: their values count.)
  if (shut_down_ || adopted.endpoint_ref() != options_.endpoint || adopted.identity() != *options_.identity)
    return adopted.close_quietly();
  if (!waiters_.empty() && !paused_) return serve_waiter(adopted);  // it was given for them: no turns here
  offer(adopted);
}

void Pool::help_starving() {
  while (!idle_.empty() && waiters_.empty() && budget_->starving().load(std::memory_order_relaxed) > 0) {
    Backend* backend = idle_.back();
    if (backend->state() != Backend::State::idle || backend->cancel_in_flight()) return;
    idle_.pop_back();
    if (!give_away(*backend)) {
      idle_.push_back(backend);
      return;
    }
    return;  // one connection for each call for help
  }
}

// ---- connections ----------------------------------------------------------------------------------------------------

void Pool::open_wanted() {
  if (shut_down_ || paused_) return;
  PoolCounts now = counts();
  if (options_.limits.min_idle > 0) {
    // Those that are being checked or cleaned will be idle again in a moment.
    for (const auto& [id, member] : backends_) now.idle += member.backend->state() == Backend::State::cleaning ? 1 : 0;
  }
  int wanted = connections_wanted(now, options_.limits.min_idle);
  while (wanted-- > 0) {
    if (!backoff_.may_try(loop_->now())) return;
    if (!budget_->acquire()) {
      if (!waiters_.empty()) budget_->ask_peers(*this, waiters_.front().since);
      return;
    }
    open_one();
  }
}

void Pool::open_one() {
  const BackendId id(next_backend_id.fetch_add(1, std::memory_order_relaxed));
  Backend::Options options{options_.endpoint, options_.identity,
                           static_cast<std::size_t>(options_.limits.prepared_statements), options_.message_size};
  auto backend = std::make_unique<Backend>(id, std::move(options), *loop_, *derivation_, *this);
  Backend& opened = *backend;
  backends_[id] = {std::move(backend), generation_};
  ++connecting_;
  ++totals_.connects;
  // From the loop, so that a connect that fails at once does not call back into our caller.
  loop_->defer([this, alive = alive_, id] {
    if (!*alive) return;
    if (const auto found = backends_.find(id); found != backends_.end()) found->second.backend->connect(loop_->now());
  });
  (void)opened;
}

void Pool::on_backend_ready(Backend& backend) {
  --connecting_;
  backoff_.succeeded();
  last_error_.message.clear();
  offer(backend);
}

void Pool::on_backend_failed(Backend& backend, const Error& reason) {
  --connecting_;
  ++totals_.connect_failures;
  constexpr std::chrono::seconds between_complaints{10};
  if (options_.complain &&
      (reason.message != last_error_.message || loop_->now() - complained_at_ >= between_complaints)) {
    complained_at_ = loop_->now();
    options_.complain(reason);
  }
  if (healthy()) failing_since_ = loop_->now();
  last_error_ = reason;
  backoff_.failed(loop_->now());
  drop(backend);
  if (is_permanent(reason.code.view())) fail_waiters(reason);
}

void Pool::on_backend_closed(Backend& backend, const Error&) {
  ++totals_.closed;
  std::erase(idle_, &backend);
  drop(backend);
  if (!waiters_.empty())
    loop_->defer([this, alive = alive_] {
      if (*alive) open_wanted();
    });
}

void Pool::on_backend_clean(Backend& backend) {
  if (shut_down_ || expired(backend)) return backend.close_quietly();
  offer(backend);
}

// Frees the connection's place; the object itself goes when nothing of it is on the stack any more.
void Pool::drop(Backend& backend) {
  auto node = backends_.extract(backend.id());
  if (node.empty()) return;
  budget_->release();
  loop_->defer([doomed = std::move(node.mapped().backend)] {});
}

bool Pool::stale(const Backend& backend) const {
  if (backend.spoiled()) return true;
  const auto found = backends_.find(backend.id());
  return found != backends_.end() && found->second.generation != generation_;
}

bool Pool::expired(const Backend& backend) const {
  const auto lifetime = options_.limits.max_lifetime;
  return stale(backend) || budget_->exceeded() ||
         (lifetime.count() > 0 && loop_->now() - backend.connected_at() >= lifetime);
}

// ---- time -----------------------------------------------------------------------------------------------------------

void Pool::sweep(TimePoint now) {
  std::vector<Backend*> timed;
  for (const auto& [id, member] : backends_) timed.push_back(member.backend.get());
  for (Backend* backend : timed) backend->check_deadline(now);
  sweep_waiters(now);
  sweep_idle(now);
  open_wanted();
}

void Pool::sweep_waiters(TimePoint now) {
  if (stays_away(now)) fail_waiters(unreachable());
  while (!waiters_.empty() && waiters_.front().deadline <= now) {
    const Waiter waiter = waiters_.front();
    waiters_.pop_front();
    waiter.client->on_checkout_failed(checkout_error());
  }
  if (waiters_.empty() && budget_->starving() > 0) budget_->set_starving(*this, false);
}

// The last attempt found nobody there. A server that is full is there, and has room again when others leave.
bool Pool::no_server() const {
  return !healthy() && !last_error_.code.view().starts_with("53");
}

// The shard has been away for longer than a client would wait, and it is not time for another attempt.
bool Pool::stays_away(TimePoint now) const {
  const auto timeout = options_.limits.checkout_timeout;
  return no_server() && backends_.empty() && timeout.count() > 0 && now - failing_since_ >= timeout &&
         !backoff_.may_try(now);
}

Error Pool::unreachable() const {
  return {sqlstate::connection_failure,
          fmt::format("shard \"{}\" cannot be reached", options_.endpoint->name),
          last_error_.message,
          {},
          0};
}

// Why somebody waited for nothing.
Error Pool::checkout_error() {
  if (paused_)
    return {sqlstate::cannot_connect_now, fmt::format("database \"{}\" is paused", options_.database),
            fmt::format("waited for {} ms", options_.limits.checkout_timeout.count()),
            "RESUME in the console lets statements run again", 0};
  // Without any connection that stands it is not clients who hold them.
  const bool none_stands = static_cast<int>(backends_.size()) == connecting_;
  if (none_stands && no_server()) return unreachable();
  ++totals_.timeouts;
  Error error{sqlstate::too_many_connections,
              fmt::format("no connection to shard \"{}\" became free within {} ms", options_.endpoint->name,
                          options_.limits.checkout_timeout.count()),
              {},
              {},
              0};
  if (healthy() && none_stands && connecting_ > 0) {
    error.detail = "the server has not answered yet to the connection that is being opened";
  } else if (healthy()) {
    error.detail = fmt::format("all {} connections of user \"{}\" are in use", budget_->limit(), options_.user);
    error.hint = "raise pool.size, or shorten transactions";
  } else {
    error.code = sqlstate::connection_failure;
    error.detail = last_error_.message;
  }
  return error;
}

void Pool::sweep_idle(TimePoint now) {
  const std::vector<Backend*> idle = std::exchange(idle_, {});
  int left = static_cast<int>(idle.size());
  for (Backend* backend : idle) {
    if (backend->state() != Backend::State::idle) continue;
    const IdleAction action = stale(*backend) || budget_->exceeded()
                                  ? IdleAction::close
                                  : idle_action(options_.limits, now, backend->connected_at(), backend->idle_since(),
                                                backend->checked_at(), left > options_.limits.min_idle);
    if (action == IdleAction::close) {
      --left;
      backend->close_quietly();
    } else if (action == IdleAction::check && !backend->cancel_in_flight()) {
      backend->health_check();
    } else {
      offer(*backend);
    }
  }
}

// ---- administration -------------------------------------------------------------------------------------------------

void Pool::reconfigure(EndpointRef endpoint, IdentityRef identity, const config::Pool& limits) {
  const bool moved = endpoint != options_.endpoint;
  options_.endpoint = std::move(endpoint);
  options_.identity = std::move(identity);
  options_.limits = limits;
  backoff_ = Backoff(limits.reconnect_min, limits.reconnect_max);
  if (moved) reconnect();
}

void Pool::reconnect() {
  ++generation_;
  for (Backend* backend : std::exchange(idle_, {})) backend->close_quietly();
}

void Pool::resume() {
  paused_ = false;
  for (Backend* backend : std::exchange(idle_, {}))
    if (backend->state() == Backend::State::idle) offer(*backend);
  open_wanted();
}

void Pool::shut_down(const Error& reason) {
  shut_down_ = true;
  fail_waiters(reason);
  std::vector<Backend*> all;
  for (const auto& [id, member] : backends_) all.push_back(member.backend.get());
  for (Backend* backend : all) backend->close_quietly();
}

void Pool::fail_waiters(const Error& reason) {
  // One at a time: a client that hears of it may take others out of the queue, or put itself in again.
  for (std::size_t left = waiters_.size(); left > 0 && !waiters_.empty(); --left) {
    PoolClient* const client = waiters_.front().client;
    waiters_.pop_front();
    client->on_checkout_failed(reason);
  }
}

PoolCounts Pool::counts() const {
  const int all = static_cast<int>(backends_.size());
  const int idle = static_cast<int>(idle_.size());
  return {idle, all - idle - connecting_, connecting_, static_cast<int>(waiters_.size())};
}

Duration Pool::longest_wait(TimePoint now) const {
  return waiters_.empty() ? Duration::zero() : now - waiters_.front().since;
}

const Backend* Pool::sample() const {
  for (const auto& [id, member] : backends_)
    if (!member.backend->parameters().empty()) return member.backend.get();
  return nullptr;
}

}  // namespace tessera::pool
