"""Tessera as a process among others: descriptors, signals, the PID file, the log file, systemd, a new binary."""

import os
import re
import resource
import shutil
import signal
import socket
import subprocess
import threading
import time

import pytest
from harness import places, wire
from harness.tessera import Tessera, binary
from talk import config_of, eventually, log_in, rows, value
from two_shards import RULES, SCHEMA


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


# ---- sockets ---------------------------------------------------------------------------------------------------------


def test_a_name_with_several_addresses_listens_on_all(process, servers, database):
    port = places.free_port()
    proxy = process({**config_of(servers, database), "listen": {"postgres": f"localhost:{port}"}})
    for host in sorted({found[4][0] for found in socket.getaddrinfo("localhost", port, type=socket.SOCK_STREAM)}):
        with wire.connect(host, port, "app", database, "app") as connection:
            assert value(connection, "select 1") == "1"
    proxy.stop()


def test_the_file_of_a_unix_socket(process, servers, database, tmp_path):
    config = {**config_of(servers, database), "listen": {"postgres": f"{tmp_path}:6432"}}
    file = tmp_path / ".s.PGSQL.6432"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(file))
    assert file.is_socket(), "as a process that was killed leaves it"
    proxy = process(config)
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(file))
    second = Process(config, tmp_path / "second")
    second._spawn()
    assert second.process.wait(10) == 1 and "another process listens on this address" in second.log()
    assert file.is_socket()
    proxy.stop()
    assert not file.exists()
    file.write_text("somebody's")
    third = Process(config, tmp_path / "third")
    third._spawn()
    assert third.process.wait(10) == 1 and file.read_text() == "somebody's", "only a socket is taken away"


# ---- signals ---------------------------------------------------------------------------------------------------------


def test_a_second_sigterm_ends_the_drain(process, servers, database):
    proxy = process({**config_of(servers, database, **RULES), "drain_timeout": "1m"})
    with log_in(proxy, database) as connection:
        connection.ask(wire.query("begin"))
        value(connection, "select v from t where id = 5")
        proxy.process.send_signal(signal.SIGTERM)
        proxy.wait_for_log("draining")
        proxy.process.send_signal(signal.SIGHUP)
        proxy.wait_for_log("SIGHUP: this process is about to end")
        assert value(connection, "select v from t where id = 6") == "row 6" and proxy.is_alive()
        proxy.process.send_signal(signal.SIGTERM)
        assert proxy.process.wait(5) == 0
    proxy.wait_for_log("a second SIGTERM")
    proxy.check_log()


def test_standard_error_is_not_reopened(process):
    proxy = process()
    proxy.process.send_signal(signal.SIGUSR1)
    proxy.wait_for_log("there is no file to reopen")
    proxy.config_file.write_text("nonsense")
    proxy.process.send_signal(signal.SIGHUP)
    proxy.wait_for_log("configuration not reloaded")
    proxy.process.send_signal(signal.SIGUSR1)
    eventually(lambda: proxy.log().count("there is no file to reopen") == 2)
    assert "log reopened" not in proxy.log()


@pytest.mark.parametrize("how", ["SIGUSR1", "SIGHUP", "SIGHUP with a bad file"])
def test_the_log_is_reopened(process, servers, database, tmp_path, how):
    file = tmp_path / "tessera.log"
    config = {**config_of(servers, database), "log": {"file": str(file)}}
    proxy = process(config)
    eventually(lambda: "tessera is ready" in file.read_text())
    file.rename(tmp_path / "tessera.log.1")
    if how == "SIGHUP with a bad file":
        proxy.config_file.write_text("nonsense: 1\n")
    proxy.process.send_signal(signal.SIGUSR1 if how == "SIGUSR1" else signal.SIGHUP)
    expected = "configuration reloaded" if how == "SIGHUP" else "log reopened"
    eventually(lambda: file.exists() and expected in file.read_text(), what="a line in the new file")
    proxy.stop()


def test_the_pid_file(process, servers, database, tmp_path):
    file = tmp_path / "tessera.pid"
    proxy = process({**config_of(servers, database), "pid_file": str(file)})
    assert file.read_text() == f"{proxy.process.pid}\n"
    second = Process({**config_of(servers, database), "pid_file": str(file)}, tmp_path / "second")
    second._spawn()
    assert second.process.wait(10) == 1 and "is locked: Tessera is running already" in second.log()
    assert file.read_text() == f"{proxy.process.pid}\n"
    proxy.stop()
    assert not file.exists()
    file.write_text("99999999\n")
    proxy = process(arguments=("--pid-file", str(file)))
    assert file.read_text() == f"{proxy.process.pid}\n", "a file that a killed process left is taken over"
    proxy.stop()


# ---- systemd ---------------------------------------------------------------------------------------------------------


def test_systemd_is_told(process, servers, database, tmp_path):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(tmp_path / "notify"))
        systemd.settimeout(10)
        proxy = process(environment={"NOTIFY_SOCKET": str(tmp_path / "notify")})
        assert systemd.recv(1000) == b"READY=1"
        proxy.reload()
        reloading = systemd.recv(1000).decode().splitlines()
        assert reloading[0] == "RELOADING=1" and abs(int(reloading[1].removeprefix("MONOTONIC_USEC=")) / 1e6 - time.monotonic()) < 30
        assert systemd.recv(1000) == b"READY=1"
        proxy.config_file.write_text("nonsense: 1\n")
        proxy.reload()
        assert systemd.recv(1000).startswith(b"RELOADING=1") and systemd.recv(1000) == b"READY=1", "also when the old configuration stays"
        proxy.process.send_signal(signal.SIGTERM)
        assert systemd.recv(1000) == b"STOPPING=1"
        assert proxy.process.wait(10) == 0
        systemd.settimeout(0.2)
        with pytest.raises(TimeoutError):
            systemd.recv(1000)


