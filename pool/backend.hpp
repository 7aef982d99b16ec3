// One connection to a server. Connects, logs in, and then belongs to its `Pool` (idle) or to one owner (leased), who
// reads replies as a `ReplySink`. The reader's queue guards it: a connection whose replies are not fully understood is
// destroyed, never reused. Lives on one worker's thread; a pool may hand an idle one to another worker.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "base/clock.hpp"
#include "base/ids.hpp"
#include "net/stream.hpp"
#include "pool/endpoint.hpp"
#include "pool/key_derivation.hpp"
#include "pool/prepared_cache.hpp"
#include "pool/reply_reader.hpp"
#include "pool/settings.hpp"

namespace tessera::pool {

class Backend;

// Who has leased a connection. All calls come on the worker's thread; none from inside the owner's own calls into the
// backend, except on_prepared when there was nothing to do.
class BackendOwner : public ReplySink {
public:
  // A batch of replies was delivered: the time to write to the client and to go on.
  virtual void on_backend_turn(Backend& backend) = 0;
  // The connection is gone or not to be trusted any more. It is no longer the owner's; nothing more will come from it.
  virtual void on_backend_lost(Backend& backend, const Error& reason) = 0;
  // Settings are in place (see Backend::prepare).
  virtual void on_backend_prepared(Backend& backend, const Result<void>& result) = 0;
  // The write queue is empty again after it was above high water.
  virtual void on_backend_drained(Backend& backend) = 0;
  // The owner's peer is slow: stop reading. resume_reading() continues.
  virtual bool is_congested() const = 0;
};

// What a pool wants to know of its connections.
class BackendObserver {
public:
  virtual ~BackendObserver() = default;
  virtual void on_backend_ready(Backend& backend) = 0;                        // logged in, idle
  virtual void on_backend_failed(Backend& backend, const Error& reason) = 0;  // never became ready
  virtual void on_backend_closed(
      Backend& backend, const Error& reason) = 0;       // was ready, is gone (also when leased, after on_backend_lost)
  virtual void on_backend_clean(Backend& backend) = 0;  // reset or health check has ended well
};

class Backend final : public net::EventHandler, private ReplySink {
public:
  enum class State : std::uint8_t { connecting, tls, login, idle, leased, preparing, cleaning, closed };

  struct Options {
    EndpointRef endpoint;
    IdentityRef identity;
    std::size_t prepared_statements = 500;
    std::uint64_t message_size = postgres::max_message_length;
  };

  Backend(BackendId id, Options options, net::EventLoop& loop, KeyDerivation& derivation, BackendObserver& observer);
  ~Backend() override;

  void connect(TimePoint now);
  // Deadline of connecting and cleaning; called by the pool's sweep.
  void check_deadline(TimePoint now);

  // ---- lease ----
  void lease(BackendOwner& owner);
  // Gives it back to the pool's hands; the pool decides what becomes of it.
  void unlease();
  // Brings the connection to the owner's settings. True: nothing to do, go on at once; false: on_backend_prepared
  // follows. `more`: SQL to run besides.
  bool prepare(const Settings& wanted, std::string_view more = {});
  // For messages: append to out() and expect() replies in the same order, then flush().
  std::string& out() { return stream_.out(); }
  void append(std::string_view bytes) { stream_.append(bytes); }
  void append_large(std::string_view bytes);
  void flush();
  // As net::Stream's.
  void flush_soon();
  std::size_t pending() const { return stream_.pending(); }
  // The owner is not congested any more. Nothing happens unless it was.
  void resume_reading();
  ReplyReader& replies() { return reader_; }
  // Local entries at the head of the reply queue go to the owner now.
  void deliver_local() {
    if (owner_ != nullptr) reader_.deliver_local(*owner_);
  }
  const ReplyReader& replies() const { return reader_; }
  PreparedCache& prepared() { return prepared_; }

  // ---- for the pool ----
  // Undoes whatever a client may have left, then on_backend_clean.
  void clean(std::string_view extra_sql);
  void health_check();
  void close(const Error& reason);
  void close_quietly();  // says Terminate first
  // Its own code is on the stack: it must not go to another thread yet.
  bool reading() const { return reading_; }
  void leave_loop();  // idle and not reading; then join_loop on the other worker's thread
  Result<void> join_loop(net::EventLoop& loop, BackendObserver& observer);

