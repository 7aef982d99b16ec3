"""A server connection is lost at any message: each request is told the truth about itself, and the session goes on.

A man in the middle (harness/meddler.py) does the harm at an exact place, so that what may be said of a write is known: failed if it
cannot have been done, unknown (08007) if its acknowledgement is what was lost, never silence and never a second attempt.
"""

import concurrent.futures
import contextlib
import time

import pytest
from harness import wire
from harness.meddler import Harm, Meddler
from harness.tessera import Tessera
from talk import code, config_of, errors, eventually, log_in, rows, value

SCHEMA = ("create table t (id int primary key, v text); insert into t select i, 'row ' || i from generate_series(1, 200) i;"
          "create table w (id int, v text); create table plain (id int, v text)")
RULES = {"rules": {"r": {"type": "range", "ranges": [{"below": "100", "shard": "s0"}, {"shard": "s1"}]}},
         "tables": {"t": {"rule": "r", "key": "id"}, "w": {"rule": "r", "key": "id"}, "plain": {"shard": "s0"}}}
FAST = {"pool": {"checkout_timeout": "2s", "reconnect_min": "5ms", "reconnect_max": "50ms", "size": 3}, "limits": {"statement_timeout": "500ms"}, "backend": {"connect_timeout": "1s"}}
SUDDEN = ("cut", "reset", "truncate")


@pytest.fixture(scope="module")
def lines(servers, database, tmp_path_factory):
    """For each conversation a man in the middle, and a Tessera that has the first shard behind him."""
    with contextlib.ExitStack() as stack:
        made = {}
        for name in CONVERSATION:
            middle = stack.enter_context(Meddler(servers[0].port))
            proxy = Tessera(config_of([middle, servers[1]], database, **RULES, **FAST), tmp_path_factory.mktemp("lost"))
            made[name] = middle, stack.enter_context(proxy)
        yield made


@pytest.fixture
def middle(lines):
    """As if he had just come: no harm is waiting or done, and no connection is left."""
    middle, _ = lines["simple"]
    middle.clear()
    middle.cut()
    middle.done = 0
    return middle


@pytest.fixture
def proxy(lines, servers, database, middle):
    for server in servers:
        server.run("truncate w, plain", database)
    _, proxy = lines["simple"]
    with log_in(proxy, database) as connection:
        for key in (5, 150):
            eventually(lambda: code(connection.ask(wire.query(f"select v from t where id = {key}"))) is None)
    return proxy


def unit(sql, parameters=(), name=""):
    return wire.parse(sql, name) + wire.bind(parameters) + wire.execute() + wire.SYNC


def there(servers, database, table="w"):
    return sorted(int(line) for line in servers[0].run(f"select id from {table}", database).split())


def goes_on(connection):
    assert connection.status == "I"
    eventually(lambda: code(connection.ask(wire.query("select v from t where id = 5"))) is None, timeout=10, what="the session goes on")


# The man in the middle himself


@pytest.mark.parametrize("action", ["delay", "trickle"])
def test_what_is_only_slow_changes_nothing(proxy, database, middle, action):
    with log_in(proxy, database) as connection:
        assert value(connection, "select v from t where id = 5") == "row 5"
        middle.add(Harm(action, seconds=0.3, pattern=b"row 6"))
        started = time.monotonic()
        assert value(connection, "select v from t where id = 6") == "row 6"
        assert (time.monotonic() - started > 0.25) == (action == "delay") and middle.done == 1
        for number in (1, 2, 3):
            replies = connection.ask(unit("select v from t where id = $1", [b"7"]))
            assert rows(replies) == [["row 7"]], number


# Every harm at every message


CONVERSATION = {
    "simple": wire.query("select v from t where id = 5"),
    "extended": unit("select v from t where id = $1", [b"5"]),
    "named": unit("select v from t where id = $1", [b"5"], "") + wire.parse("select v from t where id = $1", "named") + wire.bind([b"5"], name="named") + wire.execute() + wire.SYNC,
    "transaction": wire.query("begin; select v from t where id = 5; commit"),
    "copy out": wire.query("copy (select v from t where id = 5) to stdout"),
    "scatter": wire.query("select v from t where id in (5, 150)"),
}
EXPECTED = {"scatter": [["row 150"]] * 2 + [["row 5"]] * 2, "copy out": []}  # each shard holds all rows


