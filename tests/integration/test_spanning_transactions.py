"""Transactions over several shards: what one plain server answers, statement by statement, and what is left in the end."""

import random
import socket
import struct
import threading
import time

import pytest
from gathered import SCHEMA, SHARDS, TABLES, answer, two_databases
from harness import wire
from harness.tessera import database_config
from harness.hanging import Stopped
from talk import backends_of, code, errors, eventually, log_in, rows
from test_cancel import cancel
from test_gather import QUERIES as GATHERED


@pytest.fixture(scope="module")
def both(shards, new_database, tmp_path_factory):
    with two_databases(shards, new_database, tmp_path_factory, SCHEMA + "create table kept (id bigint primary key, v text check (v <> 'bad'));", {**TABLES, "kept": {"rule": "by_user", "key": "id"}}) as (through, one, proxy, database):
        yield through, one, proxy, database


@pytest.fixture
def pair(both):
    """A connection through Tessera, and one to the plain server."""
    through, one, proxy, database = both
    with wire.connect(proxy.host, proxy.port, "app", database, "app") as sharded, wire.connect(one.info.host, one.info.port, "app", one.info.dbname, "app") as plain:
        yield sharded, plain
    for connection in (through, one):
        connection.execute("delete from kept where id < 0")


def told(replies):
    """What a client is told, places and wording of errors aside."""
    out = []
    for reply in replies:
        if reply.type == "E":
            out.append(wire.error_fields(reply.body)["C"])
        elif reply.type in "CDZ":
            out.append(bytes(reply.body))
    if any(reply.type == "E" for reply in replies):
        out = [one for one in out if isinstance(one, str) or one in (b"I", b"T", b"E")]  # rows may come before it
    return sorted(out[:-1], key=repr) + out[-1:] if out else out


