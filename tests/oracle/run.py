"""Worlds one after another: the same statements on one plain server and through Tessera, and a count of what came of them."""

import collections
import random
import re

from harness import wire
from harness.tessera import Tessera
from oracle import compare
from oracle.expressions import Statement
from oracle.kinds import quoted
from oracle.queries import Queries
from oracle.world import World
from oracle.writes import Writes

SHARDS = (1, 2, 4, 7)  # of a world by its number
SLOW = "57014"


class Different(Exception):
    """The two sides did not say the same; the message has all that is needed to see it again."""


class Tally:
    def __init__(self):
        self.counts = collections.Counter()
        self.reasons = {"select": collections.Counter(), "write": collections.Counter()}
        self.examples = {}

    def count(self, what, outcome):
        self.counts[f"{what} {outcome}"] += 1

    def refused(self, statement, message):
        self.count(statement.what, "refused")
        reason = re.sub(r'"[^"]*"|\b\w*\d+\b', "…", message.split("; ")[0])
        self.reasons["select" if statement.what == "select" else "write"][reason] += 1
        self.examples.setdefault(reason, statement.literal())

    def of(self, what, *outcomes):
        return sum(self.counts[f"{what} {outcome}"] for outcome in outcomes)

    def share(self, what):
        """Refused, of those that are valid."""
        return self.of(what, "refused") / max(1, self.of(what, "equal", "refused"))

    def add(self, other):
        self.counts += other.counts
        for what, reasons in other.reasons.items():
            self.reasons[what] += reasons
        self.examples = {**other.examples, **self.examples}

    def __str__(self):
        lines = [f"  {name:24s} {count}" for name, count in sorted(self.counts.items())]
        for what, reasons in self.reasons.items():
            lines.append(f"  refused, {what}: {self.share(what):.2%}")
            for reason, count in reasons.most_common():
                lines += [f"    {count:5d}  {reason}", f"           {self.examples[reason][:300]}"]
        return "\n".join(lines)


class Databases:
    """Those of a world: shards as databases of a few servers, and a plain one."""

    def __init__(self, world, servers, name):
        self.world, self.servers, self.name = world, servers, name
        self.shards = [(servers[i % len(servers)], f"{name}_{shard}") for i, shard in enumerate(world.shards)]
        self.all = [*self.shards, (servers[0], f"{name}_plain")]

    def __enter__(self):
        for server, database in self.all:
            with server.connect() as connection:
                if not connection.execute("select 1 from pg_roles where rolname = 'app'").fetchone():
                    connection.execute("create role app login password 'app'")
                connection.execute(f'create database "{database}" owner app {self.world.locale}')
            with server.connect(database, user="app", password="app") as connection:
                connection.execute("; ".join(self.world.statements))
        self.connections = [wire.connect(str(server.directory), server.port, server.user, database) for server, database in self.all]
        return self

    def __exit__(self, *_):
        for connection in self.connections:
            connection.close()
        for server, database in self.all:
            with server.connect() as connection:
                connection.execute(f'drop database "{database}" with (force)')

    def config(self):
        shards = {shard: {"primary": server.address, "dbname": database} for shard, (server, database) in zip(self.world.shards, self.shards)}
        return {"databases": {self.name: {"backend": {"tls": "disable"}, "shards": shards, "default_shard": "s0", "users": [{"name": "app", "password": "app"}], "rules": self.world.rules, "tables": self.world.entries}}}

    def contents(self, table):
        """The rows of each shard, and those of the plain database; as texts."""
        found = [sorted(row[0] for row in wire.rows(connection.ask(wire.query(f"select t::text from {table} t")))) for connection in self.connections]
        return found[:-1], found[-1]


