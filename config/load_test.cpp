#include "config/load.hpp"

#include <chrono>
#include <filesystem>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "config/testing.hpp"

namespace tessera::config {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using namespace std::chrono_literals;

constexpr std::string_view minimal =
    "listen: {postgres: 127.0.0.1:6432}\n"
    "databases: {shop: {shards: {s0: {primary: 127.0.0.1:5432}}}}\n";

std::string all_problems(const Loaded& loaded) {
  std::string text;
  for (const Problem& problem : loaded.problems) text += to_string(problem) + "\n";
  return text;
}

Config must_load(const std::string& path) {
  const Loaded loaded = load(path, test_environment());
  EXPECT_EQ(all_problems(loaded), "");
  return loaded.config.value_or(Config{});
}

// Every testdata/bad/<case> gives exactly the text of <case>.expected, and never an expanded secret.
class BadConfiguration : public testing::TestWithParam<std::string> {};

TEST_P(BadConfiguration, GivesTheExpectedProblems) {
  const std::string path = "config/testdata/bad/" + GetParam();
  const Loaded loaded = load(path, test_environment());
  EXPECT_FALSE(loaded.config);
  EXPECT_FALSE(loaded.problems.empty());
  const std::string text = all_problems(loaded);
  EXPECT_THAT(text, testing::Not(HasSubstr("canary")));
  expect_golden("config/testdata/bad/" + std::filesystem::path(GetParam()).stem().string() + ".expected", text);
}

std::vector<std::string> bad_cases() {
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator("config/testdata/bad")) {
    if (entry.is_directory() || entry.path().extension() == ".yaml") names.push_back(entry.path().filename().string());
  }
  std::sort(names.begin(), names.end());
  return names;
}
INSTANTIATE_TEST_SUITE_P(Files, BadConfiguration, testing::ValuesIn(bad_cases()),
                         [](const auto& one) { return std::filesystem::path(one.param).stem().string(); });

TEST(Load, ReadsTheDocumentedExample) {
  const Config config = must_load("config/testdata/good.yaml");
  EXPECT_EQ(config.listen.postgres, (Address{"0.0.0.0", 6432}));
  EXPECT_EQ(config.listen.tls.mode, ClientTlsMode::prefer);
  EXPECT_EQ(config.listen.tls.certificate, "config/testdata/server.crt");
  ASSERT_EQ(config.admin.tokens.size(), 1u);
  EXPECT_EQ(config.admin.tokens[0].token.reveal(), "canary-token");
  EXPECT_EQ(std::get<StoreSqlite>(config.store).path, "/var/lib/tessera/topology.db");
  const Database* shop = config.find_database("shop");
  ASSERT_NE(shop, nullptr);
  EXPECT_EQ(config.find_database("shoe"), nullptr);
  ASSERT_EQ(shop->shards.size(), 2u);
  EXPECT_EQ(shop->shards[0].replicas[0].weight, 2);
  EXPECT_EQ(shop->shards[1].position, (SourcePosition{"config/testdata/good.yaml", 15, 7}));
  EXPECT_EQ(shop->pool.max_lifetime, 1h);
  EXPECT_EQ(shop->backend.tls, BackendTls::verify_full);
  ASSERT_EQ(shop->rules.size(), 7u);
  const auto& by_tenant = std::get<DirectoryRule>(shop->rules[3].kind);
  EXPECT_EQ(by_tenant.entries.at("acme"), "s1");
  EXPECT_TRUE(by_tenant.otherwise->is_rule);
  EXPECT_FALSE(std::get<GeographyRule>(shop->rules[4].kind).otherwise->is_rule);
  EXPECT_THAT(std::get<CompositeRule>(shop->rules[6].kind).of, ElementsAre("by_country", "by_user"));
  EXPECT_THAT(shop->tables[0].key, ElementsAre("id"));
  EXPECT_TRUE(shop->tables[2].reference);
  EXPECT_EQ(shop->tables[3].shard, "s0");
  EXPECT_EQ(shop->users[0].password.reveal(), "canary-password");
}

