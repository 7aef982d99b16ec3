#include "proxy/password_check.hpp"

#include <algorithm>

#include "proxy/log.hpp"
#include "proxy/worker_database.hpp"

namespace tessera::proxy {

// One login at a server.
class PasswordCheck::Probe final : public pool::BackendObserver {
public:
  Probe(PasswordCheck& check, Question question, std::shared_ptr<pool::Budget> budget)
      : check_(check),
        done_(std::move(question.done)),
        role_(question.role),
        budget_(std::move(budget)),
        backend_(BackendId(0), options(question), check.database_.loop(), check.database_.derivation(), *this) {}
  ~Probe() override { budget_->release(); }

  void start() { backend_.connect(check_.database_.loop().now()); }
  void check_deadline(TimePoint now) { backend_.check_deadline(now); }

private:
  pool::Backend::Options options(const Question& question) const {
    return {check_.database_.asked_endpoint(), std::make_shared<const pool::Identity>(pool::Identity{
                                                   question.role, postgres::PlainPassword{question.password}})};
  }
  void on_backend_ready(pool::Backend& backend) override {
    const bool proved = backend.password_proved();
    backend.close_quietly();
    if (proved) return tell({});
    log::error("pass-through: the server asked for no password, so this login is refused",
               {{"database", check_.database_.name()}, {"user", role_}, {"shard", backend.endpoint().name}});
    tell(fail(sqlstate::invalid_password, "no password was asked for"));
  }
  void on_backend_failed(pool::Backend&, const Error& reason) override { tell(std::unexpected(reason)); }
  void on_backend_closed(pool::Backend&, const Error&) override {}
  void on_backend_clean(pool::Backend&) override {}

  void tell(const Result<void>& result) {
    if (!result && !result.error().code.view().starts_with("28"))
      log::warn("pass-through: a password could not be checked",
                {{"database", check_.database_.name()}, {"user", role_}, {"reason", result.error().message}});
    const Done done = std::exchange(done_, nullptr);
    if (!done) return;
    check_.ended(*this);
    done(result);
  }

  PasswordCheck& check_;
  Done done_;
  std::string role_;
  std::shared_ptr<pool::Budget> budget_;
  pool::Backend backend_;
};

PasswordCheck::PasswordCheck(WorkerDatabase& database) : database_(database) {}
PasswordCheck::~PasswordCheck() = default;

void PasswordCheck::ask(const std::string& role, Secret password, Done done) {
  net::EventLoop& loop = database_.loop();
  if (waiting_.size() >= max_waiting)
    return loop.defer([done] { done(fail(sqlstate::cannot_connect_now, "too many logins at once", "try again")); });
  waiting_.push_back({role, std::move(password), std::move(done), loop.now() + patience});
  loop.defer([this] { start_waiting(); });
}

void PasswordCheck::start_waiting() {
  while (!waiting_.empty() && probes_.size() < most_at_once) {
    std::shared_ptr<pool::Budget> budget = database_.single_budget(*database_.asked_endpoint());
    if (!budget->acquire()) return;  // the next sweep tries again
    probes_.push_back(std::make_unique<Probe>(*this, std::move(waiting_.front()), std::move(budget)));
    waiting_.pop_front();
    probes_.back()->start();
  }
}

void PasswordCheck::ended(Probe& probe) {
  const auto found = std::ranges::find_if(probes_, [&](const auto& one) { return one.get() == &probe; });
  if (found == probes_.end()) return;
  database_.loop().defer([doomed = std::shared_ptr<Probe>(std::move(*found))] {});  // it is on the stack
  probes_.erase(found);
  if (!waiting_.empty()) database_.loop().defer([this] { start_waiting(); });
}

void PasswordCheck::sweep(TimePoint now) {
  std::vector<Probe*> probes;
  for (const auto& probe : probes_) probes.push_back(probe.get());
  for (Probe* probe : probes) probe->check_deadline(now);
  std::vector<Done> late;
  for (const Question& question : waiting_)
    if (question.deadline <= now) late.push_back(question.done);
  std::erase_if(waiting_, [&](const Question& question) { return question.deadline <= now; });
  for (const Done& done : late)
    done(fail(sqlstate::cannot_connect_now, "the password could not be checked in time", "try again"));
  start_waiting();
}

void PasswordCheck::shut_down() {
  waiting_.clear();
  probes_.clear();
}

}  // namespace tessera::proxy
