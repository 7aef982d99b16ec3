// How sessions end: what the client sent before it left is carried out.
#include "proxy/session_fixture.hpp"

namespace tessera::proxy {
namespace {

using namespace script;
using testing::Contains;
using testing::ElementsAre;

constexpr auto on_first = "INSERT INTO t (id, v) VALUES (1, 'x')";
constexpr auto on_second = "INSERT INTO t (id, v) VALUES (100, 'x')";

std::string terminate() {
  return raw('X', "");
}

class SessionEndTest : public SessionTest {
protected:
  // As Client does.
  void end_session() override {
    SessionTest::end_session();
    session_->on_client_gone();
  }
  void stop_statement(pool::Backend&) override {}
  void abandon(const pool::Backend&) override { ++abandoned_; }
  bool ends() {
    return lane_.eventually([this] { return ended_.load(); });
  }
  bool stays() {
    for (int i = 0; i < 10; ++i) lane_.settle();
    return !ended_;
  }
  std::size_t connections(std::size_t shard) { return server_[shard].open(); }

  int abandoned_ = 0;
};

class SessionEndOnOneShardTest : public SessionEndTest {
protected:
  SessionEndOnOneShardTest() {
    const std::string text = fmt::format(R"(
listen: {{postgres: "127.0.0.1:1"}}
databases:
  shop:
    backend: {{tls: disable, dbname: db}}
    shards:
      s0: {{primary: "127.0.0.1:{}"}}
)",
                                         server_[0].port());
    config_ = std::make_shared<const config::Config>(
        *config::load_text("test.yaml", text, config::real_environment()).config);
    runtime_ = build_runtime(config_, nullptr).value();
  }
};

TEST_F(SessionEndTest, AStatementRightBeforeTerminateRuns) {
  open();
  server_[0].answer(on_first, "");
  send(query(on_first) + terminate());
  ASSERT_TRUE(lane_.eventually([&] { return server_[0].times_asked(on_first) == 1; }));
  EXPECT_TRUE(stays());
  EXPECT_EQ(busy(), 1);
  server_[0].say(complete("INSERT 0 1") + ready());
  ASSERT_TRUE(ends());
  EXPECT_EQ(types(take()), "C Z:I") << "who still listens hears of it";
  EXPECT_EQ(abandoned_, 0);
  EXPECT_EQ(busy(), 0);
}

TEST_F(SessionEndTest, TerminateThatComesWhileTheStatementRunsDoesNotStopIt) {
  open();
  server_[0].answer(on_first, "");
  send(query(on_first));
  ASSERT_TRUE(lane_.eventually([&] { return server_[0].times_asked(on_first) == 1; }));
  send(terminate());
  EXPECT_TRUE(stays());
  server_[0].say(complete("INSERT 0 1") + ready());
  ASSERT_TRUE(ends());
  EXPECT_EQ(abandoned_, 0);
}

TEST_F(SessionEndTest, EverythingBeforeTerminateRunsInItsOrder) {
  open();
  server_[0].answer(on_first, "");
  send(query(on_first) + query(on_second) + parse("", on_first) + bind("") + execute() + sync() + terminate());
  ASSERT_TRUE(lane_.eventually([&] { return server_[0].times_asked(on_first) == 1; }));
  EXPECT_TRUE(stays());
  EXPECT_EQ(server_[1].times_asked(on_second), 0u) << "not before its turn";
  server_[0].say(complete("INSERT 0 1") + ready());
  ASSERT_TRUE(ends());
  EXPECT_EQ(server_[1].times_asked(on_second), 1u);
  EXPECT_THAT(asked(0), ElementsAre(on_first, "P", "B", "E", "S"));
  EXPECT_EQ(types(take()), "C Z:I C Z:I 1 2 C Z:I");
  EXPECT_EQ(abandoned_, 0);
}

TEST_F(SessionEndTest, CommitRightBeforeTerminateRuns) {
  open();
  server_[0].answer("BEGIN", complete("BEGIN") + ready('T'));
  server_[0].answer(on_first, complete("INSERT 0 1") + ready('T'));
  ask(query("BEGIN") + query(on_first), 2);
  send(query("COMMIT") + terminate());
  ASSERT_TRUE(ends());
  EXPECT_THAT(asked(0), ElementsAre("BEGIN", on_first, "COMMIT"));
  EXPECT_EQ(busy(), 0);
}

TEST_F(SessionEndTest, ATransactionThatIsLeftOpenEndsWithItsConnection) {
  open();
  server_[0].answer("BEGIN", complete("BEGIN") + ready('T'));
  server_[0].answer(on_first, complete("INSERT 0 1") + ready('T'));
  send(query("BEGIN") + query(on_first) + terminate());
  ASSERT_TRUE(ends());
  EXPECT_THAT(asked(0), ElementsAre("BEGIN", on_first)) << "as far as the client came";
  EXPECT_EQ(busy(), 0);
  EXPECT_EQ(abandoned_, 0);
}

TEST_F(SessionEndTest, AUnitWithoutSyncRunsAndIsRolledBack) {
  open();
  const std::size_t before = connections(0);
  server_[0].answer("E", "");
  send(parse("", on_first) + bind("") + execute() + terminate());
  ASSERT_TRUE(lane_.eventually([&] { return server_[0].times_asked("E") == 1; }));
  EXPECT_TRUE(stays());
  server_[0].say(complete("INSERT 0 1"));
  ASSERT_TRUE(ends());
  EXPECT_THAT(asked(0), Contains("H"));
  EXPECT_EQ(server_[0].times_asked("S"), 0u) << "nobody has asked for a commit";
  EXPECT_EQ(busy(), 0);
  EXPECT_TRUE(lane_.eventually([&] { return connections(0) <= before; })) << "the connection ends with it";
}

TEST_F(SessionEndTest, ErrorsBeforeTerminateDoNotKeepTheSession) {
  open();
  server_[0].answer("B", error("22012"));
  server_[0].answer("E", "");
  send(parse("", on_first) + bind("") + execute() + terminate());
  EXPECT_TRUE(ends());
  EXPECT_EQ(busy(), 0);
}

TEST_F(SessionEndOnOneShardTest, NobodyWaitsForTheRestOfACopy) {
  open();
  server_[0].answer("COPY t FROM STDIN", copy_response('G'));
  send(query("COPY t FROM STDIN") + raw('d', "1\tx\n") + terminate());
  ASSERT_TRUE(ends());
  EXPECT_EQ(types(take()), "G");
  EXPECT_EQ(server_[0].times_asked("COPY t FROM STDIN"), 1u);
  EXPECT_EQ(abandoned_, 1);
  EXPECT_EQ(busy(), 0);
}

TEST_F(SessionEndOnOneShardTest, ACopyWithItsEndIsCarriedOut) {
  open();
  server_[0].answer("COPY t FROM STDIN", copy_response('G'));
  server_[0].answer("c", complete("COPY 1") + ready());
  send(query("COPY t FROM STDIN") + raw('d', "1\tx\n") + raw('c', "") + terminate());
  ASSERT_TRUE(ends());
  EXPECT_EQ(server_[0].times_asked("c"), 1u);
  EXPECT_EQ(abandoned_, 0);
}

TEST_F(SessionEndTest, ALazyTransactionHasNothingToEnd) {
  open();
  send(query("BEGIN") + terminate());
  EXPECT_TRUE(ends());
  EXPECT_EQ(busy(), 0);
}

TEST_F(SessionEndTest, WhatRunsOnSeveralShardsIsWaitedForToo) {
  open();
  for (FakeServer& server : server_) server.answer("D", columns());
  server_[0].answer("E", complete("SELECT 0"));
  server_[1].answer("E", "");
  server_[1].answer("S", "");
  send(query("SELECT v FROM t") + query(on_first) + terminate());
  ASSERT_TRUE(lane_.eventually([&] { return server_[1].times_asked("S") == 1; }));
  EXPECT_TRUE(stays());
  server_[1].say(complete("SELECT 0") + ready());
  ASSERT_TRUE(ends());
  EXPECT_EQ(server_[0].times_asked(on_first), 1u);
  EXPECT_EQ(busy(), 0);
}

// ---- answers that nobody takes --------------------------------------------------------------------------------------

std::string many_rows() {
  std::string rows;
  for (int i = 0; i < 300; ++i) rows += row(std::string(10'000, 'x'));
  return columns() + rows + complete("SELECT 300") + ready();
}

TEST_F(SessionEndTest, AnswersThatNobodyTakesDoNotHoldUpTheEnd) {
  open();
  server_[0].answer("SELECT v FROM t WHERE id = 1", many_rows());
  send(query("SELECT v FROM t WHERE id = 1") + query("SELECT v FROM t WHERE id = 1") + query(on_second) + terminate());
  EXPECT_TRUE(stays()) << "a client that reads slowly gets all";
  ASSERT_TRUE(lane_.eventually([&] {
    session_->sweep(lane_.loop.now());
    return ended_.load();
  }));
  EXPECT_EQ(server_[1].times_asked(on_second), 1u);
  EXPECT_EQ(lane_.on([&] { return stream_.pending(); }), 0u);
}

TEST_F(SessionEndTest, NorDoThoseOfSeveralShards) {
  open();
  for (FakeServer& server : server_) {
    server.answer("D", columns());
    server.answer("E", many_rows().substr(columns().size(), many_rows().size() - columns().size() - ready().size()));
  }
  send(query("SELECT v FROM t") + query(on_second) + terminate());
  EXPECT_TRUE(stays());
  lane_.on([&] { session_->on_client_end(); });
  ASSERT_TRUE(ends());
  EXPECT_EQ(server_[1].times_asked(on_second), 1u);
}

// ---- the stream ends without a word ---------------------------------------------------------------------------------

TEST_F(SessionEndTest, WhatCameBeforeTheEndOfTheStreamRuns) {
  open();
  server_[0].answer(on_first, "");
  send(query(on_first) + query(on_second) + query(on_second).substr(0, 20));
  lane_.on([&] { session_->on_client_end(); });
  EXPECT_TRUE(stays());
  server_[0].say(complete("INSERT 0 1") + ready());
  ASSERT_TRUE(ends());
  EXPECT_EQ(server_[1].times_asked(on_second), 1u) << "the second of them is not complete";
  EXPECT_EQ(abandoned_, 0);
}

TEST_F(SessionEndTest, AClientThatVanishedIsNotWaitedForLong) {
  open();
  server_[0].answer(on_first, "");
  send(query(on_first) + query(on_second));
  ASSERT_TRUE(lane_.eventually([&] { return server_[0].times_asked(on_first) == 1; }));
  lane_.on([&] { session_->on_client_end(); });
  lane_.on([&] { session_->sweep(lane_.loop.now()); });
  EXPECT_TRUE(stays());
  lane_.on([&] { session_->sweep(lane_.loop.now() + std::chrono::seconds(2)); });
  ASSERT_TRUE(ends());
  EXPECT_EQ(abandoned_, 1);
  EXPECT_EQ(server_[1].times_asked(on_second), 0u);
  EXPECT_EQ(busy(), 0);
}

TEST_F(SessionEndTest, OneThatSaidGoodbyeIsWaitedFor) {
  open();
  server_[0].answer(on_first, "");
  send(query(on_first) + query(on_second) + terminate());
  lane_.on([&] { session_->on_client_end(); });
  lane_.on([&] { session_->sweep(lane_.loop.now() + std::chrono::hours(1)); });
  EXPECT_TRUE(stays());
  server_[0].say(complete("INSERT 0 1") + ready());
  ASSERT_TRUE(ends());
  EXPECT_EQ(server_[1].times_asked(on_second), 1u);
}

TEST_F(SessionEndTest, WhoeverEndsSessionsEndsThoseThatAreLeavingToo) {
  open();
  server_[0].answer(on_first, "");
  send(query(on_first) + terminate());
  EXPECT_TRUE(stays());
  lane_.on([&] { session_->terminate({sqlstate::admin_shutdown, "killed", {}, {}, 0}); });
  ASSERT_TRUE(ends());
  EXPECT_EQ(abandoned_, 1);
  EXPECT_EQ(busy(), 0);
}

TEST_F(SessionEndTest, AnIdleClientThatVanishesEndsAtOnce) {
  open();
  ask(query("SELECT v FROM t WHERE id = 1"));
  lane_.on([&] { session_->on_client_end(); });
  EXPECT_TRUE(ended_);
}

}  // namespace
}  // namespace tessera::proxy
