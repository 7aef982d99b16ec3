"""What breaks around the proxy, and what must hold meanwhile: only what is concerned fails, in bounded time and memory."""

import os
import random
import resource
import signal
import socket
import statistics
import struct
import threading
import time

import pytest
from harness import wire
from harness.hanging import Stopped
from mock_server import GREETING, MockServer, Relay
from talk import code, config_of, errors, eventually, log_in, rows, value
from two_shards import RULES, SCHEMA

MB = 1 << 20


@pytest.fixture(scope="module")
def stoppable(new_server, new_database, shards):
    """Two shards of which the first may be stopped: (servers, database)."""
    pair = [new_server("stoppable"), shards(2)[1]]
    return pair, new_database(pair, SCHEMA)


def times_of(connection, statement, count):
    """Seconds of each of so many statements, sorted."""
    taken = []
    for _ in range(count):
        started = time.monotonic()
        assert code(connection.ask(wire.query(statement))) is None
        taken.append(time.monotonic() - started)
    return sorted(taken)


# A shard hangs


def test_a_hanging_shard_holds_up_only_its_own_statements(tessera, stoppable):
    pair, name = stoppable
    proxy = tessera(config_of(pair, name, **RULES, pool={"size": 5, "checkout_timeout": "500ms"}, backend={"connect_timeout": "500ms"}, limits={"statement_timeout": "1s"}))
    with log_in(proxy, name) as victim, log_in(proxy, name) as other, log_in(proxy, name) as idle:
        idle.ask(wire.query("begin; select v from t where id = 7"))
        assert value(victim, "select v from t where id = 5") == "row 5", "there is a second connection"
        before = times_of(other, "select v from t where id = 150", 300)
        with Stopped(pair[0]):
            started = time.monotonic()
            victim.send(wire.query("select v from t where id = 5"))
            during = times_of(other, "select v from t where id = 150", 300)
            replies = victim.read_until("Z")
            assert code(replies) == "57014" and time.monotonic() - started < 5, replies
            assert "statement timeout" in errors(replies)[0]["M"]
            replies = victim.ask(wire.query("select v from t where id = 6"))  # now there is no connection either
            assert code(replies) in ("08006", "53300", "57014")
            replies = idle.ask(wire.query("select v from t where id = 8"))
            assert code(replies) in ("57014", "08006") and idle.status == "E"
            with log_in(proxy, name) as fresh:
                assert value(fresh, "select v from t where id = 151") == "row 151"
        assert statistics.median(during) < statistics.median(before) * 1.5 + 0.0005
        assert during[-4] < before[-4] * 3 + 0.02
        assert code(idle.ask(wire.query("rollback"))) is None
        eventually(lambda: code(victim.ask(wire.query("select v from t where id = 5"))) is None, timeout=20)
        assert value(idle, "select v from t where id = 5") == "row 5"


def test_statements_that_take_too_long_are_stopped(tessera, servers, database):
    proxy = tessera(config_of(servers, database, **RULES, limits={"statement_timeout": "1s"}))  # a new connection takes a while on a busy machine
    with log_in(proxy, database) as connection:
        for sql in ("select pg_sleep(20) from t where id = 5", "select id, pg_sleep(20) from t", "begin; select pg_sleep(20) from t where id = 150"):
            started = time.monotonic()
            assert code(connection.ask(wire.query(sql))) == "57014", sql
            assert time.monotonic() - started < 5
            if connection.status != "I":
                connection.ask(wire.query("rollback"))
            assert value(connection, "select v from t where id = 5") == "row 5"
        connection.ask(wire.query("begin; select 1 from t where id = 5"))
        time.sleep(1.5)
        assert value(connection, "select v from t where id = 6") == "row 6", "a pause between statements is none"
        connection.ask(wire.query("commit"))
    for server in servers:
        eventually(lambda s=server: s.run(f"select count(*) from pg_stat_activity where datname = '{database}' and state = 'active' and query like '%pg_sleep%'", "postgres").strip() == "0", timeout=3)


