"""What is known of statements (by their text without literals) and of events, over HTTP and on the console."""

import json
import re

import pytest
from harness import places, wire
from talk import config_of, eventually, log_in, rows, value
from two_shards import RULES, SCHEMA


@pytest.fixture
def proxy(tessera, servers, database):
    return tessera({**config_of(servers, database, **RULES), "admin": {"console_admins": ["app"]}})


def get(proxy, path):
    status, text = proxy.http("GET", path)
    assert status == 200, text
    return json.loads(text)


def statement(proxy, part):
    found = [one for one in get(proxy, "/v1/statements")["statements"] if part in one["statement"]]
    assert len(found) == 1, found
    return found[0]


def events(proxy, text, **fields):
    return [one for one in get(proxy, "/v1/events")["events"] if one["text"] == text and fields.items() <= one["fields"].items()]


def test_statements_of_one_shape_over_all_workers(proxy, database):
    for key in range(95, 105):  # ten clients: both workers
        with log_in(proxy, database) as connection:
            assert value(connection, f"select v from t where id = {key}") == f"row {key}"
    told = statement(proxy, "select v from t where id")
    assert told["calls"] == 10 and told["rows"] == 10 and told["errors"] == 0 and told["shards"] == ["s0", "s1"]
    assert told["database"] == database and "95" not in told["statement"]
    assert 0 <= told["min_us"] <= told["max_us"] <= told["total_us"]


def test_statements_by_the_extended_protocol(proxy, database):
    with log_in(proxy, database) as connection:
        connection.ask(wire.parse("select v || 'x' from t where id = $1", "s") + wire.SYNC)
        for key in (b"5", b"6", b"150"):
            connection.ask(wire.bind([key], name="s") + wire.execute() + wire.SYNC)
        told = statement(proxy, "select v || ")
        assert told["calls"] == 3 and told["rows"] == 3 and told["shards"] == ["s0", "s1"] and told["max_us"] is not None
        unit = wire.parse("select 1 / (id - 7) from t where id = $1") + wire.bind([b"7"]) + wire.execute() + wire.SYNC
        assert [reply.type for reply in connection.ask(unit)][-2:] == ["E", "Z"]
    told = statement(proxy, "(id - ")
    assert told["calls"] == 1 and told["errors"] == 1 and told["rows"] == 0


def test_scattered_and_failed_statements(proxy, database):
    with log_in(proxy, database) as connection:
        connection.ask(wire.query("select id from t"))
        connection.ask(wire.query("select id / 0 from t where id = 3"))
    told = statement(proxy, "select id from t")
    assert told["calls"] == 1 and told["shards"] == ["s0", "s1"] and told["max_us"] is not None
    assert statement(proxy, "select id / ")["errors"] == 1


def test_counts_outlive_the_plans(proxy, database):
    with log_in(proxy, database) as connection:
        value(connection, "select v from t where id = 8")
        connection.ask(wire.query("create table if not exists u (id int)"))  # the catalog is read again, the plans go
        eventually(lambda: value(connection, "select v from t where id = 9"))
    assert statement(proxy, "select v from t where id")["calls"] == 2


def test_limits_and_the_console(proxy, database):
    with log_in(proxy, database) as connection:
        for name in ("a", "b", "c"):
            value(connection, f"select v as {name} from t where id = 1")
    told = get(proxy, f"/v1/statements?limit=2&database={database}")
    assert len(told["statements"]) == 2 and told["truncated"] and told["total"] >= 3
    assert told["statements"][0]["total_us"] >= told["statements"][1]["total_us"]
    assert get(proxy, "/v1/statements?database=nothing")["statements"] == []
    for bad in ("limit=0", "limit=x", "limit=100001"):
        assert proxy.http("GET", f"/v1/statements?{bad}")[0] == 400
    with log_in(proxy, "pgbouncer") as console:
        shown = rows(console.ask(wire.query("show tessera.statements")))
        assert [row[1] for row in shown if "select v as b from t" in row[-1]] == ["1"]


def test_events(proxy, servers, database, tessera):
    ready, = events(proxy, "tessera is ready")
    assert ready["severity"] == "info" and ready["time"].endswith("Z") and ready["fields"]["workers"] == "2"
    with pytest.raises(wire.WireError):
        log_in(proxy, database, password="wrong")
    failed, = events(proxy, "login failed", user="app")
    assert failed["severity"] == "warn" and failed["id"] > ready["id"]
    assert proxy.http("POST", "/v1/config/reload")[0] == 200 and events(proxy, "configuration reloaded")
    later = get(proxy, f"/v1/events?after={failed['id']}")["events"]
    assert later and all(one["id"] > failed["id"] for one in later)
    assert proxy.http("GET", "/v1/events?after=x")[0] == 400


def test_events_of_shards_and_pools(tessera, servers, database, new_server):
    config = config_of(servers, database, **RULES, pool={"size": 1, "checkout_timeout": "300ms"})
    proxy = tessera(config)
    with log_in(proxy, database) as one, log_in(proxy, database) as two:
        one.ask(wire.query("begin"))
        value(one, "select v from t where id = 5")
        assert "E" in [reply.type for reply in two.ask(wire.query("select v from t where id = 6"))]
    eventually(lambda: events(proxy, "pool exhausted: clients waited too long for a connection", shard="s0"))
    away = config["databases"][database]["shards"]["s1"]["primary"]
    config["databases"][database]["shards"]["s1"]["primary"] = f"127.0.0.1:{places.free_port()}"
    proxy.write_config(config)
    assert proxy.http("POST", "/v1/config/reload")[0] == 200
    with log_in(proxy, database) as connection:
        connection.ask(wire.query("select v from t where id = 150"))
        eventually(lambda: events(proxy, "cannot connect to a shard", shard="s1"))
        config["databases"][database]["shards"]["s1"]["primary"] = away
        proxy.write_config(config)
        assert proxy.http("POST", "/v1/config/reload")[0] == 200
        eventually(lambda: "E" not in [reply.type for reply in connection.ask(wire.query("select v from t where id = 150"))])
    eventually(lambda: events(proxy, "a shard can be connected to again", shard="s1"))


@pytest.mark.parametrize("literals", [True, False])
def test_slow_statements_are_logged_with_their_text(tessera, servers, database, literals):
    proxy = tessera({**config_of(servers, database, **RULES), "log": {"slow_statement": "100ms", "statement_text": literals}})
    with log_in(proxy, database) as connection:
        connection.ask(wire.query("/* of Ann */ select pg_sleep(0.15), 'simple' -- and Bob"))
        connection.ask(wire.parse("select pg_sleep(0.15), 'extended'") + wire.bind() + wire.execute() + wire.SYNC)
        connection.ask(wire.query("select pg_sleep(0.15), 'scatter' from t where id in (5, 150)"))
    for how in ("simple", "extended", "scatter"):
        expected = f"select pg_sleep(0.15), '{how}'" if literals else "select pg_sleep(?), ?"
        if literals and how == "simple":
            expected = f"/* of Ann */ {expected} -- and Bob"
        text = expected + (" from t where id in (5, 150)" if literals else " from t where id in (?, ?)") * (how == "scatter")
        proxy.wait_for_log(f'slow statement.* statement="{re.escape(text)}"')
    assert ("Ann" in proxy.log()) == ("Bob" in proxy.log()) == literals
