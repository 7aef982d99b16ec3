// The merge as a machine: rows in order, whatever the pieces in which they come.
#include "executor/merge_rows.hpp"

#include <algorithm>
#include <gtest/gtest.h>
#include <random>
#include <tuple>

#include "wire/postgres/backend.hpp"

namespace tessera::executor {
namespace {

using postgres::Value;

std::string number(std::int32_t value) {
  std::string bytes;
  for (int shift = 24; shift >= 0; shift -= 8) bytes += static_cast<char>(value >> shift);
  return bytes;
}
std::string message(std::span<const Value> values) {
  std::string row;
  EXPECT_TRUE(postgres::append_data_row(row, values));
  return row;
}
std::string visible(std::string_view text) {
  return message(std::vector<Value>{text});
}
std::string row(std::string_view text, std::optional<std::int32_t> key) {
  const std::string bytes = key ? number(*key) : "";
  return message(std::vector<Value>{text, key ? Value(bytes) : std::nullopt});
}
MergeRows::Form by_number(std::uint64_t offset = 0, std::uint64_t limit = UINT64_MAX) {
  return {.columns = 1, .keys = {{router::SortOrder::signed_number, {}}}, .offset = offset, .limit = limit};
}

// Everything that is certain.
std::string all(MergeRows& merge) {
  std::string out, block;
  do {
    block.clear();
    const auto given = merge.give(block, 64);
    EXPECT_TRUE(given) << given.error().message;
    out += block;
  } while (!block.empty());
  return out;
}

TEST(MergeRows, RowsComeInOrderWithoutTheirKeys) {
  MergeRows merge(3, by_number());
  ASSERT_TRUE(merge.take(0, row("a", 1) + row("d", 4) + row("e", 5)));
  ASSERT_TRUE(merge.take(1, row("b", 2) + row("n", {})));
  EXPECT_EQ(all(merge), "") << "the third could have the first row";
  ASSERT_TRUE(merge.take(2, row("c", 3)));
  EXPECT_EQ(all(merge), visible("a") + visible("b") + visible("c"));
  EXPECT_FALSE(merge.done());
  for (const std::size_t shard : {0u, 1u, 2u}) ASSERT_TRUE(merge.end(shard));
  EXPECT_EQ(all(merge), visible("d") + visible("e") + visible("n"));
  EXPECT_TRUE(merge.done());
  EXPECT_EQ(merge.rows(), 6u);
}

TEST(MergeRows, EqualRowsComeInTheOrderOfTheShards) {
  MergeRows merge(2, by_number());
  ASSERT_TRUE(merge.take(1, row("second", 1)));
  ASSERT_TRUE(merge.take(0, row("first", 1) + row("also", 1)));
  for (const std::size_t shard : {0u, 1u}) ASSERT_TRUE(merge.end(shard));
  EXPECT_EQ(all(merge), visible("first") + visible("also") + visible("second"));
}

TEST(MergeRows, OffsetAndLimitCountOverAllShards) {
  MergeRows merge(2, by_number(2, 3));
  ASSERT_TRUE(merge.take(0, row("0", 0) + row("2", 2) + row("4", 4) + row("6", 6)));
  ASSERT_TRUE(merge.take(1, row("1", 1) + row("3", 3) + row("5", 5)));
  EXPECT_EQ(all(merge), visible("2") + visible("3") + visible("4"));
  EXPECT_TRUE(merge.done());
  EXPECT_EQ(merge.rows(), 3u);
  EXPECT_TRUE(merge.wants(0)) << "what is left is read";
  EXPECT_TRUE(merge.take(0, "and dropped"));
  EXPECT_TRUE(merge.end(0));
}

TEST(MergeRows, NothingIsGivenOfNothing) {
  MergeRows none(2, by_number(0, 0));
  EXPECT_TRUE(none.done());
  MergeRows empty(2, by_number());
  EXPECT_FALSE(empty.done());
  for (const std::size_t shard : {0u, 1u}) ASSERT_TRUE(empty.end(shard));
  EXPECT_TRUE(empty.done());
  MergeRows behind(1, by_number(5));
  ASSERT_TRUE(behind.take(0, row("x", 1)));
  ASSERT_TRUE(behind.end(0));
  EXPECT_EQ(all(behind), "");
  EXPECT_TRUE(behind.done());
  EXPECT_EQ(behind.rows(), 0u);
}

TEST(MergeRows, WithoutKeysOneShardComesAfterTheOther) {
  MergeRows merge(2, {.columns = 1, .keys = {}, .offset = 1, .limit = 2});
  ASSERT_TRUE(merge.take(0, visible("a") + visible("b")));
  ASSERT_TRUE(merge.take(1, visible("c") + visible("d")));
  ASSERT_TRUE(merge.end(0));
  EXPECT_EQ(all(merge), visible("b") + visible("c"));
}

TEST(MergeRows, RowsMayBeCutAtEachByte) {
  std::string left, right, expected;
  for (int i = 0; i < 6; ++i) (i % 2 == 0 ? left : right) += row(std::to_string(i), i);
  for (int i = 0; i < 6; ++i) expected += visible(std::to_string(i));
  for (std::size_t cut = 0; cut <= left.size(); ++cut) {
    MergeRows merge(2, by_number());
    ASSERT_TRUE(merge.take(0, left.substr(0, cut)));
    std::string out = all(merge);
    ASSERT_TRUE(merge.take(1, right));
    ASSERT_TRUE(merge.end(1));
    out += all(merge);
    ASSERT_TRUE(merge.take(0, left.substr(cut)));
    out += all(merge);
    ASSERT_TRUE(merge.end(0));
    out += all(merge);
    EXPECT_EQ(out, expected) << cut;
    EXPECT_TRUE(merge.done());
  }
}

TEST(MergeRows, RandomRowsInRandomPieces) {
  std::mt19937 random(1);
  for (int round = 0; round < 500; ++round) {
    const std::size_t shards = 1 + random() % 7;
    std::vector<std::string> bytes(shards);
    std::vector<std::size_t> sent(shards);
    std::vector<std::tuple<std::int32_t, std::size_t, std::string>> whole;
    for (std::size_t shard = 0; shard < shards; ++shard) {
      std::vector<std::int32_t> keys(random() % 20);
      for (std::int32_t& key : keys) key = static_cast<std::int32_t>(random() % 10) - 5;
      std::ranges::sort(keys);
      for (const std::int32_t key : keys) {
        const std::string text = std::to_string(shard) + ':' + std::to_string(key);
        bytes[shard] += row(text, key);
        whole.emplace_back(key, shard, text);
      }
    }
    std::ranges::sort(whole);
    const std::uint64_t offset = random() % 5, limit = random() % 3 == 0 ? random() % 30 : UINT64_MAX;
    MergeRows merge(shards, by_number(offset, limit));
    std::string out;
    for (std::size_t open = shards; open > 0;) {
      const std::size_t shard = random() % shards;
      if (sent[shard] == SIZE_MAX) continue;
      const std::string_view rest = std::string_view(bytes[shard]).substr(sent[shard]);
      const std::size_t piece = std::min<std::size_t>(rest.size(), random() % 40);
      ASSERT_TRUE(merge.take(shard, rest.substr(0, piece)));
      sent[shard] += piece;
      if (piece == rest.size()) {
        ASSERT_TRUE(merge.end(shard));
        sent[shard] = SIZE_MAX;
        --open;
      }
      out += all(merge);
    }
    std::string expected;
    for (std::size_t i = offset; i < whole.size() && i - offset < limit; ++i)
      expected += visible(std::get<2>(whole[i]));
    ASSERT_EQ(out, expected) << round;
    ASSERT_TRUE(merge.done());
  }
}

TEST(MergeRows, AShardIsWantedUntilItHasEnough) {
  MergeRows merge(2, by_number());
  const std::string large(MergeRows::enough, 'x');
  ASSERT_TRUE(merge.take(0, row(large, 1).substr(0, MergeRows::enough)));
  EXPECT_TRUE(merge.wants(0)) << "not a whole row yet";
  ASSERT_TRUE(merge.take(0, row(large, 1).substr(MergeRows::enough)));
  EXPECT_FALSE(merge.wants(0));
  EXPECT_TRUE(merge.wants(1));
  ASSERT_TRUE(merge.end(1));
  EXPECT_EQ(all(merge), visible(large));
  EXPECT_TRUE(merge.wants(0));
}

TEST(MergeRows, AShardWithoutOrderIsFoundOut) {
  MergeRows merge(1, by_number());
  ASSERT_TRUE(merge.take(0, row("2", 2) + row("1", 1)));
  std::string out;
  const auto given = merge.give(out, 1000);
  ASSERT_FALSE(given);
  EXPECT_EQ(given.error().code, sqlstate::internal_error);
}

TEST(MergeRows, WhatIsNoSuchRowIsRefused) {
  const std::string good = row("x", 1);
  std::string type = good, columns = good, key = good;
  type[0] = 'C';
  columns[6] = 3;
  key[key.size() - 5] = 3;  // the key's length
  for (const std::string& bad : {type, columns, key, visible("x"), std::string("D\0\0\0\3", 5)}) {
    MergeRows merge(1, by_number());
    EXPECT_FALSE(merge.take(0, bad));
  }
  MergeRows cut(1, by_number());
  ASSERT_TRUE(cut.take(0, good.substr(0, 9)));
  EXPECT_FALSE(cut.end(0));
}

}  // namespace
}  // namespace tessera::executor
