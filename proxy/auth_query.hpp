// auth_query: looks a user's verifier up in the database, at every login: an answer that was kept would refuse a
// password that has just been set (SCRAM begins with the verifier's salt, so a failed proof cannot be checked against a
// newer verifier). Logins that come while the connection is busy are asked about together, those of one user once. One
// for each database and worker, on the worker's thread; it never blocks. It asks over a connection of its own, whose
// session has an empty search_path, so that nobody's objects come between, and is read-only. The connection is made and
// verified like every other one to the shards and follows their configuration; the workers share one, and it does not
// count against pool.max_server_connections, so that logins still work when those are used up. A look-up that has no
// answer within `patience` fails: a server that hangs delays the logins of its own database only.
#pragma once

#include <cstdint>
#include <functional>
#include <list>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "pool/pool.hpp"
#include "wire/postgres/client_login.hpp"

namespace tessera::proxy {

class WorkerDatabase;

// Pass-through: passwords that were right lately, for all workers. Thread-safe.
class AuthAnswers {
public:
  static constexpr std::chrono::seconds keep{10};
  static constexpr std::size_t most = 100'000;

  std::optional<postgres::Credential> find(const std::string& database, const std::string& user, TimePoint now) const;
  // `age`: what age() said before the question was asked. An answer from before forget_all() is not kept.
  void put(const std::string& database, const std::string& user, postgres::Credential credential, std::uint64_t age,
           TimePoint now);
  std::uint64_t age() const;
  void forget_all();  // after a change of configuration
  void forget(const std::string& database, const std::string& user);

private:
  struct Answer {
    postgres::Credential credential;
    TimePoint until;
  };
  mutable std::mutex mutex_;
  std::map<std::pair<std::string, std::string>, Answer> answers_;
  std::uint64_t age_ = 0;
};

class AuthQuery {
public:
  using Done = std::function<void(const Result<postgres::Credential>&)>;
  static constexpr std::chrono::seconds patience{5};
  static constexpr std::size_t max_waiting = 10'000;

  explicit AuthQuery(WorkerDatabase& database);
  ~AuthQuery();

  // The database must have an auth_query. `done` may be called at once.
  void look_up(const std::string& user, Done done);
  void reconfigure();  // the database has its new configuration
  bool busy() const { return waiting_ > 0; }
  bool asks() const { return pool_ && pool_->counts().busy > 0; }  // a server, now
  void pause();
  void resume();
  void reconnect();
  void sweep(TimePoint now);
  void shut_down();

private:
  class Round;
  struct Question {
    std::string user;
    TimePoint deadline;
    std::vector<Done> logins = {};
    bool asked_again = false;
  };
  using Questions = std::list<Question>;

  void open_pool();
  std::size_t shard() const;
  void start_round();
  Questions take_questions();
  void end_round();
  void round_failed(const Error& reason);
  void round_lost(const Error& reason);
  Questions take_out(const std::function<bool(Question&)>& is_over);
  TimePoint deadline() const;
  Error too_late();
  void answer(Question& question, const Result<postgres::Credential>& found);
  Error refusal(const Error& reason);

  WorkerDatabase& database_;
  std::unique_ptr<pool::Pool> pool_;                   // once made, as long as the database
  Questions open_;                                     // for the next round
  std::unordered_map<std::string, Question*> unsent_;  // those of them that more logins may join, by user
  std::shared_ptr<Round> round_;                       // under way
  std::size_t waiting_ = 0;                            // logins
  std::string complaint_;                              // the last one, and when it was logged
  TimePoint complained_at_{};
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);  // for what is deferred
};

}  // namespace tessera::proxy
