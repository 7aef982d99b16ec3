// Random rows under every kind of rule: the parts of a split are, together, each row once, on the shard that the row
// alone is routed to.
#include "router/split.hpp"

#include <algorithm>
#include <fmt/core.h>
#include <gtest/gtest.h>
#include <random>

#include "parser/postgres/parse.hpp"
#include "router/golden.hpp"
#include "router/rewrite.hpp"
#include "router/text.hpp"

namespace tessera::router {
namespace {

constexpr const char* yaml = R"(
shop:
  shards:
    s0: {primary: 127.0.0.1:5000}
    s1: {primary: 127.0.0.1:5001}
    s2: {primary: 127.0.0.1:5002}
  backend: {dbname: shop}
  rules:
    hashed: {type: hash, buckets: 16, shards: [s0, s1, s2]}
    ranged: {type: range, ranges: [{below: "20", shard: s0}, {below: "70", shard: s1}, {shard: s2}]}
    listed: {type: directory, entries: {"1": s1, "2": s2, "3": s0}, otherwise: hashed}
    ring: {type: consistent_hash, virtual_nodes: 20, shards: [s0, s1, s2]}
  tables:
    hashed_rows: {rule: hashed, key: id, key_type: bigint, columns: [id, note]}
    ranged_rows: {rule: ranged, key: id, key_type: bigint, columns: [note, id]}
    listed_rows: {rule: listed, key: id, key_type: bigint, columns: [id, note]}
    ring_rows: {rule: ring, key: [id], key_type: bigint, columns: [id, note]}
)";

class Splits : public testing::TestWithParam<const char*> {
protected:
  Splits() : database_(golden::database_from(yaml)), catalog_(Catalog::from_config(database_)) {
    topology_ = *Topology::build(database_, catalog_, 1);
  }

  std::size_t below(std::size_t bound) { return random_() % bound; }
  std::string one_of(std::initializer_list<const char*> texts) { return *(texts.begin() + below(texts.size())); }

  struct Row {
    std::string text;
  };
  Row row() {
    const std::string key = std::to_string(below(100));
    std::string id = one_of({"{}", "'{}'", "${}", "{}::bigint"});
    if (id.starts_with('$')) {
      parameters_.push_back(key);
      id = fmt::format("${}", parameters_.size());
    } else {
      id.replace(id.find("{}"), 2, key);
    }
    std::string note = one_of({"'a'", "'), ('", "NULL", "$$(,$$", "/* ) */ 'b'", "lower('(')", "E'\\')'", "'''' -- (\n",
                               "(SELECT ')')", "random()::text", "$"});
    if (note == "$") {
      parameters_.push_back("now and then");
      note = fmt::format("${}", parameters_.size());
    }
    const bool note_first = GetParam() == std::string_view("ranged_rows");
    return {fmt::format("({}, {})", note_first ? note : id, note_first ? id : note)};
  }

  // A part's text as it stands in the whole statement.
  static std::string with_numbers_of_whole(const SplitPart& part, std::string_view text) {
    std::string whole;
    for (std::size_t i = 0; i < text.size(); ++i) {
      whole += text[i];
      if (text[i] != '$' || i + 1 == text.size() || !is_digit(text[i + 1])) continue;
      std::size_t number = 0;
      for (; i + 1 < text.size() && is_digit(text[i + 1]); ++i)
        number = 10 * number + static_cast<std::size_t>(text[i + 1] - '0');
      whole += std::to_string(part.parameters.at(number - 1));
    }
    return whole;
  }

  Plan bound(const std::string& sql, const parser::Statement& statement) {
    parser::fingerprint(sql, {}, fingerprint_);
    const auto made = plan(statement, sql, fingerprint_.slots, {}, *topology_, catalog_, {});
    Plan out;
    const auto done = bind(made, *topology_, values(sql), scratch_, out);
    EXPECT_TRUE(done) << sql << '\n' << done.error().message;
    return out;
  }
  Plan bound(const std::string& sql) { return bound(sql, parser::postgres::parse(sql)->front()); }

