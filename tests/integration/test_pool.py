"""Server connections: how they are shared, how many there are, how long they live, and what a client sees when one dies."""

import os
import signal
import threading
import time

import pytest
from harness import places, wire
from mock_server import MockServer, Relay
from talk import backends_of, code, config_of, errors, eventually, log_in, rows, value


@pytest.fixture(scope="module")
def server(shards):
    return shards(1)[0]


@pytest.fixture(scope="module")
def database(server, new_database):
    return new_database([server], "create table t (id int primary key, v text); insert into t select i, 'x' from generate_series(1, 100) i")


@pytest.fixture
def pooled(tessera, server, database):
    """pooled(**pool): a proxy with these pool settings."""
    return lambda workers=2, users=None, limits=None, **pool: tessera({**config_of([server], database, pool=pool, **({"users": users} if users else {}), **({"limits": limits} if limits else {})), "workers": workers})


PID = "select pg_backend_pid()"


# What is shown


def test_the_pools_are_shown_in_the_order_of_the_shards(tessera, shards, new_database):
    servers = shards(4)
    name = new_database(servers)
    proxy = tessera(config_of(servers, name, hints=True))
    with log_in(proxy, name) as connection:
        for shard in ("s3", "s1", "s2", "s0"):
            assert value(connection, f"/* tessera: shard={shard} */ select 1") == "1"
        assert [row[0] for row in rows(connection.ask(wire.query("show tessera.pools")))] == ["s0", "s1", "s2", "s3"]


def test_a_shard_that_stays_away_is_no_exhausted_pool(tessera, shards, new_database):
    servers = shards(2)
    name = new_database(servers)
    config = config_of(servers, name, hints=True, pool={"checkout_timeout": "500ms", "reconnect_min": "3s", "reconnect_max": "3s"})
    config["databases"][name]["shards"]["s1"] = {"primary": f"127.0.0.1:{places.free_port()}"}
    proxy = tessera({**config, "workers": 1})
    with log_in(proxy, name) as connection:
        took = []
        for _ in range(3):
            started = time.monotonic()
            failed, = errors(connection.ask(wire.query("/* tessera: shard=s1 */ select 1")))
            took.append(time.monotonic() - started)
            assert (failed["C"], failed["M"]) == ("08006", 'shard "s1" cannot be reached') and "Connection refused" in failed["D"], failed
        assert max(took[1:]) < 0.4, took
        assert value(connection, "select 1") == "1"
    assert "exhausted" not in proxy.log() and 'tessera_pool_checkout_timeouts_total{database="%s",shard="s1",user="app"} 0' % name in proxy.http("GET", "/metrics")[1]


# Modes


def test_transaction_mode_shares_between_transactions(pooled, database):
    proxy = pooled(size=1, checkout_timeout="300ms")
    with log_in(proxy, database) as first, log_in(proxy, database) as second:
        assert value(first, PID) == value(second, PID)
        first.ask(wire.query("begin"))
        mine = value(first, PID)
        assert code(second.ask(wire.query("select 1"))) == "53300"
        first.ask(wire.query("commit"))
        assert value(second, PID) == mine
        # An extended unit is a transaction until its Sync.
        first.send(wire.parse("select 1"), wire.bind(), wire.execute(), wire.FLUSH)
        first.read_until("C")
        assert code(second.ask(wire.query("select 1"))) == "53300"
        first.ask(wire.SYNC)
        assert value(second, PID) == mine


def test_session_mode_keeps_until_the_end(pooled, server, database):
    proxy = pooled(workers=1, mode="session", size=1, checkout_timeout="300ms")
    first = log_in(proxy, database)
    mine = value(first, PID)
    first.ask(wire.query("set datestyle = 'German'; create temp table tt (v int)"))
    with log_in(proxy, database) as second:
        assert code(second.ask(wire.query("select 1"))) == "53300"
        assert code(first.ask(wire.query("select * from tt"))) is None
        first.close()
        assert eventually(lambda: rows(second.ask(wire.query("show datestyle"))), what="the connection is free") == [["ISO, MDY"]]
        assert code(second.ask(wire.query("select * from tt"))) == "42P01"
        assert value(second, PID) == mine


