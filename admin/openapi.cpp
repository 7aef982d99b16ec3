#include "admin/openapi.hpp"

#include <string>

#include "admin/routes.hpp"
#include "proxy/version.hpp"

namespace tessera::admin {

namespace {

using nlohmann::ordered_json;

std::string access_word(Access access) {
  switch (access) {
    case Access::everyone:
      return "everyone";
    case Access::viewer_or_loopback:
      return "viewer_or_loopback";
    case Access::viewer:
      return "viewer";
    case Access::operator_:
      return "operator";
    case Access::admin:
      return "admin";
  }
  return "nobody";
}

ordered_json operation(const Route& route) {
  const bool json = route.path.starts_with("/v1/") || route.path == "/healthz" || route.path == "/readyz";
  ordered_json responses = {{"200", {{"description", "well"}}}};
  if (json) responses["200"]["content"]["application/json"] = {{"schema", {{"type", "object"}}}};
  if (route.path == "/readyz") responses["503"] = {{"description", "not ready; the reasons"}};
  if (route.method == "POST") responses["422"] = {{"description", "refused; the problems, and nothing changed"}};
  if (route.access != Access::everyone) {
    responses["401"] = {{"description", "no token, or an unknown one"}};
    responses["403"] = {{"description", "the token's role is too low"}};
  }
  ordered_json out = {{"summary", route.summary}, {"x-tessera-access", access_word(route.access)}};
  if (route.access != Access::everyone) out["security"] = ordered_json::array({{{"token", ordered_json::array()}}});
  if (route.path == "/v1/sessions" || route.path == "/v1/statements") {
    out["parameters"] = ordered_json::array(
        {{{"name", "database"}, {"in", "query"}, {"schema", {{"type", "string"}}}},
         {{"name", "limit"},
          {"in", "query"},
          {"schema", {{"type", "integer"}, {"minimum", 1}, {"maximum", 100000}, {"default", 1000}}}}});
  }
  if (route.path == "/v1/events")
    out["parameters"] = ordered_json::array(
        {{{"name", "after"}, {"in", "query"}, {"schema", {{"type", "integer"}, {"minimum", 0}, {"default", 0}}}}});
  out["responses"] = std::move(responses);
  return out;
}

}  // namespace

ordered_json openapi_document(std::span<const Route> routes) {
  ordered_json paths = ordered_json::object();
  for (const Route& route : routes)
    paths[std::string(route.path)][route.method == "POST" ? "post" : "get"] = operation(route);
  return {{"openapi", "3.0.3"},
          {"info", {{"title", "Tessera admin endpoint"}, {"version", std::string(proxy::version)}}},
          {"components", {{"securitySchemes", {{"token", {{"type", "http"}, {"scheme", "bearer"}}}}}}},
          {"paths", std::move(paths)}};
}

}  // namespace tessera::admin
