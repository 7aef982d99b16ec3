#include "admin/http_server.hpp"

#include <algorithm>
#include <fmt/format.h>
#include <mutex>
#include <optional>
#include <thread>

#include "admin/http_connection.hpp"
#include "net/socket.hpp"
#include "proxy/log.hpp"

namespace tessera::admin {

namespace log = proxy::log;
using PlainStream = beast::tcp_stream;
using TlsStream = beast::ssl_stream<beast::tcp_stream>;

namespace {

// A target in absolute form, as clients of proxies write it and every server must understand it (RFC 9112, 3.2.2): the
// host in it counts, not that of the header.
struct Target {
  std::string path;
  std::optional<std::string> host;
};
Target to_target(std::string_view text) {
  std::size_t scheme = 0;
  for (const std::string_view known : {"http://", "https://"})
    if (beast::iequals({text.data(), std::min(text.size(), known.size())}, {known.data(), known.size()}))
      scheme = known.size();
  if (scheme == 0) return {std::string(text), {}};
  const std::string_view rest = text.substr(scheme);
  const std::size_t end = std::min(rest.find_first_of("/?"), rest.size());
  const std::string_view path = rest.substr(end);
  return {path.starts_with('/') ? std::string(path) : fmt::format("/{}", path), std::string(rest.substr(0, end))};
}

}  // namespace

HttpRequest to_request(const http::request<http::string_body>& message, bool from_loopback) {
  HttpRequest request;
  request.method = to_std(message.method_string());
  Target target = to_target({message.target().data(), message.target().size()});
  request.target = std::move(target.path);
  request.body = message.body();
  request.from_loopback = from_loopback;
  for (const auto& field : message) {
    std::string name = to_std(field.name_string());
    for (char& c : name) c = static_cast<char>(c >= 'A' && c <= 'Z' ? c + 32 : c);
    const bool other_host = target.host && name == "host";
    request.headers.emplace_back(std::move(name), other_host ? *target.host : to_std(field.value()));
  }
  return request;
}

http::response<http::string_body> to_message(HttpResponse response, bool keep_alive, unsigned version, bool head) {
  http::response<http::string_body> message(static_cast<http::status>(response.status), version);
  message.set(http::field::content_type, response.content_type);
  message.set(http::field::cache_control, "no-store");
  message.set("X-Content-Type-Options", "nosniff");
  message.set("Referrer-Policy", "no-referrer");
  for (const auto& [name, value] : response.headers) message.set(name, value);
  message.keep_alive(keep_alive);
  message.content_length(response.body.size());
  if (!head) message.body() = std::move(response.body);
  return message;
}

HttpResponse answer_to_garbage(const beast::error_code& error) {
  if (error == http::error::header_limit || error == http::error::buffer_overflow)
    return error_response(431, "the request's header is too large");
  if (error == http::error::body_limit) return error_response(413, "the request's body is too large");
  const bool http_error = error.category() == http::make_error_code(http::error::bad_method).category();
  if (!http_error || error == http::error::end_of_stream || error == http::error::partial_message) return {0, {}};
  return error_response(400, fmt::format("not a valid HTTP request: {}", error.message()));
}

namespace {

std::string tls_reason(const beast::error_code& error, const std::string& file) {
  return fmt::format("cannot use \"{}\" for the admin endpoint: {}", file, error.message());
}

Result<std::shared_ptr<asio::ssl::context>> load_certificate(const config::Admin& settings) {
  auto context = std::make_shared<asio::ssl::context>(asio::ssl::context::tls_server);
  ::SSL_CTX_set_min_proto_version(context->native_handle(), TLS1_2_VERSION);
  beast::error_code error;
  if (context->use_certificate_chain_file(settings.certificate, error))
    return fail(sqlstate::config_file_error, tls_reason(error, settings.certificate));
  if (context->use_private_key_file(settings.private_key, asio::ssl::context::pem, error))
    return fail(sqlstate::config_file_error, tls_reason(error, settings.private_key));
  if (::SSL_CTX_check_private_key(context->native_handle()) != 1)
    return fail(sqlstate::config_file_error,
                fmt::format("the private key \"{}\" does not belong to the certificate \"{}\"", settings.private_key,
                            settings.certificate));
  return context;
}

}  // namespace

class HttpServer::Running {
public:
  explicit Running(Handler handler)
      : shared_(std::make_shared<HttpShared>()), acceptor_(shared_->io), pause_(shared_->io) {
    shared_->handler = std::move(handler);
  }