@pytest.mark.parametrize("side", ["server", "client"])
@pytest.mark.parametrize("action", [*SUDDEN, "hang", "garbage"])
def test_every_harm_at_every_message(lines, database, action, side):
    """An answer is whole and right, or an error that says so in bounded time; half a message may only be followed by the end."""
    if action == "garbage" and side == "client":
        pytest.skip("what a server makes of nonsense is not Tessera's")
    with concurrent.futures.ThreadPoolExecutor(len(lines)) as aside:  # most of it is waiting
        conversations = [aside.submit(harm_at_every_message, name, *line, database, action, side) for name, line in lines.items()]
    met = sum(conversation.result() for conversation in conversations)
    assert met >= (9 if action == "hang" else 11), "the harm was done"


def harm_at_every_message(name, middle, proxy, database, action, side):
    """How often it was done in this conversation."""
    request = CONVERSATION[name]
    syncs = request.count(wire.SYNC) or 1
    met = 0
    with log_in(proxy, database) as other:
        for nth in range(1, 3 if action == "hang" else 9):
            middle.clear()
            middle.cut()
            with log_in(proxy, database, timeout=15) as connection:
                eventually(lambda c=connection: code(c.ask(wire.query("select v from t where id = 9"))) is None)
                middle.restart_counting()
                before = middle.done
                middle.add(Harm(action, side=side, nth=nth))
                started = time.monotonic()
                try:
                    connection.send(request)
                    replies = [reply for _ in range(syncs) for reply in connection.read_until("Z")]
                    got = sorted(rows(replies))
                    if code(replies) is None:
                        assert got == EXPECTED.get(name, [["row 5"]] * syncs), (name, nth, replies)
                    else:
                        assert all(row in (["row 5"], ["row 150"]) for row in got) and code(replies)[:2] in ("08", "53", "57"), (name, nth, replies)
                except (wire.WireError, ConnectionResetError):
                    assert action in ("truncate", "garbage"), (name, nth, "the client was cut off")
                assert time.monotonic() - started < 8, (name, nth)
                met += middle.done - before
                middle.clear()
                assert value(other, "select v from t where id = 150") == "row 150", "the other shard has nothing to do with it"
    return met


# Writes


INSERTS = {
    "simple": lambda key: wire.query(f"insert into w values ({key}, 'x')"),
    "extended": lambda key: unit("insert into w values ($1, 'x')", [str(key).encode()]),
    "returning": lambda key: wire.query(f"insert into w values ({key}, 'x') returning id"),
    "conflict": lambda key: wire.query(f"insert into w values ({key}, 'x') on conflict do nothing"),
    "block": lambda key: wire.query(f"begin; insert into w values ({key}, 'x'); commit"),
}


@pytest.mark.parametrize("action", [*SUDDEN, "hang"])
@pytest.mark.parametrize("how", INSERTS)
def test_a_lost_acknowledgement_is_unknown_and_never_retried(proxy, servers, database, middle, how, action):
    with log_in(proxy, database, timeout=15) as connection:
        assert code(connection.ask(INSERTS[how](1))) is None
        middle.add(Harm(action, pattern=rb"COMMIT" if how == "block" else rb"INSERT 0 1"))
        replies = connection.ask(INSERTS[how](2))
        assert middle.done == 1 and code(replies) == "08007", replies
        assert "may or may not" in errors(replies)[0]["D"]
        assert there(servers, database) == [1, 2], "done, once"
        middle.clear()
        goes_on(connection)
        assert code(connection.ask(INSERTS[how](3))) is None
        assert there(servers, database) == [1, 2, 3]


