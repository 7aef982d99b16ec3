// Rows of the catalog queries become a catalog.
#include "proxy/catalog_query.hpp"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace tessera::proxy {
namespace {

using testing::ElementsAre;
using testing::UnorderedElementsAre;
using Row = pool::TextQuery::Row;
using Kind = router::Relation::Kind;

Row relation(std::string name, std::string kind, std::string column, std::string type = "23",
             std::string type_name = "integer") {
  return {"public",
          std::move(name),
          std::move(kind),
          std::move(column),
          std::move(type),
          std::move(type_name),
          "t",
          "t",
          "t",
          "f",
          "",
          "",
          "f",
          "",
          "",
          "f",
          "",
          "",
          "",
          "f",
          "",
          "f"};
}
Row view(std::string name, std::string depends_on) {
  Row row = relation(std::move(name), "v", "a");
  row[11] = std::move(depends_on);
  return row;
}
Row function(std::string name, std::string volatility, std::string builtin, std::string aggregate, std::string native,
             std::string source = "", std::string readable = "t") {
  return {std::move(name),   std::move(volatility), std::move(builtin), std::move(aggregate),
          std::move(native), std::move(readable),   std::move(source),  "f"};
}
std::shared_ptr<router::Catalog> read(std::vector<Row> relations, std::vector<Row> functions = {},
                                      std::vector<std::string> read_only = {}) {
  return read_catalog({{}, std::move(relations), std::move(functions)}, read_only).value();
}

TEST(CatalogQuery, ColumnsOfARelation) {
  Row other = relation("t", "r", "note", "25", "text");
  other[6] = "f";
  other[7] = "f";
  other[8] = "f";
  other[9] = "t";
  const auto catalog = read({relation("t", "r", "id"), other, relation("u", "p", "")});
  EXPECT_TRUE(catalog->loaded);
  ASSERT_EQ(catalog->relations.size(), 2u);
  const router::Relation* t = catalog->find("public", "t");
  ASSERT_NE(t, nullptr);
  EXPECT_EQ(t->kind, Kind::table);
  ASSERT_EQ(t->columns.size(), 2u);
  EXPECT_EQ(t->columns[0].name, "id");
  EXPECT_EQ(t->columns[0].type, 23u);
  EXPECT_EQ(t->columns[0].type_name, "integer");
  EXPECT_EQ(t->columns[0].key_type, router::key_type_of(23));
  EXPECT_TRUE(t->columns[0].not_null && t->columns[0].deterministic_c_order && t->columns[0].deterministic &&
              !t->columns[0].generated);
  EXPECT_FALSE(t->columns[1].not_null || t->columns[1].deterministic_c_order || t->columns[1].deterministic ||
               !t->columns[1].generated);
  const router::Relation* u = catalog->find("public", "u");
  ASSERT_NE(u, nullptr);
  EXPECT_EQ(u->kind, Kind::partitioned_table);
  EXPECT_TRUE(u->columns.empty()) << "a table without columns is one row with an empty name";
}

TEST(CatalogQuery, KindsAndParents) {
  std::vector<Row> rows;
  for (const char* kind : {"r", "p", "v", "m", "f", "S", "x", ""})
    rows.push_back(relation(std::string("k") + kind, kind, "a"));
  rows[0][10] = "public.kp\npublic.km";
  const auto catalog = read(rows);
  std::vector<Kind> kinds;
  for (const router::Relation& one : catalog->relations) kinds.push_back(one.kind);
  EXPECT_THAT(kinds, ElementsAre(Kind::table, Kind::partitioned_table, Kind::view, Kind::materialized_view,
                                 Kind::foreign_table, Kind::sequence, Kind::other, Kind::other));
  EXPECT_THAT(catalog->find("public", "kr")->parents, ElementsAre("public.kp", "public.km"));
}

TEST(CatalogQuery, RowsOfAnotherShapeAreNoCatalog) {
  Row narrow = relation("t", "r", "id");
  narrow.pop_back();
  EXPECT_FALSE(read_catalog({{}, {narrow}, {}}, {}));
  EXPECT_FALSE(read_catalog({{}, {}, {{"f", "3"}}}, {}));
  EXPECT_FALSE(read_catalog({{}, {}}, {}));
}

TEST(CatalogQuery, TheSameNameInTwoSchemas) {
  Row second = relation("t", "r", "b");
  second[0] = "other";
  const auto catalog = read({relation("t", "r", "a"), second});
  EXPECT_EQ(catalog->find("public", "t")->columns[0].name, "a");
  EXPECT_EQ(catalog->find("other", "t")->columns[0].name, "b");
}

TEST(CatalogQuery, ViewsStandOnTablesHoweverDeep) {
  const auto catalog =
      read({relation("t", "r", "a"), relation("u", "r", "a"), view("one", "public.t"),
            view("two", "public.one\npublic.u"), view("three", "public.two\npublic.one"), view("odd", "public.gone")});
  EXPECT_THAT(catalog->find("public", "one")->depends_on, ElementsAre("public.t"));
  EXPECT_THAT(catalog->find("public", "two")->depends_on, UnorderedElementsAre("public.t", "public.u"));
  EXPECT_THAT(catalog->find("public", "three")->depends_on, UnorderedElementsAre("public.t", "public.u"));
  EXPECT_THAT(catalog->find("public", "odd")->depends_on, ElementsAre("public.gone"));
}

TEST(CatalogQuery, ViewsThatStandOnEachOtherEnd) {
  const auto catalog = read({relation("t", "r", "a"), view("one", "public.two\npublic.t"), view("two", "public.one")});
  EXPECT_THAT(catalog->find("public", "one")->depends_on, ElementsAre("public.t"));
  EXPECT_THAT(catalog->find("public", "two")->depends_on, ElementsAre("public.t"));
}

TEST(CatalogQuery, Functions) {
  const auto catalog = read({}, {function("lower", "1", "t", "f", "t"), function("now", "2", "t", "f", "t"),
                                 function("my_sum", "3", "f", "t", "f")});
  EXPECT_EQ(catalog->functions.at("lower").volatility, 'i');
  EXPECT_TRUE(catalog->functions.at("lower").builtin);
  EXPECT_EQ(catalog->functions.at("now").volatility, 's');
  EXPECT_EQ(catalog->functions.at("my_sum").volatility, 'v');
  EXPECT_FALSE(catalog->functions.at("my_sum").builtin);
  EXPECT_TRUE(catalog->functions.at("my_sum").aggregate);
  EXPECT_TRUE(catalog->functions.at("lower").native);
  EXPECT_FALSE(catalog->functions.at("my_sum").native);
  Row rows = function("rows", "1", "f", "f", "f");
  rows[7] = "t";
  EXPECT_TRUE(read({}, {rows})->functions.at("rows").set);
  EXPECT_FALSE(catalog->functions.at("lower").set);
}

TEST(CatalogQuery, FunctionsThatTheConfigurationVouchesForReadOnly) {
  const auto catalog = read({},
                            {function("report", "3", "f", "f", "f"), function("pure", "1", "f", "f", "f"),
                             function("other", "3", "f", "f", "f")},
                            {"report", "pure", "unknown"});
  EXPECT_EQ(catalog->functions.at("report").volatility, 's');
  EXPECT_EQ(catalog->functions.at("pure").volatility, 'i');
  EXPECT_EQ(catalog->functions.at("other").volatility, 'v');
  EXPECT_EQ(catalog->functions.size(), 3u);
}

TEST(CatalogQuery, CodeThatChangesTheSession) {
  const std::vector<Row> functions = {
      function("locks", "3", "f", "f", "f", "begin perform pg_advisory_lock(1); end"),
      function("caller", "3", "f", "f", "f", "select 1\n;\nselect s.locks()"),
      function("other", "3", "f", "f", "f", "update t set a = 1"),
      function("native", "3", "f", "f", "t"),
      function("snake", "3", "f", "f", "f", "", "f"),
  };
  Row sets = view("sets", "public.t");
  sets[14] = "SELECT caller() AS caller;";
  Row held = sets;
  held[1] = "held";
  held[2] = "m";
  const auto catalog = read({sets, held}, functions);
  EXPECT_THAT(catalog->session_functions, UnorderedElementsAre("locks", "caller", "snake"));
  EXPECT_THAT(catalog->session_views, UnorderedElementsAre("sets"));
  const auto vouched = read({sets}, functions, {"locks", "snake"});
  EXPECT_THAT(vouched->session_functions, testing::IsEmpty());
  EXPECT_THAT(vouched->session_views, testing::IsEmpty());
}

TEST(CatalogQuery, SequencesAndUniqueIndexes) {
  Row id = relation("t", "r", "id");
  id[12] = "t";
  id[13] = "t_pkey\x1fid\x1fuser_id\nt_lower\x1f\nt_during";
  id[17] = "t_note\nt_pkey";
  id[18] = "t_pkey";
  const auto catalog = read({id, relation("t", "r", "user_id")});
  const router::Relation* t = catalog->find("public", "t");
  EXPECT_TRUE(t->columns[0].sequence);
  EXPECT_FALSE(t->columns[1].sequence);
  ASSERT_EQ(t->unique_indexes.size(), 3u);
  EXPECT_EQ(t->unique_indexes[0].name, "t_pkey");
  EXPECT_THAT(t->unique_indexes[0].columns, ElementsAre("id", "user_id"));
  EXPECT_EQ(t->unique_indexes[1].name, "t_lower") << "an expression";
  EXPECT_FALSE(testing::Value(t->unique_indexes[1].columns, testing::Contains("id")));
  EXPECT_TRUE(t->unique_indexes[2].columns.empty()) << "an exclusion constraint";
  EXPECT_TRUE(t->unique_indexes[0].primary);
  EXPECT_FALSE(t->unique_indexes[1].primary || t->unique_indexes[2].primary);
  EXPECT_THAT(t->indexes, ElementsAre("t_note", "t_pkey"));
}

TEST(CatalogQuery, DefaultsOfColumns) {
  std::vector<Row> rows;
  for (const char* expression :
       {"", "'x'::text", "gen_random_uuid()", "now()", "what is this", "upper('x'); SELECT 1"}) {
    rows.push_back(relation("t", "r", fmt::format("c{}", rows.size())));
    rows.back()[16] = expression;
  }
  rows.push_back(relation("t", "r", "identity"));
  rows.back()[12] = "t";
  const auto catalog = read(rows, {function("gen_random_uuid", "3", "t", "f", "t"), function("now", "2", "t", "f", "t"),
                                   function("upper", "1", "t", "f", "t")});
  using enum router::DefaultValue;
  std::vector<router::DefaultValue> found;
  for (const router::Column& column : catalog->find("public", "t")->columns) found.push_back(column.default_value);
  EXPECT_THAT(found, ElementsAre(steady, steady, per_row, unsteady, unsteady, unsteady, unsteady));
}

TEST(CatalogQuery, ARelationBehindOneOfTheSystem) {
  Row hidden = relation("pg_class", "r", "id");
  hidden[15] = "t";
  const auto catalog = read({hidden, relation("pg_cars", "r", "id")});
  EXPECT_TRUE(catalog->find("public", "pg_class")->hidden_by_system);
  EXPECT_FALSE(catalog->find("public", "pg_cars")->hidden_by_system);
}

// What a view's query says of it.
struct Judged {
  bool steady;
  bool runs_code;
  friend bool operator==(const Judged&, const Judged&) = default;
};
Judged judged(const std::string& query, const std::string& kind = "v") {
  Row row = view("one", "public.t");
  row[2] = kind;
  row[14] = query;
  const auto catalog = read({relation("t", "r", "a"), row, view("two", "public.one")},
                            {function("now", "2", "t", "f", "t"), function("random", "3", "t", "f", "t"),
                             function("lower", "1", "t", "f", "t"), function("count", "1", "t", "t", "t"),
                             function("string_agg", "1", "t", "t", "t"), function("plain_code", "3", "f", "f", "f"),
                             function("native_code", "2", "f", "f", "t")});
  const router::Relation* found = catalog->find("public", "one");
  return {found->steady, found->runs_code};
}

TEST(CatalogQuery, WhatAViewsQuerySaysOfIt) {
  constexpr Judged good{true, false}, moody{false, false}, code{false, true};
  EXPECT_EQ(judged(" SELECT lower(t.a) AS a FROM t WHERE t.a > 5;"), good);
  EXPECT_EQ(judged("SELECT t.a, count(*) AS count FROM t GROUP BY t.a;"), good);
  EXPECT_EQ(judged("SELECT t.a FROM t LIMIT 5;"), moody);
  EXPECT_EQ(judged("SELECT x.a FROM (SELECT DISTINCT ON (t.a) t.a FROM t) x;"), moody);
  EXPECT_EQ(judged("SELECT t.a FROM t WHERE t.a > now();"), moody);
  EXPECT_EQ(judged("SELECT t.a FROM t WHERE random() > 0.5;"), moody);
  EXPECT_EQ(judged("SELECT string_agg(t.a, ','::text) FROM t;"), moody);
  EXPECT_EQ(judged("SELECT row_number() OVER () AS n FROM t;"), code) << "this catalog does not know row_number";
  EXPECT_EQ(judged("SELECT t.a FROM t, pg_class c;"), moody);
  EXPECT_EQ(judged("SELECT native_code(t.a) FROM t;"), moody);
  EXPECT_EQ(judged("SELECT plain_code(t.a) FROM t;"), code);
  EXPECT_EQ(judged("SELECT t.plain_code FROM t;"), code);
  EXPECT_EQ(judged("SELECT what is this"), code);
  EXPECT_EQ(judged("SELECT t.a FROM t;", "m"), moody) << "what was there when it was refreshed";
}

TEST(CatalogQuery, AViewWithVolatileCodeMayChangeTheSession) {
  Row sets = view("sets", "public.t");
  sets[14] = "SELECT set_config('a.b'::text, t.a, false) AS set_config FROM t;";
  Row above = view("above", "public.sets");
  above[14] = "SELECT sets.set_config FROM sets;";
  Row reads = view("reads", "public.t");
  reads[14] = "SELECT lower(t.a) AS lower FROM t;";
  const auto catalog = read({relation("t", "r", "a"), sets, above, reads},
                            {function("set_config", "3", "t", "f", "t"), function("lower", "1", "t", "f", "t")});
  EXPECT_TRUE(catalog->has_volatile_view("sets"));
  EXPECT_TRUE(catalog->has_volatile_view("above"));
  EXPECT_FALSE(catalog->has_volatile_view("reads"));
  EXPECT_FALSE(catalog->has_volatile_view("t"));
}

TEST(CatalogQuery, TheDigestIsTheFirstAnswer) {
  EXPECT_EQ(catalog_digest({{{"abc"}}, {}, {}}), "abc");
  EXPECT_EQ(catalog_digest({{}, {}, {}}), "");
}

TEST(CatalogQuery, AViewIsNoSteadierThanThoseThatItReads) {
  Row one = view("one", "public.t");
  one[14] = "SELECT t.a FROM t LIMIT 1;";
  Row two = view("two", "public.one");
  two[14] = "SELECT one.a FROM one;";
  Row three = view("three", "public.t");
  three[14] = "SELECT t.a FROM t;";
  const auto catalog = read({relation("t", "r", "a"), one, two, three});
  EXPECT_FALSE(catalog->find("public", "two")->steady);
  EXPECT_FALSE(catalog->find("public", "two")->runs_code);
  EXPECT_TRUE(catalog->find("public", "three")->steady);
}

}  // namespace
}  // namespace tessera::proxy