def test_statement_mode_has_no_transactions(tessera, pooled, shards, new_database, database):
    servers = shards(2)
    many = new_database(servers)
    for proxy, name in ((pooled(mode="statement"), database), (tessera(config_of(servers, many, pool={"mode": "statement"})), many)):
        for way in (wire.query("begin"), wire.query("start transaction read only"), wire.parse("begin") + wire.bind() + wire.execute() + wire.SYNC, wire.query("begin; select 1; commit")):
            with log_in(proxy, name) as connection:
                replies = connection.ask(way)
                assert code(replies) == "0A000" and "statement pooling" in errors(replies)[0]["M"], (name, way, replies)
                assert connection.status == "I"
                assert value(connection, "select 1") == "1"


# Queue and size


def test_the_queue_has_a_deadline_and_says_why(pooled, database):
    proxy = pooled(size=1, checkout_timeout="400ms")
    with log_in(proxy, database) as holder, log_in(proxy, database) as waiting:
        holder.ask(wire.query("begin; select 1"))
        for way in (wire.query("select 1"), wire.parse("select 1") + wire.bind() + wire.execute() + wire.SYNC):
            started = time.monotonic()
            replies = waiting.ask(way)
            took = time.monotonic() - started
            fields = errors(replies)[0]
            assert fields["C"] == "53300" and 0.3 < took < 1.2, (fields, took)
            assert fields["M"] == 'no connection to shard "s0" became free within 400 ms'
            assert "all 1 connections" in fields["D"] and '"app"' in fields["D"] and "pool.size" in fields["H"]
            assert waiting.status == "I" and len(errors(replies)) == 1
        holder.ask(wire.query("commit"))
        started = time.monotonic()
        assert value(waiting, "select 1") == "1" and time.monotonic() - started < 0.3


def test_the_queue_is_first_come_first_served(pooled, database):
    proxy = pooled(size=1, checkout_timeout="10s", workers=1)
    with log_in(proxy, database) as holder:
        holder.ask(wire.query("begin; select 1"))
        queue = [log_in(proxy, database) for _ in range(6)]
        for connection in queue:
            connection.send(wire.query("select clock_timestamp()::text"))
            time.sleep(0.03)
        holder.ask(wire.query("commit"))
        times = [rows(connection.read_until("Z"))[0][0] for connection in queue]
        assert times == sorted(times)
        for connection in queue:
            connection.close()


def run_many(proxy, database, clients, action):
    """`action(connection)` in a thread for each client; the exceptions."""
    problems = []

    def run():
        try:
            with log_in(proxy, database, timeout=30) as connection:
                action(connection)
        except Exception as error:
            problems.append(repr(error))

    threads = [threading.Thread(target=run, daemon=True) for _ in range(clients)]
    for thread in threads:
        thread.start()
    return threads, problems


def test_size_holds_over_all_workers(pooled, server, database):
    proxy = pooled(workers=4, size=3, checkout_timeout="20s")

    def action(connection):
        for _ in range(8):
            assert code(connection.ask(wire.query("select pg_sleep(0.01)"))) is None

    threads, problems = run_many(proxy, database, 24, action)
    most = 0
    while any(thread.is_alive() for thread in threads):
        most = max(most, len(backends_of(server, database)))
    assert problems == [] and 1 <= most <= 3


def test_size_one_serves_every_worker(pooled, server, database):
    """The one connection must wander between the workers, and nobody may starve."""
    proxy = pooled(workers=4, size=1, checkout_timeout="20s")
    threads, problems = run_many(proxy, database, 12, lambda connection: [value(connection, "select 1") for _ in range(20)])
    for thread in threads:
        thread.join(40)
        assert not thread.is_alive()
    assert problems == [] and len(backends_of(server, database)) == 1


