#include "proxy/console_views.hpp"

#include <algorithm>
#include <ctime>
#include <fmt/format.h>
#include <set>

#include "proxy/console_views_tessera.hpp"
#include "proxy/server.hpp"
#include "proxy/version.hpp"

namespace tessera::proxy {

namespace {

std::string text(std::uint64_t number) {
  return std::to_string(number);
}
std::string text(int number) {
  return std::to_string(number);
}

std::uint64_t microseconds(Duration time) {
  return static_cast<std::uint64_t>(std::max<std::int64_t>(0, time.count()) / 1000);
}

// The moment `age` ago, as PgBouncer writes it.
std::string moment(Duration age) {
  const auto then =
      std::chrono::system_clock::now() - std::chrono::duration_cast<std::chrono::system_clock::duration>(age);
  const std::time_t seconds = std::chrono::system_clock::to_time_t(then);
  std::tm parts{};
  ::gmtime_r(&seconds, &parts);
  char buffer[32];
  const std::size_t length = std::strftime(buffer, sizeof buffer, "%Y-%m-%d %H:%M:%S UTC", &parts);
  return {buffer, length};
}

const config::Config& config_of(const Runtime& runtime) {
  return *runtime.config;
}

std::string mode_of(const Runtime& runtime, const std::string& database) {
  const config::Database* found = config_of(runtime).find_database(database);
  return found == nullptr ? "" : std::string(pool_mode_name(found->pool.mode));
}

// PgBouncer knows one pool for each database and user; ours are for each shard too, and are added up.
struct UserPool {
  pool::PoolCounts counts;
  Duration longest_wait{};
  int clients_active = 0, clients_idle = 0;
};

std::map<std::pair<std::string, std::string>, UserPool> user_pools(const Facts& facts) {
  std::map<std::pair<std::string, std::string>, UserPool> sums;
  for (const auto& [key, pool] : facts.pools) {
    UserPool& sum = sums[{pool.database, pool.user}];
    sum.counts.idle += pool.counts.idle;
    sum.counts.busy += pool.counts.busy;
    sum.counts.connecting += pool.counts.connecting;
    sum.counts.waiting += pool.counts.waiting;
    sum.longest_wait = std::max(sum.longest_wait, pool.longest_wait);
  }
  for (const SessionFacts& session : facts.sessions)
    if (!session.waiting) ++sums[{session.database, session.user}].clients_active;
  return sums;
}

RowBuilder show_pools(const Facts& facts, const Server& server) {
  RowBuilder rows({"database", "user", "cl_active", "cl_waiting", "cl_active_cancel_req", "cl_waiting_cancel_req",
                   "sv_active", "sv_active_cancel", "sv_being_canceled", "sv_idle", "sv_used", "sv_tested", "sv_login",
                   "maxwait", "maxwait_us", "pool_mode"});
  const auto runtime = server.runtime();
  for (const auto& [key, pool] : user_pools(facts)) {
    const std::uint64_t wait = microseconds(pool.longest_wait);
    rows.row({key.first, key.second, text(pool.clients_active), text(pool.counts.waiting), "0", "0",
              text(pool.counts.busy), "0", "0", text(pool.counts.idle), "0", "0", text(pool.counts.connecting),
              text(wait / 1'000'000), text(wait % 1'000'000), mode_of(*runtime, key.first)});
  }
  return rows;
}

struct Stats {
  std::uint64_t transactions = 0, queries = 0, received = 0, sent = 0, query_us = 0, wait_us = 0;
};

Stats stats_of(const Facts& facts, const std::string& name, const DatabaseFacts& database) {
  Stats stats{0, database.statements(), database.bytes_in, database.bytes_out, database.statement_us(), 0};
  for (const auto& [key, pool] : facts.pools) {
    if (pool.database != name) continue;
    stats.transactions += pool.totals.checkouts;
    stats.wait_us += pool.totals.wait_ns / 1000;
  }
  return stats;
}

std::vector<std::string> totals(const Stats& stats) {
  return {text(stats.transactions), text(stats.queries),  text(stats.received), text(stats.sent),
          text(stats.query_us),     text(stats.query_us), text(stats.wait_us)};
}

// Counts each second since the start; times for each transaction or statement.
std::vector<std::string> averages(const Stats& stats, double uptime) {
  const auto each_second = [&](std::uint64_t n) {
    return text(static_cast<std::uint64_t>(static_cast<double>(n) / std::max(uptime, 1.0)));
  };
  const auto each = [](std::uint64_t time, std::uint64_t count) { return text(count == 0 ? 0 : time / count); };
  return {each_second(stats.transactions),
          each_second(stats.queries),
          each_second(stats.received),
          each_second(stats.sent),
          each(stats.query_us, stats.transactions),
          each(stats.query_us, stats.queries),
          each(stats.wait_us, stats.transactions)};
}

const std::vector<std::string> total_columns = {"xact_count", "query_count", "received", "sent",
                                                "xact_time",  "query_time",  "wait_time"};
const std::vector<std::string> average_columns = {"xact_count", "query_count", "recv",     "sent",
                                                  "xact_time",  "query_time",  "wait_time"};

RowBuilder stats(const Facts& facts, const Server& server, bool with_totals, bool with_averages,
                 std::string_view total_prefix, std::string_view average_prefix) {
  std::vector<std::string> columns = {"database"};
  if (with_totals)
    for (const std::string& column : total_columns) columns.push_back(fmt::format("{}{}", total_prefix, column));
  if (with_averages)
    for (const std::string& column : average_columns) columns.push_back(fmt::format("{}{}", average_prefix, column));
  RowBuilder rows(std::move(columns));
  const double uptime = process_facts(server).uptime_seconds;
  for (const auto& [name, database] : facts.databases) {
    const Stats one = stats_of(facts, name, database);
    std::vector<std::string> row = {name};
    const auto append = [&](std::vector<std::string> values) { row.insert(row.end(), values.begin(), values.end()); };
    if (with_totals) append(totals(one));
    if (with_averages) append(averages(one, uptime));
    rows.row(std::move(row));
  }
  return rows;
}

RowBuilder show_stats(const Facts& facts, const Server& server) {
  return stats(facts, server, true, true, "total_", "avg_");
}
RowBuilder show_stats_totals(const Facts& facts, const Server& server) {
  return stats(facts, server, true, false, "", "");
}
RowBuilder show_stats_averages(const Facts& facts, const Server& server) {
  return stats(facts, server, false, true, "", "");
}

RowBuilder show_clients(const Facts& facts, const Server&) {
  RowBuilder rows({"type", "user", "database", "state", "addr", "port", "local_addr", "local_port", "connect_time",
                   "request_time", "wait", "wait_us", "close_needed", "ptr", "link", "remote_pid", "tls",
                   "application_name"});
  for (const SessionFacts& session : facts.sessions) {
    const std::uint64_t wait = session.waiting ? microseconds(session.request_age) : 0;
    rows.row({"C", session.user, session.database,
              session.waiting           ? "waiting"
              : session.state == "idle" ? "idle"
                                        : "active",
              session.address, "0", "", "0", moment(session.age),
              session.request_age == Duration{} ? "" : moment(session.request_age), text(wait / 1'000'000),
              text(wait % 1'000'000), "0", text(session.id),
              session.server_connection == 0 ? "" : text(session.server_connection), "0", session.tls ? "TLS" : "",
              session.application_name});
  }
  return rows;
}

RowBuilder show_servers(const Facts& facts, const Server&) {
  RowBuilder rows({"type", "user", "database", "state", "addr", "port", "local_addr", "local_port", "connect_time",
                   "request_time", "wait", "wait_us", "close_needed", "ptr", "link", "remote_pid", "tls", "shard"});
  std::map<std::uint64_t, std::uint64_t> links;
  for (const SessionFacts& session : facts.sessions)
    if (session.server_connection != 0) links[session.server_connection] = session.id;
  for (const auto& [key, pool] : facts.pools) {
    for (const ConnectionFacts& one : pool.connections) {
      const std::size_t colon = one.address.rfind(':');
      const bool network = colon != std::string::npos;
      const bool idle = one.state == "idle",
                 login = one.state == "connecting" || one.state == "tls" || one.state == "login";
      const auto link = links.find(one.id);
      rows.row({"S", pool.user, pool.database,
                idle    ? "idle"
                : login ? "login"
                        : "active",
                network ? one.address.substr(0, colon) : "unix", network ? one.address.substr(colon + 1) : "0", "", "0",
                moment(one.age), "", "0", "0", "0", text(one.id), link == links.end() ? "" : text(link->second),
                text(std::uint64_t{one.pid}), one.tls ? "TLS" : "", pool.shard});
    }
  }
  return rows;
}

// One row for each shard.
RowBuilder show_databases(const Facts& facts, const Server& server) {
  RowBuilder rows({"name", "host", "port", "database", "force_user", "pool_size", "min_pool_size", "reserve_pool",
                   "pool_mode", "max_connections", "current_connections", "paused", "disabled", "shard", "problem"});
  const auto runtime = server.runtime();
  for (const auto& [name, database] : runtime->databases) {
    const config::Database& settings = *database->settings;
    const auto found = facts.databases.find(name);
    const bool paused = found != facts.databases.end() && found->second.paused;
    const std::string problem = found == facts.databases.end() ? "" : found->second.problem;
    for (std::size_t i = 0; i < settings.shards.size(); ++i) {
      const config::Shard& shard = settings.shards[i];
      const bool shared = settings.backend.auth == config::BackendAuth::password;
      rows.row({name, shard.primary.host, text(int{shard.primary.port}), database->primaries[i]->database,
                shared ? settings.backend.user : "", text(settings.pool.size), text(settings.pool.min_idle), "0",
                std::string(pool_mode_name(settings.pool.mode)), text(settings.pool.max_server_connections),
                text(health_of(facts, name, shard.name).connections), paused ? "1" : "0", "0", shard.name, problem});
    }
  }
  return rows;
}

RowBuilder show_users(const Facts&, const Server& server) {
  RowBuilder rows({"name", "pool_mode"});
  std::map<std::string, std::string> users;
  const auto runtime = server.runtime();
  for (const config::Database& database : runtime->config->databases)
    for (const config::User& user : database.users)
      users.emplace(user.name, user.pool_mode ? pool_mode_name(*user.pool_mode) : "");
  for (const auto& [name, mode] : users) rows.row({name, mode});
  return rows;
}

RowBuilder show_lists(const Facts& facts, const Server& server) {
  RowBuilder rows({"list", "items"});
  std::set<std::string> users;
  const auto runtime = server.runtime();
  for (const config::Database& database : runtime->config->databases)
    for (const config::User& user : database.users) users.insert(user.name);
  int idle = 0, busy = 0;
  for (const auto& [key, pool] : facts.pools) {
    idle += pool.counts.idle;
    busy += pool.counts.busy + pool.counts.connecting;
  }
  const std::pair<std::string_view, std::uint64_t> items[] = {{"databases", runtime->databases.size()},
                                                              {"users", users.size()},
                                                              {"pools", user_pools(facts).size()},
                                                              {"free_clients", 0},
                                                              {"used_clients", facts.sessions_total},
                                                              {"login_clients", 0},
                                                              {"free_servers", idle},
                                                              {"used_servers", busy},
                                                              {"dns_names", 0},
                                                              {"dns_zones", 0},
                                                              {"dns_queries", 0},
                                                              {"dns_pending", 0}};
  for (const auto& [name, count] : items) rows.row({std::string(name), text(count)});
  return rows;
}

RowBuilder show_state(const Facts& facts, const Server& server) {
  RowBuilder rows({"key", "value"});
  const bool paused = !facts.databases.empty() && std::all_of(facts.databases.begin(), facts.databases.end(),
                                                              [](const auto& one) { return one.second.paused; });
  rows.row({"active", paused || server.draining() ? "no" : "yes"});
  rows.row({"paused", paused ? "yes" : "no"});
  rows.row({"suspended", "no"});
  rows.row({"draining", server.draining() ? "yes" : "no"});
  const std::size_t workers = server.workers().size(), sending = facts.io_uring_workers;
  rows.row({"io_uring", sending == workers ? "yes"
                        : sending == 0     ? "no"
                                           : fmt::format("on {} of {} workers", sending, workers)});
  return rows;
}

struct View {
  std::string_view name;
  Wanted wanted;
  RowBuilder (*make)(const Facts&, const Server&);
};
const Wanted counters{};
const Wanted with_sessions{
    .connections = false, .sessions = true, .statements = false, .max_sessions = 100'000, .database = {}};
const Wanted with_statements{
    .connections = false, .sessions = false, .statements = true, .max_sessions = 0, .database = {}};
const Wanted everything{
    .connections = true, .sessions = true, .statements = false, .max_sessions = 100'000, .database = {}};

const View views[] = {{"CLIENTS", with_sessions, show_clients},
                      {"CONFIG", counters, show_config},
                      {"DATABASES", counters, show_databases},
                      {"HELP", counters, show_help},
                      {"LISTS", with_sessions, show_lists},
                      {"POOLS", with_sessions, show_pools},
                      {"SERVERS", everything, show_servers},
                      {"STATE", counters, show_state},
                      {"STATS", counters, show_stats},
                      {"STATS_AVERAGES", counters, show_stats_averages},
                      {"STATS_TOTALS", counters, show_stats_totals},
                      {"USERS", counters, show_users},
                      {"VERSION", counters, show_version},
                      {"TESSERA POOLS", counters, show_tessera_pools},
                      {"TESSERA SESSIONS", with_sessions, show_tessera_sessions},
                      {"TESSERA SHARDS", counters, show_tessera_shards},
                      {"TESSERA STATEMENTS", with_statements, show_tessera_statements},
                      {"TESSERA TOPOLOGY", counters, show_tessera_topology},
                      {"TESSERA VERSION", counters, show_version}};

const View* find_view(std::string_view name) {
  const auto* found =
      std::find_if(std::begin(views), std::end(views), [&](const View& view) { return view.name == name; });
  return found == std::end(views) ? nullptr : found;
}

}  // namespace

std::vector<std::string_view> console_view_names() {
  std::vector<std::string_view> names;
  for (const View& view : views) names.push_back(view.name);
  return names;
}

Result<Wanted> console_view_needs(std::string_view view) {
  if (const View* found = find_view(view)) return found->wanted;
  return fail(sqlstate::syntax_error, fmt::format("there is no SHOW {}", view.substr(0, 100)),
              "SHOW HELP lists the commands");
}

std::string console_view(std::string_view view, const Facts& facts, const Server& server) {
  const View* found = find_view(view);
  return found == nullptr ? std::string() : found->make(facts, server).all("SHOW");
}

}  // namespace tessera::proxy
