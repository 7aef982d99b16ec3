// The OpenAPI 3 document of the admin endpoint, made from its route table. `x-tessera-access` says who may use a route.
#pragma once

#include <nlohmann/json.hpp>
#include <span>

namespace tessera::admin {

struct Route;
nlohmann::ordered_json openapi_document(std::span<const Route> routes);

}  // namespace tessera::admin
