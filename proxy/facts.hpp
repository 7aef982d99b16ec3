// What can be told about the running process, as plain values: counters, pools, server connections, sessions. Each
// worker fills in its own on its thread (`collect`), `merge` adds them up; the admin endpoint, the metrics and the
// console all show these same facts. Nothing here holds a secret.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <tuple>
#include <vector>

#include "pool/pool.hpp"
#include "proxy/metrics.hpp"

namespace tessera::proxy {

class Server;
class Worker;

struct DatabaseFacts {
  struct Shard {
    std::string name;
    std::array<std::uint64_t, statement_classes> statements{};
    std::array<std::uint64_t, LatencyHistogram::buckets> latency{};  // not cumulative
    std::uint64_t latency_sum_us = 0;
  };
  std::vector<Shard> shards;
  std::uint64_t scattered = 0, refused = 0, local = 0;
  std::uint64_t cache_hits = 0, cache_misses = 0, cache_entries = 0;
  std::uint64_t bytes_in = 0, bytes_out = 0;  // from and to clients
  std::uint64_t moved_bytes = 0;              // from one shard to another
  std::uint64_t clients = 0;                  // sessions there are now
  std::uint64_t logins = 0, login_failures = 0, cancels = 0;
  std::map<std::string, std::uint64_t> errors;  // by SQLSTATE
  bool paused = false;
  std::string problem;  // why its clients are refused: the rules do not fit the tables

  std::uint64_t statements() const;    // that went to a shard
  std::uint64_t statement_us() const;  // time they took
};

// A server connection.
struct ConnectionFacts {
  std::uint64_t id = 0;
  unsigned worker = 0;
  std::string state;    // connecting, tls, login, idle, leased, preparing, cleaning, closed
  std::string address;  // of the server
  std::uint32_t pid = 0;
  bool tls = false;
  Duration age{}, idle_for{};  // idle_for: zero unless idle
};

// All workers' pools of one (database, user, shard).
struct PoolFacts {
  std::string database, user, shard, primary;
  pool::PoolCounts counts;
  pool::PoolTotals totals;
  int open = 0, limit = 0;
  bool paused = false;
  Duration longest_wait{};
  std::string last_error;  // of the last attempt to connect, if it failed
  std::vector<ConnectionFacts> connections;
};

struct SessionFacts {
  std::uint64_t id = 0;
  unsigned worker = 0;
  std::string user, database, address, application_name;
  std::string state, shard, pins;
  std::uint64_t server_connection = 0;  // id of the one it holds; 0: none
  Duration age{}, request_age{};        // request_age: zero unless a statement runs
  std::uint64_t statements = 0;
  bool tls = false, waiting = false;
};

// One shape of statement, over all workers.
struct StatementFacts {
  std::string database, text;
  std::uint64_t calls = 0, errors = 0, rows = 0, timed = 0, total_us = 0, min_us = 0, max_us = 0;
  std::set<std::string> shards;
};

struct Facts {
  using PoolKey = std::tuple<std::string, std::string, std::string>;  // database, user, shard
  std::map<std::string, DatabaseFacts> databases;
  std::map<PoolKey, PoolFacts> pools;
  std::vector<SessionFacts> sessions;
  std::map<std::pair<std::string, std::string>, StatementFacts> statements;  // by database and text
  std::uint64_t sessions_total = 0;                                          // those beyond the limit included
  std::size_t io_uring_workers = 0;                                          // workers that send by io_uring
};

// What to collect beside the counters.
struct Wanted {
  bool connections = false;
  bool sessions = false;
  bool statements = false;
  std::size_t max_sessions = 100'000;  // each worker
  std::string database;                // sessions and statements of this one only; empty: all
};

// On the worker's thread.
Facts collect(Worker& worker, const Wanted& wanted);
Facts merge(std::vector<Facts> parts);
// Those that took most time first.
std::vector<const StatementFacts*> by_time(const Facts& facts);

// A shard is taken for healthy while a connection to it stands, or as long as the last attempt to make one did not
// fail.
struct ShardHealth {
  bool healthy = true;
  int connections = 0;
  std::string last_error;
};
ShardHealth health_of(const Facts& facts, const std::string& database, const std::string& shard);

// Of the process itself; zero where the system does not tell.
struct ProcessFacts {
  std::uint64_t resident_bytes = 0, virtual_bytes = 0;
  std::uint64_t open_files = 0, max_files = 0;
  double cpu_seconds = 0;
  double start_time = 0;  // seconds since 1970
  double uptime_seconds = 0;
};
ProcessFacts process_facts(const Server& server);

}  // namespace tessera::proxy
