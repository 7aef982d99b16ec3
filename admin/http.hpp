// A request to the admin endpoint and its answer as plain values: what the gate, the routes and their tests work with.
// The sockets are in http_server.hpp.
#pragma once

#include <algorithm>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace tessera::admin {

struct HttpRequest {
  std::string method;                                        // as sent: "GET"
  std::string target;                                        // as sent: path and query
  std::vector<std::pair<std::string, std::string>> headers;  // names in lower case, in their order, doubled ones too
  std::string body;
  bool from_loopback = false;

  std::size_t count(std::string_view name) const {
    return static_cast<std::size_t>(
        std::count_if(headers.begin(), headers.end(), [&](const auto& one) { return one.first == name; }));
  }
  // The first of that name.
  std::optional<std::string_view> header(std::string_view name) const {
    for (const auto& [key, value] : headers)
      if (key == name) return value;
    return {};
  }
  std::string_view path() const { return std::string_view(target).substr(0, target.find('?')); }
  // A parameter of the query, percent-decoded; nothing if it is absent or badly encoded.
  std::optional<std::string> parameter(std::string_view name) const;
};

struct HttpResponse {
  unsigned status = 200;
  std::string body;
  std::string content_type = "application/json";
  std::vector<std::pair<std::string, std::string>> headers = {};
};

// {"error": message}
HttpResponse error_response(unsigned status, std::string_view message);

// Gives the answer, from any thread; later calls and answers that come too late are ignored.
using Reply = std::function<void(HttpResponse)>;

}  // namespace tessera::admin
