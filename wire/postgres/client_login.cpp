#include "wire/postgres/client_login.hpp"

#include <array>
#include <fmt/format.h>
#include <utility>

#include "base/crypto.hpp"
#include "wire/postgres/backend.hpp"
#include "wire/postgres/frontend.hpp"
#include "wire/postgres/md5.hpp"

namespace tessera::postgres {

namespace {

Error violation(std::string message) {
  return {sqlstate::protocol_violation, std::move(message), {}, {}, 0};
}

// What the stored verifier proves, for comparison with what a clear-text password derives to.
bool matches(const ScramSecret& secret, const ScramKeys& keys) {
  return constant_time_equal(as_view(sha256(as_view(keys.client_key))), as_view(secret.stored_key));
}

}  // namespace

ClientLogin::ClientLogin(Options options) : options_(std::move(options)) {}

LoginStep ClientLogin::start(std::string& out) {
  if (state_ != State::start) return fail_with(violation("authentication has already begun"));
  const bool has_secret = std::holds_alternative<ScramSecret>(options_.credential);
  switch (options_.method) {
    case AuthMethod::trust:
      if (!std::holds_alternative<UnknownUser>(options_.credential)) return succeed({}, out);
      return fail_with(
          {sqlstate::invalid_authorization, fmt::format("role \"{}\" does not exist", options_.user), {}, {}, 0});
    case AuthMethod::cleartext:
      if (!options_.tls) {
        return fail_with({sqlstate::invalid_authorization,
                          "password authentication needs an encrypted connection",
                          {},
                          "Connect with sslmode=require.",
                          0});
      }
      append_authentication_cleartext(out);
      state_ = State::expects_password;
      return LoginStep::need_message;
    case AuthMethod::md5:
      if (has_secret) break;
      md5_salt_ = random_bytes(4);
      if (!append_authentication_md5(out, md5_salt_)) return fail_with(violation("no salt"));
      state_ = State::expects_password;
      return LoginStep::need_message;
    case AuthMethod::scram_sha_256:
      break;
  }
  return start_sasl(out);
}

LoginStep ClientLogin::start_sasl(std::string& out) {
  // For an unknown user, one whose md5 verifier cannot serve SCRAM, or a password of which only the salt is needed now.
  // Made for everyone: its time must not tell who is known.
  secret_ = mock_scram_secret(options_.user, options_.mock_key);
  if (const auto* known = std::get_if<ScramSecret>(&options_.credential)) secret_ = *known;
  scram_.emplace(secret_, options_.channel_binding);
  // In the order of preference, -PLUS first, as the server does.
  constexpr std::array<std::string_view, 2> mechanisms = {scram_sha_256_plus, scram_sha_256};
  const std::span offered = std::span(mechanisms).subspan(scram_->offers_plus() ? 0 : 1);
  if (!append_authentication_sasl(out, offered)) return fail_with(violation("no mechanism"));
  state_ = State::expects_sasl_initial;
  return LoginStep::need_message;
}

LoginStep ClientLogin::on_message(char type, std::string_view body, std::string& out) {
  switch (state_) {
    case State::expects_password:
    case State::expects_sasl_initial:
    case State::expects_sasl_first:
    case State::expects_sasl_final:
      break;
    case State::start:
    case State::deriving_cleartext:
    case State::deriving_sasl:
    case State::expects_verdict:
    case State::done:
    case State::failed:
      return fail_with(violation("message out of place during authentication"));
  }
  if (type != frontend::password) {
    return fail_with(violation(fmt::format("expected {} response, got message type {}",
                                           state_ == State::expects_password ? "password" : "SASL",
                                           static_cast<unsigned>(static_cast<unsigned char>(type)))));
  }
  if (body.size() > max_login_message_length) return fail_with(violation("authentication message is too long"));
  if (state_ == State::expects_password) return on_password(body, out);
  if (state_ == State::expects_sasl_initial) return on_sasl_initial(body, out);
  if (state_ == State::expects_sasl_first) return on_sasl_first(mechanism_, body, out);
  return on_sasl_final(body, out);
}

LoginStep ClientLogin::on_password(std::string_view body, std::string& out) {
  std::string_view password;
  if (!parse_password(body, password)) return fail_with(invalid_message("PasswordMessage"));
  if (password.empty()) return fail_with({sqlstate::invalid_password, "empty password returned by client", {}, {}, 0});
  if (options_.method == AuthMethod::md5) return on_md5(password, out);
  pending_ = password;
  const auto* secret = std::get_if<ScramSecret>(&options_.credential);
  // A derivation for everyone, so that its time tells nothing about what is stored, or whether anything is.
  secret_ = secret != nullptr ? *secret : mock_scram_secret(options_.user, options_.mock_key);
  return request_keys(password, secret_, State::deriving_cleartext);
}

LoginStep ClientLogin::check_cleartext(const ScramKeys& keys, std::string& out) {
  const std::string password = std::exchange(pending_, {});
  bool right = false;
  if (const auto* plain = std::get_if<PlainPassword>(&options_.credential)) {
    right = constant_time_equal(plain->password.reveal(), password);
  } else if (const auto* verifier = std::get_if<Md5Verifier>(&options_.credential)) {
    const auto made = md5_verifier(password, options_.user);
    if (!made) return fail_with(made.error());
    right = constant_time_equal(verifier->text.reveal(), *made);
  } else {
    right = matches(secret_, keys);  // a mock matches nothing
  }
  if (right) return succeed(PlainPassword{Secret(password)}, out);
  if (!options_.server_decides) return wrong_password();
  pending_ = password;
  secret_ = ScramSecret::from_keys(keys, secret_.salt, secret_.iterations);
  state_ = State::expects_verdict;
  return LoginStep::need_verdict;
}

LoginStep ClientLogin::on_verdict(const Result<void>& verdict, std::string& out) {
  if (state_ != State::expects_verdict) return fail_with(violation("a verdict was not asked for"));
  if (verdict) return succeed(PlainPassword{Secret(std::exchange(pending_, {}))}, out);
  return verdict.error().code.view().starts_with("28") ? wrong_password() : fail_with(verdict.error());
}

LoginStep ClientLogin::on_md5(std::string_view response, std::string& out) {
  const auto* known = std::get_if<Md5Verifier>(&options_.credential);
  const auto* plain = std::get_if<PlainPassword>(&options_.credential);
  // For an unknown user the same work is done on a password that nobody has.
  const std::string nobody = known == nullptr && plain == nullptr ? random_bytes(16) : std::string();
  const auto verifier = known != nullptr
                            ? Result<std::string>(known->text.reveal())
                            : md5_verifier(plain != nullptr ? plain->password.reveal() : nobody, options_.user);
  if (!verifier) return fail_with(verifier.error());
  const auto expected = md5_response(*verifier, md5_salt_);
  if (!expected) return fail_with(expected.error());
  if (!constant_time_equal(*expected, response)) return wrong_password();
  return known != nullptr ? succeed(*known, out) : succeed({}, out);
}

LoginStep ClientLogin::on_sasl_initial(std::string_view body, std::string& out) {
  SaslInitialView message;
  if (!parse_sasl_initial(body, message)) return fail_with(invalid_message("SASLInitialResponse"));
  if (message.mechanism != scram_sha_256 && !(message.mechanism == scram_sha_256_plus && scram_->offers_plus())) {
    return fail_with(violation("client selected an invalid SASL authentication mechanism"));
  }
  mechanism_ = message.mechanism;
  if (message.data) return on_sasl_first(mechanism_, *message.data, out);
  // Without an initial response the server's first challenge is empty, and client-first answers it.
  if (!append_authentication_sasl_continue(out, "")) return fail_with(violation("no challenge"));
  state_ = State::expects_sasl_first;
  return LoginStep::need_message;
}

LoginStep ClientLogin::on_sasl_first(std::string_view mechanism, std::string_view message, std::string& out) {
  const auto answer = scram_->on_client_first(mechanism, message);
  if (!answer) return fail_with(answer.error());
  if (!append_authentication_sasl_continue(out, *answer)) return fail_with(violation("no challenge"));
  state_ = State::expects_sasl_final;
  return LoginStep::need_message;
}

LoginStep ClientLogin::on_sasl_final(std::string_view message, std::string& out) {
  const auto* plain = std::get_if<PlainPassword>(&options_.credential);
  if (plain == nullptr) return check_sasl_final(message, out);
  pending_ = message;
  return request_keys(plain->password.reveal(), secret_, State::deriving_sasl);
}

LoginStep ClientLogin::check_sasl_final(std::string_view message, std::string& out) {
  const auto answer = scram_->on_client_final(message);
  if (!answer && answer.error().code == sqlstate::invalid_password) return wrong_password();
  if (!answer) return fail_with(answer.error());
  if (!append_authentication_sasl_final(out, *answer)) return fail_with(violation("no answer"));
  return succeed(*scram_->keys(), out);
}

LoginStep ClientLogin::request_keys(std::string_view password, const ScramSecret& secret, State next) {
  key_request_ = {std::string(password), secret.salt, secret.iterations};
  state_ = next;
  return LoginStep::need_keys;
}

LoginStep ClientLogin::on_keys(const ScramKeys& keys, std::string& out) {
  key_request_ = {};
  if (state_ == State::deriving_cleartext) return check_cleartext(keys, out);
  if (state_ != State::deriving_sasl) return fail_with(violation("keys were not asked for"));
  scram_->set_keys(sha256(as_view(keys.client_key)), keys.server_key);
  const std::string message = std::move(pending_);
  return check_sasl_final(message, out);
}

LoginStep ClientLogin::succeed(Learned learned, std::string& out) {
  append_authentication_ok(out);
  learned_ = std::move(learned);
  pending_.clear();
  state_ = State::done;
  return LoginStep::ok;
}

LoginStep ClientLogin::fail_with(Error error) {
  error_ = std::move(error);
  learned_ = {};
  pending_.clear();
  state_ = State::failed;
  return LoginStep::failed;
}

LoginStep ClientLogin::wrong_password() {
  return fail_with({sqlstate::invalid_password,
                    fmt::format("password authentication failed for user \"{}\"", options_.user),
                    {},
                    {},
                    0});
}

}  // namespace tessera::postgres
