"""In front of a single shard Tessera is transparent: whatever the client sends, the replies are the server's, byte for byte.

TESSERA_SEED=n tests that seed alone; TESSERA_SEEDS=n tests n of them: those above 300 from a random start, which is printed on failure.
"""

import os
import random
import socket
import threading

import pytest
from harness import sequences, wire
from harness.tessera import Tessera, database_config
from twins import Twins, report

COUNT = int(os.environ.get("TESSERA_SEEDS", "300"))
FIXED = 300  # the first seeds are the same in every run, so that a mistake that came back is seen at once


def seeds():
    if "TESSERA_SEED" in os.environ:
        return [int(os.environ["TESSERA_SEED"])]
    start = random.SystemRandom().randrange(1000, 10**9)
    return [*range(min(COUNT, FIXED)), *range(start, start + max(0, COUNT - FIXED))]


@pytest.fixture(scope="module")
def servers(new_server, new_database):
    pair = [new_server("plain"), new_server("behind")]
    new_database(pair, sequences.SCHEMA, name="twin")
    return pair


@pytest.fixture(scope="module")
def reset(servers):
    connections = [server.connect("twin", user="app", password="app", options="-c statement_timeout=20s") for server in servers]

    yield lambda side: connections[side].execute(sequences.RESET)
    for connection in connections:
        connection.close()


@pytest.fixture(scope="module")
def told():
    return {}


def test_the_two_servers_agree_without_tessera(servers, reset, told):
    """Otherwise a difference below would mean nothing."""
    twins = Twins(*[(server.host, server.port) for server in servers], "twin", reset, told)
    for seed in seeds()[:60]:
        twins.check(seed)


class LyingRelay:
    """Relays bytes to a server and falsifies its answers a little: the comparison must find it."""

    def __init__(self, port, find, replace):
        self.target, self.find, self.replace = port, find, replace
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            server = socket.create_connection(("127.0.0.1", self.target))
            threading.Thread(target=self._pump, args=(client, server, lambda data: data), daemon=True).start()
            threading.Thread(target=self._pump, args=(server, client, lambda data: data.replace(self.find, self.replace)), daemon=True).start()

    @staticmethod
    def _pump(source, target, change):
        try:
            while data := source.recv(65536):
                target.sendall(change(data))
            target.shutdown(socket.SHUT_WR)
        except OSError:
            source.close()
            target.close()


@pytest.mark.parametrize("find, replace, must_name", [
    (b"42P01\0", b"42P02\0", "nowhere"),          # another SQLSTATE
    (b"SELECT 20\0", b"SELECT 21\0", "item"),       # a wrong count
    (b"2\0\0\0\4", b"", "Bind"),                    # a lost BindComplete
    (b"Z\0\0\0\5T", b"Z\0\0\0\5I", "begin"),        # a wrong transaction status
])
def test_a_falsified_reply_is_found_and_shrunk(servers, reset, told, find, replace, must_name):
    plain, behind = servers
    relay = LyingRelay(behind.port, find, replace)
    twins = Twins((plain.host, plain.port), ("127.0.0.1", relay.port), "twin", reset, told)
    try:
        with pytest.raises(AssertionError) as found:
            for seed in range(100):
                twins.check(seed)
    finally:
        relay.listener.close()
    message = str(found.value)
    assert "shrunk to" in message and must_name in message
    assert message.count("\n  ") < 30, message


def _proxy_config(server, **more):
    return {"databases": {"twin": database_config([server], "twin", **more)}}


@pytest.mark.parametrize("mode", ["transaction", "session"])
def test_tessera_answers_as_the_server_does(servers, reset, told, tmp_path, mode):
    plain, behind = servers
    with Tessera(_proxy_config(behind, pool={"mode": mode}), tmp_path) as proxy:
        twins = Twins((plain.host, plain.port), (proxy.host, proxy.port), "twin", reset, told)
        for seed in seeds():
            twins.check(seed)


def test_one_server_connection_for_all_sequences(servers, reset, told, tmp_path):
    """With a pool of one, each sequence meets the server connection that the ones before it used."""
    plain, behind = servers
    with Tessera(_proxy_config(behind, pool={"mode": "transaction", "size": 1}), tmp_path) as proxy:
        twins = Twins((plain.host, plain.port), (proxy.host, proxy.port), "twin", reset, told)
        for seed in seeds()[: COUNT // 2]:
            twins.check(seed)


COPY_ITEM = wire.parse("copy item (id, name) from stdin") + wire.bind() + wire.execute()
DEALLOCATE = wire.parse("deallocate all", "s2") + wire.describe_statement("s2") + wire.bind(name="s2") + wire.execute() + wire.SYNC
KNOWN = {
    "DEALLOCATE ALL, and the same text again": DEALLOCATE + DEALLOCATE,
    "DISCARD ALL keeps the unnamed statement": wire.parse("discard all") + wire.bind() + wire.execute() + wire.bind() + wire.describe_statement("") + wire.SYNC,
    "a name that is taken, twice": wire.query("begin") + wire.parse("select 1", "s") + (wire.parse("select 2", "s") + wire.SYNC) * 2,
    "Close and Flush behind a Sync": wire.parse("select 1") + wire.bind() + wire.execute() + wire.SYNC + wire.close_portal("") + wire.FLUSH + wire.SYNC,
    "a Sync in COPY data that fail before it": COPY_ITEM + wire.copy_data(b"x\ty\n") + wire.SYNC + wire.COPY_DONE + wire.parse("select 1") + wire.SYNC,
    "a Sync in COPY data that fail behind it": COPY_ITEM + wire.copy_data(b"8\tdouble\n") + wire.SYNC + wire.COPY_DONE + wire.parse("select 1") + wire.SYNC,
    "the same in a transaction": wire.query("begin") + COPY_ITEM + wire.copy_data(b"8\tdouble\n") + wire.SYNC + wire.COPY_DONE + wire.SYNC,
    "a Sync in COPY data that are good": COPY_ITEM + wire.copy_data(b"300\tnew\n") + wire.SYNC + wire.COPY_DONE + wire.SYNC,
    "a query in the middle of COPY data": COPY_ITEM + wire.copy_data(b"300\tnew\n") + wire.query("select 1"),
    "a function call behind a Parse that fails": wire.parse("select * from nowhere", "s") + wire.function_call(1397, [b"-5"]) + wire.SYNC,
    "UNLISTEN ends the unit that it comes in": wire.parse("select 1") + wire.bind() + wire.execute() + wire.query("unlisten *") + wire.execute() + wire.SYNC,
}


def test_what_went_wrong_once(servers, reset, told, tmp_path):
    """Each cut into pieces in several ways, since what had arrived by then made the difference."""
    plain, behind = servers
    with Tessera(_proxy_config(behind, pool={"mode": "transaction"}), tmp_path) as proxy:
        twins = Twins((plain.host, plain.port), (proxy.host, proxy.port), "twin", reset, told)
        for name, data in KNOWN.items():
            steps = [sequences.Step(name, data)]
            for cut in range(8):
                server, tested = twins.talk(cut, steps)
                assert server == tested, report(cut, steps, server, tested)
