"""Reloads under load, each to a really different configuration: every answer comes from where a configuration of that moment sends it.

What was prepared goes by the new rules; a transaction that is open stays where it began; nobody sees an error.
"""

import collections
import random
import re
import threading
import time

from chaos.shapes import KEYS
from harness import wire
from talk import code, errors, log_in, rows

# So long after a reload every worker has it, and no statement sees the one before.
ADOPTION = 0.25


class Timeline:
    """Which configurations may be in force: from the oldest that may still be to the newest that may be already."""

    def __init__(self, first):
        self.shapes, self.confirmed = [first], [0.0]
        self.lock = threading.Lock()

    def begin(self, shape):
        with self.lock:
            self.shapes.append(shape)
            self.confirmed.append(float("inf"))

    def confirm(self):
        with self.lock:
            self.confirmed = [min(when, time.monotonic()) for when in self.confirmed]

    def oldest(self):
        now = time.monotonic()
        with self.lock:
            return max(number for number, when in enumerate(self.confirmed) if when + ADOPTION < now or number == 0)

    def since(self, oldest):
        with self.lock:
            return self.shapes[oldest:]

    def story(self, fits, sent):
        """For the report: which of all configurations fit an answer, and how long before the statement the next one had been taken."""
        with self.lock:
            ended = [*self.confirmed[1:], float("inf")]
            found = [f"'{shape.name}', replaced {sent - end:.3f} s before" for shape, end in zip(self.shapes, ended) if fits(shape)]
        return "; ".join(found[-3:]) or "none"


class Watcher(threading.Thread):
    """A client whose session and prepared statements live through all reloads."""

    def __init__(self, number, proxy, database, timeline, stop, seed, ways=None):
        super().__init__(daemon=True)
        self.proxy, self.database, self.timeline, self.stop = proxy, database, timeline, stop
        self.rng = random.Random(f"{seed}/{number}")
        self.name = f"watcher-{number}"
        self.ways = [getattr(self, name) for name in ways or ("simple", "prepared", "unnamed", "transaction", "update", "scatter", "pipeline")]
        self.answers, self.problems = 0, []
        self.sent = 0.0  # when the last statement was
        self.updates = collections.Counter()

    def run(self):
        try:
            with log_in(self.proxy, self.database, timeout=30) as self.connection:
                for table in "tu":
                    for name, sql in (("s", f"select v from {table} where id = $1"), ("w", f"update {table} set n = n + 1 where id = $1 returning v")):
                        self.connection.ask(wire.parse(sql, name + table), wire.SYNC)
                while not self.stop.is_set() and len(self.problems) < 5:
                    self.rng.choice(self.ways)()
        except Exception as error:  # reported with the rest
            self.problems.append(repr(error))

    def begin(self):
        """A statement is about to be sent: the oldest configuration that it may meet."""
        self.sent = time.monotonic()
        return self.timeline.oldest()

    def choose(self):
        return self.rng.choice("tu"), self.rng.randrange(1, KEYS + 1)

    def expect(self, replies, oldest, places, story):
        """`places`: from a shape to the sorted rows; one of the shapes of this time must agree. Returns the rows."""
        self.answers += 1
        shapes = self.timeline.since(oldest)
        got = sorted(row[0] for row in rows(replies))
        if code(replies) or not any(got == places(shape) for shape in shapes):
            failed = [f"{fields['C']} {fields['M']}" for fields in errors(replies)]
            fitting = self.timeline.story(lambda shape: got == places(shape), self.sent)
            self.problems.append(f"{story}: {got} {failed}, but {'; '.join(f'{shape.name}: {places(shape)}' for shape in shapes[:4])}; it fits {fitting}")
        return got

    def one(self, table, key, *parts, story):
        oldest = self.begin()
        replies = self.connection.ask(*parts)
        return self.expect(replies, oldest, lambda shape: [shape.place(table, key)], f"{story} {table} {key}")

    def simple(self):
        table, key = self.choose()
        self.one(table, key, wire.query(f"select v from {table} where id = {key}"), story="simple")

    def prepared(self):
        table, key = self.choose()
        self.one(table, key, wire.bind([str(key).encode()], name="s" + table), wire.execute(), wire.SYNC, story="prepared")

    def unnamed(self):
        table, key = self.choose()
        self.one(table, key, wire.parse(f"select v from {table} where id = $1"), wire.bind([str(key).encode()]), wire.execute(), wire.SYNC, story="extended")

    def update(self):
        table, key = self.choose()
        if self.rng.random() < 0.5:
            got = self.one(table, key, wire.query(f"update {table} set n = n + 1 where id = {key} returning v"), story="update")
        else:
            got = self.one(table, key, wire.bind([str(key).encode()], name="w" + table), wire.execute(), wire.SYNC, story="prepared update")
        self.updates.update((table, place) for place in got)

    def scatter(self):
        """A shard that is asked has both keys."""
        table, first = self.choose()
        second = self.rng.randrange(1, KEYS + 1)
        if first == second:
            return
        oldest = self.begin()
        replies = self.connection.ask(wire.query(f"select v from {table} where id in ({first}, {second})"))
        if code(replies) == "57P03":
            return  # a reload came between its connections, perhaps when the first had answered: refused, not mixed
        self.expect(replies, oldest, lambda shape: sorted([*{shape.place(table, first), shape.place(table, second)}] * 2), f"scatter {table} {first} {second}")

    def pipeline(self):
        chosen = [self.choose() for _ in range(4)]
        oldest = self.begin()
        self.connection.send(*(wire.bind([str(key).encode()], name="s" + table) + wire.execute() + wire.SYNC for table, key in chosen))
        for table, key in chosen:
            self.expect(self.connection.read_until("Z"), oldest, lambda shape, table=table, key=key: [shape.place(table, key)], f"pipeline {table} {key}")

    def transaction(self):
        """Stays where it began, whatever is reloaded meanwhile."""
        table, key = self.choose()
        oldest = self.begin()
        self.connection.ask(wire.query("begin"))
        replies = self.connection.ask(wire.query(f"select v from {table} where id = {key}"))
        place = self.expect(replies, oldest, lambda shape: [shape.place(table, key)], f"first of a transaction {table} {key}")
        for _ in range(self.rng.randrange(1, 5)):
            time.sleep(self.rng.random() / 20)
            if self.rng.random() < 0.5:
                replies = self.connection.ask(wire.query(f"select v from {table} where id = {key}"))
            else:
                replies = self.connection.ask(wire.bind([str(key).encode()], name="s" + table), wire.execute(), wire.SYNC)
            self.answers += 1
            if [row[0] for row in rows(replies)] != place:
                self.problems.append(f"in a transaction begun on {place}: {rows(replies)} {errors(replies)} for {table} {key}")
        replies = self.connection.ask(wire.query("commit"))
        if replies[0].body != b"COMMIT\0":
            self.problems.append(f"no COMMIT: {replies}")