def test_server_connections_are_limited_over_all_users(pooled, server, database):
    for name in ("one", "two", "three"):
        server.run(f"drop role if exists pool_{name}; create role pool_{name} login password 'x'")
    users = [{"name": f"pool_{name}", "password": "x"} for name in ("one", "two", "three")]
    proxy = pooled(users=users, size=4, max_server_connections=2, checkout_timeout="15s", idle_timeout="300ms")
    threads = []
    problems = []

    def run(user):
        try:
            with log_in(proxy, database, user, "x", timeout=30) as connection:
                for _ in range(5):
                    assert value(connection, "select current_user, pg_sleep(0.02)") == user
        except Exception as error:
            problems.append(repr(error))

    for user in users * 2:
        threads.append(threading.Thread(target=run, args=(user["name"],), daemon=True))
        threads[-1].start()
    most = 0
    while any(thread.is_alive() for thread in threads):
        most = max(most, len(backends_of(server, database)))
        time.sleep(0.01)
    assert problems == [] and most <= 2


def test_a_burst_leaves_no_counter_behind(pooled, server, database):
    """Exhausted, timed out, clients gone while they waited: afterwards all of the pool is there again."""
    proxy = pooled(size=2, checkout_timeout="150ms")
    for _ in range(3):
        holders = [log_in(proxy, database) for _ in range(2)]
        for holder in holders:
            holder.ask(wire.query("begin; select 1"))
        waiting = [log_in(proxy, database) for _ in range(10)]
        for number, connection in enumerate(waiting):
            connection.send(wire.query("select 1"))
            if number % 2:
                connection.close()
        for connection in waiting[::2]:
            assert code(connection.read_until("Z")) == "53300"
            connection.close()
        for number, holder in enumerate(holders):
            if number == 0:
                holder.close()  # in its transaction
            else:
                holder.ask(wire.query("rollback"))
                holder.close()
    with log_in(proxy, database) as first, log_in(proxy, database) as second:
        assert all(eventually(lambda c=connection: code(c.ask(wire.query("begin; select 1"))) is None) for connection in (first, second))
        assert len(set([value(first, PID), value(second, PID)])) == 2


# Lifetimes


def test_min_idle_connections_stand_ready(pooled, server, database):
    proxy = pooled(workers=1, size=5, min_idle=3)
    with log_in(proxy, database) as connection:
        assert value(connection, "select 1") == "1"
        eventually(lambda: len(backends_of(server, database)) >= 3)
        server.run(f"select pg_terminate_backend(pid) from pg_stat_activity where datname = '{database}'")
        eventually(lambda: len(backends_of(server, database)) >= 3, what="they are replaced")


def test_idle_connections_are_closed(pooled, server, database):
    proxy = pooled(size=5, idle_timeout="400ms")
    with log_in(proxy, database) as connection:
        for _ in range(8):  # used more often than that: it stays
            mine = value(connection, PID)
            time.sleep(0.1)
        assert value(connection, PID) == mine
        eventually(lambda: backends_of(server, database) == [], timeout=3)
        assert value(connection, "select 1") == "1"


def test_connections_are_replaced_at_the_end_of_their_life(pooled, database):
    proxy = pooled(size=1, max_lifetime="500ms")
    with log_in(proxy, database) as connection:
        seen = set()
        for _ in range(25):
            seen.add(value(connection, PID))
            time.sleep(0.05)
        assert 2 <= len(seen) <= 5
        connection.ask(wire.query("begin"))
        mine = value(connection, PID)
        time.sleep(0.8)
        assert value(connection, PID) == mine, "not in the middle of a transaction"
        connection.ask(wire.query("commit"))
        assert value(connection, PID) != mine


