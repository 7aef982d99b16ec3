"""Units of the extended protocol, several in one flight, some of which fail: over two shards and server connections that other clients use
too, every reply is that of one plain server.

TESSERA_SEEDS=2000 for a longer run; a failure names the seed and the shortest flights that still fail.
"""

import os
import random

import pytest
from harness import wire
from talk import config_of, log_in, types
from two_shards import RULES, SCHEMA

SEEDS = int(os.environ.get("TESSERA_SEEDS", "60"))
KEYS = [1, 2, 50, 101, 102, 150]
ROWS = ", ".join(f"({key}, 'row {key}')" for key in KEYS)
FILL = f"truncate t; insert into t values {ROWS}"
STATEMENTS = {  # by the number of their parameters; $1 is the key
    "select v from t where id = $1": 1,
    "select id, v from t where id = $1::bigint": 1,
    "update t set v = v || '.' where id = $1 returning v": 1,
    "delete from t where id = $1": 1,
    "insert into t values ($1, 'again')": 1,
    "select v from t where id = $1 and length(v) / $2::int > 0": 2,
    "select nope from t where id = $1": 1,
    "select id, nope from t where id = $1": 1,
}


class Flights:
    """Lists of units at random; each list goes out at once."""

    NAMES = ["", "", "a", "b"]

    def __init__(self, seed):
        self.random = random.Random(seed)
        self.parameters = {}

    def parse(self, name):
        sql, count = self.random.choice(list(STATEMENTS.items()))
        self.parameters[name] = count
        close = wire.close_statement(name) if name and self.random.random() < 0.7 else b""
        return f"parse {name!r} {sql}", close + wire.parse(sql, name)

    def unit(self):
        labels, data, key = [], b"", self.random.choice(KEYS)
        for _ in range(self.random.choice([1, 1, 1, 2, 3])):
            name = self.random.choice(self.NAMES)
            if self.random.random() < 0.5:
                label, parse = self.parse(name)
                labels.append(label)
                data += parse
            if self.random.random() < 0.2:
                labels.append(f"describe {name!r}")
                data += wire.describe_statement(name)
            if self.random.random() < 0.2:
                continue
            values = [str(key).encode(), self.random.choice([b"1", b"1", b"0"])][:self.parameters.get(name, 1)]
            labels.append(f"bind and execute {name!r} {values}")
            data += wire.bind(values, name=name) + wire.execute()
        return "; ".join(labels), data + wire.SYNC

    def make(self, count):
        return [[self.unit() for _ in range(self.random.choice([1, 1, 2, 4]))] for _ in range(count)]


def answers(connection, flights, between):
    told = []
    for flight in flights:
        connection.send(b"".join(data for _, data in flight))
        told.append([types(connection.read_until("Z")) for _ in flight])
        between(told)
    return told


@pytest.fixture(scope="module")
def plain(servers, new_database):
    return servers[0], new_database(servers[:1], SCHEMA)


@pytest.fixture(scope="module")
def aside(servers, database, plain):
    """Connections past Tessera: to the plain database, and to both shards."""
    with servers[0].connect(plain[1]) as one, servers[0].connect(database) as first, servers[1].connect(database) as second:
        yield one, (first, second)


@pytest.fixture(params=[1, 100], ids=["one statement kept", "all kept"])
def proxy(request, servers, database, tessera):
    return tessera(config_of(servers, database, **RULES, pool={"size": 2, "prepared_statements": request.param}))


@pytest.fixture
def compare(database, plain, proxy, aside):
    one, shards = aside

    def contents(*connections):
        return sorted(row for connection in connections for row in connection.execute("select id, v from t"))

    def both(flights):
        server, name = plain
        one.execute(FILL)
        for shard, own in zip(shards, (KEYS[:3], KEYS[3:])):
            shard.execute("truncate t; insert into t values " + ", ".join(f"({key}, 'row {key}')" for key in own))
        with wire.connect("127.0.0.1", server.port, "app", name, "app") as connection:
            expected = answers(connection, flights, lambda told: None)
        with log_in(proxy, database) as connection, log_in(proxy, database) as other:
            open_ = []

            def take_a_connection(told):
                """Another client holds one connection of a shard, and later another: the session goes from one to the other."""
                if open_:
                    other.ask(wire.query(open_.pop()))
                elif len(told) % 2:
                    other.ask(wire.query(f"begin; select v from t where id = {KEYS[len(told) % len(KEYS)]}"))
                    open_.append("rollback")

            found = answers(connection, flights, take_a_connection)
        for flight, a, b in zip(flights, expected, found):
            if a != b:
                return "\n".join([*(label for label, _ in flight), f"  plain   {a}", f"  tessera {b}"])
        return None if contents(*shards) == contents(one) else "other rows"

    return both


def shrunk(compare, flights, problem):
    for flight in list(flights):
        for unit in list(flight):
            fewer = [[other for other in units if other is not unit] for units in flights]
            fewer = [units for units in fewer if units]
            if again := compare(fewer):
                flights, problem = fewer, again
    return "\n".join([problem, "flights:", *(repr([label for label, _ in flight]) for flight in flights)])


def test_the_replies_of_units_in_flight_are_those_of_one_server(compare):
    for seed in range(SEEDS):
        flights = Flights(seed).make(8)
        if problem := compare(flights):
            pytest.fail(f"seed {seed}\n{shrunk(compare, flights, problem)}")


def test_a_bad_statement_twice_in_one_flight(compare):
    """The second is not taken for known because the first was sent."""
    bad = "select nope from t where id = $1"
    units = [(f"unit {name}", wire.parse(bad, name) + wire.bind([b"1"], name=name) + wire.execute() + wire.SYNC) for name in "ab"]
    assert compare([units]) is None


def test_a_statement_that_is_first_needed_behind_an_error(compare):
    prepare = ("prepare", wire.parse("select v from t where id = $1", "a") + wire.parse("select v from t where id = $1 and length(v) / $2::int > 0", "b") + wire.SYNC)
    fails = ("fails", wire.bind([b"1", b"0"], name="b") + wire.execute() + wire.bind([b"1"], name="a") + wire.execute() + wire.SYNC)
    works = ("works", wire.bind([b"1"], name="a") + wire.execute() + wire.SYNC)
    assert compare([[prepare], [fails, works], [works]]) is None