KEPT = "select id, v from kept where id in (-1, -2, -3, -4, -5, -6, -7, -8)"
PUT = [f"insert into kept values ({i}, 'x{i}')" for i in range(-8, 0)]
SCRIPTS = {
    "it commits on all": ["begin", *PUT, KEPT, "commit", KEPT],
    "it is rolled back on all": ["begin", *PUT, KEPT, "rollback", KEPT],
    "an error on one fails it on all": ["begin", *PUT[:4], "insert into kept values (-5, 'bad')", PUT[5], KEPT, "select 1", "commit", KEPT],
    "rollback after an error": ["begin", *PUT[:4], "select 1 / 0", "savepoint s", "rollback", KEPT],
    "savepoints": ["begin", PUT[0], "savepoint a", *PUT[1:4], "rollback to a", *PUT[4:6], "commit", KEPT],
    "savepoints before and behind": ["begin", "savepoint a", *PUT[0:3], "savepoint b", *PUT[3:6], "release b", "savepoint c", *PUT[6:], "rollback to savepoint c", "rollback to a", PUT[2], "commit", KEPT],
    "back to a savepoint after an error": ["begin", *PUT[:2], "savepoint a", PUT[3], "insert into kept values (-5, 'bad')", "rollback to a", *PUT[5:], "release a", KEPT, "commit", KEPT],
    "a savepoint that there is not": ["begin", *PUT[:3], "rollback to nowhere", "select 1", "rollback", KEPT],
    "a savepoint from before an error on a shard that joined later": ["begin", PUT[0], "savepoint a", "savepoint b", PUT[1], PUT[2], "insert into kept values (-4, 'bad')", "rollback to a", PUT[6], "commit", KEPT],
    "read only": ["begin read only", KEPT, "select v from kept where id = -1", PUT[1], "rollback", KEPT],
    "read only is told to those that join": ["begin", "set transaction read only", "select v from kept where id = -1", PUT[1], "rollback"],
    "isolation is told to those that join": ["begin isolation level repeatable read", "select v from kept where id = -1", "select v from kept where id = -2", "show transaction_isolation", "select v from kept where id = -3", "show transaction_isolation", "commit"],
    "settings": ["begin", "set local timezone = 'Asia/Tokyo'", PUT[0], "show timezone", PUT[1], "show timezone", "set local timezone = 'Europe/Rome'", PUT[2], "show timezone", "select v from kept where id = -8", "show timezone", "commit", "show timezone"],
    "settings that go back": ["begin", PUT[0], PUT[1], "savepoint a", "set timezone = 'Asia/Tokyo'", PUT[2], "show timezone", "rollback to a", "select v from kept where id = -8", "show timezone", "select v from kept where id = -7", "show timezone", "select v from kept where id = -6", "show timezone", "set datestyle = 'German'", "commit", "show datestyle",
                             "select v from kept where id = -8", "show datestyle", "reset datestyle"],
    "a setting that is wrong": ["begin", PUT[0], PUT[1], "set timezone = 'nowhere'", PUT[2], "rollback"],
    "it ends twice": ["begin", PUT[0], PUT[1], "commit", "commit", "rollback"],
    "begin in the middle": ["begin", PUT[0], PUT[1], "begin", PUT[2], "commit", KEPT],
    "all rows": ["begin", *PUT, "select v from kept where id < 0", "update kept set v = 'new' where id = -3", "select v from kept where id < 0 and v = 'new'", "commit"],
    "reading first": ["begin", "select v from kept where id < 0", PUT[0], PUT[5], "select v from kept where id < 0", "rollback", "select v from kept where id < 0"],
    "an error in all rows": ["begin", PUT[0], "select 1 / (id + 8) from kept where id < 0", "select 1", "rollback", KEPT],
    "an error in all rows, behind a savepoint": ["begin", PUT[0], "savepoint a", PUT[1], "select 1 / (id + 7) from kept where id < 0", "rollback to a", "select v from kept where id < 0", PUT[3], "commit", KEPT],
    "aggregates and sorted rows see what it has written": ["begin", *PUT[:5], "select count(*), max(v) from kept where id < 0", "select v from kept where id < 0 order by v desc limit 3", "update kept set v = 'zz' where id = -8", "select max(v) from kept where id < 0",
                                                           "savepoint a", "insert into kept values (-1, 'zzz')", "select max(v), count(*) from kept where id < 0", "rollback to a", "select max(v), count(*) from kept where id < 0", "rollback", "select count(*) from kept where id < 0"],
    "joins see what it has written": ["begin", *PUT, "select count(*) from kept a join kept b on a.v < b.v where a.id < 0 and b.id < 0", "select c.name, count(*) from countries c, kept where kept.id < 0 group by 1 order by 1", "select s.value, k.v from settings s, kept k where k.id < 0 order by 2, 1 limit 3", "commit"],
    "a plain table that it has written": ["begin", "update settings set value = 'mine' where name = 'x'", PUT[0], PUT[1], "select s.value, count(*) from settings s, kept k where k.id < 0 group by 1 order by 1", "rollback", "select value from settings where name = 'x'"],
    "local settings count on the merge node": ["begin", PUT[0], PUT[1], "set local timezone = 'Asia/Tokyo'", "select max(at)::text from orders", "set local datestyle = 'German'", "select v, (select max(at)::text from orders) from kept where id < 0 order by 1", "rollback"],
    "an error on the merge node fails it": ["begin", *PUT[:3], "savepoint a", "select 1 / (count(*) - count(*)) from kept where id < 0", "select 1", "rollback to a", "select count(*) from kept where id < 0", "commit", KEPT],
    "an error in what it gathers fails it": ["begin", *PUT[:3], "savepoint a", "select sum(v::int) from kept where id < 0", "rollback to a", "select count(distinct v) from kept where id < 0", "rollback"],
    "repeatable read": ["begin isolation level repeatable read", "select count(*) from kept where id < 0", *PUT[:3], "select count(*) from kept where id < 0", "commit"],
    "deferred constraints": ["begin", *PUT[:3], "set constraints all deferred", "commit", KEPT],
    "a reference table and a plain one": ["begin", PUT[0], "select name from countries where code = 'DE'", "select value from settings where name = 'limit'", PUT[1], "commit", KEPT],
    "nothing but savepoints": ["begin", PUT[0], PUT[1], *["savepoint s", PUT[3].replace("-5", "-9"), "rollback to s", "release s"] * 3, PUT[4], "commit", KEPT],
}


@pytest.mark.parametrize("script", SCRIPTS.values(), ids=SCRIPTS)
def test_simple_queries(pair, script):
    for statement in script:
        answers = [told(connection.ask(wire.query(statement))) for connection in pair]
        assert answers[0] == answers[1], statement


def extended(statement):
    return wire.parse(statement) + wire.bind() + wire.describe_portal() + wire.execute()


@pytest.mark.parametrize("script", SCRIPTS.values(), ids=SCRIPTS)
def test_extended_queries(pair, script):
    for statement in script:
        answers = [told(connection.ask(extended(statement) + wire.SYNC)) for connection in pair]
        assert answers[0] == answers[1], statement


