"""Tessera as a child process, started from a configuration given as a dictionary.

The dictionary is written as JSON, which is YAML. A crash, an assertion, a sanitizer's report or a canary secret in the
log fails the test that stops the process (`stop`, or leaving the `with` block).
"""

import http.client
import json
import os
import re
import signal
import subprocess
import time
from pathlib import Path

from harness import places
from harness.places import SetupError

ALARMS = re.compile(r"AddressSanitizer|LeakSanitizer|ThreadSanitizer|UndefinedBehaviorSanitizer|runtime error:"
                    r"|terminate called|[Aa]ssertion|libc\+\+abi|stack smashing|double free|Segmentation")
ADMIN_TOKEN = "harness-admin-token-7d1f"


class TesseraFailed(Exception):
    """The process ended, hung or complained; the message holds the end of its log."""


def binary():
    """TESSERA_BINARY, or the release build."""
    path = Path(os.environ.get("TESSERA_BINARY", places.ROOT / "build" / "release" / "tessera"))
    if not path.is_file():
        raise SetupError(f"{path} is missing: ./dev build, or set TESSERA_BINARY")
    return path


def run_command(*arguments, timeout=20, **options):
    """`tessera check`, `tessera explain` …: the finished process, its output as text."""
    return subprocess.run([str(binary()), *map(str, arguments)], stdin=subprocess.DEVNULL, capture_output=True, text=True,
                          timeout=timeout, **options)


def database_config(servers, dbname, user="app", password="app", **more):
    """One entry of `databases:` over `servers` (PostgresServer objects), named s0, s1, …, passwords given to Tessera."""
    entry = {
        "engine": "postgres",
        "backend": {"dbname": dbname, "tls": "prefer"},
        "shards": {f"s{i}": {"primary": server.address} for i, server in enumerate(servers)},
        "default_shard": "s0",
        "users": [{"name": user, "password": password}],
    }
    for key, value in more.items():
        if isinstance(value, dict) and isinstance(entry.get(key), dict):
            entry[key] = {**entry[key], **value}
        else:
            entry[key] = value
    return entry


class Tessera:
    """with Tessera({"databases": {…}}, directory) as proxy: proxy.connect(user=…, …)"""

    host = "127.0.0.1"

    def __init__(self, config, directory, canaries=()):
        """`canaries`: secrets that must never show up in the log. `listen` and `admin` are filled in if absent."""
        self.directory = Path(directory)
        self.directory.mkdir(parents=True, exist_ok=True)
        self.config_file = self.directory / "tessera.yaml"
        self.log_file = self.directory / "tessera.log"
        self.canaries = [ADMIN_TOKEN, *canaries]
        self.process = None
        self.port = places.free_port()
        self.admin_port = places.free_port(but=self.port)
        self.write_config(config)

    def write_config(self, config):
        config = json.loads(json.dumps(config))
        config.setdefault("listen", {}).setdefault("postgres", f"{self.host}:{self.port}")
        admin = config.setdefault("admin", {})
        admin.setdefault("listen", f"{self.host}:{self.admin_port}")
        admin.setdefault("tokens", [{"role": "admin", "token": ADMIN_TOKEN}])
        config.setdefault("workers", 2)
        self.config = config
        self.config_file.write_text(json.dumps(config, indent=2, ensure_ascii=False) + "\n")

    # Life

    def __enter__(self):
        return self.start()

    def __exit__(self, kind, error, trace):
        if kind is None:
            self.stop()
        else:
            self.kill()

    def start(self, timeout=15, ready=200):
        """Waits until `/readyz` answers, with this status: 503 for a proxy that is expected to refuse its clients."""
        self._spawn()
        deadline = time.monotonic() + timeout
        while not self._is_ready(ready):
            if self.process.poll() is not None:
                raise TesseraFailed(f"exit {self.process.returncode} at start\n{self.log_tail()}")
            if time.monotonic() > deadline:
                self.kill()
                raise TesseraFailed(f"not ready within {timeout} s\n{self.log_tail()}")
            time.sleep(0.02)
        return self

    def command(self):
        return [str(binary()), "serve", "--config", str(self.config_file)]

    def _spawn(self):
        environment = {**os.environ, "ASAN_OPTIONS": "abort_on_error=1", "UBSAN_OPTIONS": "print_stacktrace=1"}
        with self.log_file.open("ab") as log:
            self.process = subprocess.Popen(self.command(), stdin=subprocess.DEVNULL,
                                            stdout=log, stderr=subprocess.STDOUT, cwd=self.directory, env=environment)

    def _is_ready(self, status=200):
        try:
            return self.http("GET", "/readyz")[0] == status
        except OSError:
            return False

    def stop(self, timeout=30):
        """SIGTERM: drains, must end with 0 and a clean log."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            code = self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            self.kill()
            raise TesseraFailed(f"did not end within {timeout} s of SIGTERM\n{self.log_tail()}") from None
        if code != 0:
            raise TesseraFailed(f"exit {code}\n{self.log_tail()}")
        self.check_log()

    def kill(self):
        if self.process and self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    def reload(self):
        """SIGHUP. What it did stands in the log and in /v1/config."""
        self.process.send_signal(signal.SIGHUP)

    def is_alive(self):
        return self.process is not None and self.process.poll() is None

    # Looking

    def log(self):
        return self.log_file.read_text(errors="replace") if self.log_file.exists() else ""

    def log_tail(self, lines=40):
        return "\n".join(self.log().splitlines()[-lines:])

    def check_log(self):
        text = self.log()
        alarm = ALARMS.search(text)
        if alarm:
            raise TesseraFailed(f"the log says '{alarm[0]}':\n{text[max(0, alarm.start() - 500):alarm.end() + 3000]}")
        for secret in self.canaries:
            if secret in text:
                raise TesseraFailed("a secret stands in the log")

    def wait_for_log(self, pattern, timeout=10):
        deadline = time.monotonic() + timeout
        while not (match := re.search(pattern, self.log())):
            if time.monotonic() > deadline:
                raise TesseraFailed(f"no line like {pattern!r} within {timeout} s\n{self.log_tail()}")
            time.sleep(0.02)
        return match

    def http(self, method, path, body=None, token=ADMIN_TOKEN):
        """A request to the admin endpoint: (status, text)."""
        connection = http.client.HTTPConnection(self.host, self.admin_port, timeout=10)
        try:
            headers = {"Content-Type": "application/json"}
            if token:
                headers["Authorization"] = f"Bearer {token}"
            connection.request(method, path, None if body is None else json.dumps(body), headers)
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        finally:
            connection.close()

    def connect(self, dbname, user="app", password="app", **options):
        """A psycopg connection through the proxy."""
        import psycopg
        options.setdefault("autocommit", True)
        options.setdefault("connect_timeout", 10)
        return psycopg.connect(host=self.host, port=self.port, dbname=dbname, user=user, password=password, **options)

    def resident_bytes(self):
        """Memory of the process now (RSS)."""
        fields = Path(f"/proc/{self.process.pid}/statm").read_text().split()
        return int(fields[1]) * os.sysconf("SC_PAGE_SIZE")
