"""What an attack on transactions and writes over several shards has found: losses while shards join, writers that meet,
settings that a joining shard knows otherwise, units of messages, row limits."""

import threading

import pytest
from gathered import SCHEMA, SHARDS, TABLES, two_databases
from harness import wire
from harness.hanging import Stopped
from talk import backends_of, code, errors, eventually, log_in, rows
from test_spanning_transactions import extended, told
from test_spread_writes import MANY

MORE = """
create type size as enum ('s', 'm', 'l');
create table kept (id bigint primary key, v text check (v <> 'bad'), n int default 7, tags text[]);
create table sized (id bigint primary key, size size);
create table named (name text primary key, v text);
create table colors (code text primary key, name text, n int);
create table shades (code text, n int);
"""
MINE = ("kept", "sized", "named", "colors", "shades")
PLACES = {0: 0, 1: 5, 2: 6, 3: 1}  # by shard: a key that lies there


@pytest.fixture(scope="module")
def both(shards, new_database, tmp_path_factory):
    more = {"kept": {"rule": "by_user", "key": "id"}, "sized": {"rule": "by_user", "key": "id"}, "named": {"rule": "by_item", "key": "name"}, "colors": {"reference": True}, "shades": {"reference": True}}
    with two_databases(shards, new_database, tmp_path_factory, SCHEMA + MORE, {**TABLES, **more}) as (through, one, proxy, database):
        yield through, one, proxy, database, shards(SHARDS)


@pytest.fixture
def pair(both):
    _, one, proxy, database, servers = both
    for server in servers:
        server.run(f"truncate {', '.join(MINE)}", database)
    one.execute(f"truncate {', '.join(MINE)}")
    with log_in(proxy, database, timeout=30) as sharded, wire.connect(one.info.host, one.info.port, "app", one.info.dbname, "app") as plain:
        yield sharded, plain


def kill(both, shard, state):
    _, _, _, database, servers = both
    servers[shard].run(f"select pg_terminate_backend(pid, 1000) from pg_stat_activity where datname = '{database}' and backend_type = 'client backend' and state like '{state}'", "postgres")


def put(connection):
    assert code(connection.ask(wire.query("insert into kept (id, n) values " + ", ".join(f"({key}, 0)" for key in PLACES.values())))) is None


def numbers(both):
    _, _, proxy, database, _ = both
    with log_in(proxy, database) as other:
        return [row[0] for row in rows(other.ask(wire.query("select n from kept order by id")))]


def as_message(statement, how):
    return wire.query(statement) if how == "simple" else extended(statement) + wire.SYNC


@pytest.mark.parametrize("how", ["simple", "extended"])
@pytest.mark.parametrize("statement", ["update kept set n = n + 1", "update kept set n = n + 1 where id = 6", "select count(*) from kept"])
def test_a_shard_is_lost_while_another_joins(both, pair, statement, how):
    """What the lost one had done is undone, and the client is told: nothing commits behind its back."""
    sharded = pair[0]
    put(sharded)
    kill(both, 2, "%")
    for first in ("begin", f"update kept set n = n + 100 where id = {PLACES[0]}"):
        assert code(sharded.ask(wire.query(first))) is None
    with Stopped(both[4][2]):
        sharded.send(as_message(statement, how))
        eventually(lambda: backends_of(both[4][0], both[3]))
        kill(both, 0, "idle in%")
    replies = sharded.read_until("Z")
    assert code(replies) in ("08006", "08003") and sharded.status == "E", replies
    assert code(sharded.ask(wire.query("update kept set n = n + 1000 where id = 5"))) == "25P02"
    sharded.ask(wire.query("rollback"))
    assert numbers(both) == ["0"] * 4


@pytest.mark.parametrize("how", ["simple", "extended"])
@pytest.mark.parametrize("statement", ["update kept set n = n + 1", "update colors set n = n + 1"])
def test_a_statement_of_its_own_loses_a_shard_while_others_join(both, pair, statement, how):
    """It has failed, and nothing else: what follows is as after any error outside of a transaction."""
    sharded = pair[0]
    put(sharded)
    kill(both, 2, "%")
    with Stopped(both[4][2]):
        sharded.send(as_message(statement, how))
        eventually(lambda: "idle in transaction" in both[4][0].run(f"select state from pg_stat_activity where datname = '{both[3]}'", "postgres"))
        kill(both, 0, "idle in%")
    replies = sharded.read_until("Z")
    assert code(replies) is not None and sharded.status == "I"
    for next_one, status in (("begin", "T"), ("update kept set n = n + 10 where id = 0", "T"), ("update kept set n = n + 10 where id = 5", "T"), ("update kept set n = n + 10 where id = 6", "T"), ("rollback", "I")):
        assert code(sharded.ask(wire.query(next_one))) is None and sharded.status == status, next_one
    assert numbers(both) == ["0"] * 4


