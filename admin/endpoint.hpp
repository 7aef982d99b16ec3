// The admin endpoint of a running server: sockets (http_server.hpp) and routes (routes.hpp) put together. Tokens and
// allowed hosts are those of the configuration in force at each request; the certificate is read anew after each
// reload.
#pragma once

#include <memory>

#include "admin/http_server.hpp"

namespace tessera::proxy {
class Server;
}

namespace tessera::admin {

class Endpoint {
public:
  // Listens on admin.listen, or nowhere if there is none. The server must outlive it, workers included.
  static Result<std::unique_ptr<Endpoint>> start(proxy::Server& server);
  ~Endpoint();
  // The socket that it listens on; -1: none.
  int listening() const;
  Endpoint(const Endpoint&) = delete;
  Endpoint& operator=(const Endpoint&) = delete;

private:
  Endpoint(proxy::Server& server, std::unique_ptr<HttpServer> http);
  proxy::Server& server_;
  std::unique_ptr<HttpServer> http_;  // may be null
};

}  // namespace tessera::admin
