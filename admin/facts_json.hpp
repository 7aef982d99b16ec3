// The facts of proxy/facts.hpp, and the configuration's shape, as the JSON of the admin endpoint. Pure. No secret is
// among them.
#pragma once

#include <nlohmann/json.hpp>
#include <vector>

#include "proxy/events.hpp"
#include "proxy/facts.hpp"

namespace tessera::admin {

nlohmann::ordered_json readiness(const proxy::Facts& facts, const proxy::Server& server);
nlohmann::ordered_json databases_json(const proxy::Facts& facts, const proxy::Server& server);
nlohmann::ordered_json shards_json(const proxy::Facts& facts, const proxy::Server& server);
nlohmann::ordered_json pools_json(const proxy::Facts& facts);
nlohmann::ordered_json events_json(const std::vector<proxy::Event>& events);
// At most `limit` of them; "total" counts all.
nlohmann::ordered_json statements_json(const proxy::Facts& facts, std::size_t limit);
nlohmann::ordered_json sessions_json(const proxy::Facts& facts, std::size_t limit);
nlohmann::ordered_json tables_json(const proxy::Server& server);
nlohmann::ordered_json rules_json(const proxy::Server& server);
nlohmann::ordered_json topology_json(const proxy::Server& server);

}  // namespace tessera::admin
