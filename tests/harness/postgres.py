"""Real PostgreSQL 15 servers under a directory: fast to make (initdb once, then copies), TLS and SCRAM on loopback.

A server is a directory: `data/`, its Unix socket, its log. Its superuser is `postgres`; over the socket (mode 0700) it
needs no password, over TCP SCRAM-SHA-256. fsync is off: these servers hold nothing worth keeping.
"""

import os
import subprocess
import time
from pathlib import Path

from harness import places, wire
from harness.certificates import CertificateAuthority
from harness.places import SetupError

VERSION = "15"
BIN = Path(f"/usr/lib/postgresql/{VERSION}/bin")
SUPERUSER = "postgres"
SUPERUSER_PASSWORD = "postgres"

SETTINGS = {
    "max_connections": "300",
    "shared_buffers": "32MB",
    "fsync": "off",
    "full_page_writes": "off",
    "synchronous_commit": "off",
    "max_prepared_transactions": "100",
    "wal_level": "logical",
    "max_wal_senders": "20",
    "max_replication_slots": "20",
    "password_encryption": "scram-sha-256",
    "unix_socket_permissions": "0700",
    "lc_messages": "C",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "jit": "off",
    "ssl": "on",
    "logging_collector": "off",
}

HBA = """local all all trust
host replication all 127.0.0.1/32 scram-sha-256
host all all 127.0.0.1/32 scram-sha-256
"""


def _template(root):
    """An initialised data directory that the servers under `root` are copies of."""
    template = root / f"template-{VERSION}"
    if template.exists():
        return template
    if not (BIN / "initdb").exists():
        raise SetupError(f"{BIN}/initdb is missing: install postgresql-15 (scripts/install.sh test)")
    work = root / f"template-{VERSION}.{os.getpid()}"
    places.make_server_directory(work)
    password_file = work / "password"
    password_file.write_text(SUPERUSER_PASSWORD + "\n")
    password_file.chmod(0o644)
    places.run_as_server([BIN / "initdb", "--no-sync", "--no-instructions", "-U", SUPERUSER, "--pwfile", password_file,
                          "-E", "UTF8", "--locale=C.UTF-8", "-D", work / "data"])
    try:
        work.rename(template)
    except OSError:  # another process was quicker
        places.remove_tree(work)
    return template


def prepare(root):
    """Makes what servers under `root` share: the template and the certificates. Not for several processes at once."""
    _template(root)
    CertificateAuthority(root / "tls").issue("server")


def _copy(source, target):
    places.run_as_server(["cp", "-a", "--reflink=auto", source, target])


