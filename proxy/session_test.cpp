// Sessions end to end with servers by script: where statements go, in which order answers come, and what is left when
// something breaks.
#include "proxy/session_fixture.hpp"

namespace tessera::proxy {
namespace {

using namespace script;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

TEST_F(SessionTest, GreetsWithTheServersParameters) {
  open();
  EXPECT_EQ(greeted_->at("TimeZone"), "UTC");
  EXPECT_EQ(busy(), 0) << "nothing is leased while nothing happens";
  EXPECT_TRUE(lane_.on([&] { return session_->is_between_transactions(); }));
}

TEST_F(SessionTest, SimpleQueriesGoWhereTheirKeyLives) {
  open();
  server_[0].answer("SELECT v FROM t WHERE id = 1", columns() + row("zero") + complete() + ready());
  server_[1].answer("SELECT v FROM t WHERE id = 100", columns() + row("one") + complete() + ready());
  EXPECT_EQ(ask(query("SELECT v FROM t WHERE id = 1")), columns() + row("zero") + complete() + ready());
  EXPECT_EQ(ask(query("SELECT v FROM t WHERE id = 100")), columns() + row("one") + complete() + ready());
  EXPECT_THAT(asked(0), ElementsAre("SELECT v FROM t WHERE id = 1"));
  EXPECT_THAT(asked(1), ElementsAre("SELECT v FROM t WHERE id = 100"));
  EXPECT_EQ(busy(), 0);
}

TEST_F(SessionTest, BytesMayComeOneByOne) {
  open();
  const std::string bytes = query("SELECT v FROM t WHERE id = 1") + parse("", "SELECT v FROM t WHERE id = $1", {23}) +
                            bind("", {"100"}) + describe_portal() + execute() + sync();
  for (const char byte : bytes) send(std::string(1, byte));
  EXPECT_EQ(types(answers(2)), "C Z:I 1 2 n C Z:I");
  EXPECT_THAT(asked(0), ElementsAre("SELECT v FROM t WHERE id = 1"));
  EXPECT_THAT(asked(1), ElementsAre("P", "B", "D", "E", "S"));
}

TEST_F(SessionTest, PipelinedQueriesAreAnsweredInOrder) {
  open();
  for (int i = 0; i < 10; ++i)
    server_[i % 2].answer(fmt::format("SELECT {} FROM t WHERE id = {}", i, i % 2 == 0 ? 5 : 500),
                          columns() + row(std::to_string(i)) + complete() + ready());
  std::string all, wanted;
  for (int i = 0; i < 10; ++i) {
    all += query(fmt::format("SELECT {} FROM t WHERE id = {}", i, i % 2 == 0 ? 5 : 500));
    wanted += columns() + row(std::to_string(i)) + complete() + ready();
  }
  EXPECT_EQ(ask(all, 10), wanted) << "though every other one went to another shard";
}

TEST_F(SessionTest, PreparedStatementsFollowTheirKey) {
  open();
  EXPECT_EQ(types(ask(parse("named", "SELECT v FROM t WHERE id = $1", {23}) + sync())), "1 Z:I");
  for (const char* id : {"1", "100", "2", "200"})
    EXPECT_EQ(types(ask(bind("named", {id}) + execute() + sync())), "2 C Z:I");
  // Prepared once on each server, whoever asks.
  for (std::size_t shard = 0; shard < 2; ++shard) EXPECT_EQ(server_[shard].times_asked("P"), 1u);
  EXPECT_THAT(asked(1), ElementsAre("P", "B", "E", "S", "B", "E", "S"));
}

TEST_F(SessionTest, ATransactionStaysOnItsShard) {
  open();
  server_[1].answer("BEGIN", complete("BEGIN") + ready('T'));
  for (const char* sql : {"UPDATE t SET v = 'x' WHERE id = 100", "SELECT v FROM t WHERE id = 200"})
    server_[1].answer(sql, complete("OK") + ready('T'));
  EXPECT_EQ(types(ask(query("BEGIN"))), "C Z:T");
  EXPECT_THAT(asked(0), IsEmpty());
  EXPECT_THAT(asked(1), IsEmpty()) << "nobody needs to know yet";
  EXPECT_EQ(types(ask(query("UPDATE t SET v = 'x' WHERE id = 100"))), "C Z:T");
  EXPECT_EQ(types(ask(query("SELECT v FROM t WHERE id = 200"))), "C Z:T");
  EXPECT_EQ(busy(), 1);
  EXPECT_FALSE(lane_.on([&] { return session_->is_between_transactions(); }));
  EXPECT_EQ(types(ask(query("COMMIT"))), "C Z:I");
  EXPECT_THAT(asked(1),
              ElementsAre("BEGIN", "UPDATE t SET v = 'x' WHERE id = 100", "SELECT v FROM t WHERE id = 200", "COMMIT"));
  EXPECT_EQ(busy(), 0);
}

TEST_F(SessionTest, AnEmptyTransactionCostsNoServer) {
  open();
  EXPECT_EQ(types(ask(query("BEGIN") + query("SAVEPOINT a") + query("ROLLBACK TO a") + query("COMMIT"), 4)),
            "C Z:T C Z:T C Z:T C Z:I");
  EXPECT_EQ(types(ask(query("BEGIN") + query("ROLLBACK TO nowhere") + query("SELECT 1") + query("COMMIT"), 4)),
            "C Z:T E:3B001 Z:E E:25P02 Z:E C Z:I");
  EXPECT_THAT(asked(0), IsEmpty());
  EXPECT_THAT(asked(1), IsEmpty());
}

TEST_F(SessionTest, ScatteredReadsComeInShardOrder) {
  open();
  for (std::size_t i = 0; i < 2; ++i) {
    server_[i].answer("D", columns());
    server_[i].answer("E", row(std::string(1, static_cast<char>('a' + i))) + complete("SELECT 1"));
  }
  EXPECT_EQ(ask(query("SELECT v FROM t")), columns() + row("a") + row("b") + complete("SELECT 2") + ready());
  EXPECT_EQ(busy(), 0);
}

TEST_F(SessionTest, ASlowClientHoldsOnlyItsOwnMemory) {
  open();
  std::string rows;
  for (int i = 0; i < 400; ++i) rows += raw('D', std::string("\0\1\0\0\x80\0", 6) + std::string(32768, 'x'));
  server_[0].answer("SELECT v FROM t WHERE id = 1", columns() + rows + complete("SELECT 400") + ready());
  send(query("SELECT v FROM t WHERE id = 1"));
  for (int i = 0; i < 50; ++i) lane_.settle();
  EXPECT_LT(lane_.on([&] { return stream_.pending(); }), 3 * net::Stream::high_water) << "13 MB are on their way";
  const std::string expected = columns() + rows + complete("SELECT 400") + ready();
  std::string got;
  const TimePoint until = Clock::now() + std::chrono::seconds(20);
  while (got.size() < expected.size() && Clock::now() < until) {
    lane_.on([&] {
      client_.read([&](std::string_view bytes) {
        got.append(bytes);
        return true;
      });
      stream_.flush();
      if (stream_.drained()) session_->on_client_drained();
    });
  }
  EXPECT_EQ(got, expected);
}

// ---- things that go wrong -------------------------------------------------------------------------------------------

TEST_F(SessionTest, AClientThatDoesNotReadOurAnswersIsNotReadFrom) {
  open();
  constexpr int statements = 20'000;
  std::string all;
  for (int i = 0; i < statements; ++i) all += query("SELECT v FROM not_listed");
  lane_.on([&] { session_->on_client_bytes(all); });
  lane_.settle();
  EXPECT_LT(lane_.on([&] { return stream_.pending(); }), 2 * net::Stream::high_water);
  EXPECT_EQ(lane_.on([&] { return session_->state_name(); }), "waiting for the client");
  std::string received;
  ASSERT_TRUE(lane_.eventually([&] {
    client_.read([&](std::string_view bytes) {
      received.append(bytes);
      return true;
    });
    stream_.flush();
    if (stream_.pending() <= net::Stream::high_water) session_->on_client_drained();
    return count_ready(received) == statements;
  })) << "once it reads, it is answered to the end";
}

TEST_F(SessionTest, NotificationsThatAClientDoesNotTakeEndItsSession) {
  open();
  EXPECT_EQ(types(ask(query("BEGIN"))), "C Z:T");
  const std::string payload(7'999, 'x');
  lane_.on([&] {
    for (int i = 0; i < 3'000; ++i) session_->notify({.pid = 1, .channel = "news", .payload = payload});
  });
  lane_.settle();
  EXPECT_TRUE(ended_);
  EXPECT_EQ(types(answers()), "E:54000");
}

TEST_F(SessionTest, AnErrorInAPipelineSkipsToSync) {
  open();
  server_[0].answer("E", error("22012"));
  const std::string unit = parse("", "SELECT v FROM t WHERE id = $1", {23}) + bind("", {"1"}) + execute();
  EXPECT_EQ(types(ask(unit + sync())), "1 2 E:22012 Z:I");
  EXPECT_EQ(busy(), 0);
}

TEST_F(SessionTest, WhatIsRefusedNeverReachesAServer) {
  open();
  EXPECT_THAT(types(ask(query("SELEC 1"))), testing::StartsWith("E:42601 Z:I"));
  EXPECT_EQ(types(ask(query("SELECT v FROM not_listed"))), "E:0A000 Z:I") << "no default_shard";
  EXPECT_THAT(asked(0), IsEmpty());
  EXPECT_THAT(asked(1), IsEmpty());
}

TEST_F(SessionTest, ARefusalInATransactionFailsItThere) {
  open();
  server_[0].answer("BEGIN", complete("BEGIN") + ready('T'));
  server_[0].answer("SELECT v FROM t WHERE id = 1", complete("SELECT 0") + ready('T'));
  server_[0].answer("refused by tessera", error("42601") + ready('E'));
  server_[0].answer("ROLLBACK", complete("ROLLBACK") + ready());
  EXPECT_EQ(types(ask(query("BEGIN") + query("SELECT v FROM t WHERE id = 1"), 2)), "C Z:T C Z:T");
  EXPECT_EQ(types(ask(query("SELECT v FROM not_listed"))), "E:0A000 Z:E") << "our words, the server's state";
  EXPECT_THAT(asked(1), IsEmpty());
  EXPECT_EQ(types(ask(query("ROLLBACK"))), "C Z:I");
}

TEST_F(SessionTest, ALostConnectionIsToldAndForgotten) {
  open();
  server_[0].answer("SELECT v FROM t WHERE id = 1", "");
  send(query("SELECT v FROM t WHERE id = 1"));
  ASSERT_TRUE(lane_.eventually([&] { return server_[0].times_asked("SELECT v FROM t WHERE id = 1") == 1; }));
  server_[0].hang_up();
  EXPECT_EQ(types(answers()), "E:08006 Z:I") << "a read may be repeated";
  server_[0].answer("SELECT v FROM t WHERE id = 1", complete() + ready());
  EXPECT_EQ(types(ask(query("SELECT v FROM t WHERE id = 1"))), "C Z:I") << "and works again";
  EXPECT_FALSE(ended_);
}

// What is left of a clock would stop the next statement, by limits.statement_timeout, however long the client pauses.
TEST_F(SessionTest, TheClockOfARequestEndsWithItsAnswer) {
  open();
  const auto runs = [&] { return lane_.on([&] { return session_->request_started() != TimePoint{}; }); };
  const std::string sql = "SELECT v FROM t WHERE id = 1";
  EXPECT_EQ(types(ask(query("SELEC"))), "E:42601 Z:I");
  EXPECT_FALSE(runs()) << "refused";

  server_[0].answer(sql, "");
  send(query(sql) + query("SHOW tessera.shard"));
  ASSERT_TRUE(lane_.eventually([&] { return server_[0].times_asked(sql) == 1; }));
  EXPECT_TRUE(runs()) << "what was answered here stands behind what was not";
  server_[0].say(complete() + ready());
  EXPECT_EQ(types(answers(2)), "C Z:I T D C Z:I");
  EXPECT_FALSE(runs());

  send(query(sql));
  ASSERT_TRUE(lane_.eventually([&] { return server_[0].times_asked(sql) == 2; }));
  server_[0].hang_up();
  EXPECT_EQ(types(answers()), "E:08006 Z:I");
  EXPECT_FALSE(runs()) << "lost";

  send(raw('d', "1\n") + raw('c', ""));
  lane_.settle();
  EXPECT_FALSE(runs()) << "the rest of a COPY that has failed";
}

TEST_F(SessionTest, ALostWriteIsOfUnknownOutcome) {
  open();
  const std::string sql = "UPDATE t SET v = 'x' WHERE id = 1";
  server_[0].answer(sql, "");
  send(query(sql));
  ASSERT_TRUE(lane_.eventually([&] { return server_[0].times_asked(sql) == 1; }));
  server_[0].hang_up();
  EXPECT_EQ(types(answers()), "E:08007 Z:I");
  EXPECT_EQ(server_[0].times_asked(sql), 1u) << "never repeated by us";
}

TEST_F(SessionTest, ALossInTheMiddleOfARowEndsTheClient) {
  open();
  server_[0].answer("SELECT v FROM t WHERE id = 1", columns() + row("0123456789").substr(0, 12));
  send(query("SELECT v FROM t WHERE id = 1"));
  for (int i = 0; i < 2500 && take().size() < columns().size() + 12; ++i)
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
  server_[0].hang_up();
  ASSERT_TRUE(lane_.eventually([&] { return ended_.load(); }));
  EXPECT_EQ(types(take()), "T (cut)") << "no error message inside a row";
}

TEST_F(SessionTest, AScatterCutInTheMiddleOfARowEndsTheClient) {
  open();
  server_[0].answer("D", columns());
  server_[0].answer("E", row("0123456789").substr(0, 12));
  server_[0].answer("S", "");
  send(query("SELECT v FROM t"));
  for (int i = 0; i < 2500 && take().size() < columns().size() + 12; ++i)
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
  server_[0].hang_up();
  ASSERT_TRUE(lane_.eventually([&] { return ended_.load(); }));
  EXPECT_EQ(types(take()), "T (cut)");
}

TEST_F(SessionTest, AClientThatVanishesLeavesNothingBehind) {
  server_[0].answer("BEGIN", complete("BEGIN") + ready('T'));
  server_[0].answer("SELECT v FROM t WHERE id = 1", complete() + ready('T'));
  server_[0].answer("SELECT v FROM t WHERE id = 2", "");
  server_[0].answer("COPY t FROM STDIN WHERE id = 1", copy_response('G'));
  const std::string unit = parse("", "SELECT v FROM t WHERE id = $1", {23}) + bind("", {"1"});
  for (const std::string& last :
       {query("BEGIN") + query("SELECT v FROM t WHERE id = 1"), query("SELECT v FROM t WHERE id = 2"), unit,
        unit + execute(), query("SELECT v FROM t"), query("SELECT v FROM t WHERE id = 1").substr(0, 9)}) {
    greeted_.reset();
    open();
    send(last);
    for (int i = 0; i < 10; ++i) lane_.settle();
    lane_.on([&] { session_.reset(); });
    lane_.settle();
    EXPECT_EQ(busy(), 0) << types(last);
    EXPECT_EQ(lane_.on([&] {
      int waiting = 0;
      database_->each_pool([&](const pool::Pool& pool) { waiting += pool.counts().waiting; });
      return waiting;
    }),
              0);
    lane_.on([&] { database_->shut_down({sqlstate::admin_shutdown, "next round", {}, {}, 0}); });
    lane_.settle();
    lane_.on([&] { database_.reset(); });
  }
}

TEST_F(SessionTest, MalformedMessagesEndTheClient) {
  for (const std::string& bytes :
       {header('Q', 3), header('Q', 0), header('Q', 0x8000'0000), raw('!', ""), raw('p', "password")}) {
    greeted_.reset();
    ended_ = false;
    open();
    send(bytes);
    ASSERT_TRUE(lane_.eventually([&] { return ended_.load(); })) << types(bytes);
    EXPECT_EQ(types(take()), "E:08P01") << "said before the end";
    received_.clear();
    lane_.on([&] {
      session_.reset();
      database_->shut_down({sqlstate::admin_shutdown, "next round", {}, {}, 0});
    });
    lane_.settle();
    lane_.on([&] { database_.reset(); });
  }
}

TEST_F(SessionTest, MalformedBodiesAreErrors) {
  open();
  EXPECT_EQ(types(ask(raw('Q', "no zero byte"))), "E:08P01 Z:I");
  for (const char type : {'P', 'B', 'D', 'E', 'C'})
    EXPECT_EQ(types(ask(raw(type, "x") + sync())), "E:08P01 Z:I") << type;
  EXPECT_EQ(types(ask(query("SELECT v FROM t WHERE id = 1"))), "C Z:I") << "and the session goes on";
}

// ---- settings and sharing -------------------------------------------------------------------------------------------

TEST_F(SessionTest, SettingsFollowTheSessionFromServerToServer) {
  open();
  EXPECT_EQ(types(ask(query("SET work_mem = '1MB'"))), "C Z:I");
  ask(query("SELECT v FROM t WHERE id = 1"));
  ask(query("SELECT v FROM t WHERE id = 100"));
  for (std::size_t shard = 0; shard < 2; ++shard) {
    const std::vector<std::string> all = asked(shard);
    ASSERT_GE(all.size(), 2u);
    EXPECT_THAT(all[all.size() - 2], HasSubstr("SET work_mem = '1MB'")) << "before the statement, on every shard";
  }
}

TEST_F(SessionTest, WhatCannotBeReplayedHoldsTheConnection) {
  open();
  EXPECT_EQ(types(ask(query("DECLARE c CURSOR WITH HOLD FOR SELECT v FROM t WHERE id = 1"))), "C Z:I");
  EXPECT_EQ(busy(), 1);
  EXPECT_EQ(lane_.on([&] { return session_->pin_reasons(); }), "cursors with hold");
  lane_.on([&] { session_.reset(); });
  ASSERT_TRUE(lane_.eventually([&] { return server_[0].times_asked("DISCARD ALL") == 1; }))
      << "clean before the next client";
}

TEST_F(SessionTest, SessionPoolingKeepsTheConnection) {
  open(config::PoolMode::session);
  ask(query("SELECT v FROM t WHERE id = 1"));
  EXPECT_EQ(busy(), 1);
}

TEST_F(SessionTest, CancelTargetsAreTheConnectionsAtWork) {
  open();
  EXPECT_TRUE(lane_.on([&] { return session_->cancel_targets().empty(); }));
  server_[0].answer("SELECT v FROM t WHERE id = 1", "");
  send(query("SELECT v FROM t WHERE id = 1"));
  ASSERT_TRUE(lane_.eventually([&] { return session_->cancel_targets().size() == 1; }));
  EXPECT_EQ(lane_.on([&] { return session_->cancel_targets()[0]->endpoint().name; }), "s0");
  EXPECT_EQ(lane_.on([&] { return std::string(session_->state_name()); }), "active");
}

}  // namespace
}  // namespace tessera::proxy
