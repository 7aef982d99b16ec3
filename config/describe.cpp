// A configuration back to JSON, under the keys that the loader reads: what `describe` prints can be loaded again, but
// for the secrets. A test holds the two together.
#include <fmt/core.h>
#include <nlohmann/json.hpp>

#include "config/describe_rule.hpp"
#include "config/keys.hpp"
#include "config/load.hpp"
#include "config/scalars.hpp"

namespace tessera::config {
namespace {

constexpr const char* hidden = "***";

// Adds what is there: absent values have no key.
class Object {
public:
  Object& put(const char* key, const std::string& text) {
    if (!text.empty()) json_[key] = text;
    return *this;
  }
  Object& put(const char* key, const Secret& secret) {
    if (!secret.empty()) json_[key] = hidden;
    return *this;
  }
  Object& put(const char* key, const Address& address) { return put(key, address.text()); }
  Object& put(const char* key, Milliseconds duration) { return put(key, duration_text(duration)); }
  Object& put(const char* key, int number) { return put(key, Json(number)); }
  Object& put(const char* key, bool value) { return put(key, Json(value)); }
  Object& put(const char* key, const std::vector<std::string>& texts) {
    if (!texts.empty()) json_[key] = texts;
    return *this;
  }
  template <typename T>
  Object& put(const char* key, const std::optional<T>& value) {
    return value ? put(key, *value) : *this;
  }
  Object& put(const char* key, Json value) {
    if (!value.empty()) json_[key] = std::move(value);
    return *this;
  }
  template <typename Enum>
  Object& word(const char* key, std::span<const Choice> words, Enum value) {
    return put(key, std::string(name_of(words, value)));
  }
  Json take() { return std::move(json_); }

private:
  Json json_ = Json::object();
};

Json describe_listen(const Listen& listen) {
  Object tls;
  tls.word("mode", client_tls_modes, listen.tls.mode)
      .put("certificate", listen.tls.certificate)
      .put("private_key", listen.tls.private_key)
      .put("client_ca", listen.tls.client_ca)
      .put("min_version", listen.tls.min_version);
  Object out;
  out.put("postgres", listen.postgres)
      .put("mysql", listen.mysql)
      .put("tls", tls.take())
      .put("proxy_protocol_from", listen.proxy_protocol_from)
      .put("backlog", listen.backlog)
      .put("login_timeout", listen.login_timeout)
      .put("max_clients", listen.max_clients)
      .put("max_clients_per_address", listen.max_clients_per_address);
  return out.take();
}

Json describe_admin(const Admin& admin) {
  Json tokens = Json::array();
  for (const AdminToken& one : admin.tokens) {
    tokens.push_back(Object().word("role", admin_roles, one.role).put("token", one.token).take());
  }
  Object out;
  out.put("listen", admin.listen)
      .put("tokens", std::move(tokens))
      .put("certificate", admin.certificate)
      .put("private_key", admin.private_key)
      .put("allowed_hosts", admin.allowed_hosts)
      .put("console_admins", admin.console_admins)
      .put("console_viewers", admin.console_viewers);
  return out.take();
}

Json describe_store(const Store& store) {
  Object out;
  if (const auto* sqlite = std::get_if<StoreSqlite>(&store)) out.put("sqlite", sqlite->path);
  if (const auto* etcd = std::get_if<StoreEtcd>(&store)) out.put("etcd", etcd->endpoints);
  return out.take();
}

Json describe_log(const Log& log) {
  Object out;
  out.word("level", log_levels, log.level)
      .word("format", log_formats, log.format)
      .put("file", log.file)
      .put("slow_statement", log.slow_statement)
      .put("statement_text", log.statement_text);
  return out.take();
}

Json describe_backend(const Backend& backend) {
  Object out;
  out.put("dbname", backend.dbname)
      .word("tls", backend_tls_modes, backend.tls)
      .put("ca", backend.ca)
      .put("client_certificate", backend.client_certificate)
      .put("client_key", backend.client_key)
      .word("auth", backend_auths, backend.auth)
      .word("unknown_users", unknown_users_choices, backend.unknown_users)
      .put("user", backend.user)
      .put("password", backend.password)
      .put("connect_timeout", backend.connect_timeout)
      .put("resolve_interval", backend.resolve_interval);
  return out.take();
}

Json describe_shard(const Shard& shard) {
  Json replicas = Json::array();
  for (const Replica& one : shard.replicas) {
    replicas.push_back(Object().put("address", one.address).put("zone", one.zone).put("weight", one.weight).take());
  }
  return Object().put("primary", shard.primary).put("replicas", std::move(replicas)).put("dbname", shard.dbname).take();
}

Json describe_pool(const Pool& pool) {
  Object out;
  out.word("mode", pool_modes, pool.mode)
      .put("size", pool.size)
      .put("min_idle", pool.min_idle)
      .put("max_server_connections", pool.max_server_connections)
      .put("checkout_timeout", pool.checkout_timeout)
      .put("idle_timeout", pool.idle_timeout)
      .put("max_lifetime", pool.max_lifetime)
      .put("health_interval", pool.health_interval)
      .put("reconnect_min", pool.reconnect_min)
      .put("reconnect_max", pool.reconnect_max)
      .put("reset_query", pool.reset_query)
      .put("prepared_statements", pool.prepared_statements);
  return out.take();
}

Json describe_reads(const Reads& reads) {
  Object out;
  out.word("consistency", consistencies, reads.consistency)
      .put("max_lag", reads.max_lag)
      .put("freshness_wait", reads.freshness_wait);
  return out.take();
}

Json describe_limits(const Limits& limits) {
  Object out;
  out.put("clients", limits.clients)
      .put("merge_memory", size_text(limits.merge_memory))
      .put("statement_timeout", limits.statement_timeout)
      .put("idle_in_transaction_timeout", limits.idle_in_transaction_timeout)
      .put("client_idle_timeout", limits.client_idle_timeout)
      .put("message_size", size_text(limits.message_size))
      .put("prepared_memory", size_text(limits.prepared_memory))
      .put("plan_cache", limits.plan_cache);
  return out.take();
}

Json describe_table(const Table& table) {
  Object out;
  out.put("rule", table.rule)
      .put("key", table.key)
      .put("key_type", table.key_type)
      .put("columns", table.columns)
      .put("reference", table.reference)
      .put("shard", table.shard)
      .put("id", table.id)
      .put("id_column", table.id_column)
      .put("unique", table.unique);
  return out.take();
}

Json describe_user(const User& user) {
  Object out;
  out.put("name", user.name)
      .put("password", user.password)
      .put(user.verifier.reveal().starts_with("md5") ? "md5" : "scram", user.verifier)
      .put("trust", user.trust)
      .put("from", user.from)
      .put("max_clients", user.max_clients)
      .put("pool_size", user.pool_size);
  if (user.pool_mode) out.word("pool_mode", pool_modes, *user.pool_mode);
  out.put("backend_user", user.backend_user).put("backend_password", user.backend_password);
  return out.take();
}

Json describe_auth_query(const std::optional<AuthQuery>& auth_query) {
  Object out;
  if (!auth_query) return out.take();
  out.put("user", auth_query->user)
      .put("password", auth_query->password)
      .put("query", auth_query->query)
      .put("shard", auth_query->shard);
  return out.take();
}

Json describe_database(const Database& database) {
  JsonObject shards;
  for (const Shard& one : database.shards) shards.emplace_back(one.name, describe_shard(one));
  JsonObject rules;
  for (const Rule& one : database.rules) rules.emplace_back(one.name, describe_rule(one));
  JsonObject tables;
  for (const Table& one : database.tables) {
    tables.emplace_back(table_name_text({one.schema, one.name}), describe_table(one));
  }
  Json users = Json::array();
  for (const User& one : database.users) users.push_back(describe_user(one));
  Object out;
  out.word("engine", engines, database.mysql ? Engine::mysql : Engine::postgres)
      .put("backend", describe_backend(database.backend))
      .put("shards", std::move(shards))
      .put("pool", describe_pool(database.pool))
      .put("reads", describe_reads(database.reads))
      .put("limits", describe_limits(database.limits))
      .put("default_shard", database.default_shard)
      .put("merge_node", database.merge_node)
      .put("hints", database.hints)
      .word("cross_shard_transactions", cross_shard_choices, database.cross_shard_transactions)
      .put("rules", std::move(rules))
      .put("tables", std::move(tables))
      .put("users", std::move(users))
      .put("auth_query", describe_auth_query(database.auth_query))
      .put("read_only_functions", database.read_only_functions)
      .put("catalog_interval", database.catalog_interval);
  return out.take();
}

}  // namespace

std::string describe(const Config& config) {
  JsonObject databases;
  for (const Database& one : config.databases) databases.emplace_back(one.name, describe_database(one));
  Object out;
  out.put("listen", describe_listen(config.listen)).put("admin", describe_admin(config.admin));
  if (config.workers == 0) {
    out.put("workers", std::string("auto"));
  } else {
    out.put("workers", config.workers);
  }
  out.put("io_uring", config.io_uring)
      .put("store", describe_store(config.store))
      .put("log", describe_log(config.log))
      .put("drain_timeout", config.drain_timeout)
      .put("pid_file", config.pid_file)
      .put("databases", std::move(databases));
  // A name or a path may be in some other encoding than UTF-8; that must not keep the rest from being shown.
  return out.take().dump(2, ' ', false, Json::error_handler_t::replace);
}

}  // namespace tessera::config