TEST(Load, DefaultsOfAMinimalFile) {
  const Config config = must_load("config/testdata/minimal.yaml");
  const Database& shop = config.databases.at(0);
  EXPECT_EQ(shop.backend.dbname, "shop");
  EXPECT_EQ(shop.backend.auth, BackendAuth::passthrough);
  EXPECT_EQ(shop.pool.size, 20);
  EXPECT_FALSE(shop.hints);
  EXPECT_TRUE(std::holds_alternative<std::monostate>(config.store));
  EXPECT_EQ(config.source, "config/testdata/minimal.yaml");
}

TEST(Load, ServerKeys) {
  const Config config = must_load("config/testdata/full.yaml");
  EXPECT_EQ(config.listen.postgres->text(), "[::1]:6432");
  EXPECT_EQ(config.listen.tls.mode, ClientTlsMode::verify_full);
  EXPECT_EQ(config.listen.tls.min_version, "1.3");
  EXPECT_EQ(config.listen.login_timeout, 7s);
  EXPECT_EQ(config.listen.max_clients, 5000);
  EXPECT_EQ(config.listen.max_clients_per_address, 50);
  EXPECT_EQ(config.admin.tokens[1].role, AdminRole::operator_);
  EXPECT_EQ(config.admin.tokens[1].token.reveal(), "hidden-in-a-file");
  EXPECT_EQ(config.workers, 3);
  EXPECT_FALSE(config.io_uring);
  EXPECT_EQ(std::get<StoreEtcd>(config.store).endpoints.size(), 2u);
  EXPECT_EQ(config.log.level, LogLevel::warn);
  EXPECT_EQ(config.log.slow_statement, 250ms);
  EXPECT_TRUE(config.log.statement_text);
  EXPECT_EQ(config.drain_timeout, 90s);
  EXPECT_EQ(config.pid_file, "config/testdata/tessera.pid");
}

TEST(Load, DatabaseKeys) {
  const Config config = must_load("config/testdata/full.yaml");
  const Database& shop = config.databases.at(0);
  EXPECT_EQ(shop.backend.auth, BackendAuth::password);
  EXPECT_EQ(shop.backend.password.reveal(), "secret");
  EXPECT_EQ(shop.shards[0].dbname, "store_0");
  EXPECT_EQ(shop.shards[1].primary, (Address{"/run/postgresql", 5433}));
  EXPECT_EQ(shop.pool.mode, PoolMode::session);
  EXPECT_EQ(shop.pool.reconnect_max, 24h);
  EXPECT_EQ(shop.pool.health_interval, 0ms);
  EXPECT_EQ(shop.limits.merge_memory, 32u << 20);
  EXPECT_EQ(shop.limits.message_size, 65536u);
  EXPECT_TRUE(shop.hints);
  EXPECT_EQ(shop.cross_shard_transactions, CrossShardTransactions::single_shard);
  EXPECT_EQ(shop.tables[1].schema, "sales");
  EXPECT_EQ(shop.tables[2].schema, "odd.schema");
  EXPECT_EQ(shop.users[0].password.reveal(), "pass${word}");
  EXPECT_EQ(shop.users[0].pool_mode, PoolMode::statement);
  EXPECT_EQ(shop.users[0].pool_size, 3);
  EXPECT_FALSE(shop.users[1].pool_size);
  EXPECT_TRUE(shop.users[1].trust);
  EXPECT_EQ(shop.auth_query->shard, "s0");
  EXPECT_THAT(shop.read_only_functions, ElementsAre("lookup", "sales.total"));
  EXPECT_EQ(shop.catalog_interval, 5s);
  EXPECT_EQ(shop.backend.resolve_interval, 30s);
  EXPECT_THAT(std::string(config.databases[1].users[0].verifier.reveal()), testing::StartsWith("SCRAM-SHA-256$4096:"));
  EXPECT_THAT(std::string(config.databases[1].users[1].verifier.reveal()), testing::StartsWith("md5"));
}

