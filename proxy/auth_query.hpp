// auth_query: looks a user's verifier up in the database. One for each database and worker, on the worker's thread; it
// never blocks. It asks over a connection of its own, whose session has an empty search_path, so that nobody's objects
// come between, and is read-only. The connection is made and verified like every other one to the shards and follows
// their configuration; the workers share one, and it does not count against pool.max_server_connections, so that logins
// still work when those are used up. A look-up that has no answer within `patience` fails: a server that hangs delays
// the logins of its own database only. Answers are kept for a short time, by `AuthAnswers`.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>

#include "pool/pool.hpp"
#include "wire/postgres/client_login.hpp"

namespace tessera::proxy {

class WorkerDatabase;

// What was found out about users lately, for all workers. Thread-safe.
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

  AuthQuery(WorkerDatabase& database, AuthAnswers& answers);
  ~AuthQuery();

  // The database must have an auth_query. `done` may be called at once.
  void look_up(const std::string& user, Done done);
  void reconfigure();  // the database has its new configuration
  bool busy() const { return !lookups_.empty(); }
  void sweep(TimePoint now);
  void shut_down();

private:
  class Lookup;
  void open_pool();
  std::size_t shard() const;
  void answered(const std::string& user, const Result<postgres::Credential>& answer);
  Error refusal(const Error& reason);

  WorkerDatabase& database_;
  AuthAnswers& answers_;
  std::unique_ptr<pool::Pool> pool_;                        // once made, as long as the database
  std::map<std::string, std::unique_ptr<Lookup>> lookups_;  // by user: equal questions are asked once
  std::size_t waiting_ = 0;
  std::string complaint_;  // the last one, and when it was logged
  TimePoint complained_at_{};
};

}  // namespace tessera::proxy
