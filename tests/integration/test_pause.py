"""PAUSE and RESUME as they are meant to be used: tables, rules and shards change in between, and nothing goes on by what was true before."""

import time

import pytest
from harness import wire
from talk import ask, code, config_of, errors, log_in, rows

SCHEMA = "create table t (id int primary key, w int)"


def ranges(bound):
    return {"rules": {"r": {"type": "range", "ranges": [{"below": str(bound), "shard": "s0"}, {"shard": "s1"}]}},
            "tables": {"t": {"rule": "r", "key": "id"}}}


@pytest.fixture
def database(servers, new_database):
    return new_database(servers, SCHEMA)


def config(servers, database, bound=100, timeout="30s"):
    made = config_of(servers, database, **ranges(bound), pool={"checkout_timeout": timeout})
    made["admin"] = {"console_admins": ["app"]}
    return made


def command(proxy, words):
    with log_in(proxy, "pgbouncer") as console:
        assert code(console.ask(wire.query(words))) is None, words


def reload(proxy, changed=None):
    if changed:
        proxy.write_config(changed)
    assert proxy.http("POST", "/v1/config/reload")[0] == 200


def turn_columns(servers, database):
    for server in servers:
        server.run("drop table t; create table t (w int, id int primary key); alter table t owner to app", database)


def ids(server, database):
    return [int(line) for line in server.run("select id from t order by id", database).split()]


@pytest.mark.parametrize("reloaded", [True, False], ids=["reload", "no reload"])
def test_what_comes_after_resume_knows_the_tables_as_they_are(tessera, servers, database, reloaded):
    proxy = tessera(config(servers, database))
    with log_in(proxy, database) as client, log_in(proxy, database) as waiting, log_in(proxy, database) as prepared:
        for one in (client, waiting):
            assert ask(one, "insert into t values (7, 500) on conflict do nothing") == []
        prepared.ask(wire.parse("insert into t values ($1, $2)", "s"), wire.SYNC)
        command(proxy, "PAUSE")
        waiting.send(wire.query("insert into t values (500, 2)"))
        turn_columns(servers, database)
        if reloaded:
            reload(proxy)
        time.sleep(0.3)
        command(proxy, "RESUME")
        assert ask(client, "insert into t values (500, 1)") == []
        assert code(waiting.read_until("Z")) is None
        assert code(prepared.ask(wire.bind([b"500", b"3"], name="s"), wire.execute(), wire.SYNC)) is None
        assert ids(servers[0], database) == [1, 2, 3]
        assert ids(servers[1], database) == []
        assert [len(ask(client, f"select from t where id = {key}")) for key in (1, 2, 3)] == [1, 1, 1]


def test_a_begin_alone_is_no_reason_to_trust_the_old_tables(tessera, servers, database):
    """It holds no connection, so PAUSE does not wait for it."""
    proxy = tessera(config(servers, database))
    with log_in(proxy, database) as client:
        assert ask(client, "insert into t values (7, 500)") == []
        assert ask(client, "begin") == []
        command(proxy, "PAUSE")
        turn_columns(servers, database)
        command(proxy, "RESUME")
        for words in ("savepoint s", "insert into t values (500, 1)", "commit"):
            assert ask(client, words) == []
    assert (ids(servers[0], database), ids(servers[1], database)) == ([1], [])


def test_the_first_session_after_resume_knows_the_tables_as_they_are(tessera, servers, database):
    proxy = tessera(config(servers, database))
    with log_in(proxy, database) as client:
        assert ask(client, "insert into t values (7, 500)") == []
    command(proxy, "PAUSE")
    turn_columns(servers, database)
    command(proxy, "RESUME")
    with log_in(proxy, database) as client:
        assert ask(client, "insert into t values (500, 1)") == []
    assert ids(servers[0], database) == [1]


