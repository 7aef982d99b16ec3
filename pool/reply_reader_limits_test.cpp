// What the reader must refuse, for every head; lengths; messages that are too large to be held.
#include "pool/reply_play.hpp"

namespace tessera::pool {
namespace {

using namespace script;
using testing::IsEmpty;

// What each head allows, besides errors and the asynchronous three.
std::string allowed_for(Kind kind) {
  switch (kind) {
    case Kind::query:
      return "TDCIGHWdcZ";
    case Kind::function_call:
      return "VZ";
    case Kind::parse:
      return "1";
    case Kind::bind:
      return "2";
    case Kind::describe_statement:
      return "tTn";
    case Kind::describe_portal:
      return "Tn";
    case Kind::execute:
      return "DCIGHWdcs";
    case Kind::close:
      return "3";
    case Kind::sync:
    case Kind::maybe_sync:
      return "Z";
    default:
      return "";
  }
}

TEST(ReplyReader, EveryOtherMessageIsAnErrorForEveryHead) {
  for (const Kind kind : all_kinds) {
    for (int type = 0; type < 256; ++type) {
      const char letter = static_cast<char>(type);
      if (std::string_view("ENSA").find(letter) != std::string_view::npos) continue;
      Trace trace;
      ReplyReader reader;
      reader.expect({.kind = kind});
      const std::string bytes = letter == 'Z' ? ready() : raw(letter, "body");
      const bool wanted = allowed_for(kind).find(letter) != std::string::npos;
      EXPECT_EQ(feed(reader, trace, bytes).has_value(), wanted) << name_of(kind) << " '" << letter << "' " << type;
      EXPECT_EQ(trace.relayed, wanted ? bytes : "") << name_of(kind) << " " << type;
    }
  }
}

TEST(ReplyReader, NothingMayComeUnasked) {
  for (int type = 0; type < 256; ++type) {
    const char letter = static_cast<char>(type);
    if (std::string_view("NSA").find(letter) != std::string_view::npos) continue;
    const Outcome got = play_all_cuts({Step(letter == 'E' ? error() : letter == 'Z' ? ready() : raw(letter, "body"))});
    EXPECT_FALSE(got.ok) << type;
    EXPECT_EQ(got.trace.relayed, "") << type;
    EXPECT_THAT(got.trace.events, IsEmpty()) << type;
  }
}

TEST(ReplyReader, ALeftoverAnswerIsAnError) {
  const Outcome got =
      play_all_cuts({expecting({{.kind = Kind::query}}), Step(complete() + ready() + complete() + ready())});
  EXPECT_FALSE(got.ok);
  EXPECT_EQ(got.trace.relayed, complete() + ready());
}

TEST(ReplyReader, AnUnaskedErrorSaysWhyTheServerWent) {
  const Outcome got = play_all_cuts({Step(fatal())});
  EXPECT_FALSE(got.ok);
  EXPECT_EQ(got.message, "the server closed the connection: going down");
  EXPECT_EQ(got.code, "08006");
  EXPECT_EQ(play_all_cuts({Step(fatal("25P03"))}).code, "25P03") << "a timeout is the client's to know";
}

TEST(ReplyReader, MalformedLengths) {
  for (const std::uint32_t length :
       {0u, 1u, 3u, 0x3fff'ffffu + 1, 0x7fff'ffffu, 0x8000'0000u, 0x8000'0001u, 0xffff'ffffu}) {
    for (const char type : {'D', 'T', 'C', 'E', 'Z', 'S', 'd'}) {
      const Outcome got = play_all_cuts({expecting({{.kind = Kind::query}}), Step(header(type, length) + "abcdefgh")});
      EXPECT_FALSE(got.ok) << type << length;
      EXPECT_EQ(got.trace.relayed, "") << type << length;
    }
  }
}

TEST(ReplyReader, HeldMessagesAreCapped) {
  const std::uint64_t cap = 64;
  const std::string fits = fields('N', "NOTICE", "00000", std::string(34, 'x'));
  const std::string big = fields('N', "NOTICE", "00000", std::string(35, 'x'));
  ASSERT_EQ(fits.size(), cap + 1);  // the cap counts what the length field counts
  EXPECT_TRUE(play_all_cuts({expecting({{.kind = Kind::query}}), Step(fits)}, cap).ok);
  EXPECT_FALSE(play_all_cuts({expecting({{.kind = Kind::query}}), Step(big)}, cap).ok);
  EXPECT_FALSE(
      play_all_cuts({expecting({{.kind = Kind::describe_portal}}), Step(raw('T', std::string(100, 'x')))}, cap).ok);
  // Rows pass through whatever their size.
  EXPECT_TRUE(play_all_cuts({expecting({{.kind = Kind::query}}),
                             Step(raw('D', std::string(100, 'x')) + raw('d', std::string(100, 'x')))},
                            cap)
                  .ok);
}

TEST(ReplyReader, AHugeRowStreamsWithoutBeingCopied) {
  struct Borrowing final : SilentSink {
    std::string_view chunk;
    std::size_t total = 0;
    void on_relay(std::string_view bytes) override {
      total += bytes.size();
      EXPECT_GE(bytes.data(), chunk.data());
      EXPECT_LE(bytes.data() + bytes.size(), chunk.data() + chunk.size());
    }
  } sink;
  ReplyReader reader;
  reader.expect({.kind = Kind::query});
  constexpr std::uint32_t length = 1'000'000'000;
  const std::string start = header('D', length);
  sink.chunk = start;
  ASSERT_TRUE(reader.consume(start, sink));
  EXPECT_TRUE(reader.inside_message());
  EXPECT_FALSE(reader.empty());
  const std::string chunk(1 << 20, 'x');
  sink.chunk = chunk;
  std::size_t left = length - 4;
  while (left > 0) {
    const std::size_t n = std::min(left, chunk.size());
    ASSERT_TRUE(reader.consume(std::string_view(chunk).substr(0, n), sink));
    left -= n;
    EXPECT_EQ(reader.inside_message(), left > 0);
  }
  EXPECT_EQ(sink.total, std::size_t{length} + 1);
  sink.chunk = {};
  const std::string end = complete() + ready();
  sink.chunk = end;
  ASSERT_TRUE(reader.consume(end, sink));
  EXPECT_TRUE(reader.empty());
}

TEST(ReplyReader, InsideMessageMeansTheClientHasAPart) {
  Trace trace;
  ReplyReader reader;
  reader.expect({.kind = Kind::query, .delivery = ignored});
  reader.expect({.kind = Kind::query});
  const std::string big = row("0123456789");
  ASSERT_TRUE(feed(reader, trace, big.substr(0, 9)));
  EXPECT_FALSE(reader.inside_message()) << "an ignored row is nobody's";
  ASSERT_TRUE(feed(reader, trace, big.substr(9) + complete() + ready() + big.substr(0, 3)));
  EXPECT_FALSE(reader.inside_message()) << "an incomplete header is held";
  EXPECT_FALSE(reader.empty());
  ASSERT_TRUE(feed(reader, trace, big.substr(3, 6)));
  EXPECT_TRUE(reader.inside_message());
  ASSERT_TRUE(feed(reader, trace, big.substr(9) + complete().substr(0, 9)));
  EXPECT_FALSE(reader.inside_message()) << "a CommandComplete is held until it is whole";
  EXPECT_EQ(trace.relayed, big);
}

// The owner may send the client's next statement from on_ready.
TEST(ReplyReader, ExpectingFromOnReady) {
  struct Chain final : ReplySink {
    ReplyReader* reader = nullptr;
    int left = 3;
    std::string relayed;
    void on_relay(std::string_view bytes) override { relayed.append(bytes); }
    void on_done(const ExpectedReply&, char, std::string_view) override {}
    bool on_error(const ExpectedReply&, const postgres::ErrorFields&) override { return true; }
    void on_skipped(const ExpectedReply&) override {}
    bool on_ready(const ExpectedReply&, postgres::TransactionStatus) override {
      if (--left > 0) {
        reader->expect({.kind = Kind::local, .local = "then "});
        reader->expect({.kind = Kind::query});
      }
      return true;
    }
    void on_copy(const ExpectedReply&, char) override {}
    bool on_parameter(std::string_view, std::string_view, bool) override { return true; }
    bool on_notice(const postgres::ErrorFields&, bool) override { return true; }
    bool on_notification(const postgres::NotificationView&) override { return true; }
  } sink;
  ReplyReader reader;
  sink.reader = &reader;
  reader.expect({.kind = Kind::query});
  const std::string one = complete() + ready();
  ASSERT_TRUE(reader.consume(one + one + one, sink));
  EXPECT_TRUE(reader.empty());
  EXPECT_EQ(sink.relayed, one + "then " + one + "then " + one);
}

}  // namespace
}  // namespace tessera::pool
