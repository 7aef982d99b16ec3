"""Each way to the server: straight, or through a proxy as a child process of one thread.

All of them log clients in as the server does: SCRAM for USER, nothing for TRUSTED_USER. Between proxy and server there is no
TLS. The two poolers have the same mode (transaction) and pool size.
"""

import os
import re
import shutil
import subprocess
import time

from bench import BenchError, process, server
from harness import places, wire
from harness.tessera import Tessera, binary

CLIENTS = 4000  # more than any step connects
KEYS = {"pgbench_accounts": "aid"}


def program_version(command, pattern):
    done = subprocess.run(command, capture_output=True, text=True)
    match = re.search(pattern, done.stdout + done.stderr)
    if not match:
        raise BenchError(f"{command[0]} does not tell its version")
    return match[1]


class Contender:
    """`pid` is None where there is no process to measure. `why_not(cell)`: the reason to leave a cell out, or None."""

    pid = None
    has_tls = True  # of its own, not the server's passed through
    database = server.DATABASE
    host = "127.0.0.1"
    idle_connections = 2000
    parameters = None  # of the start-up packet

    def __init__(self, name, title):
        self.name, self.title = name, title
        self.port = None

    def why_not(self, _cell):
        return None

    def is_alive(self):
        return True

    def cpu(self):
        """What its process has used, if it has one."""
        return process.cpu(self.pid) if self.pid else None

    def connect(self, user=server.USER, tls=None, timeout=30):
        return wire.connect(self.host, self.port, user, self.database, server.PASSWORD, tls=tls, timeout=timeout, parameters=self.parameters)

    def wait_until_ready(self, timeout=15):
        deadline = time.monotonic() + timeout
        while True:
            try:
                with self.connect(timeout=5) as connection:
                    connection.ask(wire.query("select 1"))
                return self
            except (OSError, wire.WireError) as error:
                if not self.is_alive() or time.monotonic() > deadline:
                    raise BenchError(f"{self.title} does not answer: {error}\n{self.log_tail()}") from None
                time.sleep(0.05)

    def log_tail(self):
        return ""

    def stop(self):
        pass


class Direct(Contender):
    idle_connections = 0

    def __init__(self, postgres_server, name="direct", title="direct"):
        super().__init__(name, title)
        self.port = postgres_server.port

    def start(self):
        return self.wait_until_ready()


class Program(Contender):
    """A proxy started from files in a directory of its own, as the servers' account."""

    def __init__(self, name, title, directory, postgres_server):
        super().__init__(name, title)
        self.server = postgres_server
        self.directory = directory / name
        places.remove_tree(self.directory)
        places.make_server_directory(self.directory)
        self.port = places.free_port()
        self.process = None

    def write(self, name, text):
        path = self.directory / name
        path.write_text(text)
        path.chmod(0o600)
        if os.geteuid() == 0:
            os.chown(path, places.server_user().pw_uid, places.server_user().pw_gid)
        return path

    def spawn(self, command):
        account = places.server_user()
        switch = {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []} if os.geteuid() == 0 else {}
        with (self.directory / "log").open("ab") as log:
            self.process = subprocess.Popen([str(word) for word in command], cwd=self.directory, stdin=subprocess.DEVNULL, stdout=log,
                                            stderr=subprocess.STDOUT, **switch)
        self.pid = self.process.pid
        return self.wait_until_ready()

    def is_alive(self):
        return self.process is not None and self.process.poll() is None

    def log_tail(self):
        return "\n".join((self.directory / "log").read_text(errors="replace").splitlines()[-15:])

    def stop(self):
        if self.is_alive():
            self.process.kill()
            self.process.wait()


class PgBouncer(Program):
    product = "PgBouncer"

    def __init__(self, directory, postgres_server, certificate, pool_size):
        super().__init__("pgbouncer", "PgBouncer", directory, postgres_server)
        self.version = program_version(["pgbouncer", "--version"], r"PgBouncer ([0-9.]+)")
        self.knows_prepared = tuple(map(int, self.version.split(".")[:2])) >= (1, 21)
        self._configure(certificate, pool_size)

    def _configure(self, certificate, pool_size):
        certificate_file = self.write("tls.crt", certificate.certificate.read_text())
        key_file = self.write("tls.key", certificate.private_key.read_text())
        users = self.write("users", f'"{server.USER}" "{server.verifier(self.server)}"\n"{server.TRUSTED_USER}" ""\n')
        hba = self.write("hba", f"host all {server.TRUSTED_USER} 127.0.0.1/32 trust\nhost all all 127.0.0.1/32 scram-sha-256\n")
        self.ini = self.write("pgbouncer.ini", f"""[databases]
{server.DATABASE} = host=127.0.0.1 port={self.server.port} dbname={server.DATABASE}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {self.port}
unix_socket_dir =
pool_mode = transaction
default_pool_size = {pool_size}
max_client_conn = {CLIENTS}
auth_type = hba
auth_hba_file = {hba}
auth_file = {users}
client_tls_sslmode = allow
client_tls_cert_file = {certificate_file}
client_tls_key_file = {key_file}
server_tls_sslmode = disable
log_connections = 0
log_disconnections = 0
{'max_prepared_statements = 500' if self.knows_prepared else ''}
""")

    def start(self):
        return self.spawn(["pgbouncer", self.ini])

    def why_not(self, cell):
        if cell.protocol == "prepared" and not self.knows_prepared:
            return f"PgBouncer {self.version} has no prepared statements in transaction mode (1.21 has)"
        return None


