#include "proxy/auth_query.hpp"

#include <algorithm>
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

bool is_ascii(std::string_view text) {
  return std::ranges::all_of(text, [](char c) { return static_cast<unsigned char>(c) < 0x80; });
}

// character_not_in_repertoire, untranslatable_character
bool is_encoding_error(const Error& error) {
  return error.code.view() == "22021" || error.code.view() == "22P05";
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

// ---- questions ------------------------------------------------------------------------------------------------------

// All that waits when the connection is free, asked in one go: many logins cost one journey to the server.
class AuthQuery::Round final : public pool::BackendOwner, public pool::PoolClient {
public:
  explicit Round(AuthQuery& query) : query_(query) {}
  ~Round() override { let_go(); }

  void start() {
    if (Backend* backend = query_.pool_->checkout(*this)) on_checkout(*backend);
  }
  bool is_late(TimePoint now) const { return !asked_.empty() && asked_.front().deadline <= now; }
  // What has no answer is the caller's again.
  Questions give_up() {
    let_go();
    return std::exchange(asked_, {});
  }

private:
  void let_go() {
    if (std::exchange(finished_, true)) return;
    query_.pool_->forget(*this);
    Backend* const backend = std::exchange(backend_, nullptr);
    if (backend == nullptr) return;
    if (asked_.empty())
      query_.pool_->checkin(*backend, false);
    else
      query_.pool_->discard(*backend, "the authentication query was given up");
  }

  void ask_all() {
    const config::Database& settings = query_.database_.settings();
    if (!settings.auth_query)
      return query_.round_failed({sqlstate::cannot_connect_now, "there is no auth_query any more", {}, {}, 0});
    const std::string_view sql = settings.auth_query->query.empty() ? default_query : settings.auth_query->query;
    asked_ = query_.take_questions();
    for (const Question& question : asked_)
      if (!ask(sql, question.user))
        return query_.round_failed({sqlstate::program_limit_exceeded, "the query cannot be sent", {}, {}, 0});
    if (asked_.empty()) return query_.end_round();
    backend_->flush();
  }

  // Each with a Sync of its own: what fails for one name does not fail for the others.
  bool ask(std::string_view sql, std::string_view user) {
    const postgres::Value name[] = {user};
    std::string& out = backend_->out();
    if (!postgres::append_parse(out, "", sql) || !postgres::append_bind(out, "", "", name) ||
        !postgres::append_execute(out, ""))
      return false;
    postgres::append_sync(out);
    for (const ReplyKind kind : {ReplyKind::parse, ReplyKind::bind, ReplyKind::execute, ReplyKind::sync})
      backend_->replies().expect({.kind = kind});
    return true;
  }

  void take_row(std::string_view body) {
    ++rows_;
    postgres::DataRowReader reader(body);
    postgres::Value name, verifier;
    if (!reader.next(name) || !reader.next(verifier) || !name || !verifier || *name != asked_.front().user) return;
    found_ = credential_of(*verifier);
  }

  Result<postgres::Credential> answer() {
    const std::optional<Error> error = std::exchange(error_, std::nullopt);
    postgres::Credential found = std::exchange(found_, postgres::UnknownUser{});
    const int rows = std::exchange(rows_, 0);
    buffer_.clear();
    // A name that cannot be one in that database: nobody has it.
    if (error && is_encoding_error(*error) && !is_ascii(asked_.front().user)) return postgres::UnknownUser{};
    if (error) return std::unexpected(*error);
    // Several rows are no answer: nobody knows which one is meant.
    if (rows != 1) return postgres::UnknownUser{};
    return found;
  }

  void on_checkout(Backend& backend) override {
    backend_ = &backend;
    backend.lease(*this);
    if (backend.prepare(session_settings())) ask_all();
  }
  void on_checkout_failed(const Error& reason) override { query_.round_failed(reason); }
  void on_backend_prepared(Backend&, const Result<void>& result) override {
    if (!result) return query_.round_failed(result.error());
    ask_all();
  }
  void on_relay(std::string_view bytes) override {
    if (buffer_.size() + bytes.size() > max_answer)
      error_ = Error{sqlstate::program_limit_exceeded, "the answer is too large", {}, {}, 0};
    if (error_ || asked_.empty()) return;
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
    if (asked_.empty()) return false;
    answers_.push_back(answer());
    answered_.splice(answered_.end(), asked_, asked_.begin());
    return false;
  }
  void on_copy(const pool::ExpectedReply&, char) override {}
  bool on_parameter(std::string_view, std::string_view, bool) override { return false; }
  bool on_notice(const postgres::ErrorFields&, bool) override { return false; }
  bool on_notification(const postgres::NotificationView&) override { return false; }
  void on_backend_turn(Backend&) override {
    Questions answered = std::exchange(answered_, {});
    const std::vector<Result<postgres::Credential>> answers = std::exchange(answers_, {});
    if (asked_.empty()) query_.end_round();
    std::size_t i = 0;
    for (Question& question : answered) {
      const Result<postgres::Credential>& found = answers[i++];
      query_.answer(question, found ? found : std::unexpected(query_.refusal(found.error())));
    }
  }
  void on_backend_lost(Backend&, const Error& reason) override {
    backend_ = nullptr;
    query_.round_lost(reason);
  }
  void on_backend_drained(Backend&) override {}
  bool is_congested() const override { return false; }

  AuthQuery& query_;
  Questions asked_;  // and not answered, the oldest first
  Questions answered_;
  std::vector<Result<postgres::Credential>> answers_;  // of these
  Backend* backend_ = nullptr;
  bool finished_ = false;
  // Of the question whose answer is being read:
  std::string buffer_;  // a message that was cut
  int rows_ = 0;
  postgres::Credential found_ = postgres::UnknownUser{};
  std::optional<Error> error_;
};

// ---- all of a database ----------------------------------------------------------------------------------------------

AuthQuery::AuthQuery(WorkerDatabase& database) : database_(database) {}
AuthQuery::~AuthQuery() {
  *alive_ = false;
  round_.reset();
}

std::size_t AuthQuery::shard() const {
  const config::Database& settings = database_.settings();
  const std::string& wanted = settings.auth_query->shard.empty() ? settings.default_shard : settings.auth_query->shard;
  for (std::size_t i = 0; i < settings.shards.size(); ++i)
    if (settings.shards[i].name == wanted) return i;
  return 0;
}

void AuthQuery::look_up(const std::string& user, Done done) {
  if (waiting_ >= max_waiting) return done(fail(sqlstate::cannot_connect_now, "too many logins at once", "try again"));
  ++waiting_;
  if (!pool_) open_pool();
  // One that has been sent may have been answered before the change of the password with which this client comes.
  Question*& joined = unsent_[user];
  if (joined == nullptr) joined = &open_.emplace_back(user, deadline());
  joined->logins.push_back(std::move(done));
  start_round();
}

void AuthQuery::start_round() {
  if (round_ || open_.empty()) return;
  round_ = std::make_shared<Round>(*this);
  const std::shared_ptr<Round> started = round_;
  started->start();
}

AuthQuery::Questions AuthQuery::take_questions() {
  unsent_.clear();
  return std::exchange(open_, {});
}

// The round may be on the stack: it goes, and the next one begins, when it is not. What it has not answered is open
// again.
void AuthQuery::end_round() {
  const std::shared_ptr<Round> ended = std::exchange(round_, nullptr);
  if (!ended) return;
  open_.splice(open_.begin(), ended->give_up());
  database_.loop().defer([this, doomed = ended, alive = alive_] {
    if (*alive) start_round();
  });
}

// No connection is to be had: none of those who wait can be helped.
void AuthQuery::round_failed(const Error& reason) {
  end_round();
  for (Question& question : take_questions()) answer(question, std::unexpected(refusal(reason)));
}

// The connection may have died while it was idle, unnoticed: once more on a new one.
void AuthQuery::round_lost(const Error& reason) {
  end_round();
  for (Question& question : take_out([](Question& one) { return std::exchange(one.asked_again, true); }))
    answer(question, std::unexpected(refusal(reason)));
}

AuthQuery::Questions AuthQuery::take_out(const std::function<bool(Question&)>& is_over) {
  Questions over;
  for (auto it = open_.begin(); it != open_.end();) {
    const auto at = it++;
    if (!is_over(*at)) continue;
    if (const auto found = unsent_.find(at->user); found != unsent_.end() && found->second == &*at)
      unsent_.erase(found);
    over.splice(over.end(), open_, at);
  }
  return over;
}

void AuthQuery::answer(Question& question, const Result<postgres::Credential>& told) {
  for (const Done& done : std::exchange(question.logins, {})) {
    --waiting_;
    done(told);
  }
}

void AuthQuery::open_pool() {
  const config::AuthQuery& query = *database_.settings().auth_query;
  const postgres::ServerCredential credential =
      query.password.empty() ? postgres::ServerCredential{}
                             : postgres::ServerCredential(postgres::PlainPassword{query.password});
  pool_ = database_.auth_pool(std::make_shared<const pool::Identity>(pool::Identity{query.user, credential}),
                              ShardId(static_cast<std::uint32_t>(shard())));
}

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
  if (round_ && round_->is_late(now)) end_round();
  Questions late = take_out([now](Question& question) { return question.deadline <= now; });
  if (late.empty()) return;
  const Error told = too_late();
  for (Question& question : late) answer(question, std::unexpected(told));
}