@pytest.mark.parametrize("action", [*SUDDEN, "hang"])
def test_a_lost_acknowledgement_of_commit_is_unknown(proxy, servers, database, middle, action):
    with log_in(proxy, database, timeout=15) as connection:
        for number, commit in enumerate((wire.query("commit"), unit("commit"), wire.query("end"))):
            eventually(lambda: code(connection.ask(wire.query("select v from t where id = 5"))) is None)
            connection.ask(wire.query("begin"))
            assert code(connection.ask(wire.query(f"insert into w values ({number}, 'x')"))) is None
            middle.add(Harm(action, pattern=rb"^C....COMMIT"))
            replies = connection.ask(commit)
            assert code(replies) == "08007", replies
            middle.clear()
            assert there(servers, database) == list(range(number + 1))
            assert connection.status == "I", "COMMIT ends the transaction, whatever became of it"
            goes_on(connection)


@pytest.mark.parametrize("action", [*SUDDEN, "hang"])
def test_a_prepared_insert_that_is_lost_is_unknown(proxy, servers, database, middle, action):
    with log_in(proxy, database, timeout=15) as connection:
        connection.ask(wire.parse("insert into w values ($1, 'x')", "in"), wire.SYNC)
        run = lambda key: wire.bind([key], name="in") + wire.execute() + wire.SYNC  # noqa: E731
        assert code(connection.ask(run(b"1"))) is None
        middle.add(Harm(action, pattern=rb"INSERT 0 1"))
        assert code(connection.ask(run(b"2"))) == "08007"
        middle.clear()
        goes_on(connection)
        assert code(connection.ask(run(b"3"))) is None, "the statement is still prepared"
        assert there(servers, database) == [1, 2, 3]


@pytest.mark.parametrize("action", [*SUDDEN, "hang"])
def test_a_lost_acknowledgement_of_copy_is_unknown(proxy, servers, database, middle, action):
    with log_in(proxy, database, timeout=15) as connection:
        connection.send(wire.query("copy plain from stdin"))
        connection.read_until("G")
        middle.add(Harm(action, pattern=rb"COPY 2"))
        replies = connection.ask(wire.copy_data(b"1\tx\n2\tx\n"), wire.COPY_DONE)
        assert code(replies) == "08007", replies
        middle.clear()
        assert there(servers, database, "plain") == [1, 2]
        goes_on(connection)


@pytest.mark.parametrize("action", [*SUDDEN, "hang"])
def test_each_unit_of_a_pipeline_is_told(proxy, servers, database, middle, action):
    """An acknowledgement is lost; those behind it were seen by the server or not, or go to the next connection: each is told something."""
    with log_in(proxy, database, timeout=15) as connection:
        assert value(connection, "select v from t where id = 5") == "row 5"
        assert code(connection.ask(unit("insert into w values ($1, 'x')", [b"1"]))) is None
        middle.add(Harm(action, pattern=rb"INSERT 0 1"))
        connection.send(*(unit("insert into w values ($1, 'x')", [key]) for key in (b"2", b"3", b"4")))
        for number in (2, 3, 4):
            replies = connection.read_until("Z")
            assert code(replies) == "08007" or (number > 2 and any(reply.type == "C" for reply in replies)), (number, replies)
        middle.clear()
        goes_on(connection)
        found = there(servers, database)
        assert found == sorted(set(found)) and set(found) >= {1, 2}


def test_an_acknowledgement_before_the_lost_one_stands(proxy, servers, database, middle):
    """In one flight: the first is acknowledged, and the second is not made harmless by that."""
    with log_in(proxy, database, timeout=15) as connection:
        for key in (b"1", b"3"):
            eventually(lambda: code(connection.ask(wire.query("select v from t where id = 5"))) is None)
            second = str(int(key) + 1).encode()
            middle.add(Harm("cut", pattern=rb"sec" + second))
            connection.send(unit("insert into w values ($1, 'x') returning 'one'", [key]), unit(f"insert into w values ($1, 'x') returning 'sec{second.decode()}'", [second]))
            assert code(connection.read_until("Z")) is None
            replies = connection.read_until("Z")
            assert code(replies) == "08007", replies
        assert there(servers, database) == [1, 2, 3, 4]


# Transactions


