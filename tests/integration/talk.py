"""Small words that the tests of isolation and faults share."""

import time

from harness import wire
from harness.tessera import database_config
from harness.wire import rows


def config_of(servers, dbname, name=None, listen=None, **more):
    """A whole configuration with one database."""
    config = {"databases": {name or dbname: database_config(servers, dbname, **more)}}
    if listen:
        config["listen"] = listen
    return config


def log_in(proxy, database, user="app", password="app", **options):
    return wire.connect(proxy.host, proxy.port, user, database, password, **options)


def value(connection, sql):
    """The one value of a simple query; an error is raised."""
    replies = connection.ask(wire.query(sql))
    if failed := errors(replies):
        raise wire.WireError(f"{sql}: {failed[0]}", failed[0])
    return rows(replies)[0][0]


def errors(replies):
    return [wire.error_fields(reply.body) for reply in replies if reply.type == "E"]


def code(replies):
    """The SQLSTATE of the first error, or None."""
    failed = errors(replies)
    return failed[0]["C"] if failed else None


def ask(connection, sql):
    """The SQLSTATE of the first error, or the rows."""
    replies = connection.ask(wire.query(sql))
    return code(replies) or rows(replies)


def eventually(condition, timeout=10, what="", pause=0.02):
    """Waits for `condition()` to be true; returns its value."""
    deadline = time.monotonic() + timeout
    while not (found := condition()):
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {timeout} s: {what or condition}")
        time.sleep(pause)
    return found


def backends_of(server, database):
    """Process ids of the server's connections to a database."""
    text = server.run(f"select pid from pg_stat_activity where datname = '{database}' and backend_type = 'client backend'", "postgres")
    return [int(line) for line in text.split()]


def types(replies):
    """What must be the same: everything but object ids and where the server's source stands."""
    told = []
    for reply in replies:
        if reply.type == "E":
            told.append(("E", wire.error_fields(reply.body)["C"]))
        elif reply.type == "T":
            told.append(("T", len(reply.body)))
        elif reply.type not in "SNA":
            told.append((reply.type, reply.body))
    return told