def test_idle_transactions_and_idle_clients_are_ended(tessera, servers, database):
    proxy = tessera(config_of(servers, database, **RULES, limits={"idle_in_transaction_timeout": "400ms", "client_idle_timeout": "1200ms"}))
    with log_in(proxy, database) as idle, log_in(proxy, database) as open_one, log_in(proxy, database) as lazy, log_in(proxy, database) as busy:
        open_one.ask(wire.query("begin; update t set v = v where id = 9"))
        lazy.ask(wire.query("begin"))
        busy.send(wire.query("select pg_sleep(2) from t where id = 5"))
        for connection, sqlstate in ((open_one, "25P03"), (lazy, "25P03"), (idle, "57P05")):
            assert code(connection.read_to_end()) == sqlstate
        assert code(busy.read_until("Z")) is None


# A client vanishes

VANISHINGS = {
    "idle in a transaction": [wire.query("begin; update t set v = v where id = 11")], "in a statement": [wire.query("select pg_sleep(60) from t where id = 11")],
    "in a write": [wire.query("update t set v = v where id = 11 and pg_sleep(60) is not null")], "in a lock": [wire.query("begin; lock table t in share mode; select pg_sleep(60) from t where id = 11")],
    "in copy in": [wire.query("copy t from stdin"), wire.copy_data(b"1000\tx\n")], "in copy out": [wire.query("copy (select repeat('x', 1000) from generate_series(1, 1000000)) to stdout")],
    "in a pipeline": [(wire.parse("select pg_sleep(20) from t where id = $1") + wire.bind([b"11"]) + wire.execute()) * 5 + wire.SYNC], "in a scatter": [wire.query("select id, pg_sleep(1) from t")],
    "in a huge result": [wire.query("select repeat('x', 10000) from t where id = 11 union all select repeat('x', 10000) from generate_series(1, 200000)")],
}


def open_work(server, database):
    return server.run(f"select pid, state, query from pg_stat_activity where datname = '{database}' and backend_type = 'client backend' and state <> 'idle' and pid <> pg_backend_pid()", "postgres").strip()


@pytest.mark.parametrize("how", VANISHINGS)
@pytest.mark.parametrize("reset", [False, True], ids=["closed", "reset"])
def test_a_vanished_clients_work_ends_in_bounded_time(tessera, shards, new_database, how, reset, request):
    server = shards(1)[0] if how != "in a scatter" else None
    targets = [server] if server else shards(2)
    if not hasattr(request.module, "vanishing"):
        request.module.vanishing = {}
    name = request.module.vanishing.setdefault(len(targets), None) or new_database(targets, SCHEMA)
    request.module.vanishing[len(targets)] = name
    proxy = tessera(config_of(targets, name, **(RULES if len(targets) == 2 else {}), pool={"size": 1, "checkout_timeout": "4s"}))
    client = log_in(proxy, name)
    for part in VANISHINGS[how]:
        client.send(part)
        time.sleep(0.15)
    if reset:
        client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()
    for target in targets:
        eventually(lambda t=target: open_work(t, name) == "", timeout=4, what=f"{how}: nothing is left on the server")
    with log_in(proxy, name) as next_one:
        assert value(next_one, "select v from t where id = 11") == "row 11"
        assert code(next_one.ask(wire.query("update t set v = v where id = 11"))) is None


# Slow readers, fast writers


def test_a_slow_reader_of_a_huge_result_costs_no_memory(tessera, servers, database):
    proxy = tessera(config_of(servers, database, **RULES))
    with log_in(proxy, database) as other:
        assert value(other, "select 1") == "1"
        for big in (wire.query("select repeat('x', 100000) from generate_series(1, 3000)"), wire.query("copy (select repeat('x', 100000) from generate_series(1, 3000)) to stdout"),
                               wire.query("select id, repeat(v, 150000) from t")):
            reader = log_in(proxy, database, timeout=60)
            reader.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
            before = proxy.resident_bytes()
            reader.send(big)
            most = 0
            assert reader.socket.recv(1) in (b"T", b"H")
            for _ in range(25):
                reader.socket.recv(20000)
                time.sleep(0.04)
                most = max(most, proxy.resident_bytes())
                assert value(other, "select v from t where id = 5") == "row 5"
            assert most - before < 12 * MB, f"{(most - before) / MB:.1f} MB"
            total = 0
            while True:
                data = reader.socket.recv(1 << 20)
                total += len(data)
                if not data or data.endswith(b"Z\0\0\0\5I"):
                    break
            assert total > 150_000_000 and proxy.resident_bytes() - before < 12 * MB
            reader.close()


