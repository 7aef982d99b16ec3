// The table of keys against everything that must agree with it.
#include <algorithm>
#include <fstream>
#include <functional>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>
#include <sstream>

#include "config/keys.hpp"
#include "config/testing.hpp"

namespace tessera::config {
namespace {

using Json = nlohmann::json;

Json described(const std::string& path) {
  const Loaded loaded = load(path, test_environment());
  EXPECT_TRUE(loaded.config) << path;
  return loaded.config ? Json::parse(describe(*loaded.config)) : Json();
}

using Visit = std::function<void(const SectionSpec&, const Key&)>;
void each_key(const SectionSpec& spec, const Visit& visit) {
  for (const Key& key : spec.keys) {
    visit(spec, key);
    if (key.section != nullptr) each_key(*key.section, visit);
  }
  for (const Variant& one : spec.variants) each_key(*one.section, visit);
}

TEST(Schema, CheckedInFileIsTheGeneratedOne) {
  expect_golden("config/schema.json", json_schema());
}

// Editors show it, and docs/configuration.md has the same sentence.
TEST(Schema, KeysWithoutEffectSaySo) {
  each_key(root_section, [](const SectionSpec&, const Key& key) {
    EXPECT_EQ(key.about.ends_with("; no effect in this version."), key.effect == Effect::none) << key.name;
    EXPECT_EQ(key.about.ends_with("; not in this version."), key.effect == Effect::refused) << key.name;
    EXPECT_EQ(!key.instead.empty(), key.effect == Effect::refused) << key.name;
  });
}

TEST(Schema, IsJsonAndClosed) {
  const Json schema = Json::parse(json_schema());
  EXPECT_EQ(schema["$schema"], "https://json-schema.org/draft/2020-12/schema");
  EXPECT_EQ(schema["additionalProperties"], false);
  const Json& rules = schema["properties"]["databases"]["additionalProperties"]["properties"]["rules"];
  EXPECT_EQ(rules["additionalProperties"]["oneOf"].size(), 7u);
}

// Walks JSON along the table. Sections of every name and of every list are joined.
void collect_keys(const Json& json, const SectionSpec& spec, std::set<std::string>& seen) {
  const SectionSpec* actual = &spec;
  for (const Variant& one : spec.variants) {
    if (json.contains("type") && json["type"] == one.name) actual = one.section;
  }
  for (const Key& key : actual->keys) {
    const auto found = json.find(std::string(key.name));
    if (found == json.end()) continue;
    seen.insert(std::string(actual->title) + "/" + std::string(key.name));
    if (key.kind == Kind::section) collect_keys(*found, *key.section, seen);
    if (key.kind != Kind::sections && key.kind != Kind::named_sections) continue;
    for (const Json& item : *found) collect_keys(item, *key.section, seen);
  }
}

TEST(Schema, DescribeShowsEveryKeyOfAFullConfiguration) {
  std::set<std::string> seen;
  collect_keys(described("config/testdata/full.yaml"), root_section, seen);
  collect_keys(described("config/testdata/good.yaml"), root_section, seen);
  each_key(root_section, [&](const SectionSpec& spec, const Key& key) {
    // A file of entries is shown as the entries that it holds.
    if (key.name == "entries_file" || key.effect == Effect::refused) return;
    EXPECT_TRUE(seen.contains(std::string(spec.title) + "/" + std::string(key.name))) << spec.title << ": " << key.name;
  });
}

void check_defaults(const Json& json, const SectionSpec& spec, int& checked) {
  for (const Key& key : spec.keys) {
    const auto found = json.find(std::string(key.name));
    if (key.kind == Kind::section && found != json.end()) check_defaults(*found, *key.section, checked);
    if (key.kind == Kind::named_sections && found != json.end() && key.section->variants.empty()) {
      for (const Json& item : *found) check_defaults(item, *key.section, checked);
    }
    if (key.standard.empty()) continue;
    ASSERT_NE(found, json.end()) << spec.title << ": " << key.name;
    EXPECT_EQ(found->is_string() ? found->get<std::string>() : found->dump(), key.standard)
        << spec.title << ": " << key.name;
    ++checked;
  }
}

TEST(Schema, DefaultsOfTheTableAreThoseOfTheStructs) {
  int checked = 0;
  check_defaults(described("config/testdata/minimal.yaml"), root_section, checked);
  EXPECT_GT(checked, 30);
}

TEST(Schema, DefaultsOfRulesAndLists) {
  const Loaded loaded = load_text("t", R"(
listen: {postgres: a:1}
databases:
  d:
    shards: {s: {primary: a:1, replicas: [{address: b:2}]}}
    users: [{name: u}]
    tables: {t: {shard: s}}
    rules: {h: {type: hash, shards: s}, c: {type: consistent_hash, shards: s}, e: {type: embedded}}
)",
                                  test_environment());
  ASSERT_TRUE(loaded.config);
  const Json database = Json::parse(describe(*loaded.config))["databases"]["d"];
  int checked = 0;
  for (const std::string name : {"replicas", "users", "tables"}) {
    const Json& items = name == "replicas" ? database["shards"]["s"]["replicas"] : database[name];
    const SectionSpec& parent = name == "replicas" ? *database_section.find("shards")->section : database_section;
    for (const Json& item : items) check_defaults(item, *parent.find(name)->section, checked);
  }
  for (const Variant& one : database_section.find("rules")->section->variants) {
    for (const Json& rule : database["rules"]) {
      if (rule["type"] == one.name) check_defaults(rule, *one.section, checked);
    }
  }
  EXPECT_GE(checked, 8);
}

TEST(Describe, CanBeLoadedAgain) {
  for (const std::string name : {"good", "full", "minimal"}) {
    const std::string path = "config/testdata/" + name + ".yaml";
    Json first = described(path);
    // Redacted verifiers are none.
    for (Json& database : first["databases"]) {
      for (Json& user : database["users"]) {
        for (const char* key : {"scram", "md5"}) user.erase(key);
      }
      if (database["users"].empty()) database.erase("users");
    }
    // Paths are shown as they were resolved, so the text must not stand in a folder of its own.
    const Loaded again = load_text("described.yaml", first.dump(2), test_environment());
    std::string problems;
    for (const Problem& problem : again.problems) problems += to_string(problem) + "\n";
    ASSERT_TRUE(again.config) << problems;
    EXPECT_EQ(Json::parse(describe(*again.config)), first) << name;
  }
}

TEST(Describe, ShowsNoSecret) {
  for (const std::string name : {"good", "full"}) {
    const Loaded loaded = load("config/testdata/" + name + ".yaml", test_environment());
    ASSERT_TRUE(loaded.config);
    const std::string text = describe(*loaded.config);
    for (const std::string secret :
         {"canary", "hidden-in-a-file", "word}", "for-the-shards", "AAAA", "md50123", "\"secret\""}) {
      EXPECT_THAT(text, testing::Not(testing::HasSubstr(secret)));
    }
    EXPECT_THAT(text, testing::HasSubstr("\"***\""));
  }
}

TEST(Describe, SurvivesTextThatIsNotUtf8) {
  const Loaded loaded = load_text(
      "t", "listen: {postgres: a:1}\ndatabases: {d: {shards: {s: {primary: a:1}}, users: [{name: \"${env:X}\"}]}}",
      {.variable = [](const std::string&) { return "\xff\xfe"; }, .read_file = {}});
  ASSERT_TRUE(loaded.config);
  EXPECT_TRUE(Json::accept(describe(*loaded.config)));
}

TEST(Documentation, HasTheRowOfEveryKey) {
  std::ifstream stream("docs/configuration.md");
  std::vector<std::string> lines;
  for (std::string line; std::getline(stream, line);) lines.push_back(line);
  each_key(root_section, [&](const SectionSpec& spec, const Key& key) {
    std::string start = "| `" + std::string(key.name) + "` |";
    if (!key.standard.empty()) start += " `" + std::string(key.standard) + "` |";
    const std::string end = "| " + std::string(key.about) + " |";
    EXPECT_TRUE(std::any_of(lines.begin(), lines.end(),
                            [&](const std::string& line) { return line.starts_with(start) && line.ends_with(end); }))
        << spec.title << ": " << start << " … " << end;
  });
}

}  // namespace
}  // namespace tessera::config