// While the database is paused logins wait as statements do.
TimePoint AuthQuery::deadline() const {
  const TimePoint now = database_.loop().now();
  const Duration timeout = database_.settings().pool.checkout_timeout;
  if (!database_.paused()) return now + patience;
  return timeout == Duration::zero() ? never : now + timeout;
}

Error AuthQuery::too_late() {
  if (database_.paused())
    return {sqlstate::cannot_connect_now,
            fmt::format("database \"{}\" is paused", database_.name()),
            {},
            "RESUME in the console lets clients log in again",
            0};
  const std::string& last = pool_->last_error();
  return refusal({sqlstate::cannot_connect_now,
                  fmt::format("no answer within {} s{}{}", patience.count(), last.empty() ? "" : ": ", last),
                  {},
                  {},
                  0});
}

// What is asked already is answered; then the connection is closed, too.
void AuthQuery::pause() {
  if (!pool_) return;
  pool_->pause();
  pool_->reconnect();
}

void AuthQuery::resume() {
  if (pool_) pool_->resume();
}

void AuthQuery::reconnect() {
  if (pool_) pool_->reconnect();
}

void AuthQuery::shut_down() {
  round_.reset();
  open_.clear();
  unsent_.clear();
  waiting_ = 0;
  if (pool_) pool_->shut_down({sqlstate::admin_shutdown, "Tessera is shutting down", {}, {}, 0});
}

}  // namespace tessera::proxy