class HAProxy(Program):
    product = "HAProxy"
    has_tls = False
    idle_connections = 500  # each is a connection of the server too

    def __init__(self, directory, postgres_server):
        super().__init__("haproxy", "HAProxy", directory, postgres_server)
        self.version = program_version(["haproxy", "-v"], r"version ([0-9.]+)")
        self.file = self.write("haproxy.cfg", f"""global
  nbthread 1
  maxconn {CLIENTS}
defaults
  mode tcp
  timeout connect 5s
  timeout client 10m
  timeout server 10m
listen postgres
  bind 127.0.0.1:{self.port}
  server s0 127.0.0.1:{self.server.port}
""")

    def start(self):
        return self.spawn(["haproxy", "-db", "-f", self.file])

    def why_not(self, cell):
        return "HAProxy passes PostgreSQL's TLS through to the server" if cell.tls else None


class Floor(Program):
    """A blind byte forwarder of tests/bench/floor, built beside Tessera. It keeps a server connection for each client."""

    has_tls = False
    idle_connections = 500

    def __init__(self, name, title, directory, postgres_server, program, *options):
        super().__init__(name, title, directory, postgres_server)
        # A copy where the servers' account can go.
        self.program = self.directory / program
        shutil.copy2(floor_program(program), self.program)
        self.options = options

    def start(self):
        return self.spawn([self.program, self.port, self.server.port, *self.options])

    def why_not(self, cell):
        return "A floor passes PostgreSQL's TLS through to the server" if cell.tls else None


def floor_program(name):
    path = binary().with_name(name)
    if not path.is_file():
        raise BenchError(f"{path} is missing: cmake -DTESSERA_BENCH=ON, then build the target floors (with io_uring: liburing-dev)")
    return path


class Process(Tessera):
    """Here, as for every contender, ready is who answers a client."""

    def _is_ready(self, status=200):
        return True


class TesseraContender(Contender):
    """`shards`: names of databases on the one server. With several, every statement is parsed and routed by the table's key.
    `keys`: the tables that are split, each by a hash of this column."""

    product = "Tessera"

    def __init__(self, name, title, directory, postgres_server, certificate, pool_size, shards, io_uring=True, keys=KEYS):
        super().__init__(name, title)
        self.version = program_version([str(binary()), "--version"], r"(\S*[0-9]+\.[0-9.]+\S*)")
        database = {
            "engine": "postgres",
            "backend": {"tls": "disable"},
            "shards": {f"s{i}": {"primary": postgres_server.address, "dbname": shard} for i, shard in enumerate(shards)},
            "default_shard": "s0",
            "pool": {"mode": "transaction", "size": pool_size},
            "users": [{"name": server.USER, "password": server.PASSWORD}, {"name": server.TRUSTED_USER, "trust": True}],
        }
        if len(shards) > 1:
            rule = {"type": "hash", "function": "postgres", "buckets": server.BUCKETS, "shards": list(database["shards"])}
            database["rules"] = {"by_hash": rule}
            database["tables"] = {table: {"rule": "by_hash", "key": key, "key_type": "integer"} for table, key in keys.items()}
        tls = {"mode": "prefer", "certificate": str(certificate.certificate), "private_key": str(certificate.private_key)}
        self.proxy = Process({"workers": 1, "io_uring": io_uring, "listen": {"tls": tls}, "databases": {server.DATABASE: database}}, directory / name)
        self.proxy.log_file.unlink(missing_ok=True)
        self.port = self.proxy.port

    @property
    def pid(self):
        return self.proxy.process.pid

    def start(self):
        self.proxy.start()
        return self.wait_until_ready()

    def is_alive(self):
        return self.proxy.is_alive()

    def log_tail(self):
        return self.proxy.log_tail(15)

    def stop(self):
        """Raises TesseraFailed if it ends badly or its log holds an alarm."""
        if self.proxy.process is not None:
            self.proxy.stop()


def make(names, directory, postgres_server, certificate, pool_size):
    """The contenders called by these names, in this order, not started."""
    def floor(name, title, program, *options):
        return lambda: Floor(name, title, directory, postgres_server, program, *options)

    def tessera(name, count, title, **options):
        shards = server.shards(count) if count > 1 else [server.DATABASE]
        return lambda: TesseraContender(name, title, directory, postgres_server, certificate, pool_size, shards, **options)

    makers = {
        "direct": lambda: Direct(postgres_server),
        "pgbouncer": lambda: PgBouncer(directory, postgres_server, certificate, pool_size),
        "haproxy": lambda: HAProxy(directory, postgres_server),
        "tessera": tessera("tessera", 1, "Tessera"),
        "tessera4": tessera("tessera4", 4, "Tessera, 4 shards"),
        "tessera64": tessera("tessera64", 64, "Tessera, 64 shards"),
        "tessera4-alone": tessera("tessera4-alone", 4, "Tessera, 4 shards, no io_uring", io_uring=False),
        "floor": floor("floor", "floor (epoll)", "floor_epoll"),
        "floor-uring": floor("floor-uring", "floor (io_uring)", "floor_uring"),
        "floor-uring-single": floor("floor-uring-single", "floor (io_uring, single receives)", "floor_uring", "single"),
        "floor-uring-poll": floor("floor-uring-poll", "floor (io_uring, single, poll first)", "floor_uring", "single", "poll-first"),
    }
    return [makers[name]() for name in names]


def splits(names):
    """Into how many shards each of these contenders wants the accounts to be split."""
    return sorted({int(match[1]) for name in names if (match := re.match(r"tessera(\d+)", name))})


USUAL = ["direct", "pgbouncer", "haproxy", "tessera", "tessera4"]
NAMES = [*USUAL, "tessera64", "tessera4-alone", "floor", "floor-uring", "floor-uring-single", "floor-uring-poll"]