class Storm:
    """`run` returns what went wrong; counters are left in the attributes."""

    def __init__(self, proxy, shapes, seed=1, watchers=6, only=None, ways=None):
        """`only`: names of shapes; the first is the one that the proxy was started with."""
        self.proxy, self.shapes, self.rng = proxy, shapes, random.Random(seed)
        self.candidates = [shape for shape in shapes.all() if only is None or shape.name in only]
        self.invalid = shapes.invalid()
        self.timeline = Timeline(next(shape for shape in self.candidates if only is None or shape.name == only[0]))
        self.stop = threading.Event()
        self.watchers = [Watcher(number, proxy, shapes.database, self.timeline, self.stop, seed, ways) for number in range(watchers)]
        self.good = self.bad = self.answers = 0

    def run(self, reloads, answers=0):
        """So many reloads; more, up to ten times as many, if the watchers have had fewer than `answers` by then: a busy machine lets them say little."""
        for watcher in self.watchers:
            watcher.start()
        problems = []
        for number in range(10 * reloads):
            if number >= reloads and self._heard() > answers:
                break
            problems += self._bad() if self.rng.random() < 0.2 else self._good(number)
            if problems or any(watcher.problems for watcher in self.watchers):
                break
        self.stop.set()
        for watcher in self.watchers:
            watcher.join(40)
            if watcher.is_alive():
                problems.append(f"{watcher.name} is stuck")
        self.answers = self._heard()
        problems += [f"{watcher.name}: {problem}" for watcher in self.watchers for problem in watcher.problems]
        return problems or self._compare()

    def _heard(self):
        return sum(watcher.answers for watcher in self.watchers)

    def _lines(self):
        return re.findall("configuration (not )?reloaded", self.proxy.log())

    def _reload(self):
        """True or False as it counted or not, None if no line came."""
        before, deadline = len(self._lines()), time.monotonic() + 10
        self.proxy.reload()
        while len(lines := self._lines()) == before:
            if time.monotonic() > deadline:
                return None
            time.sleep(0.002)
        time.sleep(0.005)  # a line for each mistake
        return not self._lines()[-1]

    def _good(self, number):
        shape = self.rng.choice(self.candidates)
        self.timeline.begin(shape)
        self.proxy.write_config(shape.config)
        if self._reload() is not True:
            return [f"'{shape.name}' was not taken: {self.proxy.log_tail(3)}"]
        self.timeline.confirm()
        self.good += 1
        # Mostly one after the other; now and then long enough that only this one may be in force.
        time.sleep(ADOPTION + 0.15 if number % 4 == 0 else self.rng.random() / 50)
        return []

    def _bad(self):
        bad = self.rng.choice(self.invalid)
        if isinstance(bad, str):
            self.proxy.config_file.write_text(bad)
        else:
            self.proxy.write_config(bad)
        taken = self._reload()
        self.bad += 1
        return [] if taken is False else [f"an invalid file: {taken}, {str(bad)[:300]}"]

    def _compare(self):
        """Each update happened once, where its answer said."""
        told = sum((watcher.updates for watcher in self.watchers), collections.Counter())
        problems = []
        for name, server in zip(self.shapes.names, self.shapes.servers):
            for table in "tu":
                found = int(server.run(f"select sum(n) from {table}", self.shapes.database))
                if found != told[(table, name)]:
                    problems.append(f"{found} updates of {table} on {name}, {told[(table, name)]} were acknowledged")
        return problems
