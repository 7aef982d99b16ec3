"""Many rows to one client that throws them away: what relaying them costs the proxy."""

import struct
import time

from bench import BenchError, process, server
from harness import wire

ROWS = 100_000 * server.SCALE
QUERY = "select * from pgbench_accounts"
END = b"Z" + struct.pack(">I", 5) + b"I"


def measure(contender):
    with contender.connect() as connection:
        before = process.cpu(contender.pid) if contender.pid else None
        started = time.perf_counter()
        connection.send(wire.query(QUERY))
        first, size, tail = _drain(connection.socket, started)
        result = {"first_ms": 1000 * first, "last_ms": 1000 * (time.perf_counter() - started), "bytes": size}
    if f"SELECT {ROWS}\0".encode() not in tail:
        raise BenchError(f"not {ROWS} rows: the reply ends with {tail!r}")
    if before:
        cost = process.spent(contender.pid, before, 1000)  # of a thousand: µs become ms
        result.update({key.removesuffix("us") + "ms": value for key, value in cost.items()})
        result["rss"] = process.resident_bytes(contender.pid)
    return result


def _drain(connection, started):
    """Until ReadyForQuery: (seconds to the first byte, bytes in all, the last bytes)."""
    buffer = memoryview(bytearray(1 << 18))
    first, size, tail = None, 0, b""
    while not tail.endswith(END):
        count = connection.recv_into(buffer)
        if count == 0:
            raise BenchError(f"closed after {size} bytes: {tail!r}")
        first = first or time.perf_counter() - started
        size += count
        tail = (tail + bytes(buffer[max(0, count - 200):count]))[-200:]
    return first, size, tail
