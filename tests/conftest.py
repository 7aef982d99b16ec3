"""Fixtures of the integration tests. Servers are shared by the tests of one run, databases are not."""

import fcntl
import itertools
import os
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent))

from harness import places, postgres  # noqa: E402
from harness.certificates import CertificateAuthority  # noqa: E402
from harness.tessera import Tessera  # noqa: E402

_numbers = itertools.count(1)


def _is_alive(process_id):
    try:
        os.kill(process_id, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def _sweep(root):
    """Ends the servers of runs that died without doing so; theirs is every directory <pid>-<name> of a dead pid."""
    for directory in (root / "servers").glob("*-*"):
        owner = directory.name.split("-")[0]
        if directory.is_dir() and owner.isdigit() and not _is_alive(int(owner)):
            postgres.PostgresServer(root, directory.name).destroy()


@pytest.fixture(scope="session")
def place():
    """The directory of all test servers. Several runs may share it: each names its servers by its process id."""
    root = places.data_root(".test")
    (root / "servers").mkdir(exist_ok=True)
    with (root / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        _sweep(root)
        postgres.prepare(root)
    return root


@pytest.fixture(scope="session")
def ca(place):
    return CertificateAuthority(place / "tls")


@pytest.fixture(scope="session")
def new_server(place):
    """new_server("name", settings={…}, hba="…", replica_of=server): a running PostgreSQL, removed at the end."""
    made = []

    def make(name, **options):
        server = postgres.PostgresServer(place, f"{os.getpid()}-{name}", **options)
        made.append(server)
        return server.start()

    yield make
    for server in reversed(made):
        server.destroy()


@pytest.fixture(scope="session")
def shards(new_server):
    """shards(n): n running servers, the same ones each time; take databases of your own on them."""
    running = []

    def first(count):
        while len(running) < count:
            running.append(new_server(f"s{len(running)}"))
        return running[:count]

    return first


@pytest.fixture(scope="session")
def new_database():
    """new_database(servers, schema): a database on each, owned by role app (password app), with this schema; its name."""

    def make(servers, schema="", name=None):
        name = name or f"test_{next(_numbers)}"
        for server in servers:
            with server.connect() as connection:
                if not connection.execute("select 1 from pg_roles where rolname = 'app'").fetchone():
                    connection.execute("create role app login password 'app'")
                connection.execute(f'create database "{name}" owner app')
            if schema:
                with server.connect(name, user="app", password="app") as connection:
                    connection.execute(schema)
        return name

    return make


@pytest.fixture(scope="module")
def servers(shards):
    """Two of them, for the module that has no others."""
    return shards(2)


@pytest.fixture(scope="module")
def database(servers, new_database, request):
    """With the module's SCHEMA on each."""
    return new_database(servers, request.module.SCHEMA)


@pytest.fixture(scope="module")
def crowded(shards, new_database):
    """Four shards with the rows of tests/chaos/load.py."""
    from chaos import load  # needs the tests' own folder on the path

    four = shards(4)
    name = new_database(four)
    for number, server in enumerate(four):
        with server.connect(name, user="app", password="app") as connection:
            connection.execute(load.SCHEMA.replace("{shard}", str(number)))
    return four, name


@pytest.fixture
def tessera(tmp_path):
    """tessera(config): a running proxy; at the end of the test it must drain, exit with 0 and have a clean log."""
    running = []

    def start(config, ready=200, **options):
        proxy = Tessera(config, tmp_path / f"tessera{len(running)}", **options)
        running.append(proxy)
        return proxy.start(ready=ready)

    yield start
    try:
        for proxy in running:
            if proxy.is_alive():
                proxy.stop()
            proxy.check_log()
    finally:
        for proxy in running:
            proxy.kill()
