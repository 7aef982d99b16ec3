#include "executor/execution.hpp"

#include <algorithm>

#include "executor/cursor.hpp"
#include "wire/postgres/backend.hpp"
#include "wire/postgres/error_message.hpp"

namespace tessera::executor {

using pool::Backend;

Execution::Execution(Request request, net::EventLoop& loop, Events events)
    : request_(std::move(request)), events_(std::move(events)), loop_(&loop) {}

Execution::~Execution() {
  *alive_ = false;
}

void Execution::add(std::unique_ptr<Branch> branch) {
  branches_.push_back(std::move(branch));
}

void Execution::acquire_next() {
  while (acquired_ < branches_.size() && !failure_)
    if (!branches_[acquired_++]->acquire()) return;
  if (!failure_) on_acquired();
}

void Execution::relay_bound() {
  std::string answer = std::exchange(request_.bound, {});
  if (std::exchange(request_.describe, false) && !request_.simple) postgres::append_no_data(answer);
  if (!answer.empty()) events_.relay(answer);
}

void Execution::resume() {
  if (Branch* branch = relaying()) branch->resume();
}

std::vector<Backend*> Execution::active() const {
  std::vector<Backend*> backends;
  for (const auto& branch : branches_)
    if (branch->backend() != nullptr) backends.push_back(branch->backend());
  return backends;
}

void Execution::cancel(const Error& reason) {
  if (!std::ranges::all_of(branches_, &Branch::sent)) failed(reason);
}

// The client hears of it when it has whole messages only, and what is lent can go back; nobody else waits for that.
void Execution::failed(const Error& reason) {
  if (!failure_) {
    failure_ = reason;
    for (const auto& branch : branches_) branch->give_up();
  }
  if (Branch* branch = relaying(); branch != nullptr && branch->ends_with_message()) return;
  conclude(std::unexpected(*failure_));
}

bool Execution::is_unsettled() const {
  return std::ranges::any_of(branches_, [](const auto& branch) { return branch->unsettled(); });
}

void Execution::cancel_delivered() {
  if (outcome_) conclude(*outcome_);
}

void Execution::hand_over(Events events, pool::BackendOwner& lender) {
  events_ = std::move(events);
  for (const auto& branch : branches_) branch->hand_over(lender);
}

void Execution::sweep(TimePoint now) {
  constexpr std::chrono::seconds patience{5};
  if (!failure_ || concluded_ || !is_unsettled()) return;
  if (failed_at_ == never) failed_at_ = now;
  if (now - failed_at_ < patience) return;
  for (const auto& branch : branches_)
    if (branch->unsettled())
      branch->backend()->close(
          {sqlstate::connection_failure, "the server does not end a statement that was cancelled", {}, {}, 0});
}

// From the loop: the owner will destroy us.
void Execution::conclude(Result<void> result) {
  if (concluded_) return;
  if (is_unsettled()) {
    outcome_ = std::move(result);
    return;
  }
  concluded_ = true;
  loop_->defer([this, alive = alive_, result = std::move(result)] {
    if (!*alive) return;
    const auto done = std::move(events_.done);  // it outlives us
    done(result);
  });
}

Branch::Branch(Execution& execution, const Place& place, pool::Settings settings)
    : backend_(place.lent),
      execution_(execution),
      pool_(place.lent != nullptr ? nullptr : place.pool),
      lender_(place.lent != nullptr ? place.lender : nullptr),
      settings_(std::move(settings)),
      endpoint_(place.lent != nullptr ? place.lent->endpoint_ref() : place.pool->options().endpoint) {
  if (pool_ != nullptr) pool_->hold();
}

Branch::~Branch() {
  if (lent()) {
    if (backend_ != nullptr) backend_->lease(*lender_);
    return;
  }
  pool_->forget(*this);
  if (Backend* backend = std::exchange(backend_, nullptr)) pool_->discard(*backend, "the statement was abandoned");
  pool_->release_hold();
}

bool Branch::acquire() {
  if (lent()) {
    if (backend_ == nullptr) return false;  // lost by now
    backend_->lease(*this);
    return start();
  }
  Backend* backend = pool_->checkout(*this);
  return backend != nullptr && take(*backend);
}

void Branch::resume() {
  if (backend_ != nullptr) backend_->resume_reading();
}

void Branch::give_up() {
  if (!lent()) return pool_->forget(*this);
  if (!unsettled()) return;
  on_give_up();
  for (pool::ExpectedReply& expected : backend_->replies().queue()) expected.delivery = pool::Delivery::ignore;
  execution_.events_.stop(*backend_);
  backend_->resume_reading();
}

bool Branch::ends_with_message() {
  if (backend_ == nullptr || !backend_->replies().inside_message()) return false;
  backend_->replies().queue().front().delivery = pool::Delivery::ignore;
  return true;
}

void Branch::check_in() {
  if (!lent()) pool_->checkin(*std::exchange(backend_, nullptr), false);
}

std::unique_ptr<KeptConnection> Branch::keep() {
  return std::make_unique<KeptConnection>(*pool_, *std::exchange(backend_, nullptr));
}

void Branch::relay_notice(const postgres::ErrorFields& fields) {
  std::string message;
  std::vector<postgres::ErrorField> all;
  for (postgres::ErrorFields rest = fields; const std::optional<postgres::ErrorField> field = rest.next();)
    all.push_back(*field);
  if (postgres::append_error_fields(message, postgres::backend::notice_response, all))
    execution_.events_.relay(message);
}

bool Branch::take(Backend& backend) {
  backend_ = &backend;
  backend.lease(*this);
  if (backend.endpoint_ref() != endpoint_) {
    // A reload has come in between: two shards could turn out to be the same server.
    execution_.failed({sqlstate::cannot_connect_now,
                       "the shards have moved while the statement was waiting for them",
                       {},
                       "send it again",
                       0});
    return false;
  }
  return backend.prepare(settings_) && start();
}

bool Branch::start() {
  if (const Result<void> begun = begin(*backend_); !begun) {
    execution_.failed(begun.error());
    return false;
  }
  backend_->flush();
  sent_ = true;
  return !goes_first();
}

void Branch::on_checkout(Backend& backend) {
  if (take(backend)) execution_.acquire_next();
}

void Branch::on_backend_prepared(Backend&, const Result<void>& result) {
  if (!result) return execution_.failed(result.error());
  if (!execution_.failure_ && start()) execution_.acquire_next();
}

bool Branch::on_error(const pool::ExpectedReply&, const postgres::ErrorFields& fields) {
  if (!fields.is_fatal() && !error_) error_ = fields.to_error();
  return false;
}

void Branch::on_backend_lost(Backend& backend, const Error& reason) {
  backend_ = nullptr;
  if (lent()) execution_.events_.lost(backend);
  const bool inside = execution_.relaying() == this && backend.replies().inside_message();
  execution_.cut_ = execution_.cut_ || inside;
  execution_.failed(error_.value_or(reason));
}

Error too_long() {
  return {sqlstate::program_limit_exceeded, "the statement is too long", {}, {}, 0};
}

}  // namespace tessera::executor
