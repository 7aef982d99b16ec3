"""Writes that concern several shards: what one plain server answers, and the rows that are left on both."""

import threading

import pytest
from gathered import SCHEMA, SHARDS, TABLES, two_databases
from harness import wire
from harness.tessera import database_config
from talk import code, errors, eventually, log_in, rows
from test_spanning_transactions import extended, told

MORE = """
create table kept (id bigint primary key, v text check (v <> 'bad'), n int default 7, tags text[]);
create table colors (code text primary key, name text, n int);
create table late (id bigint primary key, parent bigint references late deferrable initially deferred);
"""
ALL = {
    "kept": "select id, v, n, tags from kept",
    "colors": "select code, name, n from colors",
    "late": "select id, parent from late",
}


@pytest.fixture(scope="module")
def both(shards, new_database, tmp_path_factory):
    tables = {**TABLES, "kept": {"rule": "by_user", "key": "id"}, "late": {"rule": "by_user", "key": "id"}, "colors": {"reference": True}}
    with two_databases(shards, new_database, tmp_path_factory, SCHEMA + MORE, tables) as (through, one, proxy, database):
        yield through, one, proxy, database, shards(SHARDS)


@pytest.fixture
def pair(both):
    _, one, proxy, database, servers = both
    for server, name in [*((server, database) for server in servers)]:
        server.run("truncate kept, colors, late", name)
    one.execute("truncate kept, colors, late")
    with wire.connect(proxy.host, proxy.port, "app", database, "app") as sharded, wire.connect(one.info.host, one.info.port, "app", one.info.dbname, "app") as plain:
        yield sharded, plain


def same_rows(both, pair):
    """On both sides; and each copy of the reference table is the same."""
    database, servers = both[3], both[4]
    for query in ALL.values():
        assert told(pair[0].ask(wire.query(query))) == told(pair[1].ask(wire.query(query))), query
    copies = {server.run("select code, name, n from colors order by 1", database) for server in servers}
    assert len(copies) == 1, copies


