"""Rules that do not fit the tables are found before any client comes, and so is that they have been mended."""

import json
import time

import psycopg
import pytest
from harness import wire
from talk import backends_of, code, config_of, eventually, log_in, value
from two_shards import RULES, ranges

FITTING, OTHER = "create table t (id int primary key, v text)", "create table t (number int primary key, v text)"
MEND, BREAK = "alter table t rename number to id", "alter table t rename id to number"
NUMBER = {"rules": RULES["rules"], "tables": {"t": {"rule": "r", "key": "number"}}}
AGAIN = "the sharding rules fit the database again"


def change(servers, database, sql):
    for server in servers:
        server.run(sql, database)


def readiness(proxy):
    status, text = proxy.http("GET", "/readyz")
    return status, json.loads(text)


def is_ready(proxy):
    return readiness(proxy)[0] == 200


def told_of(proxy, database):
    """What the views say is wrong with it."""
    (listed,) = [one for one in json.loads(proxy.http("GET", "/v1/databases")[1])["databases"] if one["database"] == database]
    with proxy.connect("pgbouncer", cursor_factory=psycopg.ClientCursor) as connection:
        cursor = connection.execute("show databases")
        names = [column.name for column in cursor.description]
        in_console = {row[names.index("problem")] for row in cursor.fetchall() if row[names.index("name")] == database}
    assert in_console == {listed["problem"]}
    fits = f'tessera_database_rules_fit{{database="{database}"}} {0 if listed["problem"] else 1}'
    assert fits in proxy.http("GET", "/metrics")[1]
    return listed["problem"]


def with_console(config):
    return {**config, "admin": {"console_admins": ["app"]}}


def test_rules_are_held_to_the_tables_at_the_start(tessera, servers, new_database):
    name = new_database(servers, OTHER)
    proxy = tessera(with_console(config_of(servers, name, **RULES)), ready=503)
    status, told = readiness(proxy)
    assert (status, told["ready"]) == (503, False)
    assert name in told["reasons"][0] and 'no column "id"' in told["reasons"][0]
    assert told["databases"][name]["problem"] == told_of(proxy, name)
    assert 'no column "id"' in told_of(proxy, name)
    assert "level=error" in next(line for line in proxy.log().splitlines() if "rules do not fit" in line)
    with pytest.raises(wire.WireError, match="F0000"):
        log_in(proxy, name)
    change(servers, name, MEND)
    eventually(lambda: is_ready(proxy), what="a look at the catalog, without any login")
    assert told_of(proxy, name) == ""
    proxy.wait_for_log(AGAIN)
    assert proxy.log().count("rules do not fit the database") == 1, "said once, however many looks and logins find it"
    with log_in(proxy, name) as connection:
        assert value(connection, "select count(*) from t where id = 1") == "0"


def test_a_type_that_is_not_the_configured_one_is_found_too(tessera, servers, new_database):
    name = new_database(servers, "create table t (id text primary key)")
    rules = {"rules": RULES["rules"], "tables": {"t": {"rule": "r", "key": "id", "key_type": "bigint"}}}
    proxy = tessera(config_of(servers, name, **rules), ready=503)
    assert "not bigint as configured" in readiness(proxy)[1]["reasons"][0]


def test_other_rules_mend_it_by_a_reload(tessera, servers, new_database):
    name = new_database(servers, OTHER)
    proxy = tessera(config_of(servers, name, **RULES), ready=503)
    proxy.write_config(config_of(servers, name, **NUMBER))
    assert proxy.http("POST", "/v1/config/reload")[0] == 200
    assert is_ready(proxy)
    with log_in(proxy, name) as connection:
        assert value(connection, "select count(*) from t where number = 1") == "0"


def test_a_reload_about_something_else_is_not_refused_for_it(tessera, servers, new_database):
    name, good = new_database(servers, OTHER), new_database(servers, FITTING)
    config = config_of(servers, name, **RULES)
    proxy = tessera(config, ready=503)
    config["databases"].update(config_of(servers, good, **RULES)["databases"])
    proxy.write_config(config)
    status, text = proxy.http("POST", "/v1/config/reload")
    assert status == 200 and any('no column "id"' in note for note in json.loads(text)["warnings"]), text
    with log_in(proxy, good) as connection:
        assert value(connection, "select count(*) from t where id = 1") == "0"
    assert not is_ready(proxy)
    change(servers, name, MEND)
    eventually(lambda: is_ready(proxy))


def test_a_database_that_a_reload_adds_is_looked_at(tessera, servers, new_database):
    name, bad = new_database(servers, FITTING), new_database(servers, OTHER)
    config = config_of(servers, name, **RULES)
    proxy = tessera(config)
    config["databases"].update(config_of(servers, bad, **RULES)["databases"])
    proxy.write_config(config)
    assert proxy.http("POST", "/v1/config/reload")[0] == 200
    eventually(lambda: not is_ready(proxy))
    (reason,) = readiness(proxy)[1]["reasons"]
    assert bad in reason
    del config["databases"][bad]
    proxy.write_config(config)
    assert proxy.http("POST", "/v1/config/reload")[0] == 200
    assert is_ready(proxy)