  Values values(const std::string& sql) {
    given_.clear();
    for (const std::string& parameter : parameters_) given_.push_back({parameter, false, false, 0});
    return {sql, fingerprint_.slots, given_};
  }

  std::mt19937 random_{20};
  config::Database database_;
  Catalog catalog_;
  std::shared_ptr<const Topology> topology_;
  BindScratch scratch_;
  parser::Fingerprint fingerprint_;
  std::vector<std::string> parameters_;
  std::vector<Values::Parameter> given_;
};

TEST_P(Splits, EachRowIsOnItsShardOnce) {
  int splits = 0;
  for (int round = 0; round < 1000; ++round) {
    parameters_.clear();
    const std::string head = fmt::format("/* ( */ INSERT INTO {} VALUES ", GetParam());
    const std::string tail = one_of({"", " RETURNING id", " ON CONFLICT (id) DO NOTHING", " /* ) */ "});
    std::vector<Row> rows(1 + below(8));
    std::string list;
    for (Row& one : rows) {
      one = row();
      list += (list.empty() ? "" : one_of({",", " , ", "\n,", ", /* ( */ ", ", -- )\n"})) + one.text;
    }
    const std::string sql = head + list + tail;
    const auto statements = parser::postgres::parse(sql);
    ASSERT_TRUE(statements) << sql;
    const Plan whole = bound(sql, statements->front());
    if (whole.op == Operator::route) continue;
    ASSERT_EQ(whole.op, Operator::split) << sql;
    ++splits;
    const auto parts = split(statements->front(), values(sql), *topology_, catalog_, {});
    ASSERT_TRUE(parts) << sql << '\n' << parts.error().message;
    EXPECT_EQ(parts->rows, rows.size());
    std::vector<ShardId> shards;
    std::vector<int> seen(rows.size());
    for (const SplitPart& part : parts->parts) {
      shards.push_back(part.shard);
      const auto parsed = parser::postgres::parse(part.sql);
      ASSERT_TRUE(parsed) << part.sql;
      const parser::Statement& alone = parsed->front();
      ASSERT_EQ(alone.insert->row_spans.size(), part.rows.size()) << part.sql;
      EXPECT_TRUE(std::ranges::is_sorted(part.rows));
      for (std::size_t i = 0; i < part.rows.size(); ++i) {
        const Row& one = rows[part.rows[i]];
        ++seen[part.rows[i]];
        EXPECT_EQ(with_numbers_of_whole(part, text_of(part.sql, alone.insert->row_spans[i])), one.text);
        const Plan single = bound(head + one.text + tail);
        EXPECT_EQ(single.op, Operator::route);
        EXPECT_EQ(single.shard, part.shard) << one.text;
      }
      ASSERT_EQ(alone.parameter_uses.size(), part.parameters.size()) << part.sql;
      for (std::size_t i = 0; i < part.parameters.size(); ++i)
        EXPECT_EQ(alone.parameter_uses[i].parameter, static_cast<int>(i + 1)) << part.sql;
      const std::vector<std::string> all = parameters_;
      parameters_.clear();
      for (const int number : part.parameters) parameters_.push_back(all[static_cast<std::size_t>(number - 1)]);
      const Plan routed = bound(part.sql);
      parameters_ = all;
      EXPECT_EQ(routed.op, Operator::route) << part.sql;
      EXPECT_EQ(routed.shard, part.shard) << part.sql;
    }
    EXPECT_EQ(shards, whole.shards) << sql;
    EXPECT_TRUE(std::ranges::all_of(seen, [](int times) { return times == 1; })) << sql;
  }
  EXPECT_GT(splits, 500);
}

INSTANTIATE_TEST_SUITE_P(Rules, Splits, testing::Values("hashed_rows", "ranged_rows", "listed_rows", "ring_rows"));

}  // namespace
}  // namespace tessera::router