def test_a_client_that_sends_and_never_reads_costs_no_memory(tessera, servers, database):
    proxy = tessera(config_of(servers, database, **RULES))
    chunk = (wire.parse("select repeat('x', 5000)") + wire.bind() + wire.execute() + wire.SYNC) * 500
    for part in (chunk, wire.query("select repeat('x', 5000) /*" + "-" * 400 + "*/") * 500):
        before = proxy.resident_bytes()
        with log_in(proxy, database, timeout=2) as flooder, log_in(proxy, database) as other:
            sent = 0
            try:
                for _ in range(400):
                    flooder.send(part)
                    sent += len(part)
            except TimeoutError:
                pass
            assert sent < 400 * len(part), "nothing ever held it up"
            assert proxy.resident_bytes() - before < 40 * MB
            assert value(other, "select v from t where id = 5") == "row 5"
    eventually(lambda: all(open_work(server, database) == "" for server in servers), timeout=5)


def test_a_client_that_copies_faster_than_the_server_takes_costs_no_memory(tessera, servers, database):
    """The server is held up by a lock in a trigger."""
    proxy = tessera(config_of(servers, database, **RULES))
    servers[0].run("create table if not exists slow (v text); create or replace function nap() returns trigger language plpgsql as $$ begin perform pg_sleep(5); return new; end $$;"
                   "create or replace trigger nap before insert on slow for each row execute function nap(); grant all on slow to public", database)
    before = proxy.resident_bytes()
    with log_in(proxy, database, timeout=2) as copier:
        copier.send(wire.query("copy slow from stdin"))
        copier.read_until("G")
        try:
            for _ in range(200):
                copier.send(wire.copy_data(b"x" * (1 << 20) + b"\n"))
        except TimeoutError:
            pass
        assert proxy.resident_bytes() - before < 20 * MB


# Servers that talk nonsense


def nonsense(seed, moment):
    def serve(connection):
        rng = random.Random(seed + connection.socket.fileno())
        connection.startup()
        if moment == "query":
            connection.send(GREETING)
            connection.message()
        connection.send(rng.choice([rng.randbytes(2000), b"HTTP/1.1 400 Bad Request\r\n\r\n", b"\0" * 500, b"E\0\0\0\4", b"R\0\0\0\x08\0\0\0\x63", b"Z\0\0\0\5X", b"D\0\0\0\6\xff\xff",
                                    b"K\0\0\0\4", b"S\0\0\0\5a", b"T\0\0\0\6\xff\xff", GREETING * 3, b"1\0\0\0\4" * 100, b"C\0\0\0\5x", b"", b"N", b"v\0\0\0\x0c\0\3\0\0\xff\xff\xff\xff"]))
        if rng.random() < 0.5:
            connection.drain()

    return serve


@pytest.mark.parametrize("moment", ["login", "query"])
def test_a_server_that_talks_nonsense(tessera, servers, database, moment):
    with MockServer(nonsense(7, moment)) as mock:
        proxy = tessera({**config_of([servers[1], mock], database, rules={"r": {"type": "range", "ranges": [{"below": "100", "shard": "s1"}, {"shard": "s0"}]}}, tables=RULES["tables"],
                                     backend={"tls": "disable", "connect_timeout": "300ms"}, pool={"checkout_timeout": "300ms", "reconnect_min": "1ms", "reconnect_max": "5ms", "size": 3}), "workers": 1})
        before = proxy.resident_bytes()
        failed = 0
        for _ in range(16):
            try:
                with log_in(proxy, database, timeout=8) as connection:
                    assert value(connection, "select v from t where id = 150") == "row 150"
                    started = time.monotonic()
                    try:
                        replies = connection.ask(wire.query("select v from t where id = 5"))
                        assert not rows(replies) and code(replies), replies
                    except (wire.WireError, ConnectionResetError):
                        pass  # half a message of the nonsense had been passed on
                    failed += 1
                    assert time.monotonic() - started < 4
            except wire.WireError as error:
                assert error.fields.get("C", "").startswith(("08", "53")), error
        assert failed > 2
        assert proxy.resident_bytes() - before < 20 * MB


