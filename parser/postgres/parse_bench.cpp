// What the parser alone costs: the greater part of a plan-cache miss.
#include <benchmark/benchmark.h>

#include "parser/postgres/parse.hpp"

namespace {

void parse(benchmark::State& state, std::string_view sql) {
  for (auto _ : state) {
    const auto parsed = tessera::parser::postgres::parse(sql);
    if (!parsed) return state.SkipWithError("a syntax error");
    benchmark::DoNotOptimize(parsed);
  }
  state.SetItemsProcessed(state.iterations());
}

BENCHMARK_CAPTURE(parse, key_lookup, "SELECT abalance FROM pgbench_accounts WHERE aid = 12345")
    ->Name("parser/key lookup");
BENCHMARK_CAPTURE(
    parse, join,
    "SELECT u.name, count(*), sum(o.total) FROM users u JOIN orders o ON o.user_id = u.id WHERE u.id = $1 AND "
    "o.state IN ('new', 'paid') GROUP BY u.name ORDER BY 2 DESC LIMIT 10")
    ->Name("parser/join with aggregates");

}  // namespace
