// auth_query: looks a user's verifier up in the database. Runs on a thread of its own with a libpq connection of its
// own: empty search_path, so that nobody's objects come between, and read-only. Answers are kept for a short time.
// Respects VALID UNTIL and NOLOGIN when the default query is used; a query from the configuration must do so itself
// (docs/configuration.md).
#pragma once

#include <condition_variable>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>

#include "net/event_loop.hpp"
#include "proxy/runtime.hpp"
#include "wire/postgres/client_login.hpp"

namespace tessera::proxy {

class AuthQuery {
public:
  using Done = std::function<void(Result<postgres::Credential>)>;
  static constexpr std::chrono::seconds keep_answers{10};
  static constexpr std::size_t max_queued = 10'000;

  AuthQuery();
  ~AuthQuery();
  void look_up(std::shared_ptr<const DatabaseRuntime> database, std::string user, net::EventLoop& loop, Done done);
  // After a change of roles or configuration.
  void forget_answers();
  void forget_answer(const std::string& database, const std::string& user);

private:
  struct Job {
    std::shared_ptr<const DatabaseRuntime> database;
    std::string user;
    net::EventLoop* loop;
    Done done;
  };
  struct Answer {
    postgres::Credential credential;
    TimePoint until;
  };
  class Connection;
  void run();
  Result<postgres::Credential> ask(const Job& job);

  std::mutex mutex_;  // guards jobs_, answers_, stopping_
  std::condition_variable wake_;
  std::deque<Job> jobs_;
  std::map<std::pair<std::string, std::string>, Answer> answers_;
  bool stopping_ = false;
  std::map<std::string, std::unique_ptr<Connection>> connections_;  // the thread's own, by database
  std::thread thread_;
};

}  // namespace tessera::proxy