def test_a_server_behind_a_slow_line(tessera, servers, database):
    """64 kbit/s: its own statements are slow, the other shard's are not."""
    slow_now = threading.Event()

    def trickle(data):
        if not slow_now.is_set():
            yield data
            return
        for at in range(0, len(data), 400):
            time.sleep(0.05)
            yield data[at:at + 400]

    with Relay(servers[0].port, trickle) as relay:
        proxy = tessera(config_of([relay, servers[1]], database, **RULES, backend={"tls": "disable"}))
        with log_in(proxy, database) as slow, log_in(proxy, database) as fast:
            assert value(slow, "select v from t where id = 5") == "row 5"
            before = times_of(fast, "select v from t where id = 150", 200)
            slow_now.set()
            slow.send(wire.query("select repeat('x', 10000) from t where id = 5"))
            during = times_of(fast, "select v from t where id = 150", 200)
            assert statistics.median(during) < statistics.median(before) * 1.5 + 0.0005
            assert rows(slow.read_until("Z")) == [["x" * 10000]]


# No more file descriptors


def test_without_file_descriptors_new_clients_are_shed_and_old_ones_stay(tessera, servers, database):
    proxy = tessera(config_of(servers, database, **RULES))
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 4096), hard))
    crowd = []
    try:
        with log_in(proxy, database) as old:
            assert value(old, "select v from t where id = 5") == "row 5"
            resource.prlimit(proxy.process.pid, resource.RLIMIT_NOFILE, (150, 150))
            for _ in range(300):
                crowd.append(socket.create_connection((proxy.host, proxy.port)))
            proxy.wait_for_log("file descriptors")
            for _ in range(50):
                assert value(old, "select v from t where id = 5") == "row 5"
            with pytest.raises((wire.WireError, OSError)):
                log_in(proxy, database, timeout=3)
            before = time.process_time(), cpu_seconds(proxy)
            time.sleep(1)
            assert cpu_seconds(proxy) - before[1] < 0.5, "it does not spin"
            for one in crowd:
                one.close()
            crowd = []
            eventually(lambda: _may_log_in(proxy, database))
            assert proxy.log().count("file descriptors") < 1000
    finally:
        for one in crowd:
            one.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def cpu_seconds(proxy):
    fields = open(f"/proc/{proxy.process.pid}/stat").read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _may_log_in(proxy, database):
    try:
        with log_in(proxy, database) as connection:
            return value(connection, "select v from t where id = 5") == "row 5"
    except (wire.WireError, OSError):
        return False


# The proxy itself ends


def test_draining_lets_transactions_end(tessera, servers, database):
    proxy = tessera(config_of(servers, database, **RULES))
    with log_in(proxy, database) as busy, log_in(proxy, database) as idle:
        busy.ask(wire.query("begin; select v from t where id = 5"))
        proxy.process.send_signal(signal.SIGTERM)
        assert code(idle.read_to_end()) == "57P01"
        time.sleep(0.2)
        assert value(busy, "select v from t where id = 6") == "row 6"
        with pytest.raises((wire.WireError, OSError)):
            log_in(proxy, database, timeout=2)
        assert code(busy.ask(wire.query("update t set v = v where id = 6"))) is None
        assert busy.ask(wire.query("commit"))[0].body == b"COMMIT\0"
        assert code(busy.read_to_end()) == "57P01"
        assert proxy.process.wait(10) == 0


def test_draining_does_not_wait_for_ever(tessera, servers, database):
    proxy = tessera({**config_of(servers, database, **RULES), "drain_timeout": "1s"})
    with log_in(proxy, database) as busy:
        busy.ask(wire.query("begin; update t set v = 'never' where id = 5"))
        started = time.monotonic()
        proxy.process.send_signal(signal.SIGTERM)
        assert code(busy.read_to_end()) == "57P01" and 0.8 < time.monotonic() - started < 4
        assert proxy.process.wait(10) == 0
    assert servers[0].run("select v from t where id = 5", database).strip() == "row 5"
