// Who may ask what of the admin endpoint. Pure: a request and the configuration in, a refusal or nothing out. Guards
// against forged framing (doubled lengths), names that lead here by DNS rebinding (Host), pages of other sites
// (Origin), and strangers (tokens).
#pragma once

#include <optional>
#include <string_view>

#include "admin/http.hpp"
#include "config/config.hpp"

namespace tessera::admin {

// Who may use a route.
enum class Access {
  everyone,            // static files that hold no facts
  viewer_or_loopback,  // health and metrics: from this machine without a token
  viewer,
  operator_,
  admin,
};
std::string_view access_name(Access access);

// Framing, Host and Origin: nothing, or the refusal.
std::optional<HttpResponse> check_request(const HttpRequest& request, const config::Admin& settings);
// The bearer token and its role: nothing, or 401/403. Without any token in the configuration (only allowed on loopback)
// a local caller has all roles. Takes the same time for every wrong token of a length.
std::optional<HttpResponse> check_access(const HttpRequest& request, Access access, const config::Admin& settings);
// JSON only, and a body only where one is expected.
std::optional<HttpResponse> check_body(const HttpRequest& request);

}  // namespace tessera::admin
