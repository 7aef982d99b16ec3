"""AND CHAIN of transactions that have no shard yet, or have lost it; and those that go on while a shard is down."""

import os
import signal
import time

import pytest
from harness import wire
from harness.hanging import Stopped
from talk import ask, backends_of, code, config_of, errors, eventually, log_in, value
from two_shards import RULES, SCHEMA


@pytest.fixture
def connection(tessera, servers, database):
    with log_in(tessera(config_of(servers, database, **RULES)), database) as connection:
        yield connection


def all_of(connection, *statements):
    for sql in statements:
        assert not isinstance(ask(connection, sql), str), sql


@pytest.mark.parametrize("opening", [
    ["begin read only"], ["begin -- ;\n read only"], ["begin /* a;b */ read only"], ["begin", "set transaction read only"], ["begin", "set local transaction_read_only = on"],
    ["begin", "savepoint a", "rollback to a", "release a", "set transaction read only"], ["begin", "set transaction read only", "savepoint a", "set local a.b = '1'", "rollback to a"]])
@pytest.mark.parametrize("chain", ["commit and chain", "rollback and chain"])
def test_a_chain_hands_on_what_the_transaction_was(connection, opening, chain):
    all_of(connection, *opening, chain, chain)
    assert connection.status == "T"
    assert ask(connection, "insert into t values (1000, 'never')") == "25006"
    ask(connection, "rollback")
    assert ask(connection, "select v from t where id = 1000") == []


def test_a_chain_hands_on_the_isolation_and_nothing_else(connection):
    asked = "select current_setting('transaction_isolation'), current_setting('a.b', true) from t where id = 150"
    all_of(connection, "begin", "set transaction isolation level serializable", "set local a.b = '1'", "savepoint a", "set transaction read only", "commit and chain")
    assert ask(connection, asked) in ([["serializable", None]], [["serializable", ""]])
    assert ask(connection, "show transaction_read_only") == [["off"]], "it ended with its savepoint"
    all_of(connection, "commit", "begin")
    assert ask(connection, asked)[0][0] == "read committed"
    ask(connection, "rollback")


@pytest.mark.parametrize("number", [1, 2])
@pytest.mark.parametrize("chain", ["rollback and chain", "commit and chain", "rollback and chain; insert into t values (1001, 'never')"])
def test_no_chain_follows_a_lost_connection(tessera, servers, database, chain, number):
    proxy = tessera(config_of(servers[:number], database, **(RULES if number == 2 else {})))
    with log_in(proxy, database) as connection:
        all_of(connection, "begin read only", "select v from t where id = 5")
        servers[0].run(f"select pg_terminate_backend(pid) from pg_stat_activity where datname = '{database}' and backend_type = 'client backend'", "postgres")
        eventually(lambda: ask(connection, "select v from t where id = 5") == "08006" or ask(connection, "select 1") == "25P02", what="the transaction fails")
        for _ in range(2):
            failed = errors(connection.ask(wire.query(chain)))
            assert failed[0]["C"] == "0A000" and "ROLLBACK" in failed[0]["H"] and connection.status == "E"
        assert code(connection.ask(wire.parse(chain.split(";")[0]) + wire.bind() + wire.execute() + wire.SYNC)) == "0A000"
        assert ask(connection, "insert into t values (1001, 'never')") == "25P02"
        all_of(connection, "rollback")
        assert connection.status == "I"
        assert ask(connection, "select v from t where id = 1001") == []
        all_of(connection, "begin read only", "rollback and chain")
        assert ask(connection, "insert into t values (1001, 'never')") == "25006"
        ask(connection, "rollback")


# The server is lost while BEGIN is on its way: the transaction fails, and may go back to a savepoint.
def test_savepoints_outlive_a_server_that_is_lost_at_begin(connection, servers, database):
    assert value(connection, "select v from t where id = 5") == "row 5"
    all_of(connection, "begin", "set local a.b = 'mine'", "savepoint a", "set local a.b = 'other'")
    backends = backends_of(servers[0], database)
    with Stopped(servers[0]):
        connection.send(wire.query("select v from t where id = 5"))
        time.sleep(0.3)  # until BEGIN has been sent
        for process in backends:
            os.kill(process, signal.SIGTERM)
    answers = connection.read_until("Z")
    assert errors(answers) and connection.status == "E"
    all_of(connection, "rollback to a")
    assert connection.status == "T"
    assert ask(connection, "select current_setting('a.b') from t where id = 150") == [["mine"]]
    all_of(connection, "insert into t values (1002, 'never')", "rollback")
    assert ask(connection, "select v from t where id = 1002") == []


