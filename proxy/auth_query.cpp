#include "proxy/auth_query.hpp"

#include <fmt/format.h>
#include <libpq-fe.h>

#include "proxy/log.hpp"
#include "wire/postgres/md5.hpp"

namespace tessera::proxy {

namespace {

constexpr std::string_view default_query =
    "SELECT rolname, CASE WHEN rolvaliduntil < pg_catalog.now() THEN NULL ELSE rolpassword END "
    "FROM pg_catalog.pg_authid WHERE rolname = $1 AND rolcanlogin";

const char* sslmode(config::BackendTls mode) {
  switch (mode) {
    case config::BackendTls::disable:
      return "disable";
    case config::BackendTls::prefer:
      return "prefer";
    case config::BackendTls::require:
      return "require";
    case config::BackendTls::verify_ca:
      return "verify-ca";
    case config::BackendTls::verify_full:
      return "verify-full";
  }
  return "verify-full";
}

postgres::Credential credential_of(std::string_view verifier) {
  if (std::optional<postgres::ScramSecret> secret = postgres::ScramSecret::parse(verifier)) return std::move(*secret);
  if (postgres::is_md5_verifier(verifier)) return postgres::Md5Verifier{Secret(std::string(verifier))};
  return postgres::UnknownUser{};
}

}  // namespace

class AuthQuery::Connection {
public:
  explicit Connection(const DatabaseRuntime& database) {
    const config::Database& settings = *database.settings;
    const config::AuthQuery& query = *settings.auth_query;
    std::size_t shard = 0;
    const std::string& wanted = query.shard.empty() ? settings.default_shard : query.shard;
    for (std::size_t i = 0; i < settings.shards.size(); ++i)
      if (settings.shards[i].name == wanted) shard = i;
    const config::Address& address = settings.shards[shard].primary;
    const std::string port = std::to_string(address.port);
    const std::string password(query.password.reveal());
    const char* names[] = {"host",    "port",        "dbname",          "user",    "password",
                           "sslmode", "sslrootcert", "connect_timeout", "options", "application_name",
                           nullptr};
    const char* values[] = {address.host.c_str(),
                            port.c_str(),
                            database.primaries[shard]->database.c_str(),
                            query.user.c_str(),
                            password.c_str(),
                            sslmode(settings.backend.tls),
                            settings.backend.ca.c_str(),
                            "5",
                            "-c search_path= -c default_transaction_read_only=on -c statement_timeout=5000",
                            "tessera auth_query",
                            nullptr};
    connection_.reset(::PQconnectdbParams(names, values, 0));
  }
  bool ok() const { return ::PQstatus(connection_.get()) == CONNECTION_OK; }
  std::string error() const { return ::PQerrorMessage(connection_.get()); }
  Result<postgres::Credential> ask(const std::string& sql, const std::string& user) {
    const char* values[] = {user.c_str()};
    const std::unique_ptr<PGresult, decltype(&::PQclear)> result(
        ::PQexecParams(connection_.get(), sql.c_str(), 1, nullptr, values, nullptr, nullptr, 0), &::PQclear);
    if (::PQresultStatus(result.get()) != PGRES_TUPLES_OK)
      return fail(sqlstate::connection_failure, ::PQresultErrorMessage(result.get()));
    if (::PQntuples(result.get()) != 1 || ::PQnfields(result.get()) < 2 || ::PQgetisnull(result.get(), 0, 1) != 0)
      return postgres::UnknownUser{};
    if (user != ::PQgetvalue(result.get(), 0, 0)) return postgres::UnknownUser{};
    return credential_of(::PQgetvalue(result.get(), 0, 1));
  }

private:
  std::unique_ptr<PGconn, decltype(&::PQfinish)> connection_{nullptr, &::PQfinish};
};

AuthQuery::AuthQuery() : thread_([this] { run(); }) {}

AuthQuery::~AuthQuery() {
  {
    const std::scoped_lock lock(mutex_);
    stopping_ = true;
  }
  wake_.notify_all();
  thread_.join();
}

void AuthQuery::look_up(std::shared_ptr<const DatabaseRuntime> database, std::string user, net::EventLoop& loop,
                        Done done) {
  const std::scoped_lock lock(mutex_);
  if (jobs_.size() >= max_queued) {
    loop.post(
        [done = std::move(done)] { done(fail(sqlstate::cannot_connect_now, "too many logins at once", "try again")); });
    return;
  }
  jobs_.push_back({std::move(database), std::move(user), &loop, std::move(done)});
  wake_.notify_one();
}

void AuthQuery::forget_answers() {
  const std::scoped_lock lock(mutex_);
  answers_.clear();
}

void AuthQuery::forget_answer(const std::string& database, const std::string& user) {
  const std::scoped_lock lock(mutex_);
  answers_.erase({database, user});
}

void AuthQuery::run() {
  std::unique_lock lock(mutex_);
  while (true) {
    wake_.wait(lock, [this] { return stopping_ || !jobs_.empty(); });
    if (stopping_) return;
    Job job = std::move(jobs_.front());
    jobs_.pop_front();
    const auto key = std::pair(job.database->settings->name, job.user);
    const auto known = answers_.find(key);
    Result<postgres::Credential> answer;
    if (known != answers_.end() && known->second.until > Clock::now()) {
      answer = known->second.credential;
    } else {
      lock.unlock();
      answer = ask(job);
      lock.lock();
      if (answers_.size() > 100'000) answers_.clear();
      if (answer) answers_.insert_or_assign(key, Answer{*answer, Clock::now() + keep_answers});
    }
    job.loop->post([done = std::move(job.done), answer = std::move(answer)] { done(answer); });
  }
}

Result<postgres::Credential> AuthQuery::ask(const Job& job) {
  const config::Database& settings = *job.database->settings;
  std::unique_ptr<Connection>& connection = connections_[settings.name];
  const std::string sql = settings.auth_query->query.empty() ? std::string(default_query) : settings.auth_query->query;
  // A connection that has died since the last time is made anew, once.
  for (int attempt = 0; attempt < 2; ++attempt) {
    if (!connection || !connection->ok()) connection = std::make_unique<Connection>(*job.database);
    if (!connection->ok()) break;
    Result<postgres::Credential> answer = connection->ask(sql, job.user);
    if (answer || connection->ok()) {
      if (!answer) log::error("auth_query failed", {{"database", settings.name}, {"reason", answer.error().message}});
      return answer ? std::move(answer)
                    : fail(sqlstate::cannot_connect_now, "the authentication query failed", "the log says why");
    }
  }
  log::error("auth_query cannot connect", {{"database", settings.name}, {"reason", connection->error()}});
  connection.reset();
  return fail(sqlstate::cannot_connect_now, "the authentication query could not be run", "the log says why");
}

}  // namespace tessera::proxy
