// The tracker against a naive model of PostgreSQL's rules, and the SQL that replays a map.
#include "pool/settings.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <map>
#include <optional>
#include <random>

namespace tessera::pool {
namespace {

Settings map_of(SettingsMap map) {
  return std::make_shared<const SettingsMap>(std::move(map));
}

TEST(SettingsTracker, SetOutsideATransactionStays) {
  SettingsTracker tracker;
  EXPECT_EQ(tracker.current(), no_settings());
  tracker.set("work_mem", "SET work_mem = 1");
  tracker.rollback();
  EXPECT_EQ(*tracker.current(), (SettingsMap{{"work_mem", "SET work_mem = 1"}}));
}

TEST(SettingsTracker, CommitKeepsAndRollbackUndoes) {
  SettingsTracker tracker;
  tracker.begin();
  tracker.set("a", "SET a = 1");
  tracker.commit();
  tracker.begin();
  tracker.set("a", "SET a = 2");
  tracker.set("b", "SET b = 2");
  tracker.begin();  // a warning in PostgreSQL, no new transaction
  tracker.rollback();
  EXPECT_EQ(*tracker.current(), (SettingsMap{{"a", "SET a = 1"}}));
}

TEST(SettingsTracker, SavepointsNestAndShadow) {
  SettingsTracker tracker;
  tracker.begin();
  tracker.set("a", "1");
  tracker.savepoint("s");
  tracker.set("a", "2");
  tracker.savepoint("s");  // hides the first
  tracker.set("a", "3");
  tracker.rollback_to("s");
  EXPECT_EQ(tracker.current()->value("a"), "2");
  tracker.set("a", "4");
  tracker.rollback_to("s");  // it is still there
  EXPECT_EQ(tracker.current()->value("a"), "2");
  tracker.release("s");
  EXPECT_EQ(tracker.current()->value("a"), "2");
  tracker.rollback_to("s");  // the first one
  EXPECT_EQ(tracker.current()->value("a"), "1");
  tracker.commit();
  EXPECT_EQ(tracker.current()->value("a"), "1");
}

TEST(SettingsTracker, ReleaseTakesLaterSavepointsAlong) {
  SettingsTracker tracker;
  tracker.begin();
  tracker.savepoint("one");
  tracker.set("a", "1");
  tracker.savepoint("two");
  tracker.release("one");
  tracker.rollback_to("two");  // unknown: the server would have refused it, nothing changes
  tracker.rollback_to("one");
  EXPECT_EQ(tracker.current()->value("a"), "1");
  tracker.rollback();
  EXPECT_TRUE(tracker.current()->empty());
}

TEST(SettingsTracker, SavepointsEndWithTheirTransaction) {
  SettingsTracker tracker;
  tracker.begin();
  tracker.savepoint("s");
  tracker.set("a", "1");
  tracker.commit();
  tracker.rollback_to("s");
  EXPECT_EQ(tracker.current()->value("a"), "1");
  tracker.savepoint("outside");
  tracker.set("a", "2");
  tracker.rollback_to("outside");
  EXPECT_EQ(tracker.current()->value("a"), "2");
}

TEST(SettingsTracker, ResetGoesBackToTheStartUpValue) {
  const Settings base = map_of({{"TimeZone", "SET \"TimeZone\" = 'UTC'"}});
  SettingsTracker tracker(base);
  EXPECT_EQ(tracker.current(), base);
  tracker.set("TimeZone", "SET TimeZone = 'CET'");
  tracker.set("work_mem", "SET work_mem = 1");
  tracker.reset("TimeZone");
  tracker.reset("work_mem");
  EXPECT_EQ(tracker.current(), base) << "the same object again, so that a connection which carries it needs nothing";
}

TEST(SettingsTracker, ResetAllKeepsTheIdentity) {
  const Settings base = map_of({{"TimeZone", "tz"}});
  SettingsTracker tracker(base);
  tracker.set("role", "SET ROLE bob");
  tracker.set("session_authorization", "SET SESSION AUTHORIZATION eve");
  tracker.set("TimeZone", "other");
  tracker.set("work_mem", "1");
  tracker.reset_all();
  EXPECT_EQ(*tracker.current(), (SettingsMap{{"TimeZone", "tz"},
                                             {"role", "SET ROLE bob"},
                                             {"session_authorization", "SET SESSION AUTHORIZATION eve"}}));
  tracker.reset("session_authorization");
  EXPECT_EQ(*tracker.current(), *base) << "the role goes with the session authorization";
}

// Who hears channels for the session is told of those alone that a transaction has touched.
TEST(SettingsTracker, ChannelsAreGivenUpByWhatHasTouchedThem) {
  using testing::ElementsAre;
  using testing::IsEmpty;
  SettingsTracker tracker;
  for (const char* channel : {"a", "b", "c"}) tracker.listen(channel);
  EXPECT_THAT(tracker.channels_given_up(), IsEmpty());
  tracker.begin();
  tracker.listen("d");
  tracker.unlisten("a");
  tracker.rollback();
  EXPECT_THAT(tracker.channels_given_up(), ElementsAre("d")) << "its LISTEN has not come about";
  EXPECT_THAT(tracker.channels_given_up(), IsEmpty()) << "once";
  tracker.begin();
  tracker.savepoint("s");
  tracker.unlisten_all();
  tracker.rollback_to("s");
  tracker.unlisten("b");
  tracker.commit();
  EXPECT_THAT(tracker.channels_given_up(), ElementsAre("b"));
  tracker.note_channel("e");  // and its LISTEN fails
  tracker.note_channel("a");  // is listened to already
  EXPECT_THAT(tracker.channels_given_up(), ElementsAre("e"));
  tracker.unlisten_all();
  EXPECT_THAT(tracker.channels_given_up(), ElementsAre("a", "c"));
}

using ModelMap = std::map<std::string, std::string>;

// A model that keeps a full copy for each transaction and savepoint.
struct Model {
  ModelMap base, now;
  std::optional<ModelMap> at_begin;
  std::vector<std::pair<std::string, ModelMap>> marks;
  explicit Model(ModelMap start) : base(start), now(std::move(start)) {}

