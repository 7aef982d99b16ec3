#include "proxy/explain_output.hpp"

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

namespace tessera::proxy {
namespace {

using namespace std::chrono_literals;
using Lines = std::vector<std::string>;
using Json = nlohmann::json;

parser::Explain analyze(std::string format = "text") {
  parser::Explain options;
  options.analyze = true;
  options.timing = options.summary = false;
  options.format = std::move(format);
  return options;
}

Measured measured(const Lines& lines) {
  return measure(lines, false);
}

Lines told(const ExplainedPlan& plan, const parser::Explain& options) {
  const auto rows = explain_rows(plan, options);
  return rows ? *rows : Lines{rows.error().message};
}

TEST(ExplainOutput, TheRootSaysHowManyRowsThereAre) {
  const Lines scan{"Seq Scan on t  (cost=0.00..1.10 rows=9 width=36) (actual time=0.01..0.02 rows=10 loops=1)"};
  EXPECT_EQ(measured(scan).rows, 10u);
  EXPECT_EQ(measured(scan).width, 36u);
  EXPECT_EQ(measured({"Seq Scan on t (actual rows=7 loops=1)"}).rows, 7u);
  EXPECT_EQ(measured({"Seq Scan on t (actual rows=7 loops=1)"}).width, std::nullopt);
  EXPECT_EQ(measured({"Seq Scan on t  (cost=0.00..1.10 rows=9 width=36)"}).rows, std::nullopt);
  EXPECT_EQ(measured({"Result (actual rows=2.00 loops=1)"}).rows, 2u) << "as PostgreSQL 18 writes it";
  EXPECT_EQ(measured({"Result  (cost=0.00..0.01 rows=1 width=4) (never executed)"}).rows, 0u);
  EXPECT_EQ(measured({}).rows, std::nullopt);
}

TEST(ExplainOutput, ANameMayLookLikeANumberOfRows) {
  const Lines scan{
      R"(Seq Scan on "x  (cost=1 width=5) (actual rows=9 "  (cost=0.00..1.10 rows=9 width=36) (actual rows=3 loops=1))"};
  EXPECT_EQ(measured(scan).rows, 3u);
  EXPECT_EQ(measured(scan).width, 36u);
}

TEST(ExplainOutput, AWriteHasAsManyRowsAsItIsGiven) {
  const Lines update{"Update on t (actual rows=0 loops=1)", "  InitPlan 1 (returns $0)",
                     "    ->  Result (actual rows=1 loops=1)", "  ->  Seq Scan on t (actual rows=5 loops=1)",
                     "        Filter: (id < 9)"};
  EXPECT_EQ(measured(update).changed, 5u);
  const Lines conflicts{"Insert on t (actual rows=0 loops=1)", "  Conflict Resolution: NOTHING", "  Tuples Inserted: 1",
                        "  Conflicting Tuples: 2", "  ->  Values Scan on \"*VALUES*\" (actual rows=3 loops=1)"};
  EXPECT_EQ(measured(conflicts).changed, 1u);
  Lines updated = conflicts;
  updated[1] = "  Conflict Resolution: UPDATE";
  EXPECT_EQ(measured(updated).changed, 3u);
  updated.insert(updated.begin() + 2, "  Rows Removed by Conflict Filter: 1");
  EXPECT_EQ(measured(updated).changed, 2u);
}

TEST(ExplainOutput, TheSameOfJson) {
  const Lines update{R"([{"Plan": {"Node Type": "ModifyTable", "Actual Rows": 0, "Plan Width": 0, "Plans": [
    {"Parent Relationship": "InitPlan", "Actual Rows": 1}, {"Parent Relationship": "Outer", "Actual Rows": 5}]}}])"};
  EXPECT_EQ(measure(update, true).rows, 0u);
  EXPECT_EQ(measure(update, true).changed, 5u);
  const Lines insert{R"([{"Plan": {"Conflict Resolution": "UPDATE", "Tuples Inserted": 1, "Conflicting Tuples": 2}}])"};
  EXPECT_EQ(measure(insert, true).changed, 3u);
  for (const char* odd : {"", "[", "[]", "{}", "[1]", R"([{"Plan": 1}])", R"([{"Plan": {"Plans": [1]}}])"})
    EXPECT_EQ(measure({odd}, true).rows, std::nullopt) << odd;
}

TEST(ExplainOutput, OfAScatterEachShardIsANode) {
  const ExplainedPlan plan{.node = "Scatter",
                           .shards = {{.shard = "s0", .lines = {"Seq Scan on t", "  Filter: (id > 1)"}},
                                      {.shard = "s1", .lines = {"Result", "  One-Time Filter: false"}}}};
  EXPECT_EQ(told(plan, {}),
            (Lines{"Tessera Scatter", "  ->  Shard s0", "        ->  Seq Scan on t", "              Filter: (id > 1)",
                   "  ->  Shard s1", "        ->  Result", "              One-Time Filter: false"}));
}