class Run:
    """A world's statements on both sides."""

    def __init__(self, seed, tally):
        self.seed, self.tally, self.shards = seed, tally, SHARDS[seed % len(SHARDS)]
        self.rng = random.Random(seed)
        self.world = World(self.rng, self.shards)
        self.done = []  # of the transaction at hand

    def go(self, servers, directory, queries):
        with Databases(self.world, servers, f"oracle_{self.seed}") as self.databases, Tessera(self.databases.config(), directory) as proxy:
            plain, name = self.databases.all[-1]
            with wire.connect(plain.host, plain.port, "app", name, "app", timeout=60) as self.one, wire.connect(proxy.host, proxy.port, "app", self.databases.name, "app", timeout=60) as self.through:
                self.through.ask(wire.query("set statement_timeout = '20s'"))
                self.patience("1s")
                self.fill()
                maker, writes = Queries(self.world, self.rng), Writes(self.world, self.rng)
                for number in range(queries):
                    self.select(maker.statement())
                    if number % 5 == 0:
                        self.patience("20s")
                        self.script(writes.script())
                        self.patience("1s")
                self.check_tables(self.world.tables)

    def patience(self, duration):
        """Of the one server: a query alone may be skipped there, what is part of a script may not."""
        self.one.ask(wire.query(f"set statement_timeout = '{duration}'"))

    def fill(self):
        for table in self.world.tables.values():
            if table.place == "view" or not (rows := self.world.rows(table)):
                continue
            values = ", ".join(f"({', '.join(quoted(value) for value in row)})" for row in rows)
            self.both(Statement(f"insert into {table.name} values {values}", [], what="fill"), compare.Form("simple"))
        self.done = []
        self.check_tables(self.world.tables)

    # ---- one statement

    def fail(self, statement, form, expected, found):
        told = "\n".join(f"  {one}" for one in [*self.done, f"{statement.literal()}  -- {form}"])
        if form.parameters:
            told += f"\n  sent as {statement.parameterized()}{f', then {form.again}' if form.again else ''}"
        raise Different(f"world {self.seed}, {self.shards} shards, {self.tally.counts.total()} statements before\n{told}\n  one server: {expected.what()}\n  Tessera:    {found.what()}")

    def select(self, statement):
        """The plain server first: what is slow there says nothing."""
        form = compare.form(self.rng, statement)
        units = form.units(statement)
        expected = compare.answer(self.one, *units)
        if expected.code == SLOW:
            self.forget(form, self.one)
            return self.tally.count(statement.what, "slow")
        found = compare.answer(self.through, *units)
        if found.code == "0A000" and expected.code != "0A000":
            self.forget(form, self.through, self.one)
            return self.tally.count(statement.what, "refused, and wrong") if expected.code else self.tally.refused(statement, found.message)
        if not compare.same(statement, expected, found):
            self.fail(statement, form, expected, found)
        self.count(statement, form, expected)

    def count(self, statement, form, expected):
        if expected.code:
            self.forget(form, self.through, self.one)
        self.tally.count(statement.what, "equal errors" if expected.code else "equal")

    def both(self, statement, form=None):
        """Tessera first: what it refuses, the plain server does not get. False: it was refused."""
        form = form or compare.form(self.rng, statement)
        units = form.units(statement)
        found = compare.answer(self.through, *units)
        if found.code == "0A000":
            self.forget(form, self.through)
            self.tally.refused(statement, found.message)
            return False
        expected = compare.answer(self.one, *units)
        if not compare.same(statement, expected, found):
            self.fail(statement, form, expected, found)
        self.done.append(f"{statement.literal()}  -- {form.protocol}{', ' + expected.code if expected.code else ''}")
        self.count(statement, form, expected)
        return True

    def forget(self, form, *connections):
        """Behind an error its Close was skipped."""
        for connection in connections if form.named else ():
            connection.ask(wire.close_statement("kept") + wire.SYNC)

    # ---- writes

    def script(self, script):
        """Statements, in a transaction or alone. What is refused inside of one fails it: back to the savepoint, if there is one."""
        self.done, saved = [], False
        for statement in script.statements:
            saved = True if statement.text.startswith("savepoint") else False if statement.text.startswith("release") else saved
            if self.both(statement) or self.through.status == "I":
                continue
            if not saved or self.through.status != "E":
                self.both(Statement("rollback", [], what="end"), compare.Form("simple"))
                break
            for connection in (self.through, self.one):
                compare.answer(connection, wire.query("rollback to s"))
        if self.through.status != "I":
            self.both(Statement("rollback", [], what="end"), compare.Form("simple"))
        self.check_tables(script.tables)

    def check_tables(self, tables):
        for name in tables:
            table = self.world.tables[name]
            if table.place == "view":
                continue
            shards, plain = self.databases.contents(name)
            if table.place == "reference":
                wrong = [rows for rows in shards if rows != plain]
            else:
                wrong = [rows for rows in [sorted(sum(shards, []))] if rows != plain]
            if wrong:
                told = "\n".join(f"  {one}" for one in self.done)
                lost, more = collections.Counter(plain) - collections.Counter(wrong[0]), collections.Counter(wrong[0]) - collections.Counter(plain)
                raise Different(f"world {self.seed}, {self.shards} shards: rows of {name}\n{told}\n  only on one server: {[*lost.elements()][:5]}\n  only behind Tessera: {[*more.elements()][:5]}")
            self.tally.count("tables", "equal")



def worlds(first, count, queries, servers, directory):
    """So many worlds, each by a number: a count of what came of their statements, and the differences. A world of more statements begins with those of one of fewer."""
    tally, differences = Tally(), []
    for seed in range(first, first + count):
        try:
            Run(seed, tally).go(servers, directory / f"world{seed}", queries)
        except Different as difference:
            differences.append(str(difference))
            print(f"DIFFERENT {difference}", flush=True)
    return tally, differences
