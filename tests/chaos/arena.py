"""Where a run takes place: four PostgreSQL servers, the last behind a man in the middle, Tessera, and what is checked when all is quiet."""

import os
import re
import time

from chaos.load import SCHEMA, Crowd, sharding
from chaos.ledger import Ledger
from harness import places, postgres, wire
from harness.meddler import Meddler
from harness.tessera import Tessera, database_config
from talk import code, log_in, rows

SHARDS = 4
DATABASE = "chaos"
POOL_SIZE = 8
MB = 1 << 20
# A crash of a server must not lose what it acknowledged: with the harness's usual setting PostgreSQL itself would.
DURABLE = {"synchronous_commit": "on", "restart_after_crash": "on"}
MEMORY_GROWTH = 48 * MB


class Violation(Exception):
    """A guarantee does not hold."""


class Arena:
    def __init__(self, seed, keep_log=None):
        self.seed, self.keep_log = seed, keep_log
        self.root = places.data_root(".test")
        (self.root / "servers").mkdir(exist_ok=True)
        postgres.prepare(self.root)
        self.servers, self.meddler, self.proxy, self.crowd = [], None, None, None
        self.ledger = Ledger()
        self.settled_memory = None

    def __enter__(self):
        try:
            return self._open()
        except BaseException:
            self.__exit__(None, None, None)
            raise

    def _open(self):
        for number in range(SHARDS):
            server = postgres.PostgresServer(self.root, f"{os.getpid()}-chaos{number}", settings=DURABLE)
            self.servers.append(server)
            server.start()
            with server.connect() as connection:
                connection.execute("create role app login password 'app'")
                connection.execute(f"create database {DATABASE} owner app")
            with server.connect(DATABASE, user="app", password="app") as connection:
                connection.execute(SCHEMA.replace("{shard}", str(number)))
        self.meddler = Meddler(self.servers[-1].port)
        self.proxy = Tessera(self.config(), self.root / f"{os.getpid()}-chaos")
        self.proxy.start()
        self.crowd = Crowd(self.proxy, DATABASE, self.ledger, SHARDS, self.seed, more=("slow", "slow_scatter", "leaves"))
        return self

    def __exit__(self, *_):
        if self.proxy:
            self.proxy.kill()
            if self.keep_log:
                self.keep_log.write_text(self.proxy.log())
        if self.meddler:
            self.meddler.close()
        for server in self.servers:
            server.destroy()
        if self.proxy:
            places.remove_tree(self.proxy.directory)

    def config(self, **more):
        """The whole configuration; `more` changes keys of the database."""
        pool = {"size": POOL_SIZE, "checkout_timeout": "1s", "reconnect_min": "20ms", "reconnect_max": "200ms", "prepared_statements": 20}
        entry = database_config(self.servers, DATABASE, backend={"connect_timeout": "1s"}, limits={"statement_timeout": "3s", **more.pop("limits", {})},
                                pool={**pool, **more.pop("pool", {})}, **sharding(SHARDS), **more)
        entry["shards"][f"s{SHARDS - 1}"] = {"primary": self.meddler.address}
        return {"databases": {DATABASE: entry}, "listen": {"max_clients": 500}}

    def connect(self, **options):
        return log_in(self.proxy, DATABASE, **options)

    @staticmethod
    def ask(server, sql):
        """Of the server itself, past Tessera; one that recovers from a crash is waited for."""
        deadline = time.monotonic() + 20
        while True:
            try:
                return server.run(sql, "postgres").strip()
            except places.SetupError as error:
                if time.monotonic() > deadline:
                    raise Violation(f"{server.name} itself did not recover: {error}") from error
                time.sleep(0.05)

    def backends_of(self, server):
        text = self.ask(server, f"select pid from pg_stat_activity where datname = '{DATABASE}' and backend_type = 'client backend' and usename = 'app'")
        return [int(line) for line in text.split()]

    # When all is quiet

    def wait_until_served(self, timeout=20):
        """Every shard answers, several times in a row on connections of its own."""
        deadline = time.monotonic() + timeout
        while True:
            missing = self._unserved()
            if not missing:
                return
            if time.monotonic() > deadline:
                raise Violation(f"not served again within {timeout} s of the fault's end: {missing}")
            time.sleep(0.05)

    def _unserved(self):
        try:
            with self.connect(timeout=10) as connection:
                for shard in range(SHARDS):
                    for _ in range(3):
                        replies = connection.ask(wire.query(f"select v from items where id = {shard}000000001"))
                        if code(replies) or rows(replies) != [["row 1"]]:
                            return f"s{shard}: {replies}"
        except (wire.WireError, OSError) as error:
            return repr(error)
        return None

    def metrics(self):
        """{name: [(labels, value)]}"""
        status, text = self.proxy.http("GET", "/metrics")
        if status != 200:
            raise Violation(f"/metrics answers {status}")
        found = {}
        for name, labels, value in re.findall(r'^([a-z_]+)(?:\{(.*)\})? (\S+)$', text, re.M):
            found.setdefault(name, []).append((labels or "", float(value)))
        return found

    def metric(self, name, label=""):
        return sum(value for labels, value in self.metrics().get(name, []) if label in labels)

    def check_quiet(self):
        """All clients rest: nothing is busy, nobody waits, nothing is open on a server, and the numbers agree with the servers'."""
        deadline = time.monotonic() + 10
        while True:
            wrong = self._unquiet()
            if not wrong:
                return
            if time.monotonic() > deadline:
                raise Violation("after the fault, all clients at rest: " + "; ".join(wrong))
            time.sleep(0.05)

    def _unquiet(self):
        wrong = []
        busy, waiting = self.metric("tessera_pool_connections", 'state="busy"'), self.metric("tessera_pool_waiting_clients")
        clients = self.metric("tessera_clients")
        if busy or waiting:
            wrong.append(f"{busy:.0f} server connections are busy, {waiting:.0f} clients wait")
        if clients != len(self.crowd.clients):
            wrong.append(f"{clients:.0f} clients are counted, there are {len(self.crowd.clients)}")
        for number, server in enumerate(self.servers):
            open_work = self.ask(server, f"select pid, state, left(query, 60) from pg_stat_activity where datname = '{DATABASE}' and state <> 'idle' and usename = 'app'")
            if open_work:
                wrong.append(f"open on s{number}: {open_work}")
            counted, real = self.metric("tessera_pool_open_connections", f'shard="s{number}"'), len(self.backends_of(server))
            # A database's catalog may be read on a connection of its own at that moment; `check_quiet` asks again.
            if counted != real:
                wrong.append(f"s{number}: {counted:.0f} connections are counted, the server has {real}")
            if self.ask(server, "select count(*) from pg_prepared_xacts") != "0":
                wrong.append(f"prepared transactions on s{number}")
        return wrong

    def check_memory(self):
        """RSS, compared with what it was when all had run once; returns it."""
        now = self.proxy.resident_bytes()
        if self.settled_memory and now > self.settled_memory + MEMORY_GROWTH:
            raise Violation(f"memory has grown from {self.settled_memory / MB:.0f} to {now / MB:.0f} MB")
        return now

    def compare(self):
        """The truth: every row on every shard against what its client was told."""
        found = {"writes": [], "imports": []}
        for number, server in enumerate(self.servers):
            for table, rows_found in found.items():
                rows_found += [(number, int(line)) for line in server.run(f"select id from {table}", DATABASE).split()]
        return self.ledger.compare(found)
