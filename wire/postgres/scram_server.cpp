#include <fmt/format.h>

#include "wire/postgres/scram.hpp"
#include "wire/postgres/scram_message.hpp"

namespace tessera::postgres {

namespace {

constexpr std::string_view binding_type = "tls-server-end-point";

std::unexpected<Error> binding_downgrade() {
  return std::unexpected(Error{sqlstate::invalid_authorization,
                               "SCRAM channel binding negotiation error",
                               "The client supports SCRAM channel binding but thinks the server does not. However, "
                               "this server does support channel binding.",
                               {},
                               0});
}

Sha256Digest xor_of(const Sha256Digest& a, std::string_view b) {
  Sha256Digest result;
  for (std::size_t i = 0; i < result.size(); ++i) result[i] = static_cast<char>(a[i] ^ b[i]);
  return result;
}

// The client's choice of channel binding, "n", "y" or "p=type", against the mechanism it selected and what we have.
Result<void> check_binding_flag(std::string_view flag, bool selected_plus, bool have_binding) {
  if (flag.starts_with("p=")) {
    if (!selected_plus) return malformed_scram("The client selected SCRAM-SHA-256 with channel binding data.");
    if (flag.substr(2) == binding_type) return {};
    return fail(sqlstate::protocol_violation, "unsupported SCRAM channel-binding type");
  }
  if (flag != "n" && flag != "y") return malformed_scram("Unexpected channel-binding flag.");
  if (selected_plus) return malformed_scram("The client selected SCRAM-SHA-256-PLUS without channel binding data.");
  if (flag == "y" && have_binding) return binding_downgrade();
  return {};
}

}  // namespace

ScramServer::ScramServer(ScramSecret secret, std::optional<std::string> channel_binding, std::string nonce)
    : secret_(std::move(secret)), channel_binding_(std::move(channel_binding)), nonce_(std::move(nonce)) {}

void ScramServer::set_keys(const Sha256Digest& stored_key, const Sha256Digest& server_key) {
  secret_.stored_key = stored_key;
  secret_.server_key = server_key;
}

Result<std::string> ScramServer::on_client_first(std::string_view mechanism, std::string_view message) {
  if (state_ != State::expects_first) return malformed_scram("Message out of order.");
  auto answer = read_first(mechanism, message);
  state_ = answer ? State::expects_final : State::failed;
  return answer;
}

Result<std::string> ScramServer::on_client_final(std::string_view message) {
  if (state_ != State::expects_final) return malformed_scram("Message out of order.");
  auto answer = read_final(message);
  state_ = answer ? State::done : State::failed;
  return answer;
}

// gs2-header client-first-bare:  flag "," [ "a=" authzid ] ","  "n=" name ",r=" nonce [extensions]
Result<std::string> ScramServer::read_first(std::string_view mechanism, std::string_view message) {
  const bool plus = mechanism == scram_sha_256_plus;
  if (mechanism != scram_sha_256 && !(plus && channel_binding_)) {
    return fail(sqlstate::protocol_violation, "client selected an invalid SASL authentication mechanism");
  }
  if (message.size() > scram_max_message) return malformed_scram("The message is too long.");
  const std::size_t flag_end = message.find(',');
  const std::size_t header_end = flag_end == std::string_view::npos ? flag_end : message.find(',', flag_end + 1);
  if (header_end == std::string_view::npos) return malformed_scram("The GS2 header is incomplete.");
  const std::string_view flag = message.substr(0, flag_end);
  if (auto checked = check_binding_flag(flag, plus, offers_plus()); !checked) {
    return std::unexpected(std::move(checked.error()));
  }
  const std::string_view authorization = message.substr(flag_end + 1, header_end - flag_end - 1);
  if (authorization.starts_with("a=")) {
    return fail(sqlstate::feature_not_supported, "client uses authorization identity, but it is not supported");
  }
  if (!authorization.empty()) return malformed_scram("Unexpected attribute in the GS2 header.");
  gs2_header_ = message.substr(0, header_end + 1);
  if (plus) gs2_header_ += *channel_binding_;

  client_first_bare_ = message.substr(header_end + 1);
  if (client_first_bare_.starts_with("m=")) {
    return fail(sqlstate::feature_not_supported, "client requires an unsupported SCRAM extension");
  }
  ScramReader reader(client_first_bare_);
  // The name is checked and ignored: the start-up message has said who the client is.
  const auto name = reader.expect('n');
  const auto client_nonce = name ? reader.expect('r') : std::nullopt;
  if (!name || !client_nonce) return malformed_scram("Expected attributes n and r.");
  if (!is_scram_name(*name)) return malformed_scram("Invalid user name.");
  if (!is_scram_nonce(*client_nonce)) return malformed_scram("Non-printable characters in the nonce.");
  if (client_nonce->size() + nonce_.size() > scram_max_nonce) return malformed_scram("The nonce is too long.");
  while (!reader.at_end()) {
    if (!reader.next()) return malformed_scram("Invalid extension.");
  }
  nonce_.insert(0, *client_nonce);
  server_first_ = fmt::format("r={},s={},i={}", nonce_, base64_encode(secret_.salt), secret_.iterations);
  return server_first_;
}

// "c=" base64(gs2-header and binding data) ",r=" nonce [extensions] ",p=" proof
Result<std::string> ScramServer::read_final(std::string_view message) {
  if (message.size() > scram_max_message) return malformed_scram("The message is too long.");
  ScramReader reader(message);
  const auto binding = reader.expect('c');
  const auto nonce = binding ? reader.expect('r') : std::nullopt;
  if (!binding || !nonce) return malformed_scram("Expected attributes c and r.");
  if (*binding != base64_encode(gs2_header_)) {
    // PostgreSQL: a mismatch under -PLUS is an attack or a terminated TLS connection, hence the other SQLSTATE.
    if (!gs2_header_.starts_with("p=")) return malformed_scram("Unexpected channel-binding attribute.");
    return fail(sqlstate::invalid_authorization, "SCRAM channel binding check failed");
  }
  if (*nonce != nonce_) {
    return std::unexpected(
        Error{sqlstate::protocol_violation, "invalid SCRAM response", "Nonce does not match.", {}, 0});
  }
  std::string_view without_proof;
  std::optional<ScramAttribute> attribute;
  do {
    without_proof = message.substr(0, message.size() - reader.rest().size());
    attribute = reader.next();
    if (!attribute || attribute->name == 'm') return malformed_scram("Expected attribute p.");
  } while (attribute->name != 'p');
  if (!reader.at_end()) return malformed_scram("Garbage found at the end of client-final-message.");
  const auto proof = base64_decode(attribute->value);
  if (!proof || proof->size() != sizeof(Sha256Digest)) return malformed_scram("Malformed proof.");
  without_proof.remove_suffix(1);  // the comma

  const std::string auth_message = fmt::format("{},{},{}", client_first_bare_, server_first_, without_proof);
  const Sha256Digest client_key = xor_of(hmac_sha256(as_view(secret_.stored_key), auth_message), *proof);
  if (!constant_time_equal(as_view(sha256(as_view(client_key))), as_view(secret_.stored_key))) {
    return fail(sqlstate::invalid_password, "");
  }
  keys_ = ScramKeys{client_key, secret_.server_key};
  return "v=" + base64_encode(as_view(hmac_sha256(as_view(secret_.server_key), auth_message)));
}

}  // namespace tessera::postgres
