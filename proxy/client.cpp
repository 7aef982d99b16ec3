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
    const bool taken = stream_.flush() == Stream::Status::ok;
    // Nobody is there any more. What was said before is still to be read.
    const bool ended = ended_ || worker_.loop().peer_has_ended(this);
    if (!taken && !(ended && (state_ == State::running || may_go_on_alone()))) return close_now();
    if (!taken) stream_.mute();
    if (state_ == State::closing && stream_.drained()) return close_now();
  }
  // Also when an earlier flush has already brought the queue below the mark: whoever stopped reading waits for this.
  if (writable && stream_.pending() <= Stream::high_water && session_) session_->on_client_drained();
  if (readable) read();
}

void Client::read() {
  if (state_ == State::closing) {
    // Whatever the client still says is not read; a reset or the end of the stream is noticed.
    const Stream::Status status = stream_.read([](std::string_view) { return true; });
    if (status != Stream::Status::ok) close_now();
    return;
  }
  // A session that waits for a server reads nothing, until it is known that no more can come.
  const auto is_blocked = [this] { return session_ && state_ == State::running && session_->blocked(); };
  const bool gone = worker_.loop().peer_has_ended(this);
  unread_ = is_blocked();
  if (unread_) return gone ? read_last() : void();
  const Stream::Status status = stream_.read([this](std::string_view bytes) { return take(bytes); });
  unread_ = stream_.stopped_short();
  if (state_ == State::closed || (status == Stream::Status::ok && !gone)) return;
  if (status != Stream::Status::ok) return stream_ended();
  if (is_blocked()) read_last();
}

// The peer has ended: the session gets everything that it sent, which is no more than the kernel has kept.
void Client::read_last() {
  unread_ = false;
  const Stream::Status status = stream_.read([this](std::string_view bytes) {
    session_->on_client_bytes(bytes);
    return state_ == State::running;
  });
  if (state_ != State::closed && status != Stream::Status::ok) stream_ended();
}

void Client::stream_ended() {
  unread_ = false;
  if (state_ == State::running) return session_->on_client_end();
  if (state_ == State::console) return console_->on_client_end();
  ended_ = true;
  // What is behind the login is carried out, as it is with a server; for nothing nobody logs in.
  const bool asks_something = !input_.empty() && input_.front() != postgres::frontend::terminate;
  if (!may_go_on_alone() || !asks_something) return close_now();
  if (state_ == State::authenticating && login_->awaits_message()) close_now();  // it will not come
}

bool Client::may_go_on_alone() const {
  return state_ == State::looking_up || state_ == State::authenticating || state_ == State::opening ||
         state_ == State::console;
}

void Client::resume_reading() {
  if (!unread_) return;
  worker_.loop().defer([this, alive = alive_] {
    if (*alive && state_ == State::running) read();
  });
}

void Client::cancel_statement() {
  worker_.cancel(id_, [] {});
}

void Client::stop_statement(pool::Backend& backend) {
  worker_.stop(id_, backend, [] {});
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

namespace {
// As the servers do with names in a start-up packet that no role and no database can have.
void cut_to_name_length(std::string& name) {
  constexpr std::size_t longest = 63;  // NAMEDATALEN - 1
  if (name.size() > longest) name.resize(longest);
}

bool is_listed(const config::Database& database, std::string_view user) {
  return std::ranges::find(database.users, user, &config::User::name) != database.users.end();
}
}  // namespace

void Client::on_startup(postgres::StartupMessage message) {
  startup_ = std::move(message);
  state_ = State::looking_up;
  const auto& databases = worker_.runtime().databases;
  if (!databases.contains(startup_.database)) cut_to_name_length(startup_.database);
  if (const auto found = databases.find(startup_.database); found != databases.end()) database_ = found->second;
  if (!database_ || !is_listed(*database_->settings, startup_.user)) cut_to_name_length(startup_.user);
  if (place_ == Place::reserved && startup_.database != config::console_database)
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

// ---- ending ---------------------------------------------------------------------------------------------------------

void Client::count_failure(SqlState code) {
  const bool known = database_ != nullptr || startup_.database == config::console_database;
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
  const bool taken = stream_.flush() == Stream::Status::ok;
  deadline_ = worker_.loop().now() + std::chrono::seconds(5);
  if (!taken || stream_.drained()) close_now();  // nobody is there any more, or has all
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
