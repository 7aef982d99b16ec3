"""Rows of the fault table that need more than one test file's means: the proxy is killed, pools run dry on several shards, memory runs out.

`./dev chaos` does the same and more for as long as one likes; here is what every run of the suite shows.
"""

import os
import re
import resource
import socket
import threading
import time

from chaos import load
from chaos.ledger import Ledger
from harness import wire
from talk import code, config_of, eventually, log_in, rows, value

MB = 1 << 20


def truth(servers, name):
    return {table: [(number, int(line)) for number, server in enumerate(servers) for line in server.run(f"select id from {table}", name).split()] for table in ("writes", "imports")}


def metric(proxy, name, label=""):
    found = re.findall(rf'^{name}(?:\{{(.*)\}})? (\S+)$', proxy.http("GET", "/metrics")[1], re.M)
    return sum(float(number) for labels, number in found if label in labels)


def test_the_ledger_finds_every_lie():
    """What is shown by an empty list must be able to be otherwise."""
    def told(outcome, count, there):
        ledger = Ledger()
        group = ledger.open("writes", 0, count, "test")
        group.outcome = outcome
        return ledger.compare({"writes": [(shard, group.ids[number]) for number, shard in there], "imports": []})

    assert told("acknowledged", 1, [(0, 0)]) == told("failed", 1, []) == told("unknown", 1, []) == told("unknown", 2, [(0, 0), (1, 0)]) == []
    assert "missing" in told("acknowledged", 1, [])[0]
    assert "is there" in told("failed", 1, [(0, 0)])[0]
    assert "twice" in told("acknowledged", 1, [(0, 0), (0, 0)])[0]
    assert "foreign" in told("acknowledged", 1, [(0, 2)])[0]
    assert "1 of 2" in told("unknown", 2, [(1, 0)])[0]
    assert "nobody" in Ledger().compare({"writes": [(0, 5)], "imports": []})[0]


def test_kill_9_of_tessera_under_load_loses_and_doubles_nothing(tessera, crowded):
    servers, name = crowded
    for server in servers:
        server.run("truncate writes, imports", name)
    proxy = tessera(config_of(servers, name, **load.sharding(4), pool={"size": 8}))
    crowd = load.Crowd(proxy, name, Ledger(), 4, 21)
    crowd.start()
    for _ in range(5):
        before, started = crowd.total("statements"), time.monotonic()
        time.sleep(1.5)
        assert (crowd.total("statements") - before) / (time.monotonic() - started) >= 100, "too little load to show anything"
        crowd.blame = load.Blame(range(4), ("08006", "08007", "53300"), dropped=True)
        proxy.kill()
        proxy.start()
        eventually(lambda: metric(proxy, "tessera_clients") == len(crowd.clients), timeout=20, what="all clients are back")
        assert crowd.pause() == []
        crowd.blame = load.NOBODY
        eventually(lambda: metric(proxy, "tessera_pool_connections", 'state="busy"') == 0 and metric(proxy, "tessera_pool_waiting_clients") == 0)
        for server in servers:
            eventually(lambda s=server: s.run(f"select count(*) from pg_stat_activity where datname = '{name}' and state <> 'idle' and pid <> pg_backend_pid()", "postgres").strip() == "0",
                       what="the killed proxy's transactions have ended")
        crowd.resume()
    assert crowd.stop() == [] and not crowd.problems(), "\n".join(crowd.problems())
    assert crowd.ledger.compare(truth(servers, name)) == []
    assert crowd.ledger.counts()["acknowledged"] > 200


