#include <benchmark/benchmark.h>

#include "parser/fingerprint.hpp"

namespace {

void lex(benchmark::State& state, std::string_view sql) {
  tessera::parser::Fingerprint out;
  for (auto _ : state) {
    tessera::parser::fingerprint(sql, {}, out);
    benchmark::DoNotOptimize(out);
  }
  state.SetBytesProcessed(state.iterations() * static_cast<std::int64_t>(sql.size()));
}

BENCHMARK_CAPTURE(lex, key_lookup, "SELECT abalance FROM pgbench_accounts WHERE aid = 12345");
BENCHMARK_CAPTURE(lex, parameter, "SELECT abalance FROM pgbench_accounts WHERE aid = $1");
BENCHMARK_CAPTURE(lex, update, "UPDATE pgbench_accounts SET abalance = abalance + -1234 WHERE aid = 12345;");
BENCHMARK_CAPTURE(
    lex, orm,
    "SELECT \"u\".\"id\", \"u\".\"name\", \"u\".\"email\" FROM \"users\" \"u\" INNER JOIN \"orders\" \"o\" ON "
    "\"o\".\"user_id\" = \"u\".\"id\" WHERE \"u\".\"id\" = 5 AND \"o\".\"state\" IN ('new', 'paid') ORDER BY "
    "\"o\".\"created_at\" DESC LIMIT 10");

}  // namespace