def test_idle_connections_are_checked(tessera, server, database):
    """The network goes away without a word: the check finds out, and the next statement does not pay for it."""
    with Relay(server.port, lambda data: [data]) as relay:
        proxy = tessera(config_of([relay], database, pool={"size": 1, "health_interval": "200ms"}))
        with log_in(proxy, database) as connection:
            first = value(connection, PID)
            time.sleep(0.7)
            assert value(connection, PID) == first
            server.run(f"select pg_terminate_backend({first})")
            time.sleep(0.4)
            assert value(connection, PID) != first


# Deaths


def test_an_idle_connections_death_is_not_noticed(pooled, server, database):
    proxy = pooled(size=3)
    with log_in(proxy, database) as connection:
        connection.ask(wire.parse("select v from t where id = $1", "s"), wire.SYNC)
        for _ in range(5):
            server.run(f"select pg_terminate_backend(pid) from pg_stat_activity where datname = '{database}'")
            eventually(lambda: backends_of(server, database) == [])
            time.sleep(0.05)
            assert rows(connection.ask(wire.bind([b"5"], name="s"), wire.execute(), wire.SYNC)) == [["x"]]


@pytest.fixture(scope="module")
def fragile(new_server, new_database):
    """A server of its own: a backend that is killed takes all others with it."""
    server = new_server("fragile", settings={"restart_after_crash": "on", "synchronous_commit": "on"})
    name = new_database([server], "create table t (id int primary key, v text); insert into t select i, 'x' from generate_series(1, 100) i")
    server.run("checkpoint")
    return server, name


def kill_backend(server, database, how):
    pid = int(server.run(f"select pid from pg_stat_activity where datname = '{database}' and backend_type = 'client backend' and state <> 'idle' and pid <> pg_backend_pid() limit 1", "postgres"))
    if how == "kill -9":
        os.kill(pid, signal.SIGKILL)
    else:
        server.run(f"select pg_terminate_backend({pid})")


def comes_back(connection):
    eventually(lambda: code(connection.ask(wire.query("select 1"))) is None, timeout=20, what="the session goes on")


@pytest.mark.parametrize("how", ["kill -9", "terminate"])
def test_a_connection_dies_in_a_statement(tessera, fragile, how):
    """A read failed; of a write nobody can know."""
    server, name = fragile
    proxy = tessera(config_of([server], name, pool={"reconnect_min": "20ms", "reconnect_max": "200ms"}))
    cases = [(wire.query("select pg_sleep(10)"), "08006"), (wire.query("update t set v = 'y' where id = 1 and pg_sleep(10) is not null"), "08007"),
             (wire.query("with w as (delete from t where id = 2 and pg_sleep(10) is not null returning 1) select * from w"), "08007"),
             (wire.parse("select pg_sleep(10)") + wire.bind() + wire.execute() + wire.SYNC, "08006"), (wire.parse("insert into t select 500, pg_sleep(10)::text") + wire.bind() + wire.execute() + wire.SYNC, "08007")]
    for sql, expected in cases:
        with log_in(proxy, name) as connection:
            connection.ask(wire.query("set datestyle = 'German'"))
            connection.send(sql)
            eventually(lambda: "pg_sleep" in server.run("select string_agg(query, ' ') from pg_stat_activity where state = 'active' and pid <> pg_backend_pid()", "postgres"), timeout=20)
            kill_backend(server, name, how)
            replies = connection.read_until("Z")
            fields = errors(replies)
            assert len(fields) == 1 and fields[0]["C"] == expected and fields[0]["S"] == "ERROR", (sql, fields)
            assert connection.status == "I" and 's0' in fields[0]["M"]
            if expected == "08007":
                assert "may or may not" in fields[0]["D"]
            comes_back(connection)
            assert value(connection, "show datestyle") == "German, DMY", "the session has kept its settings"


