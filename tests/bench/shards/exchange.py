"""One connection of a contender, on which the statements run: whole answers to compare, and answers against the clock."""

import hashlib
import struct
import time
from typing import NamedTuple

from bench import BenchError, stream
from harness import wire

PATIENCE = 600
CHUNK = 64 * 1024


class Answer(NamedTuple):
    """`digest` of the rows, in their order if they have one; `tag` of CommandComplete, as bytes."""
    digest: str
    rows: int
    tag: bytes


class Session:
    """`pid`: the process whose CPU is told: the proxy, or the server's for this connection."""

    def __init__(self, contender):
        self.connection = contender.connect(timeout=PATIENCE)
        self.pid = contender.pid or self.connection.process_id

    def close(self):
        self.connection.close()

    def answer(self, sql, ordered=False):
        whole = bytearray()
        self.run(sql, keep=whole)
        replies, _ = wire.split_messages(bytes(whole))
        rows = [reply.body for reply in replies if reply.type == "D"]
        # The lines of a COPY, however they are put into messages.
        rows += b"".join(reply.body for reply in replies if reply.type == "d").splitlines()
        if not ordered:
            rows.sort()
        [tag] = [reply.body for reply in replies if reply.type == "C"]
        return Answer(hashlib.blake2b(b"".join(rows)).hexdigest(), len(rows), tag)

    def words(self, sql):
        return " ".join(field for row in wire.rows(self.connection.ask(wire.query(sql))) for field in row).split()

    def run(self, sql, pause=0, keep=None):
        """`pause`: the client does not read before these seconds have gone by."""
        started = time.perf_counter()
        self.connection.send(wire.query(sql))
        time.sleep(pause)
        read = stream.drain(self.connection.socket, started, keep)
        if (error := _error(read.tail)) is not None:
            raise BenchError(f"{error}: {sql}")
        return read

    def copy_in(self, sql, messages):
        """`messages`: CopyData, ready to be sent. Gives the milliseconds until ReadyForQuery, and the tag."""
        started = time.perf_counter()
        self.connection.send(wire.query(sql))
        self._expect("G", sql)
        for message in messages:
            self.connection.send(message)
        self.connection.send(wire.COPY_DONE)
        tag = self._expect("C", sql)
        self.connection.read_until("Z")
        return 1000 * (time.perf_counter() - started), tag

    def _expect(self, kind, sql):
        reply = self.connection.read_until(kind, "E")[-1]
        if reply.type == "E":
            self.connection.read_until("Z")
            raise BenchError(f"{wire.describe(reply)}: {sql}")
        return reply.body


def _error(tail):
    """Every answer that is not an error ends with CommandComplete and ReadyForQuery."""
    at = tail.rfind(b"C\0\0\0")
    complete = at >= 0 and at + 1 + struct.unpack_from(">I", tail, at + 1)[0] == len(tail) - len(stream.END)
    return None if complete else tail.replace(b"\0", b" ").decode(errors="replace")


def copy_messages(data):
    return [wire.copy_data(data[at:at + CHUNK]) for at in range(0, len(data), CHUNK)]