TEST(Load, RuleKeys) {
  const Config config = must_load("config/testdata/full.yaml");
  const auto& rules = config.databases.at(0).rules;
  const auto& hash = std::get<HashRule>(rules[0].kind);
  EXPECT_EQ(hash.function, HashFunction::md5);
  EXPECT_EQ(hash.moved, (std::map<int, std::string>{{5, "s2"}, {10, "s2"}, {11, "s2"}, {12, "s2"}}));
  const auto& ring = std::get<ConsistentHashRule>(rules[1].kind);
  EXPECT_EQ(ring.function, HashFunction::crc32);
  EXPECT_EQ(ring.weights, (std::map<std::string, int>{{"s1", 4}}));
  const auto& numbers = std::get<RangeRule>(rules[2].kind);
  EXPECT_EQ(numbers.ranges[0].below, "-9.5");
  EXPECT_FALSE(std::get<RangeRule>(rules[3].kind).ranges[2].below);
  const auto& directory = std::get<DirectoryRule>(rules[5].kind);
  EXPECT_EQ(directory.entries, (std::map<std::string, std::string>{
                                   {"acme", "s1"}, {"globex", "s0"}, {"with, comma and \"quotes\"", "s2"}}));
  const auto& geography = std::get<GeographyRule>(rules[6].kind);
  // NO is a country, although YAML 1.1 takes it for a truth value.
  EXPECT_THAT(geography.regions[0].countries, ElementsAre("NO", "se"));
  EXPECT_TRUE(geography.regions[1].destination.is_rule);
  EXPECT_EQ(std::get<EmbeddedRule>(rules[7].kind).shard_shift, 12);
}

TEST(Load, MergesAFolder) {
  const Config config = must_load("config/testdata/folder");
  ASSERT_EQ(config.databases.size(), 2u);
  EXPECT_EQ(config.databases[0].name, "shop");
  EXPECT_EQ(config.databases[0].tables.at(0).name, "countries");
  EXPECT_EQ(config.databases[0].tables.at(0).position.file, "config/testdata/folder/30-tables.yaml");
  EXPECT_EQ(config.databases[1].name, "blog");
}

TEST(Load, UserAloneMeansSharedRole) {
  const Loaded loaded =
      load_text("t", "listen: {postgres: a:1}\ndatabases: {d: {backend: {user: u}, shards: {s: {primary: b:2}}}}",
                test_environment());
  ASSERT_TRUE(loaded.config) << all_problems(loaded);
  EXPECT_EQ(loaded.config->databases[0].backend.auth, BackendAuth::password);
}

std::string all_warnings(const Loaded& loaded) {
  std::string text;
  for (const Problem& warning : loaded.warnings) text += to_string(warning) + "\n";
  return text;
}

TEST(Load, KeysWithoutEffectAreSaidEachOnce) {
  const Loaded loaded = load_text("t",
                                  "listen: {postgres: a:1}\n"
                                  "store: {sqlite: t.db}\n"
                                  "databases:\n"
                                  "  d: &d\n"
                                  "    shards: {s: {primary: b:2, replicas: [{address: c:3, zone: z, weight: 2}]}}\n"
                                  "    reads: {max_lag: 1s}\n"
                                  "    limits: {merge_memory: 1MB, clients: 5}\n"
                                  "    merge_node: s\n"
                                  "    cross_shard_transactions: two_phase\n"
                                  "    users: [{name: u}]\n"
                                  "  e: *d\n",
                                  test_environment());
  EXPECT_EQ(all_problems(loaded), "");
  EXPECT_TRUE(loaded.config);
  EXPECT_EQ(all_warnings(loaded),
            "t:2:1: warning: \"store\" has no effect in this version\n"
            "t:5:32: warning: \"replicas\" has no effect in this version\n"
            "t:6:5: warning: \"reads\" has no effect in this version\n"
            "t:7:14: warning: \"merge_memory\" has no effect in this version\n"
            "t:8:5: warning: \"merge_node\" has no effect in this version\n");
}

TEST(Load, AnOrdinaryFileHasNoWarnings) {
  EXPECT_EQ(all_warnings(load("config/testdata/minimal.yaml", test_environment())), "");
}

