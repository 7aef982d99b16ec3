#include "proxy/statement_table.hpp"

#include <fmt/format.h>
#include <gtest/gtest.h>

namespace tessera::proxy {
namespace {

StatementTable::Counters find(StatementTable& table, std::string_view sql) {
  parser::Fingerprint print;
  parser::fingerprint(sql, {}, print);
  return table.find(print, sql, {});
}

TEST(StatementTable, OneEntryForOneShape) {
  StatementTable table(4);
  const auto first = find(table, "select v from t where id = 1");
  EXPECT_EQ(find(table, "SELECT v  FROM t WHERE id = 25 -- another"), first);
  EXPECT_NE(find(table, "select w from t where id = 1"), first);
  EXPECT_EQ(first->text.find("1"), std::string::npos) << first->text;
}

TEST(StatementTable, ShowsNoComments) {
  StatementTable table(1);
  EXPECT_EQ(find(table, "/* by Ann */ select/*x*/w -- of Bob\n from t  where id = 5; -- end")->text,
            "select w from t  where id = ?;");
}

TEST(StatementTable, KnowsWhereAndHowLong) {
  StatementTable table(130);
  const auto counters = find(table, "select 1");
  counters->sent_to(ShardId(0));
  counters->sent_to(ShardId(129));
  counters->sent_to(ShardId(5000));  // never beyond what there is
  counters->took(7);
  counters->took(3);
  EXPECT_EQ(counters->shards, (std::vector<std::uint64_t>{1, 0, 2}));
  EXPECT_EQ(counters->min_us, 3u);
  EXPECT_EQ(counters->max_us, 7u);
  EXPECT_EQ(counters->total_us, 10u);
}

TEST(StatementTable, GivesPlacesOfForgottenStatementsAway) {
  StatementTable table(1);
  std::vector<StatementTable::Counters> held;
  for (std::size_t i = 0; i < StatementTable::capacity; ++i) held.push_back(find(table, fmt::format("select c{}", i)));
  const auto other = find(table, "select d1");
  EXPECT_EQ(other->text, StatementTable::others);
  EXPECT_EQ(find(table, "select d2"), other);
  held[3]->calls = 5;
  const auto* place = held[3].get();
  held[3].reset();
  StatementTable::Counters taken;
  for (std::size_t i = 0; i < StatementTable::capacity && (!taken || taken == other); ++i)
    taken = find(table, fmt::format("select e{}", i));
  EXPECT_EQ(taken.get(), place);
  EXPECT_EQ(taken->calls, 0u);
  std::size_t count = 0;
  table.each([&](const router::StatementCounters&) { ++count; });
  EXPECT_EQ(count, StatementTable::capacity + 1);
}

}  // namespace
}  // namespace tessera::proxy
