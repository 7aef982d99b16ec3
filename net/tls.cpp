#include "net/tls.hpp"

#include <algorithm>
#include <arpa/inet.h>
#include <cstring>
#include <fmt/format.h>
#include <fstream>
#include <iterator>
#include <openssl/err.h>
#include <openssl/x509v3.h>

#include "base/crypto.hpp"

namespace tessera::net {

namespace {

std::string last_error() {
  const unsigned long code = ::ERR_peek_last_error();
  ::ERR_clear_error();
  if (code == 0) return "connection closed";
  const char* reason = ::ERR_reason_error_string(code);
  return reason != nullptr ? reason : fmt::format("error {:x}", code);
}

std::unexpected<Error> context_failed(std::string_view what, const std::string& file) {
  return fail(sqlstate::config_file_error, fmt::format("TLS: cannot use {} \"{}\": {}", what, file, last_error()));
}

Result<void> load_pair(SSL_CTX* context, const std::string& certificate, const std::string& key) {
  if (::SSL_CTX_use_certificate_chain_file(context, certificate.c_str()) != 1)
    return context_failed("certificate", certificate);
  if (::SSL_CTX_use_PrivateKey_file(context, key.c_str(), SSL_FILETYPE_PEM) != 1)
    return context_failed("private key", key);
  if (::SSL_CTX_check_private_key(context) != 1)
    return context_failed("private key (it does not match the certificate)", key);
  return {};
}

void set_common_options(SSL_CTX* context) {
  ::SSL_CTX_set_options(context, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION);
  // Idle sessions give their record buffers back; partial writes never occur, since the sink takes everything.
  ::SSL_CTX_set_mode(context,
                     SSL_MODE_RELEASE_BUFFERS | SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
}

// How long a session may be resumed, in seconds. What is verified of a client is verified anew more often.
constexpr long ticket_lifetime = 3'600;
constexpr long verified_ticket_lifetime = 300;

Result<std::string> digest_of(std::string_view options, std::initializer_list<std::string> files) {
  std::string all(options);
  for (const std::string& name : files) {
    all += '\0';
    if (name.empty()) continue;
    std::ifstream file(name, std::ios::binary);
    if (!file) return context_failed("file", name);
    all.append(std::istreambuf_iterator<char>(file), {});
  }
  const Sha256Digest digest = sha256(all);
  return std::string(reinterpret_cast<const char*>(digest.data()), digest.size());
}

// Sessions of one listener's configuration are no good for another one: not its certificate, not its client CA.
void allow_resumption(SSL_CTX* context, const std::string& digest, bool client_ca) {
  static_assert(std::tuple_size_v<Sha256Digest> <= SSL_MAX_SID_CTX_LENGTH);
  ::SSL_CTX_set_session_id_context(context, reinterpret_cast<const unsigned char*>(digest.data()),
                                   static_cast<unsigned>(digest.size()));
  ::SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF);  // tickets only
  ::SSL_CTX_set_num_tickets(context, 1);
  ::SSL_CTX_set_timeout(context, client_ca ? verified_ticket_lifetime : ticket_lifetime);
}

bool is_numeric_address(const std::string& host) {
  unsigned char scratch[16];
  return ::inet_pton(AF_INET, host.c_str(), scratch) == 1 || ::inet_pton(AF_INET6, host.c_str(), scratch) == 1;
}

}  // namespace

Result<std::shared_ptr<TlsContext>> TlsContext::server(const ServerOptions& options) {
  std::shared_ptr<TlsContext> made(new TlsContext(::SSL_CTX_new(::TLS_server_method())));
  SSL_CTX* context = made->get();
  set_common_options(context);
  ::SSL_CTX_set_min_proto_version(context, options.min_version == "1.3" ? TLS1_3_VERSION : TLS1_2_VERSION);
  if (Result<void> pair = load_pair(context, options.certificate, options.private_key); !pair)
    return std::unexpected(pair.error());
  ::SSL_CTX_set_options(context, SSL_OP_CIPHER_SERVER_PREFERENCE);
  Result<std::string> digest =
      digest_of(options.min_version + (options.require_client_certificate ? "certificate" : ""),
                {options.certificate, options.client_ca});
  if (!digest) return std::unexpected(digest.error());
  made->digest_ = std::move(*digest);
  allow_resumption(context, made->digest_, !options.client_ca.empty());
  if (!options.client_ca.empty()) {
    if (::SSL_CTX_load_verify_locations(context, options.client_ca.c_str(), nullptr) != 1)
      return context_failed("client CA", options.client_ca);
    ::SSL_CTX_set_client_CA_list(context, ::SSL_load_client_CA_file(options.client_ca.c_str()));
    ::SSL_CTX_set_verify(
        context, SSL_VERIFY_PEER | (options.require_client_certificate ? SSL_VERIFY_FAIL_IF_NO_PEER_CERT : 0), nullptr);
  }
  return made;
}

Result<std::shared_ptr<TlsContext>> TlsContext::client(const ClientOptions& options) {
  std::shared_ptr<TlsContext> made(new TlsContext(::SSL_CTX_new(::TLS_client_method())));
  SSL_CTX* context = made->get();
  set_common_options(context);
  ::SSL_CTX_set_min_proto_version(context, TLS1_2_VERSION);
  if (!options.certificate.empty()) {
    if (Result<void> pair = load_pair(context, options.certificate, options.private_key); !pair)
      return std::unexpected(pair.error());
  }
  if (options.verify_chain) {
    const int loaded = options.ca.empty() ? ::SSL_CTX_set_default_verify_paths(context)
                                          : ::SSL_CTX_load_verify_locations(context, options.ca.c_str(), nullptr);
    if (loaded != 1) return context_failed("CA", options.ca);
    ::SSL_CTX_set_verify(context, SSL_VERIFY_PEER, nullptr);
  }
  Result<std::string> digest =
      digest_of(options.verify_chain ? "verify" : "",
                {options.certificate, options.private_key, options.verify_chain ? options.ca : ""});
  if (!digest) return std::unexpected(digest.error());
  made->digest_ = std::move(*digest);
  return made;
}

TlsSession::TlsSession(SSL* ssl, bool server) : ssl_(ssl, &SSL_free), server_(server) {
  BIO* bio = ::BIO_new(method());
  ::BIO_set_data(bio, this);
  ::BIO_set_init(bio, 1);
  ::SSL_set_bio(ssl, bio, bio);
}

std::unique_ptr<TlsSession> TlsSession::accept(const TlsContext& context) {
  std::unique_ptr<TlsSession> session(new TlsSession(::SSL_new(context.get()), true));
  ::SSL_set_accept_state(session->ssl_.get());
  return session;
}

std::unique_ptr<TlsSession> TlsSession::connect(const TlsContext& context, const std::string& host, bool verify_host) {
  std::unique_ptr<TlsSession> session(new TlsSession(::SSL_new(context.get()), false));
  SSL* ssl = session->ssl_.get();
  ::SSL_set_connect_state(ssl);
  const bool numeric = is_numeric_address(host);
  if (!numeric && !host.starts_with('/')) ::SSL_set_tlsext_host_name(ssl, host.c_str());
  if (verify_host) {
    X509_VERIFY_PARAM* parameters = ::SSL_get0_param(ssl);
    if (numeric)
      ::X509_VERIFY_PARAM_set1_ip_asc(parameters, host.c_str());
    else
      ::X509_VERIFY_PARAM_set1_host(parameters, host.c_str(), host.size());
  }
  return session;
}

TlsSession::Status TlsSession::translate(int result) {
  switch (::SSL_get_error(ssl_.get(), result)) {
    case SSL_ERROR_NONE:
      return Status::ok;
    case SSL_ERROR_WANT_READ:
      return Status::want_read;
    case SSL_ERROR_ZERO_RETURN:
      return Status::closed;
    default:
      break;
  }
  const long verify = ::SSL_get_verify_result(ssl_.get());
  error_ = verify != X509_V_OK ? ::X509_verify_cert_error_string(verify) : last_error();
  ::ERR_clear_error();
  return Status::failed;
}

TlsSession::Status TlsSession::handshake() {
  ::ERR_clear_error();
  const int result = ::SSL_do_handshake(ssl_.get());
  if (result != 1) return translate(result);
  if (server_ && !done_ && peer_has_expired()) {
    error_ = "the client's certificate has expired since the session was made";
    return Status::failed;
  }
  done_ = true;
  return Status::ok;
}

// A session that is resumed has the client's certificate in it and does not look at it again.
bool TlsSession::peer_has_expired() const {
  X509* certificate = ::SSL_get0_peer_certificate(ssl_.get());
  return certificate != nullptr && ::SSL_session_reused(ssl_.get()) == 1 &&
         ::X509_cmp_current_time(::X509_get0_notAfter(certificate)) <= 0;
}

TlsSession::Status TlsSession::read(std::span<char> into, std::size_t& n) {
  ::ERR_clear_error();
  n = 0;
  const int result = ::SSL_read_ex(ssl_.get(), into.data(), into.size(), &n);
  return result == 1 ? Status::ok : translate(result);
}

TlsSession::Status TlsSession::write(std::string_view plaintext) {
  while (!plaintext.empty()) {
    ::ERR_clear_error();
    std::size_t n = 0;
    const int result = ::SSL_write_ex(ssl_.get(), plaintext.data(), plaintext.size(), &n);
    if (result != 1) return translate(result);
    plaintext.remove_prefix(n);
  }
  return Status::ok;
}

void TlsSession::shutdown() {
  if (done_) ::SSL_shutdown(ssl_.get());
  ::ERR_clear_error();
}

std::string TlsSession::channel_binding() const {
  X509* certificate = server_ ? ::SSL_get_certificate(ssl_.get()) : ::SSL_get0_peer_certificate(ssl_.get());
  if (certificate == nullptr) return {};
  int digest = NID_undef;
  if (::OBJ_find_sigid_algs(::X509_get_signature_nid(certificate), &digest, nullptr) != 1) return {};
  // RFC 5929: MD5 and SHA-1 are replaced by SHA-256; so is "no digest" (Ed25519) in PostgreSQL's view: unsupported.
  const EVP_MD* method = digest == NID_md5 || digest == NID_sha1 ? ::EVP_sha256() : ::EVP_get_digestbynid(digest);
  unsigned char hash[EVP_MAX_MD_SIZE];
  unsigned int size = 0;
  if (method == nullptr || ::X509_digest(certificate, method, hash, &size) != 1) return {};
  return {reinterpret_cast<const char*>(hash), size};
}

std::string TlsSession::peer_common_name() const {
  X509* certificate = ::SSL_get0_peer_certificate(ssl_.get());
  if (certificate == nullptr || ::SSL_get_verify_result(ssl_.get()) != X509_V_OK) return {};
  X509_NAME* subject = ::X509_get_subject_name(certificate);
  const int index = ::X509_NAME_get_index_by_NID(subject, NID_commonName, -1);
  if (index < 0) return {};
  ASN1_STRING* value = ::X509_NAME_ENTRY_get_data(::X509_NAME_get_entry(subject, index));
  unsigned char* utf8 = nullptr;
  const int length = ::ASN1_STRING_to_UTF8(&utf8, value);
  if (length < 0) return {};
  std::string name(reinterpret_cast<char*>(utf8), static_cast<std::size_t>(length));
  ::OPENSSL_free(utf8);
  // An embedded zero byte is an attempt to look like a shorter name (CVE-2009-4034).
  return name.find('\0') == std::string::npos ? name : std::string{};
}

std::string TlsSession::description() const {
  return fmt::format("{} {}", ::SSL_get_version(ssl_.get()), ::SSL_get_cipher_name(ssl_.get()));
}

BIO_METHOD* TlsSession::method() {
  static BIO_METHOD* const made = [] {
    BIO_METHOD* m = ::BIO_meth_new(::BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "tessera window");
    ::BIO_meth_set_read(m, &TlsSession::bio_read);
    ::BIO_meth_set_write(m, &TlsSession::bio_write);
    ::BIO_meth_set_ctrl(m, &TlsSession::bio_control);
    return m;
  }();
  return made;
}

int TlsSession::bio_read(BIO* bio, char* into, int size) {
  auto* self = static_cast<TlsSession*>(::BIO_get_data(bio));
  ::BIO_clear_retry_flags(bio);
  const std::size_t n = std::min(self->window_.size(), static_cast<std::size_t>(size));
  if (n == 0) {
    ::BIO_set_retry_read(bio);
    return -1;
  }
  std::memcpy(into, self->window_.data(), n);
  self->window_.remove_prefix(n);
  return static_cast<int>(n);
}

int TlsSession::bio_write(BIO* bio, const char* from, int size) {
  auto* self = static_cast<TlsSession*>(::BIO_get_data(bio));
  self->output_.append(from, static_cast<std::size_t>(size));
  return size;
}

long TlsSession::bio_control(BIO*, int command, long, void*) {
  return command == BIO_CTRL_FLUSH ? 1 : 0;
}

}  // namespace tessera::net
