"""What an attacker tried on queries over several shards: odd names, types, catalogs and settings."""

import psycopg
import pytest
from gathered import SCHEMA, SHARDS, TABLES, answer, two_databases
from harness import wire
from harness.tessera import Tessera, database_config
from talk import eventually, rows

MORE = """
create table ua (id int, d date, k char(5), n int, r real, "é" int, x xml, primary key (id));
create table ub (id int, d timestamp, k text, n numeric, r float8, "é" int, v text, primary key (id));
create type pt as (x int, y text);
create table uc (id int primary key, p pt, ps pt[], moods mood[], big text, rng int4range, c "char", nm name, m money, iv interval(0), b bit(5), ts tsvector, gen int generated always as (id * 2) stored);
create function imm(int) returns int language sql immutable as 'select $1 + 1';
"""
ROWS = [f"insert into ua values ({i}, '2024-01-01', 'ab', 1, 0.5, {i})" for i in range(1, 8)]
ROWS += [f"insert into ub values ({i}, '2024-01-01', 'ab', 1, 0.5, {i}, '漢')" for i in range(11, 18)]
ROWS += [f"insert into uc values ({i}, (1, 'a'), array[(1, 'x')::pt], '{{sad,ok}}', repeat('x', 30000), '[1,4)', 'c', 'nm', 3, '1 day', B'10101', to_tsvector('a b c'))" for i in range(1, 8)]


@pytest.fixture(scope="module")
def odd(shards, new_database, tmp_path_factory):
    tables = {**TABLES, **{name: {"rule": "by_user", "key": "id"} for name in ("ua", "ub", "uc")}}
    with two_databases(shards, new_database, tmp_path_factory, SCHEMA + MORE, tables) as (through, one, *_):
        for row in ROWS:
            through.execute(row)
            one.execute(row)
        yield through, one


