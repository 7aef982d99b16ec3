// The server's extended hash functions, as hash and ring rules call them. Each call waits for the one before it, as a
// statement waits for its shard.
#include <benchmark/benchmark.h>

#include "router/hash.hpp"

namespace tessera::router {
namespace {

void hash_bigint(benchmark::State& state) {
  std::uint64_t last = 0;
  for (auto _ : state) {
    last = postgres_hash({KeyType::int8, static_cast<std::int64_t>(last), {}}, 0);
    benchmark::DoNotOptimize(last);
  }
  state.SetItemsProcessed(state.iterations());
}
BENCHMARK(hash_bigint)->Name("extended hash/of a bigint");

void hash_text(benchmark::State& state) {
  std::string_view text = "customer-00123456";
  benchmark::DoNotOptimize(text);
  std::uint64_t last = 0;
  for (auto _ : state) {
    last = postgres_hash({KeyType::text, 0, text.substr(last & 1, 16)}, 0);
    benchmark::DoNotOptimize(last);
  }
  state.SetItemsProcessed(state.iterations());
}
BENCHMARK(hash_text)->Name("extended hash/of a text of 16 bytes");

}  // namespace
}  // namespace tessera::router
