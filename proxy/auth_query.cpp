#include "proxy/auth_query.hpp"

#include <fmt/format.h>

#include "pool/settings.hpp"
#include "proxy/log.hpp"
#include "proxy/worker_database.hpp"
#include "wire/postgres/frontend.hpp"
#include "wire/postgres/md5.hpp"

namespace tessera::proxy {

using pool::Backend;
using pool::ReplyKind;

namespace {

constexpr std::string_view default_query =
    "SELECT rolname, CASE WHEN rolvaliduntil < pg_catalog.now() THEN NULL ELSE rolpassword END "
    "FROM pg_catalog.pg_authid WHERE rolname = $1 AND rolcanlogin";
constexpr std::size_t max_answer = 64 * 1024;

postgres::Credential credential_of(std::string_view verifier) {
  if (std::optional<postgres::ScramSecret> secret = postgres::ScramSecret::parse(verifier)) return std::move(*secret);
  if (postgres::is_md5_verifier(verifier)) return postgres::Md5Verifier{Secret(std::string(verifier))};
  return postgres::UnknownUser{};
}

const pool::Settings& session_settings() {
  static const pool::Settings made = [] {
    auto map = std::make_shared<pool::SettingsMap>();
    for (const auto& [name, value] :
         {std::pair("search_path", ""), std::pair("default_transaction_read_only", "on"),
          std::pair("statement_timeout", "5000"), std::pair("application_name", "tessera auth_query")})
      map->set(name, pool::set_config_sql(name, value));
    return pool::Settings(std::move(map));
  }();
  return made;
}

}  // namespace

// ---- answers --------------------------------------------------------------------------------------------------------

std::optional<postgres::Credential> AuthAnswers::find(const std::string& database, const std::string& user,
                                                      TimePoint now) const {
  const std::scoped_lock lock(mutex_);
  const auto found = answers_.find({database, user});
  if (found == answers_.end() || found->second.until <= now) return {};
  return found->second.credential;
}

void AuthAnswers::put(const std::string& database, const std::string& user, postgres::Credential credential,
                      std::uint64_t age, TimePoint now) {
  const std::scoped_lock lock(mutex_);
  if (age != age_) return;
  if (answers_.size() >= most) answers_.clear();
  answers_.insert_or_assign({database, user}, Answer{std::move(credential), now + keep});
}

std::uint64_t AuthAnswers::age() const {
  const std::scoped_lock lock(mutex_);
  return age_;
}

void AuthAnswers::forget_all() {
  const std::scoped_lock lock(mutex_);
  ++age_;
  answers_.clear();
}

void AuthAnswers::forget(const std::string& database, const std::string& user) {
  const std::scoped_lock lock(mutex_);
  answers_.erase({database, user});
}

// ---- one question ---------------------------------------------------------------------------------------------------

class AuthQuery::Lookup final : public pool::BackendOwner, public pool::PoolClient {
public:
  Lookup(AuthQuery& query, std::string user, std::uint64_t age, TimePoint deadline)
      : query_(query), user_(std::move(user)), age_(age), deadline_(deadline) {}
  ~Lookup() override { let_go(); }

  void start() {
    if (Backend* backend = query_.pool_->checkout(*this)) on_checkout(*backend);
  }
  void wait(Done done) { waiting_.push_back(std::move(done)); }
  std::vector<Done> take_waiting() { return std::move(waiting_); }
  std::uint64_t age() const { return age_; }
  TimePoint deadline() const { return deadline_; }
  void finish(const Result<postgres::Credential>& answer) {
    let_go();
    query_.answered(user_, answer);
  }

private:
  void let_go() {
    if (std::exchange(finished_, true)) return;
    query_.pool_->forget(*this);
    Backend* const backend = std::exchange(backend_, nullptr);
    if (backend == nullptr) return;
    if (ready_)
      query_.pool_->checkin(*backend, false);
    else
      query_.pool_->discard(*backend, "the authentication query was given up");
  }