LATE = "insert into late values " + ", ".join(f"({i}, {{0}})" for i in range(100, 120))
MANY = "insert into kept (id, v) values " + ", ".join(f"({i}, 'v{i}')" for i in range(20))
SCRIPTS = {
    "rows for all shards": [MANY, "insert into kept values (30, 'a', 1, '{x}'), (31, null, default, null), (32, 'it''s', 2 + 3, '{}')"],
    "rows that are returned in their order": [MANY + " returning id, v, n", "insert into kept (id, v) values (40, 'a'), (39, 'b'), (38, 'c'), (41, 'd') returning *"],
    "a conflict": [MANY, "insert into kept (id, v) values (100, 'x'), (5, 'y'), (101, 'z')", "insert into kept (id, v) values (100, 'x'), (5, 'y'), (101, 'z') on conflict do nothing", "insert into kept (id, v) values (5, 'new'), (6, 'new'), (200, 'n') on conflict (id) do update set v = excluded.v || kept.v returning id, v",
                   "insert into kept (id, v) values (5, 'new'), (6, 'new'), (5, 'again') on conflict (id) do update set v = excluded.v"],
    "a check": ["insert into kept (id, v) values (1, 'x'), (2, 'bad'), (3, 'z')", MANY, "update kept set v = 'bad' where n = 7", "update kept set v = 'bad' where id = 19 or id = 3"],
    "updates": [MANY, "update kept set v = v || '!' where v > 'v15'", "update kept set n = n + 1", "update kept set n = 0 where id in (1, 2, 3, 999)", "update kept set v = null where v = 'nothing'", "update kept set n = 3 where id between 5 and 9 returning id, n, v", "update kept as k set tags = array[k.v] where k.n = 3"],
    "deletes": [MANY, "delete from kept where id in (1, 2, 3)", "delete from kept where v like 'v1%' returning id, v", "delete from kept", "delete from kept"],
    "with other tables": [MANY, "insert into colors values ('v1', 'one', 1), ('v2', 'two', 2)", "update kept set n = c.n * 100 from colors c where c.code = kept.v", "delete from kept using colors c where c.code = kept.v returning kept.id, c.name", "update kept set n = 1 where exists (select from orders o where o.user_id = kept.id)",
                          "delete from kept where not exists (select from users u where u.id = kept.id and u.country is not null)"],
    "an error on one undoes it on all": [MANY, "update kept set n = 10 / (id - 7)", "delete from kept where 1 / (id - 3) > -1000", "insert into kept (id, v, n) values (50, 'a', 1), (51, 'b', 1 / (1 - 1)), (52, 'c', 1)"],
    "in a transaction": ["begin", MANY, "update kept set n = 5 where v > 'v15'", "savepoint a", "delete from kept", "select count(*) from kept", "rollback to a", "select count(*), sum(n) from kept", "commit"],
    "in a transaction that fails": ["begin", MANY, "update kept set n = 10 / (id - 7)", "select 1", "commit"],
    "rolled back": [MANY, "begin", "update kept set v = 'never'", "delete from kept where id < 10", "rollback"],
    "a reference table": ["insert into colors values ('r', 'red', 1), ('g', 'green', 2), ('b', 'blue', null)", "insert into colors values ('r', 'again', 1)", "insert into colors (code, name) values ('r', 'new'), ('y', 'yellow') on conflict (code) do update set name = excluded.name returning *", "update colors set n = coalesce(n, 0) + 1",
                          "update colors set n = n where code = 'g' returning code, n", "delete from colors where code = 'b'", "begin", "delete from colors", "select count(*) from colors", "rollback", "truncate colors"],
    "a reference table in a transaction": ["begin", "insert into colors values ('r', 'red', 1)", "insert into kept (id, v) values (1, 'r'), (2, 'r'), (3, 'x')", "select k.id, c.name from kept k join colors c on c.code = k.v order by 1", "update colors set name = 'rot'", "select k.id, c.name from kept k join colors c on c.code = k.v order by 1", "commit"],
    "what only COMMIT finds": [LATE.format(999), "insert into late values (1, 1), (2, 2), (3, 3), (4, 4)", "begin", LATE.format(999), "select count(*) from late", "commit", "begin", "update late set parent = 999", "commit", "update late set parent = 999"],
    "what is wrong": ["insert into kept (id, v) values (1, 'a'), (2, 'b', 3)", "insert into kept (id, nothing) values (1, 'a'), (2, 'b')", "update kept set nothing = 1", "delete from kept where nothing", "insert into kept (id, n) values (1, 'x'), (2, 'y')", "update kept set n = 'x'"],
    "rows of one statement on one shard": ["insert into kept (id, v) values (1, 'a')", "update kept set v = 'b' where id = 1", "delete from kept where id = 1"],
}


@pytest.mark.parametrize("script", SCRIPTS.values(), ids=SCRIPTS)
@pytest.mark.parametrize("how", ["simple", "extended"])
def test_as_one_server(both, pair, script, how):
    for statement in script:
        message = wire.query(statement) if how == "simple" else extended(statement) + wire.SYNC
        answers = [told(connection.ask(message)) for connection in pair]
        assert answers[0] == answers[1], statement
    same_rows(both, pair)


def test_rows_come_back_in_the_order_of_the_statement(both, pair):
    order = [7, 3, 19, 1, 12, 5, 0, 18]
    values = ", ".join(f"({i}, 'x')" for i in order)
    assert rows(pair[0].ask(wire.query(f"insert into kept (id, v) values {values} returning id"))) == [[str(i)] for i in order]


