"""What a session has done decides what its statements mean: paths, temporary tables, settings, prepared statements."""

import time

import pytest
from harness import wire
from harness.meddler import Harm, Meddler
from talk import ask, code, config_of, errors, eventually, log_in, rows, value

SCHEMA = """
create schema b; create schema other;
create table public.t (id int primary key, v text); create table b.t (id int primary key, v text); create table d (id int, v text);
insert into public.t select i, 'public' from generate_series(1, 4) i;
"""
RULES = {"rules": {"r": {"type": "range", "ranges": [{"below": "100", "shard": "s0"}, {"shard": "s1"}]}},
         "tables": {"public.t": {"reference": True}, "b.t": {"rule": "r", "key": "id"}}}


@pytest.fixture
def database(servers, new_database):
    name = new_database(servers, SCHEMA)
    for number, server in enumerate(servers):
        server.run(f"insert into b.t values ({number * 100 + 1}, 'b')", name)
    return name


@pytest.fixture
def connection(tessera, servers, database):
    with log_in(tessera(config_of(servers, database, **RULES)), database) as connection:
        yield connection


def both(connection):
    """The rows of table t as the path has it: public.t has four on each shard, b.t one on either."""
    return len(ask(connection, "select id from t"))


def test_set_local_ends_with_its_transaction(connection):
    assert both(connection) == 4
    ask(connection, "begin")
    ask(connection, "set local search_path = b")
    assert ask(connection, "select v from t where id = 101") == [["b"]]
    ask(connection, "rollback")
    assert both(connection) == 4
    ask(connection, "begin")
    ask(connection, "savepoint a")
    ask(connection, "set local search_path = b")
    ask(connection, "rollback to a")
    assert ask(connection, "select count(*) from t") == [["4"]]
    ask(connection, "commit")


def test_set_config_is_a_set(connection):
    assert ask(connection, "select set_config('search_path', 'b', false)") == [["b"]]
    assert both(connection) == 2
    replies = connection.ask(wire.parse("select set_config('search_path', $1, false)") + wire.bind([b"public"]) + wire.execute() + wire.SYNC)
    assert code(replies) is None and both(connection) == 4
    ask(connection, "select set_config('my.tenant', 'x', false)")
    ask(connection, "set search_path = b")
    for key in (1, 101):  # on both shards
        assert ask(connection, f"select current_setting('my.tenant', true) from t where id = {key}") == [["x"]], key
    assert ask(connection, "select set_config('search_' || 'path', 'public', false)") == "0A000"


def test_a_setting_that_a_server_may_not_have(connection):
    """As pg_dump asks for one."""
    assert ask(connection, "SELECT set_config(name, 'b', false) FROM pg_settings WHERE name = 'search_path'") == [["b"]]
    assert both(connection) == 2
    assert ask(connection, "select pg_catalog.set_config(name, 'public', false) from pg_catalog.pg_settings where name = 'search_path'") == [["public"]]
    for unknown in ("restrict_nonsystem_relation_kind_x", "Search_Path"):
        assert ask(connection, f"select set_config(name, 'b', false) from pg_settings where name = '{unknown}'") == []
    ask(connection, "begin; rollback")
    assert both(connection) == 4
    for other in ("name like 'search_path'", "name = 'search_path' and random() < 1", "name in ('search_path')", "name = 'search_path' limit 1"):
        assert ask(connection, f"select set_config(name, 'b', false) from pg_settings where {other}") == "0A000"


def test_a_portal_that_is_not_read_to_its_end_has_set(connection):
    replies = connection.ask(wire.parse("select set_config('search_path', 'b', false)") + wire.bind() + wire.execute(limit=1) + wire.SYNC)
    assert code(replies) is None and replies[-2].type == "s" and both(connection) == 2


def test_names_are_not_planned_behind_what_changes_them(connection):
    assert len(ask(connection, "set search_path = b; select id from t")) == 2
    assert both(connection) == 2
    assert len(ask(connection, "begin; set local search_path = public; select id from t; rollback")) == 4
    assert ask(connection, "create temp table t (id int); select id from t") == []
    ask(connection, "drop table t; set search_path = public")
    assert both(connection) == 4
    assert ask(connection, "set work_mem = '1MB'; select id from t where id = 1") == [["1"]]


