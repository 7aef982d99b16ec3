// What following a server's answer costs: many rows as they come out of the read buffer, and the answer of one
// statement.
#include <algorithm>
#include <array>
#include <benchmark/benchmark.h>

#include "net/event_loop.hpp"
#include "pool/reply_script.hpp"

namespace tessera::pool {
namespace {

struct Counter final : script::SilentSink {
  std::size_t bytes = 0;

  void on_relay(std::string_view relayed) override { bytes += relayed.size(); }
};

// In pieces as large as the event loop reads them; a message may be cut anywhere.
bool consume(ReplyReader& reader, Counter& sink, std::string_view bytes) {
  while (!bytes.empty()) {
    const std::string_view piece = bytes.substr(0, std::min(bytes.size(), net::EventLoop::read_buffer_size));
    if (!reader.consume(piece, sink)) return false;
    bytes.remove_prefix(piece.size());
  }
  return reader.empty();
}

void relay_rows(benchmark::State& state, std::size_t row_size) {
  constexpr std::size_t total = 1'000'000;
  const std::size_t rows = total / row_size;
  const std::string value(row_size - postgres::frame_header_size - 6, '1');  // beside a count and a length
  const std::array<postgres::Value, 1> values = {value};
  std::string bytes = script::columns();
  bool built = true;
  for (std::size_t i = 0; i < rows; ++i) built = built && postgres::append_data_row(bytes, values);
  if (!built) return state.SkipWithError("the rows cannot be built");
  bytes += script::complete() + script::ready();

  ReplyReader reader;
  for (auto _ : state) {
    Counter sink;
    reader.expect({.kind = ReplyKind::query});
    if (!consume(reader, sink, bytes) || sink.bytes != bytes.size())
      return state.SkipWithError("the rows are not relayed");
  }
  state.SetItemsProcessed(state.iterations() * static_cast<std::int64_t>(rows));
  state.SetBytesProcessed(state.iterations() * static_cast<std::int64_t>(bytes.size()));
}

BENCHMARK_CAPTURE(relay_rows, r16, 16)->Name("relaying/a row of 16 bytes");
BENCHMARK_CAPTURE(relay_rows, r120, 120)->Name("relaying/a row of 120 bytes");
BENCHMARK_CAPTURE(relay_rows, r1000, 1'000)->Name("relaying/a row of 1,000 bytes");

void relay_answer(benchmark::State& state, const std::vector<ReplyKind>& expected, const std::string& bytes) {
  ReplyReader reader;
  for (auto _ : state) {
    Counter sink;
    for (const ReplyKind kind : expected) reader.expect({.kind = kind});
    if (!consume(reader, sink, bytes) || sink.bytes != bytes.size())
      return state.SkipWithError("the answer is not relayed");
  }
  state.SetItemsProcessed(state.iterations());
  state.SetBytesProcessed(state.iterations() * static_cast<std::int64_t>(bytes.size()));
}

BENCHMARK_CAPTURE(relay_answer, simple, {ReplyKind::query},
                  script::columns() + script::row("12345") + script::complete() + script::ready())
    ->Name("relaying/an answer with one row, simple protocol");
BENCHMARK_CAPTURE(relay_answer, extended, {ReplyKind::parse, ReplyKind::bind, ReplyKind::execute, ReplyKind::sync},
                  script::raw('1', "") + script::raw('2', "") + script::row("12345") + script::complete() +
                      script::ready())
    ->Name("relaying/an answer with one row, extended protocol");

}  // namespace
}  // namespace tessera::pool
