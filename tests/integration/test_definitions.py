"""Definitions through Tessera: the answers of one plain server, and the same schema on each shard."""

import re
import subprocess
import threading
import time

import pytest
from harness import wire
from harness.postgres import BIN
from harness.tessera import Tessera, database_config
from talk import code, errors, rows
from test_spanning_transactions import extended, told

SHARDS = 3
TABLES = {
    "users": {"rule": "by_user", "key": "id"},
    "orders": {"rule": "by_user", "key": "user_id"},
    "logs": {"rule": "by_user", "key": "user_id"},
    "texts": {"rule": "by_text", "key": "t"},
    "colors": {"reference": True},
    "audit": {"shard": "s1"},
    "extra.items": {"rule": "by_user", "key": "id"},
    "heard": {"shard": "s1"},
}
USERS = "create table users (id bigint primary key, name text, color text)"
COLORS = "create table colors (code text primary key, name text not null)"
ORDERS = "create table orders (user_id bigint, id bigint, note text, primary key (user_id, id))"


RULES = {"by_user": {"type": "hash", "shards": [f"s{i}" for i in range(SHARDS)]}, "by_text": {"type": "range", "ranges": [{"below": "m", "shard": "s0"}, {"shard": "s1"}]}}


def proxy_of(servers, database, directory, **more):
    return Tessera({"databases": {database: database_config(servers, database, rules=RULES, default_shard="s2", **more)}}, directory)


@pytest.fixture(scope="module")
def both(shards, new_database, tmp_path_factory):
    servers, (plain,) = shards(SHARDS), shards(1)
    sharded, single = new_database(servers, ""), new_database([plain], "")
    with proxy_of(servers, sharded, tmp_path_factory.mktemp("definitions"), tables=TABLES, hints=True) as proxy:
        yield servers, sharded, plain, single, proxy


@pytest.fixture
def pair(both):
    """A connection through Tessera to a database with nothing in it, and one to a plain server."""
    servers, sharded, plain, single, proxy = both
    with wire.connect(proxy.host, proxy.port, "app", sharded, "app", timeout=30) as through, wire.connect("127.0.0.1", plain.port, "app", single, "app", timeout=30) as one:
        yield through, one, servers, sharded, plain, single, proxy
        for connection in (through, one):
            connection.ask(wire.query("rollback"))
            for statement in ("drop schema public cascade", "drop schema if exists extra cascade", "create schema public"):
                assert code(connection.ask(wire.query(statement))) is None, statement


def schema_of(server, database):
    """As pg_dump tells it, object by object."""
    dump = subprocess.run([BIN / "pg_dump", "--schema-only", "-h", server.directory, "-p", str(server.port), "-U", "postgres", database], capture_output=True, text=True, check=True).stdout
    lines = [line for line in dump.splitlines() if not re.match(r"--|SET |SELECT pg_catalog.set_config|\\(un)?restrict", line)]
    return {part.strip() for part in re.split(r";\n", "\n".join(lines)) if part.strip()}


def same_schema(pair, but=()):
    """The shards have what the plain server has, apart from statements that name one of `but`."""
    _, _, servers, sharded, plain, single, _ = pair
    def others(schema):
        return {part for part in schema if not any(re.search(rf"\b{name}\b", part) for name in but)}
    wanted = others(schema_of(plain, single))
    for server in servers:
        assert others(schema_of(server, sharded)) == wanted, server


