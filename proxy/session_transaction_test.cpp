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

// ---- side units: what the transaction has set is there for a description, and gone behind it ------------------------

class AsideTest : public SessionTest {
protected:
  // A transaction that has set something, tried out on s0; the servers' memory of that is for the first assertion only.
  void begin() {
    open();
    answer_opening(complete("BEGIN") + complete("SET") + ready('T'));
    for (FakeServer& server : server_) {
      server.answer("ROLLBACK", complete("ROLLBACK") + ready('I'));
      server.answer("D", raw('t', std::string(2, '\0')) + raw('n', ""));
      server.answer("S", ready('T'));
    }
    EXPECT_EQ(types(ask(query("BEGIN") + query("SET LOCAL DateStyle = DMY"), 2)), "C Z:T C Z:T");
    EXPECT_THAT(asked(0), ElementsAre(opening, "ROLLBACK"));
  }
  void answer_opening(const std::string& bytes) {
    for (FakeServer& server : server_) server.answer(opening, bytes);
  }
  // What s0 was asked since.
  std::vector<std::string> since() const {
    std::vector<std::string> all = asked(0);
    all.erase(all.begin(), all.begin() + 2);
    return all;
  }
  static std::string prepare() {
    return parse("s", "SELECT v FROM t WHERE id = $1", {23}) + raw('D', std::string("Ss\0", 3));
  }
  static constexpr const char* opening = "BEGIN;SET LOCAL DateStyle = DMY";
};

TEST_F(AsideTest, ADescriptionIsMadeUnderTheTransactionsSettings) {
  begin();
  EXPECT_EQ(types(ask(prepare() + sync())), "1 t n Z:T");
  ASSERT_TRUE(lane_.eventually([&] { return server_[0].times_asked("ROLLBACK") == 2; }));
  EXPECT_THAT(since(), ElementsAre(opening, "P", "D", "S", "ROLLBACK"));
  EXPECT_EQ(types(ask(bind("s", {"100"}) + execute() + sync())), "2 C Z:T");
  EXPECT_THAT(asked(1), ElementsAre(opening, "P", "B", "E", "S"));
}

TEST_F(AsideTest, AUnitThatRunsSomethingThereGoesOnInTheSameTransaction) {
  begin();
  send(prepare() + raw('H', ""));
  ASSERT_TRUE(lane_.eventually([&] { return server_[0].times_asked("H") > 0; }));
  EXPECT_EQ(types(ask(bind("s", {"1"}) + execute() + sync())), "1 t n 2 C Z:T");
  EXPECT_EQ(server_[0].times_asked(opening), 2u) << "tried out, and begun";
  EXPECT_EQ(server_[0].times_asked("ROLLBACK"), 1u);
  EXPECT_EQ(busy(), 1);
}

TEST_F(AsideTest, AUnitWhoseKeyIsElsewhereLeaves) {
  begin();
  EXPECT_EQ(types(ask(prepare() + raw('H', "") + bind("s", {"100"}) + execute() + sync())), "1 t n 2 C Z:T");
  EXPECT_EQ(since().back(), "ROLLBACK");
  EXPECT_THAT(asked(1), ElementsAre(opening, "P", "B", "E", "S"));
  EXPECT_EQ(busy(), 1);
}

TEST_F(AsideTest, WhatCannotBeSetThereFailsTheTransactionBeforeAnythingIsPrepared) {
  begin();
  answer_opening(complete("BEGIN") + error("22023") + ready('E'));
  EXPECT_EQ(types(ask(prepare() + sync() + query(update), 2)), "1 E:22023 Z:E E:25P02 Z:E");
  EXPECT_THAT(since(), ElementsAre(opening, "ROLLBACK"));
  EXPECT_EQ(busy(), 0);
  answer_opening(error("57014") + ready('I'));
  EXPECT_EQ(types(ask(query("ROLLBACK") + query("BEGIN"), 2)), "C Z:I C Z:T");
}

TEST_F(AsideTest, ACancelRequestThatHitsItsEndLeavesNothingOpen) {
  begin();
  server_[0].answer("ROLLBACK", "");
  EXPECT_EQ(types(ask(prepare() + sync())), "1 t n Z:T");
  ASSERT_TRUE(lane_.eventually([&] { return server_[0].times_asked("ROLLBACK") == 2; }));
  server_[0].answer("ROLLBACK", complete("ROLLBACK") + ready('I'));
  server_[0].say(error("57014") + ready('E'));
  EXPECT_EQ(types(ask(query("COMMIT"))), "C Z:I");
  EXPECT_EQ(server_[0].times_asked("ROLLBACK"), 3u);
  EXPECT_EQ(busy(), 0);
}

TEST_F(AsideTest, AnErrorOfTheClientsFailsTheTransactionAndIsUndone) {
  begin();
  server_[0].answer("P", error("42P01"));
  server_[0].answer("D", "");
  server_[0].answer("S", ready('E'));
  EXPECT_EQ(types(ask(prepare() + sync() + query(update), 2)), "E:42P01 Z:E E:25P02 Z:E");
  EXPECT_EQ(since().back(), "ROLLBACK");
  EXPECT_EQ(busy(), 0);
}

TEST_F(AsideTest, ALostConnectionFailsTheTransactionWhereItHasAskedSomething) {
  begin();
  server_[0].answer("P", "");
  server_[0].answer("D", "");
  server_[0].answer("S", "");
  server_[0].answer("ROLLBACK", "");
  send(prepare() + sync());
  ASSERT_TRUE(lane_.eventually([&] { return server_[0].times_asked("S") == 1; }));
  server_[0].hang_up();
  EXPECT_EQ(types(answers()), "E:08006 Z:E");
  EXPECT_EQ(types(ask(query(update) + query("ROLLBACK"), 2)), "E:25P02 Z:E C Z:I");
}

TEST_F(AsideTest, AConnectionThatIsLostAtItsEndIsNoLoss) {
  begin();
  server_[0].answer("ROLLBACK", "");
  EXPECT_EQ(types(ask(prepare() + sync())), "1 t n Z:T");
  ASSERT_TRUE(lane_.eventually([&] { return server_[0].times_asked("ROLLBACK") == 2; }));
  server_[0].hang_up();
  EXPECT_EQ(types(ask(bind("s", {"100"}) + execute() + sync())), "2 C Z:T");
  EXPECT_THAT(asked(1), ElementsAre(opening, "P", "B", "E", "S"));
}

TEST_F(AsideTest, AClientThatGoesTakesTheConnectionAlong) {
  begin();
  send(prepare() + raw('H', ""));
  ASSERT_TRUE(lane_.eventually([&] { return server_[0].times_asked("H") > 0; }));
  lane_.on([&] { session_->on_client_gone(); });
  EXPECT_TRUE(lane_.eventually([&] { return server_[0].open() == 0; }));
  EXPECT_EQ(busy(), 0);
}

}  // namespace
}  // namespace tessera::proxy
