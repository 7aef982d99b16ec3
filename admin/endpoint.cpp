#include "admin/endpoint.hpp"

#include "admin/routes.hpp"
#include "proxy/log.hpp"
#include "proxy/server.hpp"

namespace tessera::admin {

Result<std::unique_ptr<Endpoint>> Endpoint::start(proxy::Server& server) {
  const auto runtime = server.runtime();
  const config::Admin& settings = runtime->config->admin;
  if (!settings.listen) return std::unique_ptr<Endpoint>(new Endpoint(server, nullptr));
  Result<std::unique_ptr<HttpServer>> http = HttpServer::start(settings, [&server](HttpRequest request, Reply reply) {
    return dispatch(server, std::move(request), std::move(reply));
  });
  if (!http) return std::unexpected(http.error());
  return std::unique_ptr<Endpoint>(new Endpoint(server, std::move(*http)));
}

Endpoint::Endpoint(proxy::Server& server, std::unique_ptr<HttpServer> http) : server_(server), http_(std::move(http)) {
  if (!http_) return;
  server_.on_reload([raw = http_.get()](const config::Config& config) {
    if (const Result<void> loaded = raw->reload_certificate(config.admin); !loaded)
      proxy::log::error("the admin endpoint's certificate was not renewed, the old one stays",
                        {{"reason", loaded.error().message}});
  });
}

int Endpoint::listening() const {
  return http_ ? http_->listening() : -1;
}

Endpoint::~Endpoint() {
  server_.on_reload({});
}

}  // namespace tessera::admin