SCRIPTS = {
    "tables": [USERS, COLORS, ORDERS, "alter table users add column age int default 7", "create index by_name on users (name)", "create unique index on orders (user_id, note)", "comment on table users is 'people'", "comment on column users.name is 'how they are called'",
               "alter table users alter column name set not null", "alter table users alter column age type bigint", "alter table users rename column color to colour", "alter table orders add constraint o check (note <> 'x')", "alter table orders drop constraint o"],
    "rows right behind": [USERS, "insert into users values (1, 'a', 'b'), (2, 'c', 'd'), (3, 'e', 'f'), (4, 'g', 'h')", "alter table users add column n int default 3", "insert into users values (5, 'i', 'j', 4)", "select * from users order by id", "alter table users drop column color",
                          "insert into users values (6, 'k', 5)", "select * from users order by id", "select name, n from users where id = 6", "drop table users", "select * from users where id = 1"],
    "in a transaction": ["begin", USERS, COLORS, "insert into users (id, name) values (1, 'a')", "create index on users (name)", "savepoint s", "alter table users add column x int", "rollback to s", "alter table users add column y int", "commit", "insert into users values (2, 'b', 'c', 3), (7, 'b', 'c', 3)", "select * from users order by id"],
    "rolled back": [USERS, "begin", "alter table users add column x int", "create table colors (code text)", "rollback", "insert into users values (1, 'a', 'b'), (2, 'b', 'c')", "select * from users order by id", COLORS],
    "an error undoes it on all": [USERS, "insert into users values (1, 'a', 'b'), (2, 'a', 'c'), (3, 'c', 'd'), (4, null, 'd')", "alter table users alter column name set not null", "begin", "alter table users add column x int", "alter table users add column x int", "select 1", "commit", "alter table nothing add column x int",
                                  "create table users (id bigint)", "create table if not exists users (id bigint)", "drop table if exists nothing"],
    "types and functions": ["create type mood as enum ('sad', 'ok')", "alter type mood add value 'happy' after 'ok'", "create domain cents as bigint check (value >= 0)", "create table users (id bigint primary key, mood mood, paid cents)", "create function twice(x bigint) returns bigint language sql immutable as 'select x * 2'",
                            "insert into users values (1, 'happy', 7), (2, 'sad', 8)", "select id, mood, twice(paid) from users order by id", "create or replace function twice(x bigint) returns bigint language sql immutable as 'select x * 3'", "select twice(paid) from users where id = 1", "drop function twice", "drop domain cents", "drop domain cents cascade", "drop type nothing"],
    "foreign keys": [COLORS, "create table users (id bigint primary key, color text references colors)", "create table orders (user_id bigint references users (id), id bigint, note text, primary key (user_id, id))", "create table logs (user_id bigint, order_id bigint, foreign key (user_id, order_id) references orders on delete cascade)",
                     "insert into colors values ('r', 'red')", "insert into users values (1, 'r'), (2, 'r'), (3, 'r')", "insert into users values (4, 'x')", "insert into orders values (1, 1), (2, 2), (3, 3)", "insert into orders values (9, 1)", "insert into logs values (1, 1), (2, 2)", "delete from orders where user_id in (1, 2)", "select count(*) from logs", "drop table users", "drop table users, orders, logs cascade"],
    "partitions": ["create table orders (user_id bigint, at date) partition by range (at)", "create table orders_23 partition of orders for values from ('2023-01-01') to ('2024-01-01')", "create table orders_24 partition of orders for values from ('2024-01-01') to ('2025-01-01')", "create index on orders (at)",
                   "insert into orders values (1, '2023-05-05'), (2, '2024-05-05'), (3, '2023-06-06')", "select * from orders_23 order by 1", "insert into orders values (1, '2025-05-05')", "drop table orders_23", "select * from orders order by 1"],
    "indexes": [USERS, "create index a on users (name)", "alter index a rename to b", "alter index b set (fillfactor = 70)", "comment on index b is 'x'", "reindex index b", "drop index b", "drop index b", "drop index if exists b", "create index concurrently c on users (color)", "drop index concurrently c", "create index concurrently on nothing (x)"],
    "truncate and lock": [USERS, COLORS, ORDERS, "insert into users values (1, 'a', 'b'), (2, 'c', 'd'), (3, 'c', 'd')", "insert into orders values (1, 1, 'x'), (2, 2, 'x'), (3, 3, 'x')", "lock table users", "begin", "lock table users in share mode", "truncate users", "select * from users", "rollback", "select count(*) from users",
                          "truncate users, orders", "select count(*) from users", "select count(*) from orders", "truncate nothing"],
    "maintenance": [USERS, "insert into users values (1, 'a', 'b'), (2, 'c', 'd'), (3, 'c', 'd')", "vacuum users", "analyze users", "vacuum (analyze)", "vacuum full users", "begin", "vacuum users", "rollback", "reindex table users", "cluster users using users_pkey", "analyze nothing", "begin", "analyze users", "commit"],
    "rights": [USERS, COLORS, "grant select on users to public", "revoke select on users from public", "grant select, insert on colors to postgres", "create schema extra", "grant usage on schema extra to public", "create table extra.t (x int)", "drop schema extra", "drop schema extra cascade"],
    "names that mean something else": [USERS, "create index by_name on users (name)", "alter table by_name rename to names", "alter table names set (fillfactor = 70)", "alter index users_pkey rename to users_key", "create view v as select id from users", "alter table v rename to w", "drop index users", "drop table names"],
    "constraints that change": [USERS, COLORS, "alter table users add constraint fk foreign key (color) references colors", "alter table users alter constraint fk deferrable initially deferred", "alter table users alter constraint nothing deferrable"],
    "what is made in the first schema": ["create schema extra", "create table extra.items (id bigint primary key, v text)", "insert into extra.items values (1, 'a'), (2, 'b'), (3, 'c'), (4, 'd')", "set search_path = public, extra", "create table items (id bigint, v text)", "insert into items values (100, 'mine')", "select * from items", "drop table items",
                                         "select * from items order by 1", "insert into items values (5, 'e'), (6, 'f'), (7, 'g')", "select * from extra.items order by 1", "set search_path = extra, public", "create table more (id bigint)", "insert into public.more values (1)", "reset search_path"],
    "values that all shards make alike": [USERS, COLORS, "insert into users values (1, 'a', 'b'), (2, 'c', 'd'), (3, 'e', 'f')", "insert into colors values ('r', 'red')", "alter table users add column n int default 7, add column u uuid default gen_random_uuid()", "alter table colors alter column name type text using upper(name)",
                                          "select id, n from users order by id", "select count(distinct u) from users", "select * from colors"],
    "triggers": [USERS, "create function shout() returns trigger language plpgsql as $$ begin new.name := upper(new.name); return new; end $$", "create trigger shouting before insert or update on users for each row execute function shout()", "insert into users values (1, 'a', 'b'), (2, 'c', 'd')", "select * from users order by id",
                 "alter table users disable trigger shouting", "update users set name = 'x'", "select * from users order by id", "drop trigger shouting on users"],
    "notices": [USERS, "drop table if exists nothing, users", "create table if not exists colors (code text primary key)", "create table if not exists colors (code text primary key)"],
    "what is wrong": ["create table users (id bigint, x nothing)", "create table users (id bigint, id bigint)", "create tabel users ()", USERS, "alter table users add column x nothing", "alter table users drop column nothing", "create index on users (nothing)", "comment on column users.nothing is 'x'"],
}
ELSEWHERE = ("extra",)


