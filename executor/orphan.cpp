#include "executor/orphan.hpp"

namespace tessera::executor {

using pool::Backend;

Orphan::Orphan(std::unique_ptr<Execution> commit, std::vector<Backend*> backends, std::function<void()> done)
    : commit_(std::move(commit)), backends_(std::move(backends)), done_(std::move(done)) {
  Events events{
      .relay = [](std::string_view) {},
      .flush = [] {},
      .congested = [] { return false; },
      .done = [this](const Result<void>&) { finished(); },
      .stop = [](Backend&) {},
      .lost = [this](const Backend& backend) { std::erase(backends_, &backend); },
      .parameter = [](std::string_view, std::string_view) {},
  };
  commit_->hand_over(std::move(events), *this);
}

Orphan::~Orphan() {
  commit_.reset();
  for (Backend* backend : backends_)
    static_cast<pool::Pool&>(backend->observer()).discard(*backend, "its transaction was given up");
}

void Orphan::finished() {
  commit_.reset();
  for (Backend* backend : std::exchange(backends_, {})) {
    pool::Pool& pool = static_cast<pool::Pool&>(backend->observer());
    // What the client had set there is not known any more.
    if (backend->replies().empty() && backend->transaction_status() == postgres::TransactionStatus::idle)
      pool.checkin(*backend, true);
    else
      pool.discard(*backend, "its transaction was not ended");
  }
  const std::function<void()> done = std::move(done_);
  done();
}

}  // namespace tessera::executor
