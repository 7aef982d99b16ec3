"""Reads one reply as fast as it comes, and says when."""

import struct
import time
from typing import NamedTuple

from bench import BenchError

END = b"Z" + struct.pack(">I", 5) + b"I"
HEAD = 4096  # the first row begins in here


class Stream(NamedTuple):
    """Milliseconds since the statement was sent, bytes in all, the last bytes. Without rows `first_row_ms` is None."""
    first_byte_ms: float
    first_row_ms: float | None
    last_ms: float
    size: int
    tail: bytes


def drain(connection, started, keep=None):
    """Until ReadyForQuery. `started`: by perf_counter. `keep`: a bytearray that gets everything."""
    buffer = memoryview(bytearray(1 << 18))
    first = row = None
    size, head, tail = 0, b"", b""
    while not tail.endswith(END):
        count = connection.recv_into(buffer)
        now = 1000 * (time.perf_counter() - started)
        if count == 0:
            raise BenchError(f"closed after {size} bytes: {tail!r}")
        first = first or now
        if row is None and len(head) < HEAD:
            head += bytes(buffer[:min(count, HEAD)])
            row = now if _has_row(head) else None
        if keep is not None:
            keep += buffer[:count]
        size += count
        tail = (tail + bytes(buffer[max(0, count - 200):count]))[-200:]
    return Stream(first, row, now, size, tail)


def _has_row(head):
    """Does a DataRow or CopyData begin in it?"""
    at = 0
    while len(head) - at >= 5 and head[at:at + 1] not in (b"D", b"d"):
        at += 1 + struct.unpack_from(">I", head, at + 1)[0]
    return len(head) > at and head[at:at + 1] in (b"D", b"d")
