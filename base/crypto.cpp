#include "base/crypto.hpp"

#include <array>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/objects.h>
#include <openssl/rand.h>
#include <openssl/x509.h>
#include <span>

namespace tessera {

namespace {

template <auto Free>
struct Freed {
  template <typename T>
  void operator()(T* pointer) const {
    Free(pointer);
  }
};

const unsigned char* as_bytes(std::string_view text) {
  return reinterpret_cast<const unsigned char*>(text.data());
}

// libcrypto out of memory or without entropy: nothing that we could do would be safe.
[[noreturn]] void crypto_failed(const char* what) {
  std::fprintf(stderr, "fatal: libcrypto cannot %s\n", what);
  std::abort();
}

// Fetched once: looking an algorithm up costs more than a short digest.
const EVP_MD* sha256_algorithm() {
  static const EVP_MD* const algorithm = EVP_MD_fetch(nullptr, "SHA256", nullptr);
  if (algorithm == nullptr) crypto_failed("provide SHA-256");
  return algorithm;
}

class Sha256 {
public:
  Sha256() : context_(EVP_MD_CTX_new()) {
    if (!context_ || EVP_DigestInit_ex(context_.get(), sha256_algorithm(), nullptr) != 1) crypto_failed("hash");
  }
  void add(std::string_view data) {
    if (EVP_DigestUpdate(context_.get(), data.data(), data.size()) != 1) crypto_failed("hash");
  }
  Sha256Digest finish() {
    Sha256Digest digest;
    if (EVP_DigestFinal_ex(context_.get(), reinterpret_cast<unsigned char*>(digest.data()), nullptr) != 1) {
      crypto_failed("hash");
    }
    return digest;
  }

private:
  std::unique_ptr<EVP_MD_CTX, Freed<EVP_MD_CTX_free>> context_;
};

}  // namespace

Sha256Digest sha256(std::string_view data) {
  Sha256 hash;
  hash.add(data);
  return hash.finish();
}

// RFC 2104 spelled out: OpenSSL's own HMAC looks its algorithm up on each call.
Sha256Digest hmac_sha256(std::string_view key, std::string_view data) {
  constexpr std::size_t block_size = 64;
  std::array<char, block_size> inner_pad;
  std::array<char, block_size> outer_pad;
  Sha256Digest hashed_key;
  if (key.size() > block_size) {
    hashed_key = sha256(key);
    key = as_view(hashed_key);
  }
  for (std::size_t i = 0; i < block_size; ++i) {
    const char byte = i < key.size() ? key[i] : '\0';
    inner_pad[i] = static_cast<char>(byte ^ 0x36);
    outer_pad[i] = static_cast<char>(byte ^ 0x5c);
  }
  Sha256 inner;
  inner.add(as_view(inner_pad));
  inner.add(data);
  const Sha256Digest inner_digest = inner.finish();
  Sha256 outer;
  outer.add(as_view(outer_pad));
  outer.add(as_view(inner_digest));
  return outer.finish();
}

Sha256Digest pbkdf2_sha256(std::string_view password, std::string_view salt, std::uint32_t iterations) {
  Sha256Digest key;
  const int done = PKCS5_PBKDF2_HMAC(password.data(), static_cast<int>(password.size()), as_bytes(salt),
                                     static_cast<int>(salt.size()), static_cast<int>(iterations), sha256_algorithm(),
                                     static_cast<int>(key.size()), reinterpret_cast<unsigned char*>(key.data()));
  if (done != 1) crypto_failed("derive a key");
  return key;
}

Result<Md5Digest> md5(std::string_view data) {
  static const EVP_MD* const algorithm = EVP_MD_fetch(nullptr, "MD5", nullptr);
  Md5Digest digest;
  if (algorithm == nullptr || EVP_Digest(data.data(), data.size(), reinterpret_cast<unsigned char*>(digest.data()),
                                         nullptr, algorithm, nullptr) != 1) {
    return fail(sqlstate::feature_not_supported, "MD5 is switched off on this machine", "Use scram-sha-256 passwords.");
  }
  return digest;
}

std::string hex(std::string_view bytes) {
  constexpr std::string_view digits = "0123456789abcdef";
  std::string text;
  text.reserve(bytes.size() * 2);
  for (const char byte : bytes) {
    const auto value = static_cast<unsigned char>(byte);
    text += digits[value >> 4];
    text += digits[value & 15];
  }
  return text;
}

namespace {

constexpr std::string_view base64_alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

constexpr std::array<std::int8_t, 256> base64_values = [] {
  std::array<std::int8_t, 256> values{};
  values.fill(-1);
  for (std::size_t i = 0; i < base64_alphabet.size(); ++i) {
    values[static_cast<unsigned char>(base64_alphabet[i])] = static_cast<std::int8_t>(i);
  }
  return values;
}();

}  // namespace

std::string base64_encode(std::string_view bytes) {
  std::string text;
  text.reserve((bytes.size() + 2) / 3 * 4);
  for (std::size_t at = 0; at < bytes.size(); at += 3) {
    const std::size_t count = std::min<std::size_t>(3, bytes.size() - at);
    std::uint32_t group = 0;
    for (std::size_t i = 0; i < 3; ++i) {
      group = group << 8 | (i < count ? static_cast<unsigned char>(bytes[at + i]) : 0u);
    }
    for (std::size_t i = 0; i < 4; ++i) text += i <= count ? base64_alphabet[group >> (18 - 6 * i) & 63] : '=';
  }
  return text;
}

std::optional<std::string> base64_decode(std::string_view text) {
  if (text.size() % 4 != 0) return std::nullopt;
  std::size_t padding = 0;
  while (padding < 2 && padding < text.size() && text[text.size() - 1 - padding] == '=') ++padding;
  const std::string_view digits = text.substr(0, text.size() - padding);
  std::string bytes;
  bytes.reserve(text.size() / 4 * 3);
  std::uint32_t bits = 0;
  int bit_count = 0;
  for (const char digit : digits) {
    const int value = base64_values[static_cast<unsigned char>(digit)];
    if (value < 0) return std::nullopt;
    bits = bits << 6 | static_cast<std::uint32_t>(value);
    bit_count += 6;
    if (bit_count < 8) continue;
    bit_count -= 8;
    bytes += static_cast<char>(bits >> bit_count);
    bits &= (1u << bit_count) - 1;
  }
  if (bits != 0) return std::nullopt;
  return bytes;
}

namespace {
void draw_random(std::span<char> into) {
  if (RAND_bytes(reinterpret_cast<unsigned char*>(into.data()), static_cast<int>(into.size())) != 1)
    crypto_failed("provide random bytes");
}
}  // namespace

// A call costs more than its bytes, so some are drawn in advance. They are wiped when they are given out.
std::string random_bytes(std::size_t count) {
  thread_local std::array<char, 512> stock;
  thread_local std::size_t left = 0;
  std::string bytes(count, '\0');
  if (count > stock.size() / 4) {
    draw_random(bytes);
    return bytes;
  }
  if (left < count) {
    draw_random(stock);
    left = stock.size();
  }
  left -= count;
  std::memcpy(bytes.data(), stock.data() + left, count);
  OPENSSL_cleanse(stock.data() + left, count);
  return bytes;
}

bool constant_time_equal(std::string_view a, std::string_view b) {
  return a.size() == b.size() && CRYPTO_memcmp(a.data(), b.data(), a.size()) == 0;
}

std::optional<std::string> tls_server_end_point(std::string_view certificate_der) {
  const unsigned char* at = as_bytes(certificate_der);
  const std::unique_ptr<X509, Freed<X509_free>> certificate(
      d2i_X509(nullptr, &at, static_cast<long>(certificate_der.size())));
  int digest_nid = NID_undef;
  if (!certificate || at != as_bytes(certificate_der) + certificate_der.size() ||
      X509_get_signature_info(certificate.get(), &digest_nid, nullptr, nullptr, nullptr) != 1) {
    return std::nullopt;
  }
  if (digest_nid == NID_md5 || digest_nid == NID_sha1) digest_nid = NID_sha256;
  const EVP_MD* algorithm = digest_nid == NID_undef ? nullptr : EVP_get_digestbynid(digest_nid);
  if (algorithm == nullptr) return std::nullopt;
  std::string hash(EVP_MAX_MD_SIZE, '\0');
  unsigned int length = 0;
  if (EVP_Digest(certificate_der.data(), certificate_der.size(), reinterpret_cast<unsigned char*>(hash.data()), &length,
                 algorithm, nullptr) != 1) {
    return std::nullopt;
  }
  hash.resize(length);
  return hash;
}

}  // namespace tessera