TEST(Load, SomebodyMustBeAbleToLogIn) {
  const auto with = [](const std::string& more) {
    return load_text("t",
                     "listen: {postgres: a:1}\n"
                     "databases:\n"
                     "  d: {shards: {s: {primary: b:2}}" +
                         more + "}\n",
                     test_environment());
  };
  const std::string warning =
      "t:3:3: warning: nobody can log in to the database \"d\"\n"
      "  hint: list users, give an auth_query, or say backend: {unknown_users: passthrough}\n";
  for (const std::string more : {"", ", users: []", ", backend: {user: u}, users: [{name: a}]"})
    EXPECT_EQ(all_warnings(with(more)), warning) << more;
  for (const std::string more : {", users: [{name: a}]", ", users: [{name: a, trust: true}]", ", auth_query: {user: q}",
                                 ", backend: {unknown_users: passthrough}"})
    EXPECT_EQ(all_warnings(with(more)), "") << more;
}

TEST(Load, OneAddressForTwo) {
  const auto with = [](const std::string& postgres, const std::string& admin) {
    return load_text("t",
                     "listen: {postgres: '" + postgres + "'}\nadmin: {listen: '" + admin +
                         "'}\ndatabases: {d: {shards: {s: {primary: b:2}}}}\n",
                     test_environment());
  };
  EXPECT_THAT(all_problems(with("127.0.0.1:1", "127.0.0.1:1")), HasSubstr("t:2:17: error: the admin endpoint"));
  EXPECT_EQ(all_problems(with("127.0.0.1:1", "127.0.0.1:2")), "");
  EXPECT_EQ(all_problems(with("127.0.0.1:0", "127.0.0.1:0")), "") << "any free one";
}

TEST(Load, PoolSizeOfAUserWithASharedRole) {
  const Loaded loaded = load_text("t",
                                  "listen: {postgres: a:1}\n"
                                  "databases: {d: {backend: {user: u}, shards: {s: {primary: b:2}},\n"
                                  "  users: [{name: n, password: p, pool_size: 3}]}}\n",
                                  test_environment());
  EXPECT_TRUE(loaded.config) << all_problems(loaded);
  EXPECT_EQ(all_warnings(loaded),
            "t:3:45: warning: \"pool_size\" has no effect where all clients share backend.user\n"
            "  hint: they share its pool: pool.size\n");
}

TEST(Load, AnAdministratorOfTheConsoleHasOneCredential) {
  const auto with = [](const std::string& second, const std::string& admins = "[ops]") {
    return load_text("t",
                     "listen: {postgres: a:1}\n"
                     "admin: {console_admins: " +
                         admins +
                         "}\n"
                         "databases:\n"
                         "  d: {shards: {s: {primary: b:2}}, users: [{name: ops, password: one, from: [10.0.0.0/8]}]}\n"
                         "  e: {shards: {s: {primary: b:2}}, users: [" +
                         second + "]}\n",
                     test_environment());
  };
  const Loaded same = with("{name: ops, password: one, from: [10.0.0.0/8], pool_size: 3}");
  EXPECT_EQ(all_problems(same) + all_warnings(same), "");
  EXPECT_EQ(all_problems(with("{name: other, password: two}")), "");
  EXPECT_EQ(all_problems(with("{name: ops, password: two}", "[]")), "");
  for (const std::string second : {"{name: ops, password: two, from: [10.0.0.0/8]}", "{name: ops, password: one}",
                                   "{name: ops, md5: md50123456789abcdef0123456789abcdef, from: [10.0.0.0/8]}"})
    EXPECT_THAT(
        all_problems(with(second)),
        testing::StartsWith("t:5:44: error: user \"ops\" may use the console and has other credentials here than "
                            "in database \"d\"\n"));
  const Loaded nobody = with("{name: x, trust: true}", "[x]");
  EXPECT_THAT(all_warnings(nobody), HasSubstr("t:2:26: warning: \"x\" cannot log in to the console"));
}

