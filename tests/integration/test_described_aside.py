"""Parse and Describe in a transaction that has no shard yet: they run on some server, and mean what the transaction has set."""

import os
import signal
import time

import pytest
from harness import wire
from harness.hanging import Stopped
from roles import need_role
from talk import ask, backends_of, code, config_of, eventually, log_in, rows
from twins import masked
from two_shards import ranges

SCHEMA = """
create schema b; create schema aside;
create table public.t (id int primary key, v text, at date); create table b.t (id bigint primary key, w text, at timestamp, more int);
create table aside.t (id int primary key, r text); create table b.here (id int primary key);
insert into public.t select i, 'public', '2024-03-02' from generate_series(1, 200) i;
insert into b.t select i, 'b', '2024-03-02 12:00', 7 from generate_series(1, 200) i;
insert into aside.t select i, 'aside' from generate_series(1, 200) i;
grant usage on schema aside, b to public; grant all on all tables in schema public, b, aside to public;
"""
RULES = {"rules": ranges(100)["rules"], "tables": {name: {"rule": "r", "key": "id"} for name in ("public.t", "b.t", "aside.t", "b.here")}}


@pytest.fixture(scope="module")
def database(servers, new_database):
    name = new_database(servers, SCHEMA)
    for server in servers:
        need_role(server, "aside")
        server.run("grant aside to app")
    return name


@pytest.fixture
def connection(tessera, servers, database):
    with log_in(tessera(config_of(servers, database, **RULES)), database) as connection:
        yield connection


@pytest.fixture
def plain(servers, database):
    with wire.connect("127.0.0.1", servers[1].port, "app", database, "app") as plain:
        yield plain


def prepare(sql, name=""):
    return wire.parse(sql, name) + wire.describe_statement(name) + wire.SYNC


def run(name, *values):
    return wire.bind(list(values), name=name) + wire.execute() + wire.SYNC


def flushed(sql):
    """As asyncpg asks: a description, and what to do with it comes in the same unit."""
    return wire.parse(sql, "f") + wire.describe_statement("f") + wire.FLUSH


def extended(sql):
    return wire.parse(sql) + wire.bind() + wire.describe_portal() + wire.execute() + wire.SYNC


def told(replies):
    """Less the line of the server's source that an error comes from: some are Tessera's own."""
    return [{field: text for field, text in wire.error_fields(reply.body).items() if field not in "FLR"} if reply.type == "E" else masked(reply) for reply in replies if reply.type != "S"]


def answers(connection, data):
    """All of them; after Flush up to a description or an error. ParameterStatus by itself: its place is not fixed."""
    connection.send(data)
    replies = connection.read_until(*("Z" if data.endswith(wire.SYNC) or data[:1] == b"Q" else "TnE"))
    return told(replies), sorted(reply.body for reply in replies if reply.type == "S")


def alike(connection, plain, *messages):
    for data in messages:
        ours = answers(connection, data)
        assert ours == answers(plain, data), data


T1, T150, ANY, IN_B = "select * from t where id = 1", "select * from t where id = 150", "select * from t where id = $1", "set local search_path = b"
AFTER = prepare(T1, "after")


@pytest.mark.parametrize("tell", [wire.query, extended], ids=["simple", "extended"])
@pytest.mark.parametrize("s", ["", "s"], ids=["unnamed", "named"])
@pytest.mark.parametrize("steps", [
    lambda s: [IN_B, prepare(T1, s), prepare(T150, s + "u"), "rollback", AFTER],
    lambda s: [IN_B, prepare(ANY, s), run(s, b"150"), run(s, b"151"), "commit", AFTER],
    lambda s: [IN_B, prepare("select * from here where id = 1", s), "commit"],
    lambda s: [IN_B, prepare("select v from t where id = 1", s), "select 1", "rollback", AFTER],
    lambda s: [IN_B, "savepoint a", "set local search_path = public", prepare(T1, s), "rollback to a", prepare(T1, s + "u"), "rollback"],
    lambda s: [IN_B, "savepoint a", prepare("select * from nosuch where id = 1", s), "rollback to a", prepare(ANY, s + "u"), run(s + "u", b"150"), "rollback", AFTER],
    lambda s: ["set local role aside", prepare(T1, s), prepare(ANY, s + "u"), run(s + "u", b"150"), "commit", AFTER],
    lambda s: ["set local datestyle = 'ISO, DMY'", prepare("select '31/12/2020'::date from t where id = 150", s), run(s), "commit"],
    lambda s: ["set local datestyle = 'ISO, DMY'", prepare("select '02/03/2020'::date::text from t where id = 1", s), run(s), "commit"],
    lambda s: ["set transaction read only", IN_B, prepare(T1, s), run(s), prepare("update t set w = 'x' where id = 1", s + "u"), run(s + "u"), "rollback"],
    lambda s: [IN_B, flushed(ANY), run("f", b"1"), "commit"],
    lambda s: [IN_B, flushed(ANY), run("f", b"150"), "commit"],
    lambda s: [IN_B, flushed(ANY), wire.close_portal("none") + run("f", b"150"), "commit"],
    lambda s: [IN_B, flushed(ANY), wire.query(T150), "commit"],
    lambda s: [IN_B, flushed("select * from nosuch"), wire.SYNC, "select 1", "rollback", AFTER],
    lambda s: [IN_B, wire.parse(T1, "s") + wire.SYNC, wire.parse(T1, "s") + wire.SYNC, "rollback"],
    lambda s: [IN_B, wire.describe_statement("none") + wire.SYNC, "rollback", AFTER],
    lambda s: [IN_B, "set local timezone = 'Asia/Tokyo'", prepare(T1, s), prepare(T150, s + "u"), run(s + "u"), "rollback"],
    lambda s: ["set local statement_timeout = '5s'", prepare(ANY, s), run(s, b"150"), "commit"]])
