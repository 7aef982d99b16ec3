"""What one client may pile up in the proxy: messages before Sync, prepared statements, what opens a transaction."""

import pytest
from harness import wire
from talk import code, config_of, errors, log_in, rows, value

SCHEMA = "create table t (id int primary key, v text); insert into t select i, 'row ' || i from generate_series(1, 200) i"
RULES = {"rules": {"r": {"type": "range", "ranges": [{"below": "100", "shard": "s0"}, {"shard": "s1"}]}}, "tables": {"t": {"rule": "r", "key": "id"}}}
MB = 1 << 20


@pytest.fixture(scope="module")
def servers(shards):
    return shards(2)


@pytest.fixture(scope="module")
def database(servers, new_database):
    return new_database(servers, SCHEMA)


def memory_of(proxy):
    with open(f"/proc/{proxy.process.pid}/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmRSS:")) * 1024


def is_healthy(connection):
    assert value(connection, "select v from t where id = 5") == "row 5"
    assert value(connection, "select v from t where id = 150") == "row 150"


# ---- messages without a Sync ----------------------------------------------------------------------------------------


def parses():
    return wire.parse(f"select '{'x' * (MB // 4)}'") * 100


def parses_behind_bind():  # the unit has its connection, and an error there would bring the statement before back
    return wire.parse("select 1") + wire.bind() + parses()


def closes():
    return wire.close_portal("p" * 60) * 100_000


@pytest.mark.parametrize("pile", [parses, parses_behind_bind, closes])
def test_messages_without_a_sync_are_passed_on(tessera, servers, database, pile):
    proxy = tessera({**config_of(servers, database, **RULES), "workers": 1})
    with log_in(proxy, database, timeout=60) as connection:
        is_healthy(connection)
        before = memory_of(proxy)
        for _ in range(4):
            connection.send(pile())  # all but what fits into the kernel's buffers has been read then
        grown = memory_of(proxy) - before
        assert grown < 32 * MB, f"it has grown by {grown / MB:.0f} MB"
        answers = {reply.type for reply in connection.ask(wire.SYNC)}
        assert "E" not in answers and len(answers) > 1
        is_healthy(connection)


def test_a_unit_that_was_passed_on_still_finds_its_shard(tessera, servers, database):
    proxy = tessera(config_of(servers, database, **RULES))
    with log_in(proxy, database) as connection:
        many = b"".join(wire.parse("select v from t where id = $1", f"s{i}") for i in range(3000))
        for key, name in ((b"5", "s7"), (b"150", "s2999")):
            answers = connection.ask(many + wire.bind([key], name=name) + wire.execute() + wire.SYNC)
            assert not errors(answers) and rows(answers) == [[f"row {key.decode()}"]]
            connection.ask(b"".join(wire.close_statement(f"s{i}") for i in range(3000)) + wire.SYNC)
        # And one of them fails the unit as ever.
        answers = connection.ask(many + wire.parse("select nonsense from t", "bad") + wire.bind([b"5"], name="s1") + wire.execute() + wire.SYNC)
        assert code(answers) == "42703" and not rows(answers)
        is_healthy(connection)
