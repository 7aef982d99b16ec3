// Definitions that the client has made: what it sends next is planned by the catalog as it is then. Until the
// transaction of the definitions ends nobody else sees them, and the session has a catalog of its own.
#include <atomic>

#include "executor/inquiry.hpp"
#include "proxy/catalog_query.hpp"
#include "proxy/session.hpp"

namespace tessera::proxy {

using pool::Backend;

void Session::note_definition() {
  catalog_stale_ = true;
  catalog_behind_ = in_transaction_;
}

// The transaction of the definitions has ended.
void Session::refresh_catalog() {
  catalog_behind_ = false;
  catalog_problem_.reset();
  if (std::exchange(catalog_stale_, false)) awaited_reading_ = options_.database->catalog_changed(options_.identity);
}

// Who has defined something sees it with his next statement. Without the new catalog it goes on by the old one.
bool Session::wait_for_catalog() {
  const bool there =
      options_.database->await_catalog(awaited_reading_, [this, alive = alive_](const Result<void>& read) {
        if (!*alive || ending_) return;
        if (!read) awaited_reading_ = 0;
        if (wait_ == Wait::catalog) continue_after_wait();
      });
  if (there)
    awaited_reading_ = 0;
  else
    wait_ = Wait::catalog;
  return !there;
}

// What was sent before and decides how the next statement is planned has happened.
Session::Got Session::ready_to_plan() {
  if (const Got got = wait_for_effects(); got != Got::ready) return got;
  return read_own_catalog();
}

// Inside the transaction: its own catalog is read on one of its connections before anything else is planned.
Session::Got Session::read_own_catalog() {
  if (!in_transaction_ || !multi_shard() || in_failed_transaction()) return Got::ready;
  if (catalog_problem_) {
    refuse(*catalog_problem_);
    return Got::refused;
  }
  if (!catalog_behind_) return Got::ready;
  if (const Got got = rest(); got != Got::ready) return got;
  const ShardId shard = options_.database->catalog_shard();
  for (Backend* backend : participants()) {
    if (backend->endpoint().shard != shard) continue;
    const auto done = [this](const Result<void>& result) { own_catalog_read(result); };
    run_execution(std::make_unique<executor::Inquiry>(catalog_queries(),
                                                      executor::Place{.lent = backend, .lender = this},
                                                      options_.database->loop(), execution_events(done)));
    return Got::wait;
  }
  catalog_behind_ = false;  // what it has defined is elsewhere, where the catalog is not read from
  return Got::ready;
}

void Session::own_catalog_read(const Result<void>& result) {
  const auto inquiry = std::move(scatter_);
  stop_waiting();
  if (lost_participant_) lose_transaction(*std::exchange(lost_participant_, std::nullopt));
  if (result) take_own_catalog(static_cast<const executor::Inquiry&>(*inquiry).results());
  // Otherwise the transaction has failed, and the statement at hand is told so by the server.
  catalog_behind_ = false;
  continue_after_wait();
}

void Session::take_own_catalog(const std::vector<executor::Inquiry::Rows>& results) {
  static std::atomic<std::uint64_t> next_version = 1ull << 63;  // not one that is for all
  const config::Database& settings = options_.database->settings();
  auto own = std::make_shared<Routing>();
  own->version = next_version.fetch_add(1, std::memory_order_relaxed);
  auto catalog = read_catalog(results, settings.read_only_functions);
  if (!catalog) {
    catalog_problem_ = catalog.error();
    return;
  }
  own->catalog = std::move(*catalog);
  auto topology = router::Topology::build(options_.database->shared_settings(), *own->catalog, own->version);
  if (!topology) {
    catalog_problem_ = topology.error();
    return;
  }
  own->topology = std::move(*topology);
  routing_ = std::move(own);
  view_stale_ = true;
}

}  // namespace tessera::proxy
