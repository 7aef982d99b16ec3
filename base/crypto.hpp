// The few primitives that logging in needs, over OpenSSL's libcrypto: digests, HMAC, base64, randomness and a
// comparison whose time does not depend on where two strings differ. No state, callable from any thread. A digest of
// SHA-256 cannot fail but for lack of memory, which ends the process; MD5 may be switched off on a host in FIPS mode,
// so it returns a Result.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "base/error.hpp"

namespace tessera {

using Sha256Digest = std::array<char, 32>;
using Md5Digest = std::array<char, 16>;

template <std::size_t Size>
std::string_view as_view(const std::array<char, Size>& bytes) {
  return {bytes.data(), bytes.size()};
}

Sha256Digest sha256(std::string_view data);
Sha256Digest hmac_sha256(std::string_view key, std::string_view data);
// PBKDF2 with HMAC-SHA-256 and one block of output (RFC 5802 calls it Hi). About 1 ms per 4,096 iterations: not for an
// I/O thread. `iterations` must be at least 1.
Sha256Digest pbkdf2_sha256(std::string_view password, std::string_view salt, std::uint32_t iterations);
Result<Md5Digest> md5(std::string_view data);

std::string hex(std::string_view bytes);  // lower case

// RFC 4648, with padding, on one line.
std::string base64_encode(std::string_view bytes);
// Strict: the alphabet only, complete padding, no white space, no stray bits in the last character. The one text that
// decodes is the one that base64_encode makes.
std::optional<std::string> base64_decode(std::string_view text);

// From the operating system's CSPRNG by way of OpenSSL; ends the process when there is no entropy source.
std::string random_bytes(std::size_t count);

// Time depends on the lengths only.
bool constant_time_equal(std::string_view a, std::string_view b);

// Channel-binding data "tls-server-end-point" (RFC 5929, section 4.1) of a certificate in DER: its hash by the digest
// of its own signature, SHA-256 in place of MD5 and SHA-1. None if the certificate cannot be read or its signature
// algorithm names no digest (Ed25519): then channel binding must not be offered.
std::optional<std::string> tls_server_end_point(std::string_view certificate_der);

}  // namespace tessera