@pytest.mark.parametrize("commit", [wire.query("commit"), unit("commit"), wire.query("end"), wire.query("select v from t where id = 6; commit")], ids=["commit", "extended", "end", "several"])
def test_a_commit_after_the_connection_went_is_an_error(proxy, servers, database, middle, commit):
    """The client saw its writes succeed and has been told of nothing else: a quiet ROLLBACK would look like success."""
    with log_in(proxy, database) as connection:
        connection.ask(wire.query("begin"))
        assert code(connection.ask(wire.query("insert into w values (1, 'x')"))) is None
        middle.cut()
        time.sleep(0.3)
        replies = connection.ask(commit)
        assert code(replies) in ("08006", "08007", "25P02"), replies
        assert there(servers, database) == []
        if connection.status == "E":
            connection.ask(wire.query("rollback"))
        goes_on(connection)


def test_a_transaction_lost_in_a_statement_stays_failed_until_it_is_ended(proxy, servers, database, middle):
    with log_in(proxy, database, timeout=15) as connection:
        connection.ask(wire.query("begin"))
        connection.ask(wire.query("insert into w values (1, 'x')"))
        middle.add(Harm("reset", pattern=rb"row 7"))
        assert code(connection.ask(wire.query("select v from t where id = 7"))) in ("08006", "08007") and connection.status == "E"
        assert code(connection.ask(wire.query("insert into w values (2, 'x')"))) == "25P02"
        assert connection.ask(wire.query("commit"))[0].body == b"ROLLBACK\0" and connection.status == "I"
        assert there(servers, database) == []
        goes_on(connection)


def test_a_pinned_session_is_told_that_its_write_is_unknown(proxy, servers, database, middle):
    """Its state is gone with the connection, so it ends; but what became of the write is not known."""
    with log_in(proxy, database) as connection:
        assert code(connection.ask(wire.query("select pg_advisory_lock(7) from t where id = 5"))) is None
        middle.add(Harm("cut", pattern=rb"INSERT 0 1"))
        connection.send(wire.query("insert into w values (1, 'x')"))
        replies = connection.read_to_end()
        assert errors(replies)[0]["S"] == "FATAL" and code(replies) == "08007", replies
        assert there(servers, database) == [1]


# Pipelines over several shards


def test_what_follows_for_another_shard_is_not_harmed(proxy, database, middle):
    """The unnamed statement of the next unit is its own."""
    with log_in(proxy, database, timeout=15) as connection:
        for action in SUDDEN:
            eventually(lambda: code(connection.ask(wire.query("select v from t where id = 5"))) is None)
            middle.add(Harm(action, kind="1"))
            connection.send(unit("select v from t where id = $1", [b"5"]), unit("select v, 'other' from t where id = $1", [b"150"]), unit("select v from t where id = $1", [b"151"]))
            assert code(connection.read_until("Z")) in ("08006", "53300")
            for expected in (["row 150", "other"], ["row 151"]):
                replies = connection.read_until("Z")
                assert rows(replies) == [expected], (action, replies)


def test_a_failed_unit_does_not_take_the_next_ones_statement(proxy, database):
    """The same without any fault: the first Parse is wrong, and the next is for another shard."""
    with log_in(proxy, database) as connection:
        for _ in range(10):
            connection.send(unit("select no_such_column from t where id = $1", [b"5"]), unit("select v from t where id = $1", [b"150"]), unit("select v from t where id = $1", [b"6"]))
            assert code(connection.read_until("Z")) == "42703"
            for expected in ("row 150", "row 6"):
                replies = connection.read_until("Z")
                assert rows(replies) == [[expected]], replies


def test_a_failed_unit_does_not_take_a_statement_that_was_sent_behind_it(tessera, servers, database):
    """With one shard: the next Parse is on its way when the error comes, its Bind is sent after it."""
    proxy = tessera(config_of(servers[:1], database))
    with log_in(proxy, database) as connection:
        for _ in range(10):
            connection.send(wire.parse("select pg_sleep(0.05), no_such_column"), wire.bind(), wire.execute(), wire.SYNC, wire.parse("select 'mine'"))
            assert code(connection.read_until("Z")) == "42703"
            replies = connection.ask(wire.bind(), wire.execute(), wire.SYNC)
            assert rows(replies) == [["mine"]], replies