@pytest.mark.parametrize("script", SCRIPTS.values(), ids=SCRIPTS)
@pytest.mark.parametrize("how", ["simple", "extended"])
def test_as_one_server(pair, script, how):
    for statement in script:
        message = wire.query(statement) if how == "simple" else extended(statement) + wire.SYNC
        answers = [told(connection.ask(message)) for connection in pair[:2]]
        assert answers[0] == answers[1], statement
    same_schema(pair, ELSEWHERE)


def test_notices_come_once(pair):
    for connection in pair[:2]:
        connection.ask(wire.query(COLORS))
    for statement in ("drop table if exists nothing cascade", "create table if not exists colors (code text)"):
        notices = [[wire.error_fields(reply.body)["C"] for reply in connection.ask(wire.query(statement)) if reply.type == "N"] for connection in pair[:2]]
        assert notices[0] == notices[1] and len(notices[0]) == 1


def test_each_to_its_place(pair):
    """What is on one shard is defined there, a view where its tables are."""
    through, _, servers, database = pair[:4]
    for statement in (COLORS, "create table audit (what text, color text references colors)", "create table stray (x int)", "create view reds as select * from colors where code = 'r'", "create view heard as select what, name from audit left join colors on color = code", "create sequence numbers",
                      "insert into audit values ('x')", "create view sums as select count(*) from stray", "create view constant as select 1 as one"):
        assert code(through.ask(wire.query(statement))) is None, statement
    there = [set(server.run("select relname from pg_class where relkind in ('r', 'v', 'S') and relnamespace = 'public'::regnamespace", database).split()) for server in servers]
    assert there == [{"colors", "reds"}, {"colors", "reds", "audit", "heard"}, {"colors", "reds", "stray", "numbers", "sums", "constant"}]
    assert rows(through.ask(wire.query("select * from heard"))) == [["x", None]]
    assert rows(through.ask(wire.query("select * from reds union all select 'n', one::text from constant"))) == [["n", "1"]]
    for statement in ("grant select on reds to public", "comment on view heard is 'x'", "drop view reds, heard", "drop view reds", "drop view heard", "alter sequence numbers restart 7", "drop sequence numbers", "drop table audit", "alter table stray add y int"):
        expected = "0A000" if statement == "drop view reds, heard" else None
        assert code(through.ask(wire.query(statement))) == expected, statement


