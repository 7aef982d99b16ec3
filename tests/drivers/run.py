"""Runs the driver programs: run.py [--plain] [--quick] [names…]. See README.md; called by scripts/drivers.sh.

--plain runs them against one PostgreSQL; otherwise against Tessera with four shards. --quick takes those that need no compiler
and no packages beyond those of ./dev test.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from harness import places, postgres  # noqa: E402
from harness.certificates import CertificateAuthority  # noqa: E402
from harness.places import SetupError  # noqa: E402
from harness.tessera import Tessera, TesseraFailed, database_config  # noqa: E402

BUILD = places.ROOT / "build" / "drivers"
PYTHON = "/usr/bin/python3"
ITEMS_TABLE = "create table items (id bigint primary key, owner_id bigint, name text, qty int, data jsonb)"
NUMBERED_TABLE = "create table numbered (id bigserial primary key, name text)"
IMPORTS_TABLE = "create table imports (id bigint, name text)"
JDBC = "/usr/share/java/postgresql.jar"
GO = {"GO111MODULE": "off", "GOPATH": "/usr/share/gocode", "GOFLAGS": "", "GOCACHE": str(BUILD / "go-cache")}


def script(name):
    return [str(HERE / name)]


def python(name):
    return [PYTHON, "-B", str(HERE / name)]


def node(name):
    """Node looks for packages beside the program, so the program goes where npm put them."""
    directory = BUILD / "node"
    directory.mkdir(parents=True, exist_ok=True)
    for file in ("package.json", "package-lock.json"):
        if not (directory / file).exists() or (directory / file).read_bytes() != (HERE / file).read_bytes():
            shutil.rmtree(directory / "node_modules", ignore_errors=True)
            shutil.copy(HERE / file, directory)
    if not (directory / "node_modules").exists():
        build(["npm", "ci", "--silent", "--no-audit", "--no-fund", "--ignore-scripts"], cwd=directory)
    for file in HERE.glob("*.mjs"):
        shutil.copy(file, directory)
    return ["node", str(directory / name)]


def java(name):
    build(["javac", "-d", str(BUILD), "-cp", JDBC, str(HERE / f"{name}.java")])
    return ["java", "-XX:+UseSerialGC", "-cp", f"{JDBC}:{BUILD}", name]


def cpp(name, *libraries):
    program = BUILD / f"{name}_driver"
    source = HERE / f"{name}.cpp"
    if not program.exists() or program.stat().st_mtime < source.stat().st_mtime:
        build(["g++", "-std=c++17", "-O0", str(source), "-o", str(program), *libraries])
    return [str(program)]


def go(name):
    program = BUILD / f"{name}_driver"
    build(["go", "build", "-o", str(program), str(HERE / f"{name}.go"), str(HERE / "checks.go")], env={**os.environ, **GO})
    return [str(program)]


# In this order; the first ones are quick.
DRIVERS = {
    "psql": lambda: script("psql.sh"),
    "psycopg3": lambda: python("psycopg3.py"),
    "node_pg": lambda: node("node_pg.mjs"),
    "pgbench": lambda: script("pgbench.sh"),
    "psycopg2": lambda: python("psycopg2_driver.py"),
    "asyncpg": lambda: python("asyncpg_driver.py"),
    "sqlalchemy": lambda: python("sqlalchemy_driver.py"),
    "postgres_js": lambda: node("postgres_js.mjs"),
    "jdbc": lambda: java("Jdbc"),
    "pqxx": lambda: cpp("pqxx", "-lpqxx", "-lpq"),
    "dbd_pg": lambda: ["perl", str(HERE / "dbd_pg.pl")],
    "lib_pq": lambda: go("lib_pq"),
    "pgx": lambda: go("pgx"),
}
# What each program must show; a program that leaves out an item fails. `batch` counts as `pipeline`.
ITEMS = {"connect plain", "connect TLS", "crud by key", "values", "prepared statements", "pipeline", "transaction commit", "transaction rollback",
         "copy", "errors", "failed transaction", "several shards", "cancel"}
# pgbench shows no values, and ends a client at its first error.
WITHOUT = {"pgbench": {"values", "failed transaction", "several shards"}}
QUICK = ["psql", "psycopg3", "node_pg"]


def build(command, **options):
    BUILD.mkdir(parents=True, exist_ok=True)
    done = subprocess.run(command, capture_output=True, text=True, **options)
    if done.returncode != 0:
        raise SetupError(f"{' '.join(command)}\n{done.stdout}{done.stderr}")


def run_driver(number, name, environment):
    """(passed, failed) of one program; its `not ok` lines are printed."""
    started = time.monotonic()
    try:
        command = DRIVERS[name]()
        done = subprocess.run(command, env={**environment, "DRIVER_BASE": str(100_000 + 1000 * number)}, cwd=HERE, text=True,
                              stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=180)
    except subprocess.TimeoutExpired as error:
        output = (error.stdout or b"").decode(errors="replace")
        print(f"{name:12} HANGS after:\n{output}")
        return output.count("\nok - "), 1
    except SetupError as error:
        print(f"{name:12} CANNOT RUN: {error}")
        return 0, 1
    lines = done.stdout.splitlines()
    shown = {re.sub("^(not )?ok - |:.*", "", line).replace("batch", "pipeline") for line in lines if re.match("(not )?ok - ", line)}
    lines += [f"not ok - {item}: not shown" for item in sorted(ITEMS - WITHOUT.get(name, set()) - shown)]
    passed = sum(line.startswith("ok - ") for line in lines)
    failed = sum(line.startswith("not ok - ") for line in lines)
    wrong = failed > 0 or done.returncode != 0 or passed == 0
    print(f"{name:12} {passed} passed, {failed} failed, {time.monotonic() - started:.1f} s", flush=True)
    if wrong:
        shown = [line for line in lines if line.startswith("not ok")] if failed else [f"exit {done.returncode}", *lines[-15:]]
        print("\n".join(f"    {line}" for line in shown))
    return passed, max(failed, int(wrong))


def make_database(servers):
    for server in servers:
        server.run("create role app login password 'app'")
        server.run("create database drivers owner app")
        server.run(f"set role app; {ITEMS_TABLE}; {NUMBERED_TABLE}", "drivers")
    servers[min(1, len(servers) - 1)].run(f"set role app; {IMPORTS_TABLE}", "drivers")


def config(servers, ca):
    certificate = ca.issue("tessera")
    return {
        "listen": {"tls": {"mode": "prefer", "certificate": str(certificate.certificate), "private_key": str(certificate.private_key)}},
        "databases": {"drivers": database_config(
            servers, "drivers",
            rules={"by_id": {"type": "hash", "function": "postgres", "buckets": 1024, "shards": [f"s{i}" for i in range(len(servers))]}},
            tables={"items": {"rule": "by_id", "key": "id", "key_type": "bigint"}, "numbered": {"rule": "by_id", "key": "id"}, "imports": {"shard": "s1"},
                    **{f"pgbench_{name}": {"shard": "s0"} for name in ("accounts", "branches", "history", "tellers")}})},
    }


def rows_per_shard(servers):
    return [int(server.run("select count(*) from items", "drivers")) for server in servers]


def run_all(names, port, ca):
    environment = {**os.environ, "PGHOST": "127.0.0.1", "PGPORT": str(port), "PGUSER": "app", "PGPASSWORD": "app", "PGDATABASE": "drivers",
                   "PGSSLROOTCERT": str(ca.certificate)}
    results = [run_driver(number, name, environment) for number, name in enumerate(names)]
    return sum(passed for passed, _ in results), sum(failed for _, failed in results)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--plain", action="store_true")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("names", nargs="*")
    arguments = parser.parse_args()
    names = arguments.names or (QUICK if arguments.quick else list(DRIVERS))
    for name in names:
        if name not in DRIVERS:
            raise SetupError(f"no driver '{name}': {', '.join(DRIVERS)}")
    BUILD.mkdir(parents=True, exist_ok=True)
    root = places.data_root(".test")
    postgres.prepare(root)
    ca = CertificateAuthority(root / "tls")
    servers = [postgres.PostgresServer(root, f"{os.getpid()}-d{i}") for i in range(1 if arguments.plain else 4)]
    try:
        for server in servers:
            server.start()
        make_database(servers)
        if arguments.plain:
            passed, failed = run_all(names, servers[0].port, ca)
        else:
            with Tessera(config(servers, ca), BUILD / "tessera") as proxy:
                passed, failed = run_all(names, proxy.port, ca)
            counts = rows_per_shard(servers)
            print(f"rows per shard: {counts}")
            if min(counts) == 0:
                print("not ok - a shard has no rows")
                failed += 1
    finally:
        for server in servers:
            server.destroy()
    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (SetupError, TesseraFailed) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