EQUAL = [
    "with c as (select id, name from users) select (select count(*) from c), id from c where id = 3 order by 1",
    "with c as (select id, name from users) select id from c where id in (3, 4) union all select id from c",
    "select * from (select id, row_number() over (order by id) rn from users) s where id > 35 order by 1",
    "select * from (select id from users order by id limit 5) s where id > 2 order by 1",
    "select * from (select distinct on (country) country, id from users order by country, id) s where id > 2 order by 1",
    "select id from users group by id having id > 35 order by 1",
    "select id from users u where u.id = 3 or u.name = 'ann' order by 1",
    "select count(*) from users where \"country\" = 'DE' or country = 'FR  '",
    "select max(id) from uc where p = row(1,'a')::pt",
    "select id, p, ps, moods, rng, c, nm, m, iv, b, ts, gen from uc order by id",
    "select sum(length(big)) from uc",
    "select (p).x, (p).y from uc order by id",
    "select count(*) from\"users\"",
    "table only users order by id",
    "select count(*), imm(3) from users",
    "select lower from (select lower(name) from users) s order by 1",
    "select a.id from users a natural join users b order by 1",
    "select a.id from users a join users b using (id, name, country) order by 1",
    "with orders as (select id from users) select * from orders order by 1",
    "select s.x from (table users) s (x) order by 1",
    "select $$a'b$$, e'\\n', count(*) from users",
    "select count(*) from users where name > 'a' 'b'",
    "select count(*) from users where id > '3'",
    "select count(*) from users where id = 3.0 or id = 4",
    "select count(*) from users where id in (1, 2.0, 3)",
    "select count(*) from users where mood = 'sad' or mood = 'ok'",
    "select count(*) from users where mood > 'sad'",
    "select count(*) from orders where tags = '{a,NULL}' or tags = '{b,c}'",
    "select count(*) from orders where at > '2024-01-10' and at < 'infinity'",
    "select count(*) from users u left join orders o on o.id = u.id and u.id > 10 and o.amount > 1",
    "select count(*) from users u full join orders o on o.id = u.id and u.id > 10 and o.amount > 1",
    "select count(*) from users u left join orders o on o.id = u.id where o.amount > 1 or o.id is null",
    "select count(*) from users u where (select max(id) from orders o where o.user_id = 3) > 1",
    "select count(*) from (select from users) s",
    "select (select count(*) from users where false), (select min(id) from users)",
    "select u.name from users u where u.name = any ('{ann,Bob}') order by id",
    "select to_regclass('users')::text, 'users'::regclass::text, count(*) from users",
    "select pg_table_is_visible('users'::regclass), count(*) from users",
    "select has_table_privilege('users', 'select'), count(*) from users",
    "select xmlforest(u.name) from users u order by id limit 2",
    "select id, id as id from users order by 1, users.id limit 2",
    "select s from users, lateral (select users.name) s order by users.id",
    "select count(*) as \"é\" from users",
    "select count(*) from users group by grouping sets ((), ())",
    "select string_agg(name, ',' order by id) from users where id = any (array[1,2,3])",
    "select id from users where (id, boss) in ((1, 2), (3, 4)) or (id = 5 and boss is null) order by 1",
    "select json_agg(s) from (select id, name from users order by id limit 3) s",
    "select count(*) from (users cross join countries)",
    "select count(*) from ((users u cross join countries))",
    "select u.* from (users u join countries c on c.code = u.country) order by u.id",
    "select name from users order by name using >",
    "select exists (select from users where id > 10), count(*) from orders",
    "select id from users order by id offset 3 rows fetch next row only",
    "select unnest(array[u.id, u.boss]) from users u order by 1",
    "select pg_column_size(u.name), u.id from users u order by id limit 3",
    "select * from users where users.id = 1 union select * from users order by id limit 3",
    "select \"users\".\"id\" from users where exists (select 1 from orders where orders.id = users.id and \"users\".id > 3) order by 1",
    "select count(*) from ua join ub using (d) where d < '2024-01-01 12:00'",
    "select count(*) from ua join ub using (d) where d = '2024-01-01 00:00:00'",
    "select count(*) from ua join ub using (k) where k < 'ab '",
    "select count(*) from ua join ub using (n) where n = '1.0'",
    "select count(*) from ua join ub using (n) where n < '1.5'",
    "select count(*) from ua left join ub using (d) where d < '2024-01-01 12:00'",
    "select count(*) from ua right join ub using (d) where d < '2024-01-01 12:00'",
    "select count(*) from ua full join ub using (d) where d < '2024-01-01 12:00'",
    "select count(*) from ub join ua using (d) where d < '2024-01-01 12:00'",
    "select sum(\"é\") from ua where \"é\" > 2",
    "select U&\"\\00e9\" from ua order by id",
    "select user_id, count(*) as orders from orders group by user_id order by orders desc, 1",
    "select country as users, count(*) from users where users.id > 3 group by 1 order by users nulls first",
    "select o.orders, u.id from (select user_id as orders from orders) o join users u on u.id = o.orders order by 1, 2",
    "select name.id, name from users name order by name.id",
    "select count(name) from users name, countries c",
]


@pytest.mark.parametrize("query", EQUAL)
def test_the_rows_of_one_server(odd, query):
    through, one = odd
    expected = answer(one, query)
    assert answer(through, query) == expected


REFUSED = [
    "select o.to_jsonb from orders o order by o.user_id, o.id limit 2",
    "select o.row_to_json::text from orders o order by o.user_id, o.id limit 2",
    "select u.id from users u where u.num_nulls = 0 order by u.id limit 3",
    "select u.id from users u where u.pg_column_size > 5 order by u.id limit 3",
    "select to_jsonb(j) from (users u cross join countries c) j order by 1 limit 3",
    "select j from (users u cross join countries c) j order by 1 limit 3",
    "select x3 from (users u cross join settings s) as j (x1, x2, x3) order by 1 limit 5",
    "select x1, x2 from (users u join orders o on o.id = u.boss) as j (x1, x2) order by 1, 2 limit 5",
    "select current_setting('transaction_isolation'), count(*) from users",
    "select current_setting('transaction_read_only'), current_setting('synchronous_commit'), count(*) from users",
    "select current_schemas(true), count(*) from users",
    "select pg_my_temp_schema(), count(*) from users",
    "select count(*) from only (users)",
    "select count(*) from users *",
    "select array_agg(u order by id) from users u",
    "select users from users order by users.id limit 2",
    "select x from (users a join users b using (id)) as j (x) order by 1",
    "select x from users a join users b using (id) as x order by 1",
    "select to_jsonb(x) from users a join users b using (id) as x order by a.id limit 3",
    "with users as (select * from users where id < 5) select * from users order by id",
    "with users(a, b) as (table users) select a, b from users order by 1",
    "select ts_rewrite('a'::tsquery, 'select ''a''::tsquery, (''n'' || count(*))::tsquery from users'), count(*) from users",
    "select xmlelement(name foo, u)::text from users u order by id limit 2",
    "select (u.*)::text from users u order by id limit 2",
    "select u is null, u.* is not null from users u order by id limit 5",
    "select case when u.id > 5 then u end from users u order by id limit 8",
    "select (select u from users v where v.id = 3) from users u order by u.id limit 2",
    "select u.users from (select users from users) u order by 1 limit 2",
    "select (users).name from users order by id limit 3",
    "select count(*) from users, lateral (select users) s",
    "select f from users u, lateral row_to_json(u) f order by id limit 2",
    "select id as u, to_jsonb(u) from users u order by u",
    "select id as u from users u order by array[to_jsonb(1), to_jsonb(u)], u",
    "select id as u from users u order by (select count(*) from (select row_number() over (order by u)) s), u",
    "select user_id as orders, (orders).id from public.orders order by orders, 2",
    "select name from users name (a, b) order by name",
]


