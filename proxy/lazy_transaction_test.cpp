#include "proxy/lazy_transaction.hpp"

#include <gtest/gtest.h>

namespace tessera::proxy {
namespace {

const pool::SettingsMap at_begin{{"DateStyle", "ISO"}}, later{{"DateStyle", "German"}};

TEST(LazyTransaction, KeepsWhatTheServerWillBeTold) {
  LazyTransaction lazy;
  EXPECT_TRUE(lazy.none());
  lazy.begin("BEGIN READ ONLY", at_begin);
  EXPECT_TRUE(lazy.open());
  ASSERT_TRUE(lazy.add("SET LOCAL work_mem = '1MB'"));
  ASSERT_TRUE(lazy.savepoint("a", "SAVEPOINT a", later));
  EXPECT_EQ(lazy.opening(), "BEGIN READ ONLY;SET LOCAL work_mem = '1MB';SAVEPOINT a");
  lazy.join();
  EXPECT_TRUE(lazy.none());
  lazy.reopen();
  EXPECT_TRUE(lazy.open());
  EXPECT_TRUE(lazy.has_savepoint("a"));
}

TEST(LazyTransaction, GoesBackToTheLastSavepointOfAName) {
  LazyTransaction lazy;
  lazy.begin("BEGIN", at_begin);
  ASSERT_TRUE(lazy.savepoint("a", "SAVEPOINT a", at_begin));
  ASSERT_TRUE(lazy.add("SET LOCAL x.y = 1"));
  ASSERT_TRUE(lazy.savepoint("a", "SAVEPOINT a", later));
  ASSERT_TRUE(lazy.savepoint("b", "SAVEPOINT b", later));
  lazy.fail();
  EXPECT_EQ(*lazy.parameters_before_failure(), later);
  EXPECT_EQ(lazy.rollback_to("a"), later);
  EXPECT_TRUE(lazy.open());
  EXPECT_FALSE(lazy.has_savepoint("b"));
  EXPECT_EQ(lazy.opening(), "BEGIN;SAVEPOINT a;SET LOCAL x.y = 1;SAVEPOINT a");
  ASSERT_TRUE(lazy.release("a", "RELEASE a"));
  EXPECT_EQ(lazy.rollback_to("a"), at_begin);  // the first one
  EXPECT_EQ(lazy.opening(), "BEGIN;SAVEPOINT a");
  ASSERT_TRUE(lazy.release("a", "RELEASE a"));
  EXPECT_EQ(lazy.savepoints(), 0U);
}

TEST(LazyTransaction, ChainsWithItsCharacteristicsOnly) {
  LazyTransaction lazy;
  lazy.begin("BEGIN", at_begin);
  const auto set = [&](std::string_view sql) {
    ASSERT_TRUE(lazy.add(sql));
    lazy.hand_on(sql);
  };
  set("SET TRANSACTION READ ONLY");
  ASSERT_TRUE(lazy.add("SET LOCAL x.y = 1"));
  ASSERT_TRUE(lazy.savepoint("a", "SAVEPOINT a", at_begin));
  set("SET TRANSACTION READ WRITE");  // ends with the savepoint
  lazy.end(true);
  EXPECT_TRUE(lazy.open());
  EXPECT_EQ(lazy.savepoints(), 0U);
  EXPECT_EQ(lazy.opening(), "BEGIN;SET TRANSACTION READ ONLY");
  lazy.end(false);
  EXPECT_TRUE(lazy.none());
}

TEST(LazyTransaction, TakesNoMoreThanThereIsRoomFor) {
  LazyTransaction lazy;
  lazy.begin("BEGIN", at_begin);
  ASSERT_TRUE(lazy.savepoint("a", "SAVEPOINT a", at_begin));
  for (std::size_t i = 1; i < LazyTransaction::most_statements; ++i) ASSERT_TRUE(lazy.add("SET LOCAL x.y = 1"));
  const std::string before = lazy.opening();
  const Result<void> refused = lazy.savepoint("b", "SAVEPOINT b", at_begin);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, sqlstate::program_limit_exceeded);
  EXPECT_FALSE(lazy.release("a", "RELEASE a"));
  EXPECT_EQ(lazy.opening(), before);
  EXPECT_TRUE(lazy.has_savepoint("a"));
  EXPECT_FALSE(lazy.has_savepoint("b"));
  lazy.rollback_to("a");
  EXPECT_TRUE(lazy.add("SET LOCAL x.y = 1"));
  EXPECT_FALSE(lazy.add(std::string(LazyTransaction::most_bytes, ' ')));
}

TEST(LazyTransaction, OnceLostNobodyKnowsHowItHadBegun) {
  LazyTransaction lazy;
  lazy.begin("BEGIN READ ONLY", at_begin);
  lazy.join();
  lazy.lose(Error{sqlstate::connection_failure, "gone", {}, {}, 0});
  EXPECT_TRUE(lazy.failed());
  EXPECT_FALSE(lazy.knows_its_beginning());
  EXPECT_EQ(lazy.parameters_before_failure(), nullptr);
  EXPECT_FALSE(lazy.has_savepoint("a"));
  EXPECT_TRUE(lazy.owes_error());
  EXPECT_EQ(lazy.take_owed_error()->message, "gone");
  EXPECT_FALSE(lazy.owes_error());
  lazy.lose(Error{sqlstate::connection_failure, "again", {}, {}, 0});
  lazy.end(false);
  EXPECT_FALSE(lazy.owes_error());
}

}  // namespace
}  // namespace tessera::proxy
