#include <algorithm>
#include <charconv>
#include <fmt/format.h>

#include "wire/postgres/saslprep.hpp"
#include "wire/postgres/scram.hpp"

namespace tessera::postgres {

namespace {

constexpr std::size_t salt_size = 16;
constexpr std::size_t max_salt_size = 1'024;
constexpr std::string_view secret_prefix = "SCRAM-SHA-256$";

std::optional<Sha256Digest> decode_key(std::string_view text) {
  const auto bytes = base64_decode(text);
  Sha256Digest key;
  if (!bytes || bytes->size() != key.size()) return std::nullopt;
  std::ranges::copy(*bytes, key.begin());
  return key;
}

// Takes the text up to `separator` off the front; nothing if there is no separator.
std::optional<std::string_view> take_until(std::string_view& text, char separator) {
  const std::size_t end = text.find(separator);
  if (end == std::string_view::npos) return std::nullopt;
  const std::string_view taken = text.substr(0, end);
  text.remove_prefix(end + 1);
  return taken;
}

}  // namespace

ScramKeys derive_scram_keys(std::string_view password, std::string_view salt, std::uint32_t iterations) {
  const Sha256Digest salted = pbkdf2_sha256(saslprep(password), salt, std::max(iterations, 1u));
  return {hmac_sha256(as_view(salted), "Client Key"), hmac_sha256(as_view(salted), "Server Key")};
}

std::optional<ScramSecret> ScramSecret::parse(std::string_view text) {
  if (!text.starts_with(secret_prefix)) return std::nullopt;
  text.remove_prefix(secret_prefix.size());
  const auto iterations = take_until(text, ':');
  const auto salt_text = take_until(text, '$');
  const auto stored_text = take_until(text, ':');
  if (!iterations || !salt_text || !stored_text) return std::nullopt;

  ScramSecret secret;
  const char* const end = iterations->data() + iterations->size();
  const auto [stop, problem] = std::from_chars(iterations->data(), end, secret.iterations);
  if (problem != std::errc{} || stop != end || secret.iterations == 0 || secret.iterations > scram_max_iterations) {
    return std::nullopt;
  }
  const auto salt = base64_decode(*salt_text);
  const auto stored = decode_key(*stored_text);
  const auto server = decode_key(text);
  if (!salt || salt->empty() || salt->size() > max_salt_size || !stored || !server) return std::nullopt;
  secret.salt = *salt;
  secret.stored_key = *stored;
  secret.server_key = *server;
  return secret;
}

std::string ScramSecret::text() const {
  return fmt::format("{}{}:{}${}:{}", secret_prefix, iterations, base64_encode(salt),
                     base64_encode(as_view(stored_key)), base64_encode(as_view(server_key)));
}

ScramSecret ScramSecret::from_password(std::string_view password, std::uint32_t iterations) {
  const std::string salt = random_bytes(salt_size);
  return from_keys(derive_scram_keys(password, salt, iterations), salt, iterations);
}

ScramSecret ScramSecret::from_keys(const ScramKeys& keys, std::string_view salt, std::uint32_t iterations) {
  return {iterations, std::string(salt), sha256(as_view(keys.client_key)), keys.server_key};
}

// Every login makes one (client_login.cpp), so it is made with one hash. Nobody knows a password for the keys, whoever
// may know them: that would be an inversion of SHA-256.
ScramSecret mock_scram_secret(std::string_view user, std::string_view mock_key) {
  const Sha256Digest digest = hmac_sha256(mock_key, user);
  return {scram_default_iterations, std::string(as_view(digest).substr(0, salt_size)), digest, digest};
}

std::string scram_nonce() {
  constexpr std::size_t raw_size = 18;
  return base64_encode(random_bytes(raw_size));
}

}  // namespace tessera::postgres
