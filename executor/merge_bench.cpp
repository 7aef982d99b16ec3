// The sorted rows of four shards as one stream: what one row costs.
#include <benchmark/benchmark.h>

#include "executor/merge_rows.hpp"
#include "wire/postgres/backend.hpp"

namespace tessera::executor {
namespace {

constexpr std::size_t shards = 4;
constexpr std::size_t piece = 64 * 1024;  // that one read brings

// As of SELECT id, owner, note FROM t ORDER BY id.
std::string sorted_rows(std::size_t shard, std::size_t count, bool by_text) {
  std::string bytes;
  for (std::size_t i = 0; i < count; ++i) {
    const std::uint64_t key = i * shards + shard;
    std::string value;
    for (int shift = 56; shift >= 0; shift -= 8) value += static_cast<char>(key >> shift);
    if (by_text)
      value = "customer-" + std::string(8 - std::to_string(key % 100'000'000).size(), '0') + std::to_string(key);
    const std::string text = std::to_string(key), note(80, 'x');
    const postgres::Value values[] = {text, text, note, value};
    if (!postgres::append_data_row(bytes, values)) std::abort();
  }
  return bytes;
}

void merge(benchmark::State& state, bool by_text) {
  constexpr std::size_t rows = 20'000;
  const auto order = by_text ? router::SortOrder::bytes : router::SortOrder::signed_number;
  std::string streams[shards];
  for (std::size_t i = 0; i < shards; ++i) streams[i] = sorted_rows(i, rows, by_text);
  std::string out;
  for (auto _ : state) {
    MergeRows merge(shards, {.columns = 3, .keys = {{order, {}}}});
    std::size_t at[shards] = {};
    while (!merge.done()) {
      for (std::size_t i = 0; i < shards; ++i) {
        if (!merge.wants(i) || at[i] > streams[i].size()) continue;
        if (at[i] == streams[i].size()) {
          if (!merge.end(i)) std::abort();
          ++at[i];
          continue;
        }
        const std::string_view next = std::string_view(streams[i]).substr(at[i], piece);
        at[i] += next.size();
        if (!merge.take(i, next)) std::abort();
      }
      do {
        out.clear();
        if (!merge.give(out, 32 * 1024)) std::abort();
        benchmark::DoNotOptimize(out.data());
      } while (!out.empty());
    }
  }
  state.SetItemsProcessed(state.iterations() * static_cast<std::int64_t>(rows * shards));
}

void by_bigint(benchmark::State& state) {
  merge(state, false);
}
BENCHMARK(by_bigint)->Name("merge/of a row by a bigint");

void by_text(benchmark::State& state) {
  merge(state, true);
}
BENCHMARK(by_text)->Name("merge/of a row by a text of 17 bytes");

}  // namespace
}  // namespace tessera::executor
