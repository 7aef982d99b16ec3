// Logs Tessera in to a server: TLS request, start-up packet, authentication, and what follows until ReadyForQuery.
// Pure: bytes in, bytes and a step out. It reads bytes rather than messages because the answer to a TLS request is a
// bare byte.
//
//   start() -> need_bytes -> on_bytes() -> …
//            start_tls: handshake on the socket, then on_tls()     need_keys: derive_scram_keys(key_request()),
//            on_keys() ready: greeting() is filled                           failed: error() says why; close the
//            connection
//
// It trusts the server with nothing: no clear-text password without TLS, no AuthenticationOk before the server has
// verified itself in SCRAM (a server that needs no password at all is accepted), no byte behind the answer to a TLS
// request (CVE-2021-23222), no error text from before TLS (CVE-2024-10977), a cap on every message and on their number.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <variant>

#include "base/error.hpp"
#include "wire/postgres/backend.hpp"
#include "wire/postgres/client_login.hpp"
#include "wire/postgres/scram.hpp"
#include "wire/postgres/startup.hpp"

namespace tessera::postgres {

enum class ServerTls { off, prefer, require };
enum class ServerLoginStep { need_bytes, start_tls, need_keys, ready, failed };

// monostate: no password; works only where the server asks for none.
using ServerCredential = std::variant<std::monostate, PlainPassword, ScramKeys, Md5Verifier>;

struct ServerGreeting {
  Settings parameters;  // ParameterStatus
  std::uint32_t pid = 0;
  std::string key;  // for CancelRequest; empty: the server sent none
  bool tls = false;
  bool password_proved = false;  // the server asked for a password, and ours was right
};

class ServerLogin {
public:
  struct Options {
    StartupMessage startup;
    ServerCredential credential;
    ServerTls tls = ServerTls::off;
    bool local = false;  // a Unix socket: a clear-text password may be sent
  };

  explicit ServerLogin(Options options);

  ServerLoginStep start(std::string& out);
  // Takes from the front of `input`; `consumed` says how much. Whatever is left must be passed again, with more behind
  // it (need_bytes), once the step asked for is done (need_keys), or belongs to the session (ready: asynchronous
  // messages).
  ServerLoginStep on_bytes(std::string_view input, std::size_t& consumed, std::string& out);
  // After the handshake. `channel_binding`: tls-server-end-point data of the server's certificate, if there is any.
  ServerLoginStep on_tls(std::optional<std::string> channel_binding, std::string& out);
  ServerLoginStep on_keys(const ScramKeys& keys, std::string& out);

  const KeyRequest& key_request() const { return key_request_; }
  const ServerGreeting& greeting() const { return greeting_; }
  const Error& error() const { return error_; }

private:
  enum class State {
    start,
    expects_tls_answer,
    tls_handshake,
    expects_auth,        // the first Authentication message
    expects_auth_ok,     // a password was sent
    expects_sasl_first,  // server-first
    deriving,
    expects_sasl_final,  // server-final
    expects_sasl_ok,     // verified; AuthenticationOk must follow
    settling,            // parameters and keys, until ReadyForQuery
    done,
    failed,
  };

  ServerLoginStep send_startup(std::string& out);
  ServerLoginStep on_tls_answer(std::string_view input, std::size_t& consumed, std::string& out);
  ServerLoginStep on_message(char type, std::string_view body, std::string& out);
  ServerLoginStep on_authentication(std::string_view body, std::string& out);
  ServerLoginStep on_first_request(const AuthenticationView& auth, std::string& out);
  ServerLoginStep on_settling(char type, std::string_view body);
  ServerLoginStep on_ready(std::string_view body);
  ServerLoginStep send_cleartext(std::string& out);
  ServerLoginStep send_md5(std::string_view salt, std::string& out);
  ServerLoginStep start_scram(const AuthenticationView& auth, std::string& out);
  ServerLoginStep on_server_first(std::string_view message, std::string& out);
  ServerLoginStep on_server_final(std::string_view message);
  ServerLoginStep fail_with(Error error);
  ServerLoginStep violation(std::string_view what);

  Options options_;
  State state_ = State::start;
  std::optional<std::string> channel_binding_;
  std::optional<ScramClient> scram_;
  AuthenticationView auth_;  // reused
  KeyRequest key_request_;
  ServerGreeting greeting_;
  Error error_;
  std::size_t bytes_seen_ = 0;
};

}  // namespace tessera::postgres
