#include "router/topology.hpp"

#include <gtest/gtest.h>
#include <map>

#include "router/golden.hpp"
#include "router/hash.hpp"
#include "router/quote.hpp"

namespace tessera::router {
namespace {

std::string yaml(std::string_view rules, std::string_view tables) {
  std::string text = "shop:\n  shards:\n";
  for (int i = 0; i < 4; ++i) {
    text += "    s" + std::to_string(i) + ": {primary: 127.0.0.1:" + std::to_string(5000 + i) + "}\n";
  }
  text += "  backend: {dbname: shop}\n  rules:\n";
  return text + std::string(rules) + "  tables:\n" + std::string(tables);
}

struct Made {
  std::shared_ptr<const Topology> topology;
  Error error;
};

Made make(std::string_view rules, std::string_view tables, const Catalog* catalog = nullptr) {
  const auto database = golden::database_from(yaml(rules, tables));
  auto built = Topology::build(database, catalog != nullptr ? *catalog : Catalog::from_config(database), 7);
  if (!built) return {nullptr, built.error()};
  return {*built, {}};
}

const Rule& rule_of(const Made& made, std::string_view table) {
  return made.topology->rule(made.topology->find_table("public", table)->rule);
}

std::string place(const Rule& rule, std::vector<std::pair<KeyType, std::string_view>> parts) {
  std::vector<std::string> scratch(parts.size());
  std::vector<KeyValue> key;
  for (std::size_t i = 0; i < parts.size(); ++i) key.push_back(*from_text(parts[i].second, parts[i].first, scratch[i]));
  const auto found = rule.locate(key);
  if (!found) return std::string(found.error().code.view()) + " " + found.error().message;
  return "s" + std::to_string(found->shard.value()) + " at " + std::to_string(found->position);
}

TEST(Topology, ListsWhatIsConfigured) {
  const Made made = make("    r: {type: hash, buckets: 8, shards: [s0, s1]}\n",
                         "    a: {rule: r, key: id, key_type: bigint}\n    b: {rule: r, key: id, key_type: integer}\n"
                         "    c: {rule: r, key: id, key_type: text}\n    d: {reference: true}\n    e: {shard: s3}\n");
  ASSERT_TRUE(made.topology) << made.error.message;
  EXPECT_EQ(made.topology->version(), 7u);
  EXPECT_EQ(made.topology->shard_count(), 4u);
  EXPECT_EQ(made.topology->shard_name(ShardId(2)), "s2");
  EXPECT_EQ(made.topology->find_shard("s3"), ShardId(3));
  EXPECT_FALSE(made.topology->find_shard("s4"));
  EXPECT_FALSE(made.topology->default_shard());
  EXPECT_EQ(made.topology->find_table("public", "nothing"), nullptr);
  EXPECT_EQ(made.topology->find_table("app", "a"), nullptr);
  EXPECT_EQ(made.topology->find_table("public", "d")->kind, TableRouting::Kind::reference);
  EXPECT_EQ(made.topology->find_table("public", "e")->shard, ShardId(3));
  // Integers of all widths are co-located; a text key under the same rule is another rule.
  const RuleId a = made.topology->find_table("public", "a")->rule;
  EXPECT_EQ(made.topology->find_table("public", "b")->rule, a);
  EXPECT_NE(made.topology->find_table("public", "c")->rule, a);
}

TEST(Rules, HashDealsBucketsInRunsAndMovesSome) {
  const Made made = make("    r: {type: hash, buckets: 8, shards: [s0, s1], moved: {3: s2}}\n",
                         "    a: {rule: r, key: id, key_type: bigint}\n");
  ASSERT_TRUE(made.topology) << made.error.message;
  const Rule& rule = rule_of(made, "a");
  const std::vector<std::uint32_t> owners = {0, 0, 0, 2, 1, 1, 1, 1};
  for (std::int64_t id = -500; id < 500; ++id) {
    const KeyValue key{KeyType::int8, id, {}};
    const auto found = rule.locate({&key, 1});
    ASSERT_EQ(found->position, postgres_hash(key, 0) % 8);
    ASSERT_EQ(found->shard.value(), owners[found->position]);
  }
  EXPECT_EQ(rule.shards(), (std::vector{ShardId(0), ShardId(1), ShardId(2)}));
  EXPECT_EQ(rule.describe(), "hash(postgres), 8 buckets over s0, s1, s2");
  const KeyColumn column{"\"id\"", KeyType::int8};
  EXPECT_EQ(rule.predicate(ShardId(2), {&column, 1}), "((hashint8extended(\"id\", 0) & 7) = ANY ('{3}'::bigint[]))");
  EXPECT_EQ(rule.predicate(ShardId(3), {&column, 1}), "false");
}

TEST(Rules, RingMovesOnlyWhatTheNewShardTakes) {
  const auto ring = [](std::string_view shards) {
    return make("    r: {type: consistent_hash, virtual_nodes: 150, shards: [" + std::string(shards) + "]}\n",
                "    a: {rule: r, key: id, key_type: bigint}\n");
  };
  const Made three = ring("s0, s1, s2");
  const Made four = ring("s0, s1, s2, s3");
  ASSERT_TRUE(three.topology && four.topology);
  std::map<std::uint32_t, int> count;
  for (std::int64_t id = 0; id < 20000; ++id) {
    const KeyValue key{KeyType::int8, id, {}};
    const ShardId before = rule_of(three, "a").locate({&key, 1})->shard;
    const ShardId after = rule_of(four, "a").locate({&key, 1})->shard;
    if (after != ShardId(3)) {
      ASSERT_EQ(before, after) << id;
    }
    ++count[after.value()];
  }
  for (const auto& [shard, keys] : count) EXPECT_NEAR(keys, 5000, 1500) << shard;
}

TEST(Rules, RingWeighsShards) {
  const Made made = make("    r: {type: consistent_hash, virtual_nodes: 100, shards: [s0, s1], weights: {s1: 3}}\n",
                         "    a: {rule: r, key: id, key_type: bigint}\n");
  ASSERT_TRUE(made.topology) << made.error.message;
  int second = 0;
  for (std::int64_t id = 0; id < 20000; ++id) {
    const KeyValue key{KeyType::int8, id, {}};
    second += rule_of(made, "a").locate({&key, 1})->shard == ShardId(1) ? 1 : 0;
  }
  EXPECT_NEAR(second, 15000, 1500);
}

TEST(Rules, RangeBoundsAreExclusive) {
  const Made made =
      make("    r: {type: range, ranges: [{below: \"2024-01-01\", shard: s0}, {below: \"2025-01-01\", shard: s1}]}\n",
           "    a: {rule: r, key: day, key_type: date}\n");
  ASSERT_TRUE(made.topology) << made.error.message;
  const Rule& rule = rule_of(made, "a");
  EXPECT_EQ(place(rule, {{KeyType::date, "2023-12-31"}}), "s0 at 0");
  EXPECT_EQ(place(rule, {{KeyType::date, "2024-01-01"}}), "s1 at 1");
  EXPECT_EQ(place(rule, {{KeyType::date, "-infinity"}}), "s0 at 0");
  EXPECT_EQ(place(rule, {{KeyType::date, "2025-01-01"}}), "22023 rule \"r\" has no place for the key \"2025-01-01\"");
  EXPECT_TRUE(rule.ordered());
  const KeyValue late{KeyType::date, 20000, {}};
  EXPECT_TRUE(rule.locate_range(&late, nullptr).empty());
  EXPECT_EQ(rule.locate_range(nullptr, nullptr), rule.shards());
  const KeyColumn column{"\"day\"", KeyType::date};
  EXPECT_EQ(rule.predicate(ShardId(1), {&column, 1}),
            "(\"day\" >= '2024-01-01'::date AND \"day\" < '2025-01-01'::date)");
}

TEST(Rules, DirectoryWithAndWithoutOthers) {
  const Made made = make(
      "    by: {type: hash, buckets: 4, shards: [s3]}\n"
      "    open: {type: directory, entries: {acme: s1}, otherwise: by}\n"
      "    shut: {type: directory, entries: {\"7\": s2}}\n",
      "    a: {rule: open, key: t, key_type: text}\n    b: {rule: shut, key: id, key_type: bigint}\n");
  ASSERT_TRUE(made.topology) << made.error.message;
  EXPECT_EQ(place(rule_of(made, "a"), {{KeyType::text, "acme"}}), "s1 at 0");
  EXPECT_EQ(place(rule_of(made, "a"), {{KeyType::text, "Acme"}}), "s3 at 1");
  EXPECT_EQ(place(rule_of(made, "b"), {{KeyType::int8, "7"}}), "s2 at 0");
  EXPECT_EQ(place(rule_of(made, "b"), {{KeyType::int8, "8"}}), "22023 rule \"shut\" has no place for the key \"8\"");
}

TEST(Rules, GeographyIgnoresCase) {
  const Made made = make(
      "    r: {type: geography, regions: {am: {countries: [US, CA], shard: s0}, eu: {countries: [gb], shard: s1}}, "
      "otherwise: s2}\n",
      "    a: {rule: r, key: c, key_type: text}\n");
  ASSERT_TRUE(made.topology) << made.error.message;
  EXPECT_EQ(place(rule_of(made, "a"), {{KeyType::text, "us"}}), "s0 at 0");
  EXPECT_EQ(place(rule_of(made, "a"), {{KeyType::text, "GB"}}), "s1 at 1");
  EXPECT_EQ(place(rule_of(made, "a"), {{KeyType::text, "DE"}}), "s2 at 2");
}

TEST(Rules, EmbeddedReadsTheBits) {
  const Made made = make("    r: {type: embedded}\n", "    a: {rule: r, key: id, key_type: bigint}\n");
  ASSERT_TRUE(made.topology) << made.error.message;
  EXPECT_EQ(place(rule_of(made, "a"), {{KeyType::int8, std::to_string((99LL << 23) + (2 << 10) + 5)}}), "s2 at 2");
  EXPECT_EQ(place(rule_of(made, "a"), {{KeyType::int8, std::to_string(4 << 10)}}),
            "22023 rule \"r\" has no place for the key \"4096\"");
  EXPECT_EQ(place(rule_of(made, "a"), {{KeyType::int8, "-1"}}), "22023 rule \"r\" has no place for the key \"-1\"");
}

TEST(Rules, CompositeGoesToTheNextColumn) {
  const Made made = make(
      "    users: {type: range, ranges: [{below: \"10\", shard: s1}, {shard: s2}]}\n"
      "    geo: {type: geography, regions: {am: {countries: [US], shard: s0}, eu: {countries: [FR], rule: users}}, "
      "otherwise: s3}\n"
      "    both: {type: composite, of: [geo, users]}\n",
      "    a: {rule: both, key: [country, id], key_type: \"text, bigint\"}\n");
  ASSERT_TRUE(made.topology) << made.error.message;
  const Rule& rule = rule_of(made, "a");
  EXPECT_EQ(place(rule, {{KeyType::text, "US"}, {KeyType::int8, "99"}}), "s0 at 0");
  EXPECT_EQ(place(rule, {{KeyType::text, "fr"}, {KeyType::int8, "9"}}), "s1 at 1");
  EXPECT_EQ(place(rule, {{KeyType::text, "fr"}, {KeyType::int8, "10"}}), "s2 at 1");
  EXPECT_EQ(place(rule, {{KeyType::text, "DE"}, {KeyType::int8, "10"}}), "s3 at 2");
}

struct BadCase {
  const char* rule;
  const char* table;
  const char* message;
};

TEST(Topology, WhatCannotBeBuiltIsNamed) {
  const std::vector<BadCase> cases = {
      {"{type: range, ranges: [{below: \"soon\", shard: s0}, {shard: s1}]}", "{rule: r, key: d, key_type: date}",
       "\"soon\" is no date"},
      {"{type: range, ranges: [{below: \"9\", shard: s0}, {below: \"10\", shard: s1}, {shard: s2}]}",
       "{rule: r, key: d, key_type: text}", "not in ascending order"},
      {"{type: directory, entries: {acme: s0}}", "{rule: r, key: d, key_type: bigint}", "the entry \"acme\""},
      {"{type: directory, entries: {\"1.0\": s0, \"1.00\": s1}}", "{rule: r, key: d, key_type: numeric}",
       "is there twice"},
      {"{type: geography, regions: {a: {countries: [US], shard: s0}}}", "{rule: r, key: d, key_type: bigint}",
       "needs a text key"},
      {"{type: embedded}", "{rule: r, key: d, key_type: text}", "out of an integer's bits"},
      {"{type: hash, function: md5, buckets: 8, shards: [s0]}", "{rule: r, key: d, key_type: date}", "hashes by md5"},
      {"{type: hash, buckets: 8, shards: [s0]}", "{rule: r, key: d, key_type: point}", "cannot be a sharding key"},
  };
  for (const BadCase& one : cases) {
    const Made made = make(std::string("    r: ") + one.rule + "\n", std::string("    a: ") + one.table + "\n");
    ASSERT_FALSE(made.topology) << one.rule;
    EXPECT_NE(made.error.message.find(one.message), std::string::npos) << made.error.message;
    EXPECT_TRUE(made.error.detail.starts_with("test.yaml:")) << made.error.detail;
    EXPECT_EQ(made.error.code, sqlstate::config_file_error);
  }
}

TEST(Topology, TheCatalogIsChecked) {
  const auto built = [](Column column, std::string_view rule, std::string_view table) {
    Catalog catalog;
    catalog.loaded = true;
    Relation relation;
    relation.schema = "public";
    relation.name = "a";
    column.name = column.name.empty() ? "k" : column.name;
    relation.columns.push_back(column);
    catalog.relations.push_back(relation);
    catalog.index();
    return make(rule, table, &catalog).error.message;
  };
  constexpr std::string_view hash = "    r: {type: hash, buckets: 8, shards: [s0]}\n";
  constexpr std::string_view range = "    r: {type: range, ranges: [{below: m, shard: s0}, {shard: s1}]}\n";
  constexpr std::string_view table = "    a: {rule: r, key: k}\n";
  const Column text{.type_name = "text", .key_type = KeyType::text};
  Column other = text;
  EXPECT_EQ(built(text, hash, table), "");
  EXPECT_EQ(built(text, range, table), "");
  other.deterministic_c_order = false;
  EXPECT_EQ(built(other, hash, table), "");
  EXPECT_NE(built(other, range, table).find("not ordered bytewise"), std::string::npos);
  other.deterministic = false;
  EXPECT_NE(built(other, hash, table).find("collation"), std::string::npos);
  other = text;
  other.name = "q";
  EXPECT_NE(built(other, hash, table).find("has no column \"k\""), std::string::npos);
  EXPECT_NE(built(text, hash, "    a: {rule: r, key: k, key_type: bigint}\n").find("not bigint as configured"),
            std::string::npos);
}

TEST(RangeRule, BoundsAreInTheOrderOfTheKeysType) {
  const auto ranges = [](std::string_view low, std::string_view high, std::string_view type) {
    const std::string rule = "    r: {type: range, ranges: [{below: \"" + std::string(low) +
                             "\", shard: s0}, {below: \"" + std::string(high) + "\", shard: s1}, {shard: s2}]}\n";
    return make(rule, "    a: {rule: r, key: k, key_type: " + std::string(type) + "}\n");
  };
  const auto refused = [](const Made& made) { return made.error.message.contains("not in ascending order"); };
  const Made addresses = ranges("2.0.0.0", "10.0.0.0", "inet");
  ASSERT_TRUE(addresses.topology) << addresses.error.message;
  EXPECT_EQ(place(rule_of(addresses, "a"), {{KeyType::inet, "9.255.255.255"}}), "s1 at 1");
  EXPECT_TRUE(refused(ranges("10.0.0.0", "2.0.0.0", "inet")));
  const Made floats = ranges("-1e5", "1.5e-3", "double precision");
  ASSERT_TRUE(floats.topology) << floats.error.message;
  EXPECT_EQ(place(rule_of(floats, "a"), {{KeyType::float8, "0.0015"}}), "s2 at 2");
  EXPECT_TRUE(ranges("10", "9", "text").topology);
  EXPECT_TRUE(refused(ranges("10", "9", "bigint")));
  EXPECT_TRUE(ranges("9", "10", "bigint").topology);
  EXPECT_TRUE(refused(ranges("9", "10", "text")));
}

TEST(Messages, ShowAnyKeyAsValidUtf8) {
  EXPECT_EQ(for_message("acme, Größe \\", 100), "acme, Größe \\");
  EXPECT_EQ(for_message(std::string_view("a\0b\n\x7f", 5), 100), "a\\x00b\\x0a\\x7f");
  EXPECT_EQ(for_message("\xf1", 100), "\\xf1");                          // a "char"
  EXPECT_EQ(for_message("\xe4pfel\xc3", 100), "\\xe4pfel\\xc3");         // LATIN1; a character that is cut
  EXPECT_EQ(for_message("\xc0\xaf", 100), "\\xc0\\xaf");                 // longer than needed
  EXPECT_EQ(for_message("\xed\xa0\x80", 100), "\\xed\\xa0\\x80");        // a surrogate
  EXPECT_EQ(for_message("\xf4\x90\x80\x80", 12), "\\xf4\\x90\\x80...");  // above U+10FFFF
  EXPECT_EQ(for_message("日本語", 6), "日本...");
  EXPECT_EQ(for_message("日本語", 8), "日本...");
  EXPECT_EQ(for_message("日本語😀", 13), "日本語😀");
}

}  // namespace
}  // namespace tessera::router
