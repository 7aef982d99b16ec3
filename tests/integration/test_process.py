"""Tessera as a process among others: descriptors, signals, the PID file, the log file, systemd, a new binary."""

import os
import resource
import signal
import socket
import subprocess
import time

import pytest
from harness import places, wire
from harness.tessera import Tessera, binary
from talk import config_of, eventually, log_in, rows, value

SCHEMA = "create table t (id int primary key, v text); insert into t select i, 'row ' || i from generate_series(1, 200) i"
RULES = {"rules": {"r": {"type": "range", "ranges": [{"below": "100", "shard": "s0"}, {"shard": "s1"}]}}, "tables": {"t": {"rule": "r", "key": "id"}}}


class Process(Tessera):
    """Tessera with an environment, arguments and a limit of open files of its own."""

    def __init__(self, config, directory, environment=None, arguments=(), descriptors=None):
        super().__init__(config, directory)
        self.environment, self.arguments, self.descriptors = environment or {}, arguments, descriptors

    def _spawn(self):
        limit = (lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (self.descriptors, self.descriptors))) if self.descriptors else None
        with self.log_file.open("ab") as log:
            self.process = subprocess.Popen([str(binary()), "serve", "--config", str(self.config_file), *self.arguments], stdin=subprocess.DEVNULL, stdout=log,
                                            stderr=subprocess.STDOUT, cwd=self.directory, env={**os.environ, **self.environment}, preexec_fn=limit)


@pytest.fixture(scope="module")
def servers(shards):
    return shards(2)


@pytest.fixture(scope="module")
def database(servers, new_database):
    return new_database(servers, SCHEMA)


@pytest.fixture
def process(tmp_path, servers, database):
    made = []

    def start(config=None, **options):
        proxy = Process(config or config_of(servers, database, **RULES), tmp_path / f"tessera-{len(made)}", **options)
        made.append(proxy)
        return proxy.start()

    yield start
    for proxy in made:
        proxy.kill()


# ---- descriptors -----------------------------------------------------------------------------------------------------


def test_a_full_house_keeps_places_for_servers_and_administrators(process, servers, database):
    config = config_of(servers, database, **RULES, pool={"size": 10}, listen={"login_timeout": "1m"})
    config["admin"] = {"console_admins": ["app"]}
    proxy = process({**config, "workers": 1, "listen": {"postgres": f"127.0.0.1:{places.free_port()}", "login_timeout": "1m"}}, descriptors=200)
    proxy.port = int(proxy.config["listen"]["postgres"].rsplit(":", 1)[1])
    proxy.wait_for_log("too few file descriptors for the configuration.*limits.clients asks for 10000 clients, and of the 200 file descriptors there are 130 for them")
    crowd = []
    with log_in(proxy, database) as old:
        assert value(old, "select v from t where id = 5") == "row 5"
        try:
            for _ in range(129):
                crowd.append(socket.create_connection((proxy.host, proxy.port)))
            assert eventually(lambda: refused(proxy, database) == "53300", what="a full house")
            assert value(old, "select v from t where id = 150") == "row 150", "a server connection that was not there before"
            with log_in(proxy, "pgbouncer") as console:
                assert rows(console.ask(wire.query("show pools")))
            assert proxy.http("GET", "/v1/pools")[0] == 200
            assert "file descriptors: new clients" not in proxy.log()
            # More than the reserved places: told at once.
            for _ in range(60):
                crowd.append(socket.create_connection((proxy.host, proxy.port)))
            assert value(old, "select v from t where id = 6") == "row 6"
            assert proxy.http("GET", "/v1/pools")[0] == 200
            # Whoever says nothing in a reserved place loses it soon.
            assert eventually(lambda: refused(proxy, "pgbouncer") is None, what="a place for an administrator")
        finally:
            for one in crowd:
                one.close()
        assert eventually(lambda: refused(proxy, database) is None, what="room again")
    proxy.stop()


def refused(proxy, database):
    """The SQLSTATE of a refused login; None: let in."""
    try:
        log_in(proxy, database, timeout=5).close()
    except wire.WireError as error:
        return error.fields.get("C", "closed")
    except OSError:
        return "closed"
    return None


def test_max_clients_counts_everybody_but_the_console(process, servers, database):
    port = places.free_port()
    config = {**config_of(servers, database, **RULES), "listen": {"postgres": f"127.0.0.1:{port}", "max_clients": 2}, "admin": {"console_admins": ["app"]}}
    proxy = process(config)
    proxy.port = port
    with log_in(proxy, database) as first, log_in(proxy, database):
        assert refused(proxy, database) == "53300"
        assert refused(proxy, "pgbouncer") is None
        assert value(first, "select 1") == "1"
    assert eventually(lambda: refused(proxy, database) is None)
    proxy.stop()