@pytest.mark.parametrize("timeout", ["30s", "0"])
def test_it_holds_for_shards_that_come_by_a_reload(tessera, servers, database, timeout):
    """Also for sessions that were there before, in a transaction that has no server connection yet, and for those that wait."""
    proxy = tessera(config(servers, database, timeout=timeout))
    with log_in(proxy, database) as waiting, log_in(proxy, database) as begun, log_in(proxy, database) as idle:
        for one in (waiting, idle, begun):
            assert ask(one, "select from t") == []
        assert ask(begun, "begin") == []
        command(proxy, "PAUSE")
        waiting.send(wire.query("insert into t values (1, 1)"))
        begun.send(wire.query("insert into t values (2, 2)"))
        time.sleep(0.3)
        reload(proxy, config(list(reversed(servers)), database, timeout=timeout))
        time.sleep(0.3)
        idle.send(wire.query("insert into t values (3, 3)"))
        for one in (waiting, begun, idle):
            one.socket.settimeout(0.3)
            with pytest.raises(TimeoutError):
                one.read_until("Z")
            one.socket.settimeout(10)
        command(proxy, "RESUME")
        for one in (waiting, begun, idle):
            assert code(one.read_until("Z")) is None
        assert ask(begun, "commit") == []
        with log_in(proxy, database) as later:
            assert ask(later, "insert into t values (4, 4)") == []
    # What had begun ended on the server that it began with.
    assert ids(servers[0], database) == [2]
    assert ids(servers[1], database) == [1, 3, 4]


def test_sessions_that_only_wait_come_over_to_the_new_shards(tessera, servers, database):
    proxy = tessera({**config(servers, database), "workers": 1})
    with log_in(proxy, database) as waiting:
        assert ask(waiting, "select from t") == []
        command(proxy, "PAUSE")
        waiting.send(wire.query("insert into t values (1, 1)"))
        time.sleep(0.3)
        reload(proxy, {**config(list(reversed(servers)), database), "workers": 1})
        time.sleep(0.3)
        command(proxy, "RESUME")
        assert code(waiting.read_until("Z")) is None
    assert (ids(servers[0], database), ids(servers[1], database)) == ([], [1])


def test_pause_waits_for_transactions_on_shards_that_were_replaced(tessera, servers, database):
    proxy = tessera(config(servers, database))
    with log_in(proxy, database) as busy, log_in(proxy, "pgbouncer") as console:
        assert ask(busy, "begin") == []
        assert ask(busy, "insert into t values (1, 1)") == []
        reload(proxy, config(list(reversed(servers)), database))
        console.send(wire.query("PAUSE"))
        console.socket.settimeout(0.5)
        with pytest.raises(TimeoutError):
            console.read_until("Z")
        assert ask(busy, "commit") == []
        console.socket.settimeout(10)
        assert code(console.read_until("Z")) is None
        command(proxy, "RESUME")


def test_who_waits_too_long_is_told_of_the_pause(tessera, servers, database):
    proxy = tessera(config(servers, database, timeout="300ms"))
    with log_in(proxy, database) as client:
        assert ask(client, "select from t where id = 1") == []
        command(proxy, "PAUSE")
        refused = errors(client.ask(wire.query("select from t where id = 1")))[0]
        assert (refused["C"], refused["M"]) == ("57P03", f'database "{database}" is paused')
        assert "RESUME" in refused["H"]
        command(proxy, "RESUME")
        assert rows(client.ask(wire.query("select from t where id = 1"))) == []


def test_statements_wait_until_the_catalog_can_be_read(tessera, new_server, new_database):
    own = [new_server(f"pause{number}") for number in range(2)]
    database = new_database(own, SCHEMA)
    proxy = tessera(config(own, database))
    with log_in(proxy, database, timeout=30) as client:
        assert ask(client, "insert into t values (700, 7)") == []
        command(proxy, "PAUSE")
        own[0].stop()
        command(proxy, "RESUME")
        client.send(wire.query("select w from t where id = 700"))
        client.socket.settimeout(0.5)
        with pytest.raises(TimeoutError):
            client.read_until("Z")
        own[0].start()
        client.socket.settimeout(20)
        assert rows(client.read_until("Z")) == [["7"]]
