"""psql, psycopg 3 and node-postgres through Tessera with four shards. All drivers: ./dev drivers."""

import subprocess
import sys

from harness import places, tessera

RUN = places.ROOT / "tests" / "drivers" / "run.py"


def test_psql_psycopg_and_node_postgres_through_tessera():
    tessera.binary()  # a missing binary should say so, not fail three drivers
    done = subprocess.run([sys.executable, "-B", str(RUN), "--quick"], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_driver_programs_themselves_pass_on_plain_postgresql():
    """Without this a mistake in a program would look like one in Tessera."""
    done = subprocess.run([sys.executable, "-B", str(RUN), "--plain", "--quick"], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_refused_login_fails_a_driver_program():
    """The programs must be able to fail."""
    environment = {"PGHOST": "127.0.0.1", "PGPORT": str(places.free_port()), "PGUSER": "app", "PGPASSWORD": "app", "PGDATABASE": "none",
                   "PGSSLROOTCERT": "/dev/null", "DRIVER_BASE": "1"}
    done = subprocess.run([sys.executable, "-B", str(RUN.parent / "psycopg3.py")], capture_output=True, text=True, timeout=60, env=environment)
    assert done.returncode != 0 and "not ok - connect plain" in done.stdout
