"""Isolation with several shards: what a client leaves behind on any of them, identities, and rows to the wrong client
(requirements 8, 9 and 11; test_isolation.py has them with one).

TESSERA_LOAD_SECONDS=n runs the self-identifying load for longer; `./dev chaos` runs it under every fault.
"""

import os
import random
import threading
import time

import pytest
import test_isolation as one
from chaos import load
from chaos.ledger import Ledger
from harness import wire
from roles import need_role
from talk import backends_of, code, config_of, eventually, log_in, rows

SHARDS = 3
SHARDED = {"rules": {"r": {"type": "hash", "shards": ["s0", "s1", "s2"]}}, "tables": {"t": {"rule": "r", "key": "id"}}}


@pytest.fixture(scope="module")
def servers(shards):
    return shards(SHARDS)


@pytest.fixture(scope="module")
def database(servers, new_database):
    name = new_database(servers, one.SCHEMA)
    for server in servers:
        need_role(server, "guest", "grant guest to app;")
        for role in ("alice", "bob"):
            need_role(server, role)
        server.run("create schema alice authorization alice; create schema bob authorization bob", name)
    return name


# 9: what one session leaves behind, on every shard


def look_at(connection, shard):
    seen = {}
    for name, sql in one.SNAPSHOT.items():
        replies = connection.ask(wire.query(f"/* tessera: shard=s{shard} */ {sql}"))
        seen[name] = code(replies) or rows(replies)
        assert connection.status == "I"
    return seen


def on_a_shard(connection, sql, shard):
    connection.ask(wire.query(f"set tessera.shard = 's{shard}'"))
    connection.ask(wire.query(sql))


def on_all_shards(connection, sql, shard):
    for number in range(SHARDS):
        on_a_shard(connection, sql, (shard + number) % SHARDS)


def by_the_extended_protocol(connection, sql, shard):
    connection.ask(wire.query(f"set tessera.shard = 's{shard}'"))
    for part in sql.split(";") if "$$" not in sql else [sql]:
        connection.ask(wire.parse(part), wire.bind(), wire.execute(), wire.SYNC)


def without_a_word(connection, sql, shard):
    """Wherever Tessera sends it."""
    connection.ask(wire.query(sql))


def in_a_transaction(connection, sql, shard):
    """And the client leaves before it ends."""
    connection.ask(wire.query(f"set tessera.shard = 's{shard}'"))
    connection.ask(wire.query("begin"))
    connection.ask(wire.query(sql.replace("commit", "select 1").replace("begin", "select 2")))


@pytest.mark.parametrize("way", [on_a_shard, on_all_shards, by_the_extended_protocol, without_a_word, in_a_transaction])
@pytest.mark.parametrize("cases", [one.SETTERS, one.OBJECTS], ids=["settings", "objects"])
def test_a_session_leaves_nothing_behind_on_any_shard(tessera, servers, database, cases, way):
    proxy = tessera(config_of(servers, database, **SHARDED, hints=True, pool={"size": 1, "checkout_timeout": "4s"}))
    directs = [wire.connect(server.host, server.port, "app", database, "app") for server in servers]
    leaks = {}
    try:
        with log_in(proxy, database) as second:
            fresh = [one.snapshot(direct) for direct in directs]
            assert [one.difference(fresh[shard], look_at(second, shard)) for shard in range(SHARDS)] == [[]] * SHARDS
            for number, sql in enumerate(cases):
                first = log_in(proxy, database)
                way(first, sql.replace("{db}", database), number % SHARDS)
                first.close()
                # Twice: the first look may go to a connection of its own.
                found = [one.difference(fresh[shard], look_at(second, shard)) for _ in range(2) for shard in range(SHARDS)]
                if any(found):
                    leaks[sql] = found
                    for server, direct in zip(servers, directs):
                        one.throw_away(server, database, direct.process_id)
    finally:
        for direct in directs:
            direct.close()
    one.report(leaks)


