// The admin endpoint's sockets: HTTP/1.1 by Boost.Beast on one thread of its own, plain or TLS. Bounded in everything:
// 64 connections (one more takes the place of the one that has been idle or slow for longest), headers of 8 kB, bodies
// of 1 MB, 15 s to send a request, a deadline for each answer. Knows nothing of routes and tokens.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <string>

#include "admin/http.hpp"
#include "base/error.hpp"
#include "config/config.hpp"

namespace tessera::admin {

class HttpServer {
public:
  static constexpr int max_connections = 64;
  static constexpr std::size_t max_header = 8 * 1024;
  static constexpr std::size_t max_body = 1024 * 1024;
  static constexpr std::chrono::seconds request_timeout{15};

  // Begins to answer a request, on the server's thread, without blocking, and says how long the answer may take; when
  // that has passed the client is told 503.
  using Handler = std::function<std::chrono::milliseconds(HttpRequest request, Reply reply)>;

  // Binds and starts the thread. Errors name the address or the file. Resolves a host name: may block.
  static Result<std::unique_ptr<HttpServer>> start(const config::Admin& settings, Handler handler);
  // Closes all connections and ends the thread. Replies that come later go nowhere.
  ~HttpServer();

  // Reads certificate and key again, for connections to come. On an error the old ones stay. Any thread.
  int listening() const;  // its socket
  Result<void> reload_certificate(const config::Admin& settings);

private:
  class Running;
  explicit HttpServer(std::unique_ptr<Running> running);
  std::unique_ptr<Running> running_;
};

}  // namespace tessera::admin
