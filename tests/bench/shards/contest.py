"""The many shards: everything is loaded, every answer compared, then everyone has his turns."""

import os
from statistics import median

from bench import BenchError, contest, machine, pgbench, process, server
from bench.cells import PROTOCOLS, Cell
from bench.shards import LOOKUPS, MEMORY, data, memory
from bench.shards import contenders as makers
from bench.shards.cells import CELLS, INTAKE_SHARE
from bench.shards.exchange import Session, copy_messages
from harness import postgres, wire
from harness.certificates import CertificateAuthority

SETTINGS = {"shared_buffers": "1GB"}
FDW_SETTINGS = {"enable_partitionwise_aggregate": "on", "enable_partitionwise_join": "on"}
# A turn is a few statements if they are quick.
MOST, ENOUGH_MS = 7, 400
LOOKUP_CLIENTS = 8


class ManyShards(contest.Contest):
    def __init__(self, options, everyone, postgres_server):
        super().__init__(options, everyone)
        self.server = postgres_server
        self.sessions = {}
        self.intake = []
        self.ours = next(contender for contender in everyone if contender.name == "tessera")
        self.result = {
            "settings": {"rounds": options.rounds, "rows": options.rows, "seconds": options.seconds, "quick": options.quick,
                         "load": [os.getloadavg()[0]]},
            "machine": machine.describe(everyone),
            "contenders": {contender.name: contender.title for contender in everyone},
            "cells": [], "lookups": [], "memory": None, "problems": self.problems,
        }

    def session(self, contender):
        if contender.name not in self.sessions:
            self.sessions[contender.name] = Session(contender)
        return self.sessions[contender.name]

    def attempt(self, contender, where, measure, into):
        """A connection on which something failed is not used again."""
        before = len(self.problems)
        super().attempt(contender, where, measure, into)
        if len(self.problems) > before and (session := self.sessions.pop(contender.name, None)):
            session.close()

    # The steps

    def run(self, chosen):
        self.start_all()
        if MEMORY in chosen and self.ours in self.everyone:
            self.memory()
        for cell in CELLS:
            if cell.key in chosen:
                self.cell(cell)
        if LOOKUPS in chosen:
            self.lookups()
        self.result["settings"]["load"].append(os.getloadavg()[0])

    def memory(self):
        self.progress("memory of Tessera")
        found = {}
        self.attempt(self.ours, "memory", lambda: memory.measure(self.ours, self.options.rows), found)
        for measured in found.get(self.ours.name, []):
            self.result["memory"] = measured
            for step in measured["steps"]:
                self.hold_to_bound(step["name"], step["peak"])

    def hold_to_bound(self, name, peak):
        if self.result["memory"] and (complaint := memory.complaint(peak, self.result["memory"]["start"])):
            self.problem(self.ours, name, complaint)

    def cell(self, cell):
        self.progress(cell.name)
        answers, rounds = {}, {}
        for contender in self.everyone:
            self.attempt(contender, f"{cell.name}, the answer", lambda: self.answer(contender, cell), answers)
        same = self.agreeing(cell, {name: found[0] for name, found in answers.items()})
        for contender in self.in_turns(same):
            self.attempt(contender, cell.name, lambda: self.turn(contender, cell, answers[contender.name][0].tag), rounds)
        rows = {found[0].rows for found in answers.values()}  # of COPY in: those that are there afterwards
        self.result["cells"].append({"key": cell.key, "name": cell.name, "sql": cell.sql, "streams": cell.streams,
                                     "rows": max(rows, default=None), "way": self.way(cell), "rounds": rounds})
        if peaks := [one["peak"] for one in rounds.get(self.ours.name, [])]:
            self.hold_to_bound(cell.name, max(peaks))

    def way(self, cell):
        """Tessera's, in a word."""
        if cell.sql.startswith("copy"):
            return "copy"
        found = {}
        self.attempt(self.ours, f"{cell.name}, its way", lambda: self.session(self.ours).words(f"explain (tessera) {cell.sql}")[0], found)
        return found.get(self.ours.name, [None])[0]

    def answer(self, contender, cell):
        session = self.session(contender)
        if not cell.copies_in:
            return session.answer(cell.sql, cell.ordered)
        self.copy_in(session, cell)
        return session.answer("select * from intake")._replace(tag=f"COPY {self.options.rows // INTAKE_SHARE}\0".encode())

    def agreeing(self, cell, answers):
        """Those whose answers are as the first one's, the plain server's."""
        same = []
        for contender in self.everyone:
            if contender.name in answers:
                if answers[contender.name] == next(iter(answers.values())):
                    same.append(contender)
                else:
                    self.problem(contender, cell.name, "another answer than the plain server's")
        return same

    def turn(self, contender, cell, tag):
        session = self.session(contender)
        process.forget_peak(session.pid)
        times, used = [], process.Cpu(0, 0, 0)
        while len(times) < (1 if self.options.quick else MOST) and sum(last for _, last in times) < ENOUGH_MS:
            before = process.cpu(session.pid)
            times.append(self.copy_in(session, cell) if cell.copies_in else self.query(session, cell, tag))
            used = used + (process.cpu(session.pid) - before)
        # Ticks are coarse: how the time splits is told for all rounds together.
        result = {"statements": len(times), "last_ms": median(last for _, last in times), "cpu_ms": used.total / len(times) / 1000,
                  "user_us": used.user, "system_us": used.system, "peak": process.peak_bytes(session.pid)}
        firsts = [first for first, _ in times if first is not None]
        return result | ({"first_ms": median(firsts)} if firsts else {})

    def query(self, session, cell, tag):
        read = session.run(cell.sql)
        if tag not in read.tail:
            raise BenchError(f"ends with {read.tail!r} instead of {tag!r}")
        return read.first_row_ms, read.last_ms

    def copy_in(self, session, cell):
        if not self.intake:
            self.intake = self.rows_to_copy()
        data.empty_intake(self.server)
        took, tag = session.copy_in(cell.sql, self.intake)
        if tag != f"COPY {self.options.rows // INTAKE_SHARE}\0".encode():
            raise BenchError(f"ends with {tag!r}")
        return None, took

    def rows_to_copy(self):
        sql = f"copy (select * from pgbench_accounts where aid <= {self.options.rows // INTAKE_SHARE}) to stdout"
        with self.everyone[0].connect() as connection:
            return copy_messages(b"".join(reply.body for reply in connection.ask(wire.query(sql)) if reply.type == "d"))

    def lookups(self):
        for protocol in PROTOCOLS:
            cell = Cell(f"{protocol}, {LOOKUP_CLIENTS} clients", LOOKUPS, protocol, LOOKUP_CLIENTS, rows=self.options.rows)
            self.progress(f"look-up by key, {cell.name}")
            seconds, rounds = 1 if self.options.quick else self.options.seconds, {}
            for contender in self.in_turns([one for one in self.everyone if not one.why_not(cell)]):
                self.attempt(contender, cell.name, lambda: pgbench.measure(contender, cell, seconds), rounds)
            self.result["lookups"].append({"name": cell.name, "rounds": rounds})

    def close(self):
        for session in self.sessions.values():
            session.close()
        self.stop_all()


def measure(options, root):
    """Sets everything up, measures, takes everything down."""
    postgres.remove_all(root)
    postgres_server = server.start(root, **SETTINGS)
    coordinator = None
    try:
        coordinator = server.start(root, "coordinator", **FDW_SETTINGS)
        if options.pin:
            server.pin(postgres_server, options.other_cores)
            server.pin(coordinator, options.other_cores)
        data.load(postgres_server, options.rows)
        data.make_coordinator(coordinator, postgres_server)
        certificate = CertificateAuthority(root / "tls").issue("tessera")
        everyone = makers.make(root / "proxies", postgres_server, coordinator, certificate, options.pool_size)
        shards = ManyShards(options, everyone, postgres_server)
        try:
            shards.run(options.cells)
        finally:
            shards.close()
        return shards.result
    finally:
        postgres_server.destroy()
        if coordinator:
            coordinator.destroy()