MIDWAY = {
    "in a transaction": [wire.query("begin; set work_mem = '5MB'; create temp table tt (v int); select pg_advisory_lock(9); update t set v = v")],
    "in a failed transaction": [wire.query("begin; set work_mem = '5MB'"), wire.query("select 1/0")],
    "in copy in": [wire.query("copy t from stdin"), wire.copy_data(b"900\tx\n")],
    "in copy out": [wire.query("copy (select repeat('x', 1000) from generate_series(1, 100000)) to stdout")],
    "in a pipeline": [wire.parse("select set_config('work_mem', '8MB', false)") + wire.bind() + wire.execute() + wire.FLUSH],
    "in a statement": [wire.query("set work_mem = '5MB'"), wire.query("select pg_sleep(0.4), pg_advisory_lock(10)")],
}
SCATTERED = {
    "in a scatter": [wire.query("set work_mem = '5MB'"), wire.query("select id, pg_sleep(0.1) from t")],
    "in a huge scatter": [wire.query("set work_mem = '5MB'"), wire.query("select id, repeat('x', 3000000) from t")],
    "in a pipeline over shards": [(wire.parse("select v from t where id = $1") + wire.bind([str(key).encode()]) + wire.execute() + wire.SYNC) for key in range(1, 20)],
    "in a transaction after others": [wire.query(f"update t set v = v where id = {key}") for key in range(1, 12)] + [wire.query("begin; update t set v = 'lost' where id = 5")],
}


@pytest.mark.parametrize("how", [*MIDWAY, *SCATTERED])
def test_a_client_killed_midway_leaves_nothing_behind_on_any_shard(tessera, servers, database, how):
    proxy = tessera(config_of(servers, database, **SHARDED, hints=True, pool={"size": 1, "checkout_timeout": "5s"}))
    directs = [wire.connect(server.host, server.port, "app", database, "app") for server in servers]
    try:
        with log_in(proxy, database) as second:
            fresh = [one.snapshot(direct) for direct in directs]
            for shard in range(SHARDS if how in MIDWAY else 1):
                for pause in (0, 0.05, 0.2):
                    first = log_in(proxy, database)
                    if how in MIDWAY:
                        first.ask(wire.query(f"set tessera.shard = 's{shard}'"))
                    for part in MIDWAY.get(how) or SCATTERED[how]:
                        first.send(part)
                        time.sleep(pause)
                    first.close()
                    for number in range(SHARDS):
                        assert one.difference(fresh[number], look_at(second, number)) == [], (shard, pause, number)
        for server in servers:
            assert server.run("select count(*) from t where v = 'lost' or id >= 900 and id < 100000", database).strip() == "0"
            eventually(lambda s=server: len(backends_of(s, database)) <= 2, what="no connections but the pool's and ours")
    finally:
        for direct in directs:
            direct.close()


# 8: identities, whichever shard a statement goes to


class ShardModel(one.Model):
    """Changes the shard between its transactions; its settings follow it."""

    set_config = 0  # it keeps the session to the connection it ran on

    def step(self):
        if self.saved is None:
            shard = self.rng.randrange(SHARDS)
            self.history.append(f"-> s{shard}")
            assert code(self.connection.ask(wire.query(f"set tessera.shard = 's{shard}'"))) is None
        super().step()


def test_identities_never_share_an_uncleaned_connection_of_any_shard(tessera, servers, database):
    config = config_of(servers, database, users=[{"name": user, "password": user} for user in ("app", "alice", "bob")], **SHARDED, hints=True, pool={"size": 1, "checkout_timeout": "20s"})
    config["databases"]["second name"] = {**config["databases"][database]}
    config["workers"] = 1
    proxy = tessera(config)
    for seed in one.seeds(10):
        rng = random.Random(seed)
        clients = [ShardModel(proxy, database, user, rng) for user in ("app", "app", "app", "alice", "bob")]
        try:
            for _ in range(60):
                client = rng.choice(clients)
                holder = next((other for other in clients if other is not client and other.user == client.user and other.saved is not None), None)
                (holder or client).step()
        except AssertionError as error:
            raise AssertionError(f"seed {seed}\n{error}") from None
        finally:
            for client in clients:
                client.connection.close()


