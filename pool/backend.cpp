#include "pool/backend.hpp"

#include <cstring>
#include <fmt/format.h>

namespace tessera::pool {

using net::Stream;
using postgres::ServerLoginStep;
using postgres::TransactionStatus;

namespace {
constexpr std::chrono::seconds cleaning_time{10};

Error lost(const Endpoint& endpoint, std::string_view why) {
  return {sqlstate::connection_failure,
          fmt::format("connection to shard \"{}\" was lost: {}", endpoint.name, why),
          {},
          {},
          0};
}
}  // namespace

Backend::Backend(BackendId id, Options options, net::EventLoop& loop, KeyDerivation& derivation,
                 BackendObserver& observer)
    : id_(id),
      options_(std::move(options)),
      loop_(&loop),
      derivation_(&derivation),
      observer_(&observer),
      stream_(loop, net::Descriptor()),
      reader_(options_.message_size),
      prepared_(options_.prepared_statements) {}

Backend::~Backend() {
  *alive_ = false;
}

// ---- connecting and logging in --------------------------------------------------------------------------------------

void Backend::connect(TimePoint now) {
  deadline_ = now + endpoint().connect_timeout;
  connected_at_ = now;
  if (endpoint().addresses.empty()) {
    return fail_connect({sqlstate::connection_failure,
                         fmt::format("the host name of shard \"{}\" could not be resolved", endpoint().name),
                         {},
                         {},
                         0});
  }
  Result<net::Descriptor> socket = net::connect(address());
  if (!socket) return fail_connect(socket.error());
  stream_ = Stream(*loop_, std::move(*socket));
  if (Result<void> opened = stream_.open(*this); !opened) return fail_connect(opened.error());
  state_ = State::connecting;
}

void Backend::fail_connect(const Error& reason) {
  // The next address of the name, if there is one; the deadline stays.
  if (state_ == State::connecting && address_index_ + 1 < endpoint().addresses.size() && loop_->now() < deadline_) {
    ++address_index_;
    stream_.close();
    const TimePoint deadline = deadline_;
    connect(loop_->now());
    deadline_ = deadline;
    return;
  }
  state_ = State::closed;
  stream_.close();
  observer_->on_backend_failed(*this, reason);
}

void Backend::on_connected() {
  if (const int code = net::connect_error(stream_.descriptor()); code != 0) {
    return fail_connect({sqlstate::connection_failure,
                         fmt::format("cannot connect to shard \"{}\" at {}: {}", endpoint().name, address().text(),
                                     std::strerror(code)),
                         {},
                         {},
                         0});
  }
  postgres::ServerLogin::Options login;
  login.startup.user = identity().user;
  login.startup.database = endpoint().database;
  login.credential = identity().credential;
  login.tls = address().is_unix() ? postgres::ServerTls::off : endpoint().tls;
  login.local = address().is_unix();
  login_.emplace(std::move(login));
  state_ = State::login;
  login_step(login_->start(stream_.out()));
}

void Backend::login_step(ServerLoginStep step) {
  switch (step) {
    case ServerLoginStep::need_bytes:
      flush();
      return;
    case ServerLoginStep::start_tls:
      state_ = State::tls;
      stream_.start_tls(net::TlsSession::connect(*endpoint().tls_context, endpoint().host, endpoint().verify_host));
      return on_tls_progress();
    case ServerLoginStep::need_keys: {
      const auto resume = [this, alive = alive_](const postgres::ScramKeys& keys) {
        if (*alive && login_) login_step(login_->on_keys(keys, stream_.out()));
      };
      if (derivation_->derive(login_->key_request(), *loop_, resume)) return;
      return fail_connect({sqlstate::cannot_connect_now, "too many logins wait for key derivation", {}, {}, 0});
    }
    case ServerLoginStep::ready:
      return login_ready();
    case ServerLoginStep::failed: {
      Error reason = login_->error();
      reason.message = fmt::format("login to shard \"{}\" failed: {}", endpoint().name, reason.message);
      // What the client's own login has given fits this salt and number of iterations only.
      if (reason.code == sqlstate::invalid_password &&
          std::holds_alternative<postgres::ScramKeys>(identity().credential))
        reason.hint =
            "the SCRAM verifier of the role must be the same on every shard and in Tessera's configuration or "
            "auth_query: copy it, or give the user a password or backend_password";
      state_ = State::login;
      return fail_connect(reason);
    }
  }
}

void Backend::on_tls_progress() {
  const Stream::Status status = stream_.handshake();
  if (status != Stream::Status::ok) {
    return fail_connect({sqlstate::connection_failure,
                         fmt::format("TLS with shard \"{}\" failed: {}", endpoint().name,
                                     status == Stream::Status::closed ? "connection closed" : stream_.error()),
                         {},
                         {},
                         0});
  }
  if (stream_.tls()->handshake_done()) tls_established();
}

void Backend::tls_established() {
  state_ = State::login;
  std::string binding = stream_.tls()->channel_binding();
  login_step(login_->on_tls(binding.empty() ? std::nullopt : std::optional(std::move(binding)), stream_.out()));
  if (state_ == State::login) read();
}

bool Backend::take_login(std::string_view bytes) {
  login_input_.append(bytes);
  while (login_ && state_ == State::login) {
    std::size_t consumed = 0;
    const ServerLoginStep step = login_->on_bytes(login_input_, consumed, stream_.out());
    login_input_.erase(0, consumed);
    login_step(step);
    if (consumed == 0 || step != ServerLoginStep::need_bytes) break;
  }
  return state_ != State::closed && state_ != State::tls;
}

void Backend::login_ready() {
  const postgres::ServerGreeting& greeting = login_->greeting();
  for (const auto& [name, value] : greeting.parameters) parameters_[name] = value;
  pid_ = greeting.pid;
  cancel_key_ = greeting.key;
  password_proved_ = greeting.password_proved;
  const std::string rest = std::exchange(login_input_, {});
  login_.reset();
  state_ = State::idle;
  deadline_ = never;
  connected_at_ = idle_since_ = checked_at_ = loop_->now();
  if (!rest.empty() && !take(rest)) return;
  ready_once_ = true;
  observer_->on_backend_ready(*this);
}

void Backend::check_deadline(TimePoint now) {
  if (now < deadline_) return;
  deadline_ = never;
  if (ready_once_) return close(lost(endpoint(), "it did not answer in time"));
  state_ = State::login;  // time is up for the name's other addresses too
  fail_connect({sqlstate::connection_failure,
                fmt::format("connecting to shard \"{}\" timed out after {} ms", endpoint().name,
                            endpoint().connect_timeout.count()),
                {},
                {},
                0});
}

// ---- events ---------------------------------------------------------------------------------------------------------

void Backend::on_ready(bool readable, bool writable) {
  if (state_ == State::connecting) {
    if (writable) on_connected();
    // Readiness is reported once: what the server says without having been asked must be read now.
    if (readable && state_ == State::login) read();
    return;
  }
  if (state_ == State::tls) return on_tls_progress();
  if (writable && stream_.pending() > 0) flush();
  if (readable && state_ != State::closed) read();
}

void Backend::on_out_of_memory() {
  const Error reason{SqlState("53200"), "out of memory", {}, {}, 0};
  if (ready_once_) return close(reason);
  state_ = State::login;  // other addresses would not help
  fail_connect(reason);
}

void Backend::read() {
  held_ = owner_ != nullptr && owner_->is_congested();
  if (held_) return;
  const std::shared_ptr<bool> alive = alive_;
  reading_ = true;
  const Stream::Status status = stream_.read([&](std::string_view bytes) { return take(bytes) && *alive; });
  if (!*alive || state_ == State::closed) return;
  if (state_ == State::leased && owner_ != nullptr) owner_->on_backend_turn(*this);
  if (!*alive || state_ == State::closed) return;
  reading_ = false;
  // What the owner sent in its turn may have made room again, and then nobody else will say so.
  if (held_ && (owner_ == nullptr || !owner_->is_congested())) resume_reading();
  if (status == Stream::Status::ok) return;
  const Error reason = lost(endpoint(), status == Stream::Status::closed ? "the server closed it" : stream_.error());
  if (ready_once_) return close(reason);
  fail_connect(reason);
}

void Backend::resume_reading() {
  if (!held_) return;
  loop_->defer([this, alive = alive_] {
    if (*alive && state_ != State::closed) read();
  });
}

// Sees every reply before the owner does.
class Backend::OwnerTap final : public ReplySink {
public:
  explicit OwnerTap(Backend& backend) : backend_(backend), owner_(*backend.owner_) {}
  void on_relay(std::string_view bytes) override { owner_.on_relay(bytes); }
  void on_done(const ExpectedReply& expected, char type, std::string_view body) override {
    owner_.on_done(expected, type, body);
  }
  bool on_error(const ExpectedReply& expected, const postgres::ErrorFields& fields) override {
    return owner_.on_error(expected, fields);
  }
  void on_skipped(const ExpectedReply& expected) override { owner_.on_skipped(expected); }
  void on_copy(const ExpectedReply& expected, char type) override { owner_.on_copy(expected, type); }
  bool on_notice(const postgres::ErrorFields& fields, bool forwarding) override {
    return owner_.on_notice(fields, forwarding);
  }
  bool on_notification(const postgres::NotificationView& notification) override {
    return owner_.on_notification(notification);
  }
  bool on_ready(const ExpectedReply& expected, TransactionStatus status) override {
    backend_.transaction_ = status;
    return owner_.on_ready(expected, status);
  }
  bool on_parameter(std::string_view name, std::string_view value, bool forwarding) override {
    backend_.parameters_[std::string(name)] = value;
    return owner_.on_parameter(name, value, forwarding);
  }

private:
  Backend& backend_;
  BackendOwner& owner_;
};

bool Backend::take(std::string_view bytes) {
  if (state_ == State::login) return take_login(bytes);
  Result<void> read;
  if (state_ == State::leased && owner_ != nullptr) {
    OwnerTap tap(*this);
    read = reader_.consume(bytes, tap);
  } else {
    read = reader_.consume(bytes, *this);
    if (read && reader_.empty() && (state_ == State::preparing || state_ == State::cleaning)) own_query_ended();
  }
  if (!read) {
    close(read.error());
    return false;
  }
  if (state_ == State::closed) return false;
  held_ = owner_ != nullptr && owner_->is_congested();
  return !held_;
}

void Backend::append_large(std::string_view bytes) {
  // A failed write shows up as a failed read in the same turn; nothing to do here.
  stream_.append_large(bytes);
  if (stream_.pending() > Stream::high_water) choked_ = true;
}

void Backend::flush_soon() {
  if (state_ == State::closed) return;
  if (choked_)
    flush();
  else
    stream_.flush_soon();
}

void Backend::flush() {
  if (state_ == State::closed) return;
  if (stream_.pending() > Stream::high_water) choked_ = true;
  stream_.flush();
  if (!choked_ || !stream_.drained()) return;
  // Also when this very call has emptied the queue: the owner may have seen it full a moment ago, and no event will
  // come. Later, because the caller may be the owner.
  choked_ = false;
  loop_->defer([this, alive = alive_] {
    if (*alive && owner_ != nullptr) owner_->on_backend_drained(*this);
  });
}

// ---- leasing --------------------------------------------------------------------------------------------------------

void Backend::lease(BackendOwner& owner) {
  owner_ = &owner;
  state_ = State::leased;
  deadline_ = never;
}

void Backend::unlease() {
  owner_ = nullptr;
  if (state_ == State::closed) return;
  state_ = State::idle;
  idle_since_ = checked_at_ = loop_->now();
}

bool Backend::prepare(const Settings& wanted, std::string_view more) {
  if (settings_ == wanted && more.empty()) return true;
  std::string sql = settings_change(*settings_, *wanted);
  sql += more;
  if (sql.empty()) {
    settings_ = wanted;
    return true;
  }
  wanted_settings_ = wanted;
  state_ = State::preparing;
  deadline_ = loop_->now() + cleaning_time;
  send_own_query(sql);
  return false;
}

void Backend::send_own_query(std::string_view sql) {
  own_error_.reset();
  if (!postgres::append_query(stream_.out(), sql))
    return close({sqlstate::internal_error, "the session's settings are too large to be replayed", {}, {}, 0});
  reader_.expect({.kind = ReplyKind::query, .delivery = Delivery::ignore});
  flush();
}

void Backend::clean(std::string_view extra_sql) {
  state_ = State::cleaning;
  checking_ = false;
  deadline_ = loop_->now() + cleaning_time;
  // DISCARD ALL refuses to run inside a multi-statement string, hence one query each.
  if (transaction_ != TransactionStatus::idle) send_own_query("ROLLBACK");
  if (state_ == State::cleaning) send_own_query("DISCARD ALL");
  if (!extra_sql.empty() && state_ == State::cleaning) send_own_query(extra_sql);
  prepared_.clear();
  last_advancer_ = 0;
  wanted_settings_ = no_settings();
}

void Backend::health_check() {
  state_ = State::cleaning;
  checking_ = true;
  deadline_ = loop_->now() + cleaning_time;
  wanted_settings_ = settings_;
  own_error_.reset();
  postgres::append_sync(stream_.out());
  reader_.expect({.kind = ReplyKind::sync, .delivery = Delivery::ignore});
  flush();
}

void Backend::own_query_ended() {
  deadline_ = never;
  if (state_ == State::cleaning) {
    if (own_error_ || transaction_ != TransactionStatus::idle)
      return close(own_error_.value_or(lost(endpoint(), "it could not be reset")));
    settings_ = wanted_settings_;
    dirty_ = false;
    state_ = State::idle;
    checked_at_ = loop_->now();
    if (!checking_) idle_since_ = checked_at_;  // a connection that is only checked is still unused
    return observer_->on_backend_clean(*this);
  }
  state_ = State::leased;
  Result<void> result;
  if (own_error_)
    result = std::unexpected(*own_error_);  // the statements were one implicit transaction: nothing has changed
  else
    settings_ = wanted_settings_;
  owner_->on_backend_prepared(*this, result);
}

bool Backend::on_error(const ExpectedReply&, const postgres::ErrorFields& fields) {
  own_error_ = fields.to_error();
  return false;
}

bool Backend::on_ready(const ExpectedReply&, TransactionStatus status) {
  transaction_ = status;
  return false;
}

bool Backend::on_parameter(std::string_view name, std::string_view value, bool) {
  parameters_[std::string(name)] = value;
  if (owner_ != nullptr) owner_->on_parameter(name, value, false);
  return false;
}

// ---- ending ---------------------------------------------------------------------------------------------------------

void Backend::close(const Error& reason) {
  if (state_ == State::closed) return;
  state_ = State::closed;
  stream_.close();
  if (BackendOwner* owner = std::exchange(owner_, nullptr)) owner->on_backend_lost(*this, reason);
  if (ready_once_)
    observer_->on_backend_closed(*this, reason);
  else
    observer_->on_backend_failed(*this, reason);
}

void Backend::close_quietly() {
  if (state_ == State::idle) {
    postgres::append_terminate(stream_.out());
    stream_.flush();
  }
  close({sqlstate::admin_shutdown, "closed by the pool", {}, {}, 0});
}

void Backend::leave_loop() {
  stream_.detach(*this);
  // What was deferred on this loop for us must not run any more: by then we may belong to another thread.
  *alive_ = false;
  alive_ = std::make_shared<bool>(true);
}

Result<void> Backend::join_loop(net::EventLoop& loop, BackendObserver& observer) {
  loop_ = &loop;
  observer_ = &observer;
  return stream_.rebind(loop, *this);
}

}  // namespace tessera::pool
