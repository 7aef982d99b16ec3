"""Sessions that keep their connections (session pooling; pins by locks, cursors, temporary tables, PREPARE) and go from shard to shard,
by every way a driver has to send a statement. All answers are those of one plain server, and each row is on its shard.

TESSERA_SEEDS=2000 for a longer run; a failure names the seed and the shortest sequence that still fails.
"""

import os
import random

import pytest
from harness import wire
from talk import config_of, log_in, types, value

SEEDS = int(os.environ.get("TESSERA_SEEDS", "60"))
BOUND = 100
KEYS = [1, 2, 50, 101, 102, 150]
TABLES = """
create table t (id bigint primary key, v text);
create table plain (a int, b text);
create table shadow (a int, b text);
create sequence numbers;
create function locks() returns boolean language sql as 'select pg_try_advisory_lock(1)';
"""
FILL = "truncate t, plain, shadow; alter sequence numbers restart"
RULES = {
    "rules": {"r": {"type": "range", "ranges": [{"below": str(BOUND), "shard": "s0"}, {"shard": "s1"}]}},
    "tables": {"t": {"rule": "r", "key": "id"}, "plain": {"shard": "s1"}},
    "default_shard": "s0",
}
PINS = {
    "session": ("session", []),
    "lock": ("transaction", ["select pg_advisory_lock(1)"]),
    "cursor": ("transaction", ["declare kept cursor with hold for select v from t where id = 101"]),
    "temporary": ("transaction", ["create temp table own (a int)"]),
    "code": ("transaction", ["select locks() from t where id = 101"]),
    "prepare": ("transaction", ["prepare kept as select v from t where id = 101"]),
    "shadow": ("transaction", ["create temp table shadow (a text, b int)"]),
}


class Steps:
    """Statements at random, each with the way it is sent."""

    WAYS = ["simple", "unit", "unnamed", "named", "described", "pipeline"]

    def __init__(self, seed, pin):
        self.random = random.Random(f"{seed} {pin}")
        self.pin = pin
        self.count = 0

    def statement(self):
        pick, key = self.random.random(), self.random.choice(KEYS)
        if pick < 0.3:
            return f"select id, v from t where id = {key}"
        if pick < 0.5:
            self.count += 1
            return f"insert into t values ({key}, 'row {self.count}') on conflict (id) do update set v = excluded.v || t.v"
        if pick < 0.6:
            return f"delete from t where id = {key}"
        if pick < 0.7:
            return self.random.choice(["select count(*), min(a) from plain", "insert into plain values (1, 'p')"])
        if pick < 0.78:
            return f"select v from t where id = {key} and v > 5"  # an error of the server's
        if pick < 0.84 and self.pin == "temporary":
            return self.random.choice(["select count(*), sum(a) from own", "insert into own values (3)"])
        if pick < 0.84 and self.pin == "shadow":
            return self.random.choice(["select * from shadow", "insert into shadow values ('own', 4)"])
        if pick < 0.84 and self.pin == "prepare":
            return "execute kept"
        if pick < 0.9:
            return "select 1 as one, 'x'::text as x"
        return f"update t set v = v || '.' where id = {key} returning id, v"

    def make(self, count):
        return [(self.random.choice(self.WAYS), self.statement()) for _ in range(count)]


def messages(way, sql, number):
    """What goes out one after the other, each answered before the next."""
    name = f"s{number}"
    run = wire.bind() + wire.execute()
    if sql.startswith("execute"):
        way = "simple"
    if way == "simple":
        return [wire.query(sql)]
    if way == "unit":
        return [wire.parse(sql) + run + wire.SYNC]
    if way == "unnamed":
        return [wire.parse(sql) + wire.SYNC, run + wire.SYNC]
    if way == "named":
        return [wire.parse(sql, name) + wire.SYNC, wire.bind(name=name) + wire.execute() + wire.SYNC]
    if way == "described":
        return [wire.parse(sql) + wire.describe_statement() + wire.SYNC, run + wire.SYNC]
    return [wire.parse(sql) + wire.SYNC + run + wire.SYNC]


def answers(connection, pin, steps):
    told = [[]]
    for statement in PINS[pin][1]:
        told[0] += types(connection.ask(wire.query(statement)))
    for number, (way, sql) in enumerate(steps):
        heard = []
        for data in messages(way, sql, number):
            connection.send(data)
            for _ in range(data.count(wire.SYNC) if way != "simple" and not sql.startswith("execute") else 1):
                heard += types(connection.read_until("Z"))
        told.append(heard)
    return told


@pytest.fixture(scope="module")
def database(servers, new_database):
    return new_database(servers, TABLES)


@pytest.fixture(scope="module")
def plain(shards, new_database):
    server = shards(3)[2]
    return server, new_database([server], TABLES)


@pytest.fixture(scope="module")
def aside(servers, database, plain):
    """Connections past Tessera: to the plain server, and to both shards."""
    with plain[0].connect(plain[1]) as one, servers[0].connect(database) as first, servers[1].connect(database) as second:
        yield one, (first, second)


