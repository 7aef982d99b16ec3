"""Definitions that change on the servers themselves, past Tessera: a look at the catalog now and then finds them."""

import pytest
from harness import wire
from talk import config_of, errors, eventually, log_in, rows, value
from two_shards import RULES

SCHEMA = "create table t (id bigint primary key, v text)"
OTHER_WAY_ROUND = "truncate t; alter table t drop column id, add column id bigint primary key"


@pytest.fixture
def database(servers, new_database):
    return new_database(servers, SCHEMA)


def insert(connection, values):
    return errors(connection.ask(wire.query(f"insert into t values ({values})")))


def test_a_column_moved_on_the_servers_is_seen(tessera, servers, database):
    proxy = tessera(config_of(servers, database, catalog_interval="200ms", **RULES))
    with log_in(proxy, database) as connection:
        assert insert(connection, "1, 'low'") == []
        for server in servers:
            server.run(OTHER_WAY_ROUND, database)
        # By the old order 'x' is no bigint, so nothing is written until the new one is known.
        eventually(lambda: insert(connection, "'x', 500") == [])
        assert insert(connection, "'y', 5") == []
    assert servers[0].run("select v || id from t order by id", database).split() == ["y5"]
    assert servers[1].run("select v || id from t order by id", database).split() == ["x500"]


def test_all_workers_see_it(tessera, servers, database):
    proxy = tessera({**config_of(servers, database, catalog_interval="200ms", **RULES), "workers": 2})
    connections = [log_in(proxy, database) for _ in range(4)]
    for number, connection in enumerate(connections):
        assert insert(connection, f"{number}, 'low'") == []
    # Each time only one client is at work, also on the worker that has not read the catalog itself.
    for number, connection in enumerate(connections):
        for server in servers:
            server.run(("truncate t; alter table t drop column v, add column v text", OTHER_WAY_ROUND)[(number + 1) % 2], database)
        eventually(lambda: insert(connection, (f"{200 + number}, 'x'", f"'x', {200 + number}")[(number + 1) % 2]) == [])
    for connection in connections:
        connection.close()


def test_a_database_that_nobody_uses_is_left_in_peace(tessera, servers, database):
    proxy = tessera(config_of(servers, database, catalog_interval="100ms", pool={"idle_timeout": "500ms"}, **RULES))
    with log_in(proxy, database) as connection:
        assert insert(connection, "1, 'low'") == []
        there = f"select count(*) from pg_stat_activity where datname = '{database}' and backend_type = 'client backend'"
        eventually(lambda: servers[0].run(there).strip() == "0")
        assert value(connection, "select v from t where id = 1") == "low"


def test_a_table_made_after_the_start_is_known_soon(tessera, servers, new_database):
    name = new_database(servers)
    proxy = tessera(config_of(servers, name, **RULES))
    with log_in(proxy, name) as connection:
        assert insert(connection, "1, 'low'")[0]["C"] == "42P01"
        assert [row[4] for row in rows(connection.ask(wire.query("show tessera.topology")))] == ["not in force: the type of the key is not known"]
        for server in servers:
            server.run(f"{SCHEMA}; grant all on t to app", name)
        eventually(lambda: insert(connection, "1, 'low'") == [], what="a look at the catalog, a second after what was refused")
        assert insert(connection, "500, 'high'") == []
    assert [server.run("select id from t", name).split() for server in servers] == [["1"], ["500"]]


def test_a_reload_looks_at_the_catalog_at_once(tessera, servers, database):
    proxy = tessera({**config_of(servers, database, catalog_interval=0, **RULES), "workers": 1})
    with log_in(proxy, database) as connection:
        assert insert(connection, "1, 'low'") == []
        for server in servers:
            server.run(OTHER_WAY_ROUND, database)
        proxy.reload()
        eventually(lambda: insert(connection, "'x', 500") == [])