REFUSED = {
    "a unique constraint over shards": "create table users (id bigint, name text unique)",
    "a primary key over shards": "create table orders (user_id bigint, id bigint primary key)",
    "a unique index over shards": "create unique index on made (lower(color))",
    "an exclusion over shards": "alter table made add constraint e exclude using hash (name with =)",
    "a foreign key to rows of other shards": "create table orders (user_id bigint, id bigint, boss bigint references made (id))",
    "a foreign key from a reference table": "create table colors (code text primary key, owner bigint references made (id))",
    "a foreign key to one shard": "create table orders (user_id bigint, stray int references stray (x))",
    "a foreign key from one shard": "create table audit (id bigint references made (id))",
    "another type of the key": "alter table made alter column id type int",
    "a key that goes": "alter table made drop column id",
    "a key with another name": "alter table made rename column id to number",
    "a table with another name": "alter table made rename to made2",
    "a table in another schema": "alter table made set schema pg_catalog",
    "a key that cannot be one": "create table users (id json)",
    "a table without its key": "create table users (name text)",
    "ranges of texts in an order that is not bytewise": "create table texts (t text)",
    "a rule": "create rule r as on insert to made do instead nothing",
    "a database": "create database more",
    "tables of different places": "drop table made, stray",
    "a view that nobody would find": "create view v as select from audit",
    "a view over shards and one of them": "create view v as select from made, stray",
    "rows of several shards as a table": "create table copied as select * from made",
    "an index's name that is a table's": "alter index made rename to made2",
    "a view of a listed name": "create view users as select 1 as x",
    "a sequence of a listed name": "create sequence colors",
    "a foreign table of a listed name": "create foreign table users (id bigint) server s",
    "rows of a listed name": "create table users as select 1 as x",
    "rows into a listed name": "select 1 as x into users",
    "a materialized view of a listed name": "create materialized view users as select 1 as x",
    "a table that gets a listed name": "alter table stray rename to users",
    "a table that gets a listed schema and name": "alter table items set schema extra",
    "a table like one without the key": "create table orders (like made)",
    "numbers of each shard's own": "alter table made add column number bigserial",
    "an identity of each shard's own": "alter table made add column number int generated always as identity",
    "a moment of each shard's own": "alter table made add column at timestamptz default now()",
    "values of each copy's own": "alter table kinds add column u uuid default gen_random_uuid()",
    "types by values of each copy's own": "alter table kinds alter column name type text using random()::text",
}


@pytest.fixture(scope="module")
def made(shards, new_database, tmp_path_factory):
    servers = shards(SHARDS)
    database = new_database(servers, "create table made (id bigint primary key, name text, color text); create table kinds (name text)")
    servers[2].run("create table stray (x int primary key); create table items (id bigint)", database)
    with proxy_of(servers, database, tmp_path_factory.mktemp("refused"), tables={**TABLES, "made": {"rule": "by_user", "key": "id"}, "kinds": {"reference": True}}) as proxy:
        yield servers, database, proxy, [schema_of(server, database) for server in servers]


@pytest.mark.parametrize("statement", REFUSED.values(), ids=REFUSED)
def test_refused_by_name(made, statement):
    """Nothing is left of it anywhere."""
    servers, database, proxy, before = made
    with wire.connect(proxy.host, proxy.port, "app", database, "app") as through:
        replies = through.ask(wire.query(statement))
        assert code(replies) == "0A000", replies
        assert wire.error_fields(next(reply.body for reply in replies if reply.type == "E")).get("H")
        assert code(through.ask(wire.query("select count(*) from made"))) is None
    assert [schema_of(server, database) for server in servers] == before


