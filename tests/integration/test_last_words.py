"""What a client sends right before it leaves is carried out, as one PostgreSQL does, whether or not it waits for the answers."""

import socket
import struct
import threading
import time

import pytest
from harness import wire
from talk import backends_of, code, config_of, eventually, log_in, rows, value
from two_shards import RULES

SCHEMA = "create table t (id int primary key, v text)"


def extended(sql):
    return wire.parse(sql) + wire.bind() + wire.execute() + wire.SYNC


PROTOCOLS = {"simple": wire.query, "extended": extended}


@pytest.fixture(params=["plain", "tls"])
def tls(request):
    return True if request.param == "tls" else None


@pytest.fixture(scope="module", params=[1, 2], ids=["one shard", "two shards"])
def used_home(request, shards, new_database):
    servers = shards(request.param)
    return servers, new_database(servers, SCHEMA)


@pytest.fixture
def home(used_home):
    """Without rows, and without anybody from before who might write some."""
    servers, name = used_home
    for server in servers:
        eventually(lambda: not backends_of(server, name), what="nobody is there")
        server.run("truncate t", name)
    return used_home


@pytest.fixture
def start(tessera, home, ca):
    """A proxy, and what counts as the database's settings besides."""
    servers, name = home
    issued = ca.issue("tessera")
    listen = {"tls": {"mode": "prefer", "certificate": str(issued.certificate), "private_key": str(issued.private_key)}}

    def make(**more):
        made = config_of(servers, name, listen=listen, **(RULES if len(servers) == 2 else {}), **more)
        made["admin"] = {"console_admins": ["app"]}
        return tessera(made)

    return make


def ids(home):
    servers, name = home
    found = []
    for server in servers:
        found += [int(line) for line in server.run("select id from t", name).split()]
    return sorted(found)


def part(connection, *last, reset=False):
    """Sends its last words and goes, all in one flight."""
    raw = connection.socket
    raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, 1)
    connection.send(*last)
    if hasattr(raw, "unwrap"):
        raw.settimeout(0.0)
        try:
            raw.unwrap()
        except OSError:
            pass
    if reset:
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, 0)
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def holds(home, wanted):
    eventually(lambda: ids(home) == wanted, what=wanted)


KEYS = [5, 150]


def insert(key):
    return f"insert into t values ({key}, 'x')"


@pytest.mark.parametrize("reset", [False, True], ids=["closed", "reset"])
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_write_right_before_the_goodbye(start, home, tls, protocol, reset):
    proxy = start()
    for key in range(90, 110):
        client = log_in(proxy, home[1], tls=tls)
        assert value(client, "select 1") == "1"
        part(client, PROTOCOLS[protocol](insert(key)), wire.TERMINATE, reset=reset)
    holds(home, list(range(90, 110)))


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_goodbye_while_the_write_runs(start, home, tls, protocol):
    proxy = start()
    for key in KEYS:
        client = log_in(proxy, home[1], tls=tls)
        client.send(PROTOCOLS[protocol](f"insert into t select {key}, pg_sleep(1)::text" if len(home[0]) == 1 else f"insert into t values ({key}, pg_sleep(1)::text)"))
        time.sleep(0.3)
        part(client, wire.TERMINATE)
    time.sleep(0.3)
    holds(home, KEYS)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_commit_and_goodbye(start, home, tls, protocol):
    proxy = start()
    send = PROTOCOLS[protocol]
    for key in KEYS:
        client = log_in(proxy, home[1], tls=tls)
        for sql in ("begin", insert(key)):
            assert code(client.ask(send(sql))) is None
        part(client, send("commit"), wire.TERMINATE)
    holds(home, KEYS)
    client = log_in(proxy, home[1], tls=tls)
    part(client, send("begin"), send(insert(7)), send("commit"), send("begin"), send(insert(8)), wire.TERMINATE)
    holds(home, [5, 7, 150])
    time.sleep(0.3)
    holds(home, [5, 7, 150])
    for server in home[0]:
        assert server.run(f"select count(*) from pg_stat_activity where datname = '{home[1]}' and state like 'idle in%'", "postgres").strip() == "0"


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_write_that_waits_for_a_connection(start, home, tls, protocol):
    proxy = start(pool={"size": 1, "checkout_timeout": "10s"})
    send = PROTOCOLS[protocol]
    waiting = [log_in(proxy, home[1], tls=tls) for _ in KEYS]  # a worker's first login needs a connection, too
    holders = [log_in(proxy, home[1]) for _ in home[0]]
    for holder, key in zip(holders, (1, 101)):
        assert code(holder.ask(wire.query("begin"), wire.query(f"select v from t where id = {key}"))) is None
        holder.read_until("Z")
    for client, key in zip(waiting, KEYS):
        part(client, send(insert(key)), send(insert(key + 1)), wire.TERMINATE)
    time.sleep(1.5)
    assert ids(home) == []
    for holder in holders:
        assert code(holder.ask(wire.query("commit"))) is None
    holds(home, [5, 6, 150, 151])