@pytest.mark.parametrize("statement", ["update kept set n = n + 1", "insert into kept (id, n) values (0, 1), (5, 1), (6, 1), (1, 1) on conflict (id) do update set n = kept.n + 1", "update kept set n = n + 1 returning id"])
def test_writers_that_meet_do_not_wait_for_each_other(both, pair, statement):
    _, _, proxy, database, _ = both
    put(pair[0])
    problems = []

    def work():
        with log_in(proxy, database, timeout=60) as connection:
            for _ in range(40):
                problems.extend(errors(connection.ask(wire.query(statement))))

    threads = [threading.Thread(target=work, daemon=True) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(90)
    assert problems == [] and not any(thread.is_alive() for thread in threads)
    assert numbers(both) == ["160"] * 4


@pytest.mark.parametrize("setting, value", [("timezone", "Asia/Tokyo"), ("client_encoding", "LATIN1"), ("standard_conforming_strings", "off")])
def test_a_joining_shard_does_not_tell_of_its_past(both, pair, setting, value):
    """Its connection was left with another value; the client has set one in its transaction."""
    _, _, proxy, database, _ = both
    for other in ("SQL_ASCII", "LATIN1") if setting == "client_encoding" else ("Europe/Rome",) if setting == "timezone" else ("off", "on"):
        with log_in(proxy, database) as before:
            before.ask(wire.query(f"set {setting} = '{other}'"))
            before.ask(wire.query("select * from kept"))
        told_of = [[], []]
        for connection, known in zip(pair, told_of, strict=True):
            for statement in ("begin", f"set {setting} = '{value}'", *(f"select v from kept where id = {key}" for key in PLACES.values()), f"show {setting}", "rollback"):
                known += [bytes(reply.body) for reply in connection.ask(wire.query(statement)) if reply.type == "S"]
        assert told_of[0] == told_of[1]


def test_the_encoding_of_a_transaction_decides_where_its_keys_are(both, pair):
    _, _, proxy, database, _ = both
    for _ in range(4):
        with log_in(proxy, database) as before:
            before.ask(wire.query("set client_encoding = 'LATIN1'"))
            before.ask(wire.query("select * from kept"))
    sharded = pair[0]
    for statement in ("begin", "set client_encoding = 'LATIN1'", *(f"select v from kept where id = {key}" for key in PLACES.values())):
        assert code(sharded.ask(wire.query(statement))) is None
    insert = b"Q" + (4 + len(text := "insert into named values ('é', 'x')\0".encode("latin1"))).to_bytes(4, "big") + text
    taken = code(sharded.ask(insert)) is None
    sharded.ask(wire.query("commit"))
    with log_in(proxy, database) as other:
        found = rows(other.ask(wire.query("select v from named where name = 'é'")))
        assert found == ([["x"]] if taken else [])


@pytest.mark.parametrize("level", ["repeatable read", "serializable"])
def test_copies_stay_the_same_whatever_the_snapshots_are(both, pair, level):
    """Each shard has its snapshot of another moment: what a copy gets from other rows must not depend on that."""
    sharded, _ = pair
    _, _, proxy, database, servers = both
    sharded.ask(wire.query("insert into colors values ('a', 'x', 1)"))
    with log_in(proxy, database) as other:
        for statement in (f"begin isolation level {level}", "select n from colors where code = 'a'", f"select v from kept where id = {PLACES[0]}"):
            assert code(sharded.ask(wire.query(statement))) is None
        assert code(other.ask(wire.query("update colors set n = 50 where code = 'a'"))) is None
        assert code(sharded.ask(wire.query("insert into shades select code, n from colors"))) == "0A000"
        sharded.ask(wire.query("commit"))
    for statement in (f"begin isolation level {level}", "insert into shades select code, n from colors", "select v from kept where id = 5", "commit"):
        assert code(sharded.ask(wire.query(statement))) is None, statement
    assert len({server.run("select * from shades", database) for server in servers}) == 1


@pytest.mark.parametrize("behind", ["begin", "begin read only", "savepoint a", "commit", "rollback", "declare c cursor for select 1", "lock table settings", "set local timezone = 'Asia/Tokyo'", "prepare transaction 'x'", "vacuum settings"])
def test_what_would_need_a_transaction_behind_one_of_its_own(both, pair, behind):
    """In one unit of messages: refused, and all of the unit is undone."""
    sharded = pair[0]
    put(sharded)
    replies = sharded.ask(extended("update kept set n = 100") + extended(behind) + extended("update kept set n = 5") + wire.SYNC)
    assert code(replies) == "0A000" and sharded.status == "I", replies
    assert numbers(both) == ["0"] * 4
    assert code(sharded.ask(wire.query("begin"))) is None and sharded.status == "T"
    sharded.ask(wire.query("rollback"))


@pytest.mark.parametrize("end", ["commit", "rollback", "select 1"])
def test_a_unit_whose_shard_is_lost_comes_to_an_end(both, pair, end):
    sharded = pair[0]
    put(sharded)
    sharded.send(extended("update kept set n = n + 100") + wire.message("H"))
    sharded.read_until("C")
    kill(both, 1, "idle in%")
    replies = sharded.ask(extended(end) + wire.SYNC)
    assert code(replies) is not None and sharded.status == "I"
    assert numbers(both) == ["0"] * 4
    assert rows(sharded.ask(wire.query("select 1"))) == [["1"]]


@pytest.mark.parametrize("how", ["simple", "extended"])
def test_an_error_is_the_whole_answer(both, pair, how):
    """Not what another shard had to say besides."""
    sharded = pair[0]
    _, _, _, database, servers = both
    with wire.connect("127.0.0.1", servers[1].port, "app", database, "app") as locker:
        for statement in ("begin", "lock table colors"):
            locker.ask(wire.query(statement))
        sharded.ask(wire.query("set lock_timeout = '200ms'"))
        replies = sharded.ask(as_message("update colors set n = 1", how))
        assert code(replies) == "55P03" and [reply.type for reply in replies if reply.type == "C"] == []


@pytest.mark.parametrize("count", [5, 7])
def test_the_number_of_parameters_is_that_of_the_statement(both, pair, count):
    insert = wire.parse("insert into kept (id, v) values ($1, $2), ($3, $4), ($5, $6)", "s", (20, 25, 20, 25, 20, 25))
    values = [b"0", b"a", b"5", b"b", b"6", b"c", b"d"][:count]
    answers = [told(connection.ask(insert + wire.bind(values, name="s"), wire.execute(), wire.SYNC)) for connection in pair]
    assert answers[0] == answers[1] == ["08P01", b"I"]
    assert rows(pair[0].ask(wire.query("select id from kept"))) == []


LIMITED = ["select id from kept where v is not null", "select id from kept where n > 1000", "update kept set n = 1", "delete from kept where id > 100", "select count(*) from kept", "select id from kept order by id", "update kept set n = 2 where id > 5 returning 1", "insert into kept (id) values (200), (201), (202), (203) returning id"]


@pytest.mark.parametrize("statement", LIMITED)
@pytest.mark.parametrize("limit", [1, 3, 1000])
@pytest.mark.parametrize("first", [None, "begin"])
def test_a_limit_of_rows(both, pair, statement, limit, first):
    """As drivers ask for one row, or one more than they want; which rows is the server's choice if there is no order."""
    answers = []
    for connection in pair:
        connection.ask(wire.query(MANY))
        if first:
            connection.ask(wire.query(first))
        replies = connection.ask(wire.parse(statement), wire.bind([]), wire.describe_portal(), wire.execute(limit=limit), wire.SYNC)
        answers.append((errors(replies), [reply.type for reply in replies], [bytes(reply.body) for reply in replies if reply.type in "CZ"], rows(replies) if "order by" in statement or "insert" in statement else None))
        connection.ask(wire.query("rollback"))
    assert answers[0] == answers[1]


def test_a_portal_that_was_stopped_is_read_on_inside_a_transaction_only(both, pair):
    sharded = pair[0]
    sharded.ask(wire.query(MANY))
    portal = wire.parse("select id from kept") + wire.bind([], portal="p") + wire.execute("p", limit=2)
    sharded.ask(wire.query("begin"))
    replies = sharded.ask(portal, wire.SYNC) + sharded.ask(wire.execute("p", limit=2) + wire.SYNC)
    assert [reply.type for reply in replies if reply.type in "DsE"] == ["D", "D", "s"] * 2
    sharded.ask(wire.query("rollback"))
    replies = sharded.ask(portal + wire.execute("p", limit=2) + wire.SYNC)
    assert [reply.type for reply in replies if reply.type in "DsE"] == ["D", "D", "s", "E"] and code(replies) == "0A000"


def test_a_write_does_not_run_twice(both, pair):
    for connection in pair:
        connection.ask(wire.query(MANY))
    for messages in (["begin", wire.parse("update kept set n = n + 1") + wire.bind([], portal="p") + wire.execute("p") + wire.execute("p") + wire.SYNC, "rollback"],
                     ["begin", "savepoint a", wire.parse("update kept set n = n + 1") + wire.bind([], portal="q") + wire.SYNC, "rollback to a", wire.execute("q") + wire.SYNC, "rollback"]):
        for message in messages:
            answers = [told(connection.ask(wire.query(message) if isinstance(message, str) else message)) for connection in pair]
            assert answers[0] == answers[1], message


def test_types_of_the_users_own(both, pair):
    """Their oids are others on each server."""
    sharded = pair[0]
    _, _, _, database, servers = both
    servers[1].run("create type more as enum ('x'); create type size2 as enum ('s', 'm', 'l'); alter table sized alter size type size2 using size::text::size2; drop type size; alter type size2 rename to size", database)
    assert code(sharded.ask(wire.query("insert into sized values (0, 's'), (5, 'm'), (6, 'l'), (1, null)"))) is None
    assert sorted(rows(sharded.ask(wire.query("select * from sized")))) == [["0", "s"], ["1", None], ["5", "m"], ["6", "l"]]
    assert sorted(row[0] for row in rows(sharded.ask(wire.query("update sized set size = 's' returning id")))) == ["0", "1", "5", "6"]


def test_a_batch_outside_of_a_transaction(both, pair):
    """As drivers send executemany: one implicit transaction, over as many shards as its keys need."""
    insert = wire.parse("insert into kept (id, v) values ($1, $2)", "i", (20, 25))
    for connection in pair:
        connection.ask(insert + wire.SYNC)

    def batch(values):
        return b"".join(wire.bind([str(key).encode(), value], name="i") + wire.execute() for key, value in values) + wire.SYNC

    for values in ([(key, b"x") for key in range(20)], [(key, b"x") for key in range(20, 30)] + [(31, b"bad")] + [(key, b"y") for key in range(32, 40)], [(50, b"a"), (0, b"again"), (51, b"b")], [(60, b"bad"), (61, b"x")], [(70, b"x"), (71, b"bad")], [(72, b"x")]):
        answers = [[(reply.type, bytes(reply.body)) for reply in connection.ask(batch(values)) if reply.type in "12CZ"] for connection in pair]
        assert answers[0] == answers[1], values
        for query in ("select count(*) from kept", "select id from kept order by id"):
            assert rows(pair[0].ask(wire.query(query))) == rows(pair[1].ask(wire.query(query)))
    with_all = extended("insert into kept (id) values (100)") + extended("update kept set n = 1") + extended("insert into kept (id) values (101)") + extended("select count(*) from kept where n = 1") + wire.SYNC
    for message in (with_all, extended("insert into kept (id) values (102)") + extended("select 1 / 0") + extended("insert into kept (id) values (103)") + wire.SYNC, extended("insert into kept (id) values (104)") + extended("insert into kept (id) values (105)") + extended("select 1 / 0") + wire.SYNC, with_all):
        answers = [told(connection.ask(message)) for connection in pair]
        assert answers[0] == answers[1]
        assert rows(pair[0].ask(wire.query("select id, n from kept order by id"))) == rows(pair[1].ask(wire.query("select id, n from kept order by id")))


def test_a_batch_that_has_set_something_stays_where_it_is(both, pair):
    replies = pair[0].ask(extended("set timezone = 'Asia/Tokyo'") + b"".join(extended(f"insert into kept (id) values ({key})") for key in PLACES.values()) + wire.SYNC)
    assert code(replies) == "0A000" and pair[0].status == "I"
    assert rows(pair[0].ask(wire.query("select id from kept"))) == []
    assert rows(pair[0].ask(wire.query("show timezone"))) == rows(pair[1].ask(wire.query("show timezone")))
