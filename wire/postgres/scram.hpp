// SCRAM-SHA-256 and SCRAM-SHA-256-PLUS (RFC 5802, 7677, 5929), both ends, as pure machines: a message in, a message or
// an error out. Names follow the RFC: SaltedPassword = Hi(password, salt, iterations); ClientKey and ServerKey are
// HMACs of it; StoredKey = H(ClientKey). A server keeps a ScramSecret (no way back to the password, nor to ClientKey);
// a proof that verifies reveals ClientKey, and with it we can log in elsewhere as that user wherever salt and
// iterations are the same: ScramKeys.
//
// Deriving keys takes about a millisecond and so happens outside: `derive_scram_keys` may run on any thread, the
// machines never call it. Every attribute is checked; nonces, messages and iteration counts are capped.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "base/crypto.hpp"
#include "base/error.hpp"

namespace tessera::postgres {

inline constexpr std::string_view scram_sha_256 = "SCRAM-SHA-256";
inline constexpr std::string_view scram_sha_256_plus = "SCRAM-SHA-256-PLUS";
inline constexpr std::uint32_t scram_default_iterations = 4'096;
inline constexpr std::uint32_t scram_max_iterations = 10'000'000;  // a server that asks for more is refused
inline constexpr std::size_t scram_max_message = 2'048;
inline constexpr std::size_t scram_max_nonce = 512;  // client's and server's part together

struct ScramKeys {
  Sha256Digest client_key{};
  Sha256Digest server_key{};
  friend bool operator==(const ScramKeys&, const ScramKeys&) = default;
};

// What to derive keys from; a machine hands it out, the caller passes it to derive_scram_keys somewhere.
struct KeyRequest {
  std::string password;  // as typed: derive_scram_keys applies SASLprep
  std::string salt;      // raw bytes
  std::uint32_t iterations = 0;
};

ScramKeys derive_scram_keys(std::string_view password, std::string_view salt, std::uint32_t iterations);
inline ScramKeys derive_scram_keys(const KeyRequest& request) {
  return derive_scram_keys(request.password, request.salt, request.iterations);
}

struct ScramSecret {
  std::uint32_t iterations = scram_default_iterations;
  std::string salt;  // raw bytes
  Sha256Digest stored_key{};
  Sha256Digest server_key{};

  // "SCRAM-SHA-256$<iterations>:<salt>$<StoredKey>:<ServerKey>", as in pg_authid.rolpassword.
  static std::optional<ScramSecret> parse(std::string_view text);
  std::string text() const;
  // Slow (see above), with a random salt.
  static ScramSecret from_password(std::string_view password, std::uint32_t iterations = scram_default_iterations);
  static ScramSecret from_keys(const ScramKeys& keys, std::string_view salt, std::uint32_t iterations);
  friend bool operator==(const ScramSecret&, const ScramSecret&) = default;
};

// For a user that does not exist: looks like a real secret, the same each time for the same name, and no proof verifies
// against it. `mock_key` is random and lives as long as the process.
ScramSecret mock_scram_secret(std::string_view user, std::string_view mock_key);

std::string scram_nonce();  // 18 random bytes in base64, as PostgreSQL

// The end that checks. One login; a failed machine stays failed. Errors: 08P01 for malformed messages, 0A000 for what
// the RFC allows and nobody supports, 28000 for a channel-binding downgrade, 28P01 (empty message: the caller knows the
// user's name) for a proof that does not verify.
class ScramServer {
public:
  // `channel_binding`: tls-server-end-point data of our certificate on this connection; nothing without TLS.
  ScramServer(ScramSecret secret, std::optional<std::string> channel_binding, std::string nonce = scram_nonce());

  bool offers_plus() const { return channel_binding_.has_value(); }
  // The mechanism that the client chose, and its first message. Returns server-first.
  Result<std::string> on_client_first(std::string_view mechanism, std::string_view message);
  // Returns server-final; from then on `keys` is what the client proved to know.
  Result<std::string> on_client_final(std::string_view message);
  const std::optional<ScramKeys>& keys() const { return keys_; }
  // Puts the secret in place, for a caller who derives it from a password during the exchange: after on_client_first,
  // before on_client_final, for the same salt and iterations.
  void set_keys(const Sha256Digest& stored_key, const Sha256Digest& server_key);

private:
  enum class State { expects_first, expects_final, done, failed };
  Result<std::string> read_first(std::string_view mechanism, std::string_view message);
  Result<std::string> read_final(std::string_view message);

  State state_ = State::expects_first;
  ScramSecret secret_;
  std::optional<std::string> channel_binding_;
  std::string nonce_;       // ours, then client's + ours
  std::string gs2_header_;  // as the client sent it, binding data included: what "c=" must repeat
  std::string client_first_bare_;
  std::string server_first_;
  std::optional<ScramKeys> keys_;
};

// The end that proves. Steps: first() -> on_server_first() -> keys for key_salt(), key_iterations() -> final_message()
// -> on_server_final(). Only after the last one has returned without error has the server proved itself.
class ScramClient {
public:
  enum class Binding {
    none,         // no TLS: flag n
    not_offered,  // we could, the server did not offer -PLUS: flag y, so that a downgrade is noticed
    used,         // -PLUS with the data given
  };
  ScramClient(Binding binding, std::string channel_binding_data, std::string nonce = scram_nonce());

  std::string_view mechanism() const { return binding_ == Binding::used ? scram_sha_256_plus : scram_sha_256; }
  std::string first();
  Result<void> on_server_first(std::string_view message);
  const std::string& key_salt() const { return salt_; }
  std::uint32_t key_iterations() const { return iterations_; }
  // client-final, proving `keys`.
  Result<std::string> final_message(const ScramKeys& keys);
  Result<void> on_server_final(std::string_view message);
  bool verified() const { return state_ == State::verified; }

private:
  enum class State { start, expects_first, expects_keys, expects_final, verified, failed };
  Result<void> read_first(std::string_view message);
  Result<void> read_final(std::string_view message);

  State state_ = State::start;
  Binding binding_;
  std::string gs2_header_;
  std::string channel_binding_data_;
  std::string nonce_;
  std::string client_first_bare_;
  std::string server_first_;
  std::string salt_;
  std::uint32_t iterations_ = 0;
  Sha256Digest server_signature_{};
};

}  // namespace tessera::postgres