@pytest.mark.parametrize("script", SCRIPTS.values(), ids=SCRIPTS)
def test_pipelines(pair, script):
    """All of it in one packet, each statement with its Sync."""
    for connection in pair:
        connection.send(b"".join(extended(statement) + wire.SYNC for statement in script))
    for statement in script:
        answers = [told(connection.read_until("Z")) for connection in pair]
        assert answers[0] == answers[1], statement


@pytest.mark.parametrize("script", SCRIPTS.values(), ids=SCRIPTS)
def test_one_unit(pair, script):
    """All of it up to COMMIT or ROLLBACK as one pipeline with one Sync."""
    end = next(i for i, statement in enumerate(script) if statement in ("commit", "rollback"))
    first = script[: end + 1]
    answers = [told(connection.ask(b"".join(extended(statement) for statement in first) + wire.SYNC)) for connection in pair]
    assert answers[0] == answers[1]
    for connection in pair:
        connection.ask(wire.query("rollback"))
    assert told(pair[0].ask(wire.query(KEPT))) == told(pair[1].ask(wire.query(KEPT)))


def test_what_can_be_gathered_can_be_in_a_transaction(both):
    through, one, *_ = both
    same = 0
    for connection in (through, one):
        connection.execute("begin")
        connection.execute("insert into users values (-1, 'new', 'DE'), (-1000, 'other', 'FR')" if connection is one else "insert into users values (-1, 'new', 'DE')")
        if connection is through:
            connection.execute("insert into users values (-1000, 'other', 'FR')")
    for query in GATHERED:
        for connection in (through, one):
            connection.execute("savepoint s")
        found, expected = answer(through, query), answer(one, query)
        assert found in (expected, "0A000"), query
        same += found == expected
        for connection in (through, one):
            connection.execute("rollback to s")
    for connection in (through, one):
        connection.execute("rollback")
    assert same > len(GATHERED) * 0.9


# ---- what can go wrong


SPAN = [f"insert into kept values ({i}, 'x')" for i in (-8, -7, -6, -5, -4, -3, -2, -1)]


def clean(database, servers):
    """No transaction is left open, nothing prepared, on any shard."""
    for server in servers:
        eventually(lambda server=server: server.run(f"select count(*) from pg_stat_activity where datname = '{database}' and backend_type = 'client backend' and state <> 'idle' and pid <> pg_backend_pid()", database).strip() == "0", what="all transactions end")


@pytest.fixture(scope="module")
def four_alone(shards, new_database):
    four = shards(SHARDS)
    return four, new_database(four, "create table kept (id bigint primary key, v text, n bigint default 0)")


@pytest.fixture
def alone(four_alone, tessera):
    """(proxy, database, servers) of four shards with one empty table, and pools of `size`."""
    four, database = four_alone
    for server in four:
        eventually(lambda server=server: not backends_of(server, database), what="nobody is there from before")
        server.run("truncate kept", database)

    def start(**config):
        rule = {"type": "hash", "shards": [f"s{i}" for i in range(SHARDS)]}
        return tessera({"workers": 1, "databases": {database: database_config(four, database, **{"rules": {"r": rule}, "tables": {"kept": {"rule": "r", "key": "id"}}, **config})}})

    return start, database, four


def test_a_shard_that_is_lost_takes_the_transaction_with_it(alone):
    start, database, servers = alone
    proxy = start()
    with log_in(proxy, database) as connection:
        for lost in range(SHARDS):
            for statement in ("begin", *SPAN):
                assert code(connection.ask(wire.query(statement))) is None
            servers[lost].run(f"select pg_terminate_backend(pid) from pg_stat_activity where datname = '{database}' and backend_type = 'client backend' and state like 'idle in%'", "postgres")
            eventually(lambda: code(connection.ask(wire.query("select v from kept where id = -1"))) in ("08006", "25P02"), what="the loss is seen")
            assert code(connection.ask(wire.query("select 1"))) == "25P02" and connection.status == "E"
            assert [bytes(reply.body) for reply in connection.ask(wire.query("commit"))] in ([b"ROLLBACK\0", b"I"],), "nothing is committed"
            assert rows(connection.ask(wire.query("select v from kept"))) == []
            clean(database, servers)


