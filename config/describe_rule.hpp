// A rule as JSON, under the keys of its kind. Internal to `describe`.
#pragma once

#include <nlohmann/json.hpp>

#include "config/config.hpp"

namespace tessera::config {

using Json = nlohmann::ordered_json;
// Filled with emplace_back: the names are known to be different, and a look-up for each would take quadratic time.
using JsonObject = Json::object_t;

Json describe_rule(const Rule& rule);

}  // namespace tessera::config