  std::size_t last(const std::string& name) const {
    for (std::size_t i = marks.size(); i > 0; --i)
      if (marks[i - 1].first == name) return i;
    return 0;
  }
  void end() {
    at_begin.reset();
    marks.clear();
  }
};

TEST(SettingsTracker, RandomSequencesAgreeWithAModel) {
  std::mt19937 random(20240611);
  const auto pick = [&](int n) { return std::uniform_int_distribution<int>(0, n - 1)(random); };
  const std::vector<std::string> names = {"a", "b", "role", "session_authorization"};
  const std::vector<std::string> points = {"s", "t", "u"};
  int rollbacks_that_mattered = 0;
  for (int round = 0; round < 3000; ++round) {
    const ModelMap start = pick(2) == 0 ? ModelMap{} : ModelMap{{"a", "start"}};
    SettingsMap base;
    for (const auto& [name, sql] : start) base.set(name, sql);
    SettingsTracker tracker(map_of(base));
    Model model(start);
    for (int step = 0; step < 40; ++step) {
      const std::string& name = names[static_cast<std::size_t>(pick(4))];
      const std::string& point = points[static_cast<std::size_t>(pick(3))];
      const std::size_t at = model.last(point);
      switch (pick(11)) {
        case 0:
        case 1:
        case 2: {
          const std::string sql = std::to_string(pick(5));
          tracker.set(name, sql);
          model.now[name] = sql;
          break;
        }
        case 3:
          tracker.reset(name);
          model.now.erase(name);
          if (model.base.contains(name)) model.now[name] = model.base[name];
          if (name == "session_authorization") model.now.erase("role");
          break;
        case 4: {
          tracker.reset_all();
          ModelMap fresh = model.base;
          for (const char* identity : {"role", "session_authorization"})
            if (model.now.contains(identity)) fresh[identity] = model.now[identity];
          model.now = fresh;
          break;
        }
        case 5:
          tracker.begin();
          if (!model.at_begin) model.at_begin = model.now;
          break;
        case 6:
          tracker.commit();
          model.end();
          break;
        case 7:
          tracker.rollback();
          if (model.at_begin && *model.at_begin != model.now) ++rollbacks_that_mattered;
          if (model.at_begin) model.now = *model.at_begin;
          model.end();
          break;
        case 8:
          tracker.savepoint(point);
          if (model.at_begin) model.marks.emplace_back(point, model.now);
          break;
        case 9:
          tracker.release(point);
          if (at > 0) model.marks.resize(at - 1);
          break;
        case 10:
          tracker.rollback_to(point);
          if (at > 0) {
            model.now = model.marks[at - 1].second;
            model.marks.resize(at);
          }
          break;
      }
      ASSERT_THAT(*tracker.current(), testing::ElementsAreArray(model.now)) << "round " << round << " step " << step;
    }
  }
  EXPECT_GT(rollbacks_that_mattered, 1000);
}

// ---- SQL ------------------------------------------------------------------------------------------------------------

TEST(SettingsSql, Literals) {
  EXPECT_EQ(quote_literal(""), "''");
  EXPECT_EQ(quote_literal("it's"), "'it''s'");
  // With a backslash the meaning must not depend on standard_conforming_strings.
  EXPECT_EQ(quote_literal("a\\'b"), " E'a\\\\''b'");
}

TEST(SettingsSql, Identifiers) {
  EXPECT_EQ(quote_identifier("a\"b;\n"), "\"a\"\"b;\n\"");
  EXPECT_EQ(reset_sql("work_mem"), "RESET \"work_mem\"");
  EXPECT_EQ(reset_sql("my.ext.x\"; DROP TABLE t; --"), "RESET \"my\".\"ext\".\"x\"\"; DROP TABLE t; --\"");
  EXPECT_EQ(reset_sql("role"), "RESET ROLE");
  EXPECT_EQ(reset_sql("session_authorization"), "RESET SESSION AUTHORIZATION");
}

TEST(SettingsSql, SetConfig) {
  EXPECT_EQ(set_config_sql("a'b", "c\\'d"), "SELECT pg_catalog.set_config('a''b',  E'c\\\\''d', false)");
}

// Reads the text as the server's scanner would: strings and quoted names are skipped, and the statements counted.
int statements_in(std::string_view sql, bool conforming) {
  int count = 0;
  for (std::size_t i = 0; i < sql.size(); ++i) {
    if (sql[i] == ';') ++count;
    if (sql[i] == '"') {
      for (++i; i < sql.size() && !(sql[i] == '"' && (i + 1 >= sql.size() || sql[i + 1] != '"')); ++i)
        if (sql[i] == '"') ++i;
    } else if (sql[i] == '\'') {
      const bool escapes = !conforming || (i > 0 && sql[i - 1] == 'E');
      for (++i; i < sql.size(); ++i) {
        if (escapes && sql[i] == '\\') {
          ++i;
        } else if (sql[i] == '\'') {
          if (i + 1 >= sql.size() || sql[i + 1] != '\'') break;
          ++i;
        }
      }
    }
  }
  return count;
}

TEST(SettingsSql, HostileNamesAndValuesStayInsideTheirQuotes) {
  std::mt19937 random(7);
  static constexpr char alphabet[] = "a'\"\\;.-E $\n/*";
  for (int round = 0; round < 20000; ++round) {
    std::string name, value;
    for (std::string* text : {&name, &value})
      for (int i = std::uniform_int_distribution<int>(0, 8)(random); i > 0; --i)
        *text += alphabet[std::uniform_int_distribution<std::size_t>(0, sizeof alphabet - 2)(random)];
    const SettingsMap map{{name, set_config_sql(name, value)}};
    for (const bool conforming : {true, false}) {
      ASSERT_EQ(statements_in(settings_change({}, map), conforming), 1) << settings_change({}, map);
      if (name != "role") ASSERT_EQ(statements_in(settings_change(map, {}), conforming), 1) << settings_change(map, {});
    }
  }
}

TEST(SettingsChange, OnlyWhatDiffers) {
  EXPECT_EQ(settings_change({{"a", "SET a = 1"}}, {{"a", "SET a = 1"}}), "");
  EXPECT_EQ(settings_change({{"a", "SET a = 1"}, {"b", "SET b = 1"}}, {{"b", "SET b = 2"}, {"c", "SET c = 3"}}),
            "RESET \"a\";SET b = 2;SET c = 3;");
}

TEST(SettingsChange, IdentityIsResetFirstAndSetLast) {
  const SettingsMap from{
      {"a", "SET a = 1"}, {"role", "SET ROLE x"}, {"session_authorization", "SET SESSION AUTHORIZATION y"}};
  EXPECT_EQ(settings_change(from, {}), "RESET ROLE;RESET SESSION AUTHORIZATION;RESET \"a\";");
  EXPECT_EQ(settings_change({}, from), "SET a = 1;SET SESSION AUTHORIZATION y;SET ROLE x;");
}

TEST(SettingsChange, AnotherIdentityIsReachedByWayOfTheOwn) {
  // A role that may not become the other one must first give itself up.
  EXPECT_EQ(settings_change({{"role", "SET ROLE x"}}, {{"role", "SET ROLE y"}, {"work_mem", "SET work_mem = 1"}}),
            "RESET ROLE;SET work_mem = 1;SET ROLE y;");
}

// A server's own idea of what the statements do: SET SESSION AUTHORIZATION and its RESET also reset the role.
SettingsMap server_after(SettingsMap map, std::string_view sql) {
  while (!sql.empty()) {
    const std::string one(sql.substr(0, sql.find(';')));
    sql.remove_prefix(one.size() + 1);
    if (one == "RESET ROLE") {
      map.erase("role");
    } else if (one == "RESET SESSION AUTHORIZATION") {
      map.erase("session_authorization");
      map.erase("role");
    } else if (one.starts_with("RESET ")) {
      map.erase(one.substr(7, one.size() - 8));
    } else {
      const std::string name = one.substr(0, one.find('='));
      if (name == "session_authorization") map.erase("role");
      map.set(name, one);
    }
  }
  return map;
}

TEST(SettingsChange, LeadsFromAnyMapToAnyOther) {
  std::vector<SettingsMap> all;
  for (int bits = 0; bits < 81; ++bits) {
    SettingsMap map;
    int left = bits;
    for (const char* name : {"a", "b", "role", "session_authorization"}) {
      if (left % 3 > 0) map.set(name, std::string(name) + "=" + std::to_string(left % 3));
      left /= 3;
    }
    all.push_back(map);
  }
  for (const SettingsMap& from : all)
    for (const SettingsMap& to : all)
      ASSERT_EQ(server_after(from, settings_change(from, to)), to) << settings_change(from, to);
}

}  // namespace
}  // namespace tessera::pool
