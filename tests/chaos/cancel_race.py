"""The race of cancel requests against the end of their statements: a cancel never hits the next statement on that connection.

One server connection, two clients. The first cancels around the end of its own statement; the other one's comes right behind.
"""

import random
import threading
import time

from harness import wire
from talk import code, errors, log_in, rows


class Canceller(threading.Thread):
    """Has a connection ready and cancels on the word."""

    def __init__(self, proxy, target):
        super().__init__(daemon=True)
        self.proxy, self.target = proxy, target
        self.ready, self.go, self.done = (threading.Semaphore(0) for _ in range(3))
        self.stopped = False

    def run(self):
        while not self.stopped:
            with wire.Wire(self.proxy.host, self.proxy.port) as connection:
                self.ready.release()
                self.go.acquire()
                if not self.stopped:
                    connection.send(wire.cancel_request(self.target.process_id, self.target.secret_key))
                    connection.read_to_end()
            self.done.release()


def race(proxy, database, rounds, seed=5, seconds=None):
    """The proxy must have a pool of one. Returns (rounds run, cancels that met their statement); a stray one is an AssertionError."""
    rng = random.Random(seed)
    deadline = time.monotonic() + (seconds or 10**9)
    with log_in(proxy, database) as first, log_in(proxy, database) as second:
        canceller = Canceller(proxy, first)
        canceller.start()
        hits, done, length = 0, 0, 0.005
        try:
            while done < rounds and time.monotonic() < deadline:
                done += 1
                canceller.ready.acquire()
                # The statement's length is led to where about half of the cancels are too late, and wanders around there.
                first.send(wire.query(f"select pg_sleep({length * (0.6 + 0.8 * rng.random()):.6f})"))
                canceller.go.release()
                got = code(first.read_until("Z"))
                assert got in (None, "57014"), got
                hits += got == "57014"
                length = min(0.2, max(0.0005, length * (0.93 if got else 1.07)))
                # As soon as the first has its answer, and while the request may still be on its way.
                for sql in ("select pg_sleep(0.002), 'mine'", "select 'mine'"):
                    replies = second.ask(wire.query(sql))
                    assert rows(replies) and rows(replies)[0][-1] == "mine", f"round {done}: {errors(replies)}"
                canceller.done.acquire()
                assert code(first.ask(wire.query("select 1"))) is None, f"round {done}: the next statement of the same client, after its request had ended"
        finally:
            canceller.stopped = True
            canceller.go.release()
    assert done / 5 < hits < done * 4 / 5, f"{hits} of {done} cancels met their statement: not the edge that this is about"
    return done, hits