def test_a_lost_connection_at_commit_is_told(alone):
    """The client is told of it, and nothing is committed."""
    start, database, servers = alone
    proxy = start()
    with log_in(proxy, database) as connection:
        for statement in ("begin", *SPAN):
            connection.ask(wire.query(statement))
        for server in servers:
            server.run(f"select pg_terminate_backend(pid) from pg_stat_activity where datname = '{database}' and backend_type = 'client backend' and state like 'idle in%'", "postgres")
        assert code(connection.ask(wire.query("commit"))) in ("08006", "08007")
        assert connection.status == "I" or code(connection.ask(wire.query("rollback"))) is None
        assert rows(connection.ask(wire.query("select v from kept"))) == []


def test_a_client_that_goes_away_leaves_nothing(alone):
    start, database, servers = alone
    proxy = start(pool={"size": 2})
    for _ in range(4):
        with log_in(proxy, database) as connection:
            for statement in ("begin", *SPAN):
                assert code(connection.ask(wire.query(statement))) is None
    clean(database, servers)
    with log_in(proxy, database) as connection:
        assert rows(connection.ask(wire.query("select v from kept"))) == []


def test_a_shard_that_cannot_be_had_fails_it(alone):
    """With every connection to a shard taken, the transaction that wants one more fails in time, everywhere."""
    start, database, servers = alone
    proxy = start(pool={"size": 1, "checkout_timeout": "500ms"})
    with log_in(proxy, database) as holder, log_in(proxy, database) as other:
        assert code(holder.ask(wire.query("begin"))) is None and code(holder.ask(wire.query(SPAN[0]))) is None
        other.ask(wire.query("begin"))
        answers = [code(other.ask(wire.query(statement))) for statement in SPAN]
        assert "53300" in answers and answers[-1] == "25P02", answers
        assert [bytes(reply.body) for reply in other.ask(wire.query("commit"))] == [b"ROLLBACK\0", b"I"]
        assert code(holder.ask(wire.query("commit"))) is None
        assert rows(other.ask(wire.query("select id from kept"))) == [["-8"]]


def test_all_rows_in_a_transaction_wait_and_are_cancelled(alone):
    """A cancel request reaches what runs on all shards of it; the transaction fails, and its savepoint is still there."""
    start, database, servers = alone
    proxy = start()
    with log_in(proxy, database) as connection:
        for statement in ("begin", *SPAN, "savepoint a"):
            connection.ask(wire.query(statement))
        for _ in range(5):
            connection.send(wire.query("select pg_sleep(10) from kept"))
            time.sleep(0.3)
            cancel(proxy, connection.process_id, connection.secret_key)
            assert code(connection.read_until("Z")) == "57014" and connection.status == "E"
            assert code(connection.ask(wire.query("rollback to a"))) is None
            assert len(rows(connection.ask(wire.query("select v from kept")))) == 8
        connection.ask(wire.query("set statement_timeout = '200ms'"))
        assert code(connection.ask(wire.query("select pg_sleep(10) from kept"))) == "57014"
        assert code(connection.ask(wire.query("rollback to a"))) is None
        assert code(connection.ask(wire.query("commit"))) is None
        assert len(rows(connection.ask(wire.query("select v from kept")))) == 8
    clean(database, servers)


@pytest.mark.parametrize("hanging", range(SHARDS))
def test_a_server_that_hangs_is_given_up(alone, hanging):
    """It is asked to stop; one that does not even do that loses its connection, and the others are clean, in time."""
    start, database, servers = alone
    proxy = start(limits={"statement_timeout": "500ms"})
    with log_in(proxy, database, timeout=30) as connection:
        for statement in ("begin", *SPAN):
            connection.ask(wire.query(statement))
        with Stopped(servers[hanging]):
            started = time.monotonic()
            assert code(connection.ask(wire.query("select v from kept"))) in ("57014", "08006")
            assert connection.status == "E" and time.monotonic() - started < 12
        assert code(connection.ask(wire.query("rollback"))) is None
        assert rows(connection.ask(wire.query("select v from kept"))) == []
    clean(database, servers)


def test_it_can_be_forbidden(alone):
    start, database, _ = alone
    proxy = start(cross_shard_transactions="single_shard")
    with log_in(proxy, database) as connection:
        connection.ask(wire.query("begin"))
        refused = next(found for found in (errors(connection.ask(wire.query(statement))) for statement in SPAN) if found)
        assert refused[0]["C"] == "0A000" and "single_shard" in refused[0]["D"]
        assert connection.status == "E"


