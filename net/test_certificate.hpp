// Tests only: keys and certificates made on the spot, in a directory that vanishes with them.
#pragma once

#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <memory>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <string>

namespace tessera::net::testing_tls {

class Certificate {
public:
  // Signed by `issuer`, or by itself. `names`: as in a configuration file of OpenSSL, "DNS:localhost,IP:127.0.0.1".
  explicit Certificate(const std::string& common_name, const std::string& names = "DNS:localhost,IP:127.0.0.1",
                       const Certificate* issuer = nullptr, long lifetime = 3600)
      : key_(::EVP_PKEY_Q_keygen(nullptr, nullptr, "EC", "P-256"), &::EVP_PKEY_free),
        x509_(::X509_new(), &::X509_free) {
    char pattern[] = "/tmp/tessera-tls-XXXXXX";
    if (::mkdtemp(pattern) == nullptr) std::abort();
    directory_ = pattern;
    X509* x = x509_.get();
    ::X509_set_version(x, X509_VERSION_3);
    static long serial = 0;
    ::ASN1_INTEGER_set(::X509_get_serialNumber(x), ++serial);
    ::X509_gmtime_adj(::X509_getm_notBefore(x), -60);
    ::X509_gmtime_adj(::X509_getm_notAfter(x), lifetime);
    ::X509_set_pubkey(x, key_.get());
    ::X509_NAME_add_entry_by_txt(::X509_get_subject_name(x), "CN", MBSTRING_UTF8,
                                 reinterpret_cast<const unsigned char*>(common_name.data()),
                                 static_cast<int>(common_name.size()), -1, 0);
    const Certificate& signer = issuer != nullptr ? *issuer : *this;
    ::X509_set_issuer_name(x, ::X509_get_subject_name(signer.x509_.get()));
    extend(NID_basic_constraints, "critical,CA:TRUE");
    if (!names.empty()) extend(NID_subject_alt_name, names);
    ::X509_sign(x, signer.key_.get(), ::EVP_sha256());
    write(certificate(), [&](FILE* file) { ::PEM_write_X509(file, x); });
    write(private_key(),
          [&](FILE* file) { ::PEM_write_PrivateKey(file, key_.get(), nullptr, nullptr, 0, nullptr, nullptr); });
  }
  ~Certificate() { std::filesystem::remove_all(directory_); }
  Certificate(const Certificate&) = delete;
  Certificate& operator=(const Certificate&) = delete;

  std::string certificate() const { return directory_ + "/cert.pem"; }
  std::string private_key() const { return directory_ + "/key.pem"; }
  std::string der() const {
    unsigned char* bytes = nullptr;
    const int size = ::i2d_X509(x509_.get(), &bytes);
    std::string text(reinterpret_cast<char*>(bytes), static_cast<std::size_t>(size));
    ::OPENSSL_free(bytes);
    return text;
  }

private:
  void extend(int nid, const std::string& value) {
    X509_EXTENSION* extension = ::X509V3_EXT_conf_nid(nullptr, nullptr, nid, value.c_str());
    if (extension == nullptr) std::abort();
    ::X509_add_ext(x509_.get(), extension, -1);
    ::X509_EXTENSION_free(extension);
  }
  template <typename Put>
  static void write(const std::string& path, Put&& put) {
    FILE* file = std::fopen(path.c_str(), "w");
    if (file == nullptr) std::abort();
    put(file);
    std::fclose(file);
  }
  std::unique_ptr<EVP_PKEY, decltype(&::EVP_PKEY_free)> key_;
  std::unique_ptr<X509, decltype(&::X509_free)> x509_;
  std::string directory_;
};

}  // namespace tessera::net::testing_tls