def test_a_table_whose_first_column_was_dropped_keeps_its_unique_indexes(tessera, servers, new_database):
    name = new_database(servers, "create table t (old int, id bigint primary key, v text unique); alter table t drop column old")
    with log_in(tessera(config_of(servers, name, **RULES)), name) as connection:
        refused = errors(connection.ask(wire.query("insert into t values (1, 'one') on conflict do nothing")))
        assert [error["C"] for error in refused] == ["0A000"], "the row in conflict, by v, could be on the other shard"
        assert errors(connection.ask(wire.query("insert into t values (1, 'one') on conflict (id) do nothing"))) == []


def test_a_statement_prepared_anew_has_the_types_of_today(tessera, servers, new_database):
    name = new_database(servers, f"{SCHEMA}; create table u (id bigint primary key, x int)")
    proxy = tessera({**config_of(servers, name, catalog_interval="200ms", pool={"size": 1}, default_shard="s0", **RULES), "workers": 1})
    asked = wire.parse("select 1 from u where x = $1", "s") + wire.describe_statement("s") + wire.SYNC

    def type_of_parameter(connection):
        (description,) = [reply for reply in connection.ask(asked) if reply.type == "t"]
        return int.from_bytes(description.body[2:], "big")

    with log_in(proxy, name) as first:
        assert type_of_parameter(first) == 23
        for server in servers:
            server.run("alter table u alter x type text", name)

        def renewed():
            with log_in(proxy, name) as other:
                return type_of_parameter(other) == 25

        eventually(renewed, what="the connection holds the statement as it was before")


def test_a_key_of_a_domain_is_one_of_the_type_beneath_it(tessera, servers, new_database):
    name = new_database(servers, "create domain id as bigint check (value > 0); create domain user_id as id; create domain code as varchar(3);"
                                 "create table t (id user_id primary key, v code); create table c (id code collate \"C\" primary key, v text)")
    rules = {"rules": {**RULES["rules"], "h": {"type": "hash", "shards": ["s0", "s1"]}},
             "tables": {"t": {"rule": "r", "key": "id", "key_type": "bigint"}, "c": {"rule": "h", "key": "id"}}}
    proxy = tessera(config_of(servers, name, **rules))
    with proxy.connect(name) as connection:
        connection.autocommit = True
        for key in (5, 150):
            connection.execute("insert into t values (%s, 'x')", [key])
            connection.execute(f"update t set v = 'y' where id = {key}")
            assert connection.execute("select v from t where id = %s", [key]).fetchall() == [("y",)]
            assert connection.execute(f"select v from t where id = '{key}'::user_id or id = %s", [key]).fetchall() == [("y",)]
        for number in range(20):
            connection.execute(f"insert into c values ('{number}', '{number}')")
            assert connection.execute("select v from c where id = %s", [str(number)]).fetchall() == [(str(number),)]
        assert errors(log_in(proxy, name).ask(wire.query("insert into t values (-5, 'x')")))[0]["C"] == "23514"
        # What the column cuts off is not certain here.
        assert errors(log_in(proxy, name).ask(wire.query("insert into c values ('abc ', 'x')")))[0]["C"] == "0A000"
    for server, expected in zip(servers, ("5", "150")):
        assert server.run("select id from t", name).split() == [expected]


def test_names_with_quotes_in_them(tessera, servers, new_database):
    name = new_database(servers, 'create table "a""b" (id bigint primary key, v text); create schema "s.""1"; create table "s.""1"."""" (id bigint primary key, v text)')
    tables = {'"a""b"': {"rule": "r", "key": "id"}, '"s.""1".""""': {"rule": "r", "key": "id"}}
    proxy = tessera(config_of(servers, name, rules=RULES["rules"], tables=tables))
    with log_in(proxy, name) as connection:
        for table in tables:
            for key in (5, 150):
                assert not errors(connection.ask(wire.query(f"insert into {table} values ({key}, 'x')")))
    for table in tables:
        assert [server.run(f"select id from {table}", name).split() for server in servers] == [["5"], ["150"]]
