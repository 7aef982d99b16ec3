// TLS on OpenSSL, sans-IO: a `TlsSession` is fed ciphertext and gives plaintext, and the other way round; it owns no
// socket. `TlsContext` is made once per configuration and shared by all threads (OpenSSL counts its references).
//
// Clients may resume sessions, by tickets: nothing is kept here for them. The tickets' keys live and end with their
// context, so that a reload ends all of them, and a ticket holds the client's certificate as it was verified.
#pragma once

#include <memory>
#include <openssl/ssl.h>
#include <span>
#include <string>
#include <string_view>

#include "base/error.hpp"

namespace tessera::net {

class TlsContext {
public:
  struct ServerOptions {
    std::string certificate, private_key;  // PEM files
    std::string client_ca;                 // empty: client certificates are not asked for
    bool require_client_certificate = false;
    std::string min_version = "1.2";
  };
  struct ClientOptions {
    bool verify_chain = false;
    std::string ca;                        // empty: the system's
    std::string certificate, private_key;  // may be empty
  };
  static Result<std::shared_ptr<TlsContext>> server(const ServerOptions& options);
  static Result<std::shared_ptr<TlsContext>> client(const ClientOptions& options);
  SSL_CTX* get() const { return context_.get(); }
  // Of the options and what their files hold: contexts with the same digest are as good as each other.
  const std::string& digest() const { return digest_; }

private:
  explicit TlsContext(SSL_CTX* context) : context_(context, &SSL_CTX_free) {}
  std::string digest_;
  std::unique_ptr<SSL_CTX, decltype(&SSL_CTX_free)> context_;
};

class TlsSession {
public:
  enum class Status { ok, want_read, closed, failed };

  static std::unique_ptr<TlsSession> accept(const TlsContext& context);
  // `verify_host`: the name that the certificate must carry; empty: not checked. Also sent as SNI when it is a name.
  static std::unique_ptr<TlsSession> connect(const TlsContext& context, const std::string& host, bool verify_host);

  // Hands over bytes from the socket; they must live until the following calls to handshake()/read() said want_read.
  void feed(std::string_view ciphertext) { window_ = ciphertext; }
  std::string_view unread() const { return window_; }
  Status handshake();
  bool handshake_done() const { return done_; }
  bool resumed() const { return done_ && ::SSL_session_reused(ssl_.get()) == 1; }
  // Decrypts into `into`. ok: `n` bytes are there, call again; want_read: all that was fed is used up.
  Status read(std::span<char> into, std::size_t& n);
  Status write(std::string_view plaintext);
  void shutdown();
  // Ciphertext to be sent; the caller takes what it wrote out of it.
  std::string& output() { return output_; }

  std::string error() const { return error_; }
  // tls-server-end-point channel binding data (RFC 5929) of the server's certificate: ours for accepted sessions, the
  // peer's for connected ones. Empty when there is none.
  std::string channel_binding() const;
  // Common name of the peer's verified certificate; empty: none.
  std::string peer_common_name() const;
  std::string description() const;  // "TLSv1.3 TLS_AES_256_GCM_SHA384"
  SSL* get() const { return ssl_.get(); }

private:
  explicit TlsSession(SSL* ssl, bool server);
  Status translate(int result);
  bool peer_has_expired() const;
  static int bio_read(BIO* bio, char* into, int size);
  static int bio_write(BIO* bio, const char* from, int size);
  static long bio_control(BIO* bio, int command, long, void*);
  static BIO_METHOD* method();

  std::unique_ptr<SSL, decltype(&SSL_free)> ssl_;
  bool server_;
  bool done_ = false;
  std::string_view window_;
  std::string output_;
  std::string error_;
};

}  // namespace tessera::net
