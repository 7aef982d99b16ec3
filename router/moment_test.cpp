#include "router/moment.hpp"

#include <gtest/gtest.h>

#include "parser/postgres/parse.hpp"
#include "router/default_value.hpp"

namespace tessera::router {
namespace {

TEST(Moment, TextsThatMeanTheMomentTheyAreReadAt) {
  for (const char* text : {"now", "NOW", " now ", "today", "Tomorrow", "yesterday 12:00", "today 04:05:06.7 am",
                           "tomorrow at 12:00 UTC", "{now,2024-01-01}", "[today,)", "{NULL,\"now\"}", "today+02"})
    EXPECT_TRUE(tells_moment(text)) << text;
  for (const char* text : {"", "then", "nowhere", "see you tomorrow", "2024-01-01", "now and then", "epoch", "infinity",
                           "at 12:00 utc", "know"})
    EXPECT_FALSE(tells_moment(text)) << text;
}

TEST(Moment, InLiteralsOfAStatement) {
  for (const char* sql : {"SELECT 'now'", "SELECT E'n\\x6fw'", "SELECT $$today$$", "SELECT '\\156ow'"})
    EXPECT_EQ(literal_of_moment(sql), 7u) << sql;
  for (const char* sql : {"SELECT now", "SELECT \"now\"", "SELECT 'a now b' -- 'now'", "SELECT 1"})
    EXPECT_FALSE(literal_of_moment(sql)) << sql;
}

TEST(DefaultValue, ByItsExpression) {
  Catalog catalog = Catalog::from_config({});
  catalog.loaded = true;
  catalog.functions["my_immutable"] = {'i', false, false, false, false};
  catalog.functions["my_stable"] = {'s', false, false, false, false};
  const auto judged = [&](const std::string& expression) {
    return judge_default(parser::postgres::parse("SELECT " + expression)->front(), expression, catalog);
  };
  for (const char* text : {"0", "'x'::text", "NULL::text", "upper('x'::text)", "my_immutable(1)", "CURRENT_USER",
                           "'{}'::jsonb", "'2024-01-01 00:00:00'::timestamp without time zone", "(1 + 2)"})
    EXPECT_EQ(judged(text), DefaultValue::steady) << text;
  for (const char* text : {"gen_random_uuid()", "random()", "(random() * (10)::double precision)"})
    EXPECT_EQ(judged(text), DefaultValue::per_row) << text;
  for (const char* text :
       {"now()", "CURRENT_TIMESTAMP", "CURRENT_DATE", "('now'::text)::date", "nextval('s'::regclass)", "my_stable(1)",
        "unheard_of()", "clock_timestamp()", "(now() - '1 day'::interval)", "pg_backend_pid()",
        "timezone('utc'::text, now())", "(gen_random_uuid())::text || now()", "txid_current()"})
    EXPECT_EQ(judged(text), DefaultValue::unsteady) << text;
}

}  // namespace
}  // namespace tessera::router