def test_a_prepared_statement_follows_the_path(connection):
    run = wire.bind(name="s") + wire.execute() + wire.SYNC
    assert len(rows(connection.ask(wire.parse("select id from t", "s") + run))) == 4
    ask(connection, "set search_path = b")
    assert len(rows(connection.ask(run))) == 2


@pytest.mark.parametrize("gone", [["create temp table t (x nosuchtype)"], ["begin", "create temp table t (x int)", "rollback"],
                                  ["begin", "create temp table t (x int) on commit drop", "commit"], ["create temp table t (x int)", "drop table t"],
                                  ["create temp table t (x int)", "discard temp"], ["create temp table t (x int)", "discard all", "set search_path = b"]])
def test_a_temporary_table_that_is_gone_hides_nothing(connection, gone):
    ask(connection, "set search_path = b")
    for statement in gone:
        ask(connection, statement)
    assert ask(connection, "select v from t where id = 101") == [["b"]] and ask(connection, "select v from t where id = 1") == [["b"]]


def test_a_temporary_table_that_is_there_hides_the_other(connection):
    ask(connection, "set search_path = b")
    ask(connection, "create temp table t (id int)")
    ask(connection, "insert into t values (7)")
    assert ask(connection, "select id from t") == [["7"]]
    assert ask(connection, "select v from b.t where id = 101") == [["b"]]
    assert ask(connection, "select id from t") == [["7"]]


def test_literals_are_read_under_the_settings_of_their_session(tessera, servers, database):
    proxy = tessera(config_of(servers[:1], database, pool={"size": 1}))
    unit = wire.parse("select '02/03/2024'::date - '2024-01-01'::date", "s") + wire.bind(name="s") + wire.execute() + wire.SYNC
    with log_in(proxy, database, parameters={"DateStyle": "ISO, MDY"}) as american, log_in(proxy, database, parameters={"DateStyle": "ISO, DMY"}) as other:
        assert rows(american.ask(unit)) == [["33"]]
        assert rows(other.ask(unit)) == [["61"]]
        assert rows(american.ask(unit.replace(b"s\0", b"u\0"))) == [["33"]]


def test_a_stale_plan_is_retried_once_and_nothing_runs_twice(tessera, servers, database):
    """Two units in one flight: the first meets a stale plan and is told so, the second is carried out once."""
    proxy = tessera(config_of(servers[:1], database, pool={"size": 1}))
    with log_in(proxy, database) as connection:
        run = wire.bind(name="star") + wire.execute() + wire.SYNC
        insert = wire.bind([b"9"], name="add") + wire.execute() + wire.SYNC
        assert code(connection.ask(wire.parse("select * from d", "star") + run)) is None
        assert code(connection.ask(wire.parse("insert into d (id) values ($1)", "add") + wire.SYNC)) is None
        servers[0].run("alter table d add column w int", database)  # past Tessera
        assert code(connection.ask(run)) is None, "alone it is retried, unseen"
        servers[0].run("alter table d add column x int", database)  # past Tessera
        connection.send(run + insert)
        replies = connection.read_until("Z") + connection.read_until("Z")
        assert code(replies) in (None, "0A000")
        assert value(connection, "select count(*) from d") == "1"
        servers[0].run("alter table d add column y int", database)  # past Tessera
        connection.send(insert + run)
        connection.read_until("Z")
        assert code(connection.read_until("Z")) in (None, "0A000")
        assert value(connection, "select count(*) from d") == "2"


def test_the_rest_of_a_message_does_not_reach_the_next_client(tessera, servers, database):
    """CopyData that nobody asked for, of which a part went to the server with the statement before it."""
    proxy = tessera(config_of(servers[:1], database, pool={"size": 1}))
    with log_in(proxy, database) as first, log_in(proxy, database) as second:
        data = wire.copy_data(b"x" * 5000)
        first.send(wire.query("select pg_sleep(0.2)") + data[:100])
        first.read_until("Z")
        second.send(wire.query("select 1"))
        first.send(data[100:])
        assert rows(second.read_until("Z")) == [["1"]]
        assert value(first, "select 2") == "2"


def test_discard_temp_leaves_the_locks_of_other_connections(connection, servers, database):
    ask(connection, "set search_path = b")
    assert ask(connection, "select pg_advisory_lock(77) from t where id = 1") == [[""]]
    locks = "select count(*) from pg_locks where locktype = 'advisory' and objid = 77"
    assert servers[0].run(locks, database).strip() == "1"
    assert ask(connection, "select v from t where id = 101") == [["b"]]
    assert ask(connection, "discard temp") == []
    assert servers[0].run(locks, database).strip() == "1"


