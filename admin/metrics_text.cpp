#include "admin/metrics_text.hpp"

#include <prometheus/metric_family.h>
#include <prometheus/text_serializer.h>

#include "proxy/server.hpp"
#include "proxy/version.hpp"

namespace tessera::admin {

namespace {

using prometheus::ClientMetric;
using prometheus::MetricFamily;
using prometheus::MetricType;
using proxy::DatabaseFacts;
using proxy::Facts;
using proxy::LatencyHistogram;
using proxy::PoolFacts;
using Labels = std::vector<ClientMetric::Label>;
using Families = std::vector<MetricFamily>;

class Family {
public:
  Family(Families& all, MetricType type, std::string name, std::string help) : all_(all) {
    family_.name = std::move(name);
    family_.help = std::move(help);
    family_.type = type;
  }
  ~Family() { all_.push_back(std::move(family_)); }
  Family(const Family&) = delete;
  Family& operator=(const Family&) = delete;

  template <typename Number>
  void add(Labels labels, Number number) {
    ClientMetric& metric = add(std::move(labels));
    (family_.type == MetricType::Counter ? metric.counter.value : metric.gauge.value) = static_cast<double>(number);
  }
  ClientMetric& add(Labels labels) {
    ClientMetric& metric = family_.metric.emplace_back();
    metric.label = std::move(labels);
    return metric;
  }

private:
  Families& all_;
  MetricFamily family_;
};

// ---- databases ------------------------------------------------------------------------------------------------------

void statements(const Facts& facts, Families& all) {
  Family family(all, MetricType::Counter, "tessera_statements_total", "Statements that went to one shard, by kind.");
  for (const auto& [name, database] : facts.databases)
    for (const DatabaseFacts::Shard& shard : database.shards)
      for (std::size_t i = 0; i < proxy::statement_classes; ++i)
        family.add({{"database", name}, {"shard", shard.name}, {"class", proxy::statement_class_names[i]}},
                   shard.statements[i]);
}

// Every second bucket: powers of four of a microsecond are fine enough for alarms and half the lines.
void latencies(const Facts& facts, Families& all) {
  Family family(all, MetricType::Histogram, "tessera_statement_duration_seconds",
                "From the client's message to the last byte of the reply, by shard.");
  for (const auto& [name, database] : facts.databases) {
    for (const DatabaseFacts::Shard& shard : database.shards) {
      auto& histogram = family.add({{"database", name}, {"shard", shard.name}}).histogram;
      std::uint64_t below = 0;
      for (std::size_t i = 0; i + 1 < LatencyHistogram::buckets; ++i) {
        below += shard.latency[i];
        if (i % 2 == 0) histogram.bucket.push_back({below, LatencyHistogram::upper_bound(i)});
      }
      histogram.sample_count = below + shard.latency.back();
      histogram.bucket.push_back({histogram.sample_count, std::numeric_limits<double>::infinity()});
      histogram.sample_sum = static_cast<double>(shard.latency_sum_us) / 1e6;
    }
  }
}

struct DatabaseMetric {
  MetricType type;
  const char* name;
  const char* help;
  std::uint64_t DatabaseFacts::* value;
};

const DatabaseMetric database_metrics[] = {
    {MetricType::Counter, "tessera_scattered_statements_total", "Statements that went to several shards.",
     &DatabaseFacts::scattered},
    {MetricType::Counter, "tessera_refused_statements_total", "Statements that Tessera refused.",
     &DatabaseFacts::refused},
    {MetricType::Counter, "tessera_local_statements_total", "Statements that Tessera answered without a server.",
     &DatabaseFacts::local},
    {MetricType::Counter, "tessera_plan_cache_hits_total", "Statements whose plan was cached.",
     &DatabaseFacts::cache_hits},
    {MetricType::Counter, "tessera_plan_cache_misses_total", "Statements that had to be parsed and planned.",
     &DatabaseFacts::cache_misses},
    {MetricType::Gauge, "tessera_plan_cache_entries", "Plans in the caches of all workers.",
     &DatabaseFacts::cache_entries},
    {MetricType::Gauge, "tessera_clients", "Client sessions now.", &DatabaseFacts::clients},
    {MetricType::Counter, "tessera_logins_total", "Clients that logged in.", &DatabaseFacts::logins},
    {MetricType::Counter, "tessera_cancels_total", "Cancel requests passed on to servers.", &DatabaseFacts::cancels},
    {MetricType::Counter, "tessera_client_received_bytes_total", "Bytes from clients.", &DatabaseFacts::bytes_in},
    {MetricType::Counter, "tessera_client_sent_bytes_total", "Bytes to clients.", &DatabaseFacts::bytes_out},
    {MetricType::Counter, "tessera_moved_bytes_total", "Bytes of rows that went from one shard to another.",
     &DatabaseFacts::moved_bytes},
};

void databases(const Facts& facts, Families& all) {
  statements(facts, all);
  latencies(facts, all);
  for (const DatabaseMetric& metric : database_metrics) {
    Family family(all, metric.type, metric.name, metric.help);
    for (const auto& [name, database] : facts.databases) family.add({{"database", name}}, database.*metric.value);
  }
  {
    Family family(all, MetricType::Counter, "tessera_errors_total", "Errors that clients were sent, by SQLSTATE.");
    for (const auto& [name, database] : facts.databases)
      for (const auto& [sqlstate, count] : database.errors)
        family.add({{"database", name}, {"sqlstate", sqlstate}}, count);
  }
  {
    Family family(all, MetricType::Gauge, "tessera_database_paused", "1 while PAUSE is in force.");
    for (const auto& [name, database] : facts.databases) family.add({{"database", name}}, database.paused ? 1 : 0);
  }
  Family family(all, MetricType::Gauge, "tessera_database_rules_fit",
                "0 while clients are refused because the sharding rules do not fit the tables.");
  for (const auto& [name, database] : facts.databases)
    family.add({{"database", name}}, database.problem.empty() ? 1 : 0);
}

// ---- pools ----------------------------------------------------------------------------------------------------------

struct PoolMetric {
  MetricType type;
  const char* name;
  const char* help;
  double (*value)(const PoolFacts&);
};

double seconds(Duration time) {
  return std::chrono::duration<double>(time).count();
}

const PoolMetric pool_metrics[] = {
    {MetricType::Gauge, "tessera_pool_waiting_clients", "Clients that wait for a connection.",
     [](const PoolFacts& pool) { return static_cast<double>(pool.counts.waiting); }},
    {MetricType::Gauge, "tessera_pool_longest_wait_seconds", "For how long the first of them has been waiting.",
     [](const PoolFacts& pool) { return seconds(pool.longest_wait); }},
    {MetricType::Gauge, "tessera_pool_open_connections", "Connections that count against the limit.",
     [](const PoolFacts& pool) { return static_cast<double>(pool.open); }},
    {MetricType::Gauge, "tessera_pool_limit_connections", "pool.size, or the user's own.",
     [](const PoolFacts& pool) { return static_cast<double>(pool.limit); }},
    {MetricType::Counter, "tessera_pool_checkouts_total", "Connections asked for.",
     [](const PoolFacts& pool) { return static_cast<double>(pool.totals.checkouts); }},
    {MetricType::Counter, "tessera_pool_waits_total", "Checkouts that had to wait.",
     [](const PoolFacts& pool) { return static_cast<double>(pool.totals.waits); }},
    {MetricType::Counter, "tessera_pool_wait_seconds_total", "Time that clients waited for connections.",
     [](const PoolFacts& pool) { return static_cast<double>(pool.totals.wait_ns) / 1e9; }},
    {MetricType::Counter, "tessera_pool_checkout_timeouts_total", "Checkouts that ended by pool.checkout_timeout.",
     [](const PoolFacts& pool) { return static_cast<double>(pool.totals.timeouts); }},
    {MetricType::Counter, "tessera_pool_connects_total", "Attempts to connect to the server.",
     [](const PoolFacts& pool) { return static_cast<double>(pool.totals.connects); }},
    {MetricType::Counter, "tessera_pool_connect_failures_total", "Attempts that failed.",
     [](const PoolFacts& pool) { return static_cast<double>(pool.totals.connect_failures); }},
    {MetricType::Counter, "tessera_pool_closed_total", "Connections that were closed.",
     [](const PoolFacts& pool) { return static_cast<double>(pool.totals.closed); }},
};

Labels labels_of(const PoolFacts& pool) {
  return {{"database", pool.database}, {"shard", pool.shard}, {"user", pool.user}};
}

void pools(const Facts& facts, Families& all) {
  {
    Family family(all, MetricType::Gauge, "tessera_pool_connections", "Server connections by state.");
    for (const auto& [key, pool] : facts.pools) {
      for (const auto& [state, count] : {std::pair("idle", pool.counts.idle), std::pair("busy", pool.counts.busy),
                                         std::pair("connecting", pool.counts.connecting)}) {
        Labels labels = labels_of(pool);
        labels.push_back({"state", state});
        family.add(std::move(labels), count);
      }
    }
  }
  for (const PoolMetric& metric : pool_metrics) {
    Family family(all, metric.type, metric.name, metric.help);
    for (const auto& [key, pool] : facts.pools) family.add(labels_of(pool), metric.value(pool));
  }
}

void shards(const Facts& facts, Families& all) {
  Family family(all, MetricType::Gauge, "tessera_shard_healthy",
                "1: a connection stands, or the last attempt to make one did not fail.");
  for (const auto& [name, database] : facts.databases)
    for (const DatabaseFacts::Shard& shard : database.shards)
      family.add({{"database", name}, {"shard", shard.name}},
                 proxy::health_of(facts, name, shard.name).healthy ? 1 : 0);
}

void logins(const proxy::Server& server, Families& all) {
  Family family(all, MetricType::Counter, "tessera_login_failures_total",
                "Logins that were refused or timed out, by SQLSTATE; database \"\": none that there is.");
  for (const auto& [key, count] : server.login_failures().counts())
    family.add({{"database", key.first}, {"sqlstate", key.second}}, static_cast<double>(count));
}

// ---- process --------------------------------------------------------------------------------------------------------

void process_metrics(const Facts& facts, const proxy::ProcessFacts& process, const proxy::Server& server,
                     Families& all) {
  const auto one = [&](MetricType type, const char* name, const char* help, double value) {
    Family(all, type, name, help).add({}, value);
  };
  Family(all, MetricType::Gauge, "tessera_info", "Always 1; the version.")
      .add({{"version", std::string(proxy::version)}}, 1);
  one(MetricType::Gauge, "tessera_workers", "Worker threads.", static_cast<double>(server.workers().size()));
  one(MetricType::Gauge, "tessera_io_uring_workers", "Those that send for many connections at once, by io_uring.",
      static_cast<double>(facts.io_uring_workers));
  one(MetricType::Gauge, "tessera_client_places", "Most clients there is room for.",
      static_cast<double>(server.runtime()->places.clients));
  one(MetricType::Gauge, "tessera_draining", "1 while draining.", server.draining() ? 1 : 0);
  one(MetricType::Gauge, "tessera_uptime_seconds", "Since the start.", process.uptime_seconds);
  one(MetricType::Counter, "tessera_config_reloads_total", "Configurations taken over since the start.",
      static_cast<double>(server.reloads()));
  one(MetricType::Gauge, "process_resident_memory_bytes", "Resident memory.",
      static_cast<double>(process.resident_bytes));
  one(MetricType::Gauge, "process_virtual_memory_bytes", "Virtual memory.", static_cast<double>(process.virtual_bytes));
  one(MetricType::Gauge, "process_open_fds", "Open file descriptors.", static_cast<double>(process.open_files));
  one(MetricType::Gauge, "process_max_fds", "The limit of open file descriptors.",
      static_cast<double>(process.max_files));
  one(MetricType::Counter, "process_cpu_seconds_total", "User and system time.", process.cpu_seconds);
  one(MetricType::Gauge, "process_start_time_seconds", "When the process started, since 1970.", process.start_time);
}

}  // namespace

std::string metrics_text(const Facts& facts, const proxy::ProcessFacts& process, const proxy::Server& server) {
  Families all;
  databases(facts, all);
  shards(facts, all);
  pools(facts, all);
  logins(server, all);
  process_metrics(facts, process, server, all);
  // A family without samples is noise, and some scrapers refuse it.
  std::erase_if(all, [](const MetricFamily& family) { return family.metric.empty(); });
  return prometheus::TextSerializer().Serialize(all);
}

}  // namespace tessera::admin
