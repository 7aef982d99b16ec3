#include "pool/budget.hpp"

#include <algorithm>

#include "pool/pool.hpp"

namespace tessera::pool {

namespace {
bool take(std::atomic<int>& open, int limit) {
  int now = open.load(std::memory_order_relaxed);
  while (limit == 0 || now < limit)
    if (open.compare_exchange_weak(now, now + 1, std::memory_order_relaxed)) return true;
  return false;
}
}  // namespace

bool Budget::acquire() {
  if (!take(open_, limit())) return false;
  if (!server_ || take(server_->open, server_->limit)) return true;
  open_.fetch_sub(1, std::memory_order_relaxed);
  return false;
}

void Budget::release() {
  open_.fetch_sub(1, std::memory_order_relaxed);
  if (server_) server_->open.fetch_sub(1, std::memory_order_relaxed);
}

void Budget::join(Pool& pool, net::EventLoop& loop, std::shared_ptr<const bool> alive) {
  const std::scoped_lock lock(mutex_);
  peers_.push_back({&pool, &loop, std::move(alive)});
}

void Budget::leave(Pool& pool) {
  const std::scoped_lock lock(mutex_);
  std::erase_if(peers_, [&](const Peer& peer) {
    if (peer.pool == &pool && peer.starving) starving_.fetch_sub(1, std::memory_order_relaxed);
    return peer.pool == &pool;
  });
}

void Budget::ask_peers(Pool& pool, TimePoint since) {
  set_starving(pool, true, since);
  const std::scoped_lock lock(mutex_);
  for (const Peer& peer : peers_)
    if (peer.pool != &pool)
      peer.loop->post([asked = peer.pool, alive = peer.alive] {
        if (*alive) asked->help_starving();
      });
}

void Budget::set_starving(Pool& pool, bool starving, TimePoint since) {
  const std::scoped_lock lock(mutex_);
  for (Peer& peer : peers_) {
    if (peer.pool != &pool || peer.starving == starving) continue;
    peer.starving = starving;
    peer.since = since;
    starving_.fetch_add(starving ? 1 : -1, std::memory_order_relaxed);
  }
}

Budget::Taker Budget::pick_starving(Pool& giver, TimePoint own, TimePoint now) {
  const std::scoped_lock lock(mutex_);
  Peer* longest = nullptr;
  for (Peer& peer : peers_) {
    if (peer.pool == &giver)
      peer.since = own;
    else if (peer.starving && (longest == nullptr || peer.since < longest->since))
      longest = &peer;
  }
  if (longest == nullptr || longest->since >= own) return {};
  longest->since = now;
  return {longest->pool, longest->loop, longest->alive};
}

std::shared_ptr<ServerBudget> Budgets::of_server(const std::string& server, int limit) {
  std::shared_ptr<ServerBudget>& found = servers_[server];
  if (!found) found = std::make_shared<ServerBudget>();
  found->limit = limit;
  return found;
}

std::shared_ptr<Budget> Budgets::get(const std::string& name, int limit, const std::string& server, int server_limit) {
  const std::scoped_lock lock(mutex_);
  std::shared_ptr<ServerBudget> server_budget = of_server(server, server_limit);
  std::shared_ptr<Budget>& budget = budgets_[name];
  if (!budget) budget = std::make_shared<Budget>(limit, std::move(server_budget));
  budget->set_limit(limit);
  return budget;
}

std::shared_ptr<Budget> Budgets::single(const std::string& server, int server_limit) {
  const std::scoped_lock lock(mutex_);
  return std::make_shared<Budget>(1, of_server(server, server_limit));
}

}  // namespace tessera::pool
