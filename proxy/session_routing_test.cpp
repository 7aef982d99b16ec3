// What sessions add to the planner's decisions: types declared by PREPARE, and where a statement goes that may run
// anywhere.
#include "proxy/session_fixture.hpp"

namespace tessera::proxy {
namespace {

using namespace script;
using testing::ElementsAre;
using testing::IsEmpty;

TEST_F(SessionTest, PrepareBySqlSaysOfWhichTypeAnArgumentIs) {
  open();
  EXPECT_EQ(types(ask(query("PREPARE p (bigint) AS SELECT v FROM t WHERE id = $1"))), "C Z:I");
  EXPECT_EQ(types(ask(query("EXECUTE p (0100)"))), "C Z:I");
  EXPECT_THAT(asked(1), ElementsAre("PREPARE tessera_sql_1 (bigint) AS SELECT v FROM t WHERE id = $1",
                                    "EXECUTE tessera_sql_1 (0100)"));
  // A type that no key has decides nothing; before, the text was read as the key's type.
  EXPECT_EQ(types(ask(query("PREPARE q (money) AS SELECT v FROM t WHERE id = $1::numeric::int"))), "C Z:I");
  EXPECT_EQ(types(ask(query("PREPARE r (money) AS SELECT v FROM t WHERE id = $1"))), "C Z:I");
  EXPECT_EQ(types(ask(query("EXECUTE r ('100')"))), "E:0A000 Z:I");
  // Not declared, and standing twice with types of their own.
  EXPECT_EQ(types(ask(query("PREPARE s AS SELECT v FROM t WHERE id = $1 AND v = $1"))), "C Z:I");
  EXPECT_EQ(types(ask(query("EXECUTE s ('100')"))), "E:0A000 Z:I");
}

// Strings that the servers have read with other settings than ours are of now.
TEST_F(SessionTest, APreparedStatementIsNotReadUnderOtherRulesForStrings) {
  open();
  for (FakeServer& server : server_)
    for (const char* value : {"on", "off"})
      server.answer(fmt::format("SET standard_conforming_strings = {}", value),
                    parameter("standard_conforming_strings", value) + complete("SET") + ready());
  const auto set = [&](const char* value) { ask(query(fmt::format("SET standard_conforming_strings = {}", value))); };
  EXPECT_EQ(types(ask(query(R"(PREPARE p AS SELECT v FROM t WHERE id = 1 AND v = 'a\\b')"))), "C Z:I");
  set("off");
  EXPECT_EQ(types(ask(query("EXECUTE p"))), "E:0A000 Z:I");
  EXPECT_EQ(types(ask(parse("q", R"(SELECT v FROM t WHERE id = 1 AND v = 'a\\b')") + sync())), "E:0A000 Z:I");
  set("on");
  EXPECT_EQ(types(ask(query("EXECUTE p"))), "C Z:I");
}

class DefaultShardTest : public SessionTest {
protected:
  DefaultShardTest() {
    const config::Loaded loaded =
        config::load_text("test.yaml", yaml() + "    default_shard: s1\n", config::real_environment());
    config_ = std::make_shared<const config::Config>(*loaded.config);
    runtime_ = build_runtime(config_, nullptr).value();
  }
};

TEST_F(DefaultShardTest, WhatHasNoShardOfItsOwnGoesToTheDefaultShard) {
  open();
  EXPECT_EQ(types(ask(query("SELECT 1"))), "C Z:I");
  EXPECT_EQ(types(ask(query("SELECT * FROM pg_class"))), "C Z:I");
  EXPECT_EQ(types(ask(parse("", "SELECT 2") + bind("") + execute() + sync())), "1 2 C Z:I");
  EXPECT_THAT(asked(1), ElementsAre("SELECT 1", "SELECT * FROM pg_class", "P", "B", "E", "S"));
  EXPECT_THAT(asked(0), IsEmpty());
}

TEST_F(DefaultShardTest, WhatIsPreparedBeforeItRunsIsAskedOfTheShardThatHasTheTable) {
  open();
  EXPECT_EQ(types(ask(parse("p", "SELECT x FROM only_there WHERE y = $1") + sync())), "1 Z:I");
  EXPECT_EQ(types(ask(query("PREPARE q AS SELECT x FROM only_there"))), "C Z:I");
  EXPECT_THAT(asked(1), ElementsAre("P", "S", "PREPARE tessera_sql_1 AS SELECT x FROM only_there"));
  EXPECT_THAT(asked(0), IsEmpty());
}

TEST_F(DefaultShardTest, WhatIsPreparedInATransactionDoesNotDecideWhereItRuns) {
  open();
  server_[0].answer("BEGIN", complete("BEGIN") + ready('T'));
  server_[0].answer("SELECT v FROM t WHERE id = 1", complete("OK") + ready('T'));
  EXPECT_EQ(types(ask(query("BEGIN"))), "C Z:T");
  EXPECT_EQ(types(ask(parse("p", "SELECT x FROM only_there") + sync())), "1 Z:T");
  EXPECT_EQ(types(ask(query("SELECT v FROM t WHERE id = 1"))), "C Z:T");
  EXPECT_THAT(asked(1), ElementsAre("P", "S"));
  EXPECT_THAT(asked(0), ElementsAre("BEGIN", "SELECT v FROM t WHERE id = 1"));
}

// The plans of all clients stand in one cache, and clients name schemas as they like.
TEST_F(DefaultShardTest, ASchemasNameCannotPoseAsASearchPath) {
  open();
  EXPECT_EQ(types(ask(query("SET search_path TO \"x\npublic\""))), "C Z:I");
  EXPECT_EQ(types(ask(query("SELECT v FROM t WHERE id = 1"))), "C Z:I");
  EXPECT_EQ(types(ask(query("SET search_path TO x, public"))), "C Z:I");
  EXPECT_EQ(types(ask(query("SELECT v FROM t WHERE id = 2"))), "C Z:I");
  EXPECT_THAT(asked(1), testing::Contains("SELECT v FROM t WHERE id = 1")) << "a table that is not listed";
  EXPECT_THAT(asked(0), testing::Contains("SELECT v FROM t WHERE id = 2")) << "by its key";
}

class HintsTest : public SessionTest {
protected:
  HintsTest() {
    config_ = config_with("    hints: true\n");
    runtime_ = build_runtime(config_, nullptr).value();
  }
  std::shared_ptr<const config::Config> config_with(const std::string& more) const {
    const config::Loaded loaded = config::load_text("test.yaml", yaml() + more, config::real_environment());
    return std::make_shared<const config::Config>(*loaded.config);
  }
};

TEST_F(HintsTest, AHintCountsAlsoWhenTheStatementIsKnownWithoutIt) {
  open();
  EXPECT_EQ(types(ask(query("SELECT v FROM t WHERE id = 1"))), "C Z:I");
  EXPECT_EQ(types(ask(query("/* tessera: shard=s1 */ SELECT v FROM t WHERE id = 2"))), "C Z:I");
  EXPECT_EQ(types(ask(query("/* tessera: key=100 */ SELECT v FROM t WHERE id = 3"))), "C Z:I");
  EXPECT_EQ(types(ask(query("SELECT v FROM t WHERE id = 4"))), "C Z:I");
  EXPECT_THAT(asked(0), ElementsAre("SELECT v FROM t WHERE id = 1", "SELECT v FROM t WHERE id = 4"));
  EXPECT_THAT(asked(1), ElementsAre("/* tessera: shard=s1 */ SELECT v FROM t WHERE id = 2",
                                    "/* tessera: key=100 */ SELECT v FROM t WHERE id = 3"));
}

TEST_F(HintsTest, AReloadThatForbidsThemConcernsSessionsThatAreOpen) {
  open();
  EXPECT_EQ(types(ask(query("/* tessera: shard=s1 */ SELECT v FROM t WHERE id = 1"))), "C Z:I");
  const std::shared_ptr<const Runtime> without = build_runtime(config_with(""), runtime_.get()).value();
  lane_.on([&] { database_->reconfigure(without->databases.at("shop"), database_->routing()); });
  EXPECT_EQ(types(ask(query("/* tessera: shard=s1 */ SELECT v FROM t WHERE id = 2"))), "C Z:I");
  EXPECT_THAT(asked(1), ElementsAre("/* tessera: shard=s1 */ SELECT v FROM t WHERE id = 1"));
  EXPECT_THAT(asked(0), ElementsAre("/* tessera: shard=s1 */ SELECT v FROM t WHERE id = 2")) << "a comment, now";
}

TEST_F(DefaultShardTest, ATransactionThatHasAShardKeepsIt) {
  open();
  server_[0].answer("BEGIN", complete("BEGIN") + ready('T'));
  for (const char* sql : {"SELECT v FROM t WHERE id = 1", "SELECT * FROM pg_type"})
    server_[0].answer(sql, complete("OK") + ready('T'));
  EXPECT_EQ(types(ask(query("BEGIN") + query("SELECT v FROM t WHERE id = 1") + query("SELECT * FROM pg_type"), 3)),
            "C Z:T C Z:T C Z:T");
  EXPECT_EQ(types(ask(query("COMMIT"))), "C Z:I");
  EXPECT_THAT(asked(0), ElementsAre("BEGIN", "SELECT v FROM t WHERE id = 1", "SELECT * FROM pg_type", "COMMIT"));
  EXPECT_THAT(asked(1), IsEmpty());
}

}  // namespace
}  // namespace tessera::proxy
