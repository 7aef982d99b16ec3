#include "base/crypto.hpp"

#include <gtest/gtest.h>
#include <memory>
#include <openssl/evp.h>
#include <openssl/x509.h>
#include <set>

namespace tessera {
namespace {

using namespace std::literals;

TEST(Crypto, Digests) {
  EXPECT_EQ(hex(as_view(sha256(""))), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  EXPECT_EQ(hex(as_view(sha256("abc"))), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  EXPECT_EQ(hex(as_view(*md5("abc"))), "900150983cd24fb0d6963f7d28e17f72");
}

// RFC 4231, cases 1, 2, 6 (a key longer than a block).
TEST(Crypto, Hmac) {
  EXPECT_EQ(hex(as_view(hmac_sha256(std::string(20, '\x0b'), "Hi There"))),
            "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7");
  EXPECT_EQ(hex(as_view(hmac_sha256("Jefe", "what do ya want for nothing?"))),
            "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
  EXPECT_EQ(
      hex(as_view(hmac_sha256(std::string(131, '\xaa'), "Test Using Larger Than Block-Size Key - Hash Key First"))),
      "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54");
}

// RFC 7914, section 11 (its first 32 bytes).
TEST(Crypto, Pbkdf2) {
  EXPECT_EQ(hex(as_view(pbkdf2_sha256("passwd", "salt", 1))),
            "55ac046e56e3089fec1691c22544b605f94185216dde0465e68b9d57c20dacbc");
}

TEST(Crypto, Base64BothWays) {
  const std::pair<std::string, std::string> pairs[] = {{"", ""},        {"f", "Zg=="},        {"fo", "Zm8="},
                                                       {"foo", "Zm9v"}, {"foob", "Zm9vYg=="}, {"\0\xff\xfe"s, "AP/+"}};
  for (const auto& [bytes, text] : pairs) {
    EXPECT_EQ(base64_encode(bytes), text);
    EXPECT_EQ(base64_decode(text), bytes);
  }
}

TEST(Crypto, Base64RefusesAllOtherSpellings) {
  for (const auto* text : {"Z", "Zg", "Zg=", "Zg===", "Zh==", "Zm9=", "=", "====", "A===", "Zg==Zg==", "Zm9v\n",
                           " Zm9v", "Zm-_", "Zm9vZg=a", "Z=g=", "\xff\xff\xff\xff"}) {
    EXPECT_EQ(base64_decode(text), std::nullopt) << text;
  }
}

TEST(Crypto, RandomBytesDiffer) {
  EXPECT_EQ(random_bytes(16).size(), 16u);
  EXPECT_NE(random_bytes(16), random_bytes(16));
  EXPECT_TRUE(random_bytes(0).empty());
  // Some are drawn in advance: none is given out twice, whatever sizes are asked for.
  std::string all;
  for (std::size_t i = 0; i < 500; ++i) all += random_bytes(8 * (i % 20 + 1));
  std::set<std::string> blocks;
  for (std::size_t at = 0; at < all.size(); at += 8) EXPECT_TRUE(blocks.insert(all.substr(at, 8)).second) << at;
}

TEST(Crypto, ConstantTimeEqual) {
  EXPECT_TRUE(constant_time_equal("", ""));
  EXPECT_TRUE(constant_time_equal("abc", "abc"));
  EXPECT_FALSE(constant_time_equal("abc", "abd"));
  EXPECT_FALSE(constant_time_equal("abc", "ab"));
}

// A self-signed certificate; `digest` may be null (Ed25519).
std::string certificate_der(const char* key_type, const EVP_MD* digest) {
  const std::unique_ptr<EVP_PKEY, decltype(&EVP_PKEY_free)> key(
      std::string_view(key_type) == "EC" ? EVP_EC_gen("P-256") : EVP_PKEY_Q_keygen(nullptr, nullptr, key_type),
      &EVP_PKEY_free);
  const std::unique_ptr<X509, decltype(&X509_free)> certificate(X509_new(), &X509_free);
  X509_gmtime_adj(X509_getm_notBefore(certificate.get()), 0);
  X509_gmtime_adj(X509_getm_notAfter(certificate.get()), 60);
  X509_set_pubkey(certificate.get(), key.get());
  EXPECT_GT(X509_sign(certificate.get(), key.get(), digest), 0);
  unsigned char* der = nullptr;
  const int size = i2d_X509(certificate.get(), &der);
  EXPECT_GT(size, 0);
  std::string bytes(reinterpret_cast<const char*>(der), static_cast<std::size_t>(size));
  OPENSSL_free(der);
  return bytes;
}

// RFC 5929, section 4.1.
TEST(Crypto, EndPointIsHashedWithTheCertificatesOwnDigest) {
  const std::string with_sha256 = certificate_der("EC", EVP_sha256());
  EXPECT_EQ(tls_server_end_point(with_sha256), as_view(sha256(with_sha256)));
  const std::string with_sha1 = certificate_der("EC", EVP_sha1());
  EXPECT_EQ(tls_server_end_point(with_sha1), as_view(sha256(with_sha1)));
  EXPECT_EQ(tls_server_end_point(certificate_der("EC", EVP_sha384()))->size(), 48u);
  EXPECT_EQ(tls_server_end_point(certificate_der("ED25519", nullptr)), std::nullopt);
  EXPECT_EQ(tls_server_end_point(with_sha256 + "x"), std::nullopt);
}

TEST(Crypto, EndPointOfWhatIsNoCertificate) {
  EXPECT_EQ(tls_server_end_point(""), std::nullopt);
  EXPECT_EQ(tls_server_end_point("not a certificate"), std::nullopt);
}

}  // namespace
}  // namespace tessera
