#include "proxy/console_views_tessera.hpp"

#include <algorithm>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <nlohmann/json.hpp>

#include "config/keys.hpp"
#include "config/load.hpp"
#include "proxy/console_commands.hpp"
#include "proxy/restart_keys.hpp"
#include "proxy/server.hpp"
#include "proxy/version.hpp"

namespace tessera::proxy {

namespace {

std::string seconds(Duration time) {
  return fmt::format("{:.3f}", std::chrono::duration<double>(time).count());
}

using Json = nlohmann::ordered_json;

// The keys of a mapping, by the kind of rule that it may be.
const config::SectionSpec& spec_of(const config::SectionSpec& spec, const Json& mapping) {
  const auto kind = mapping.find(spec.variant_key);
  for (const config::Variant& variant : spec.variants)
    if (kind != mapping.end() && *kind == variant.name) return *variant.section;
  return spec;
}

std::string text_of(const Json& value) {
  if (value.is_string()) return value.get<std::string>();
  return value.is_null() || value.is_structured() ? "" : value.dump();
}

// The value under "listen.backlog", or null.
Json value_at(const Json& whole, std::string name) {
  std::ranges::replace(name, '.', '/');
  const Json::json_pointer pointer("/" + name);
  return whole.contains(pointer) ? whole.at(pointer) : Json();
}

// The column `changeable`. PgBouncer's exporters count the columns, so a restart that is due has none of its own.
std::string changeable(const std::string& name, const Json& value, const Json& file) {
  if (!needs_restart(name)) return "yes";
  const Json in_file = value_at(file, name);
  return in_file == value ? "no" : fmt::format("no; a restart makes it \"{}\"", text_of(in_file));
}

struct ConfigRows {
  RowBuilder& rows;
  const Json& file;
};

// {"a": {"b": [1]}} becomes a.b.0 = 1, with the default that `key` has.
void flatten(const Json& value, const std::string& name, const config::Key* key, const ConfigRows& rows);

void flatten_section(const Json& mapping, const std::string& name, const config::SectionSpec& spec,
                     const ConfigRows& rows) {
  for (const auto& [key, child] : mapping.items())
    flatten(child, name.empty() ? key : name + "." + key, spec_of(spec, mapping).find(key), rows);
}

void flatten(const Json& value, const std::string& name, const config::Key* key, const ConfigRows& rows) {
  const bool section = key != nullptr && key->section != nullptr;
  if (section && key->kind == config::Kind::section) return flatten_section(value, name, *key->section, rows);
  if (value.is_structured() && !value.empty()) {
    for (const auto& [child_name, child] : value.items()) {
      const std::string whole = name + "." + child_name;
      if (section)
        flatten_section(child, whole, *key->section, rows);
      else
        flatten(child, whole, nullptr, rows);
    }
    return;
  }
  rows.rows.row(
      {name, text_of(value), std::string(key == nullptr ? "" : key->standard), changeable(name, value, rows.file)});
}

}  // namespace

std::string_view pool_mode_name(config::PoolMode mode) {
  switch (mode) {
    case config::PoolMode::transaction:
      return "transaction";
    case config::PoolMode::session:
      return "session";
    case config::PoolMode::statement:
      return "statement";
  }
  return "unknown";
}

RowBuilder show_tessera_pools(const Facts& facts, const Server&) {
  RowBuilder rows({"database", "user", "shard", "primary", "idle", "busy", "connecting", "waiting", "open", "limit",
                   "longest_wait", "checkouts", "waits", "wait_time", "checkout_timeouts", "connects",
                   "connect_failures", "paused", "last_error"});
  for (const auto& [key, pool] : facts.pools)
    rows.row({pool.database, pool.user, pool.shard, pool.primary, std::to_string(pool.counts.idle),
              std::to_string(pool.counts.busy), std::to_string(pool.counts.connecting),
              std::to_string(pool.counts.waiting), std::to_string(pool.open), std::to_string(pool.limit),
              seconds(pool.longest_wait), std::to_string(pool.totals.checkouts), std::to_string(pool.totals.waits),
              seconds(Duration(static_cast<std::int64_t>(pool.totals.wait_ns))), std::to_string(pool.totals.timeouts),
              std::to_string(pool.totals.connects), std::to_string(pool.totals.connect_failures),
              pool.paused ? "yes" : "no", pool.last_error});
  return rows;
}

RowBuilder show_tessera_sessions(const Facts& facts, const Server&) {
  RowBuilder rows({"id", "worker", "database", "user", "address", "application_name", "state", "shard", "pinned", "age",
                   "request_age", "statements", "tls"});
  for (const SessionFacts& one : facts.sessions)
    rows.row({std::to_string(one.id), std::to_string(one.worker), one.database, one.user, one.address,
              one.application_name, one.state, one.shard, one.pins, seconds(one.age),
              one.request_age == Duration{} ? "" : seconds(one.request_age), std::to_string(one.statements),
              one.tls ? "yes" : "no"});
  return rows;
}

RowBuilder show_tessera_shards(const Facts& facts, const Server& server) {
  RowBuilder rows(
      {"database", "shard", "primary", "addresses", "dbname", "replicas", "healthy", "connections", "last_error"});
  const auto runtime = server.runtime();
  for (const auto& [name, database] : runtime->databases) {
    for (std::size_t i = 0; i < database->settings->shards.size(); ++i) {
      const config::Shard& shard = database->settings->shards[i];
      const ShardHealth health = health_of(facts, name, shard.name);
      const pool::Endpoint& endpoint = *database->primaries[i];
      rows.row({name, shard.name, shard.primary.text(), fmt::format("{}", fmt::join(address_texts(endpoint), ", ")),
                endpoint.database, std::to_string(shard.replicas.size()), health.healthy ? "yes" : "no",
                std::to_string(health.connections), health.last_error});
    }
  }
  return rows;
}

RowBuilder show_tessera_statements(const Facts& facts, const Server&) {
  constexpr std::size_t most = 1'000;
  RowBuilder rows({"database", "calls", "errors", "rows", "total_us", "min_us", "max_us", "shards", "statement"});
  for (const StatementFacts* one : by_time(facts)) {
    if (rows.size() >= most) break;
    rows.row({one->database, std::to_string(one->calls), std::to_string(one->errors), std::to_string(one->rows),
              std::to_string(one->total_us), one->timed == 0 ? "" : std::to_string(one->min_us),
              std::to_string(one->max_us), fmt::format("{}", fmt::join(one->shards, ", ")), one->text});
  }
  return rows;
}

RowBuilder show_tessera_topology(const Facts&, const Server& server) {
  RowBuilder rows({"database", "schema", "table", "kind", "key", "rule", "shard"});
  const auto runtime = server.runtime();
  for (const auto& [name, database] : runtime->databases)
    for (const config::Table& table : database->settings->tables)
      rows.row({name, table.schema, table.name,
                table.reference      ? "reference"
                : table.rule.empty() ? "plain"
                                     : "sharded",
                fmt::format("{}", fmt::join(table.key, ", ")), table.rule, table.shard});
  return rows;
}

RowBuilder show_config(const Facts&, const Server& server) {
  RowBuilder rows({"key", "value", "default", "changeable"});
  Json whole = Json::parse(config::describe(*server.config_in_force()), nullptr, false);
  const Json file = Json::parse(config::describe(*server.runtime()->config), nullptr, false);
  if (whole.is_discarded() || file.is_discarded()) return rows;
  if (!value_at(file, "pid_file").is_null()) whole.emplace("pid_file", nullptr);  // none so far: shown all the same
  flatten_section(whole, "", config::root_section, {rows, file});
  return rows;
}

RowBuilder show_help(const Facts&, const Server&) {
  RowBuilder rows({"command"});
  const std::string help = console_help();
  for (std::size_t at = 0; at < help.size();) {
    const std::size_t end = std::min(help.find('\n', at), help.size());
    rows.row({help.substr(at, end - at)});
    at = end + 1;
  }
  return rows;
}

RowBuilder show_version(const Facts&, const Server&) {
  RowBuilder rows({"version"});
  rows.row({fmt::format("Tessera {}", version)});
  return rows;
}

}  // namespace tessera::proxy
