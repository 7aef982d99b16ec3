#include "admin/facts_json.hpp"

#include <fmt/format.h>

#include "admin/ids.hpp"
#include "config/load.hpp"
#include "proxy/server.hpp"
#include "proxy/version.hpp"

namespace tessera::admin {

namespace {

using nlohmann::ordered_json;
using proxy::Facts;

double seconds(Duration time) {
  return std::chrono::duration<double>(time).count();
}

ordered_json shard_json(const Facts& facts, const proxy::DatabaseRuntime& database, std::size_t index) {
  const config::Shard& shard = database.settings->shards[index];
  const proxy::ShardHealth health = proxy::health_of(facts, database.settings->name, shard.name);
  ordered_json replicas = ordered_json::array();
  for (const config::Replica& replica : shard.replicas)
    replicas.push_back({{"address", replica.address.text()}, {"zone", replica.zone}, {"weight", replica.weight}});
  ordered_json out = {{"database", database.settings->name},
                      {"shard", shard.name},
                      {"primary", shard.primary.text()},
                      {"addresses", proxy::address_texts(*database.primaries[index])},
                      {"dbname", database.primaries[index]->database},
                      {"replicas", std::move(replicas)},
                      {"healthy", health.healthy},
                      {"connections", health.connections},
                      {"last_error", health.last_error}};
  const auto counters = facts.databases.find(database.settings->name);
  if (counters == facts.databases.end() || index >= counters->second.shards.size()) return out;
  ordered_json statements = ordered_json::object();
  for (std::size_t i = 0; i < proxy::statement_classes; ++i)
    statements[proxy::statement_class_names[i]] = counters->second.shards[index].statements[i];
  out["statements"] = std::move(statements);
  return out;
}

// What the configuration says of a table, and what the servers' catalog adds, if it has been read.
ordered_json table_json(const config::Database& database, const config::Table& table,
                        const proxy::RoutingRef& routing) {
  ordered_json out = {{"database", database.name},
                      {"schema", table.schema},
                      {"table", table.name},
                      {"kind", table.reference      ? "reference"
                               : table.rule.empty() ? "plain"
                                                    : "sharded"}};
  if (!table.rule.empty()) {
    out["rule"] = table.rule;
    out["key"] = table.key;
  }
  if (!table.shard.empty()) out["shard"] = table.shard;
  if (!routing) return out;
  const router::TableRouting* found = routing->topology->find_table(table.schema, table.name);
  if (found != nullptr && found->kind == router::TableRouting::Kind::sharded)
    out["routable"] = !found->key_types.empty();
  return out;
}

// Rules as the configuration describes them (config::describe holds each one's settings).
ordered_json described_rules(const ordered_json& config, const std::string& database) {
  const auto pointer = ordered_json::json_pointer("/databases") / database / "rules";
  return config.contains(pointer) ? config.at(pointer) : ordered_json::object();
}

ordered_json described(const proxy::Server& server) {
  ordered_json config = ordered_json::parse(config::describe(*server.runtime()->config), nullptr, false);
  return config.is_discarded() ? ordered_json::object() : config;
}

}  // namespace

ordered_json readiness(const Facts& facts, const proxy::Server& server) {
  ordered_json databases = ordered_json::object(), reasons = ordered_json::array();
  const auto runtime = server.runtime();
  for (const auto& [name, database] : runtime->databases) {
    const auto found = facts.databases.find(name);
    const std::string problem = found == facts.databases.end() ? "" : found->second.problem;
    if (!problem.empty()) reasons.push_back(fmt::format("database \"{}\": {}", name, problem));
    ordered_json shards = ordered_json::array();
    for (const config::Shard& shard : database->settings->shards)
      shards.push_back({{"shard", shard.name}, {"healthy", proxy::health_of(facts, name, shard.name).healthy}});
    databases[name] = {{"shards", std::move(shards)}, {"problem", problem}};
  }
  const bool ready = reasons.empty();
  ordered_json out = {{"ready", ready}, {"databases", std::move(databases)}};
  if (!ready) out["reasons"] = std::move(reasons);
  return out;
}

ordered_json databases_json(const Facts& facts, const proxy::Server& server) {
  ordered_json list = ordered_json::array();
  const auto runtime = server.runtime();
  for (const auto& [name, database] : runtime->databases) {
    const config::Database& settings = *database->settings;
    ordered_json shards = ordered_json::array();
    for (const config::Shard& shard : settings.shards) shards.push_back(shard.name);
    ordered_json one = {{"database", name},
                        {"engine", settings.mysql ? "mysql" : "postgres"},
                        {"shards", std::move(shards)},
                        {"default_shard", settings.default_shard},
                        {"catalog_loaded", server.routing(name) != nullptr}};
    if (const auto found = facts.databases.find(name); found != facts.databases.end()) {
      const proxy::DatabaseFacts& counted = found->second;
      one["paused"] = counted.paused;
      one["problem"] = counted.problem;
      one["clients"] = counted.clients;
      one["logins"] = counted.logins;
      one["login_failures"] = counted.login_failures;
      one["cancels"] = counted.cancels;
      one["statements"] = {{"routed", counted.statements()},
                           {"scattered", counted.scattered},
                           {"local", counted.local},
                           {"refused", counted.refused}};
      one["plan_cache"] = {
          {"hits", counted.cache_hits}, {"misses", counted.cache_misses}, {"entries", counted.cache_entries}};
      one["errors"] = counted.errors;
      one["bytes"] = {{"from_clients", counted.bytes_in}, {"to_clients", counted.bytes_out}};
    }
    list.push_back(std::move(one));
  }
  return {{"databases", std::move(list)}};
}

ordered_json shards_json(const Facts& facts, const proxy::Server& server) {
  ordered_json list = ordered_json::array();
  const auto runtime = server.runtime();
  for (const auto& [name, database] : runtime->databases)
    for (std::size_t i = 0; i < database->settings->shards.size(); ++i) list.push_back(shard_json(facts, *database, i));
  return {{"shards", std::move(list)}};
}

ordered_json pools_json(const Facts& facts) {
  ordered_json list = ordered_json::array();
  for (const auto& [key, pool] : facts.pools) {
    ordered_json connections = ordered_json::array();
    for (const proxy::ConnectionFacts& one : pool.connections)
      connections.push_back({{"id", one.id},
                             {"worker", one.worker},
                             {"state", one.state},
                             {"address", one.address},
                             {"pid", one.pid},
                             {"tls", one.tls},
                             {"age", seconds(one.age)},
                             {"idle_for", seconds(one.idle_for)}});
    list.push_back({{"database", pool.database},
                    {"user", pool.user},
                    {"shard", pool.shard},
                    {"primary", pool.primary},
                    {"idle", pool.counts.idle},
                    {"busy", pool.counts.busy},
                    {"connecting", pool.counts.connecting},
                    {"waiting", pool.counts.waiting},
                    {"open", pool.open},
                    {"limit", pool.limit},
                    {"paused", pool.paused},
                    {"longest_wait", seconds(pool.longest_wait)},
                    {"checkouts", pool.totals.checkouts},
                    {"waits", pool.totals.waits},
                    {"wait_seconds", static_cast<double>(pool.totals.wait_ns) / 1e9},
                    {"checkout_timeouts", pool.totals.timeouts},
                    {"connects", pool.totals.connects},
                    {"connect_failures", pool.totals.connect_failures},
                    {"last_error", pool.last_error},
                    {"connections", std::move(connections)}});
  }
  return {{"pools", std::move(list)}};
}

ordered_json statements_json(const Facts& facts, std::size_t limit) {
  ordered_json list = ordered_json::array();
  for (const proxy::StatementFacts* one : proxy::by_time(facts)) {
    if (list.size() >= limit) break;
    const auto timed = [&](std::uint64_t us) { return one->timed == 0 ? ordered_json(nullptr) : ordered_json(us); };
    list.push_back({{"database", one->database},
                    {"statement", one->text},
                    {"calls", one->calls},
                    {"errors", one->errors},
                    {"rows", one->rows},
                    {"total_us", one->total_us},
                    {"min_us", timed(one->min_us)},
                    {"max_us", timed(one->max_us)},
                    {"shards", one->shards}});
  }
  const bool truncated = list.size() < facts.statements.size();
  return {{"total", facts.statements.size()}, {"truncated", truncated}, {"statements", std::move(list)}};
}

ordered_json events_json(const std::vector<proxy::Event>& events) {
  ordered_json list = ordered_json::array();
  for (const proxy::Event& event : events) {
    ordered_json fields = ordered_json::object();
    for (const auto& [name, value] : event.fields) fields[name] = value;
    const auto ms = std::chrono::duration_cast<std::chrono::milliseconds>(event.time.time_since_epoch()).count();
    list.push_back({{"id", event.id},
                    {"time", ids::time_text(ms)},
                    {"severity", event.severity},
                    {"text", event.text},
                    {"fields", std::move(fields)}});
  }
  return {{"events", std::move(list)}};
}

ordered_json sessions_json(const Facts& facts, std::size_t limit) {
  ordered_json list = ordered_json::array();
  for (const proxy::SessionFacts& one : facts.sessions) {
    if (list.size() >= limit) break;
    list.push_back({{"id", one.id},
                    {"worker", one.worker},
                    {"database", one.database},
                    {"user", one.user},
                    {"address", one.address},
                    {"application_name", one.application_name},
                    {"state", one.state},
                    {"shard", one.shard},
                    {"pinned", one.pins},
                    {"age", seconds(one.age)},
                    {"request_age", seconds(one.request_age)},
                    {"statements", one.statements},
                    {"tls", one.tls}});
  }
  const bool truncated = list.size() < facts.sessions_total;
  return {{"total", facts.sessions_total}, {"truncated", truncated}, {"sessions", std::move(list)}};
}

ordered_json tables_json(const proxy::Server& server) {
  ordered_json list = ordered_json::array();
  const auto runtime = server.runtime();
  for (const auto& [name, database] : runtime->databases) {
    const proxy::RoutingRef routing = server.routing(name);
    for (const config::Table& table : database->settings->tables)
      list.push_back(table_json(*database->settings, table, routing));
  }
  return {{"tables", std::move(list)}};
}

ordered_json rules_json(const proxy::Server& server) {
  ordered_json list = ordered_json::array();
  const ordered_json config = described(server);
  const auto runtime = server.runtime();
  for (const auto& [name, database] : runtime->databases) {
    const ordered_json rules = described_rules(config, name);
    for (const auto& [rule, settings] : rules.items())
      list.push_back({{"database", name}, {"rule", rule}, {"settings", settings}});
  }
  return {{"rules", std::move(list)}};
}

ordered_json topology_json(const proxy::Server& server) {
  ordered_json databases = ordered_json::array();
  const ordered_json config = described(server);
  const auto runtime = server.runtime();
  for (const auto& [name, database] : runtime->databases) {
    const proxy::RoutingRef routing = server.routing(name);
    ordered_json shards = ordered_json::array(), tables = ordered_json::array();
    for (const config::Shard& shard : database->settings->shards)
      shards.push_back({{"shard", shard.name}, {"primary", shard.primary.text()}});
    for (const config::Table& table : database->settings->tables)
      tables.push_back(table_json(*database->settings, table, routing));
    databases.push_back({{"database", name},
                         {"version", routing ? ordered_json(routing->version) : ordered_json(nullptr)},
                         {"shards", std::move(shards)},
                         {"rules", described_rules(config, name)},
                         {"tables", std::move(tables)}});
  }
  return {{"databases", std::move(databases)}};
}

}  // namespace tessera::admin