def test_a_write_in_a_pause(start, home):
    proxy = start()
    with log_in(proxy, "pgbouncer") as console:
        waiting = [log_in(proxy, home[1]) for _ in KEYS]
        assert code(console.ask(wire.query(f"pause {home[1]}"))) is None
        for client, key in zip(waiting, KEYS):
            part(client, wire.query(insert(key)), wire.TERMINATE)
        time.sleep(1.5)
        assert ids(home) == []
        assert code(console.ask(wire.query(f"resume {home[1]}"))) is None
    holds(home, KEYS)


def test_writes_behind_one_another_and_behind_reads(start, home, tls):
    """Also behind answers that nobody takes."""
    proxy = start()
    client = log_in(proxy, home[1], tls=tls)
    big = "select repeat('x', 100000) from generate_series(1, 500)"
    part(client, wire.query(insert(5)), wire.query(big), wire.query(insert(150)), wire.query("select v from t"), extended(insert(6)), wire.TERMINATE)
    holds(home, [5, 6, 150])
    eventually(lambda: clients(proxy, home[1]) == 0)


def test_a_client_that_never_reads_again(start, home):
    """It stays connected; its place is free all the same."""
    proxy = start()
    client = log_in(proxy, home[1])
    client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16384)
    client.send(wire.query("select repeat('x', 100000) from generate_series(1, 500)"), wire.query(insert(5)), wire.query(insert(150)), wire.TERMINATE)
    holds(home, KEYS)
    eventually(lambda: clients(proxy, home[1]) == 0)
    client.close()


def clients(proxy, database):
    """Those of this database that the proxy has."""
    with log_in(proxy, "pgbouncer") as console:
        return sum(row[2] == database for row in rows(console.ask(wire.query("show clients"))))


def test_half_a_unit_and_half_a_copy_are_rolled_back(start, home):
    proxy = start(pool={"size": 1, "checkout_timeout": "5s"})
    part(log_in(proxy, home[1]), wire.parse(insert(5)) + wire.bind() + wire.execute(), wire.TERMINATE)
    if len(home[0]) == 1:
        part(log_in(proxy, home[1]), wire.query("copy t from stdin"), wire.copy_data(b"6\tx\n"), wire.TERMINATE)
        part(log_in(proxy, home[1]), wire.query("copy t from stdin"), wire.copy_data(b"7\tx\n"), wire.COPY_DONE, wire.TERMINATE)
    part(log_in(proxy, home[1]), wire.query(insert(8)), wire.TERMINATE)
    holds(home, [7, 8] if len(home[0]) == 1 else [8])


def test_a_goodbye_is_no_way_around_limits(start, home):
    proxy = start(limits={"statement_timeout": "700ms"}, pool={"size": 1, "checkout_timeout": "500ms"})
    part(log_in(proxy, home[1]), wire.query("select pg_sleep(60)"), wire.TERMINATE)
    eventually(lambda: clients(proxy, home[1]) == 0, timeout=4)
    holder, client = log_in(proxy, home[1]), log_in(proxy, home[1])
    assert code(holder.ask(wire.query("begin; select v from t where id = 5"))) is None
    part(client, wire.query(insert(5)), wire.TERMINATE)
    eventually(lambda: clients(proxy, home[1]) == 1, timeout=4)
    holder.close()
    assert ids(home) == []


def test_a_clean_stop_waits_for_what_is_left_to_do(start, home):
    proxy = start()
    part(log_in(proxy, home[1]), wire.query("insert into t values (5, pg_sleep(1)::text)"), wire.TERMINATE)
    time.sleep(0.3)
    thread = threading.Thread(target=proxy.stop)
    thread.start()
    thread.join(30)
    assert ids(home) == [5]


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_the_end_of_the_stream_without_a_goodbye(start, home, tls, protocol):
    """What came before runs, but only for a moment; who still listens gets the answers."""
    proxy = start()
    send = PROTOCOLS[protocol]
    for key in KEYS:
        part(log_in(proxy, home[1], tls=tls), send(insert(key)), send(insert(key + 1)), send(insert(7 * key))[:-2])
    holds(home, [5, 6, 150, 151])
    if not tls:
        with log_in(proxy, home[1]) as client:
            client.send(send("select v from t where id = 5"), send("select v from t where id = 150"))
            client.socket.shutdown(socket.SHUT_WR)
            assert rows(client.read_to_end()) == [["x"], ["x"]]
