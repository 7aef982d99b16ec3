// Sources of functions, and whether what they do outlives the transaction.
#include "router/session_code.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace tessera::router {
namespace {

using testing::UnorderedElementsAre;

bool judged(std::string_view source) {
  return changes_session(source, [](std::string_view, bool) {});
}

TEST(SessionCode, WhatOutlivesTheTransaction) {
  for (const char* source : {
           "begin perform pg_advisory_lock(1); end",
           "select pg_catalog.pg_try_advisory_lock_shared(1, 2)",
           "select \"pg_advisory_lock\"(1)",
           "begin perform set_config('work_mem', '7MB', false); end",
           "select set_config(a, b, c)",
           "select set_config('a', f(true, 'x'), is_local)",
           "begin set work_mem = '7MB'; end",
           "begin\n  -- why\n  SET /* a */ work_mem = '7MB'; end",
           "set datestyle = 'German'",
           "begin if a then set role guest; else reset role; end if; end",
           "begin set session characteristics as transaction read only; end",
           "begin loop reset all; end loop; end",
           "begin create temp table t (a int); end",
           "begin create temporary table if not exists t as select 1; drop table x; end",
           "create or replace temp view v as select 1",
           "create local temp sequence s",
           "select a into temp t from u",
           "begin create temp table t (a int); create temp table u (a int) on commit drop; end",
           "begin listen news; end",
           "begin unlisten news; end",
           "begin load 'x'; end",
           "begin prepare p as select 1; end",
           "declare c cursor with hold for select 1",
           "create table pg_temp.t (a int)",
           "insert into \"pg_temp\".t values (1)",
           "update pg_settings set setting = 'x'",
           "update pg_catalog.pg_settings set setting = 'x'",
           "begin execute code; end",
           "begin execute 'set work_mem = 1'; end",
           "begin execute 'select pg_advisory_lock(' || quote_literal(key) || ')'; end",
           "begin execute 'select ' || code; end",
           "begin execute e'\\x73et work_mem = 1'; end",
           "begin execute $q$ listen x $q$; end",
           "begin execute format('set %I = %L', a, b); end",
           "begin execute format('%s', code); end",
           "begin execute format('select %I.%I()', a, b); end",
           "begin execute format(code, a); end",
           "begin for r in execute code loop null; end loop; end",
           "begin execute 'do $q$ begin set work_mem = 1; end $q$'; end",
           "begin do language plpgsql 'begin reset all; end'; end",
           "select query_to_xml('select 1', true, true, '')",
           "select 'not closed",
       })
    EXPECT_TRUE(judged(source)) << source;
}

TEST(SessionCode, WhatDoesNot) {
  for (const char* source : {
           "",
           "begin update t set a = 1 where id = 2; end",
           "begin update t\nset a = 1; insert into t values (1) on conflict (id) do update set a = 2; end",
           "merge into t using u on t.id = u.id when matched then update set a = 1",
           "begin set local work_mem = '7MB'; set constraints all deferred; set transaction read only; end",
           "begin perform set_config('work_mem', '7MB', true); end",
           "select pg_catalog.set_config('a'::text, f(1, false), true)",
           "select set_config('a', 'b', is_local => true)",
           "begin perform pg_advisory_xact_lock(1), pg_try_advisory_xact_lock_shared(2); end",
           "select pg_advisory_unlock(1)",
           "begin create temp table t (a int) on commit drop; insert into t values (1); end",
           "begin execute 'create temp table t (a int) on commit drop'; end",
           "begin execute 'create temp table ' || quote_ident(a) || '(a int) on commit drop'; end",
           "begin execute format('insert into %I.%I (a, b) values (%L, $1)', a, b, c) using x; end",
           "begin execute format('create table %I (a int)', a); end",
           "begin return query execute 'select a from t where id = $1' using id; end",
           "begin for r in execute format('select * from %1$I where a < 100 %% 3', a) loop null; end loop; end",
           "grant execute on function f to app; create trigger x before insert on t for each row execute function f()",
           "begin load := 1; reset := load; select case when a then load else reset end into temp from t; end",
           "begin raise notice 'Set the lock'; -- set work_mem = 1\n /* reset all */ end",
           "begin select count(*) into temp; end",
           "with prepared as (select 1) select * from prepared for update",
           "alter table t alter a set default 1; alter function f set work_mem = 1",
           "select a from (select 1 a) reset",
       })
    EXPECT_FALSE(judged(source)) << source;
}

TEST(SessionCode, CodeInStringsHasItsLimits) {
  std::string code = "set work_mem = 1";
  for (int depth = 0; depth < 100; ++depth)
    code = "execute $q" + std::to_string(depth) + "$" + code + "$q" + std::to_string(depth) + "$";
  EXPECT_TRUE(judged(code));
}

Catalog found(std::vector<CodeSource> sources) {
  Catalog catalog;
  find_session_code(sources, catalog);
  return catalog;
}

TEST(SessionCode, WhatCallsSuchCodeIsSuchCode) {
  const Catalog catalog =
      found({{"calls_caller", false, true, "begin perform caller(); end"},
             {"caller", false, true, "begin return s.\"Locks\"(1); end"},
             {"Locks", false, true, "select pg_advisory_lock(1)"},
             {"by_field", false, true, "select t.locks from t"},
             {"mentions", false, true, "select locks from t where caller = 1"},
             {"v", true, true, "select caller() as a"},
             {"w", true, true, "select a from v"},
             {"reads", false, true, "select count(*) from s.w"},
             {"snake", false, false, ""},
             {"itself", false, true, "select itself()"},
             {"dynamic", false, true, "begin execute format('select * from w where a = %L', b); end"}});
  EXPECT_THAT(catalog.session_functions,
              UnorderedElementsAre("calls_caller", "caller", "locks", "by_field", "reads", "snake", "dynamic"));
  EXPECT_THAT(catalog.session_views, UnorderedElementsAre("v", "w"));
  EXPECT_TRUE(catalog.is_session_function("Locks"));
}

TEST(SessionCode, ABlockIsJudgedByWhatItCalls) {
  const Catalog catalog =
      found({{"locks", false, true, "select pg_advisory_lock(1)"}, {"v", true, true, "select locks()"}});
  EXPECT_TRUE(runs_session_code("begin perform locks(); end", catalog));
  EXPECT_TRUE(runs_session_code("begin perform from v; end", catalog));
  EXPECT_TRUE(runs_session_code("begin set work_mem = 1; end", catalog));
  EXPECT_FALSE(runs_session_code("begin perform other(); end", catalog));
}

}  // namespace
}  // namespace tessera::router
