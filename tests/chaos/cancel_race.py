"""The race of cancel requests against the end of their statements: a cancel never hits the next statement on that connection.

One server connection, two clients. The first cancels around the end of its own statement; the other one's comes right behind.
Most of a round is waiting, so several races run beside each other, each with a connection of its own.
"""

import concurrent.futures
import random
import threading
import time

from harness import wire
from talk import code, errors, log_in, rows

PATIENCE = 30


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


def beside(proxy, database, first):
    """A second client whose statements run on the first one's server connection: their threads in Tessera may differ."""
    for _ in range(50):
        second = log_in(proxy, database)
        connections = [rows(client.ask(wire.query("select pg_backend_pid()"))) for client in (first, second)]
        if connections[0] and connections[0] == connections[1]:
            return second
        second.close()
    raise AssertionError("two clients never share the only server connection")


def race(proxy, database, rounds, seed=5, seconds=None):
    """The proxy must have a pool of one. Returns (rounds run, cancels that met their statement); a stray one is an AssertionError."""
    rng = random.Random(seed)
    deadline = time.monotonic() + (seconds or 10**9)
    with log_in(proxy, database) as first, beside(proxy, database, first) as second:
        canceller = Canceller(proxy, first)
        canceller.start()
        hits, done, length = 0, 0, 0.005
        try:
            while done < rounds and time.monotonic() < deadline:
                done += 1
                assert canceller.ready.acquire(timeout=PATIENCE), "no connection for a cancel request"
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
                assert canceller.done.acquire(timeout=PATIENCE), "a cancel request was not taken"
                assert code(first.ask(wire.query("select 1"))) is None, f"round {done}: the next statement of the same client, after its request had ended"
        finally:
            canceller.stopped = True
            canceller.go.release()
    assert done / 5 < hits < done * 4 / 5, f"{hits} of {done} cancels met their statement: not the edge that this is about"
    return done, hits


def races(proxy, databases, rounds, seed=5):
    """`rounds` in all, a race in each database at once. Returns what `race` does."""
    shares = [rounds // len(databases) + (number < rounds % len(databases)) for number in range(len(databases))]
    with concurrent.futures.ThreadPoolExecutor(len(databases)) as lanes:
        runs = [lanes.submit(race, proxy, database, share, seed + number) for number, (database, share) in enumerate(zip(databases, shares))]
    done = [run.result() for run in runs]
    return tuple(map(sum, zip(*done)))
