"""What the Python programs share: `check` around each item, `equal`, `raises`, `finish`."""

import contextlib
import os

BASE = int(os.environ["DRIVER_BASE"])
SSLROOTCERT = os.environ["PGSSLROOTCERT"]
_failed = []


@contextlib.contextmanager
def check(name):
    try:
        yield
        print(f"ok - {name}", flush=True)
    except Exception as error:  # whatever a driver may throw is a finding
        _failed.append(name)
        print(f"not ok - {name}: {type(error).__name__}: {' '.join(str(error).split())[:300]}", flush=True)


def equal(found, expected):
    if found != expected:
        raise AssertionError(f"found {str(found)[:200]}, expected {str(expected)[:200]}")


def sqlstate_of(error):
    """The SQLSTATE of an exception of psycopg 3, psycopg2, asyncpg, or of what SQLAlchemy wraps."""
    error = getattr(error, "orig", None) or error
    return getattr(error, "sqlstate", None) or getattr(error, "pgcode", None)


def raises(sqlstate, action):
    try:
        action()
    except Exception as error:
        if sqlstate_of(error) != sqlstate:
            raise AssertionError(f"SQLSTATE {sqlstate_of(error)} instead of {sqlstate}: {error}") from error
        return
    raise AssertionError(f"no error instead of {sqlstate}")


def finish():
    """The exit code."""
    return 1 if _failed else 0