# 11: every row to the client who asked for it


def is_enough(crowd, codes):
    """Whether so much has happened that a mistake would have shown: by what was done, since a busy machine does less in the same time."""
    started, at_least = time.monotonic(), float(os.environ.get("TESSERA_LOAD_SECONDS", "3"))

    def enough():
        taken = time.monotonic() - started
        done = crowd.total("statements") > 500 and crowd.total("scatters") > 10 and (crowd.total("refused") > 5 or not codes)
        return taken > at_least and (done or taken > 90 or crowd.stopping.is_set())

    return enough


def cancels(crowd, servers, enough):
    """Of every client, at any moment."""
    rng = random.Random(3)
    while not enough():
        connection = rng.choice(crowd.clients).connection
        if connection is None or connection.process_id is None:
            time.sleep(0.002)
            continue
        try:
            with wire.Wire(crowd.proxy.host, crowd.proxy.port) as canceller:
                canceller.send(wire.cancel_request(connection.process_id, connection.secret_key))
                canceller.read_to_end()
        except OSError:
            pass  # the next one
        time.sleep(0.002)


def kills(crowd, servers, enough):
    """Of server connections."""
    rng = random.Random(4)
    while not enough():
        server = rng.choice(servers)
        if pids := backends_of(server, crowd.database):
            server.run(f"select pg_terminate_backend({rng.choice(pids)})", "postgres")
        time.sleep(0.3)


def nothing(crowd, servers, enough):
    while not enough():
        time.sleep(0.05)


def cancels_and_kills(*arguments):
    threads = [threading.Thread(target=function, args=arguments, daemon=True) for function in (cancels, kills)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


LOADS = {
    "cancelled": (cancels, {"pool": {"size": 4}}, ("slow", "slow_scatter"), ("57014",)),
    "timed out": (nothing, {"pool": {"size": 4}, "limits": {"statement_timeout": "25ms"}}, ("slow", "slow_scatter", "slow"), ("57014",)),
    "exhausted": (nothing, {"pool": {"size": 1, "checkout_timeout": "30ms"}}, ("slow", "slow_scatter", "leaves"), ("53300",)),
    "leaving": (nothing, {"pool": {"size": 3, "prepared_statements": 3}}, ("leaves", "leaves", "slow"), ()),
    "killed": (kills, {"pool": {"size": 4, "reconnect_min": "5ms"}}, ("slow", "slow_scatter"), ("08006", "08007", "53300")),
    "all of it": (cancels_and_kills, {"pool": {"size": 2, "checkout_timeout": "50ms", "reconnect_min": "5ms", "prepared_statements": 3}},
                  ("slow", "slow_scatter", "leaves"), ("57014", "53300", "08006", "08007")),
}


@pytest.mark.parametrize("how", LOADS)
def test_every_row_goes_to_the_client_who_asked_on_four_shards(tessera, crowded, how):
    """One stray reply, one acknowledged row that is missing, one refused row that is there: any of them fails."""
    servers, name = crowded
    trouble, settings, more, codes = LOADS[how]
    for server in servers:
        server.run("truncate writes, imports", name)
    proxy = tessera(config_of(servers, name, **load.sharding(4), **settings))
    crowd = load.Crowd(proxy, name, Ledger(), 4, 11, more=more)
    crowd.blame = load.Blame(range(4), codes)
    crowd.start()
    trouble(crowd, servers, is_enough(crowd, codes))
    assert crowd.stop() == [], "stuck"
    assert not crowd.problems(), "\n".join(crowd.problems())
    found = {table: [(number, int(line)) for number, server in enumerate(servers) for line in server.run(f"select id from {table}", name).split()] for table in ("writes", "imports")}
    assert crowd.ledger.compare(found) == []
    assert crowd.total("statements") > 500 and crowd.total("scatters") > 10
    assert crowd.total("refused") > 5 or not codes, "too little went wrong"