def test_a_reload_looks_although_nobody_is_connected(tessera, servers, new_database):
    name = new_database(servers, FITTING)
    proxy = tessera(config_of(servers, name, catalog_interval=0, **RULES))
    change(servers, name, BREAK)
    assert is_ready(proxy)
    assert proxy.http("POST", "/v1/config/reload")[0] == 200
    eventually(lambda: not is_ready(proxy))
    change(servers, name, MEND)
    eventually(lambda: is_ready(proxy))
    # The newest catalog counts, also one that did not fit: the rules may follow the tables.
    change(servers, name, BREAK)
    assert proxy.http("POST", "/v1/config/reload")[0] == 200
    eventually(lambda: not is_ready(proxy))
    proxy.write_config(config_of(servers, name, catalog_interval=0, **NUMBER))
    assert proxy.http("POST", "/v1/config/reload")[0] == 200
    assert is_ready(proxy)


def test_tables_that_change_under_clients_and_back(tessera, servers, new_database):
    name = new_database(servers, FITTING)
    proxy = tessera(config_of(servers, name, catalog_interval="200ms", **RULES))
    with log_in(proxy, name) as connection:
        assert value(connection, "select count(*) from t where id = 1") == "0"
        change(servers, name, BREAK)
        eventually(lambda: code(connection.ask(wire.query("select count(*) from t where id = 1"))) == "F0000")
        assert not is_ready(proxy)
        change(servers, name, MEND)
        eventually(lambda: is_ready(proxy), what="also when the catalog is to the letter what it was")
        assert value(connection, "select count(*) from t where id = 1") == "0"


def test_one_shard_goes_on_as_before(tessera, servers, new_database):
    name = new_database(servers[:1], FITTING)
    one = {"rules": {"r": {"type": "hash", "shards": ["s0"]}}, "tables": {"t": {"rule": "r", "key": "id"}}}
    proxy = tessera(config_of(servers[:1], name, catalog_interval="200ms", **one))
    with log_in(proxy, name) as connection:
        change(servers[:1], name, BREAK)

        def noticed():
            assert value(connection, "select count(*) from t") == "0"
            return "rules do not fit" in proxy.log()

        eventually(noticed)
        assert is_ready(proxy), "nobody is refused for it"


@pytest.mark.parametrize("workers", (1, 2))
def test_the_reading_leaves_no_connection_behind(tessera, servers, new_database, workers):
    name = new_database(servers, FITTING)
    proxy = tessera({**config_of(servers, name, pool={"max_server_connections": 1}, **RULES), "workers": workers})
    assert json.loads(proxy.http("GET", "/v1/databases")[1])["databases"][0]["catalog_loaded"]
    eventually(lambda: backends_of(servers[0], name) == [])


def test_without_any_credential_the_first_login_reads(tessera, servers, new_database):
    name = new_database(servers, OTHER)
    verifier = servers[0].run("select rolpassword from pg_authid where rolname = 'app'").strip()
    servers[1].run(f"alter role app password '{verifier}'")
    started = time.monotonic()
    proxy = tessera(config_of(servers, name, users=[{"name": "app", "scram": verifier}], **RULES))
    assert time.monotonic() - started < 1, "nothing to wait for"
    with pytest.raises(wire.WireError, match="F0000"):
        log_in(proxy, name)
    assert not is_ready(proxy)
    change(servers, name, MEND)
    eventually(lambda: is_ready(proxy), what="the keys of the client that has come before are good for it")


def test_a_shard_that_is_down_at_the_start_leaves_readiness_as_it_is(tessera, new_server, new_database):
    servers = [new_server("late"), new_server("early")]
    name = new_database(servers, OTHER)
    servers[0].stop()
    proxy = tessera(config_of(servers, name, **RULES))
    assert is_ready(proxy) and readiness(proxy)[1]["databases"][name]["problem"] == ""
    proxy.wait_for_log("the catalog cannot be read yet.*shard=s0.*refused")
    time.sleep(2)
    assert is_ready(proxy)
    assert proxy.log().count("the catalog cannot be read yet") == 1
    assert "cannot connect to a shard" not in proxy.log()
    servers[0].start()
    eventually(lambda: not is_ready(proxy), timeout=20, what="the catalog, as soon as the shard is there")
    proxy.wait_for_log("the catalog has been read")
    proxy.write_config(config_of(servers, name, **{**NUMBER, **{"rules": ranges(50)["rules"]}}))
    assert proxy.http("POST", "/v1/config/reload")[0] == 200
    assert is_ready(proxy)


def test_a_client_whom_the_shard_refuses_does_not_keep_it_from_being_read(tessera, servers, new_database):
    """Its credentials are not those that the catalog is read with."""
    name = new_database(servers, OTHER)
    users = [{"name": "nobody_at_all", "password": "x", "backend_password": "y"}, {"name": "app", "password": "app"}]
    config = {**config_of(servers, name, users=list(reversed(users)), **RULES), "workers": 1}
    proxy = tessera(config, ready=503)
    with pytest.raises(wire.WireError):
        log_in(proxy, name, "nobody_at_all", "x")
    change(servers, name, MEND)
    eventually(lambda: is_ready(proxy))
