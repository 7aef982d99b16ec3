// Cursors on servers by script: opened everywhere at once, read one after the other, and what a server's error leaves.
// (On real servers: tests/integration/test_cursors.py.)
#include "executor/cursor.hpp"

#include <gtest/gtest.h>

#include "executor/execution_fixture.hpp"

namespace tessera::executor {
namespace {

class CursorTest : public ExecutionTest {
protected:
  CursorTest() {
    cursor_.name = "c";
    for (FakeServer& server : server_) server.answer("D", columns());
  }
  void rows(std::size_t shard, const std::vector<std::string>& values) {
    std::string bytes;
    for (const std::string& value : values) bytes += row(value);
    server_[shard].answer("E", bytes + complete("FETCH " + std::to_string(values.size())));
  }
  bool open() {
    for (FakeServer& server : server_) server.answer("E", complete("DECLARE CURSOR"));
    run([this](const std::vector<Place>& places, Events events) {
      return std::make_unique<OpenCursor>(Request{.sql = "SELECT v FROM t"}, cursor_, places, lane_.loop,
                                          std::move(events));
    });
    return finish();
  }
  // What the client gets.
  std::string read(Portion portion, bool describe = false) {
    forget();
    run([&](const std::vector<Place>& places, Events events) {
      return std::make_unique<ReadCursor>(Request{.describe = describe}, cursor_, portion, places, lane_.loop,
                                          std::move(events));
    });
    EXPECT_TRUE(finish());
    return client_;
  }
  static Portion fetch(std::int64_t count) { return {.by = Portion::By::fetch, .count = count}; }

  Cursor cursor_;
};

TEST_F(CursorTest, IsOpenedOnEveryShard) {
  ASSERT_TRUE(open());
  ASSERT_TRUE(*result_) << message();
  EXPECT_EQ(client_, complete("DECLARE CURSOR"));
  EXPECT_EQ(cursor_.description, columns());
  for (FakeServer& server : server_) EXPECT_EQ(server.times_asked("P"), 1);
}

TEST_F(CursorTest, OtherColumnsOnAnotherShardAreAnError) {
  server_[2].answer("D", raw('n', ""));
  ASSERT_TRUE(open());
  ASSERT_FALSE(*result_);
  EXPECT_EQ(result_->error().code.view(), "0A000");
  EXPECT_EQ(cursor_.description, "");
}

TEST_F(CursorTest, AnErrorStandsWhereTheClientsTextHasIt) {
  const std::string nul(1, '\0');
  server_[1].answer("P", raw('E', "SERROR" + nul + "C42703" + nul + "Mno" + nul + "P40" + nul + nul));
  for (const char* skipped : {"B", "E", "D"}) server_[1].answer(skipped, "");
  ASSERT_TRUE(open());
  ASSERT_FALSE(*result_);
  EXPECT_EQ(result_->error().code.view(), "42703");
  EXPECT_EQ(result_->error().position, 40 - static_cast<int>(cursor_.declaration({}).size()));
  EXPECT_EQ(cursor_.description, "");
}

TEST_F(CursorTest, OneShardIsReadAfterTheOther) {
  rows(0, {"1", "2"});
  EXPECT_EQ(read(fetch(2), true), columns() + row("1") + row("2") + complete("FETCH 2"));
  EXPECT_EQ(cursor_.current, 0U) << "it may have more";
  rows(0, {});
  rows(1, {"3"});
  rows(2, {"4"});
  EXPECT_EQ(read(fetch(2)), row("3") + row("4") + complete("FETCH 2"));
  EXPECT_EQ(cursor_.current, 2U);
  rows(2, {});
  EXPECT_EQ(read(fetch(9)), complete("FETCH 0"));
  EXPECT_EQ(read(fetch(9), true), columns() + complete("FETCH 0")) << "the last one still says what there would be";
  EXPECT_EQ(server_[0].times_asked("E"), 2);
}

TEST_F(CursorTest, AllThatIsLeft) {
  for (std::size_t i = 0; i < shards; ++i) rows(i, {std::to_string(i)});
  EXPECT_EQ(read({.by = Portion::By::move}), row("0") + row("1") + row("2") + complete("MOVE 3"));
  EXPECT_EQ(cursor_.current, shards);
}

TEST_F(CursorTest, AnExecuteThatItsLimitHasStoppedIsSuspended) {
  rows(0, {"1", "2"});
  EXPECT_EQ(read({.count = 2}), row("1") + row("2") + raw('s', ""));
  rows(0, {});
  rows(1, {"3"});
  rows(2, {});
  EXPECT_EQ(read({.count = 2}), row("3") + complete("SELECT 1"));
}

TEST_F(CursorTest, AnErrorEndsTheReading) {
  rows(0, {"1"});
  server_[1].answer("E", row("2") + error("22012"));
  server_[1].answer("S", ready('E'));
  EXPECT_EQ(read(fetch(9)), row("1") + row("2"));
  ASSERT_FALSE(*result_);
  EXPECT_EQ(result_->error().code.view(), "22012");
  EXPECT_EQ(server_[2].times_asked("E"), 0);
}

TEST_F(CursorTest, AConnectionThatIsLostEndsTheReading) {
  rows(0, {"1"});
  server_[1].hang_up_on("E");
  read(fetch(9));
  ASSERT_FALSE(*result_);
  EXPECT_EQ(result_->error().code.view().substr(0, 2), "08");
}

}  // namespace
}  // namespace tessera::executor
