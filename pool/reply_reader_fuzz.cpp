// Random bytes of a server against random expectations. Nothing may crash; a byte may reach the client only while an
// entry that is the client's stands at the head of the queue, or as an asynchronous message that the sink let through;
// and the bytes cut into pieces must mean what they mean as a whole.
#include <cstdlib>
#include <iterator>
#include <string>
#include <string_view>
#include <vector>

#include "pool/reply_script.hpp"

namespace {

using namespace tessera;
using namespace tessera::pool;

void require(bool condition) {
  if (!condition) std::abort();
}

struct Source {
  const std::uint8_t* at;
  std::size_t left;
  std::uint8_t next() {
    if (left == 0) return 0;
    --left;
    return *at++;
  }
};

// Lets nothing asynchronous through, and no error of our own business, so whatever is relayed belongs to a client's
// entry.
struct Strict final : script::Trace {
  Strict() { relay_parameters = relay_notices = relay_notifications = false; }
  bool on_error(const ExpectedReply& expected, const postgres::ErrorFields& fields) override {
    const bool relay = Trace::on_error(expected, fields);
    return relay && expected.delivery == Delivery::forward;
  }
};

struct Outcome {
  bool ok;
  std::string relayed;
  std::vector<std::string> events;
};

Outcome play(const std::vector<ExpectedReply>& entries, std::string_view bytes, std::size_t step) {
  ReplyReader reader(1 << 16);
  Strict sink;
  bool anything_forwarded = false;
  for (const ExpectedReply& entry : entries) {
    reader.expect(entry);
    anything_forwarded |= entry.delivery == Delivery::forward || entry.poison;
  }
  bool ok = true;
  while (!bytes.empty() && ok) {
    const std::string piece(bytes.substr(0, step));
    const std::size_t before = reader.outstanding();
    const std::size_t relayed = sink.relayed.size();
    const bool was_empty = reader.empty();
    ok = reader.consume(piece, sink).has_value();
    require(reader.outstanding() <= before);
    require(!was_empty || sink.relayed.size() == relayed);  // nothing was asked: nothing may pass
    bytes.remove_prefix(piece.size());
  }
  require(anything_forwarded || sink.relayed.empty());
  return {ok, sink.relayed, sink.events};
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  Source source{data, size};
  std::vector<ExpectedReply> entries;
  const std::size_t count = source.next() % 12;
  for (std::size_t i = 0; i < count; ++i) {
    const std::uint8_t choice = source.next();
    ExpectedReply entry;
    entry.kind = script::all_kinds[source.next() % std::size(script::all_kinds)];
    entry.delivery = (choice & 0x20) != 0 ? Delivery::ignore : Delivery::forward;
    entry.ordered = (choice & 0x40) != 0;
    entry.hide_completion = (choice & 0x80) != 0;
    entry.poison = (choice & 0x10) != 0;
    entry.tag = static_cast<std::uint32_t>(i + 1);
    if (entry.poison || entry.kind == ReplyKind::local) entry.local = "<ours>";
    entries.push_back(std::move(entry));
  }
  const std::size_t step = 1 + source.next() % 9;
  // Messages are built from the rest, so that most of them are well formed; every eighth is not.
  std::string bytes;
  static constexpr char types[] = "TDCIGHWdcVt12n3sZENSA";
  while (source.left > 0) {
    const std::uint8_t choice = source.next();
    std::string body;
    const std::size_t length = source.next() % 24;
    for (std::size_t i = 0; i < length; ++i) body += static_cast<char>(source.next());
    const char type = types[choice % (sizeof types - 1)];
    if (choice >= 0xe0)
      bytes += body;  // raw
    else if (type == 'Z')
      bytes += script::ready("ITE"[choice % 3]);
    else if (type == 'E')
      bytes += script::error();
    else if (type == 'N')
      bytes += script::notice();
    else if (type == 'S')
      bytes += script::parameter();
    else if (type == 'A')
      bytes += script::notification();
    else
      bytes += script::raw(type, body);
  }
  const Outcome whole = play(entries, bytes, bytes.size() + 1);
  const Outcome pieces = play(entries, bytes, step);
  require(whole.ok == pieces.ok);
  require(whole.relayed == pieces.relayed);
  require(whole.events == pieces.events);
  return 0;
}
