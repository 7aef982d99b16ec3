// One database: its backend, shards, pool, reads and limits; rules, tables and users have files of their own.
#include <algorithm>
#include <fmt/core.h>

#include "config/sections.hpp"

namespace tessera::config {
namespace {

void read_backend(Section section, Backend& backend) {
  section.read("dbname", backend.dbname);
  section.read("tls", backend.tls);
  section.read("ca", backend.ca);
  section.read("client_certificate", backend.client_certificate);
  section.read("client_key", backend.client_key);
  section.read("user", backend.user);
  section.read("password", backend.password);
  backend.auth = section.has("user") ? BackendAuth::password : BackendAuth::passthrough;
  section.read("auth", backend.auth);
  section.read("unknown_users", backend.unknown_users);
  section.read("connect_timeout", backend.connect_timeout);
  section.read("resolve_interval", backend.resolve_interval);
  section.finish();
  if (backend.auth == BackendAuth::password && !section.has("user")) {
    section.problem("auth", "\"auth: password\" needs \"user\"", "the server role that all clients share");
  }
  if (backend.auth == BackendAuth::passthrough) {
    for (const std::string_view key : {"user", "password"}) {
      if (!section.has(key)) continue;
      section.problem(key, fmt::format("\"{}\" has no effect with passthrough", key),
                      "say auth: password (and user) to let all clients share one server role");
    }
  }
  if (backend.auth == BackendAuth::password && backend.unknown_users == UnknownUsers::passthrough)
    section.problem("unknown_users", "\"unknown_users: passthrough\" needs \"auth: passthrough\"");
  if (section.has("client_certificate") != section.has("client_key")) {
    section.problem(section.has("client_key") ? "client_key" : "client_certificate",
                    "client_certificate and client_key come together");
  }
}

// Port 0 means "any free one", which makes sense only for listening.
void check_port(Section& section, std::string_view key, const Address& address) {
  if (address.host.empty() || address.port != 0) return;
  section.problem(key, fmt::format("port 0 cannot be connected to: \"{}\"", section.find(key)->shown()),
                  "a port from 1 to 65535");
}

// Two shards in one place would show every row twice. (Other names of one place are found when they are resolved.)
void check_place(Section& section, const Shard& shard, const Database& database) {
  const auto dbname = [&](const Shard& one) { return one.dbname.empty() ? database.backend.dbname : one.dbname; };
  const auto there = std::ranges::find_if(database.shards, [&](const Shard& other) {
    return other.primary == shard.primary && dbname(other) == dbname(shard);
  });
  if (there == database.shards.end() || shard.primary.port == 0) return;
  section.problem("primary",
                  fmt::format("shard \"{}\" is database \"{}\" on {}, which is shard \"{}\" already", shard.name,
                              dbname(shard), shard.primary.text(), there->name),
                  "each shard has a server, or a dbname, of its own");
}

Shard read_shard(Section section) {
  Shard shard;
  shard.name = section.node().key;
  shard.position = section.context().position(section.mark());
  check_name(section.context(), section.mark(), shard.name, "a shard");
  section.read("primary", shard.primary);
  check_port(section, "primary", shard.primary);
  section.each_section("replicas", [&](Section replica) {
    Replica one;
    replica.read("address", one.address);
    check_port(replica, "address", one.address);
    replica.read("zone", one.zone);
    replica.read("weight", one.weight);
    replica.finish();
    shard.replicas.push_back(std::move(one));
  });
  section.read("dbname", shard.dbname);
  section.finish();
  return shard;
}

void read_pool(Section section, Pool& pool) {
  section.read("mode", pool.mode);
  section.read("size", pool.size);
  section.read("min_idle", pool.min_idle);
  section.read("max_server_connections", pool.max_server_connections);
  section.read("checkout_timeout", pool.checkout_timeout);
  section.read("idle_timeout", pool.idle_timeout);
  section.read("max_lifetime", pool.max_lifetime);
  section.read("health_interval", pool.health_interval);
  section.read("reconnect_min", pool.reconnect_min);
  section.read("reconnect_max", pool.reconnect_max);
  section.read("reset_query", pool.reset_query);
  section.read("prepared_statements", pool.prepared_statements);
  section.finish();
  if (pool.min_idle > pool.size) {
    section.problem("min_idle", "\"min_idle\" is larger than \"size\"",
                    "no more connections are kept idle than there may be");
  }
  if (pool.reconnect_min > pool.reconnect_max) {
    section.problem("reconnect_min", "\"reconnect_min\" is longer than \"reconnect_max\"");
  }
}

void read_reads(Section section, Reads& reads) {
  section.read("consistency", reads.consistency);
  section.read("max_lag", reads.max_lag);
  section.read("freshness_wait", reads.freshness_wait);
  section.finish();
}

void read_limits(Section section, Limits& limits) {
  section.read("clients", limits.clients);
  section.read("merge_memory", limits.merge_memory);
  section.read("statement_timeout", limits.statement_timeout);
  section.read("idle_in_transaction_timeout", limits.idle_in_transaction_timeout);
  section.read("client_idle_timeout", limits.client_idle_timeout);
  section.read("message_size", limits.message_size);
  section.read("prepared_memory", limits.prepared_memory);
  section.read("plan_cache", limits.plan_cache);
  section.finish();
}

void read_auth_query(Section section, const Names& names, AuthQuery& auth_query) {
  section.read("user", auth_query.user);
  section.read("password", auth_query.password);
  section.read("query", auth_query.query);
  names.read_shard(section, "shard", auth_query.shard);
  section.finish();
  if (!auth_query.query.empty() && auth_query.query.find("$1") == std::string::npos) {
    section.problem("query", "the query does not use $1, the name of the user who logs in",
                    "leave it out to ask pg_authid, or: SELECT name, verifier FROM auth.users WHERE name = $1");
  }
}

void read_rules(Section& section, const Names& names, Database& database) {
  std::vector<RuleEdge> edges;
  section.each_named_section("rules", [&](Section one) {
    Rule rule;
    rule.name = one.node().key;
    rule.position = one.context().position(one.mark());
    check_name(one.context(), one.mark(), rule.name, "a rule");
    read_rule(std::move(one), names, rule, edges);
    database.rules.push_back(std::move(rule));
  });
  check_rule_graph(section.context(), database.rules, edges);
}

// A user without a proof is let in by auth_query, or by the shards.
void check_somebody_comes_in(const Section& section, const Database& database) {
  if (database.auth_query || database.backend.unknown_users == UnknownUsers::passthrough) return;
  const bool shards_decide = database.backend.auth == BackendAuth::passthrough;
  const bool somebody = std::ranges::any_of(
      database.users, [&](const User& user) { return shards_decide || user.mistaken || !user.has_no_proof(); });
  if (somebody) return;
  section.context().warning(section.mark(), fmt::format("nobody can log in to the database \"{}\"", database.name),
                            "list users, give an auth_query, or say backend: {unknown_users: passthrough}");
}

}  // namespace

Database read_database(Section section) {
  Database database;
  database.name = section.node().key;
  database.position = section.context().position(section.mark());
  check_name(section.context(), section.mark(), database.name, "a database");
  if (database.name == console_database)
    section.context().problem(section.mark(), fmt::format("a database cannot be called \"{}\" here", console_database),
                              fmt::format("clients that ask for it get the administration console: choose another "
                                          "name, and say backend: {{dbname: {}}} if the shards call it so",
                                          console_database));
  Engine engine = Engine::postgres;
  section.read("engine", engine);
  database.mysql = engine == Engine::mysql;
  if (database.mysql) section.problem("engine", "engine \"mysql\" is not in this version", "engine: postgres");

  database.backend.dbname = database.name;
  section.section("backend", [&](Section one) { read_backend(std::move(one), database.backend); });
  section.each_named_section("shards", [&](Section one) {
    Shard shard = read_shard(one);
    check_place(one, shard, database);
    database.shards.push_back(std::move(shard));
  });
  const Node* shards = section.find("shards");
  if (shards != nullptr && shards->kind == Node::Kind::mapping && shards->items.empty()) {
    section.problem("shards", "there are no shards", "s0: {primary: host:port}");
  }
  section.section("pool", [&](Section one) { read_pool(std::move(one), database.pool); });
  section.section("reads", [&](Section one) { read_reads(std::move(one), database.reads); });
  section.section("limits", [&](Section one) { read_limits(std::move(one), database.limits); });

  const Names names(section.context(), shards, section.find("rules"));
  names.read_shard(section, "default_shard", database.default_shard);
  names.read_shard(section, "merge_node", database.merge_node);
  section.read("hints", database.hints);
  section.read("cross_shard_transactions", database.cross_shard_transactions);
  read_rules(section, names, database);
  read_tables(section, names, database);
  read_users(section, database);
  section.section("auth_query",
                  [&](Section one) { read_auth_query(std::move(one), names, database.auth_query.emplace()); });
  section.read("read_only_functions", database.read_only_functions);
  section.read("catalog_interval", database.catalog_interval);
  check_somebody_comes_in(section, database);
  if (database.auth_query && database.backend.unknown_users == UnknownUsers::passthrough)
    section.problem("auth_query", "\"auth_query\" and \"backend.unknown_users: passthrough\" exclude each other",
                    "one of them says who may come in beside the listed users");
  section.finish();
  return database;
}

}  // namespace tessera::config
