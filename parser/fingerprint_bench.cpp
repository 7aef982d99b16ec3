// What the fingerprint of a statement costs, once the lexer is warm.
#include <benchmark/benchmark.h>

#include "parser/fingerprint.hpp"

namespace tessera::parser {
namespace {

void print(benchmark::State& state, std::string_view sql) {
  Fingerprint out;
  for (auto _ : state) {
    benchmark::DoNotOptimize(sql);
    fingerprint(sql, {}, out);
    benchmark::DoNotOptimize(out);
  }
  if (!out.exact) state.SkipWithError("the fingerprint is not exact");
  state.SetItemsProcessed(state.iterations());
  state.SetBytesProcessed(state.iterations() * static_cast<std::int64_t>(sql.size()));
}

BENCHMARK_CAPTURE(print, lookup, "SELECT abalance FROM pgbench_accounts WHERE aid = 12345")
    ->Name("fingerprint/key lookup, literal (55 bytes)");
BENCHMARK_CAPTURE(print, parameter, "SELECT abalance FROM pgbench_accounts WHERE aid = $1")
    ->Name("fingerprint/key lookup, parameter (52 bytes)");
BENCHMARK_CAPTURE(
    print, join,
    "SELECT \"u\".\"id\", \"u\".\"name\", \"u\".\"email\" FROM \"users\" \"u\" INNER JOIN \"orders\" \"o\" ON "
    "\"o\".\"user_id\" = \"u\".\"id\" WHERE \"u\".\"id\" = 5 AND \"o\".\"state\" IN ('new', 'paid') ORDER BY "
    "\"o\".\"created_at\" DESC LIMIT 10")
    ->Name("fingerprint/join as ORMs write it (203 bytes)");

}  // namespace
}  // namespace tessera::parser
