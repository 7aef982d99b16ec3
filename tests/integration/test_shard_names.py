"""Shards by host name: a name that means another address by now is followed. The proxy has a hosts file of its own."""

import itertools
import json
import os
import re
import subprocess
import time

import pytest
from harness import wire
from harness.tessera import Tessera
from talk import eventually, log_in, rows, value

HERE, THERE = "127.0.0.1", "127.0.0.2"
NAME = "shard.test"
numbers = itertools.count(1)
UNSHARE = ["unshare", "--mount"] if os.geteuid() == 0 else ["unshare", "--mount", "--map-root-user"]


class WithHosts(Tessera):
    """`point(address)`: what NAME means from now on; None: nothing."""

    def __init__(self, config, directory):
        super().__init__(config, directory)
        self.hosts = self.directory / "hosts"
        self.point(HERE)

    def point(self, address):
        # In place: the file is mounted.
        self.hosts.write_text("127.0.0.1 localhost\n" + (f"{address} {NAME}\n" if address else ""))

    def command(self):
        return [*UNSHARE, "sh", "-c", 'mount --bind "$0" /etc/hosts && exec "$@"', str(self.hosts), *super().command()]


@pytest.fixture(scope="module", autouse=True)
def mounting(tmp_path_factory):
    file = tmp_path_factory.mktemp("hosts") / "hosts"
    file.write_text("127.0.0.1 localhost\n")
    tried = subprocess.run([*UNSHARE, "mount", "--bind", str(file), "/etc/hosts"], capture_output=True, text=True)
    if tried.returncode != 0:
        pytest.skip(f"a hosts file of one's own needs a mount namespace: {tried.stderr.strip()}")


@pytest.fixture
def places(new_server):
    """Two servers with one port and one database, which says where it is."""
    number = next(numbers)
    here = new_server(f"here{number}")
    there = new_server(f"there{number}", port=here.port, host=THERE)
    for name, server in (("here", here), ("there", there)):
        server.run("create role app login password 'app'")
        server.run("create database shop owner app")
        server.run(f"create table place as select '{name}' as name; grant select on place to app", "shop")
    return here, there


@pytest.fixture
def start(places, tmp_path):
    running = []

    def run(**backend):
        database = {"shards": {"s0": {"primary": f"{NAME}:{places[0].port}"}}, "backend": {"tls": "require", **backend},
                    "users": [{"name": "app", "password": "app"}]}
        running.append(WithHosts({"databases": {"shop": database}, "admin": {"console_viewers": ["app"]}}, tmp_path / "tessera"))
        return running[-1].start()

    yield run
    for proxy in running:
        proxy.stop()


def where(connection):
    return value(connection, "select name from place")


def test_a_name_that_moves_is_followed(start):
    proxy = start(resolve_interval="200ms")
    with log_in(proxy, "shop") as idle, log_in(proxy, "shop") as busy:
        assert where(idle) == "here"
        busy.ask(wire.query("begin"))
        assert where(busy) == "here"
        proxy.point(THERE)
        eventually(lambda: where(idle) == "there")
        # A transaction ends where it began.
        assert where(busy) == "here"
        busy.ask(wire.query("commit"))
        assert where(busy) == "there"


def addresses_in_use(proxy):
    """As the admin endpoint, the console and a session tell them."""
    (shard,) = json.loads(proxy.http("GET", "/v1/shards")[1])["shards"]
    with log_in(proxy, "pgbouncer") as console, log_in(proxy, "shop") as connection:
        by_console, by_session = (rows(asked.ask(wire.query(show)))[0] for asked, show in ((console, "show tessera shards"), (connection, "show tessera.shards")))
    return [", ".join(shard["addresses"]), by_console[3], by_session[4]]


def test_the_address_in_use_is_shown(start, places):
    proxy = start(resolve_interval="100ms")
    port = places[0].port
    assert addresses_in_use(proxy) == [f"{HERE}:{port}"] * 3
    proxy.point(THERE)
    eventually(lambda: addresses_in_use(proxy) == [f"{THERE}:{port}"] * 3)


def test_a_name_that_cannot_be_looked_up_is_told_once(start):
    proxy = start(resolve_interval="50ms")
    unknown, again = "host name of a shard cannot be looked up", "host name of a shard can be looked up again"
    for times in (1, 2):
        proxy.point(None)
        eventually(lambda: proxy.log().count(unknown) == times)
        time.sleep(0.5)
        proxy.point(HERE)
        eventually(lambda: proxy.log().count(again) == times)
        assert proxy.log().count(unknown) == times
    assert re.search(f"level=warn.*{unknown}.*host={NAME} reason=", proxy.log())


def test_addresses_that_cannot_be_used_are_told_once(places, tmp_path):
    """Two shards that would be the same database."""
    shards = {"s0": {"primary": f"{NAME}:{places[0].port}"}, "s1": {"primary": places[1].address}}
    config = {"databases": {"shop": {"shards": shards, "default_shard": "s0", "backend": {"tls": "require", "resolve_interval": "50ms"},
                                     "users": [{"name": "app", "password": "app"}]}}}
    with WithHosts(config, tmp_path / "tessera") as proxy:
        for times in (1, 2):
            proxy.point(THERE)
            eventually(lambda: proxy.log().count("other addresses, which cannot be used") == times)
            time.sleep(0.5)
            proxy.point(HERE)
            time.sleep(0.5)
            assert proxy.log().count("other addresses, which cannot be used") == times
        assert 'is the same database as shard' in proxy.log()


def test_a_name_is_looked_up_soon_when_its_server_is_gone(start, places):
    proxy = start(resolve_interval="1h")
    with log_in(proxy, "shop") as connection:
        assert where(connection) == "here"
    places[0].stop()
    proxy.point(THERE)

    def there():
        with log_in(proxy, "shop") as connection:
            return where(connection) == "there"

    eventually(there)


def test_a_name_that_is_unknown_for_a_while_changes_nothing(start):
    proxy = start(resolve_interval="50ms")
    with log_in(proxy, "shop") as connection:
        process = value(connection, "select pg_backend_pid()")
        proxy.point(None)
        for _ in range(10):
            assert where(connection) == "here"
            assert value(connection, "select pg_sleep(0.05) is null") == "f"
        assert value(connection, "select pg_backend_pid()") == process