  void ask() {
    const config::Database& settings = query_.database_.settings();
    if (!settings.auth_query) return finish(fail(sqlstate::cannot_connect_now, "there is no auth_query any more"));
    const std::string_view sql = settings.auth_query->query.empty() ? default_query : settings.auth_query->query;
    const postgres::Value name[] = {user_};
    std::string& out = backend_->out();
    if (!postgres::append_parse(out, "", sql) || !postgres::append_bind(out, "", "", name) ||
        !postgres::append_execute(out, ""))
      return finish(fail(sqlstate::program_limit_exceeded, "the query cannot be sent"));
    postgres::append_sync(out);
    for (const ReplyKind kind : {ReplyKind::parse, ReplyKind::bind, ReplyKind::execute, ReplyKind::sync})
      backend_->replies().expect({.kind = kind});
    backend_->flush();
  }

  void take_row(std::string_view body) {
    ++rows_;
    postgres::DataRowReader reader(body);
    postgres::Value name, verifier;
    if (!reader.next(name) || !reader.next(verifier) || !name || !verifier || *name != user_) return;
    found_ = credential_of(*verifier);
  }

  void on_checkout(Backend& backend) override {
    backend_ = &backend;
    backend.lease(*this);
    if (backend.prepare(session_settings())) ask();
  }
  void on_checkout_failed(const Error& reason) override { finish(std::unexpected(reason)); }
  void on_backend_prepared(Backend&, const Result<void>& result) override {
    if (!result) return finish(std::unexpected(result.error()));
    ask();
  }
  void on_relay(std::string_view bytes) override {
    if (buffer_.size() + bytes.size() > max_answer) {
      error_ = Error{sqlstate::program_limit_exceeded, "the answer is too large", {}, {}, 0};
      return;
    }
    buffer_.append(bytes);
    std::string_view left = buffer_;
    postgres::FrameHeader header;
    while (postgres::peek_frame(left, max_answer, header) == postgres::FrameStatus::complete) {
      if (header.type == postgres::backend::data_row) take_row(postgres::frame_body(left, header));
      left.remove_prefix(header.total_size());
    }
    buffer_.erase(0, buffer_.size() - left.size());
  }
  void on_done(const pool::ExpectedReply&, char, std::string_view) override {}
  bool on_error(const pool::ExpectedReply&, const postgres::ErrorFields& fields) override {
    error_ = fields.to_error();
    return false;
  }
  void on_skipped(const pool::ExpectedReply&) override {}
  bool on_ready(const pool::ExpectedReply&, postgres::TransactionStatus) override {
    ready_ = true;
    return false;
  }
  void on_copy(const pool::ExpectedReply&, char) override {}
  bool on_parameter(std::string_view, std::string_view, bool) override { return false; }
  bool on_notice(const postgres::ErrorFields&, bool) override { return false; }
  bool on_notification(const postgres::NotificationView&) override { return false; }
  void on_backend_turn(Backend&) override {
    if (!ready_) return;
    if (error_) return finish(std::unexpected(*error_));
    // Several rows are no answer: nobody knows which one is meant.
    finish(rows_ == 1 ? found_ : postgres::Credential(postgres::UnknownUser{}));
  }
  void on_backend_lost(Backend&, const Error& reason) override {
    backend_ = nullptr;
    // It may have died while it was idle, unnoticed: once more on a new one. Not from here: the pool is at it.
    if (std::exchange(again_, true)) return finish(std::unexpected(reason));
    buffer_.clear();
    rows_ = 0;
    found_ = postgres::UnknownUser{};
    error_.reset();
    start();
  }
  void on_backend_drained(Backend&) override {}
  bool is_congested() const override { return false; }