def test_a_description_is_of_what_the_transaction_has_set(connection, plain, servers, database, steps, s, tell):
    alike(connection, plain, *(step if isinstance(step, bytes) else tell(step) for step in ["begin", *steps(s)]))
    for server in servers:
        eventually(lambda: server.run(f"select count(*) from pg_stat_activity where datname = '{database}' and state like 'idle in%'", "postgres").strip() == "0", what="nothing is left open")


def test_all_in_one_flight(connection, plain):
    """Nobody waits for answers: the transaction, its path, descriptions, an error, the end."""
    data = b"".join([wire.query("begin"), wire.query(IN_B), prepare(T1), prepare(ANY, "s"), prepare("select nosuch from t", "u"), prepare(T1, "v"), wire.query("rollback"), prepare(T1, "w")])
    seen = []
    for to in (connection, plain):
        to.send(data)
        seen.append(told([reply for _ in range(8) for reply in to.read_until("Z")]))
    assert seen[0] == seen[1]


@pytest.mark.parametrize("opening", [["begin", "set local search_path = {}"], ["set search_path = {}", "begin"], ["set search_path = {}"]])
def test_clients_with_other_paths_share_no_statement(tessera, servers, database, opening):
    """A parameter has the type that the path gave it when the text was first prepared: '2024-03-02 12:00' as a date is another value."""
    proxy = tessera(config_of(servers, database, pool={"size": 1}, **RULES))
    sql = "select count(*) from t where id = 150 and at = $1"
    with log_in(proxy, database) as public, log_in(proxy, database) as other:
        for connection, schema, found in ((public, "public", "1"), (other, "b", "1"), (public, "public", "1")):
            for opener in opening:
                assert ask(connection, opener.format(schema)) == []
            replies = connection.ask(wire.parse(sql, "s" + schema) + wire.bind([b"2024-03-02 12:00"], name="s" + schema) + wire.execute() + wire.close_statement("s" + schema) + wire.SYNC)
            assert rows(replies) == [[found]], (schema, replies)
            ask(connection, "rollback")


def test_a_server_that_is_lost_meanwhile_fails_the_transaction(connection, servers, database):
    for sql in ("select v from t where id = 5", "select v from t where id = 150"):
        ask(connection, sql)
    for setting in (IN_B, "savepoint x"):
        ask(connection, "begin")
        ask(connection, setting)
        backends = [(server, process) for server in servers for process in backends_of(server, database)]
        with Stopped(servers[0]), Stopped(servers[1]):
            connection.send(prepare("select * from t"))
            time.sleep(0.3)
            for _, process in backends:
                os.kill(process, signal.SIGTERM)
        replies = connection.read_until("Z")
        assert code(replies) and connection.status == "E"
        assert ask(connection, "insert into public.t values (1000, 'never')") == "25P02"
        ask(connection, "rollback")
        assert connection.status == "I" and ask(connection, "select v from t where id = 1000") == []


@pytest.mark.parametrize("flush", [False, True])
def test_a_description_that_is_cancelled_leaves_nothing(tessera, servers, database, flush):
    proxy = tessera(config_of(servers, database, pool={"size": 1}, **RULES))
    with log_in(proxy, database) as connection, log_in(proxy, database) as other:
        ask(connection, "begin")
        ask(connection, IN_B)
        holders = [server.connect(database) for server in servers]
        try:
            for holder in holders:
                holder.execute("begin")
                holder.execute("lock table b.t in access exclusive mode")
            connection.send(flushed(T1) if flush else prepare(T1))
            eventually(lambda: any(server.run(f"select count(*) from pg_locks l join pg_database d on d.oid = l.database where datname = '{database}' and not granted", "postgres").strip() != "0" for server in servers), what="it waits for the lock")
            with wire.Wire(proxy.host, proxy.port) as canceller:
                canceller.send(wire.cancel_request(connection.process_id, connection.secret_key))
                canceller.read_to_end()
            assert code(connection.read_until("E")) == "57014"
            if flush:
                connection.send(wire.SYNC)
            connection.read_until("Z")
            assert connection.status == "E"
        finally:
            for holder in holders:
                holder.close()
        for to in (other, connection):
            if to is connection:
                assert ask(to, "select 1") == "25P02" and ask(to, "rollback") == []
            assert ask(to, "select current_setting('search_path'), v from t where id = 1") == [['"$user", public', "public"]]
            assert ask(to, "select current_setting('search_path'), v from t where id = 150") == [['"$user", public', "public"]]