# ---- a shard is down ------------------------------------------------------------------------------------------------


def test_what_may_run_anywhere_does_not_fail_with_a_shard(tessera, new_server, new_database):
    servers = [new_server("chain0"), new_server("chain1")]
    database = new_database(servers, SCHEMA)
    proxy = tessera(config_of(servers, database, pool={"checkout_timeout": "1s", "reconnect_max": "500ms"}, **RULES))
    sessions = [log_in(proxy, database) for _ in range(4)]
    for connection in sessions:
        all_of(connection, "select v from t where id = 5", "select v from t where id = 150")
    servers[0].stop("fast")  # a crash would lose the table: these servers do not wait for their disks
    ask(sessions[0], "select v from t where id = 5")  # so it is known
    for connection in sessions:
        all_of(connection, "begin", "set local statement_timeout = '5s'")
        assert ask(connection, "select v, current_setting('statement_timeout') from t where id = 150") == [["row 150", "5s"]]
        all_of(connection, "commit", "set work_mem = '1MB'")
        assert ask(connection, "select v, current_setting('work_mem') from t where id = 150") == [["row 150", "1MB"]]
    servers[0].start()
    for connection in sessions:
        eventually(lambda: ask(connection, "select v from t where id = 5") == [["row 5"]], what="it is back")
        connection.close()


WITH_KEY = "select v from t where id = 150"


@pytest.mark.parametrize("sql", [
    ["begin", "set local timezone = 'Asia/Tokyo'", "set local timezone = 'Asia/Tokyo'", "set local intervalstyle = iso_8601", WITH_KEY, "commit", WITH_KEY],
    ["begin", "set local timezone = 'Asia/Tokyo'", "rollback"],
    ["begin", "set local timezone = 'Asia/Tokyo'", "commit and chain", "set local application_name = 'x'", WITH_KEY, "rollback"],
    ["set timezone = 'Europe/Oslo'", "begin", "set local timezone = 'Asia/Tokyo'", "savepoint a", "set local timezone = 'UTC'", "savepoint b", "set local datestyle = 'SQL'",
     "rollback to b", "rollback to a", "rollback to a", "set local datestyle = 'German'", WITH_KEY, "rollback to a", "commit"],
    ["begin", "set local timezone = 'Asia/Tokyo'", "savepoint a", "set local application_name = 'x'", "set local timezone = 'nowhere'", "rollback to a", WITH_KEY, "rollback"],
    ["begin", "set local timezone = 'Asia/Tokyo'", "set local timezone = 'nowhere'", "rollback; select 1"],
    ["begin", "set local timezone = 'Asia/Tokyo'", "select nosuch from t where id = 150", "rollback"],
    ["begin", "set local work_mem = '1MB'", "set local standard_conforming_strings = off", "set local standard_conforming_strings = on", WITH_KEY, "commit"]])
@pytest.mark.parametrize("ask_for", [wire.query, lambda sql: wire.parse(sql) + wire.bind() + wire.execute() + wire.SYNC])
def test_what_set_local_changes_is_told_as_a_server_tells_it(connection, servers, database, sql, ask_for):
    """ParameterStatus with the very SET LOCAL, before the transaction has a shard; and back, if it never has."""
    def told(to, text):
        status = [reply.body.split(b"\0")[:2] for reply in to.ask(wire.query(text) if ";" in text else ask_for(text)) if reply.type == "S"]
        return sorted(status)

    with wire.connect("127.0.0.1", servers[1].port, "app", database, "app") as plain:
        for text in sql:
            assert told(connection, text) == told(plain, text), text


def test_what_another_server_refuses_is_taken_back(tessera, servers, database):
    """The SET LOCAL went well where it was tried out, and fails where the transaction then runs."""
    servers[0].run("create text search configuration only_here (copy = simple)", database)
    proxy = tessera(config_of(servers, database, **RULES))
    for _ in range(20):
        with log_in(proxy, database) as connection:
            usual = connection.parameters["TimeZone"]
            ask(connection, "begin")
            ask(connection, "set local timezone = 'Asia/Tokyo'")
            if ask(connection, "set local default_text_search_config = 'only_here'") == []:
                replies = connection.ask(wire.query(WITH_KEY))
                assert code(replies) == "22023" and connection.status == "E"
                assert [reply.body for reply in replies if reply.type == "S"] == [f"TimeZone\0{usual}\0".encode()]
                assert [reply.type for reply in connection.ask(wire.query("rollback"))] == ["C", "Z"]
                return
    raise AssertionError("never tried out on the first server")