class PostgresServer:
    """One server. `start` makes it if need be and returns when it accepts connections; `stop` leaves its data."""

    user = SUPERUSER
    password = SUPERUSER_PASSWORD

    def __init__(self, root, name, port=None, settings=None, hba="", replica_of=None, host="127.0.0.1"):
        """`hba`: lines put before our own in pg_hba.conf. `replica_of`: a running server to stream from."""
        self.root = Path(root)
        self.name = name
        self.directory = self.root / "servers" / name
        self.data = self.directory / "data"
        self._port_file = self.root / "servers" / f"{name}.port"
        self.port = port or self._known_port() or places.free_port()
        self.host = host
        self.settings = {**SETTINGS, "listen_addresses": host, **(settings or {})}
        self.hba = hba
        self.replica_of = replica_of
        self.ca = CertificateAuthority(self.root / "tls")

    def _known_port(self):
        return int(self._port_file.read_text()) if self._port_file.exists() else None

    @property
    def address(self):
        return f"{self.host}:{self.port}"

    @property
    def log_file(self):
        return self.directory / "log"

    # Making

    def _make(self):
        places.remove_tree(self.directory)
        (self.root / "servers").mkdir(exist_ok=True)
        places.make_server_directory(self.directory)
        if self.replica_of is None:
            _copy(_template(self.root) / "data", self.data)
        else:
            places.run_as_server([BIN / "pg_basebackup", "-d", self.replica_of.dsn_over_tcp(), "-D", self.data, "-R",
                                  "-X", "stream", "-c", "fast", "--no-sync"])

    def _configure(self):
        certificate = self.ca.issue("server")
        for source, name, mode in ((certificate.certificate, "server.crt", 0o644), (certificate.private_key, "server.key", 0o600)):
            self._write(name, source.read_text(), mode)
        settings = {**self.settings, "port": str(self.port), "unix_socket_directories": str(self.directory),
                    "cluster_name": self.name}
        lines = [f"{key} = '{value}'" for key, value in settings.items()]
        self._write("tessera.conf", "\n".join(lines) + "\n", 0o600)
        configuration = (self.data / "postgresql.conf").read_text()
        if "include 'tessera.conf'" not in configuration:
            self._write("postgresql.conf", configuration + "\ninclude 'tessera.conf'\n", 0o600)
        self._write("pg_hba.conf", self.hba + HBA, 0o600)

    def _write(self, name, text, mode):
        path = self.data / name
        path.write_text(text)
        path.chmod(mode)
        if os.geteuid() == 0:
            account = places.server_user()
            os.chown(path, account.pw_uid, account.pw_gid)

    # Running

    def is_running(self):
        if not (self.data / "postmaster.pid").exists():
            return False
        status = subprocess.run(places.as_server([BIN / "pg_ctl", "status", "-D", self.data]), cwd="/",
                                stdin=subprocess.DEVNULL, capture_output=True)
        return status.returncode == 0

    def start(self):
        if self.is_running():
            return self
        if not places.port_is_free(self.port, self.host):
            raise SetupError(f"port {self.port} on {self.host} is taken: PostgreSQL '{self.name}' cannot start there")
        if not (self.data / "PG_VERSION").exists():
            self._make()
        self._configure()
        # Its own session, so that Ctrl-C in a terminal reaches us and not the server.
        started = subprocess.run(
            places.as_server([BIN / "pg_ctl", "start", "-w", "-t", "60", "-s", "-D", self.data, "-l", self.log_file]),
            cwd="/", stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
        if started.returncode != 0:
            raise SetupError(f"PostgreSQL '{self.name}' did not start:\n{self._log_tail()}")
        self._port_file.write_text(f"{self.port}\n")
        return self

    def _log_tail(self):
        if not self.log_file.exists():
            return "(no log)"
        return "\n".join(self.log_file.read_text(errors="replace").splitlines()[-20:])

    def stop(self, mode="fast"):
        """`mode`: smart, fast, or immediate (a crash)."""
        if self.is_running():
            places.run_as_server([BIN / "pg_ctl", "stop", "-w", "-s", "-m", mode, "-D", self.data])

    def destroy(self):
        self.stop("immediate")
        places.remove_tree(self.directory)
        self._port_file.unlink(missing_ok=True)

    # Talking

    def dsn_over_tcp(self, database="postgres"):
        return f"host={self.host} port={self.port} user={self.user} password={self.password} dbname={database}"

    def connect(self, database="postgres", **options):
        """A psycopg connection as superuser, in autocommit unless asked otherwise."""
        import psycopg  # not needed by the demo
        options.setdefault("autocommit", True)
        options.setdefault("user", self.user)
        options.setdefault("password", self.password)
        return psycopg.connect(host=self.host, port=self.port, dbname=database, **options)

    def run(self, sql, database="postgres"):
        """Runs SQL over the Unix socket, as superuser; the rows as `psql -At` prints them. Afterwards its session is gone from pg_stat_activity."""
        try:
            with wire.connect(str(self.directory), self.port, SUPERUSER, database, timeout=None) as connection:
                replies = connection.ask(wire.query(sql))
                connection.send(wire.TERMINATE)
                connection.read_to_end()
        except (wire.WireError, OSError) as error:
            raise SetupError(f"{self.name}: {error!r}: {sql}") from error
        for reply in replies:
            if reply.type == "E":
                raise SetupError(f"{self.name}: {wire.describe(reply)}: {sql}")
        return "".join("|".join(field or "" for field in row) + "\n" for row in wire.rows(replies))

    def wait_for_replay(self, timeout=20):
        """On a replica: until it has replayed all that its primary has written by now."""
        target = self.replica_of.run("select pg_current_wal_insert_lsn()").strip()
        deadline = time.monotonic() + timeout
        while self.run(f"select coalesce(pg_last_wal_replay_lsn() >= '{target}', false)").strip() != "t":
            if time.monotonic() > deadline:
                raise SetupError(f"replica '{self.name}' did not reach {target} within {timeout} s")
            time.sleep(0.05)


def stop_all(root):
    """Stops every server under `root`, whoever started it."""
    servers = Path(root) / "servers"
    if not servers.exists():
        return
    for directory in sorted(servers.iterdir()):
        if (directory / "data").exists():
            PostgresServer(root, directory.name).stop("immediate")


def remove_all(root):
    """Stops every server under `root` and removes all of them; the template stays."""
    stop_all(root)
    places.remove_tree(Path(root) / "servers")


