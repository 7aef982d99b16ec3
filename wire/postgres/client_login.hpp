// Authenticates one client of Tessera. Pure: the session feeds it the client's messages, it appends what to send to
// `out` and says how to go on. The user's name is fixed at construction, by the start-up message, and nothing a client
// sends later can change it. The only message type ever accepted is 'p', and only when one is awaited; anything else
// fails.
//
//   start() -> need_message -> on_message() -> … -> ok | failed
//                           -> need_keys: run derive_scram_keys(key_request()) off the I/O thread -> on_keys()
//                           -> need_verdict: does a server let `user` in with password()? -> on_verdict()
//
// ok: AuthenticationOk is in `out`; the session goes on with ParameterStatus. failed: `error()` is to be sent as FATAL
// by the session; `out` holds nothing for it. An unknown user takes the path and the time of a known one: SCRAM runs
// against a mock secret, and a clear-text password is always put through a key derivation. Where the server decides,
// the caller asks it about unknown users as well.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <variant>

#include "base/error.hpp"
#include "base/secret.hpp"
#include "wire/postgres/scram.hpp"

namespace tessera::postgres {

enum class AuthMethod { trust, cleartext, md5, scram_sha_256 };

// What Tessera knows about the user.
struct UnknownUser {};
struct PlainPassword {
  Secret password;
  friend bool operator==(const PlainPassword&, const PlainPassword&) = default;
};
struct Md5Verifier {
  Secret text;  // is_md5_verifier(text)
  friend bool operator==(const Md5Verifier&, const Md5Verifier&) = default;
};
using Credential = std::variant<UnknownUser, PlainPassword, ScramSecret, Md5Verifier>;

// What the login taught us, for logging in to the servers as this user.
using Learned = std::variant<std::monostate, PlainPassword, ScramKeys, Md5Verifier>;

enum class LoginStep { need_message, need_keys, need_verdict, ok, failed };

class ClientLogin {
public:
  struct Options {
    std::string user;
    AuthMethod method = AuthMethod::scram_sha_256;
    // With scram_sha_256, prefer a ScramSecret made once (ScramSecret::from_password) to a PlainPassword, which costs a
    // derivation at each login and is told from an unknown user by its time. As in the server, method md5 with a
    // ScramSecret does SCRAM, and scram_sha_256 with an Md5Verifier can never succeed.
    Credential credential;
    bool tls = false;             // or a Unix socket; clear text is refused without
    bool server_decides = false;  // with cleartext: a password that the credential does not confirm may still be right
    std::optional<std::string> channel_binding;  // tls-server-end-point data; -PLUS is offered only with it
    std::string mock_key;                        // random, the same for the life of the process
  };

  explicit ClientLogin(Options options);

  LoginStep start(std::string& out);
  LoginStep on_message(char type, std::string_view body, std::string& out);
  LoginStep on_keys(const ScramKeys& keys, std::string& out);
  // Errors of class 28 are told as a wrong password, others as they are.
  LoginStep on_verdict(const Result<void>& verdict, std::string& out);

  bool awaits_message() const {
    return state_ == State::expects_password || state_ == State::expects_sasl_initial ||
           state_ == State::expects_sasl_first || state_ == State::expects_sasl_final;
  }
  const KeyRequest& key_request() const { return key_request_; }  // after need_keys
  const std::string& password() const { return pending_; }        // after need_verdict
  // After need_verdict: what confirms the same password another time, as `credential`.
  const ScramSecret& proof() const { return secret_; }
  const Error& error() const { return error_; }        // after failed
  const Learned& learned() const { return learned_; }  // after ok
  const std::string& user() const { return options_.user; }

private:
  enum class State {
    start,
    expects_password,      // clear text or md5
    expects_sasl_initial,  // SASLInitialResponse
    expects_sasl_first,    // client-first, after an empty initial response
    expects_sasl_final,    // client-final
    deriving_cleartext,
    deriving_sasl,
    expects_verdict,
    done,
    failed,
  };

  LoginStep start_sasl(std::string& out);
  LoginStep on_password(std::string_view body, std::string& out);
  LoginStep on_md5(std::string_view response, std::string& out);
  LoginStep on_sasl_initial(std::string_view body, std::string& out);
  LoginStep on_sasl_first(std::string_view mechanism, std::string_view message, std::string& out);
  LoginStep on_sasl_final(std::string_view message, std::string& out);
  LoginStep check_sasl_final(std::string_view message, std::string& out);
  LoginStep check_cleartext(const ScramKeys& keys, std::string& out);
  LoginStep request_keys(std::string_view password, const ScramSecret& secret, State next);
  LoginStep succeed(Learned learned, std::string& out);
  LoginStep fail_with(Error error);
  LoginStep wrong_password();

  Options options_;
  State state_ = State::start;
  ScramSecret secret_;  // the user's, a mock, or a salt for a password whose keys are still to be derived
  std::optional<ScramServer> scram_;
  std::string mechanism_;  // chosen by the client
  std::string pending_;    // clear text or client-final, while keys are derived
  std::string md5_salt_;
  KeyRequest key_request_;
  Learned learned_;
  Error error_;
};

}  // namespace tessera::postgres
