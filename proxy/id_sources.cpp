#include "proxy/id_sources.hpp"

#include <algorithm>
#include <charconv>
#include <fmt/format.h>

#include "proxy/worker_database.hpp"

namespace tessera::proxy {

namespace {
constexpr Duration kept_idle = std::chrono::minutes(1);
constexpr std::size_t ids_in_millisecond = 1024;
// Rows with these numbers may be on other shards: a server that breaks down must not give them again, whatever the role
// has set for its own rows.
constexpr std::string_view lasts = "SET LOCAL synchronous_commit = on; ";
constexpr std::string_view make_table =
    "CREATE SCHEMA IF NOT EXISTS tessera; CREATE TABLE IF NOT EXISTS tessera.id_lease (slot int PRIMARY KEY, until_ms "
    "bigint NOT NULL)";
}  // namespace

struct IdSources::Source {
  pool::Settings settings;
  std::string sequence;
  std::uint32_t slot = 0;
  IdSource numbers;
  int attempts = 0;  // to make the table
};

IdSources::IdSources(WorkerDatabase& database) : database_(&database) {}

IdSources::~IdSources() = default;

std::string IdSources::query(const std::string& sequence, std::size_t count) {
  const std::string name = fmt::format("{}::pg_catalog.regclass", pool::quote_literal(sequence));
  if (count == 1) return fmt::format("{}SELECT pg_catalog.nextval({})", lasts, name);
  // At its end a sequence gives an error, and takes with it the numbers that the same query has got.
  return fmt::format(
      "{2}SELECT pg_catalog.nextval({0}) FROM pg_catalog.generate_series(1, (SELECT CASE WHEN s.seqcycle THEN {1} ELSE "
      "greatest(1, least({1}, pg_catalog.trunc(CASE WHEN s.seqincrement > 0 THEN s.seqmax::pg_catalog.numeric - l.last "
      "ELSE l.last - "
      "s.seqmin::pg_catalog.numeric END / pg_catalog.abs(s.seqincrement::pg_catalog.numeric)))) END::pg_catalog.int4 "
      "FROM pg_catalog.pg_sequence s, "
      "LATERAL (SELECT coalesce(pg_catalog.pg_sequence_last_value(s.seqrelid)::pg_catalog.numeric, "
      "s.seqstart::pg_catalog.numeric - s.seqincrement)) "
      "l (last) WHERE s.seqrelid = {0}))",
      name, count, lasts);
}

// Each lease begins where the one before it has ended, or now.
std::string IdSources::lease(std::uint32_t slot, std::size_t count) {
  return fmt::format(
      "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE; {2}INSERT INTO tessera.id_lease AS l (slot, until_ms) VALUES "
      "({0}, (extract(epoch FROM "
      "pg_catalog.clock_timestamp()) * "
      "1000)::pg_catalog.int8 - 1577836800000 + {1}) ON CONFLICT (slot) DO UPDATE SET until_ms = greatest(l.until_ms, "
      "excluded.until_ms - "
      "{1}) + {1} RETURNING until_ms - {1}; COMMIT",
      slot, (count + ids_in_millisecond - 1) / ids_in_millisecond, lasts);
}

IdSource::Numbers IdSources::ids_from(std::int64_t millisecond, std::uint32_t slot, std::size_t count) {
  IdSource::Numbers ids;
  for (std::size_t i = 0; i < count; ++i)
    ids.push_back((millisecond + static_cast<std::int64_t>(i / ids_in_millisecond)) << 23 |
                  static_cast<std::int64_t>(slot) << 10 | static_cast<std::int64_t>(i % ids_in_millisecond));
  return ids;
}

std::optional<IdSource::Numbers> IdSources::take(const SequenceOfRole& of, std::size_t count, IdSource::Then then) {
  look_for_set();
  Connection& connection = connections_[of.identity.get()];
  connection.identity = of.identity;
  Source& source = source_of(connection, of);
  std::optional<IdSource::Numbers> numbers = source.numbers.take(count, database_->loop().now());
  if (!numbers) source.numbers.ask(count, database_->loop().now(), std::move(then));
  if (!held() || of.must_not_wait) feed(connection, source);
  return numbers;
}

IdSources::Source& IdSources::source_of(Connection& connection, const SequenceOfRole& of) {
  for (const auto& source : connection.sources)
    if (source->sequence == of.sequence && source->slot == of.slot && *source->settings == *of.settings) return *source;
  return *connection.sources.emplace_back(std::make_unique<Source>(of.settings, of.sequence, of.slot));
}

void IdSources::feed(Connection& connection, Source& source) {
  const std::size_t count = source.numbers.fetch(database_->loop().now());
  if (count == 0) return;
  ask(connection, source, count, {source.sequence.empty() ? lease(source.slot, count) : query(source.sequence, count)});
}

void IdSources::ask(Connection& connection, Source& source, std::size_t count, std::vector<std::string> queries) {
  const auto& topology = database_->routing()->topology;
  const ShardId shard = topology->default_shard().value_or(ShardId(0));
  if (connection.shard != shard && connection.queries.empty())
    close(connection, {sqlstate::connection_failure, "another shard has the sequences", {}, {}, 0});
  if (!connection.pool) {
    connection.shard = shard;
    connection.pool = database_->own_pool(connection.identity, connection.identity->user, shard, "ids");
    connection.pool->resume();  // feed() knows who waits for the end of a PAUSE
  }
  connection.used_at = database_->loop().now();
  auto query =
      std::make_unique<pool::TextQuery>(*connection.pool, source.settings, std::move(queries),
                                        [this, &connection, &source, count](Result<pool::TextQuery::Answer> answer) {
                                          fetched(connection, source, count, std::move(answer));
                                        });
  pool::TextQuery& started = *query;
  connection.queries.push_back(std::move(query));
  started.start();
}

void IdSources::fetched(Connection& connection, Source& source, std::size_t count,
                        Result<pool::TextQuery::Answer> answer) {
  // The query is on the stack: it goes when the round is over.
  for (auto& query : connection.queries)
    if (query->finished()) database_->loop().defer([doomed = std::move(query)] {});
  std::erase(connection.queries, nullptr);
  look_for_set();
  if (held()) connection.pool->reconnect();
  if (!answer) {
    const std::string_view code = answer.error().code.view();
    // There is no such table, or somebody makes it at this moment.
    const bool again =
        source.sequence.empty() && (code == "42P01" || code == "3F000" || code == "23505" || code == "42P07");
    if (again && source.attempts++ < 3)
      return ask(connection, source, count, {std::string(make_table), lease(source.slot, count)});
    Error error = answer.error();
    if (again || (source.sequence.empty() && code == "42501")) {
      error.message = fmt::format("ids cannot be made: {}", error.message);
      error.hint = fmt::format(
          "let somebody who may do so run on the default shard: {}; GRANT USAGE ON SCHEMA tessera TO …; GRANT "
          "SELECT, INSERT, UPDATE ON tessera.id_lease TO …",
          make_table);
    }
    return source.numbers.fetched(std::unexpected(std::move(error)));
  }
  IdSource::Numbers numbers;
  for (const pool::TextQuery::Row& row : answer->results.back()) {
    const std::string text = row.empty() ? "" : row.front().value_or("");
    std::int64_t number = 0;
    if (std::from_chars(text.data(), text.data() + text.size(), number).ec == std::errc()) numbers.push_back(number);
  }
  if (numbers.empty())
    return source.numbers.fetched(fail(sqlstate::protocol_violation, "the server gave no number of a sequence"));
  if (source.sequence.empty()) numbers = ids_from(numbers.front(), source.slot, count);
  source.numbers.fetched(std::move(numbers));
  feed(connection, source);
}

void IdSources::forget() {
  ++database_->runtime().sequences_set;
}

// By any worker.
void IdSources::look_for_set() {
  const std::uint64_t set = database_->runtime().sequences_set.load();
  if (std::exchange(seen_set_, set) != set) make_void();
}

void IdSources::make_void() {
  for (auto& [identity, connection] : connections_)
    for (const auto& source : connection.sources) source->numbers.forget();
}

void IdSources::close(Connection& connection, const Error& reason) {
  if (!connection.pool) return;
  std::unique_ptr<pool::Pool> pool = std::move(connection.pool);
  connection.queries.clear();
  pool->shut_down(reason);
  database_->loop().defer([doomed = std::move(pool)] {});  // queries that have ended go before it
}

// Whoever waits is told; the next one gets a new connection.
void IdSources::drop(Connection& connection, const Error& reason) {
  close(connection, reason);
  for (const auto& source : connection.sources)
    if (source->numbers.fetching()) source->numbers.fetched(std::unexpected(reason));
}

void IdSources::reconfigure() {
  make_void();
  for (auto& [identity, connection] : connections_)
    if (connection.pool)
      connection.pool->reconfigure(database_->runtime().primaries[connection.shard.value()], connection.identity,
                                   database_->own_limits());
}

bool IdSources::held() const {
  return database_->paused() || database_->resuming();
}

void IdSources::pause() {
  for (auto& [identity, connection] : connections_)
    if (connection.pool) connection.pool->reconnect();
}

void IdSources::resume() {
  for (auto& [identity, connection] : connections_)
    for (const auto& source : connection.sources) feed(connection, *source);
}

void IdSources::shut_down(const Error& reason) {
  for (auto& [identity, connection] : connections_) drop(connection, reason);
}

// As Pool refuses who has waited too long for a connection.
void IdSources::refuse_held(Connection& connection, TimePoint now) {
  const Duration patience = database_->settings().pool.checkout_timeout;
  for (const auto& source : connection.sources)
    if (patience != Duration::zero() && !source->numbers.fetching() && now - source->numbers.waits_since() > patience)
      source->numbers.fetched(fail(sqlstate::cannot_connect_now,
                                   fmt::format("database \"{}\" is paused", database_->name()),
                                   "RESUME in the console lets statements run again"));
}

void IdSources::sweep(TimePoint now) {
  const Duration patience = database_->settings().pool.checkout_timeout;
  for (auto& [identity, connection] : connections_) {
    if (held()) refuse_held(connection, now);
    std::erase_if(connection.sources, [now](const auto& source) { return source->numbers.idle(now); });
    if (!connection.pool) continue;
    connection.pool->sweep(now);
    const bool hangs = std::ranges::any_of(connection.sources, [&](const auto& source) {
      return patience != Duration::zero() && source->numbers.fetching() &&
             now - source->numbers.fetched_at() > patience;
    });
    if (hangs)
      drop(connection, {sqlstate::connection_failure,
                        "the default shard does not give the next number of a sequence",
                        fmt::format("it was asked {} ms ago",
                                    std::chrono::duration_cast<std::chrono::milliseconds>(patience).count()),
                        {},
                        0});
  }
  for (auto it = connections_.begin(); it != connections_.end();) {
    Connection& connection = it->second;
    const bool idle = connection.queries.empty() && connection.sources.empty() && now - connection.used_at >= kept_idle;
    if (idle) drop(connection, {sqlstate::admin_shutdown, "nobody needs it", {}, {}, 0});
    it = idle ? connections_.erase(it) : std::next(it);
  }
}

}  // namespace tessera::proxy
