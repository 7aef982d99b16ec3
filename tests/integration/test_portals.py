"""Portals that the proxy answers itself or runs on several shards live, end and run once as the server's do."""

import threading

import pytest
from harness import wire
from harness.wire import FLUSH, SYNC, bind, close_statement, describe_portal, execute, parse, query
from talk import code, config_of, errors, log_in, rows
from test_client_bounds import MB, is_healthy, memory_of
from two_shards import RULES, SCHEMA

BOTH = "select v from t where id in (5, 150)"
TWO = [["row 5"], ["row 150"]]


@pytest.fixture(scope="module")
def database(servers, new_database):
    name = new_database(servers, SCHEMA)
    servers[0].run("delete from t where id >= 100", name)
    servers[1].run("delete from t where id < 100", name)
    return name


@pytest.fixture
def proxy(tessera, servers, database):
    return tessera({**config_of(servers, database, **RULES), "workers": 1})


@pytest.fixture
def connection(proxy, database):
    with log_in(proxy, database) as connection:
        yield connection
        if connection.status != "I":
            connection.ask(query("rollback"))
        is_healthy(connection)


def complete(replies):
    return [reply.body[:-1].decode() for reply in replies if reply.type == "C"]


@pytest.mark.parametrize("portal", ["", "p"])
def test_rows_of_several_shards_come_once(connection, portal):
    bound = parse(BOTH) + bind(portal=portal)
    answers = connection.ask(bound + execute(portal) + execute(portal) + SYNC)
    assert rows(answers) == TWO and complete(answers) == ["SELECT 2", "SELECT 0"]
    # With its unit it ends.
    connection.ask(bound + SYNC)
    assert code(connection.ask(execute(portal) + SYNC)) == "34000"
    connection.ask(bound + execute(portal) + SYNC)
    assert code(connection.ask(describe_portal(portal) + SYNC)) == "34000"


@pytest.mark.parametrize("portal", ["", "p"])
def test_a_scatter_behind_other_units_of_a_pipeline(connection, portal):
    one = parse("select v from t where id = $1") + bind([b"7"]) + execute() + SYNC
    slow = parse("select v from t where id = $1 and pg_sleep(0.1) is not null") + bind([b"150"]) + execute() + SYNC
    both = parse(BOTH) + bind(portal=portal) + describe_portal(portal) + execute(portal) + SYNC
    for units in ([one, both], [slow, both, both], [query("select 1"), both, slow, both, one]):
        connection.send(*units)
        for unit in units:
            answers = connection.read_until("Z")
            expected = TWO if unit is both else [["row 7"]] if unit is one else [["row 150"]] if unit is slow else [["1"]]
            assert not errors(answers) and rows(answers) == expected


def test_a_name_is_taken_until_its_portal_ends(connection):
    both, begin = parse(BOTH, "b"), parse("begin", "l")
    connection.ask(both + begin + parse("select v from t where id = 5", "s") + SYNC)
    for first, second in (("b", "b"), ("b", "l"), ("l", "b"), ("l", "s"), ("s", "l")):
        answers = connection.ask(bind(portal="p", name=first) + bind(portal="p", name=second) + execute("p") + SYNC)
        assert code(answers) == "42P03" and not rows(answers), (first, second)
        assert connection.status == "I"
    for name in ("b", "b", "s", "b"):  # each in a unit of its own
        assert rows(connection.ask(bind(portal="p", name=name) + execute("p") + SYNC)) == (TWO if name == "b" else TWO[:1])


def test_what_the_proxy_answers_runs_once(connection):
    begin = parse("begin") + bind(portal="p") + execute("p")
    assert code(connection.ask(begin + execute("p") + SYNC)) == "55000"
    assert connection.status == "E"
    connection.ask(query("rollback"))
    connection.ask(parse("begin") + bind(portal="p") + SYNC)
    assert code(connection.ask(execute("p") + SYNC)) == "34000" and connection.status == "I"
    connection.ask(query("begin"))
    connection.ask(parse("savepoint a") + bind(portal="p") + SYNC)  # in a transaction it outlives its unit
    assert complete(connection.ask(execute("p") + SYNC)) == ["SAVEPOINT"]
    connection.ask(query("rollback to a"))
    assert code(connection.ask(execute("p") + SYNC)) == "55000" and connection.status == "E"
    connection.ask(query("rollback"))
    assert code(connection.ask(execute("p") + SYNC)) == "34000"


@pytest.mark.parametrize("end", [SYNC, FLUSH + SYNC, bind(portal="q") + describe_portal("q") + SYNC, execute("p") + describe_portal("p") + SYNC], ids=["sync", "flush", "another", "executed"])
def test_a_description_without_the_rows_is_refused(connection, end):
    answers = connection.ask(parse(BOTH) + bind(portal="p") + describe_portal("p") + end)
    assert code(answers) == "0A000" and "described" in errors(answers)[0]["M"]


# ---- their bound ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sql", ["begin", BOTH, "set a.b = '1'"])
def test_portals_have_their_bound(tessera, servers, database, sql):
    proxy = tessera({**config_of(servers, database, limits={"prepared_memory": "8MB"}, **RULES), "workers": 1})
    with log_in(proxy, database, timeout=60) as connection:
        is_healthy(connection)
        before = memory_of(proxy)
        connection.send(parse(f"/* {'x' * MB} */ {sql}"), b"".join(bind(portal=f"p{i}") for i in range(200)))
        answers = connection.ask(SYNC)
        assert errors(answers)[0]["C"] == "53400" and "portals" in errors(answers)[0]["M"]
        assert memory_of(proxy) - before < 40 * MB
        is_healthy(connection)
        answers = connection.ask(parse(BOTH) + bind(portal="p0") + execute("p0") + SYNC)  # the room is there again
        assert rows(answers) == TWO


def test_portals_of_units_that_have_ended_take_no_room(tessera, servers, database):
    proxy = tessera(config_of(servers, database, limits={"prepared_memory": "64kB"}, **RULES))
    with log_in(proxy, database) as connection:
        connection.ask(parse("commit", "l") + parse(BOTH, "b") + SYNC)
        for number in range(300):
            for name in "lb":
                assert not errors(connection.ask(bind(portal=f"{name}{number}", name=name) + SYNC))
        is_healthy(connection)


def test_our_answers_do_not_pile_up_behind_the_servers(proxy, database):
    with log_in(proxy, database, timeout=60) as connection:
        connection.ask(parse("show tessera.shards", "n") + SYNC)
        for pile in (close_statement("none"), describe_portal("l")):
            before = memory_of(proxy)
            held = parse("select 1") + bind() + bind(portal="l", name="n")  # the server has no reason to send its answers yet
            sender = threading.Thread(target=connection.send, args=(held, pile * 200_000, SYNC))
            sender.start()
            most = read_to_ready(connection, lambda: memory_of(proxy))
            sender.join()
            assert most - before < 40 * MB
        is_healthy(connection)


def read_to_ready(connection, measure):
    """Reads up to ReadyForQuery and keeps nothing; the largest of what was measured meanwhile."""
    most, end = measure(), b""
    while not end.endswith(wire.message("Z", b"I")):
        end = (end + connection.socket.recv(1 << 16))[-16:]
        most = max(most, measure())
    return most