def test_pools_that_run_dry_on_one_shard_leave_the_others_and_no_counter_behind(tessera, crowded):
    servers, name = crowded
    proxy = tessera(config_of(servers, name, **load.sharding(4), pool={"size": 3, "checkout_timeout": "300ms"}))
    key = "2000000001"  # on s2
    for _ in range(3):
        holders, waiting = [log_in(proxy, name) for _ in range(3)], [log_in(proxy, name) for _ in range(12)]
        for holder in holders:
            holder.ask(wire.query("begin"))
            assert code(holder.ask(wire.query(f"select v from items where id = {key}"))) is None
        started = time.monotonic()
        for number, one in enumerate(waiting):
            one.send(wire.query(f"select v from items where id = {key}") if number % 3 else wire.query(f"select v from items where id in ({key}, 7)"))
        eventually(lambda: metric(proxy, "tessera_pool_waiting_clients", 'shard="s2"') == 12, timeout=0.28)
        with log_in(proxy, name) as other:
            for shard in (0, 1, 3):
                assert value(other, f"select v from items where id = {shard}000000001") == "row 1"
        for number, one in enumerate(waiting):
            if number % 4 == 0:
                one.close()
            else:
                replies = one.read_until("Z")
                assert code(replies) == "53300" and "s2" in str(replies), replies
                one.close()
        assert time.monotonic() - started < 2
        holders[0].ask(wire.query("commit"))
        for holder in holders:
            holder.close()
        eventually(lambda: metric(proxy, "tessera_clients") == 0, what="no clients are counted")
        eventually(lambda: metric(proxy, "tessera_pool_connections", 'state="busy"') == 0 and metric(proxy, "tessera_pool_waiting_clients") == 0, what="counters are back to zero")
        assert metric(proxy, "tessera_pool_open_connections", 'shard="s2"') <= 3


def test_without_memory_new_clients_are_shed_and_old_ones_stay(tessera, crowded):
    """Its address space ends 24 MB above what it has: messages that do not fit are refused or their clients go; others go on."""
    servers, name = crowded
    proxy = tessera(config_of(servers, name, **load.sharding(4), limits={"message_size": "1GB"}))
    with log_in(proxy, name) as old:
        for shard in range(4):
            assert value(old, f"select v from items where id = {shard}000000001") == "row 1"
        size = int(open(f"/proc/{proxy.process.pid}/statm").read().split()[0]) * resource.getpagesize()
        resource.prlimit(proxy.process.pid, resource.RLIMIT_AS, (size + 24 * MB, resource.RLIM_INFINITY))
        stop, flooders = threading.Event(), []

        def flood():
            while not stop.is_set():
                try:
                    with log_in(proxy, name, timeout=5) as greedy:
                        greedy.send(wire.query("select '" + "x" * (20 * MB) + "' from items where id = 1"))
                        greedy.read_until("Z")
                except (OSError, wire.WireError):
                    time.sleep(0.05)

        for _ in range(4):
            flooders.append(threading.Thread(target=flood, daemon=True))
            flooders[-1].start()
        try:
            for _ in range(60):
                assert proxy.is_alive(), f"Tessera ended with {proxy.process.poll()}: {proxy.log_tail(3)}"
                assert value(old, "select v from items where id = 1000000001") == "row 1"
                time.sleep(0.05)
        finally:
            stop.set()
            for thread in flooders:
                thread.join(10)
        resource.prlimit(proxy.process.pid, resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        eventually(lambda: _may_log_in(proxy, name), what="new clients again")
        assert value(old, "select v from items where id = 2000000001") == "row 1"


def _may_log_in(proxy, name):
    try:
        with log_in(proxy, name, timeout=3) as connection:
            return value(connection, "select v from items where id = 1") == "row 1"
    except (wire.WireError, OSError):
        return False


def test_a_server_that_takes_connections_and_says_nothing(tessera, crowded):
    """Its kernel accepts, nobody answers: as behind a router that swallows everything. In bounded time, and only its own statements."""
    servers, name = crowded
    with socket.create_server(("127.0.0.1", 0), backlog=64) as silent:
        config = config_of(servers, name, **load.sharding(4), backend={"connect_timeout": "2s"}, pool={"checkout_timeout": "3s", "reconnect_min": "20ms", "reconnect_max": "100ms"})
        config["databases"][name]["shards"]["s3"] = {"primary": f"127.0.0.1:{silent.getsockname()[1]}"}
        proxy = tessera(config)
        with log_in(proxy, name) as connection:
            for _ in range(3):
                started = time.monotonic()
                replies = connection.ask(wire.query("select v from items where id = 3000000001"))
                assert code(replies) in ("08006", "53300") and "s3" in str(replies) and time.monotonic() - started < 6, replies
                started = time.monotonic()
                replies = connection.ask(wire.query("select v from items where id in (1, 3000000001)"))
                assert code(replies) in ("08006", "53300") and rows(replies) in ([], [["row 1"]]) and time.monotonic() - started < 6, replies
                for shard in range(3):
                    started = time.monotonic()
                    assert value(connection, f"select v from items where id = {shard}000000001") == "row 1"
                    assert time.monotonic() - started < 2
        assert os.path.exists(f"/proc/{proxy.process.pid}")