@pytest.mark.parametrize("how", ["kill -9", "terminate"])
def test_a_connection_dies_in_a_transaction(tessera, fragile, how):
    server, name = fragile
    proxy = tessera(config_of([server], name, pool={"reconnect_min": "20ms", "reconnect_max": "200ms"}))
    for active in (False, True):
        with log_in(proxy, name) as connection:
            comes_back(connection)
            connection.ask(wire.query("begin; update t set v = 'lost' where id = 3"))
            if active:
                connection.send(wire.query("select pg_sleep(10)"))
                eventually(lambda: "pg_sleep" in server.run("select string_agg(query, ' ') from pg_stat_activity where state = 'active' and pid <> pg_backend_pid()", "postgres"), timeout=20)
            kill_backend(server, name, how)
            if active:
                assert code(connection.read_until("Z")) in ("08006", "08007")
                assert connection.status == "E"
            else:
                time.sleep(0.3)
                assert code(connection.ask(wire.query("select 1"))) in ("08006", "08007", "25P02")
            for sql in ("select 1", "update t set v = 'x' where id = 4", "savepoint a"):
                assert code(connection.ask(wire.query(sql))) == "25P02"
                assert connection.status == "E"
            assert code(connection.ask(wire.parse("select 1"), wire.bind(), wire.execute(), wire.SYNC)) == "25P02"
            replies = connection.ask(wire.query("commit" if active else "rollback"))
            assert replies[0].body == b"ROLLBACK\0" and connection.status == "I"
            comes_back(connection)
            assert value(connection, "select v from t where id = 3") == "x"


def test_a_connection_dies_in_a_pipeline(tessera, fragile):
    """Each Sync is answered: what was under way with the reason, what follows on another connection."""
    server, name = fragile
    proxy = tessera(config_of([server], name, pool={"reconnect_min": "20ms", "reconnect_max": "200ms", "checkout_timeout": "20s"}))
    unit = wire.parse("select $1::text") + wire.bind([b"before"]) + wire.execute() + wire.SYNC
    sleep = wire.parse("select pg_sleep(10)") + wire.bind() + wire.execute() + wire.SYNC
    with log_in(proxy, name, timeout=30) as connection:
        comes_back(connection)
        connection.send(unit, unit, sleep, unit)
        assert rows(connection.read_until("Z") + connection.read_until("Z")) == [["before"]] * 2
        eventually(lambda: "pg_sleep" in server.run("select string_agg(query, ' ') from pg_stat_activity where state = 'active' and pid <> pg_backend_pid()", "postgres"))
        kill_backend(server, name, "kill -9")
        assert code(connection.read_until("Z")) in ("08006", "08007")
        assert code(connection.read_until("Z")) in (None, "08006", "08007")
        comes_back(connection)


def test_a_pinned_sessions_connection_dies(tessera, fragile):
    """Its temporary tables are gone and cannot be rebuilt: the client is told so and must connect anew."""
    server, name = fragile
    proxy = tessera(config_of([server], name, pool={"reconnect_min": "20ms"}))
    with log_in(proxy, name) as connection:
        comes_back(connection)
        connection.ask(wire.query("create temp table tt (v int)"))
        server.run(f"select pg_terminate_backend(pid) from pg_stat_activity where datname = '{name}' and pid <> pg_backend_pid()", name)
        replies = connection.read_to_end()
        assert errors(replies)[0]["C"].startswith(("08", "57")) and errors(replies)[0]["S"] == "FATAL"
    with log_in(proxy, name) as connection:
        comes_back(connection)


