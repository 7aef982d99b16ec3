"""What the Python programs share: `check` around each item, `equal`, `raises`, `finish`."""

import contextlib
import os

BASE = int(os.environ["DRIVER_BASE"])
SPREAD = range(BASE + 400, BASE + 420)  # keys enough to be on several shards
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


def right_or_refused(write, read):
    """A write that sets qty to 1 for keys of several shards does all of it, or is refused with 0A000 and does nothing."""
    expected = 1
    try:
        write()
    except Exception as error:
        if sqlstate_of(error) != "0A000":
            raise AssertionError(f"SQLSTATE {sqlstate_of(error)} instead of 0A000: {error}") from error
        expected = 0
    equal([read(key) for key in SPREAD], [expected] * len(SPREAD))


def finish():
    """The exit code."""
    return 1 if _failed else 0
