// A client's login: how it proves who it is, whether there is room for it, and as whom its session works on the
// servers.
#include <algorithm>
#include <fmt/format.h>

#include "base/crypto.hpp"
#include "proxy/client.hpp"
#include "proxy/log.hpp"
#include "proxy/server.hpp"
#include "proxy/worker.hpp"

namespace tessera::proxy {

using postgres::FrameStatus;
using postgres::LoginStep;

namespace {
config::BackendAuth auth_of(const config::Database& database) {
  return database.backend.auth;
}
}  // namespace

// Are there users here whose passwords only the servers know?
bool Client::server_decides() const {
  const config::Database& settings = *database_->settings;
  if (settings.backend.auth != config::BackendAuth::passthrough || settings.auth_query) return false;
  return settings.backend.unknown_users == config::UnknownUsers::passthrough ||
         std::ranges::any_of(settings.users, [](const config::User& user) { return user.has_no_proof(); });
}

// Unknown users and databases go through the same motions as a wrong password; only the log is told `why`.
void Client::begin_unknown(std::string why) {
  why_not_ = std::move(why);
  if (database_ && server_decides()) return begin_passthrough(false);
  begin_login(postgres::UnknownUser{}, Proof::credential);
}

void Client::begin_passthrough(bool may_come_in) {
  may_come_in_ = may_come_in;
  AuthAnswers& answers = worker_.server().auth_answers();
  answers_age_ = answers.age();
  std::optional<postgres::Credential> known;
  if (may_come_in) known = answers.find(startup_.database, startup_.user, worker_.loop().now());
  begin_login(known.value_or(postgres::UnknownUser{}), Proof::server);
}

void Client::look_up_credential() {
  if (startup_.database == config::console_database) {
    const auto console = worker_.server().console_credential(startup_.user, address_);
    if (!console) why_not_ = console.error().message;
    return begin_login(console.value_or(postgres::UnknownUser{}), Proof::credential);
  }
  if (!database_) return begin_unknown("there is no such database in the configuration");
  for (const config::User& user : database_->settings->users)
    if (user.name == startup_.user) user_ = &user;
  if (user_ != nullptr && !may_come_from(*user_, address_))
    return begin_unknown("the user may not come from this address (users: from)");
  if (user_ != nullptr && user_->trust) return begin_login(postgres::UnknownUser{}, Proof::none);
  if (user_ != nullptr)
    if (const std::optional<postgres::Credential> known = worker_.server().credential(startup_.database, startup_.user))
      return begin_login(*known, Proof::credential);
  AuthQuery* const query = database_->settings->auth_query ? worker_.auth_query(startup_.database) : nullptr;
  if (query == nullptr) {
    const bool welcome = user_ != nullptr
                             ? user_->has_no_proof()
                             : database_->settings->backend.unknown_users == config::UnknownUsers::passthrough;
    if (welcome && server_decides()) return begin_passthrough(true);
    return begin_unknown(user_ == nullptr ? "the user is not in the configuration"
                                          : "the user has neither a password nor a verifier in the configuration");
  }
  query->look_up(startup_.user, [this, alive = alive_](const Result<postgres::Credential>& found) {
    if (!*alive || state_ != State::looking_up) return;
    if (!found) return fail(found.error());
    if (std::holds_alternative<postgres::UnknownUser>(*found))
      why_not_ = "auth_query has no verifier for the user: unknown, expired, or not allowed to log in";
    begin_login(*found, Proof::credential);
  });
}

void Client::begin_login(postgres::Credential credential, Proof proof) {
  postgres::ClientLogin::Options options;
  options.user = startup_.user;
  if (std::holds_alternative<postgres::Md5Verifier>(credential)) options.method = postgres::AuthMethod::md5;
  options.credential = std::move(credential);
  if (proof == Proof::none) {
    // `trust` needs a user that exists; any known credential will do.
    options.method = postgres::AuthMethod::trust;
    options.credential = postgres::PlainPassword{};
  } else if (proof == Proof::server) {
    options.method = postgres::AuthMethod::cleartext;
    options.server_decides = true;
  }
  options.tls = stream_.tls() != nullptr || address_ == "local";
  if (stream_.tls() != nullptr)
    if (std::string binding = stream_.tls()->channel_binding(); !binding.empty())
      options.channel_binding = std::move(binding);
  options.mock_key = worker_.server().mock_key();
  const config::ClientTlsMode mode = worker_.runtime().config->listen.tls.mode;
  if (mode == config::ClientTlsMode::verify_full && stream_.tls() != nullptr &&
      stream_.tls()->peer_common_name() != startup_.user)
    return fail({sqlstate::invalid_authorization,
                 fmt::format("certificate authentication failed for user \"{}\"", startup_.user),
                 {},
                 {},
                 0});
  login_ = std::make_unique<postgres::ClientLogin>(std::move(options));
  state_ = State::authenticating;
  login_step(login_->start(stream_.out()));
  if (state_ == State::authenticating && (!input_.empty() || ended_)) take_login();
}

void Client::take_login() {
  while (state_ == State::authenticating) {
    postgres::FrameHeader header;
    const auto is_due = [](char type) {
      return type == postgres::frontend::password || type == postgres::frontend::terminate;
    };
    // Nothing else has a place here, so its length is not waited for.
    if (!input_.empty() && !is_due(input_.front()))
      return login_step(login_->on_message(input_.front(), {}, stream_.out()));
    const FrameStatus status = postgres::peek_frame(input_, postgres::max_login_message_length, header);
    if (status == FrameStatus::malformed)
      return fail({sqlstate::protocol_violation, "invalid message length", {}, {}, 0});
    if (status != FrameStatus::complete) return ended_ && login_->awaits_message() ? close_now() : void();
    if (header.type == postgres::frontend::terminate) return close_now();
    const std::string body(postgres::frame_body(input_, header));
    input_.erase(0, header.total_size());
    login_step(login_->on_message(header.type, body, stream_.out()));
  }
}

void Client::login_step(LoginStep step) {
  switch (step) {
    case LoginStep::need_message:
      stream_.flush();
      return;
    case LoginStep::need_keys: {
      const bool queued = worker_.derivation().derive(login_->key_request(), worker_.loop(),
                                                      [this, alive = alive_](const postgres::ScramKeys& keys) {
                                                        if (!*alive || state_ != State::authenticating) return;
                                                        login_step(login_->on_keys(keys, stream_.out()));
                                                        if (state_ == State::authenticating) take_login();
                                                      });
      if (!queued) fail({sqlstate::cannot_connect_now, "too many logins at once", {}, "try again", 0});
      return;
    }
    case LoginStep::need_verdict:
      return ask_server();
    case LoginStep::ok:
      return logged_in();
    case LoginStep::failed:
      // Pass-through: the password that was right may not be so any more.
      if (database_) worker_.server().auth_answers().forget(startup_.database, startup_.user);
      log_failed_login(login_->error());
      return fail(login_->error());
  }
}

// The client is told the same of every failed proof, the log what it was.
void Client::log_failed_login(const Error& told) {
  std::string_view reason = told.message;
  if (told.code == sqlstate::invalid_password)
    reason = why_not_.empty() ? std::string_view("wrong password") : why_not_;
  log::warn("login failed",
            {{"user", startup_.user}, {"database", startup_.database}, {"client", address_}, {"reason", reason}});
}

// The server is asked about users who will be refused as well: neither time nor its log tells them from the others.
void Client::ask_server() {
  PasswordCheck* const check = worker_.password_check(startup_.database);
  if (check == nullptr)
    return fail({sqlstate::cannot_connect_now, "the database was removed from the configuration", {}, {}, 0});
  const bool other_role = user_ != nullptr && !user_->backend_user.empty();
  check->ask(other_role ? user_->backend_user : startup_.user, Secret(login_->password()),
             [this, alive = alive_](Result<void> verdict) {
               if (!*alive || state_ != State::authenticating) return;
               if (!verdict && !verdict.error().code.view().starts_with("28"))
                 verdict = tessera::fail(sqlstate::cannot_connect_now, "the password could not be checked",
                                         "the log says why");
               if (!verdict && why_not_.empty()) why_not_ = verdict.error().message;
               if (verdict && !may_come_in_) verdict = tessera::fail(sqlstate::invalid_password, "not listed");
               if (verdict)
                 worker_.server().auth_answers().put(startup_.database, startup_.user, login_->proof(), answers_age_,
                                                     worker_.loop().now());
               login_step(login_->on_verdict(verdict, stream_.out()));
               if (state_ == State::authenticating) take_login();
             });
}

void Client::logged_in() {
  if (startup_.database == config::console_database) {
    state_ = State::console;
    login_.reset();
    deadline_ = never;
    console_ = std::make_unique<Console>(worker_, worker_.server().console_role(startup_.user), *this);
    console_->greet();
    if (!input_.empty()) console_->on_client_bytes(std::exchange(input_, {}));
    if (ended_ && state_ == State::console) console_->on_client_end();
    return;
  }
  if (const Result<void> admitted = check_admission(); !admitted) return fail(admitted.error());
  open_session();
}

Result<void> Client::check_admission() {
  Admission& admission = worker_.server().admission();
  const auto enter = [&](const std::string& key, int limit, const std::string& what) -> Result<void> {
    std::optional<Admission::Ticket> ticket = admission.enter(key, static_cast<std::uint64_t>(limit));
    if (!ticket)
      return tessera::fail(sqlstate::too_many_connections, fmt::format("too many clients {}", what),
                           fmt::format("the limit is {}", limit));
    tickets_.push_back(std::move(*ticket));
    return {};
  };
  if (Result<void> in = enter("database/" + startup_.database, database_->settings->limits.clients,
                              fmt::format("for database \"{}\"", startup_.database));
      !in)
    return in;
  if (user_ == nullptr || user_->max_clients == 0) return {};
  return enter(fmt::format("user/{}/{}", startup_.database, startup_.user), user_->max_clients,
               fmt::format("for user \"{}\"", startup_.user));
}

// What Tessera logs in to the servers with, on this client's behalf.
Result<postgres::ServerCredential> Client::server_credential() const {
  if (user_ != nullptr && !user_->backend_password.empty()) return postgres::PlainPassword{user_->backend_password};
  if (user_ != nullptr && !user_->password.empty()) return postgres::PlainPassword{user_->password};
  const postgres::Learned& learned = login_->learned();
  if (const auto* keys = std::get_if<postgres::ScramKeys>(&learned)) return *keys;
  if (const auto* password = std::get_if<postgres::PlainPassword>(&learned)) return *password;
  if (const auto* verifier = std::get_if<postgres::Md5Verifier>(&learned)) return *verifier;
  return postgres::ServerCredential{};
}

namespace {
// What clients ask for at start-up is set on connections that are there already.
std::optional<Error> startup_refusal(std::string_view setting) {
  Error error{sqlstate::feature_not_supported,
              fmt::format("parameter \"{}\" cannot be set at start-up", setting),
              {},
              "use SET when the connection is there",
              0};
  if (pool::is_ours(setting)) return error;
  // Servers accept these at any time, also from those who may not load a library, and then do nothing.
  if (setting != "local_preload_libraries" && setting != "session_preload_libraries") return {};
  error.detail = "servers load these libraries while a connection starts, and theirs are shared by many clients";
  error.hint = fmt::format("set it on the servers (ALTER ROLE … SET {} = …), or LOAD the library", setting);
  return error;
}
}  // namespace

pool::Settings Client::startup_settings() const {
  auto map = std::make_shared<pool::SettingsMap>();
  const auto set = [&](const std::string& name, const std::string& value) {
    std::string lower = name;
    for (char& c : lower) c = static_cast<char>(c >= 'A' && c <= 'Z' ? c + 32 : c);
    map->set(lower, pool::set_config_sql(lower, value));
  };
  for (const auto& [name, value] : startup_.option_settings) set(name, value);
  for (const auto& [name, value] : startup_.parameters) set(name, value);
  return map->empty() ? pool::no_settings() : pool::Settings(std::move(map));
}

void Client::open_session() {
  const Result<postgres::ServerCredential> credential = server_credential();
  const config::Database& settings = *database_->settings;
  WorkerDatabase* database = worker_.find_database(startup_.database);
  if (!credential || database == nullptr)
    return fail({sqlstate::cannot_connect_now, "the database was removed from the configuration", {}, {}, 0});
  SessionOptions options;
  options.database = database;
  options.listen = worker_.listen_hub(*database);
  options.user = startup_.user;
  if (auth_of(settings) == config::BackendAuth::password)
    options.identity = database->identity(settings.backend.user, postgres::PlainPassword{settings.backend.password});
  else
    options.identity = database->identity(
        user_ != nullptr && !user_->backend_user.empty() ? user_->backend_user : startup_.user, *credential);
  options.startup_settings = startup_settings();
  for (const auto& [name, sql] : *options.startup_settings)
    if (std::optional<Error> refusal = startup_refusal(name)) return fail(std::move(*refusal));
  options.mode = user_ != nullptr && user_->pool_mode ? *user_->pool_mode : settings.pool.mode;
  options.number = static_cast<std::uint32_t>(id_.value());
  options.client = address_;
  login_.reset();
  state_ = State::opening;
  session_ = std::make_unique<Session>(std::move(options), *this);
  start_session();
}

void Client::start_session() {
  const auto opened = [this](const pool::ParameterMap& parameters) { greet(parameters); };
  const auto failed = [this](const Error& reason) {
    if (!session_->options().database->retired()) return fail(reason);
    // A reload has put another database in its place. Later, because the session is on the stack.
    worker_.loop().defer([this, alive = alive_] {
      if (*alive && state_ == State::opening) start_in_successor();
    });
  };
  session_->open(opened, failed);
}

void Client::start_in_successor() {
  WorkerDatabase* const now = worker_.find_database(startup_.database);
  const pool::Identity& old = *session_->options().identity;
  const bool moved =
      now != nullptr && session_->move_to(*now, worker_.listen_hub(*now), now->identity(old.user, old.credential));
  if (moved) return start_session();
  fail({sqlstate::cannot_connect_now, "the database was removed from the configuration", {}, {}, 0});
}

void Client::leave_retired_database() {
  WorkerDatabase* const now = worker_.find_database(startup_.database);
  const pool::Identity& old = *session_->options().identity;
  const bool moved = now != nullptr && now->routing() != nullptr &&
                     session_->move_to(*now, worker_.listen_hub(*now), now->identity(old.user, old.credential));
  if (moved) return reconfigure();
  terminate(
      {sqlstate::admin_shutdown, "terminating connection: the database's shards have changed", {}, "connect again", 0});
}

// A password for the servers that stands in the configuration counts for sessions that are open, too: their connections
// may have to be made anew at any time.
void Client::reconfigure() {
  if (!session_ || state_ != State::running || session_->options().database->retired()) return;
  WorkerDatabase& database = *session_->options().database;
  const config::Database& settings = database.settings();
  if (settings.backend.auth == config::BackendAuth::password)
    return session_->set_identity(
        database.identity(settings.backend.user, postgres::PlainPassword{settings.backend.password}));
  for (const config::User& user : settings.users) {
    const Secret& password = user.backend_password.empty() ? user.password : user.backend_password;
    if (user.name == startup_.user && !password.empty())
      session_->set_identity(database.identity(user.backend_user.empty() ? user.name : user.backend_user,
                                               postgres::PlainPassword{password}));
  }
}

void Client::greet(const pool::ParameterMap& parameters) {
  std::string& out = stream_.out();
  for (const auto& [name, value] : parameters)
    if (!postgres::append_parameter_status(out, name, value)) return close_now();
  cancel_key_ = worker_.server().cancels().add(worker_, id_);
  if (!postgres::append_backend_key_data(out, cancel_key_.pid, cancel_key_.secret)) return close_now();
  postgres::append_ready_for_query(out, postgres::TransactionStatus::idle);
  state_ = State::running;
  deadline_ = never;
  session_->options().database->metrics().logins.add();
  log::debug("client connected", {{"user", startup_.user}, {"database", startup_.database}, {"client", address_}});
  startup_.parameters.clear();
  startup_.option_settings.clear();
  std::string early = std::exchange(input_, {});
  stream_.flush();
  if (!early.empty()) session_->on_client_bytes(early);
  if (ended_ && state_ == State::running) session_->on_client_end();
  resume_reading();
}

}  // namespace tessera::proxy
