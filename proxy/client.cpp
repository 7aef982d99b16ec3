#include "proxy/client.hpp"

#include <algorithm>
#include <fmt/format.h>

#include "base/crypto.hpp"
#include "net/proxy_protocol.hpp"
#include "proxy/log.hpp"
#include "proxy/server.hpp"
#include "proxy/worker.hpp"

namespace tessera::proxy {

using net::Stream;
using postgres::FrameStatus;
using postgres::LoginStep;

namespace {
constexpr std::string_view console_database = "pgbouncer";

config::BackendAuth auth_of(const config::Database& database) {
  return database.backend.auth;
}
}  // namespace

Client::Client(Worker& worker, SessionId id, net::Descriptor socket, std::string address, Place place,
               std::vector<Admission::Ticket> tickets)
    : worker_(worker),
      id_(id),
      address_(std::move(address)),
      place_(place),
      stream_(worker.loop(), std::move(socket)),
      connected_at_(worker.loop().now()),
      tickets_(std::move(tickets)) {
  const config::Listen& listen = worker_.runtime().config->listen;
  deadline_ = connected_at_ + listen.login_timeout;
  // Others wait for this place.
  constexpr std::chrono::milliseconds reserved_timeout{3'000};
  if (place_ == Place::reserved) deadline_ = std::min(deadline_, connected_at_ + reserved_timeout);
  if (net::in_networks(address_, listen.proxy_protocol_from)) state_ = State::proxy_header;
}

Client::~Client() {
  *alive_ = false;
  if (cancel_key_.pid != 0) worker_.server().cancels().remove(cancel_key_);
}

void Client::start() {
  if (!stream_.open(*this)) close_now();
}

// ---- events ---------------------------------------------------------------------------------------------------------

void Client::on_ready(bool readable, bool writable) {
  if (state_ == State::closed) return;
  if (state_ == State::tls) return on_tls_progress();
  if (writable && stream_.pending() > 0) {
    if (stream_.flush() != Stream::Status::ok) return close_now();
    if (state_ == State::closing && stream_.drained()) return close_now();
    // Also when an earlier flush has already brought the queue below the mark: whoever stopped reading waits for this.
    if (stream_.pending() <= Stream::high_water && session_) session_->on_client_drained();
  }
  if (readable) read();
}

void Client::read() {
  if (state_ == State::closing) {
    // Whatever the client still says is not read; a reset or the end of the stream is noticed.
    const Stream::Status status = stream_.read([](std::string_view) { return true; });
    if (status != Stream::Status::ok) close_now();
    return;
  }
  // A session that waits for a server reads nothing, but a client that has gone is not waited for.
  const auto is_blocked = [this] { return session_ && state_ == State::running && session_->blocked(); };
  const bool gone = worker_.loop().peer_has_ended(this);
  if (is_blocked()) return gone ? close_now() : void();
  const Stream::Status status = stream_.read([this](std::string_view bytes) { return take(bytes); });
  if (state_ == State::closed || (status == Stream::Status::ok && !(gone && is_blocked()))) return;
  close_now();
}

void Client::resume_reading() {
  worker_.loop().defer([this, alive = alive_] {
    if (*alive && state_ == State::running) read();
  });
}

void Client::cancel_statement() {
  worker_.cancel(id_, [] {});
}

void Client::abandon(const pool::Backend& backend) {
  worker_.abandon(backend);
}

bool Client::take(std::string_view bytes) {
  switch (state_) {
    case State::running:
      session_->on_client_bytes(bytes);
      return state_ == State::running && !session_->blocked();
    case State::console:
      console_->on_client_bytes(bytes);
      return state_ == State::console;
    case State::proxy_header:
      input_.append(bytes);
      take_proxy_header();
      break;
    case State::first_packet:
      input_.append(bytes);
      take_first_packet();
      break;
    case State::authenticating:
      input_.append(bytes);
      take_login();
      break;
    case State::looking_up:
    case State::opening:
      // Nothing is due from a client now; a little is kept (a driver that pipelines), a flood is not.
      input_.append(bytes);
      if (input_.size() > Stream::high_water)
        fail({sqlstate::protocol_violation, "unexpected data during start-up", {}, {}, 0});
      break;
    default:
      break;
  }
  return state_ != State::closed && state_ != State::tls;
}

// ---- start-up -------------------------------------------------------------------------------------------------------

// A balancer that is trusted says who the client is. From here on the client is at that address, for limits too.
void Client::take_proxy_header() {
  const net::ProxyHeader header = net::read_proxy_header(input_);
  if (header.status == net::ProxyHeader::Status::need_more) return;
  if (header.status == net::ProxyHeader::Status::malformed) {
    log::warn("no PROXY header from a balancer's network (listen.proxy_protocol_from)", {{"client", address_}});
    return close_now();
  }
  input_.erase(0, header.size);
  if (!header.client.empty()) {
    address_ = header.client;
    const int limit = worker_.runtime().config->listen.max_clients_per_address;
    std::optional<Admission::Ticket> from =
        worker_.server().admission().enter("address/" + address_, static_cast<std::uint64_t>(limit));
    if (!from) return fail({sqlstate::too_many_connections, "sorry, too many clients already", {}, {}, 0});
    tickets_.push_back(std::move(*from));
  }
  state_ = State::first_packet;
  take_first_packet();
}

void Client::take_first_packet() {
  std::size_t total = 0;
  while (state_ == State::first_packet) {
    if (postgres::is_direct_tls(input_))
      return fail({sqlstate::feature_not_supported,
                   "direct TLS connections are not supported",
                   {},
                   "connect with sslnegotiation=postgres",
                   0});
    switch (postgres::peek_first_packet(input_, total)) {
      case FrameStatus::malformed:
        return fail({sqlstate::protocol_violation, "invalid length of startup packet", {}, {}, 0});
      case FrameStatus::complete:
        break;
      default:
        return;
    }
    const Result<postgres::FirstPacket> packet =
        postgres::parse_first_packet(std::string_view(input_).substr(0, total));
    input_.erase(0, total);
    if (!packet) return fail(packet.error());
    on_first_packet(*packet);
  }
}

void Client::on_first_packet(const postgres::FirstPacket& packet) {
  if (std::holds_alternative<postgres::SslRequest>(packet)) {
    // What came along with the request was not encrypted and must not be taken for what was (CVE-2021-23214).
    if (std::exchange(asked_tls_, true) || !input_.empty())
      return fail({sqlstate::protocol_violation, "received unencrypted data after SSL request", {}, {}, 0});
    return start_tls();
  }
  if (std::holds_alternative<postgres::GssEncRequest>(packet)) {
    if (std::exchange(asked_gss_, true) || !input_.empty())
      return fail(
          {sqlstate::protocol_violation, "received unencrypted data after GSSAPI encryption request", {}, {}, 0});
    stream_.append("N");
    stream_.flush();
    return;
  }
  if (const auto* cancel = std::get_if<postgres::CancelRequest>(&packet)) return on_cancel(*cancel);
  on_startup(std::get<postgres::StartupMessage>(packet));
}

void Client::start_tls() {
  const auto& context = worker_.runtime().client_tls;
  stream_.append(context && !stream_.tls() ? "S" : "N");
  stream_.flush();
  if (!context || stream_.tls() != nullptr) return;
  stream_.start_tls(net::TlsSession::accept(*context));
  state_ = State::tls;
}

void Client::on_tls_progress() {
  const Stream::Status status = stream_.handshake();
  if (status != Stream::Status::ok) {
    log::debug("tls handshake failed", {{"client", address_}, {"reason", stream_.error()}});
    count_failure(sqlstate::connection_failure);
    return close_now();
  }
  if (!stream_.tls()->handshake_done()) return;
  state_ = State::first_packet;
  read();
}

void Client::on_cancel(const postgres::CancelRequest& request) {
  state_ = State::cancelling;
  // The connection stays open until the server has been told, so that a client which waits for its end may rely on it.
  if (!worker_.server().cancel(request.pid, request.key, worker_, id_)) close_now();
}

void Client::cancelled_delivered() {
  if (state_ == State::cancelling) close_now();
}

void Client::on_startup(postgres::StartupMessage message) {
  startup_ = std::move(message);
  state_ = State::looking_up;
  const auto& databases = worker_.runtime().databases;
  if (const auto found = databases.find(startup_.database); found != databases.end()) database_ = found->second;
  if (place_ == Place::reserved && startup_.database != console_database)
    return fail({sqlstate::too_many_connections, "sorry, too many clients already", {}, {}, 0});
  for (const auto& [name, value] : startup_.parameters)
    if (name == "application_name") application_name_ = value;
  if (!startup_.replication.empty() && startup_.replication != "false" && startup_.replication != "off" &&
      startup_.replication != "0" && startup_.replication != "no")
    return fail({sqlstate::feature_not_supported,
                 "replication connections cannot go through Tessera",
                 {},
                 "connect to the shard itself",
                 0});
  if (startup_.needs_negotiation()) {
    const std::vector<std::string_view> unknown(startup_.protocol_options.begin(), startup_.protocol_options.end());
    if (!postgres::append_negotiate_protocol_version(stream_.out(), postgres::protocol_3_0, unknown))
      return close_now();
  }
  const config::ClientTlsMode mode = worker_.runtime().config->listen.tls.mode;
  const bool tls_needed = mode == config::ClientTlsMode::require || mode == config::ClientTlsMode::verify_ca ||
                          mode == config::ClientTlsMode::verify_full;
  if (tls_needed && stream_.tls() == nullptr && address_ != "local")
    return fail({sqlstate::invalid_authorization,
                 "this server accepts only encrypted connections",
                 {},
                 "connect with sslmode=require",
                 0});
  look_up_credential();
}

// ---- authentication -------------------------------------------------------------------------------------------------

// Are there users here whose passwords only the servers know?
bool Client::server_decides() const {
  const config::Database& settings = *database_->settings;
  if (settings.backend.auth != config::BackendAuth::passthrough || settings.auth_query) return false;
  return settings.backend.unknown_users == config::UnknownUsers::passthrough ||
         std::ranges::any_of(settings.users, [](const config::User& user) { return user.has_no_proof(); });
}

// Unknown users and databases go through the same motions as a wrong password.
void Client::begin_unknown() {
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
  if (startup_.database == console_database) {
    const auto console = worker_.server().console_credential(startup_.user, address_);
    return begin_login(console.value_or(postgres::UnknownUser{}), Proof::credential);
  }
  if (!database_) return begin_unknown();
  for (const config::User& user : database_->settings->users)
    if (user.name == startup_.user) user_ = &user;
  if (user_ != nullptr && !may_come_from(*user_, address_)) {
    log::warn("login from an address that is not allowed",
              {{"user", startup_.user}, {"database", startup_.database}, {"client", address_}});
    return begin_unknown();
  }
  if (user_ != nullptr && user_->trust) return begin_login(postgres::UnknownUser{}, Proof::none);
  if (user_ != nullptr)
    if (const std::optional<postgres::Credential> known = worker_.server().credential(startup_.database, startup_.user))
      return begin_login(*known, Proof::credential);
  AuthQuery* const query = database_->settings->auth_query ? worker_.auth_query(startup_.database) : nullptr;
  if (query == nullptr) {
    const bool welcome = user_ != nullptr
                             ? user_->has_no_proof()
                             : database_->settings->backend.unknown_users == config::UnknownUsers::passthrough;
    return welcome && server_decides() ? begin_passthrough(true) : begin_unknown();
  }
  query->look_up(startup_.user, [this, alive = alive_](const Result<postgres::Credential>& found) {
    if (!*alive || state_ != State::looking_up) return;
    if (!found) return fail(found.error());
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
  if (state_ == State::authenticating && !input_.empty()) take_login();
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
    if (status != FrameStatus::complete) return;
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
      // The answer of an auth_query may have been out of date: the next attempt asks again.
      if (database_) worker_.server().auth_answers().forget(startup_.database, startup_.user);
      log::warn("login failed", {{"user", startup_.user},
                                 {"database", startup_.database},
                                 {"client", address_},
                                 {"reason", login_->error().message}});
      return fail(login_->error());
  }
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
               if (verdict && !may_come_in_) verdict = tessera::fail(sqlstate::invalid_password, "not listed");
               if (verdict)
                 worker_.server().auth_answers().put(startup_.database, startup_.user, login_->proof(), answers_age_,
                                                     worker_.loop().now());
               login_step(login_->on_verdict(verdict, stream_.out()));
               if (state_ == State::authenticating) take_login();
             });
}

void Client::logged_in() {
  if (startup_.database == console_database) {
    state_ = State::console;
    login_.reset();
    deadline_ = never;
    console_ = std::make_unique<Console>(worker_, worker_.server().console_role(startup_.user), *this);
    console_->greet();
    if (!input_.empty()) console_->on_client_bytes(std::exchange(input_, {}));
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
  if (user_ != nullptr && !user_->verifier.empty() && user_->verifier.reveal().starts_with("md5"))
    return postgres::Md5Verifier{user_->verifier};
  return postgres::ServerCredential{};
}

pool::Settings Client::startup_settings() const {
  auto map = std::make_shared<pool::SettingsMap>();
  const auto set = [&](const std::string& name, const std::string& value) {
    std::string lower = name;
    for (char& c : lower) c = static_cast<char>(c >= 'A' && c <= 'Z' ? c + 32 : c);
    (*map)[lower] = pool::set_config_sql(lower, value);
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
  options.mode = user_ != nullptr && user_->pool_mode ? *user_->pool_mode : settings.pool.mode;
  options.number = static_cast<std::uint32_t>(id_.value());
  options.client = address_;
  login_.reset();
  state_ = State::opening;
  session_ = std::make_unique<Session>(std::move(options), *this);
  const auto opened = [this](const pool::SettingsMap& parameters) { greet(parameters); };
  const auto failed = [this](const Error& reason) { fail(reason); };
  session_->open(opened, failed);
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

void Client::greet(const pool::SettingsMap& parameters) {
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
  resume_reading();
}

// ---- ending ---------------------------------------------------------------------------------------------------------

void Client::count_failure(SqlState code) {
  const bool known = database_ != nullptr || startup_.database == console_database;
  worker_.server().login_failures().count(known ? startup_.database : "", code);
  if (database_ == nullptr) return;
  if (WorkerDatabase* database = worker_.find_database(startup_.database)) database->metrics().login_failures.add();
}

void Client::fail(const Error& reason) {
  if (state_ == State::closed || state_ == State::closing) return;
  const bool logging_in = state_ != State::running && state_ != State::console;
  if (logging_in && reason.code != sqlstate::admin_shutdown) count_failure(reason.code);
  postgres::append_error(stream_.out(), reason, postgres::Severity::fatal);
  close_when_sent();
}

void Client::end_session() {
  close_when_sent();
}

void Client::close_when_sent() {
  if (state_ == State::closed) return;
  state_ = State::closing;
  if (session_) session_->on_client_gone();
  const bool sent = stream_.flush() == Stream::Status::ok && stream_.drained();
  deadline_ = worker_.loop().now() + std::chrono::seconds(5);
  if (sent || !stream_.is_open()) close_now();
}

void Client::close_now() {
  if (state_ == State::closed) return;
  state_ = State::closed;
  if (session_) {
    session_->on_client_gone();
    DatabaseMetrics& metrics = session_->options().database->metrics();
    metrics.client_bytes_in.add(stream_.bytes_in());
    metrics.client_bytes_out.add(stream_.bytes_out());
  }
  if (stream_.tls() != nullptr && stream_.is_open()) {
    stream_.tls()->shutdown();
    stream_.flush();
  }
  stream_.close();
  tickets_.clear();
  worker_.forget(id_);
}

void Client::terminate(const Error& reason) {
  if (session_ && state_ == State::running)
    session_->terminate(reason);
  else
    fail(reason);
}

void Client::drain() {
  const Error reason{sqlstate::admin_shutdown, "terminating connection due to administrator command", {}, {}, 0};
  if (state_ == State::running) return end_between_transactions(reason);
  if (state_ != State::closing && state_ != State::cancelling) terminate(reason);
}

void Client::end_between_transactions(const Error& reason) {
  if (state_ == State::running && session_->is_between_transactions()) terminate(reason);
}

void Client::sweep(TimePoint now) {
  if (now >= deadline_) {
    if (state_ == State::closing) return close_now();
    deadline_ = never;
    // Nothing is sent to somebody who has not shown that he speaks the protocol.
    if (state_ == State::cancelling) return close_now();
    if (state_ == State::proxy_header || state_ == State::first_packet || state_ == State::tls) {
      count_failure(sqlstate::invalid_authorization);
      return close_now();
    }
    return fail({sqlstate::invalid_authorization, "login timed out", {}, {}, 0});
  }
  if (session_ && state_ == State::running) session_->sweep(now);
  if (console_ && state_ == State::console) console_->sweep();
}

}  // namespace tessera::proxy
