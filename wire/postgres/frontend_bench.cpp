// What reading a client's pipeline costs: cutting it into frames and parsing every body into a reused view.
#include <array>
#include <benchmark/benchmark.h>

#include "wire/postgres/frontend.hpp"

namespace tessera::postgres {
namespace {

constexpr int statements = 100;

// Empty if it cannot be built.
std::string pipeline(bool prepared) {
  const std::array<Value, 1> key = {"12345"};
  const std::string_view name = prepared ? "P_0" : "";
  std::string out;
  bool built = true;
  for (int i = 0; i < statements; ++i) {
    if (!prepared) built = built && append_parse(out, name, "SELECT abalance FROM pgbench_accounts WHERE aid = $1");
    built = built && append_bind(out, "", name, key) && append_execute(out, "");
    append_sync(out);
  }
  return built ? out : std::string();
}

class Reader {
public:
  // How many messages stand in `bytes`; 0: something in them is wrong.
  int read(std::string_view bytes) {
    int messages = 0;
    FrameHeader header;
    while (peek_frame(bytes, max_message_length, header) == FrameStatus::complete) {
      if (!parse(header.type, frame_body(bytes, header))) return 0;
      bytes.remove_prefix(header.total_size());
      ++messages;
    }
    return bytes.empty() ? messages : 0;
  }

private:
  bool parse(char type, std::string_view body) {
    switch (type) {
      case frontend::parse:
        return parse_parse(body, parse_);
      case frontend::bind:
        return parse_bind(body, bind_);
      case frontend::execute:
        return parse_execute(body, execute_);
      default:
        return type == frontend::sync && body.empty();
    }
  }

  ParseView parse_;
  BindView bind_;
  ExecuteView execute_;
};

void read(benchmark::State& state, bool prepared) {
  const std::string bytes = pipeline(prepared);
  const int expected = statements * (prepared ? 3 : 4);
  Reader reader;
  for (auto _ : state) {
    if (reader.read(bytes) != expected) return state.SkipWithError("the pipeline is not read whole");
  }
  state.SetItemsProcessed(state.iterations() * statements);
  state.SetBytesProcessed(state.iterations() * static_cast<std::int64_t>(bytes.size()));
}

BENCHMARK_CAPTURE(read, unnamed, false)->Name("reading a client/Parse, Bind, Execute, Sync");
BENCHMARK_CAPTURE(read, prepared, true)->Name("reading a client/Bind, Execute, Sync");

}  // namespace
}  // namespace tessera::postgres
