// Transactions that begin in name only: what happens when their BEGIN fails on the server, or never gets an answer.
#include "proxy/session_fixture.hpp"

namespace tessera::proxy {
namespace {

using namespace script;
using testing::ElementsAre;
using testing::IsEmpty;

constexpr const char* update = "UPDATE t SET v = 'x' WHERE id = 100";

std::string prepared_update() {
  return parse("", "UPDATE t SET v = 'x' WHERE id = $1", {23}) + bind("", {"100"}) + execute() + sync();
}

TEST_F(SessionTest, AStatementNeverRunsOutsideOfItsTransaction) {
  open();
  server_[1].answer("BEGIN", error("57014") + ready('I'));
  EXPECT_EQ(types(ask(query("BEGIN"))), "C Z:T");
  EXPECT_EQ(types(ask(query(update) + query(update), 2)), "E:57014 Z:E E:25P02 Z:E");
  EXPECT_EQ(types(ask(query("COMMIT"))), "C Z:I");
  EXPECT_THAT(asked(1), ElementsAre("BEGIN"));
  EXPECT_EQ(busy(), 0);
}

TEST_F(SessionTest, NorDoesAnExtendedOne) {
  open();
  server_[1].answer("BEGIN", error("57014") + ready('I'));
  EXPECT_EQ(types(ask(query("BEGIN") + prepared_update() + prepared_update(), 3)), "C Z:T 1 E:57014 Z:E E:25P02 Z:E");
  EXPECT_EQ(types(ask(query("ROLLBACK"))), "C Z:I");
  EXPECT_THAT(asked(1), ElementsAre("BEGIN"));
}

TEST_F(SessionTest, WhatFailsBehindBeginFailsTheTransaction) {
  open();
  server_[1].answer("BEGIN;SAVEPOINT a", complete("BEGIN") + error("42601") + ready('E'));
  server_[1].answer("refused by tessera", error("25P02") + ready('E'));
  server_[1].answer("ROLLBACK", complete("ROLLBACK") + ready('I'));
  EXPECT_EQ(types(ask(query("BEGIN") + query("SAVEPOINT a"), 2)), "C Z:T C Z:T");
  EXPECT_EQ(types(ask(query(update))), "E:42601 Z:E");
  EXPECT_EQ(types(ask(query("ROLLBACK"))), "C Z:I");
  EXPECT_EQ(server_[1].times_asked(update), 0u);
  EXPECT_EQ(busy(), 0);
}

TEST_F(SessionTest, AConnectionThatIsLostAtBeginHasWrittenNothing) {
  open();
  server_[1].answer("BEGIN", "");
  EXPECT_EQ(types(ask(query("BEGIN"))), "C Z:T");
  send(query(update));
  ASSERT_TRUE(lane_.eventually([&] { return server_[1].times_asked("BEGIN") == 1; }));
  server_[1].hang_up();
  EXPECT_EQ(types(answers()), "E:08006 Z:E");
  EXPECT_EQ(types(ask(query("ROLLBACK"))), "C Z:I");
  EXPECT_THAT(asked(0), IsEmpty());
}

TEST_F(SessionTest, AConnectionThatIsLostWhileASettingIsTriedOutFailsTheTransaction) {
  open();
  for (FakeServer& server : server_) server.answer("BEGIN;SET LOCAL work_mem = '1MB'", "");
  EXPECT_EQ(types(ask(query("BEGIN"))), "C Z:T");
  send(query("SET LOCAL work_mem = '1MB'"));
  ASSERT_TRUE(lane_.eventually([&] { return server_[0].times_asked("BEGIN;SET LOCAL work_mem = '1MB'") == 1; }));
  server_[0].hang_up();
  EXPECT_EQ(types(answers()), "E:08006 Z:E");
  EXPECT_EQ(types(ask(query(update))), "E:25P02 Z:E");
  EXPECT_EQ(types(ask(query("ROLLBACK"))), "C Z:I");
  EXPECT_EQ(types(ask(query(update))), "C Z:I");
}

TEST_F(SessionTest, WhatIsTriedOutIsUndoneThoughTheUndoingIsCancelled) {
  open();
  const char* trial = "BEGIN;SET LOCAL work_mem = '1MB'";
  server_[0].answer(trial, complete("BEGIN") + complete("SET") + ready('T'));
  server_[0].answer("ROLLBACK", "");
  EXPECT_EQ(types(ask(query("BEGIN"))), "C Z:T");
  send(query("SET LOCAL work_mem = '1MB'"));
  ASSERT_TRUE(lane_.eventually([&] { return server_[0].times_asked("ROLLBACK") == 1; }));
  server_[0].answer("ROLLBACK", complete("ROLLBACK") + ready('I'));
  server_[0].say(error("57014") + ready('E'));
  EXPECT_EQ(types(answers()), "E:57014 Z:E");
  EXPECT_THAT(asked(0), ElementsAre(trial, "ROLLBACK", "ROLLBACK"));
  EXPECT_EQ(busy(), 0);
}

}  // namespace
}  // namespace tessera::proxy
