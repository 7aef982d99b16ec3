"""Contenders in turns: every round is everyone's, so that a machine that drifts drifts for all."""

import sys

from bench import BenchError, process
from harness import tessera, wire
from harness.places import SetupError

CHECKED_KEYS = range(1, 41)
Failure = (BenchError, SetupError, tessera.TesseraFailed, OSError, wire.WireError)


class Contest:
    """Who takes part, and what went wrong."""

    def __init__(self, options, everyone):
        self.options = options
        self.everyone = everyone
        self.problems = []

    def problem(self, contender, where, error):
        self.problems.append(f"{contender.title}, {where}: {error}")
        print(f"    PROBLEM {self.problems[-1]}", file=sys.stderr, flush=True)

    def start(self, contender):
        contender.start()
        if self.options.pin and contender.pid:
            process.pin(contender.pid, {self.options.proxy_core})

    def attempt(self, contender, where, measure, into):
        """Puts what `measure` says under the contender's name into the list or dictionary of rounds; a failure becomes a problem."""
        try:
            if not contender.is_alive():
                self.start(contender)
            into.setdefault(contender.name, []).append(measure())
        except Failure as error:
            self.problem(contender, where, error)

    def start_all(self):
        """Who does not start, or answers wrongly, is out."""
        for contender in list(self.everyone):
            try:
                self.start(contender)
                check(contender)
            except Failure as error:
                self.problem(contender, "start", error)
                self.stop(contender)
                self.everyone.remove(contender)
        if not self.everyone:
            raise BenchError("there is nobody left to measure")

    def in_turns(self, some):
        """Each contender once a round; each round begins with another one."""
        for number in range(self.options.rounds if some else 0):
            at = number % len(some)
            yield from some[at:] + some[:at]

    def progress(self, text):
        print(f"==> {text}", file=sys.stderr, flush=True)

    def stop(self, contender):
        try:
            contender.stop()
        except Failure as error:
            self.problem(contender, "end", error)

    def stop_all(self):
        for contender in self.everyone:
            self.stop(contender)


def check(contender):
    """A fast wrong answer is worth nothing: every key is found, by literal and by parameter, and it is the right row."""
    with contender.connect() as connection:
        for key in CHECKED_KEYS:
            replies = connection.ask(wire.query(f"select aid from pgbench_accounts where aid = {key}"))
            replies += connection.ask(wire.parse("select aid from pgbench_accounts where aid = $1"), wire.bind([str(key).encode()]),
                                      wire.execute(), wire.SYNC)
            rows = [reply.body for reply in replies if reply.type == "D"]
            expected = b"\0\1" + len(str(key)).to_bytes(4, "big") + str(key).encode()
            if rows != [expected, expected]:
                raise BenchError(f"aid = {key} gives {[reply for reply in replies if reply.type in 'DE']}")
