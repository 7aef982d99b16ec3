#include "wire/postgres/server_login.hpp"

#include <algorithm>
#include <fmt/format.h>

#include "wire/postgres/frontend.hpp"
#include "wire/postgres/md5.hpp"

namespace tessera::postgres {

namespace {

// All that a server may say before ReadyForQuery; a real one says about 600 bytes.
constexpr std::size_t max_login_bytes = 256 * 1024;
constexpr std::size_t max_parameters = 1'000;

Error connection_error(std::string message) {
  return {sqlstate::connection_failure, std::move(message), {}, {}, 0};
}
Error refused(std::string message, std::string hint = {}) {
  return {sqlstate::connection_rejected, std::move(message), {}, std::move(hint), 0};
}

// Waiting would not help: nothing that is known of the user answers the server's question.
Error unanswerable(std::string message, std::string hint = {}) {
  return {sqlstate::invalid_authorization, std::move(message), {}, std::move(hint), 0};
}

// Says whose exchange it was: the reader may be a client whose own login went well.
Error during_scram(Error error) {
  error.message.insert(0, "SCRAM login to the server: ");
  return error;
}

bool offers(const AuthenticationView& auth, std::string_view mechanism) {
  return std::ranges::find(auth.mechanisms, mechanism) != auth.mechanisms.end();
}

}  // namespace

ServerLogin::ServerLogin(Options options) : options_(std::move(options)) {}

ServerLoginStep ServerLogin::start(std::string& out) {
  if (state_ != State::start) return violation("the login has already begun");
  if (options_.tls == ServerTls::off) return send_startup(out);
  append_ssl_request(out);
  state_ = State::expects_tls_answer;
  return ServerLoginStep::need_bytes;
}

ServerLoginStep ServerLogin::send_startup(std::string& out) {
  if (!append_startup(out, options_.startup)) {
    return fail_with(
        {sqlstate::program_limit_exceeded, "the start-up parameters do not fit into a start-up packet", {}, {}, 0});
  }
  state_ = State::expects_auth;
  return ServerLoginStep::need_bytes;
}

ServerLoginStep ServerLogin::on_tls_answer(std::string_view input, std::size_t& consumed, std::string& out) {
  if (input[0] == 'S') {
    // Bytes that came in clear must not be taken for what came through TLS.
    if (input.size() > 1)
      return fail_with(connection_error("the server sent unencrypted data after its answer to SSLRequest"));
    consumed = 1;
    state_ = State::tls_handshake;
    return ServerLoginStep::start_tls;
  }
  if (input[0] == 'N') {
    if (options_.tls == ServerTls::require)
      return fail_with(refused("the server does not support TLS, but the configuration requires it"));
    // The server speaks next only after our start-up packet.
    if (input.size() > 1) return fail_with(connection_error("the server sent data after its answer to SSLRequest"));
    consumed = 1;
    return send_startup(out);
  }
  // 'E' would be an error whose text nobody has authenticated: anyone on the path could have written it.
  if (input[0] == 'E')
    return fail_with(connection_error("the server refused the connection before TLS was established"));
  return fail_with(connection_error("the server's answer to SSLRequest is none of PostgreSQL's"));
}

ServerLoginStep ServerLogin::on_tls(std::optional<std::string> channel_binding, std::string& out) {
  if (state_ != State::tls_handshake) return violation("a TLS handshake was not asked for");
  greeting_.tls = true;
  channel_binding_ = std::move(channel_binding);
  return send_startup(out);
}

ServerLoginStep ServerLogin::on_bytes(std::string_view input, std::size_t& consumed, std::string& out) {
  consumed = 0;
  if (state_ == State::done) return ServerLoginStep::ready;
  if (state_ == State::failed) return ServerLoginStep::failed;
  if (input.empty()) return ServerLoginStep::need_bytes;
  if (state_ == State::expects_tls_answer) return on_tls_answer(input, consumed, out);
  if (state_ == State::start || state_ == State::tls_handshake) return violation("the server spoke out of turn");
  if (state_ == State::deriving) return ServerLoginStep::need_keys;
  while (true) {
    FrameHeader header;
    const std::string_view rest = input.substr(consumed);
    const FrameStatus status = peek_frame(rest, max_login_message_length, header);
    if (status == FrameStatus::need_more) return ServerLoginStep::need_bytes;
    if (status == FrameStatus::malformed) return violation("a message has an impossible length");
    bytes_seen_ += status == FrameStatus::complete ? header.total_size() : 0;
    if (bytes_seen_ > max_login_bytes) return violation("too much data during login");
    if (status == FrameStatus::header_only) return ServerLoginStep::need_bytes;
    consumed += header.total_size();
    const ServerLoginStep step = on_message(header.type, frame_body(rest, header), out);
    if (step != ServerLoginStep::need_bytes) return step;
  }
}

ServerLoginStep ServerLogin::on_message(char type, std::string_view body, std::string& out) {
  switch (type) {
    case backend::error_response: {
      ErrorFields fields;
      if (!parse_error_fields(body, fields)) return violation("malformed ErrorResponse");
      return fail_with(fields.to_error());
    }
    case backend::notice_response: {
      ErrorFields fields;
      if (!parse_error_fields(body, fields)) return violation("malformed NoticeResponse");
      return ServerLoginStep::need_bytes;  // nobody to show it to
    }
    case backend::negotiate_protocol_version: {
      NegotiateProtocolVersionView view;
      if (!parse_negotiate_protocol_version(body, view)) return violation("malformed NegotiateProtocolVersion");
      return ServerLoginStep::need_bytes;  // 3.0 is what everyone speaks
    }
    case backend::authentication:
      return on_authentication(body, out);
    default:
      break;
  }
  if (state_ != State::settling)
    return violation(fmt::format("message type {} before authentication", static_cast<int>(type)));
  return on_settling(type, body);
}

ServerLoginStep ServerLogin::on_authentication(std::string_view body, std::string& out) {
  if (!parse_authentication(body, auth_)) return violation("malformed Authentication message");
  const bool ok = auth_.request == AuthRequest::ok;
  switch (state_) {
    case State::expects_auth:
      return on_first_request(auth_, out);
    case State::expects_auth_ok:
    case State::expects_sasl_ok:
      if (!ok) return violation("a second authentication request");
      greeting_.password_proved = true;
      state_ = State::settling;
      return ServerLoginStep::need_bytes;
    case State::expects_sasl_first:
      if (auth_.request != AuthRequest::sasl_continue) break;
      return on_server_first(auth_.data, out);
    case State::expects_sasl_final:
      if (auth_.request != AuthRequest::sasl_final) break;
      return on_server_final(auth_.data);
    default:
      return violation("an authentication request out of place");
  }
  // Above all AuthenticationOk: whoever skips the rest of SCRAM has not shown that it knows the password.
  return violation("the server broke off the SCRAM exchange");
}

ServerLoginStep ServerLogin::on_first_request(const AuthenticationView& auth, std::string& out) {
  switch (auth.request) {
    case AuthRequest::ok:
      state_ = State::settling;
      return ServerLoginStep::need_bytes;
    case AuthRequest::cleartext:
      return send_cleartext(out);
    case AuthRequest::md5:
      return send_md5(auth.data, out);
    case AuthRequest::sasl:
      return start_scram(auth, out);
    default:
      return fail_with(refused(fmt::format("the server asks for an authentication method that is not supported ({})",
                                           static_cast<std::uint32_t>(auth.request))));
  }
}

ServerLoginStep ServerLogin::send_cleartext(std::string& out) {
  if (!greeting_.tls && !options_.local) {
    return fail_with(refused("the server asks for a clear-text password on an unencrypted connection",
                             "Set backend.tls to require, or use scram-sha-256 on the server."));
  }
  const auto* plain = std::get_if<PlainPassword>(&options_.credential);
  if (plain == nullptr) return fail_with(unanswerable("the server asks for a clear-text password, which is not known"));
  if (!append_password(out, plain->password.reveal())) return fail_with(refused("the password cannot be sent"));
  state_ = State::expects_auth_ok;
  return ServerLoginStep::need_bytes;
}

ServerLoginStep ServerLogin::send_md5(std::string_view salt, std::string& out) {
  const auto* plain = std::get_if<PlainPassword>(&options_.credential);
  const auto* known = std::get_if<Md5Verifier>(&options_.credential);
  if (plain == nullptr && known == nullptr)
    return fail_with(unanswerable("the server asks for an md5 password, which is not known"));
  const auto verifier = known != nullptr ? Result<std::string>(known->text.reveal())
                                         : md5_verifier(plain->password.reveal(), options_.startup.user);
  if (!verifier) return fail_with(verifier.error());
  const auto response = md5_response(*verifier, salt);
  if (!response) return fail_with(response.error());
  if (!append_password(out, *response)) return violation("the answer cannot be sent");
  state_ = State::expects_auth_ok;
  return ServerLoginStep::need_bytes;
}

ServerLoginStep ServerLogin::start_scram(const AuthenticationView& auth, std::string& out) {
  const bool plain_offered = offers(auth, scram_sha_256);
  const bool plus_offered = offers(auth, scram_sha_256_plus);
  const bool plus = plus_offered && channel_binding_.has_value();
  if (!plain_offered && !plus) return fail_with(refused("the server offers no SASL mechanism that is supported"));
  if (!std::holds_alternative<PlainPassword>(options_.credential) &&
      !std::holds_alternative<ScramKeys>(options_.credential)) {
    const bool md5 = std::holds_alternative<Md5Verifier>(options_.credential);
    return fail_with(
        unanswerable("the server asks for a SCRAM login, and neither the password nor its keys are known",
                     md5 ? "An md5 verifier answers md5 alone: set the role's password anew with password_encryption = "
                           "scram-sha-256, or give the user a password or backend_password."
                         : ""));
  }
  ScramClient::Binding binding = ScramClient::Binding::none;
  if (plus) {
    binding = ScramClient::Binding::used;
  } else if (channel_binding_) {
    binding = ScramClient::Binding::not_offered;
  }
  scram_.emplace(binding, channel_binding_.value_or(""));
  const std::string first = scram_->first();
  if (!append_sasl_initial(out, {scram_->mechanism(), first})) return violation("the answer cannot be sent");
  state_ = State::expects_sasl_first;
  return ServerLoginStep::need_bytes;
}

ServerLoginStep ServerLogin::on_server_first(std::string_view message, std::string& out) {
  if (auto read = scram_->on_server_first(message); !read) return fail_with(during_scram(read.error()));
  state_ = State::deriving;
  if (const auto* keys = std::get_if<ScramKeys>(&options_.credential)) return on_keys(*keys, out);
  const auto& plain = std::get<PlainPassword>(options_.credential);
  key_request_ = {std::string(plain.password.reveal()), scram_->key_salt(), scram_->key_iterations()};
  return ServerLoginStep::need_keys;
}

ServerLoginStep ServerLogin::on_keys(const ScramKeys& keys, std::string& out) {
  if (state_ != State::deriving) return violation("keys were not asked for");
  key_request_ = {};
  const auto message = scram_->final_message(keys);
  if (!message) return fail_with(during_scram(message.error()));
  if (!append_sasl_response(out, *message)) return violation("the answer cannot be sent");
  state_ = State::expects_sasl_final;
  return ServerLoginStep::need_bytes;
}

ServerLoginStep ServerLogin::on_server_final(std::string_view message) {
  if (auto read = scram_->on_server_final(message); !read) return fail_with(during_scram(read.error()));
  state_ = State::expects_sasl_ok;
  return ServerLoginStep::need_bytes;
}

ServerLoginStep ServerLogin::on_settling(char type, std::string_view body) {
  if (type == backend::ready_for_query) return on_ready(body);
  if (type == backend::parameter_status) {
    ParameterStatusView status;
    if (!parse_parameter_status(body, status)) return violation("malformed ParameterStatus");
    set_setting(greeting_.parameters, status.name, status.value);
    if (greeting_.parameters.size() > max_parameters) return violation("too many parameters");
    return ServerLoginStep::need_bytes;
  }
  if (type == backend::backend_key_data) {
    BackendKeyDataView data;
    if (!parse_backend_key_data(body, data)) return violation("malformed BackendKeyData");
    greeting_.pid = data.pid;
    greeting_.key = data.key;
    return ServerLoginStep::need_bytes;
  }
  return violation(fmt::format("message type {} before ReadyForQuery", static_cast<int>(type)));
}

ServerLoginStep ServerLogin::on_ready(std::string_view body) {
  TransactionStatus status{};
  if (!parse_ready_for_query(body, status) || status != TransactionStatus::idle) {
    return violation("a new connection is not idle");
  }
  scram_.reset();
  state_ = State::done;
  return ServerLoginStep::ready;
}

ServerLoginStep ServerLogin::fail_with(Error error) {
  error_ = std::move(error);
  scram_.reset();
  state_ = State::failed;
  return ServerLoginStep::failed;
}

ServerLoginStep ServerLogin::violation(std::string_view what) {
  return fail_with({sqlstate::protocol_violation,
                    fmt::format("protocol violation by the server during login: {}", what),
                    {},
                    {},
                    0});
}

}  // namespace tessera::postgres