def test_a_server_restarts(tessera, new_server, new_database):
    server = new_server("restarts")
    name = new_database([server], "create table t (id int)")
    proxy = tessera(config_of([server], name, pool={"size": 4, "checkout_timeout": "500ms", "reconnect_min": "20ms", "reconnect_max": "500ms"}))
    with log_in(proxy, name) as first, log_in(proxy, name) as second:
        for connection in (first, second):
            assert code(connection.ask(wire.query("set datestyle = 'German'; select 1"))) is None
        for mode in ("fast", "immediate"):
            server.stop(mode)
            for connection in (first, second):
                started = time.monotonic()
                replies = connection.ask(wire.query("select 1"))
                assert code(replies) == "08006" and time.monotonic() - started < 2, replies
                assert "s0" in errors(replies)[0]["M"] and errors(replies)[0]["S"] == "ERROR"
            server.start()
            started = time.monotonic()
            for connection in (first, second):
                comes_back(connection)
                assert value(connection, "show datestyle") == "German, DMY"
            assert time.monotonic() - started < 3, "within the longest pause of the back-off"


def test_failed_connects_back_off(tessera, database):
    """A server that is broken is asked less and less often, however many clients wait."""
    with MockServer(lambda connection: None) as mock:
        proxy = tessera({**config_of([mock], database, pool={"checkout_timeout": "3s", "reconnect_min": "100ms", "reconnect_max": "800ms"}), "workers": 1})
        clients = []
        for _ in range(20):
            clients.append(wire.Wire(proxy.host, proxy.port))
            clients[-1].send(wire.startup({"user": "app", "database": database}))
        threads = [threading.Thread(target=_fails, args=(proxy, database), daemon=True) for _ in range(20)]
        for thread in threads:
            thread.start()
        time.sleep(2.6)
        assert 3 <= mock.accepted <= 25, mock.accepted
        for thread in threads:
            thread.join(10)
        for client in clients:
            client.close()


def _fails(proxy, database):
    with pytest.raises(wire.WireError):
        log_in(proxy, database)


def test_a_wrong_password_is_told_at_once_and_not_hammered(tessera, server, database):
    server.run("drop role if exists mistaken; create role mistaken login password 'right'")
    proxy = tessera(config_of([server], database, users=[{"name": "mistaken", "password": "client", "backend_password": "Canary-wrong"}], pool={"checkout_timeout": "10s"}), canaries=["Canary-wrong"])
    started = time.monotonic()
    with pytest.raises(wire.WireError) as refused:
        log_in(proxy, database, "mistaken", "client")
    assert time.monotonic() - started < 3 and refused.value.fields["C"] == "28P01"
    assert 'login to shard "s0" failed' in refused.value.fields["M"]


def test_a_scatter_does_not_wait_for_the_connection_that_its_own_session_keeps(tessera, shards, new_database):
    servers = shards(2)
    name = new_database(servers, "create table spread (id int primary key); insert into spread values (1), (2)")
    more = {"rules": {"r": {"type": "hash", "shards": ["s0", "s1"]}}, "tables": {"spread": {"rule": "r", "key": "id"}}}
    keeps = {"session": ("session", "select 1"), "pinned": ("transaction", "select pg_advisory_lock(1)")}
    for kept_by, (mode, sql) in keeps.items():
        proxy = tessera(config_of(servers, name, pool={"mode": mode, "size": 1, "checkout_timeout": "20s"}, **more))
        with log_in(proxy, name) as connection:
            assert len(rows(connection.ask(wire.query("select id from spread")))) == 4
            assert not errors(connection.ask(wire.query(sql)))
            for way in (wire.query("select id from spread"), wire.parse("select id from spread") + wire.bind() + wire.execute() + wire.SYNC):
                started = time.monotonic()
                refusal = errors(connection.ask(way))[0]
                assert time.monotonic() - started < 2 and refusal["C"] == "53300" and "pool.size" in refusal["M"], (kept_by, refusal)
            assert value(connection, "select 7") == "7"
        proxy = tessera(config_of(servers, name, pool={"mode": mode, "size": 2}, **more))
        with log_in(proxy, name) as connection:
            assert not errors(connection.ask(wire.query(sql)))
            assert len(rows(connection.ask(wire.query("select id from spread")))) == 4
