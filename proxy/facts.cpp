#include "proxy/facts.hpp"

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <numeric>
#include <sys/resource.h>
#include <sys/time.h>
#include <unistd.h>

#include "proxy/server.hpp"
#include "proxy/worker.hpp"

namespace tessera::proxy {

namespace {

std::string state_of(const pool::Backend& backend) {
  using State = pool::Backend::State;
  switch (backend.state()) {
    case State::connecting:
      return "connecting";
    case State::tls:
      return "tls";
    case State::login:
      return "login";
    case State::idle:
      return "idle";
    case State::leased:
      return "leased";
    case State::preparing:
      return "preparing";
    case State::cleaning:
      return "cleaning";
    case State::closed:
      return "closed";
  }
  return "unknown";
}

void collect_counters(WorkerDatabase& database, DatabaseFacts& facts) {
  const DatabaseMetrics& metrics = database.metrics();
  facts.shards.resize(database.shard_count());
  for (std::size_t i = 0; i < facts.shards.size(); ++i) {
    DatabaseFacts::Shard& shard = facts.shards[i];
    shard.name = database.settings().shards[i].name;
    if (i >= metrics.shards.size()) continue;
    const DatabaseMetrics::Shard& counted = metrics.shards[i];
    for (std::size_t k = 0; k < statement_classes; ++k) shard.statements[k] = counted.statements[k].get();
    for (std::size_t k = 0; k < LatencyHistogram::buckets; ++k) shard.latency[k] = counted.latency.count(k);
    shard.latency_sum_us = counted.latency.sum_us();
  }
  facts.scattered = metrics.scattered.get();
  facts.refused = metrics.refused.get();
  facts.local = metrics.local.get();
  facts.cache_hits = metrics.cache_hits.get();
  facts.cache_misses = metrics.cache_misses.get();
  facts.cache_entries = metrics.cache_entries.get();
  facts.bytes_in = metrics.client_bytes_in.get();
  facts.bytes_out = metrics.client_bytes_out.get();
  facts.moved_bytes = metrics.moved_bytes.get();
  facts.logins = metrics.logins.get();
  facts.login_failures = metrics.login_failures.get();
  facts.cancels = metrics.cancels.get();
  facts.errors = metrics.errors();
  facts.paused = database.paused();
  if (database.refuses_for_routing()) facts.problem = database.routing_problem()->message;
}

ConnectionFacts connection_facts(const pool::Backend& backend, unsigned worker, TimePoint now) {
  ConnectionFacts facts;
  facts.id = backend.id().value();
  facts.worker = worker;
  facts.state = state_of(backend);
  facts.address = backend.address().text();
  facts.pid = backend.pid();
  facts.tls = backend.uses_tls();
  facts.age = now - backend.connected_at();
  if (backend.state() == pool::Backend::State::idle) facts.idle_for = now - backend.idle_since();
  return facts;
}

PoolFacts pool_facts(const pool::Pool& pool, WorkerDatabase& database, unsigned worker, bool connections) {
  const TimePoint now = database.loop().now();
  const pool::Pool::Options& options = pool.options();
  PoolFacts facts;
  facts.database = options.database;
  facts.user = options.user;
  facts.shard = options.endpoint->name;
  const std::size_t shard = options.endpoint->shard.value();
  if (shard < database.shard_count()) facts.primary = database.settings().shards[shard].primary.text();
  facts.counts = pool.counts();
  facts.totals = pool.totals();
  facts.open = pool.budget().open();
  facts.limit = pool.budget().limit();
  facts.paused = pool.paused();
  facts.longest_wait = pool.longest_wait(now);
  facts.last_error = pool.last_error();
  if (connections)
    pool.each(
        [&](const pool::Backend& backend) { facts.connections.push_back(connection_facts(backend, worker, now)); });
  return facts;
}

SessionFacts session_facts(const Client& client, const Session& session, const Worker& worker, TimePoint now) {
  SessionFacts facts;
  facts.id = client.id().value();
  facts.worker = worker.number();
  facts.user = session.options().user;
  facts.database = session.options().database->name();
  facts.address = client.address();
  facts.application_name = client.application_name();
  facts.state = session.state_name();
  facts.waiting = facts.state.starts_with("waiting for a connection");
  facts.pins = session.pin_reasons();
  if (const pool::Backend* backend = session.backend()) {
    facts.shard = backend->endpoint().name;
    facts.server_connection = backend->id().value();
  }
  facts.age = now - client.connected_at();
  if (session.request_started() != TimePoint{}) facts.request_age = now - session.request_started();
  facts.statements = session.statements();
  facts.tls = client.uses_tls();
  return facts;
}

void add(DatabaseFacts& sum, const DatabaseFacts& part) {
  if (sum.shards.size() < part.shards.size()) sum.shards.resize(part.shards.size());
  for (std::size_t i = 0; i < part.shards.size(); ++i) {
    sum.shards[i].name = part.shards[i].name;
    for (std::size_t k = 0; k < statement_classes; ++k) sum.shards[i].statements[k] += part.shards[i].statements[k];
    for (std::size_t k = 0; k < LatencyHistogram::buckets; ++k) sum.shards[i].latency[k] += part.shards[i].latency[k];
    sum.shards[i].latency_sum_us += part.shards[i].latency_sum_us;
  }
  for (std::uint64_t DatabaseFacts::* counter :
       {&DatabaseFacts::scattered, &DatabaseFacts::refused, &DatabaseFacts::local, &DatabaseFacts::cache_hits,
        &DatabaseFacts::cache_misses, &DatabaseFacts::cache_entries, &DatabaseFacts::bytes_in,
        &DatabaseFacts::bytes_out, &DatabaseFacts::clients, &DatabaseFacts::logins, &DatabaseFacts::login_failures,
        &DatabaseFacts::cancels, &DatabaseFacts::moved_bytes})
    sum.*counter += part.*counter;
  for (const auto& [state, count] : part.errors) sum.errors[state] += count;
  sum.paused = sum.paused || part.paused;
  if (sum.problem.empty()) sum.problem = part.problem;
}

void add(StatementFacts& sum, StatementFacts part) {
  if (sum.calls == 0) {
    sum = std::move(part);
    return;
  }
  for (std::uint64_t StatementFacts::* value : {&StatementFacts::calls, &StatementFacts::errors, &StatementFacts::rows,
                                                &StatementFacts::timed, &StatementFacts::total_us})
    sum.*value += part.*value;
  sum.min_us = std::min(sum.min_us, part.min_us);
  sum.max_us = std::max(sum.max_us, part.max_us);
  sum.shards.merge(part.shards);
}

void add(PoolFacts& sum, PoolFacts part) {
  if (sum.database.empty()) {
    sum = std::move(part);
    return;
  }
  for (int pool::PoolCounts::* count :
       {&pool::PoolCounts::idle, &pool::PoolCounts::busy, &pool::PoolCounts::connecting, &pool::PoolCounts::waiting})
    sum.counts.*count += part.counts.*count;
  using Totals = pool::PoolTotals;
  for (std::uint64_t Totals::* total : {&Totals::checkouts, &Totals::waits, &Totals::wait_ns, &Totals::timeouts,
                                        &Totals::connects, &Totals::connect_failures, &Totals::closed})
    sum.totals.*total += part.totals.*total;
  sum.paused = sum.paused || part.paused;
  sum.longest_wait = std::max(sum.longest_wait, part.longest_wait);
  if (sum.last_error.empty()) sum.last_error = part.last_error;
  std::move(part.connections.begin(), part.connections.end(), std::back_inserter(sum.connections));
}

void collect_statements(const WorkerDatabase& database, Facts& facts) {
  database.statements().each([&](const router::StatementCounters& counters) {
    if (counters.calls == 0) return;
    StatementFacts one{database.name(), counters.text,     counters.calls,  counters.errors, counters.rows,
                       counters.timed,  counters.total_us, counters.min_us, counters.max_us, {}};
    for (std::size_t shard = 0; shard < database.shard_count(); ++shard)
      if ((counters.shards[shard / 64] >> (shard % 64) & 1) != 0)
        one.shards.insert(database.settings().shards[shard].name);
    add(facts.statements[{one.database, one.text}], std::move(one));
  });
}

}  // namespace

std::uint64_t DatabaseFacts::statements() const {
  std::uint64_t sum = 0;
  for (const Shard& shard : shards) sum = std::accumulate(shard.statements.begin(), shard.statements.end(), sum);
  return sum;
}

std::uint64_t DatabaseFacts::statement_us() const {
  std::uint64_t sum = 0;
  for (const Shard& shard : shards) sum += shard.latency_sum_us;
  return sum;
}

Facts collect(Worker& worker, const Wanted& wanted) {
  Facts facts;
  const TimePoint now = worker.loop().now();
  facts.io_uring_workers = worker.loop().sends_together() ? 1 : 0;
  worker.each_database([&](WorkerDatabase& database) {
    collect_counters(database, facts.databases[database.name()]);
    database.each_pool([&](const pool::Pool& pool) {
      PoolFacts one = pool_facts(pool, database, worker.number(), wanted.connections);
      Facts::PoolKey key{one.database, one.user, one.shard};
      facts.pools.insert_or_assign(std::move(key), std::move(one));
    });
    if (wanted.statements && (wanted.database.empty() || wanted.database == database.name()))
      collect_statements(database, facts);
  });
  worker.each_client([&](const Client& client) {
    const Session* session = client.session();
    if (session == nullptr) return;
    const auto database = facts.databases.find(session->options().database->name());
    if (database != facts.databases.end()) {
      ++database->second.clients;
      database->second.bytes_in += client.bytes_in();
      database->second.bytes_out += client.bytes_out();
    }
    if (!wanted.sessions || (!wanted.database.empty() && session->options().database->name() != wanted.database))
      return;
    ++facts.sessions_total;
    if (facts.sessions.size() < wanted.max_sessions)
      facts.sessions.push_back(session_facts(client, *session, worker, now));
  });
  return facts;
}

Facts merge(std::vector<Facts> parts) {
  Facts sum;
  for (Facts& part : parts) {
    for (const auto& [name, database] : part.databases) add(sum.databases[name], database);
    for (auto& [key, one] : part.statements) add(sum.statements[key], std::move(one));
    for (auto& [key, pool] : part.pools) add(sum.pools[key], std::move(pool));
    std::move(part.sessions.begin(), part.sessions.end(), std::back_inserter(sum.sessions));
    sum.sessions_total += part.sessions_total;
    sum.io_uring_workers += part.io_uring_workers;
  }
  std::sort(sum.sessions.begin(), sum.sessions.end(), [](const auto& a, const auto& b) { return a.id < b.id; });
  return sum;
}

std::vector<const StatementFacts*> by_time(const Facts& facts) {
  std::vector<const StatementFacts*> all;
  for (const auto& [key, one] : facts.statements) all.push_back(&one);
  std::ranges::sort(all, std::greater(),
                    [](const StatementFacts* one) { return std::tuple(one->total_us, one->calls); });
  return all;
}

ShardHealth health_of(const Facts& facts, const std::string& database, const std::string& shard) {
  ShardHealth health;
  for (const auto& [key, pool] : facts.pools) {
    if (pool.database != database || pool.shard != shard) continue;
    health.connections += pool.counts.idle + pool.counts.busy;
    if (health.last_error.empty()) health.last_error = pool.last_error;
  }
  health.healthy = health.connections > 0 || health.last_error.empty();
  return health;
}

ProcessFacts process_facts(const Server& server) {
  ProcessFacts facts;
  std::ifstream memory("/proc/self/statm");
  std::uint64_t pages = 0, resident = 0;
  if (memory >> pages >> resident) {
    const auto size = static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE));
    facts.virtual_bytes = pages * size;
    facts.resident_bytes = resident * size;
  }
  std::error_code ignored;  // without /proc there are no numbers to show
  for (std::filesystem::directory_iterator it("/proc/self/fd", ignored), end; it != end; it.increment(ignored))
    ++facts.open_files;
  rlimit limit{};
  if (::getrlimit(RLIMIT_NOFILE, &limit) == 0) facts.max_files = limit.rlim_cur;
  rusage usage{};
  if (::getrusage(RUSAGE_SELF, &usage) == 0) {
    const auto seconds = [](const timeval& time) {
      return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_usec) / 1e6;
    };
    facts.cpu_seconds = seconds(usage.ru_utime) + seconds(usage.ru_stime);
  }
  facts.uptime_seconds = std::chrono::duration<double>(Clock::now() - server.started_at()).count();
  facts.start_time =
      std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count() - facts.uptime_seconds;
  return facts;
}

}  // namespace tessera::proxy