// What the mistake hides is not known: whether the user could log in to the console, or with the same credential.
TEST(Load, AMistakeInAUsersProofIsToldAlone) {
  const auto with = [](const std::string& user, const std::string& more = "") {
    return load_text("t",
                     "listen: {postgres: a:1}\n"
                     "admin: {console_admins: [ops]}\n"
                     "databases:\n"
                     "  d: {backend: {user: u}, shards: {s: {primary: b:2}}, users: [{name: ops, " +
                         user + "}]}\n" + more,
                     test_environment());
  };
  const std::string other = "  e: {shards: {s: {primary: b:2}}, users: [{name: ops, password: one}]}\n";
  for (const std::string user : {"password: '${env:NO_SUCH_NAME}'", "scram: nonsense", "password: [a]", "trust: maybe"})
    for (const std::string& more : {std::string(), other}) {
      const Loaded loaded = with(user, more);
      EXPECT_EQ(loaded.problems.size(), 1u) << all_problems(loaded);
      EXPECT_EQ(all_warnings(loaded), "") << user;
    }
  EXPECT_THAT(all_warnings(with("max_clients: 3")), HasSubstr("t:2:26: warning: \"ops\" cannot log in to the console"));
}

TEST(Load, MissingFile) {
  const Loaded loaded = load("config/testdata/no_such.yaml", test_environment());
  EXPECT_EQ(all_problems(loaded),
            "config/testdata/no_such.yaml: error: the file cannot be read: No such file or directory\n");
}

TEST(Load, RefusesAFileThatIsTooLarge) {
  const std::string text = std::string(minimal) + "#" + std::string(16u << 20, 'x');
  const Loaded loaded = load_text("large.yaml", text, test_environment());
  EXPECT_THAT(all_problems(loaded), HasSubstr("large.yaml: error: the file is larger than 16 MB"));
}

TEST(Load, RefusesTooManyValues) {
  std::string text = std::string(minimal) + "x: [";
  for (int i = 0; i < 500'000; ++i) text += "1,";
  const Loaded loaded = load_text("many.yaml", text + "1]", test_environment());
  EXPECT_THAT(all_problems(loaded), HasSubstr("too many values"));
}

TEST(Load, RefusesALargeTextUnderManyAliases) {
  std::string text = "a: &a " + std::string(1u << 20, 'x') + "\nb: [";
  for (int i = 0; i < 1000; ++i) text += "*a,";
  const Loaded loaded = load_text("bomb.yaml", text + "*a]", test_environment());
  EXPECT_THAT(all_problems(loaded), HasSubstr("too many values"));
}

TEST(Load, AliasesMayBeUsed) {
  const Loaded loaded = load_text(
      "t", "listen: {postgres: a:1}\ndatabases: {d: &d {shards: {s: {primary: b:2}}}, e: *d}", test_environment());
  ASSERT_TRUE(loaded.config) << all_problems(loaded);
  EXPECT_EQ(loaded.config->databases[1].shards[0].name, "s");
}

TEST(Load, StopsShowingProblemsAfterAThousand) {
  std::string text(minimal);
  for (int i = 0; i < 5000; ++i) text += "unknown" + std::to_string(i) + ": 1\n";
  const Loaded loaded = load_text("t", text, test_environment());
  ASSERT_EQ(loaded.problems.size(), 1001u);
  EXPECT_EQ(loaded.problems.back().message, "4000 more problems are not shown");
}

TEST(Load, AMillionDirectoryEntries) {
  std::string entries;
  for (int i = 0; i < 1'000'000; ++i) entries += "tenant" + std::to_string(i) + ",s0\n";
  Environment env = test_environment();
  env.read_file = [&](const std::string&, std::size_t) { return entries; };
  const Loaded loaded = load_text("t",
                                  "listen: {postgres: a:1}\ndatabases: {d: {shards: {s0: {primary: b:2}}, rules: "
                                  "{r: {type: directory, entries_file: e.csv}}}}",
                                  env);
  ASSERT_TRUE(loaded.config) << all_problems(loaded);
  EXPECT_EQ(std::get<DirectoryRule>(loaded.config->databases[0].rules[0].kind).entries.size(), 1'000'000u);
  EXPECT_THAT(describe(*loaded.config), HasSubstr("\"entry_count\": 1000000"));
}

}  // namespace
}  // namespace tessera::config