  AuthQuery& query_;
  std::string user_;
  std::uint64_t age_;
  TimePoint deadline_;
  std::vector<Done> waiting_;
  Backend* backend_ = nullptr;
  std::string buffer_;  // a message that was cut
  int rows_ = 0;
  postgres::Credential found_ = postgres::UnknownUser{};
  std::optional<Error> error_;
  bool ready_ = false, again_ = false, finished_ = false;
};

// ---- all of a database ----------------------------------------------------------------------------------------------

AuthQuery::AuthQuery(WorkerDatabase& database, AuthAnswers& answers) : database_(database), answers_(answers) {}
AuthQuery::~AuthQuery() {
  lookups_.clear();
}

std::size_t AuthQuery::shard() const {
  const config::Database& settings = database_.settings();
  const std::string& wanted = settings.auth_query->shard.empty() ? settings.default_shard : settings.auth_query->shard;
  for (std::size_t i = 0; i < settings.shards.size(); ++i)
    if (settings.shards[i].name == wanted) return i;
  return 0;
}

void AuthQuery::look_up(const std::string& user, Done done) {
  const TimePoint now = database_.loop().now();
  if (const std::optional<postgres::Credential> known = answers_.find(database_.name(), user, now)) return done(*known);
  if (waiting_ >= max_waiting) return done(fail(sqlstate::cannot_connect_now, "too many logins at once", "try again"));
  ++waiting_;
  if (!pool_) open_pool();
  std::unique_ptr<Lookup>& lookup = lookups_[user];
  const bool fresh = lookup == nullptr;
  if (fresh) lookup = std::make_unique<Lookup>(*this, user, answers_.age(), now + patience);
  lookup->wait(std::move(done));
  if (fresh) lookup->start();
}

void AuthQuery::open_pool() {
  const config::AuthQuery& query = *database_.settings().auth_query;
  const postgres::ServerCredential credential =
      query.password.empty() ? postgres::ServerCredential{}
                             : postgres::ServerCredential(postgres::PlainPassword{query.password});
  pool_ = database_.auth_pool(std::make_shared<const pool::Identity>(pool::Identity{query.user, credential}),
                              ShardId(static_cast<std::uint32_t>(shard())));
}

// Questions that are under way may be answered by the old server yet; such answers are not kept (AuthAnswers::put).
void AuthQuery::reconfigure() {
  if (!pool_) return;
  const std::optional<config::AuthQuery>& query = database_.settings().auth_query;
  if (!query) return pool_->reconnect();
  const pool::Identity& before = *pool_->options().identity;
  const auto* password = std::get_if<postgres::PlainPassword>(&before.credential);
  const std::string_view known = password == nullptr ? std::string_view() : password->password.reveal();
  const bool same = before.user == query->user && known == query->password.reveal();
  const pool::EndpointRef endpoint = database_.runtime().primaries[shard()];
  pool::IdentityRef identity = pool_->options().identity;
  if (!same) {
    const postgres::ServerCredential credential =
        query->password.empty() ? postgres::ServerCredential{}
                                : postgres::ServerCredential(postgres::PlainPassword{query->password});
    identity = std::make_shared<const pool::Identity>(pool::Identity{query->user, credential});
  }
  pool_->reconfigure(endpoint, std::move(identity), database_.auth_limits());
  if (!same) pool_->reconnect();
}

void AuthQuery::answered(const std::string& user, const Result<postgres::Credential>& answer) {
  auto node = lookups_.extract(user);
  if (node.empty()) return;
  const std::shared_ptr<Lookup> lookup = std::move(node.mapped());
  database_.loop().defer([doomed = lookup] {});  // it is on the stack
  if (answer) answers_.put(database_.name(), user, *answer, lookup->age(), database_.loop().now());
  const Result<postgres::Credential> told = answer ? answer : std::unexpected(refusal(answer.error()));
  for (const Done& done : lookup->take_waiting()) {
    --waiting_;
    done(told);
  }
}

// What clients are told: less than the log is.
Error AuthQuery::refusal(const Error& reason) {
  constexpr std::chrono::seconds between_complaints{10};
  const TimePoint now = database_.loop().now();
  if (reason.message != complaint_ || now - complained_at_ >= between_complaints) {
    complaint_ = reason.message;
    complained_at_ = now;
    log::error("auth_query failed",
               {{"database", database_.name()}, {"reason", reason.message}, {"detail", reason.detail}});
  }
  return {sqlstate::cannot_connect_now, "the authentication query could not be run", {}, "the log says why", 0};
}

void AuthQuery::sweep(TimePoint now) {
  if (!pool_) return;
  pool_->sweep(now);
  std::vector<std::string> late;
  for (const auto& [user, lookup] : lookups_)
    if (lookup->deadline() <= now) late.push_back(user);
  for (const std::string& user : late) {
    const auto found = lookups_.find(user);
    if (found == lookups_.end()) continue;
    const std::string& last = pool_->last_error();
    found->second->finish(fail(sqlstate::cannot_connect_now, fmt::format("no answer within {} s{}{}", patience.count(),
                                                                         last.empty() ? "" : ": ", last)));
  }
}

void AuthQuery::shut_down() {
  lookups_.clear();
  if (pool_) pool_->shut_down({sqlstate::admin_shutdown, "Tessera is shutting down", {}, {}, 0});
}

}  // namespace tessera::proxy