@pytest.mark.parametrize("query", REFUSED)
def test_what_would_mean_something_else_is_refused(odd, query):
    """…of copied rows. What the shards' own rows are merged for, or aggregated by the shards, has the one server's answer."""
    through, one = odd
    expected = answer(one, query)
    assert isinstance(expected, tuple), "one server has an answer"
    plan = [row[0] for row in through.execute("explain (tessera) " + query)]
    own = plan[0].startswith("merge sort") or any("tessera_part_1" in line for line in plan)
    assert answer(through, query) in ("0A000", *([expected] if own else []))


# The shards' catalogs differ in their numbers: each has types of its own before these.
OWN = """
create type mood as enum ('sad', 'ok', 'happy');
create type pt as (x int, m mood, ms mood[]);
create table t (id int primary key, n int, ms mood[], p pt, ps pt[], k char(3), m mood, v text);
create table t2 (id int primary key, n numeric, k text);
create table t3 (id numeric primary key, b text);
create table td (id date primary key, b text);
create table ts (id timestamp primary key, b text);
create table named (id int primary key, rc regclass);
create table refe (id int, w int, k varchar(5));
create function st(bigint, int) returns bigint language plpgsql volatile as $$begin return (select count(*) from t); end$$;
create aggregate seen(int) (sfunc = st, stype = bigint, initcond = '0');
create function row_to_json(t2) returns json language sql immutable as $$select '"mine"'::json$$;
"""
OWN_TABLES = {**{name: {"rule": "r", "key": "id"} for name in ("t", "t2", "t3", "td", "ts", "named")}, "refe": {"reference": True}}
OWN_ROWS = [
    "insert into t values ({0}, {0}, '{{sad,ok}}', (1, 'ok', '{{ok}}'), array[(1, 'ok', '{{ok}}')::pt], 'a', 'ok', '漢{0}')", "insert into t2 values ({0}, {0}, 'a')", "insert into t3 values ({0}, 'a')",
    "insert into td values ('2024-01-0{0}', 'a')", "insert into ts values ('2024-01-0{0}', 'a')", "insert into named values ({0}, 't')",
]


@pytest.fixture(scope="module")
def own(shards, new_database, tmp_path_factory):
    four, (plain,) = shards(SHARDS), shards(1)
    sharded, single = new_database(four), new_database([plain], OWN)
    for number, server in enumerate(four):
        with server.connect(sharded, user="app", password="app") as connection:
            for i in range(3 * number):
                connection.execute(f"create type other{i} as enum ('a')")
            connection.execute(OWN)
    for server, name in [(plain, single), *((server, sharded) for server in four)]:
        with server.connect(name, user="app", password="app") as connection:
            connection.execute("insert into refe values (1, 12, 'a'), (2, 99, 'b')")
    rule = {"type": "hash", "shards": [f"s{i}" for i in range(SHARDS)]}
    config = database_config(four, sharded, rules={"r": rule}, tables=OWN_TABLES, catalog_interval="500ms")
    with Tessera({"databases": {sharded: config}}, tmp_path_factory.mktemp("gather_own")) as proxy:
        through = psycopg.connect(host=proxy.host, port=proxy.port, user="app", password="app", dbname=sharded, autocommit=True)
        one = plain.connect(single, user="app", password="app")
        one.autocommit = True
        for i in range(1, 9):
            for row in OWN_ROWS:
                through.execute(row.format(i))
                one.execute(row.format(i))
        yield through, one, four, plain
        through.close()
        one.close()
    proxy.check_log()


