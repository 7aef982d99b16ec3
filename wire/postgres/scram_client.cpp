#include <charconv>
#include <fmt/format.h>

#include "wire/postgres/scram.hpp"
#include "wire/postgres/scram_message.hpp"

namespace tessera::postgres {

namespace {

std::string_view gs2_header(ScramClient::Binding binding) {
  switch (binding) {
    case ScramClient::Binding::used:
      return "p=tls-server-end-point,,";
    case ScramClient::Binding::not_offered:
      return "y,,";
    case ScramClient::Binding::none:
      break;
  }
  return "n,,";
}

std::optional<std::uint32_t> parse_iterations(std::string_view text) {
  std::uint32_t value = 0;
  const auto [end, problem] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (problem != std::errc{} || end != text.data() + text.size() || value == 0) return std::nullopt;
  return value;
}

}  // namespace

ScramClient::ScramClient(Binding binding, std::string channel_binding_data, std::string nonce)
    : binding_(binding),
      gs2_header_(gs2_header(binding)),
      channel_binding_data_(binding == Binding::used ? std::move(channel_binding_data) : std::string()),
      nonce_(std::move(nonce)) {}

// The name stays empty: PostgreSQL takes it from the start-up message.
std::string ScramClient::first() {
  client_first_bare_ = "n=,r=" + nonce_;
  state_ = State::expects_first;
  return gs2_header_ + client_first_bare_;
}

Result<void> ScramClient::on_server_first(std::string_view message) {
  if (state_ != State::expects_first) return malformed_scram("Message out of order.");
  auto read = read_first(message);
  state_ = read ? State::expects_keys : State::failed;
  return read;
}

// "r=" nonce ",s=" salt ",i=" iterations [extensions]
Result<void> ScramClient::read_first(std::string_view message) {
  if (message.size() > scram_max_message) return malformed_scram("The message is too long.");
  ScramReader reader(message);
  const auto nonce = reader.expect('r');
  const auto salt = nonce ? reader.expect('s') : std::nullopt;
  const auto iterations = salt ? reader.expect('i') : std::nullopt;
  if (!iterations) return malformed_scram("Expected attributes r, s and i.");
  if (!is_scram_nonce(*nonce) || nonce->size() > scram_max_nonce) return malformed_scram("Invalid nonce.");
  // The server must have added something, or an old exchange could be replayed to us.
  if (!nonce->starts_with(nonce_) || nonce->size() == nonce_.size()) {
    return fail(sqlstate::protocol_violation, "invalid SCRAM response (nonce mismatch)");
  }
  const auto salt_bytes = base64_decode(*salt);
  if (!salt_bytes || salt_bytes->empty()) return malformed_scram("Invalid salt.");
  const auto count = parse_iterations(*iterations);
  if (!count) return malformed_scram("Invalid iteration count.");
  if (*count > scram_max_iterations) {
    return fail(sqlstate::protocol_violation,
                fmt::format("the server asks for {} SCRAM iterations, more than the {} that are accepted", *count,
                            scram_max_iterations));
  }
  while (!reader.at_end()) {
    const auto extension = reader.next();
    if (!extension || extension->name == 'm') return malformed_scram("Invalid extension.");
  }
  nonce_ = *nonce;
  salt_ = *salt_bytes;
  iterations_ = *count;
  server_first_ = message;
  return {};
}

Result<std::string> ScramClient::final_message(const ScramKeys& keys) {
  if (state_ != State::expects_keys) return malformed_scram("Message out of order.");
  std::string message = fmt::format("c={},r={}", base64_encode(gs2_header_ + channel_binding_data_), nonce_);
  const std::string auth_message = fmt::format("{},{},{}", client_first_bare_, server_first_, message);
  Sha256Digest proof = hmac_sha256(as_view(sha256(as_view(keys.client_key))), auth_message);
  for (std::size_t i = 0; i < proof.size(); ++i) proof[i] = static_cast<char>(proof[i] ^ keys.client_key[i]);
  server_signature_ = hmac_sha256(as_view(keys.server_key), auth_message);
  state_ = State::expects_final;
  return message.append(",p=").append(base64_encode(as_view(proof)));
}

Result<void> ScramClient::on_server_final(std::string_view message) {
  if (state_ != State::expects_final) return malformed_scram("Message out of order.");
  auto read = read_final(message);
  state_ = read ? State::verified : State::failed;
  return read;
}

// "v=" signature [extensions], or "e=" reason
Result<void> ScramClient::read_final(std::string_view message) {
  if (message.size() > scram_max_message) return malformed_scram("The message is too long.");
  ScramReader reader(message);
  const auto attribute = reader.next();
  if (attribute && attribute->name == 'e') {
    return fail(sqlstate::invalid_authorization, "the server reports an error in the SCRAM exchange");
  }
  if (!attribute || attribute->name != 'v') return malformed_scram("Expected attribute v.");
  while (!reader.at_end()) {
    if (!reader.next()) return malformed_scram("Invalid extension.");
  }
  const auto signature = base64_decode(attribute->value);
  if (!signature || !constant_time_equal(*signature, as_view(server_signature_))) {
    return fail(sqlstate::invalid_authorization,
                "the server's SCRAM signature is wrong: it does not know the password");
  }
  return {};
}

}  // namespace tessera::postgres