@pytest.mark.parametrize("types", [(), (20, 25, 20, 25, 20, 25)])
def test_parameters(both, pair, types):
    """As drivers send bulk inserts: each value a parameter of its own, typed or not, in text and binary."""
    insert = wire.parse("insert into kept (id, v) values ($1, $2), ($3, $4), ($5, $6) on conflict (id) do update set v = $6 returning id, v, n", "s", types)
    for connection in pair:
        connection.ask(insert, wire.describe_statement("s"), wire.SYNC)
    for first in (0, 3, 100, 1, 3):
        parameters = [value for i in range(first, first + 3) for value in (str(i).encode(), f"v{i}".encode() if i % 2 else None)]
        answers = [told(connection.ask(wire.bind(parameters, name="s"), wire.execute(), wire.SYNC)) for connection in pair]
        assert answers[0] == answers[1] or (not types and answers[0][0] == "0A000")
    if types:
        same_rows(both, pair)
    plain = wire.parse("insert into kept (id, v) values ($1, $2), ($3, $4), ($5, $6) returning id, v", "p", types)
    for connection in pair:
        connection.ask(plain, wire.SYNC)
        connection.ask(wire.query("delete from kept"))
    parameters = [b"1000", b"a", b"1001", None, b"1002", b"c"]
    answers = [told(connection.ask(wire.bind(parameters, name="p", result_formats=(1, 0)), wire.describe_portal(), wire.execute(), wire.SYNC)) for connection in pair]
    assert answers[0] == answers[1]
    for connection in pair:
        assert len(rows(connection.ask(wire.query("select id from kept")))) == 3
    update = wire.parse("update kept set v = $2 where id > $1", "u")
    for connection in pair:
        connection.ask(update, wire.describe_statement("u"), wire.SYNC)
    answers = [told(connection.ask(wire.bind([b"1000", b"new"], name="u"), wire.describe_portal(), wire.execute(), wire.SYNC)) for connection in pair]
    assert answers[0] == answers[1]
    same_rows(both, pair)


def test_what_follows_in_its_pipeline_is_part_of_its_transaction(both, pair):
    """One implicit transaction up to Sync, as on one server."""
    for units in (["insert into kept (id, v) values (1, 'a'), (2, 'b'), (3, 'c'), (4, 'd')", "update kept set v = 'x' where id = 1"], ["delete from kept where n = 7", "select 1 / 0"], ["update kept set v = 'y'", "insert into kept (id, v) values (1, 'again')"]):
        answers = [told(connection.ask(b"".join(extended(statement) for statement in units) + wire.SYNC)) for connection in pair]
        assert answers[0] == answers[1], units
        same_rows(both, pair)


def test_a_simple_query_in_the_middle_of_its_unit_is_refused(both, pair):
    """Nothing is left of either, and the session goes on."""
    sharded, _ = pair
    sharded.ask(wire.query(MANY))
    for query in ("select 1", "update kept set v = 'never' where id = 1", "delete from kept", "begin"):
        replies = sharded.ask(extended("update kept set v = 'never'") + wire.query(query))
        assert code(replies) == "0A000" and sharded.status == "I", query
        assert rows(sharded.ask(wire.query("select id from kept where v = 'never'"))) == []


def test_copies_stay_the_same_under_load(both, pair):
    """Clients that write the same rows of a reference table at the same time: all copies end up the same."""
    _, _, proxy, database, servers = both
    pair[0].ask(wire.query("insert into colors select 'c' || i, 'x', 0 from generate_series(1, 20) i"))
    problems = []

    def work(number):
        with log_in(proxy, database, timeout=60) as connection:
            for i in range(25):
                statement = f"update colors set name = name || '{number}', n = n + 1 where code = 'c{1 + (number + i) % 20}'" if i % 3 else f"update colors set n = n + 1, name = '{number}-{i}'"
                if found := errors(connection.ask(wire.query(statement))):
                    problems.append(found)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert problems == []
    copies = {server.run("select code, name, n from colors order by 1", database) for server in servers}
    assert len(copies) == 1


def test_it_can_be_forbidden(shards, new_database, tessera):
    four = shards(SHARDS)
    database = new_database(four, "create table kept (id bigint primary key, v text)")
    rule = {"type": "hash", "shards": [f"s{i}" for i in range(SHARDS)]}
    proxy = tessera({"databases": {database: database_config(four, database, cross_shard_transactions="single_shard", rules={"r": rule}, tables={"kept": {"rule": "r", "key": "id"}})}})
    with log_in(proxy, database) as connection:
        for statement in ("insert into kept values (1, 'a'), (2, 'b'), (3, 'c'), (4, 'd')", "update kept set v = 'x'", "delete from kept"):
            assert code(connection.ask(wire.query(statement))) == "0A000" and connection.status == "I"
        assert code(connection.ask(wire.query("insert into kept values (1, 'a')"))) is None
        eventually(lambda: rows(connection.ask(wire.query("select id from kept"))) == [["1"]])
