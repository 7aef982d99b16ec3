#include "executor/execution.hpp"

#include <algorithm>

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

// The client hears of it when it has whole messages only; nobody else waits for that.
void Execution::failed(const Error& reason) {
  if (!failure_) failure_ = reason;
  for (const auto& branch : branches_) branch->give_up();
  if (Branch* branch = relaying(); branch != nullptr && branch->ends_with_message()) return;
  conclude(std::unexpected(*failure_));
}

// From the loop: the owner will destroy us.
void Execution::conclude(Result<void> result) {
  if (std::exchange(concluded_, true)) return;
  loop_->defer([this, alive = alive_, result = std::move(result)] {
    if (*alive) events_.done(result);
  });
}

Branch::Branch(Execution& execution, pool::Pool& pool, pool::Settings settings)
    : execution_(execution), pool_(pool), settings_(std::move(settings)), endpoint_(pool.options().endpoint) {
  pool_.hold();
}

Branch::~Branch() {
  pool_.forget(*this);
  if (Backend* backend = std::exchange(backend_, nullptr)) pool_.discard(*backend, "the statement was abandoned");
  pool_.release_hold();
}

bool Branch::acquire() {
  Backend* backend = pool_.checkout(*this);
  return backend != nullptr && take(*backend);
}

void Branch::resume() {
  if (backend_ != nullptr) backend_->resume_reading();
}

void Branch::give_up() {
  pool_.forget(*this);
}

bool Branch::ends_with_message() {
  if (backend_ == nullptr || !backend_->replies().inside_message()) return false;
  backend_->replies().queue().front().delivery = pool::Delivery::ignore;
  return true;
}

void Branch::check_in() {
  pool_.checkin(*std::exchange(backend_, nullptr), false);
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
  return true;
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
  const bool inside = execution_.relaying() == this && backend.replies().inside_message();
  execution_.cut_ = execution_.cut_ || inside;
  execution_.failed(error_.value_or(reason));
}

Error too_long() {
  return {sqlstate::program_limit_exceeded, "the statement is too long", {}, {}, 0};
}

}  // namespace tessera::executor
