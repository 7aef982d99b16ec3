// Pass-through: is this the user's password? A shard is asked, by logging in there. One for each database and worker,
// on the worker's thread; never blocks. Only a login in which the server asked for a password proves one: a server that
// lets the role in by trust or by Tessera's certificate proves nothing. Logins under way are few at a time, count
// against pool.max_server_connections, and have a deadline.
#pragma once

#include <deque>
#include <functional>
#include <list>
#include <memory>
#include <string>

#include "base/secret.hpp"
#include "pool/backend.hpp"

namespace tessera::proxy {

class WorkerDatabase;

class PasswordCheck {
public:
  // Errors: class 28, the server refuses; others, it could not be asked.
  using Done = std::function<void(const Result<void>&)>;
  static constexpr std::size_t most_at_once = 16;
  static constexpr std::size_t max_waiting = 10'000;
  static constexpr std::chrono::seconds patience{5};  // until it is a question's turn; then backend.connect_timeout

  explicit PasswordCheck(WorkerDatabase& database);
  ~PasswordCheck();

  // `done` is not called from inside.
  void ask(const std::string& role, Secret password, Done done);
  bool busy() const { return !waiting_.empty() || !probes_.empty(); }
  void sweep(TimePoint now);
  void shut_down();

private:
  class Probe;
  struct Question {
    std::string role;
    Secret password;
    Done done;
    TimePoint deadline;
  };
  void start_waiting();
  void ended(Probe& probe);

  WorkerDatabase& database_;
  std::deque<Question> waiting_;
  std::list<std::unique_ptr<Probe>> probes_;
};

}  // namespace tessera::proxy