EQUAL_OWN = [
    "select count(*) from t join t2 using (k) where k = 'a  '",
    "select count(*) from t join t2 using (k) where k < 'a '",
    "select count(*) from t2 join t using (k) where k < 'a '",
    "select count(*) from t full join t2 using (k) where k < 'a '",
    "select t.id, t2.id from t left join t2 on t2.id = t.n and t.id = 3 order by 1",
    "select (select count(*) from t where t.id > refe.id) from refe order by 1",
    "select id from refe where exists (select 1 from t where n = w - 9) order by 1",
    "select a, b from t2 as x (a, b, c) where b = 3 and a = 3 or a = 4 order by 1",
    "select max(x.n) from t x natural join t2 y",
    "select count(*) from t where n = 1 or n = 3000000000 or n = 99999999999999999999",
    "select count(*) from t where n = -1 or n = - 2 or n = +3",
    "select count(*) from t where n in (1, null)",
    "select count(*) from t where p = '(1,ok,{ok})'",
    "select count(*) from t3 join t using (id) where id = '1.0'",
    "select count(*) from td join ts using (id) where id < '2024-01-01 12:00'",
    "select count(*) from td join ts using (id) where id = '2024-01-01 12:00'",
    "select id, ms, p::text, ps::text from t order by id",
]


@pytest.mark.parametrize("query", EQUAL_OWN)
def test_types_that_have_other_numbers_on_each_shard(own, query):
    through, one, *_ = own
    expected = answer(one, query)
    assert answer(through, query) == expected


def test_parameters_of_types_that_have_other_numbers_on_each_shard(own):
    through, one, *_ = own
    for query, parameters in [("select count(*) from t where m = %s", ["ok"]), ("select count(*), max(%s::mood) from t where m = %s", ["sad", "ok"]), ("select count(*), max(%s::text) from t", ["x"])]:
        expected = answer(one, query, parameters)
        for _ in range(SHARDS + 1):  # every shard is the merge node
            assert answer(through, query, parameters) == expected


def test_what_each_shard_would_take_for_something_else_is_refused(own):
    through, one, *_ = own
    for query in ("select rc::text, count(*) from named group by 1", "select seen(n) from t", "select row_to_json(x) from t2 x limit 1", "select x::text from t2 x order by x.k limit 1"):
        assert answer(through, query) == "0A000", query
    merged = "select x::text from t2 x order by x.id limit 1"  # the shards' own rows
    assert answer(through, merged) == answer(one, merged)


def test_texts_travel_in_the_encoding_of_the_database_or_not_at_all(own):
    through, one, *_ = own
    for encoding in ("latin1", "sjis"):
        through.execute(f"set client_encoding = {encoding}")
        assert answer(through, "select count(distinct v) from t") == "0A000"
    through.execute("reset client_encoding")
    assert answer(through, "select count(distinct v) from t") == answer(one, "select count(distinct v) from t")


def test_columns_that_are_not_known_yet_or_differ(own):
    """The shards' own columns count: a query made for others is refused until the catalog has been read again."""
    through, one, four, plain = own
    query = "select id from refe where exists (select 1 from t where w = 5) order by 1"
    others = [(plain, one.info.dbname), *((server, through.info.dbname) for server in four)]
    for server, name in others[:-1]:
        with server.connect(name, user="app", password="app") as connection:
            connection.execute("alter table t add w int; update t set w = 5")
    for _ in range(SHARDS + 1):
        assert answer(through, "select count(*), max(n) from t, refe") == "0A000"
    with four[-1].connect(through.info.dbname, user="app", password="app") as connection:
        connection.execute("alter table t add w int; update t set w = 5")
    expected = answer(one, query)
    assert answer(through, query) in ("0A000", expected)
    eventually(lambda: answer(through, query) == expected, what="the new columns are known")


def test_an_idle_transaction_timeout_is_not_for_the_copies(own):
    through, one, *_ = own
    with wire.connect(through.info.host, through.info.port, "app", through.info.dbname, "app") as connection:
        connection.ask(wire.query("set idle_in_transaction_session_timeout = '1ms'"))
        for _ in range(20):
            assert rows(connection.ask(wire.query("select count(*) from t2"))) == [["8"]]