def test_systemd_under_an_abstract_name(process):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(f"\0tessera-test-{os.getpid()}")
        systemd.settimeout(10)
        process(environment={"NOTIFY_SOCKET": f"@tessera-test-{os.getpid()}"})
        assert systemd.recv(1000) == b"READY=1"


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not installed")
def test_the_unit_file_is_valid(tmp_path):
    text = (places.ROOT / "scripts" / "systemd" / "tessera.service").read_text().replace("/usr/local/bin/tessera", str(binary()))
    unit = tmp_path / "tessera.service"
    unit.write_text(text)
    done = subprocess.run(["systemd-analyze", "verify", "--man=no", str(unit)], capture_output=True, text=True, timeout=60)
    complaints = [line for line in (done.stdout + done.stderr).splitlines() if "tessera" in line]
    assert not complaints, complaints


# ---- a new binary ----------------------------------------------------------------------------------------------------


class Knocker(threading.Thread):
    """Connects, asks and leaves, again and again; whatever goes wrong is kept."""

    def __init__(self, proxy, database):
        super().__init__()
        self.proxy, self.database, self.rounds, self.problems, self.ended = proxy, database, 0, [], threading.Event()

    def run(self):
        while not self.ended.is_set():
            try:
                with log_in(self.proxy, self.database) as connection:
                    assert value(connection, "select v from t where id = 5") == "row 5"
                self.rounds += 1
            except Exception as error:  # noqa: BLE001
                self.problems.append(repr(error))


def adopted(proxy, old):
    """The new process: a child of the old one, so not ours to wait for."""
    text = eventually(lambda: re.search(r"handed over.*pid=(\d+)", proxy.log()), what="a hand-over")
    assert int(text[1]) != old
    return int(text[1])


def end_of(process_id):
    return lambda: not os.path.exists(f"/proc/{process_id}") or open(f"/proc/{process_id}/stat").read().rsplit(")", 1)[1].split()[0] == "Z"


def test_a_new_process_takes_over_and_nobody_is_refused(process, servers, database, tmp_path):
    config = {**config_of(servers, database, **RULES), "pid_file": str(tmp_path / "tessera.pid"), "drain_timeout": "20s"}
    proxy = process(config)
    old_id, new_id = proxy.process.pid, None
    knockers = [Knocker(proxy, database) for _ in range(4)]
    try:
        with log_in(proxy, database) as old:
            old.ask(wire.query("begin"))
            for knocker in knockers:
                knocker.start()
            eventually(lambda: min(knocker.rounds for knocker in knockers) > 5)
            proxy.process.send_signal(signal.SIGUSR2)
            new_id = adopted(proxy, old_id)
            before = [knocker.rounds for knocker in knockers]
            eventually(lambda: all(knocker.rounds > count + 20 for knocker, count in zip(knockers, before)), what="logins at the new process")
            assert value(old, "select v from t where id = 7") == "row 7", "a transaction of the old process goes on"
            old.ask(wire.query("commit"))
            assert value(old, "select v from t where id = 8") == "row 8", "and its client may stay a while"
            assert proxy.is_alive() and (tmp_path / "tessera.pid").read_text() == f"{new_id}\n"
            assert proxy.http("GET", "/readyz")[0] == 200
        assert proxy.process.wait(10) == 0, "the old one ends with its last client"
        assert (tmp_path / "tessera.pid").read_text() == f"{new_id}\n"
        with log_in(proxy, database) as connection:
            assert value(connection, "select 1") == "1"
    finally:
        for knocker in knockers:
            knocker.ended.set()
        for knocker in knockers:
            knocker.join(20)
        if new_id:
            os.kill(new_id, signal.SIGTERM)
    eventually(end_of(new_id), what="the end of the new process")
    assert [problem for knocker in knockers for problem in knocker.problems] == []
    assert not (tmp_path / "tessera.pid").exists()
    proxy.check_log()


def test_a_new_process_that_does_not_start_changes_nothing(process, servers, database, tmp_path):
    file = tmp_path / "tessera.pid"
    proxy = process({**config_of(servers, database, **RULES), "pid_file": str(file)})
    good = proxy.config_file.read_text()
    proxy.config_file.write_text("nonsense: 1\n")
    proxy.process.send_signal(signal.SIGUSR2)
    proxy.wait_for_log("not handed over, this process goes on")
    with log_in(proxy, database) as connection:
        assert value(connection, "select v from t where id = 5") == "row 5"
    assert file.read_text() == f"{proxy.process.pid}\n"
    assert proxy.http("GET", "/readyz")[0] == 200
    proxy.config_file.write_text(good)
    proxy.stop()
    assert not file.exists()


def test_after_a_hand_over_clients_that_stay_too_long_are_sent_away(process, servers, database, tmp_path):
    proxy = process({**config_of(servers, database, **RULES), "drain_timeout": "1s", "listen": {"postgres": f"{tmp_path}:6432"}})
    file = str(tmp_path / ".s.PGSQL.6432")
    with socket.socket(socket.AF_UNIX) as staying:
        staying.connect(file)
        time.sleep(0.2)
        proxy.process.send_signal(signal.SIGUSR2)
        new_id = adopted(proxy, proxy.process.pid)
        try:
            assert proxy.process.wait(10) == 0
            assert os.path.exists(file), "the new process's"
            with socket.socket(socket.AF_UNIX) as client:
                client.connect(file)
        finally:
            os.kill(new_id, signal.SIGTERM)
    eventually(end_of(new_id))
    assert not os.path.exists(file)
