"""Many rows to one client that throws them away: what relaying them costs the proxy."""

import time

from bench import BenchError, process, server, stream
from harness import wire

QUERY = "select * from pgbench_accounts"


def measure(contender):
    with contender.connect() as connection:
        before = contender.cpu()
        started = time.perf_counter()
        connection.send(wire.query(QUERY))
        read = stream.drain(connection.socket, started)
        result = {"first_ms": read.first_byte_ms, "last_ms": read.last_ms, "bytes": read.size}
    if f"SELECT {server.ROWS}\0".encode() not in read.tail:
        raise BenchError(f"not {server.ROWS} rows: the reply ends with {read.tail!r}")
    if before:
        result |= process.spent_ms(contender.cpu() - before)
        result["rss"] = process.resident_bytes(contender.pid)
    return result