@pytest.mark.parametrize("statement", ["create table x as select * from users", "explain create table x as select * from users", "create materialized view x as select * from users", "create temp view x as select * from users", "create temp table x (like users)", "create temp table x (a int references users)", "select * from extra.items"])
def test_a_table_that_is_not_there_yet(pair, statement):
    """It is listed, and its key's type is not known: an error as one server's, and the process lives."""
    for connection in pair[:2]:
        replies = connection.ask(wire.query(statement))
        assert code(replies) == "42P01" and code(connection.ask(wire.query("select 1"))) is None
    named = "extra.items" if "extra" in statement else "users"
    fields = wire.error_fields(next(reply.body for reply in pair[0].ask(wire.query(statement)) if reply.type == "E"))
    assert fields["M"] == f'relation "{named}" does not exist'


def test_temporary_tables_with_one_that_is_not_there_yet(pair):
    _, _, servers, database, _, _, proxy = pair
    with wire.connect(proxy.host, proxy.port, "app", database, "app") as through:
        for statement, expected in (("create temp table users (x int primary key)", None), ("drop table users, logs", "42P01"), ("create table logs (user_id int references users)", "0A000"), (USERS, "0A000"), ("drop table users", None)):
            assert code(through.ask(wire.query(statement))) == expected, statement
    assert [server.run("select count(*) from pg_class where relname in ('users', 'logs')", database).strip() for server in servers] == ["0"] * SHARDS


def test_what_differs_is_told_with_its_shard(pair):
    through, _, servers, database = pair[:4]
    through.ask(wire.query(USERS))
    servers[1].run("alter table users add column x int", database)
    replies = through.ask(wire.query("alter table users add column x int"))
    fields = wire.error_fields(next(reply.body for reply in replies if reply.type == "E"))
    assert fields["C"] == "42701" and "shard s1" in fields["D"]
    assert [server.run("select count(*) from pg_attribute where attrelid = 'users'::regclass and attname = 'x'", database).strip() for server in servers] == ["0", "1", "0"]
    replies = through.ask(wire.query("vacuum (analyze) users"))
    assert code(replies) is None
    servers[2].run("drop table users", database)
    replies = through.ask(wire.query("vacuum users"))
    fields = wire.error_fields(next(reply.body for reply in replies if reply.type == "E"))
    assert fields["C"] == "42P01" and "shard s2; it has been done on s0, s1" in fields["D"], fields


def test_another_session_sees_it(pair):
    """Not only who has defined it, and without a wait for the next look at the catalog."""
    through, _, _, database, _, _, proxy = pair
    with wire.connect(proxy.host, proxy.port, "app", database, "app") as other:
        assert code(other.ask(wire.query("insert into users values (1, 'a', 'b')"))) == "42P01"
        through.ask(wire.query(USERS))
        through.ask(wire.query("select 1"))
        assert errors(other.ask(wire.query("insert into users values (1, 'a', 'b'), (2, 'a', 'b')"))) == []
        through.ask(wire.query("alter table users add column x int"))
        through.ask(wire.query("select 1"))
        assert errors(other.ask(wire.query("insert into users values (3, 'a', 'b', 7), (4, 'a', 'b', 8)"))) == []
        assert rows(other.ask(wire.query("select * from users where id = 4"))) == [["4", "a", "b", "8"]]


@pytest.mark.parametrize("first", ["truncate users", "lock table users", "alter table users add column x int"])
def test_a_gather_does_not_wait_for_its_own_transaction(pair, first):
    """Its merge node is not part of that: it is refused, and works again afterwards."""
    through = pair[0]
    through.ask(wire.query(USERS))
    for statement, expected in (("begin", None), ("select count(*) from users", None), (first, None), ("select count(*) from users", "0A000"), ("rollback", None), ("begin", None), ("select count(*) from users", None), ("commit", None)):
        assert code(through.ask(wire.query(statement))) == expected, statement