def test_what_was_begun_with_others_stays_on_its_shard(alone):
    start, database, _ = alone
    proxy = start()
    with log_in(proxy, database) as connection:
        assert code(connection.ask(wire.query(f"begin; {SPAN[0]}"))) is None
        refused = next(found for found in (errors(connection.ask(wire.query(statement))) for statement in SPAN[1:]) if found)
        assert refused[0]["C"] == "0A000" and connection.status == "E"
        connection.ask(wire.query("rollback"))
        assert rows(connection.ask(wire.query("select v from kept"))) == []


@pytest.mark.parametrize("mode", ["transaction", "session"])
def test_transfers_between_shards(alone, mode):
    """Money moves between accounts on all shards, in transactions that are committed, rolled back and broken off."""
    start, database, servers = alone
    accounts, workers, rounds = 20, 6, 60
    proxy = start(pool={"size": 20, "mode": mode})
    with log_in(proxy, database) as connection:
        for i in range(accounts):
            connection.ask(wire.query(f"insert into kept values ({i}, 'account', 100)"))
    problems = []

    def work(number):
        pick = random.Random(number)
        connection = log_in(proxy, database, timeout=60)
        for _ in range(rounds):
            a, b = sorted(pick.sample(range(accounts), 2))
            amount = pick.randrange(1, 20)
            statements = ["begin", f"update kept set n = n - {amount} where id = {a}", f"update kept set n = n + {amount} where id = {b}"]
            how = pick.random()
            for statement in statements:
                if found := errors(connection.ask(wire.query(statement))):
                    problems.append(found)
            if how < 0.1:
                connection.close()
                connection = log_in(proxy, database, timeout=60)
            elif found := errors(connection.ask(wire.query("rollback" if how < 0.3 else "commit"))):
                problems.append(found)
        connection.close()

    threads = [threading.Thread(target=work, args=(number,)) for number in range(workers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert problems == []
    clean(database, servers)
    total = sum(int(server.run("select coalesce(sum(n), 0) from kept", database)) for server in servers)
    assert total == 100 * accounts


def test_a_client_that_goes_behind_its_commit_has_committed(alone):
    """All of it or nothing, however the client goes: COMMIT was said."""
    start, database, servers = alone
    proxy = start()
    for i in range(1, 60):
        connection = log_in(proxy, database)
        for statement in ("begin", *(f"insert into kept values ({number}, 'x')" for number in range(100 * i, 100 * i + 8))):
            connection.ask(wire.query(statement))
        connection.send(wire.query("commit"))
        time.sleep(i % 5 / 1000)
        connection.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # a reset, not an end
        connection.socket.close()
    clean(database, servers)
    with log_in(proxy, database) as connection:
        counts = {count for _, count in rows(connection.ask(wire.query("select id / 100, count(*) from kept group by 1")))}
    assert counts <= {"8"}, counts


def test_a_commit_that_breaks_off_is_told_and_leaves_no_setting_behind(shards, new_database, tessera):
    """One shard refuses when another has committed: 08007 with their names, and what was SET there serves nobody."""
    four = shards(SHARDS)
    database = new_database(four, "create table kept (id bigint primary key, parent bigint references kept deferrable initially deferred)")
    rule = {"type": "hash", "shards": [f"s{i}" for i in range(SHARDS)]}
    proxy = tessera({"workers": 1, "databases": {database: database_config(four, database, rules={"r": rule}, tables={"kept": {"rule": "r", "key": "id"}}, pool={"size": 1})}})
    with log_in(proxy, database) as connection:
        for i in range(-8, 0):
            connection.ask(wire.query(f"insert into kept values ({i})"))
        on = {number: [int(i) for i in server.run("select id from kept order by 1", database).split()] for number, server in enumerate(four)}
        first, last = [ids for ids in on.values() if ids][0][0], [ids for ids in on.values() if ids][-1][0]
        for statement in ("begin", f"update kept set parent = id where id = {first}", "set timezone = 'Asia/Tokyo'", f"update kept set parent = 999 where id = {last}"):
            assert code(connection.ask(wire.query(statement))) is None
        (told,) = errors(connection.ask(wire.query("commit")))
        assert told["C"] == "08007" and "committed on" in told["D"] and "rolled back on" in told["D"] and connection.status == "I"
        assert rows(connection.ask(wire.query(f"select parent from kept where id = {first}"))) == [[str(first)]]
        assert rows(connection.ask(wire.query(f"select parent from kept where id = {last}"))) == [[None]]
    with log_in(proxy, database) as other:
        for i in range(-8, 0):
            assert rows(other.ask(wire.query(f"select current_setting('timezone') = 'Asia/Tokyo' from kept where id = {i}"))) == [["f"]]
