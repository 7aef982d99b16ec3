"""What one client may pile up in the proxy: messages before Sync, prepared statements, what opens a transaction."""

import pytest
from harness import wire
from talk import code, config_of, errors, log_in, rows, value
from two_shards import RULES, SCHEMA

MB = 1 << 20


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


# ---- prepared statements --------------------------------------------------------------------------------------------


@pytest.fixture
def small(tessera, servers, database):
    """For prepared statements: some twenty of them."""
    return tessera(config_of(servers, database, limits={"prepared_memory": "64kB"}, **RULES))


def by_protocol(connection, name, sql="select v from t where id = $1"):
    return connection.ask(wire.parse(sql, name) + wire.SYNC)


def by_sql(connection, name, sql="select v from t where id = $1"):
    return connection.ask(wire.query(f"prepare {name}(int) as {sql}"))


def prepared_until_refused(connection, prepare):
    for number in range(1000):
        if errors(answers := prepare(connection, f"s{number}")):
            return number, errors(answers)[0]
    raise AssertionError("never refused")


def refused_as_too_much(error):
    return error["C"] == "53400" and "prepared statements" in error["M"] and "65536" in error["D"] and "DEALLOCATE" in error["H"] and "limits.prepared_memory" in error["H"]


@pytest.mark.parametrize("prepare", [by_protocol, by_sql])
def test_prepared_statements_have_their_bound(small, database, prepare):
    with log_in(small, database) as connection:
        number, error = prepared_until_refused(connection, prepare)
        assert 10 <= number <= 64 and refused_as_too_much(error), error
        assert connection.status == "I"
        is_healthy(connection)
        if prepare is by_protocol:
            assert rows(connection.ask(wire.bind([b"5"], name="s0") + wire.execute() + wire.SYNC)) == [["row 5"]]
        else:
            assert rows(connection.ask(wire.query("execute s0(150)"))) == [["row 150"]]
        for _ in range(3):  # its room is given back, and once only
            assert not errors(connection.ask(wire.query("deallocate s1")))
            assert not errors(prepare(connection, "s1"))
            assert code(prepare(connection, "more")) == "53400"
        assert not errors(connection.ask(wire.query("deallocate all")))
        assert prepared_until_refused(connection, prepare)[0] == number
        assert not errors(connection.ask(wire.query("discard all")))
        assert prepared_until_refused(connection, prepare)[0] == number
    with log_in(small, database) as connection:
        assert not errors(prepare(connection, "s0"))
        is_healthy(connection)


@pytest.mark.parametrize("prepare", [by_protocol, by_sql])
def test_a_statement_too_many_fails_its_transaction(small, database, prepare):
    with log_in(small, database) as connection:
        number, _ = prepared_until_refused(connection, prepare)
        for first in ("select 1", "update t set v = v where id = 150"):
            connection.ask(wire.query("begin"))
            connection.ask(wire.query(first))
            assert refused_as_too_much(errors(prepare(connection, "more"))[0])
            assert connection.status == "E"
            assert code(connection.ask(wire.query("select 1"))) == "25P02"
            connection.ask(wire.query("rollback"))
            assert connection.status == "I"
            is_healthy(connection)


def test_what_failed_to_prepare_counts_nothing(small, database):
    with log_in(small, database) as connection:
        for number in range(300):
            assert code(by_protocol(connection, f"bad{number}", "select nonsense from t where id = 5")) == "42703"
            assert code(by_sql(connection, f"bad{number}", "select nonsense from t where id = $1")) == "42703"
        for number in range(300):
            answers = connection.ask(wire.parse("select 1", "s") + wire.close_statement("s") + wire.SYNC)
            assert not errors(answers)
        assert prepared_until_refused(connection, by_protocol)[0] > 10
        is_healthy(connection)


def test_a_long_statement_counts_for_its_length(small, database):
    with log_in(small, database) as connection:
        long = f"select '{'x' * 70_000}' from t where id = $1"
        many = "select v from t where id in (" + ",".join(["1"] * 6000) + ")"
        for sql in (long, many):
            assert refused_as_too_much(errors(by_protocol(connection, "s", sql))[0])
            assert not errors(connection.ask(wire.parse(sql) + wire.SYNC)), "without a name it is not kept"
            is_healthy(connection)
        assert refused_as_too_much(errors(by_sql(connection, "s", long))[0])


# ---- transactions that have no shard yet ----------------------------------------------------------------------------


def command(connection, sql):
    return connection.ask(wire.query(sql))


def savepoints(number):
    return f"savepoint s{number}"


def released_savepoints(number):
    return ("savepoint s", "release s")[number % 2]


def settings(number):
    return f"set local a.s{number} = '{number}'"


def by_query(connection, sql):
    return connection.ask(wire.query(sql))


def by_execute(connection, sql):
    return connection.ask(wire.parse(sql) + wire.bind() + wire.execute() + wire.SYNC)


def opened_until_refused(connection, send, opening):
    for number in range(5000):
        if errors(answers := send(connection, opening(number))):
            return number, errors(answers)[0]
    raise AssertionError("never refused")


@pytest.mark.parametrize("send", [by_query, by_execute])
@pytest.mark.parametrize("opening", [savepoints, released_savepoints, settings])
def test_what_opens_a_transaction_has_its_bound(tessera, servers, database, opening, send):
    proxy = tessera(config_of(servers, database, **RULES))
    with log_in(proxy, database) as connection:
        command(connection, "begin")
        number, error = opened_until_refused(connection, send, opening)
        assert 900 <= number <= 1000 and error["C"] == "54000" and "savepoints" in error["M"] and "roll back" in error["H"]
        assert connection.status == "E"
        assert code(command(connection, "select v from t where id = 5")) == "25P02"
        command(connection, "rollback")
        assert connection.status == "I"
        is_healthy(connection)
        # Back to a savepoint there is room again, and nothing of what came behind it is left.
        command(connection, "begin")
        command(connection, "set local a.s7 = 'mine'")
        command(connection, "savepoint before")
        assert opened_until_refused(connection, send, opening)[1]["C"] == "54000"
        command(connection, "rollback to before")
        assert connection.status == "T"
        assert rows(command(connection, "select v, current_setting('a.s7') from t where id = 150")) == [["row 150", "mine"]]
        assert not errors(command(connection, "release before"))
        command(connection, "commit")
        assert connection.status == "I"
        is_healthy(connection)


def test_a_long_setting_opens_no_transaction(tessera, servers, database):
    proxy = tessera(config_of(servers, database, **RULES))
    with log_in(proxy, database) as connection:
        command(connection, "begin")
        assert not errors(command(connection, f"set local a.b = '{'x' * 100_000}'"))
        assert code(command(connection, f"set local a.c = '{'x' * 200_000}'")) == "54000"
        command(connection, "rollback")
        is_healthy(connection)
