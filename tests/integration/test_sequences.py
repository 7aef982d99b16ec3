"""nextval, currval, setval and lastval by clients that share server connections: each hears of its own, as on one plain server, or is refused."""

import random

import pytest
from harness import wire
from talk import code, config_of, log_in, rows

SCHEMA = "create sequence numbers; create table t (id int default nextval('numbers'), v int)"
RESET = "alter sequence numbers restart; truncate t"
STATEMENTS = ["select nextval('numbers')", "select currval('numbers')", "select lastval()",
              "insert into t (v) values (1) returning id", "update t set v = 2", "select 1", "select count(*) from t"]
ASKING = ("currval", "lastval")


@pytest.fixture(scope="module")
def plain(servers, new_database):
    return new_database(servers[:1], SCHEMA)


def told(connection, sql):
    replies = connection.ask(wire.query(sql))
    return code(replies) or rows(replies)


@pytest.mark.parametrize("size", [1, 2])
def test_two_clients(tessera, servers, database, plain, size):
    proxy = tessera(config_of(servers[:1], database, pool={"size": size}))
    answered = 0
    for seed in range(30):
        for name in (database, plain):
            servers[0].run(RESET, name)
        generator = random.Random(seed)
        through = [log_in(proxy, database) for _ in range(2)]
        direct = [log_in(servers[0], plain) for _ in range(2)]
        for _ in range(12):
            who, sql = generator.randrange(2), generator.choice(STATEMENTS)
            expected, found = told(direct[who], sql), told(through[who], sql)
            if found == "0A000":
                assert any(word in sql for word in ASKING), f"seed {seed}: {sql}"
                continue
            assert found == expected, f"seed {seed}: {sql}"
            answered += 1
        for connection in through + direct:
            connection.close()
    assert answered > 250


def test_advancing_is_never_refused(tessera, servers, database):
    """Whoever has advanced a sequence last, and where."""
    proxy = tessera(config_of(servers[:1], database, pool={"size": 2}))
    with log_in(proxy, database) as one, log_in(proxy, database) as other:
        for _ in range(3):
            assert told(one, "select nextval('numbers')") != "0A000"
            other.ask(wire.query("begin; select nextval('numbers')"))
            assert told(one, "select nextval('numbers')") != "0A000"
            assert told(one, "select setval('numbers', 7)") == [["7"]]
            other.ask(wire.query("rollback"))


def test_another_clients_value_is_not_found(tessera, servers, database):
    proxy = tessera(config_of(servers[:1], database, pool={"size": 1}))
    with log_in(proxy, database) as one, log_in(proxy, database) as other:
        told(one, "select nextval('numbers')")
        assert told(other, "select currval('numbers')") == "55000"
        assert told(other, "select lastval()") == "55000"


@pytest.mark.parametrize("how", ["simple queries", "a unit", "one query"])
def test_nor_in_one_flight(tessera, servers, database, how):
    proxy = tessera(config_of(servers[:1], database, pool={"size": 1}))
    with log_in(proxy, database) as one, log_in(proxy, database) as other:
        told(one, "select nextval('numbers')")
        messages = {"simple queries": wire.query("select 1") + wire.query("select lastval()"), "one query": wire.query("select 1; select lastval()"),
                    "a unit": wire.parse("select 1") + wire.bind() + wire.execute() + wire.parse("select lastval()") + wire.bind() + wire.execute() + wire.SYNC}
        other.send(messages[how])
        replies = other.read_until("Z") + (other.read_until("Z") if how == "simple queries" else [])
        assert code(replies) == "55000", rows(replies)
