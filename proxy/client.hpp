// One client's connection, from the first byte to the last: TLS, start-up packet, authentication, then its Session (or
// the administration console). The shell around the pure login machine and the session. Owned by its worker; on its
// thread.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "net/stream.hpp"
#include "proxy/admission.hpp"
#include "proxy/cancel_registry.hpp"
#include "proxy/console.hpp"
#include "proxy/session.hpp"
#include "wire/postgres/client_login.hpp"
#include "wire/postgres/startup.hpp"

namespace tessera::proxy {

class Worker;

class Client final : public net::EventHandler, public SessionHost {
public:
  // Where the client stands: one of the places for all, or one that is kept for the console when those are taken.
  enum class Place : std::uint8_t { ordinary, reserved };
  Client(Worker& worker, SessionId id, net::Descriptor socket, std::string address, Place place,
         std::vector<Admission::Ticket> tickets);
  ~Client() override;

  void start();
  void sweep(TimePoint now);
  // Draining: ends the session as soon as nothing is lost by it, and logins that are under way.
  void drain();
  void end_between_transactions(const Error& reason);
  // Its database was retired: goes on in the one that has taken its place as soon as nothing is lost by it.
  void follow_configuration() {
    if (state_ == State::running && session_->is_between_transactions()) leave_retired_database();
  }
  // The worker has a new configuration: credentials for the servers may have changed.
  void reconfigure();
  void cancelled_delivered();  // a cancel request that this connection brought has reached its server
  void terminate(const Error& reason);

  SessionId id() const { return id_; }
  Session* session() { return session_.get(); }
  const Session* session() const { return session_.get(); }
  const std::string& address() const { return address_; }
  const std::string& application_name() const { return application_name_; }
  bool uses_tls() const { return stream_.tls() != nullptr; }
  TimePoint connected_at() const { return connected_at_; }
  const CancelKey& cancel_key() const { return cancel_key_; }
  std::uint64_t bytes_in() const { return stream_.bytes_in(); }
  std::uint64_t bytes_out() const { return stream_.bytes_out(); }

private:
  enum class State : std::uint8_t {
    proxy_header,
    first_packet,
    tls,
    authenticating,
    looking_up,
    opening,
    running,
    console,
    cancelling,
    closing,
    closed
  };

  // EventHandler
  void on_ready(bool readable, bool writable) override;
  void on_out_of_memory() override { close_now(); }
  // SessionHost
  net::Stream& stream() override { return stream_; }
  void end_session() override;
  void resume_reading() override;
  void cancel_statement() override;
  void stop_statement(pool::Backend& backend) override;
  void abandon(const pool::Backend& backend) override;
  void leave_retired_database() override;

  void read();
  void read_last();
  void stream_ended();
  bool may_go_on_alone() const;
  bool take(std::string_view bytes);
  void take_proxy_header();
  void take_first_packet();
  void on_first_packet(const postgres::FirstPacket& packet);
  void start_tls();
  void on_tls_progress();
  void on_cancel(const postgres::CancelRequest& request);
  void on_startup(postgres::StartupMessage message);
  void look_up_credential();
  enum class Proof : std::uint8_t { credential, none, server };  // what a client must show, to whom
  void begin_login(postgres::Credential credential, Proof proof);
  void begin_unknown(std::string why);
  void log_failed_login(const Error& told);
  void begin_passthrough(bool may_come_in);
  bool server_decides() const;
  void ask_server();
  void login_step(postgres::LoginStep step);
  void take_login();
  void logged_in();
  void open_session();
  void start_session();
  void start_in_successor();
  void greet(const pool::ParameterMap& parameters);
  pool::Settings startup_settings() const;
  Result<void> check_admission();
  Result<postgres::ServerCredential> server_credential() const;
  void fail(const Error& reason);
  void count_failure(SqlState code);  // of the login
  void close_when_sent();
  void close_now();

  Worker& worker_;
  SessionId id_;
  std::string address_;
  Place place_;
  net::Stream stream_;
  State state_ = State::first_packet;
  std::string input_;   // until the session runs
  bool ended_ = false;  // the stream has, before the session ran: it runs what was sent
  bool asked_tls_ = false, asked_gss_ = false;
  bool told_read_later_ = false;  // bytes may wait in the socket
  TimePoint connected_at_, deadline_;
  std::shared_ptr<const DatabaseRuntime> database_;
  const config::User* user_ = nullptr;
  std::string why_not_;            // why nobody by this name may come in, for the log alone
  bool may_come_in_ = false;       // pass-through: the server's yes counts
  std::uint64_t answers_age_ = 0;  // when the server was asked
  postgres::StartupMessage startup_;
  std::string application_name_;
  std::unique_ptr<postgres::ClientLogin> login_;
  std::unique_ptr<Session> session_;
  std::unique_ptr<Console> console_;
  CancelKey cancel_key_;
  std::vector<Admission::Ticket> tickets_;
  bool unread_ = false;  // the socket may hold more: it was left alone while the session was blocked
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

}  // namespace tessera::proxy
