// Conversations by script, each repeated for every way of cutting the server's bytes in two and byte by byte: the
// client must get the same bytes and the owner hear the same things.
#include "pool/reply_play.hpp"

namespace tessera::pool {
namespace {

using namespace script;
using testing::ElementsAre;

TEST(ReplyReader, SimpleQuery) {
  const std::string bytes = columns() + row() + row("w") + complete("SELECT 2") + ready();
  const Outcome got = play_all_cuts({expecting({{.kind = Kind::query, .tag = 7}}), Step(bytes)});
  EXPECT_TRUE(got.ok);
  EXPECT_TRUE(got.empty);
  EXPECT_EQ(got.trace.relayed, bytes);
  EXPECT_THAT(got.trace.events, ElementsAre("done query 7 C SELECT 2",
                                            fmt::format("ready query 7 I @{}", bytes.size() - ready().size())));
}

TEST(ReplyReader, SimpleQueryOfSeveralStatements) {
  const std::string bytes = complete("BEGIN") + raw('I', "") + complete("INSERT 0 1") + ready('T');
  const Outcome got = play_all_cuts({expecting({{.kind = Kind::query, .tag = 1}}), Step(bytes)});
  EXPECT_EQ(got.trace.relayed, bytes);
  EXPECT_THAT(got.trace.events, ElementsAre("done query 1 C BEGIN", "done query 1 I", "done query 1 C INSERT 0 1",
                                            "ready query 1 T @32"));
}

TEST(ReplyReader, IgnoredAnswersStayHere) {
  const Outcome got = play_all_cuts({expecting({{.kind = Kind::query, .delivery = ignored}, {.kind = Kind::query}}),
                                     Step(columns() + row() + complete() + ready() + complete("SET") + ready())});
  EXPECT_TRUE(got.empty);
  EXPECT_EQ(got.trace.relayed, complete("SET") + ready());
}

TEST(ReplyReader, ErrorInASimpleQueryWaitsForReady) {
  const std::string bytes = columns() + row() + error() + ready('E');
  const Outcome got = play_all_cuts({expecting({{.kind = Kind::query, .tag = 3}}), Step(bytes)});
  EXPECT_TRUE(got.empty);
  EXPECT_FALSE(got.skipping);
  EXPECT_EQ(got.trace.relayed, bytes);
  ASSERT_EQ(got.trace.events.size(), 2u);
  EXPECT_THAT(got.trace.events[0], testing::StartsWith("error query 3 42601"));
}

TEST(ReplyReader, FunctionCall) {
  const std::string bytes = raw('V', std::string("\0\0\0\1x", 5)) + ready() + error() + ready();
  const Outcome got =
      play_all_cuts({expecting({{.kind = Kind::function_call}, {.kind = Kind::function_call}}), Step(bytes)});
  EXPECT_TRUE(got.ok);
  EXPECT_TRUE(got.empty);
  EXPECT_EQ(got.trace.relayed, bytes);
}

TEST(ReplyReader, ExtendedPipelineOfEveryKind) {
  const std::string bytes = raw('1', "") + raw('t', std::string("\0\0", 2)) + columns() + raw('2', "") + columns() +
                            row() + raw('s', "") + row() + complete("SELECT 1") + raw('3', "") + ready();
  const Outcome got = play_all_cuts({expecting({{.kind = Kind::parse, .tag = 1},
                                                {.kind = Kind::describe_statement, .tag = 2},
                                                {.kind = Kind::bind, .tag = 3},
                                                {.kind = Kind::describe_portal, .tag = 4},
                                                {.kind = Kind::execute, .tag = 5},
                                                {.kind = Kind::execute, .tag = 6},
                                                {.kind = Kind::close, .tag = 7},
                                                {.kind = Kind::sync, .tag = 8}}),
                                     Step(bytes)});
  EXPECT_TRUE(got.ok);
  EXPECT_TRUE(got.empty);
  EXPECT_EQ(got.trace.relayed, bytes);
  std::vector<std::string> tags;
  for (const std::string& event : got.trace.events)
    tags.push_back(event.substr(0, event.find(' ', event.find(' ') + 1) + 2));
  EXPECT_THAT(tags, ElementsAre("done parse 1", "done describe_statement 2", "done bind 3", "done describe_portal 4",
                                "done execute 5", "done execute 6", "done close 7", "ready sync 8"));
}

TEST(ReplyReader, NoDataAnswersBothDescribes) {
  const std::string bytes =
      raw('t', std::string("\0\1\0\0\0\x17", 6)) + raw('n', "") + raw('n', "") + raw('I', "") + ready();
  const Outcome got = play_all_cuts({expecting({{.kind = Kind::describe_statement},
                                                {.kind = Kind::describe_portal},
                                                {.kind = Kind::execute},
                                                {.kind = Kind::sync}}),
                                     Step(bytes)});
  EXPECT_TRUE(got.empty);
  EXPECT_EQ(got.trace.relayed, bytes);
}

// The description ends its entry: the rest of a description that came in pieces belongs to it, not to what follows.
TEST(ReplyReader, CutDescriptionBeforeAnIgnoredEntry) {
  const Outcome got = play_all_cuts({expecting({{.kind = Kind::describe_portal},
                                                {.kind = Kind::close, .delivery = ignored},
                                                {.kind = Kind::sync, .delivery = ignored}}),
                                     Step(columns() + raw('3', "") + ready())});
  EXPECT_EQ(got.trace.relayed, columns());
}
TEST(ReplyReader, CutDescriptionAtTheEndOfTheQueue) {
  const Outcome got = play_all_cuts({expecting({{.kind = Kind::describe_portal}}), Step(columns())});
  EXPECT_EQ(got.trace.relayed, columns());
}
TEST(ReplyReader, CutIgnoredDescriptionBeforeAForwardedEntry) {
  const Outcome got = play_all_cuts(
      {expecting({{.kind = Kind::describe_portal, .delivery = ignored}, {.kind = Kind::execute}, {.kind = Kind::sync}}),
       Step(columns() + row() + complete() + ready())});
  EXPECT_EQ(got.trace.relayed, row() + complete() + ready());
}
TEST(ReplyReader, CutDescriptionBeforeALocalEntry) {
  const Outcome got = play_all_cuts(
      {expecting({{.kind = Kind::describe_portal}, {.kind = Kind::local, .local = "LOCAL"}, {.kind = Kind::sync}}),
       Step(columns() + ready())});
  EXPECT_EQ(got.trace.relayed, columns() + "LOCAL" + ready());
}

TEST(ReplyReader, ErrorInAPipelineDropsAllUpToSync) {
  const Outcome got = play_all_cuts({expecting({{.kind = Kind::parse, .tag = 1},
                                                {.kind = Kind::bind, .tag = 2},
                                                {.kind = Kind::local, .tag = 3, .local = "never"},
                                                {.kind = Kind::execute, .tag = 4},
                                                {.kind = Kind::sync, .tag = 5},
                                                {.kind = Kind::parse, .tag = 6},
                                                {.kind = Kind::sync, .tag = 7}}),
                                     Step(raw('1', "") + error() + ready() + raw('1', "") + ready())});
  EXPECT_TRUE(got.ok);
  EXPECT_TRUE(got.empty);
  EXPECT_EQ(got.trace.relayed, raw('1', "") + error() + ready() + raw('1', "") + ready());
  const std::string after = fmt::format(" @{}", raw('1', "").size() + error().size());
  EXPECT_THAT(got.trace.events,
              ElementsAre("done parse 1 1", "skipped execute 4", "skipped local 3", "error bind 2 42601 @5",
                          "ready sync 5 I" + after, "done parse 6 1", testing::StartsWith("ready sync 7 I")));
}

TEST(ReplyReader, AnErrorBeforeItsSyncWasSentSkips) {
  const auto is_skipping = [](bool wanted) {
    return Step([wanted](ReplyReader& reader) { EXPECT_EQ(reader.skipping(), wanted); });
  };
  const Outcome got =
      play_all_cuts({expecting({{.kind = Kind::parse}, {.kind = Kind::bind}}), is_skipping(false), Step(error()),
                     is_skipping(true), expecting({{.kind = Kind::sync}}), is_skipping(false), Step(ready())});
  EXPECT_TRUE(got.ok);
  EXPECT_TRUE(got.empty);
  EXPECT_EQ(got.trace.relayed, error() + ready());
}

TEST(ReplyReader, AnErrorOfSyncItselfKeepsTheSync) {
  const Outcome got = play_all_cuts({expecting({{.kind = Kind::execute}, {.kind = Kind::sync}}),
                                     Step(complete("COMMIT") + error("23505") + ready())});
  EXPECT_TRUE(got.empty);
  EXPECT_EQ(got.trace.relayed, complete("COMMIT") + error("23505") + ready());
}

TEST(ReplyReader, ErrorsMayBeKeptFromTheClient) {
  Trace trace;
  trace.relay_errors = false;
  ReplyReader reader;
  reader.expect({.kind = Kind::query});
  ASSERT_TRUE(feed(reader, trace, error() + ready()));
  EXPECT_EQ(trace.relayed, ready());
}

TEST(ReplyReader, PoisonReachesTheOwnerWithItsText) {
  const Outcome got = play_all_cuts({expecting({{.kind = Kind::execute},
                                                {.kind = Kind::parse, .poison = true, .local = "OURS"},
                                                {.kind = Kind::bind},
                                                {.kind = Kind::sync}}),
                                     Step(complete() + error() + ready('E'))});
  EXPECT_EQ(got.trace.relayed, complete() + "OURS" + ready('E'));
  EXPECT_THAT(got.trace.events[2], testing::EndsWith("poison @14"));
}

TEST(ReplyReader, LocalEntriesKeepTheirPlace) {
  const Outcome got = play_all_cuts({expecting({{.kind = Kind::parse},
                                                {.kind = Kind::local, .tag = 1, .local = "one"},
                                                {.kind = Kind::local, .delivery = ignored, .tag = 2, .local = "hidden"},
                                                {.kind = Kind::local, .tag = 3, .local = "three"},
                                                {.kind = Kind::sync},
                                                {.kind = Kind::local, .tag = 4, .local = "four"},
                                                {.kind = Kind::query},
                                                {.kind = Kind::local, .tag = 5, .local = "five"}}),
                                     Step(raw('1', "") + ready() + complete() + ready())});
  EXPECT_TRUE(got.empty);
  EXPECT_EQ(got.trace.relayed, raw('1', "") + "onethree" + ready() + "four" + complete() + ready() + "five");
}

TEST(ReplyReader, LocalEntriesAtTheHeadAreDeliveredOnDemand) {
  ReplyReader reader;
  Trace trace;
  reader.expect({.kind = Kind::local, .local = "a"});
  reader.expect({.kind = Kind::local, .local = "b"});
  EXPECT_FALSE(reader.empty());
  reader.deliver_local(trace);
  EXPECT_EQ(trace.relayed, "ab");
  EXPECT_TRUE(reader.empty());
  EXPECT_THAT(trace.events, ElementsAre("done local 0 - @1", "done local 0 - @2"));
}

TEST(ReplyReader, HiddenCompletionIsToldButNotRelayed) {
  const Outcome got =
      play_all_cuts({expecting({{.kind = Kind::execute, .hide_completion = true, .ordered = true},
                                {.kind = Kind::execute, .hide_completion = true},
                                {.kind = Kind::execute, .hide_completion = true},
                                {.kind = Kind::sync, .delivery = ignored}}),
                     Step(row() + row() + complete("SELECT 2") + raw('I', "") + row() + raw('s', "") + ready())});
  EXPECT_EQ(got.trace.relayed, row() + row() + row());
  EXPECT_EQ(got.trace.events[0], "done execute 0 C SELECT 2 @24");
}

TEST(ReplyReader, OrderedEntriesHaveTheirBytesBeforeTheirEvent) {
  const Outcome got = play_all_cuts({expecting({{.kind = Kind::parse, .ordered = true},
                                                {.kind = Kind::describe_portal, .ordered = true},
                                                {.kind = Kind::execute},
                                                {.kind = Kind::sync}}),
                                     Step(raw('1', "") + columns() + complete() + ready())});
  EXPECT_EQ(got.trace.events[0], "done parse 0 1 @5");
  EXPECT_THAT(got.trace.events[1], testing::EndsWith(fmt::format(" @{}", 5 + columns().size())));
}

TEST(ReplyReader, CopyInSwallowsTheSyncsThatWereOnTheirWay) {
  const auto is_copying = [](bool wanted) {
    return Step([wanted](ReplyReader& reader) { EXPECT_EQ(reader.copying_in(), wanted); });
  };
  const Outcome got = play_all_cuts(
      {expecting({{.kind = Kind::execute, .tag = 1}, {.kind = Kind::sync, .tag = 2}, {.kind = Kind::sync, .tag = 3}}),
       is_copying(false), Step(copy_response('G')), is_copying(true),
       Step([](ReplyReader& reader) { reader.end_copy_in(); }), is_copying(false),
       expecting({{.kind = Kind::sync, .tag = 4}}), Step(complete("COPY 1") + ready())});
  EXPECT_TRUE(got.ok);
  EXPECT_TRUE(got.empty);
  EXPECT_THAT(got.trace.events, ElementsAre("copy execute G @10", "skipped maybe_sync 2", "skipped maybe_sync 3",
                                            "done execute 1 C COPY 1", "ready sync 4 I @22"));
}

TEST(ReplyReader, CopyInOfASimpleQuerySwallowsSyncsToo) {
  const Outcome got = play_all_cuts({expecting({{.kind = Kind::query}, {.kind = Kind::sync, .tag = 2}}),
                                     Step(copy_response('G') + complete("COPY 0") + ready())});
  EXPECT_TRUE(got.empty);
}

// The client did not wait to be asked for data: what it sent after the end of its COPY is read by the server as usual.
TEST(ReplyReader, ACopyInThatTheClientEndedBeforeItBegan) {
  const Step end([](ReplyReader& reader) { reader.end_copy_in(); });
  const Outcome got = play_all_cuts({expecting({{.kind = Kind::execute, .tag = 1}, {.kind = Kind::sync, .tag = 2}}),
                                     end, expecting({{.kind = Kind::sync, .tag = 3}}),
                                     Step(copy_response('G') + complete("COPY 1") + ready())});
  EXPECT_TRUE(got.ok);
  EXPECT_TRUE(got.empty);
  EXPECT_FALSE(got.copying_in);
  EXPECT_THAT(got.trace.events, ElementsAre("copy execute G @10", "skipped maybe_sync 2", "done execute 1 C COPY 1",
                                            "ready sync 3 I @22"));
}
TEST(ReplyReader, ACopyInThatEndedHereAndFailedThere) {
  const Step end([](ReplyReader& reader) { reader.end_copy_in(); });
  const Outcome simple = play_all_cuts({expecting({{.kind = Kind::query}}), end, expecting({{.kind = Kind::query}}),
                                        Step(error() + ready() + complete() + ready())});
  EXPECT_TRUE(simple.ok);
  EXPECT_TRUE(simple.empty);
  EXPECT_EQ(simple.trace.relayed, error() + ready() + complete() + ready());
  const Outcome extended = play_all_cuts(
      {expecting({{.kind = Kind::execute}}), end, expecting({{.kind = Kind::sync}}), Step(error() + ready())});
  EXPECT_TRUE(extended.ok);
  EXPECT_TRUE(extended.empty);
}

// Was the Sync behind a COPY that failed read as part of it? Only what comes next can tell.
TEST(ReplyReader, CopyInEndsWithAnError) {
  const auto conversation = [](bool answered) {
    const std::string first = answered ? ready() : "";
    return play_all_cuts({expecting({{.kind = Kind::execute}, {.kind = Kind::sync}}), Step(copy_response('G')),
                          Step(error("22P04") + first), expecting({{.kind = Kind::sync}}), Step(ready()),
                          expecting({{.kind = Kind::query, .tag = 9}}), Step(complete("NEXT") + ready())});
  };
  for (const bool answered : {false, true}) {
    const Outcome got = conversation(answered);
    EXPECT_TRUE(got.ok) << got.message;
    EXPECT_TRUE(got.empty);
    EXPECT_FALSE(got.copying_in);
    EXPECT_EQ(got.trace.relayed,
              copy_response('G') + error("22P04") + (answered ? ready() : "") + ready() + complete("NEXT") + ready());
  }
  const Outcome simple =
      play_all_cuts({expecting({{.kind = Kind::query}}), Step(copy_response('G') + error() + ready())});
  EXPECT_TRUE(simple.ok);
  EXPECT_FALSE(simple.copying_in);
  EXPECT_FALSE(simple.skipping);
  EXPECT_TRUE(simple.empty);
}

// Doubt is no licence: a ReadyForQuery too many is still one too many.
TEST(ReplyReader, DoubtfulSyncsDoNotLetStrangeAnswersPass) {
  const Outcome got = play_all_cuts({expecting({{.kind = Kind::execute}, {.kind = Kind::sync}}),
                                     Step(copy_response('G') + error() + ready()), expecting({{.kind = Kind::sync}}),
                                     Step(ready() + ready())});
  EXPECT_FALSE(got.ok);
  const Outcome unanswered =
      play_all_cuts({expecting({{.kind = Kind::execute}, {.kind = Kind::sync}}), Step(copy_response('G') + error()),
                     expecting({{.kind = Kind::sync}, {.kind = Kind::query}}), Step(complete("STRAY"))});
  EXPECT_FALSE(unanswered.ok) << "no Sync was answered yet";
}

TEST(ReplyReader, CopyOutAndBoth) {
  for (const char type : {'H', 'W'}) {
    const std::string bytes =
        copy_response(type) + raw('d', "1\t2\n") + raw('d', "") + raw('c', "") + complete("COPY 1") + ready();
    const Outcome got = play_all_cuts({expecting({{.kind = Kind::query}}), Step(bytes)});
    EXPECT_TRUE(got.empty);
    EXPECT_FALSE(got.copying_in);
    EXPECT_EQ(got.trace.relayed, bytes);
    EXPECT_EQ(got.trace.events[0], fmt::format("copy query {} @10", type));
  }
}

TEST(ReplyReader, AsynchronousMessagesAnywhere) {
  const std::vector<std::string> messages = {columns(), row(), complete(), ready()};
  for (const std::string& extra : {notice(), parameter(), notification()}) {
    for (std::size_t place = 0; place <= messages.size(); ++place) {
      std::string bytes;
      for (std::size_t i = 0; i <= messages.size(); ++i) {
        if (i == place) bytes += extra;
        if (i < messages.size()) bytes += messages[i];
      }
      const Outcome got = play_all_cuts({expecting({{.kind = Kind::query}}), Step(bytes)});
      EXPECT_TRUE(got.ok);
      EXPECT_TRUE(got.empty);
      EXPECT_EQ(got.trace.relayed, bytes);
    }
  }
}

TEST(ReplyReader, AsynchronousMessagesAreRelayedOnlyIfWanted) {
  Trace trace;
  trace.relay_notices = trace.relay_parameters = trace.relay_notifications = false;
  ReplyReader reader;
  reader.expect({.kind = Kind::query, .delivery = ignored});
  reader.expect({.kind = Kind::query});
  ASSERT_TRUE(feed(
      reader, trace,
      notice() + complete() + ready() + notice() + parameter() + notification() + complete() + ready() + notice()));
  EXPECT_EQ(trace.relayed, complete() + ready());
  std::vector<std::string> notices;
  for (const std::string& event : trace.events)
    if (event.starts_with("notice")) notices.push_back(event.substr(0, event.find('@')));
  // Whose statement was it? Ours, the client's, nobody's.
  EXPECT_THAT(notices, ElementsAre("notice by the way false ", "notice by the way true ", "notice by the way false "));
}

TEST(ReplyReader, MalformedAsynchronousMessages) {
  for (const char type : {'S', 'N', 'A', 'E', 'Z'}) {
    const Outcome got = play_all_cuts({expecting({{.kind = Kind::query}}), Step(raw(type, "xy"))});
    EXPECT_FALSE(got.ok) << type;
    EXPECT_EQ(got.trace.relayed, "") << type;
  }
}

}  // namespace
}  // namespace tessera::pool