def test_what_does_not_fit_the_rules_is_told_inside_its_transaction(pair):
    """A key that only the new catalog shows to be unfit: nothing is planned by guess, and ROLLBACK makes all good."""
    through = pair[0]
    assert code(through.ask(wire.query("create type shape as (id json)"))) is None
    for statement, expected in (("begin", None), ("create table users of shape", None), ("select 1", "it does not fit"), ("select 1", "25P02"), ("rollback", None), ("select 1", None)):
        assert (code(through.ask(wire.query(statement))) is None) == (expected is None), statement
    assert code(through.ask(wire.query(USERS))) is None


@pytest.mark.parametrize("how", ["simple", "several rows", "several rows, extended"])
def test_rows_never_go_by_columns_of_old(pair, how):
    """An INSERT that names no columns, planned when the key stood elsewhere, and run when it does no more."""
    through, _, servers, database, _, _, proxy = pair
    assert code(through.ask(wire.query("create table orders (note text, user_id bigint, id bigint, primary key (user_id, id))"))) is None
    with wire.connect(proxy.host, proxy.port, "app", database, "app", timeout=30) as other:
        values = "(1, 2, 30)" if how == "simple" else "(1, 2, 30), (4, 5, 60)"
        message = extended(f"insert into orders values {values}") + wire.SYNC if "extended" in how else wire.query(f"insert into orders values {values}")
        for statement in ("begin", "alter table orders drop column note, add column extra bigint"):
            assert code(through.ask(wire.query(statement))) is None
        other.send(message)
        time.sleep(0.3)
        assert code(through.ask(wire.query("commit"))) is None
        assert code(other.read_until("Z")) in ("42703", "0A000")
    assert rows(through.ask(wire.query("select count(*) from orders"))) == [["0"]]
    assert code(through.ask(wire.query("insert into orders values (1, 2, 3), (2, 2, 3), (3, 2, 3), (4, 2, 3)"))) is None
    assert [rows(through.ask(wire.query(f"select id from orders where user_id = {key}"))) for key in (1, 2, 3, 4)] == [[["2"]]] * 4


def test_places_of_errors_are_the_clients(pair):
    """Behind the columns that Tessera names."""
    for connection in pair[:2]:
        assert code(connection.ask(wire.query(ORDERS))) is None
    for statement in ("insert into orders values (1, 2, 'é' || nothing)", "insert into orders as o values (1, 2, 'x') returning nothing"):
        places = [wire.error_fields(connection.ask(wire.query(statement))[0].body)["P"] for connection in pair[:2]]
        assert places[0] == places[1], statement


@pytest.mark.parametrize("what", ["select count(*), max(name) from users", "select name from users order by id limit 3", "copy"])
def test_who_takes_locks_on_several_shards_takes_them_in_order(pair, what):
    """Readers that hold one shard and wait for another, while a definition does the same the other way round, would wait for ever."""
    through, _, _, database, _, _, proxy = pair
    assert code(through.ask(wire.query(USERS))) is None
    assert code(through.ask(wire.query("insert into users values (1, 'a', 'b'), (2, 'a', 'b'), (3, 'a', 'b'), (4, 'a', 'b')"))) is None
    done, failed = threading.Event(), []

    def reads():
        with wire.connect(proxy.host, proxy.port, "app", database, "app", timeout=30) as reader:
            while not done.is_set():
                try:
                    if what == "copy":
                        reader.send(wire.query("copy users from stdin"))
                        replies = reader.read_until("G", "Z")
                        if replies[-1].type == "G":
                            replies = reader.ask(wire.message("f", b"no\0"))
                    else:
                        replies = reader.ask(wire.query(what))
                except TimeoutError:
                    failed.append("a reader hangs")
                    return
                if code(replies) not in (None, "0A000", "42703", "57014"):  # its columns have changed meanwhile; CopyFail
                    failed.append(errors(replies))

    readers = [threading.Thread(target=reads) for _ in range(4)]
    for reader in readers:
        reader.start()
    try:
        for i in range(10):
            for change in (f"alter table users add column x{i} int", f"alter table users drop column x{i}"):
                replies = through.ask(wire.query(change))
                assert code(replies) is None, errors(replies)
    finally:
        done.set()
        for reader in readers:
            reader.join()
    assert not failed, failed[:3]
