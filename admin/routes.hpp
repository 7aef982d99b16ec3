// The admin endpoint's routes: one table says for each what it is, who may use it and what answers it. Dispatching, the
// OpenAPI document and the test of every route with every role are made from it.
#pragma once

#include <chrono>
#include <span>
#include <string_view>

#include "admin/gate.hpp"
#include "admin/http.hpp"

namespace tessera::proxy {
class Server;
}

namespace tessera::admin {

// A request under way. `reply` may be called later, from any thread.
struct Exchange {
  proxy::Server& server;
  HttpRequest request;
  Reply reply;
};

struct Route {
  std::string_view method;  // GET (which answers HEAD too) or POST
  std::string_view path;
  Access access;
  void (*handle)(Exchange exchange);
  std::string_view summary;
  std::chrono::milliseconds time_limit{2'000};  // for the answer
};

std::span<const Route> routes();

// Checks the request and hands it to its route; says how long the answer may take. Does not block.
std::chrono::milliseconds dispatch(proxy::Server& server, HttpRequest request, Reply reply);

}  // namespace tessera::admin