def test_of_two_catalogs_that_are_read_at_once_the_newer_counts(tessera, servers, new_database):
    """The answer to the first reading is late; what has been made since it was asked for must not be forgotten."""
    name = new_database(servers, "create table d (id int)")
    with Meddler(servers[0].port) as middle:
        config = config_of(servers, name, rules=RULES["rules"], tables={"late": {"rule": "r", "key": "id"}}, hints=True)
        config["databases"][name]["shards"]["s0"]["primary"] = middle.address
        proxy = tessera(config)
        with log_in(proxy, name) as connection, log_in(proxy, name) as other:
            assert ask(connection, "select v from late where id = 1") == "42P01"
            middle.add(Harm("delay", kind="T", pattern=b"relkind", seconds=2))
            assert ask(other, "create table aside (id int)") == []
            eventually(lambda: middle.done == 1)
            for shard in ("s0", "s1"):
                assert ask(connection, f"/* tessera: shard={shard} */ create table late (id int primary key, v text)") == []
            eventually(lambda: ask(connection, "select v from late where id = 1") == [], timeout=1.5)
            time.sleep(2.5)
            assert ask(connection, "select v from late where id = 1") == []


# Texts that differ in white space and comments only share a plan, and what is taken out of them must be their own.
@pytest.mark.parametrize("sql, told", [
    ("begin read only", ("show transaction_read_only", "on")), ("begin isolation level serializable", ("show transaction_isolation", "serializable")),
    ("set search_path to b, other", ("show search_path", "b, other")), ("prepare p as select 7", ("execute p", "7")),
    ("savepoint deep", ("select 7", "7")), ("set local search_path to b, other", ("show search_path", "b, other"))])
def test_a_plan_for_other_spaces_is_for_other_spaces(tessera, servers, database, sql, told):
    proxy = tessera({**config_of(servers, database, **RULES), "workers": 1})
    spelled = [sql, "    " + sql, "/* " + "x" * 40 + " */" + sql, sql.replace(" ", "   "), sql.replace(" ", "/**/ "), sql + "   -- nothing", sql.upper(), sql]
    for text in spelled:
        with log_in(proxy, database) as connection:
            if sql.startswith(("savepoint", "set local")):
                ask(connection, "begin")
            assert ask(connection, text) == [], text
            assert ask(connection, "select v from b.t where id = 101") == [["b"]], text  # on a connection with what was said
            assert ask(connection, told[0]) == [[told[1]]], text
            assert connection.status in "IT"


def joined(answer):
    return "\n".join(row[0] for row in answer)


def test_explain_execute_is_routed_as_execute_is(connection):
    ask(connection, "prepare p (int) as select v from b.t where id = $1")
    ask(connection, "prepare w (int) as update b.t set v = 'written' where id = $1")
    for key in (1, 101, 1):
        assert f"id = {key}" in joined(ask(connection, f"explain (costs off) execute p({key})"))
        assert "rows=1 " in joined(ask(connection, f"EXPLAIN  ANALYZE  VERBOSE /* of p */ EXECUTE p ( {key} )"))
        ask(connection, "begin")
        assert "Update on" in joined(ask(connection, f"explain (analyze, costs off) execute w({key})"))
        assert ask(connection, f"select v from b.t where id = {key}") == [["written"]]
        ask(connection, "rollback")
        assert ask(connection, f"execute p({key})") == [["b"]]
    assert ask(connection, "explain execute nothing(1)") == "26000"
    ask(connection, "prepare everywhere as select v from b.t")
    assert ask(connection, "explain execute everywhere") == "0A000"
    assert ask(connection, "explain execute p(1); select 1") == "0A000"
    refused = connection.ask(wire.parse("explain execute p(1)") + wire.bind() + wire.execute() + wire.SYNC)
    assert code(refused) == "0A000" and "simple query" in errors(refused)[0]["H"]
    assert ask(connection, "execute p(101)") == [["b"]]