@pytest.fixture
def proxy_with(tessera, servers, database):
    return lambda mode: tessera(config_of(servers, database, **RULES, pool={"mode": mode, "size": 4}))


@pytest.fixture
def compare(database, plain, proxy_with, aside):
    proxies = {}
    one, shards = aside

    def both(pin, steps):
        server, name = plain
        for each in (one, *shards):
            each.execute(FILL)
        with wire.connect("127.0.0.1", server.port, "app", name, "app") as connection:
            expected = answers(connection, pin, steps)
        mode = PINS[pin][0]
        if mode not in proxies:
            proxies[mode] = proxy_with(mode)
        with log_in(proxies[mode], database) as connection:
            found = answers(connection, pin, steps)
        for number, (a, b) in enumerate(zip(expected, found)):
            if a != b:
                return f"{([('pin', pin)] + steps)[number]}:\n  plain   {a}\n  tessera {b}"
        everywhere = []
        for shard, own in zip(shards, (lambda key: key < BOUND, lambda key: key >= BOUND)):
            found_there = shard.execute("select id, v from t").fetchall()
            everywhere += found_there
            if stray := [row for row in found_there if not own(row[0])]:
                return f"on the wrong shard: {stray}"
        if sorted(everywhere) != sorted(one.execute("select id, v from t")):
            return "other rows"
        return None

    return both


@pytest.fixture
def compare_messages(plain, proxy_with, servers, database):
    def both(flights):
        server, name = plain
        for shard, dbname in ((server, name), *((shard, database) for shard in servers)):
            shard.run(FILL, dbname)
        with (wire.connect("127.0.0.1", server.port, "app", name, "app") as one, log_in(proxy_with("transaction"), database) as through):
            for flight in flights:
                expected, found = types(one.ask(flight)), types(through.ask(flight))
                assert found == expected, flight

    return both


def test_two_homes_in_one_unit_and_in_one_transaction(proxy_with, servers, database):
    """Statements that one shard alone can prepare, one behind the other."""
    with log_in(proxy_with("transaction"), database) as connection:
        connection.ask(wire.query("create temp table own (a int)"))  # on s0
        unit = b"".join(wire.parse(sql, name) + wire.describe_statement(name)
                        for name, sql in (("p", "select b from plain"), ("o", "select a from own"), ("q", "select a from plain")))
        assert [told[0] for told in types(connection.ask(unit + wire.SYNC))] == ["1", "t", "T"] * 3 + ["Z"]
        connection.ask(wire.query("begin") + wire.query("select a from own"))
        connection.read_until("Z")
        replies = types(connection.ask(wire.parse("select b from plain") + wire.SYNC))
        assert replies == [("1", b""), ("Z", b"T")], "the other shard joins"
        connection.ask(wire.query("rollback"))


def shrunk(compare, pin, steps):
    problem = compare(pin, steps)
    at = 0
    while at < len(steps):
        fewer = steps[:at] + steps[at + 1:]
        if again := compare(pin, fewer):
            steps, problem = fewer, again
        else:
            at += 1
    return "\n".join([problem, "sequence:", *map(repr, steps)])


@pytest.mark.parametrize("pin", PINS)
def test_random_sequences(compare, pin):
    for seed in range(max(1, SEEDS // len(PINS))):
        steps = Steps(seed, pin).make(14)
        if compare(pin, steps):
            pytest.fail(f"seed {seed}: {shrunk(compare, pin, steps)}")


def test_a_statement_prepared_before_is_not_run_again(proxy_with, servers, database):
    """The unnamed statement belongs to a connection: on the next one the server has an older one."""
    for shard in servers:
        shard.run(FILL, database)
    with log_in(proxy_with("session"), database) as connection:
        for sql in ("insert into t values (5, 'five')", "select v from t where id = 150", "insert into t values (6, 'six')"):
            connection.ask(wire.parse(sql) + wire.SYNC)
            replies = connection.ask(wire.bind() + wire.execute() + wire.SYNC)
            assert [reply.body for reply in replies if reply.type == "C"] == [b"INSERT 0 1\0" if "insert" in sql else b"SELECT 0\0"]
        assert value(connection, "select v from t where id = 6") == "six"
    assert servers[1].run("select count(*) from t", database).strip() == "0"


@pytest.mark.parametrize("which", ["kept", "all"])
def test_deallocate_by_the_extended_protocol(compare_messages, which):
    compare_messages([
        wire.query("prepare kept as select v from t where id = 101"),
        wire.query("select v from t where id = 1"),
        wire.parse(f"deallocate {which}") + wire.bind() + wire.execute() + wire.SYNC,
        wire.query("execute kept"),
        wire.query("prepare kept as select id from t where id = 101"),
        wire.query("execute kept"),
    ])


def test_unknown_names_in_a_transaction_that_has_failed_before_its_first_statement(compare_messages):
    compare_messages([
        wire.query("begin"),
        wire.query("rollback to nowhere"),
        wire.query("rollback to nowhere"),
        wire.bind(name="nothing") + wire.SYNC,
        wire.bind() + wire.SYNC,
        wire.describe_statement("nothing") + wire.SYNC,
        wire.query("select 1"),
        wire.query("rollback"),
    ])
