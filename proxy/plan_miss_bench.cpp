// What a statement of a new shape costs (WorkerDatabase::plan, its counters and its look at SET apart), and how long
// the other clients of a worker wait while a full plan cache makes room.
#include <algorithm>
#include <benchmark/benchmark.h>
#include <ctime>
#include <fmt/format.h>

#include "parser/postgres/parse.hpp"
#include "proxy/hidden_state.hpp"
#include "router/plan_cache.hpp"
#include "router/planner.hpp"

namespace tessera::proxy {
namespace {

class Bench {
public:
  Bench(int shards, int tables) {
    config::Database database;
    config::HashRule rule;
    for (int i = 0; i < shards; ++i) {
      rule.shards.push_back(fmt::format("s{}", i));
      database.shards.push_back({.name = rule.shards.back()});
    }
    database.rules.push_back({"by_key", std::move(rule), {}});
    const auto add = [&](const std::string& name, const std::string& key) {
      database.tables.push_back({.name = name, .rule = "by_key", .key = {key}, .key_type = "bigint"});
    };
    add("accounts", "aid");
    add("users", "id");
    add("orders", "user_id");
    for (int i = 3; i < tables; ++i) add(fmt::format("other_{}", i), "id");
    catalog_ = router::Catalog::from_config(database);
    topology_ = router::Topology::build(database, catalog_, 1).value();
  }

  // False: it is not new, or it is refused.
  bool miss(std::string_view sql) {
    parser::fingerprint(sql, {}, print_);
    const router::PlanCache::Key key{print_.high, print_.low, 0};
    if (!print_.exact || cache_.find(key) != nullptr) return false;
    const auto parsed = parser::postgres::parse(sql);
    if (!parsed) return false;
    auto text = std::make_shared<router::PlannedText>();
    for (const parser::Statement& statement : *parsed) {
      router::PlannedStatement& planned = text->statements.emplace_back();
      planned.plan = router::plan(statement, sql, print_.slots, {}, *topology_, catalog_, {});
      planned.changes_hidden_state = hidden_state(statement, catalog_, {}).changes;
      if (planned.plan.refusal) return false;
    }
    cache_.insert(key, std::move(text));
    return true;
  }

private:
  router::Catalog catalog_;
  std::shared_ptr<const router::Topology> topology_;
  router::PlanCache cache_{static_cast<std::size_t>(config::Limits().plan_cache)};
  parser::Fingerprint print_;
};

// A text whose shape is another each time: the first @ is replaced by a number that is part of a name.
class NewShapes {
public:
  explicit NewShapes(std::string_view pattern) : at_(pattern.find('@')), sql_(pattern) {
    sql_.replace(at_, 1, width, '0');
  }
  std::string_view next() {
    std::uint64_t rest = ++number_;
    for (std::size_t i = width; i-- > 0; rest /= 10) sql_[at_ + i] = static_cast<char>('0' + rest % 10);
    return sql_;
  }

private:
  static constexpr std::size_t width = 9;
  std::size_t at_;
  std::string sql_;
  std::uint64_t number_ = 0;
};

constexpr std::string_view lookup = "SELECT abalance AS a@ FROM accounts WHERE aid = 12345";
constexpr std::string_view join =
    "SELECT \"u\".\"id\", \"u\".\"name\" AS a@, \"u\".\"email\" FROM \"users\" \"u\" INNER JOIN \"orders\" \"o\" ON "
    "\"o\".\"user_id\" = \"u\".\"id\" WHERE \"u\".\"id\" = 5 AND \"o\".\"state\" IN ('new', 'paid') ORDER BY "
    "\"o\".\"created_at\" DESC LIMIT 10";
constexpr std::string_view insert =
    "INSERT INTO orders (user_id, id, a@, note) VALUES (1, 1, 1, 'a'), (1, 2, 2, 'b'), (1, 3, 3, 'c'), (1, 4, 4, 'd'), "
    "(1, 5, 5, 'e'), (1, 6, 6, 'f'), (1, 7, 7, 'g'), (1, 8, 8, 'h'), (1, 9, 9, 'i'), (1, 10, 10, 'j')";
constexpr std::string_view report =
    "WITH recent AS (SELECT o.user_id, o.state, sum(o.total) AS total, count(*) AS orders FROM orders o WHERE "
    "o.user_id = 7 AND o.created_at >= '2026-01-01' AND o.state <> 'cancelled' GROUP BY o.user_id, o.state HAVING "
    "count(*) > 2) SELECT u.id, u.name AS a@, CASE WHEN r.total > 1000 THEN 'large' WHEN r.total > 100 THEN "
    "'medium' ELSE 'small' END AS size, coalesce(r.orders, 0) AS orders, (SELECT max(p.created_at) FROM orders p "
    "WHERE p.user_id = u.id) AS last FROM users u LEFT JOIN recent r ON r.user_id = u.id WHERE u.id = 7 AND "
    "(u.email LIKE '%@example.org' OR u.email IS NULL) ORDER BY r.total DESC NULLS LAST, u.id LIMIT 20 OFFSET 0";

void miss(benchmark::State& state, int shards, int tables, std::string_view pattern) {
  Bench bench(shards, tables);
  NewShapes shapes(pattern);
  for (auto _ : state) {
    if (!bench.miss(shapes.next())) return state.SkipWithError("not planned anew");
  }
  state.SetItemsProcessed(state.iterations());
}

BENCHMARK_CAPTURE(miss, lookup, 4, 3, lookup)->Name("plan-cache miss/key lookup");
BENCHMARK_CAPTURE(miss, lookup_many, 1'024, 1'000, lookup)
    ->Name("plan-cache miss/key lookup, 1,024 shards, 1,000 tables");
BENCHMARK_CAPTURE(miss, join, 4, 3, join)->Name("plan-cache miss/join as ORMs write it");
BENCHMARK_CAPTURE(miss, insert, 4, 3, insert)->Name("plan-cache miss/INSERT of ten rows");
BENCHMARK_CAPTURE(miss, report, 4, 3, report)->Name("plan-cache miss/report: WITH, CASE, subquery, outer join");

// CPU time of this thread: the wall clock would show who else wanted the processor.
double seconds() {
  timespec now{};
  ::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec);
}

// Of all the misses that it takes to fill the default cache twice over, the longest: it is the one that evicts.
void longest_miss(benchmark::State& state) {
  Bench bench(4, 3);
  NewShapes shapes(lookup);
  const int misses = 2 * config::Limits().plan_cache;
  for (auto _ : state) {
    double longest = 0;
    for (int i = 0; i < misses; ++i) {
      const double before = seconds();
      if (!bench.miss(shapes.next())) return state.SkipWithError("not planned anew");
      longest = std::max(longest, seconds() - before);
    }
    state.SetIterationTime(longest);
  }
  state.SetItemsProcessed(state.iterations());
}
BENCHMARK(longest_miss)->UseManualTime()->Iterations(2)->Name("plan-cache miss/the longest of 20,000 key lookups");

}  // namespace
}  // namespace tessera::proxy