  ~Running() {
    if (!thread_.joinable()) return;
    shared_->io.stop();
    thread_.join();
  }

  Result<void> open(const config::Admin& settings) {
    if (Result<void> loaded = reload_certificate(settings); !loaded) return loaded;
    const Result<std::vector<net::SocketAddress>> addresses =
        net::resolve(settings.listen->host, settings.listen->port);
    if (!addresses) return std::unexpected(addresses.error());
    Result<net::Descriptor> socket = net::listen(addresses->front(), max_connections);
    if (!socket) {
      socket.error().hint = "admin.listen says where the admin endpoint listens";
      return std::unexpected(socket.error());
    }
    const bool v6 = addresses->front().storage.ss_family == AF_INET6;
    beast::error_code error;
    if (acceptor_.assign(v6 ? Tcp::v6() : Tcp::v4(), socket->get(), error))
      return fail(sqlstate::config_file_error,
                  fmt::format("cannot listen on {}: {}", settings.listen->text(), error.message()));
    (void)socket->release();  // the acceptor's now
    accept();
    thread_ = std::thread([this] { shared_->io.run(); });
    return {};
  }

  Result<void> reload_certificate(const config::Admin& settings) {
    std::shared_ptr<asio::ssl::context> made;
    if (!settings.certificate.empty()) {
      Result<std::shared_ptr<asio::ssl::context>> loaded = load_certificate(settings);
      if (!loaded) return std::unexpected(loaded.error());
      made = std::move(*loaded);
    }
    const std::scoped_lock lock(mutex_);
    tls_ = std::move(made);
    return {};
  }

  int listening() { return acceptor_.native_handle(); }

private:
  void accept() {
    acceptor_.async_accept([this](beast::error_code error, Tcp::socket socket) {
      if (error) return accept_later(error);
      if (make_room()) serve(std::move(socket));
      accept();
    });
  }

  // When all places are taken the peer that has been waited for longest loses its own: who is slow, or idle, keeps
  // nobody out. False: all are being answered.
  bool make_room() {
    if (shared_->connections < max_connections) return true;
    if (shared_->waiting.empty()) return false;
    shared_->waiting.front()->drop();
    return true;
  }

  // Out of descriptors, most likely: not in a loop as fast as the processor goes.
  void accept_later(const beast::error_code& error) {
    log::warn("admin endpoint: accept failed", {{"reason", error.message()}});
    pause_.expires_after(std::chrono::milliseconds(200));
    pause_.async_wait([this](beast::error_code cancelled) {
      if (!cancelled) accept();
    });
  }

  void serve(Tcp::socket socket) {
    std::shared_ptr<asio::ssl::context> tls;
    {
      const std::scoped_lock lock(mutex_);
      tls = tls_;
    }
    if (tls)
      std::make_shared<HttpConnection<TlsStream>>(shared_, std::move(socket), *tls)->start();
    else
      std::make_shared<HttpConnection<PlainStream>>(shared_, std::move(socket))->start();
  }

  std::shared_ptr<HttpShared> shared_;
  Tcp::acceptor acceptor_;
  asio::steady_timer pause_;
  std::mutex mutex_;  // guards tls_
  std::shared_ptr<asio::ssl::context> tls_;
  std::thread thread_;
};

HttpServer::HttpServer(std::unique_ptr<Running> running) : running_(std::move(running)) {}
HttpServer::~HttpServer() = default;

Result<std::unique_ptr<HttpServer>> HttpServer::start(const config::Admin& settings, Handler handler) {
  auto running = std::make_unique<Running>(std::move(handler));
  if (Result<void> opened = running->open(settings); !opened) return std::unexpected(opened.error());
  return std::unique_ptr<HttpServer>(new HttpServer(std::move(running)));
}

int HttpServer::listening() const {
  return running_->listening();
}

Result<void> HttpServer::reload_certificate(const config::Admin& settings) {
  return running_->reload_certificate(settings);
}

}  // namespace tessera::admin