def test_a_table_made_of_execute_is_refused_by_name(connection, servers, database):
    ask(connection, "prepare p (int) as select v from b.t where id = $1")
    for name in ("p", "tessera_sql_1"):  # the latter is its name on the servers
        for sql in ("create table made as execute {}(1)", "create temp table made as execute {}(1)", "explain create table made as execute {}(1)",
                    "create table if not exists d as execute {}(1) with no data"):
            failed = errors(connection.ask(wire.query(sql.format(name))))
            assert failed and failed[0]["C"] == "0A000" and "AS EXECUTE is not supported" in failed[0]["M"] and "query itself" in failed[0]["H"], sql
    assert {server.run("select count(*) from pg_class where relname = 'made'", database).strip() for server in servers} == {"0"}


def test_with_one_shard_execute_is_the_servers(tessera, servers, database):
    with log_in(tessera(config_of(servers[:1], database)), database) as connection:
        ask(connection, "prepare p (int) as select v from b.t where id = $1")
        assert "id = 1" in joined(ask(connection, "explain (costs off) execute p(1)"))
        ask(connection, "create temp table made as execute p(1)")
        assert ask(connection, "select * from made") == [["b"]]


def told(connection, sql):
    """The one error's message, and what it points at in the text that the client has sent."""
    error, = errors(connection.ask(wire.query(sql)))
    return error["M"], sql[int(error["P"]) - 1:].split()[0] if "P" in error else None


def test_errors_of_prepare_and_execute_are_in_the_clients_words(connection):
    """On the servers the statements have other names, of other lengths."""
    for name in ("q", '"Q ""ä"', "a_name_that_is_longer_than_the_servers"):
        assert ask(connection, f"prepare {name} (int, int) as select v from b.t where id = $1 and id > $2") == []
        shown = name[1:-1].replace('""', '"') if name.startswith('"') else name
        for text in ("execute {}(1)", "/* ä */ EXECUTE  {} (101)", "explain execute {}(1)"):
            assert told(connection, text.format(name)) == (f'wrong number of parameters for prepared statement "{shown}"', None)
        for text in ("execute {}(1, 'x')", "/* ä */  execute /* of */ {} (101, 'x')", "explain (costs off) execute {}(1, 'x')"):
            assert told(connection, text.format(name)) == ('invalid input syntax for type integer: "x"', "'x')")
        assert told(connection, f"/* ä */ prepare {name}_ as select nosuch from b.t where id = 1".replace('"_', '_"')) == ('column "nosuch" does not exist', "nosuch")
    assert told(connection, "prepare q(nosuch) as select 1") == ('prepared statement "q" already exists', None)
    assert told(connection, "/* ä */ prepare r(nosuch) as select 1") == ('type "nosuch" does not exist', "nosuch)")


def test_a_statement_that_another_shard_refuses_is_refused_once_and_not_for_ever(connection, servers, database):
    ask(connection, "prepare p (int) as select v from b.t where id = $1")
    keys = [1, 101]
    for server in servers:
        server.run("alter table b.t rename to away", database)
    def refusals(key):
        return [error["M"] for error in errors(connection.ask(wire.query(f"execute p({key})")))]

    for key in keys * 2:
        assert refusals(key) == ['relation "b.t" does not exist']
    ask(connection, "begin")
    assert refusals(1) == ['relation "b.t" does not exist'] and connection.status == "E"
    ask(connection, "rollback")
    for server in servers:
        server.run("alter table b.away rename to t", database)
    for key in keys:
        assert ask(connection, f"execute p({key})") == [["b"]]


def test_a_prepare_that_takes_too_long_has_not_been(tessera, servers, database):
    """limits.statement_timeout, at PREPARE itself and where EXECUTE brings it to the other shard."""
    proxy = tessera(config_of(servers, database, **RULES, limits={"statement_timeout": "500ms"}))
    with log_in(proxy, database) as connection, servers[0].connect(database) as one, servers[1].connect(database) as other:
        def while_locked(sql):
            for lock in (one, other):
                lock.execute("begin; lock table b.t")
            try:
                return [error["C"] for error in errors(connection.ask(wire.query(sql)))]
            finally:
                for lock in (one, other):
                    lock.execute("rollback")

        assert while_locked("prepare p (int) as select v from b.t where id = $1") == ["57014"]
        assert ask(connection, "prepare p (int) as select v from b.t where id = $1") == []
        for key in (1, 101):
            assert while_locked(f"execute p({key})") == ["57014"]
            assert ask(connection, f"execute p({key})") == [["b"]]