TEST(ExplainOutput, RowsAreAddedUpAndBytesGuessed) {
  const ExplainedPlan plan{
      .node = "Scatter",
      .shards = {{.shard = "s0",
                  .lines = {"Seq Scan on t  (cost=0.00..1 rows=1 width=10) (actual rows=3 loops=1)"},
                  .took = 1500us},
                 {.shard = "s1",
                  .lines = {"Seq Scan on t  (cost=0.00..1 rows=1 width=20) (actual rows=4 loops=1)"},
                  .took = 2ms}},
      .took = 3ms};
  Lines lines = told(plan, analyze());
  EXPECT_EQ(lines[0], "Tessera Scatter  (actual rows=7 loops=1)");
  EXPECT_EQ(lines[1], "  Data Moved: 7 rows, about 110 bytes");
  EXPECT_EQ(lines[2], "  ->  Shard s0  (actual rows=3 loops=1)");
  EXPECT_EQ(lines[3], "        Data: 3 rows, about 30 bytes");
  parser::Explain options = analyze();
  options.timing = options.summary = true;
  lines = told(plan, options);
  EXPECT_EQ(lines[4], "        Time: 1.500 ms");
  EXPECT_EQ(lines.back(), "Execution Time: 3.000 ms");
}

TEST(ExplainOutput, OfCopiesOneCounts) {
  const Lines lines{"Delete on c (actual rows=0 loops=1)", "  ->  Seq Scan on c (actual rows=2 loops=1)"};
  ExplainedPlan plan{.node = "Replicate",
                     .shards = {{.shard = "s0", .lines = lines}, {.shard = "s1", .lines = lines}},
                     .changes_rows = true,
                     .copies = true};
  EXPECT_EQ(told(plan, analyze())[0], "Tessera Replicate  (actual rows=2 loops=1)");
  plan.copies = false;
  EXPECT_EQ(told(plan, analyze())[0], "Tessera Replicate  (actual rows=4 loops=1)");
}

ExplainedPlan gathered(Lines plan) {
  return {
      .node = "Gather",
      .fragments = {{"pg_temp.tessera_gather_1",
                     "SELECT id\nFROM t",
                     {{.shard = "s0", .lines = plan}, {.shard = "s1", .lines = plan, .sent = MovedData{2, 50}}}}},
      .merge = ShardPlan{.shard = "s0", .statement = "SELECT count(*)\nFROM pg_temp.tessera_gather_1", .lines = plan}};
}

TEST(ExplainOutput, OfAGatherFragmentsAndWhatIsLeft) {
  EXPECT_EQ(told(gathered({"Result (actual rows=2 loops=1)"}), analyze()),
            (Lines{"Tessera Gather  (actual rows=2 loops=1)", "  Data Moved: 2 rows, 50 bytes",
                   "  ->  Fragment pg_temp.tessera_gather_1", "        Query: SELECT id FROM t",
                   "        ->  Shard s0  (actual rows=2 loops=1)", "              ->  Result (actual rows=2 loops=1)",
                   "        ->  Shard s1  (actual rows=2 loops=1)", "              Data: 2 rows, 50 bytes",
                   "              ->  Result (actual rows=2 loops=1)", "  ->  Merge on s0  (actual rows=2 loops=1)",
                   "        Statement: SELECT count(*) FROM pg_temp.tessera_gather_1",
                   "        ->  Result (actual rows=2 loops=1)"}));
}

TEST(ExplainOutput, OfSortedRowsThoseThatTheClientGets) {
  const Lines ten{"Limit  (cost=0.00..1.10 rows=9 width=8) (actual rows=10 loops=1)"};
  ExplainedPlan plan{.node = "Merge Sort",
                     .shards = {{.shard = "s0", .lines = ten}, {.shard = "s1", .lines = ten}},
                     .sort_keys = {"a DESC", "b"},
                     .offset = 3};
  const auto head = [&] { return told(plan, analyze()); };
  EXPECT_EQ(head()[0], "Tessera Merge Sort  (actual rows=17 loops=1)");
  EXPECT_EQ(head()[1], "  Sort Key: a DESC, b");
  EXPECT_EQ(head()[2], "  Data Moved: 20 rows, about 160 bytes");
  plan.limit = 7;
  plan.certain = false;
  EXPECT_EQ(head()[0], "Tessera Merge Sort  (actual rows=7 loops=1)");
  EXPECT_EQ(head()[2], "  Order: known when the shards answer; otherwise a Gather");
  plan.offset = 30;
  EXPECT_EQ(head()[0], "Tessera Merge Sort  (actual rows=0 loops=1)");
}

TEST(ExplainOutput, JsonIsOneDocument) {
  const Lines lines =
      told(gathered({"[", R"({"Plan": {"Node Type": "Result", "Actual Rows": 2}})", "]"}), analyze("json"));
  ASSERT_EQ(lines.size(), 1u);
  const Json plan = Json::parse(lines[0])[0]["Plan"];
  EXPECT_EQ(plan["Custom Plan Provider"], "Tessera Gather");
  EXPECT_EQ(plan["Bytes Moved"], 50);
  EXPECT_EQ(plan["Fragments"][0]["Shards"][1]["Rows Moved"], 2);
  EXPECT_EQ(plan["Fragments"][0]["Shards"][0]["Explain"][0]["Plan"]["Node Type"], "Result");
  EXPECT_EQ(plan["Merge"]["Shard"], "s0");
  EXPECT_EQ(told(gathered({"Result"}), analyze("json")), Lines{"the plan of shard \"s0\" cannot be read"});
}

}  // namespace
}  // namespace tessera::proxy