  BackendId id() const { return id_; }
  State state() const { return state_; }
  const Endpoint& endpoint() const { return *options_.endpoint; }
  const EndpointRef& endpoint_ref() const { return options_.endpoint; }
  const Identity& identity() const { return *options_.identity; }
  BackendObserver& observer() const { return *observer_; }  // the pool that it belongs to
  postgres::TransactionStatus transaction_status() const { return transaction_; }
  const ParameterMap& parameters() const { return parameters_; }  // ParameterStatus values by name
  const Settings& settings() const { return settings_; }
  // The client's own SET was seen to succeed: `settings` is what the connection has now.
  void note_settings(const Settings& settings) { settings_ = settings; }
  void mark_dirty() { dirty_ = true; }
  bool dirty() const { return dirty_; }
  // What was done here ends with the connection only.
  void mark_spoiled() { spoiled_ = true; }
  bool spoiled() const { return spoiled_; }
  // Marks where one session's use ends and the next one's begins: what sequences remember (currval) crosses that line.
  void used_by(std::uint64_t session) {
    if (std::exchange(last_session_, session) != session) foreign_sequences_ = true;
  }
  // True: they are about to be forgotten, the session's own as well as others'.
  bool has_foreign_sequences() const { return foreign_sequences_; }
  bool take_foreign_sequences() {
    if (foreign_sequences_) last_advancer_ = 0;
    return std::exchange(foreign_sequences_, false);
  }
  // Whose statement was the last that may have advanced a sequence here; 0: nobody's since the last reset.
  void advanced_by(std::uint64_t session) { last_advancer_ = session; }
  std::uint64_t last_advancer() const { return last_advancer_; }
  std::uint32_t pid() const { return pid_; }
  const std::string& cancel_key() const { return cancel_key_; }
  const net::SocketAddress& address() const { return options_.endpoint->addresses[address_index_]; }
  TimePoint connected_at() const { return connected_at_; }
  TimePoint idle_since() const { return idle_since_; }
  // When the server was last known to answer: as idle_since, and after each health check.
  TimePoint checked_at() const { return checked_at_; }
  bool uses_tls() const { return stream_.tls() != nullptr; }
  // It came in by a password that the server asked for, not by trust or a certificate.
  bool password_proved() const { return password_proved_; }
  const std::shared_ptr<bool>& alive() const { return alive_; }
  // Cancel requests on their way to this connection's server process: it must not serve another client before they have
  // arrived.
  void cancel_started() { ++cancels_; }
  void cancel_finished() { --cancels_; }
  bool cancel_in_flight() const { return cancels_ > 0; }

private:
  void on_ready(bool readable, bool writable) override;
  void on_out_of_memory() override;
  void on_connected();
  void on_tls_progress();
  void tls_established();
  void read();
  bool take(std::string_view bytes);
  bool take_login(std::string_view bytes);
  void login_step(postgres::ServerLoginStep step);
  void login_ready();
  void send_own_query(std::string_view sql);
  void fail_connect(const Error& reason);

  // ReplySink for our own queries (settings, cleaning, health).
  void on_relay(std::string_view) override {}
  void on_done(const ExpectedReply&, char, std::string_view) override {}
  bool on_error(const ExpectedReply&, const postgres::ErrorFields& fields) override;
  void on_skipped(const ExpectedReply&) override {}
  bool on_ready(const ExpectedReply&, postgres::TransactionStatus status) override;
  void on_copy(const ExpectedReply&, char) override {}
  bool on_parameter(std::string_view name, std::string_view value, bool forwarding) override;
  bool on_notice(const postgres::ErrorFields&, bool) override { return false; }
  bool on_notification(const postgres::NotificationView&) override { return false; }
  void own_query_ended();

  class OwnerTap;  // sees what every owner sees, to keep parameters_ and transaction_ true

  BackendId id_;
  Options options_;
  net::EventLoop* loop_;
  KeyDerivation* derivation_;
  BackendObserver* observer_;
  net::Stream stream_;
  State state_ = State::connecting;
  std::optional<postgres::ServerLogin> login_;
  std::string login_input_;
  ReplyReader reader_;
  PreparedCache prepared_;
  BackendOwner* owner_ = nullptr;
  std::size_t address_index_ = 0;
  ParameterMap parameters_;
  Settings settings_ = no_settings();
  Settings wanted_settings_;
  std::optional<Error> own_error_;
  postgres::TransactionStatus transaction_ = postgres::TransactionStatus::idle;
  std::uint32_t pid_ = 0;
  std::string cancel_key_;
  bool dirty_ = false;
  bool spoiled_ = false;
  bool foreign_sequences_ = false;
  std::uint64_t last_session_ = 0;
  std::uint64_t last_advancer_ = 0;
  bool password_proved_ = false;
  bool ready_once_ = false;  // the observer was told so
  bool checking_ = false;    // state cleaning is a health check
  bool reading_ = false;
  bool held_ = false;    // not read further, because the owner was congested
  bool choked_ = false;  // the write queue went above high water
  int cancels_ = 0;
  TimePoint connected_at_{};
  TimePoint idle_since_{};
  TimePoint checked_at_{};
  TimePoint deadline_ = never;
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);  // for callbacks from other threads
};

}  // namespace tessera::pool
