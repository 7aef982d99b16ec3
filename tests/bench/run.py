"""Benchmarks of Tessera beside PgBouncer and HAProxy; called by ./dev bench (scripts/bench.sh).

Every cell is measured in rounds, and in each round every contender has its turn, so that a machine that drifts drifts for all.
The result goes to .bench/result.json, tables to standard output.
"""

import argparse
import fcntl
import json
import os
import resource
import shutil
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench import BenchError, bulk, cells, contenders, idle, machine, micro, pgbench, process, report, server, syscalls  # noqa: E402
from harness import places, postgres, tessera, wire  # noqa: E402
from harness.certificates import CertificateAuthority  # noqa: E402
from harness.places import SetupError  # noqa: E402

GROUPS = ["idle", "select", "tls", "shapes", "reconnect", "bulk", "syscalls", "micro"]
CHECKED_KEYS = range(1, 41)
Failure = (BenchError, SetupError, tessera.TesseraFailed, OSError, wire.WireError)


class Bench:
    """The contenders, what they have shown so far, and what went wrong. `result` is what is written as JSON."""

    def __init__(self, options, everyone):
        self.options = options
        self.everyone = everyone
        self.proxies = [contender for contender in everyone if contender.name != "direct"]
        self.problems = []
        self.result = {
            "settings": {"seconds": options.seconds, "rounds": options.rounds, "pool_size": options.pool_size, "pinned": options.pin,
                         "quick": options.quick, "scale": server.SCALE},
            "machine": machine.describe(everyone),
            "contenders": {contender.name: contender.title for contender in everyone},
            "idle": {}, "cells": [], "bulk": {}, "syscalls": [], "problems": self.problems,
        }

    @property
    def cores(self):
        """Where pgbench runs: with --pin anywhere but on the proxy's core."""
        return self.options.other_cores if self.options.pin else None

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

    # The steps

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
                if contender in self.proxies:
                    self.proxies.remove(contender)
        if not self.everyone:
            raise BenchError("there is nobody left to measure")

    def idle(self):
        """Fresh processes for each measurement, and once more for what follows."""
        for kind, tls in (("plain", False), ("TLS", True)):
            rows = self.result["idle"].setdefault(kind, {})
            for contender in self.proxies:
                if tls and not contender.has_tls:
                    continue
                connections = min(contender.idle_connections, self.options.idle)
                self.progress(f"{connections} idle connections, {kind}, {contender.title}")
                self.restart(contender)
                self.attempt(contender, f"idle {kind}", lambda: idle.measure(contender, connections, tls), rows)
        for contender in self.proxies:
            self.restart(contender)

    def restart(self, contender):
        try:
            contender.stop()
            self.start(contender)
        except Failure as error:
            self.problem(contender, "restart", error)

    def warm_up(self):
        """Fills the pools. pgbench's time contains its logins, which here take most of a second."""
        for cell in cells.WARM_UP:
            for contender in self.proxies:
                if not contender.why_not(cell):
                    self.attempt(contender, cell.name, lambda: pgbench.measure(contender, cell, 3, self.cores), {})

    def cells(self, groups):
        wanted = [cell for cell in cells.CELLS if cell.group in groups]
        if wanted:
            self.warm_up()
        for number, cell in enumerate(wanted, 1):
            self.progress(f"{number}/{len(wanted)} {cell.name}")
            skipped = {contender.name: why for contender in self.everyone if (why := contender.why_not(cell))}
            rounds = {}
            self.result["cells"].append({"name": cell.name, "group": cell.group, "skipped": skipped, "rounds": rounds})
            for contender in self.in_turns(self.everyone):
                if contender.name not in skipped:
                    self.attempt(contender, cell.name, lambda: pgbench.measure(contender, cell, self.options.seconds, self.cores), rounds)

    def in_turns(self, some):
        """Each contender once a round; each round begins with another one."""
        for number in range(self.options.rounds):
            at = number % len(some)
            yield from some[at:] + some[:at]

    def bulk(self):
        self.progress(f"{bulk.ROWS} rows to one client")
        for contender in self.in_turns(self.everyone):
            self.attempt(contender, "bulk", lambda: bulk.measure(contender), self.result["bulk"])

    def syscalls(self):
        for cell in cells.TRACED:
            self.progress(f"system calls, {cell.name}")
            rounds = {}
            skipped = {contender.name: why for contender in self.proxies if (why := contender.why_not(cell))}
            self.result["syscalls"].append({"name": cell.name, "skipped": skipped, "rounds": rounds})
            for contender in self.proxies:
                if contender.name not in skipped:
                    self.attempt(contender, f"strace, {cell.name}", lambda: syscalls.measure(contender, cell, min(3, self.options.seconds)),
                                 rounds)

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

    def run(self, groups):
        self.start_all()
        if "idle" in groups:
            self.idle()
        self.cells(groups)
        if "bulk" in groups:
            self.bulk()
        if "syscalls" in groups:
            self.syscalls()


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


def measure(options, groups, root):
    """Sets everything up, measures, takes everything down; the result even if a part of it failed."""
    postgres.remove_all(root)
    postgres_server = server.start(root)
    bench = None
    try:
        if options.pin:
            pin_server(postgres_server, options.other_cores)
        splits = contenders.splits(options.contenders)
        split = "".join(f", split over {count} databases" for count in splits)
        print(f"==> loading {bulk.ROWS} accounts, whole{split}", file=sys.stderr, flush=True)
        server.load(postgres_server, splits)
        certificate = CertificateAuthority(root / "tls").issue("tessera")
        everyone = contenders.make(options.contenders, root / "proxies", postgres_server, certificate, options.pool_size)
        bench = Bench(options, everyone)
        try:
            bench.run(groups)
        finally:
            bench.stop_all()
    finally:
        postgres_server.destroy()
    return bench.result


def measure_all(options, place, root):
    """The microbenchmarks come first, before there are servers. Nothing else may be wanted."""
    others = [group for group in options.only if group != "micro"]
    problem, steps = None, {}
    if "micro" in options.only:
        print("==> microbenchmarks", file=sys.stderr, flush=True)
        try:
            steps = {"micro": micro.measure(0.05 if options.quick else 0.5, options.rounds)}
        except BenchError as error:
            if not others:
                raise
            problem = f"microbenchmarks: {error}"
    if not others:
        return {**steps, "problems": []}
    if any(name.startswith("tessera") for name in options.contenders):
        hold_binary(place)
    result = measure(options, others, root)
    if problem:
        result["problems"].append(problem)
    return {**result, **steps}


def hold_binary(place):
    """A copy of Tessera and of the floors beside it, so that a build in the meantime does not change what is measured."""
    binary, held = tessera.binary(), place / "tessera"
    for old in [held, *place.glob("floor_*")]:
        old.unlink(missing_ok=True)
    shutil.copy2(binary, held)
    for floor in binary.parent.glob("floor_*"):
        shutil.copy2(floor, place)
    os.environ["TESSERA_BINARY"] = str(held)


def pin_server(postgres_server, cores):
    postmaster = int((postgres_server.data / "postmaster.pid").read_text().split()[0])
    process.pin(postmaster, cores)


def names(known):
    def split(text):
        chosen = text.split(",")
        for name in chosen:
            if name not in known:
                raise argparse.ArgumentTypeError(f"no '{name}': {', '.join(known)}")
        return [name for name in known if name in chosen]
    return split


def at_least_one(text):
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("must be 1 or more")
    return number


def parse_options():
    parser = argparse.ArgumentParser(prog="./dev bench", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one round of 2 seconds a cell, 500 idle connections: does it all work?")
    parser.add_argument("--only", type=names(GROUPS), default=GROUPS, metavar="GROUPS", help=f"of {','.join(GROUPS)}")
    parser.add_argument("--contenders", type=names(contenders.NAMES), default=contenders.USUAL, metavar="NAMES",
                        help=f"of {','.join(contenders.NAMES)}; without this {','.join(contenders.USUAL)}")
    parser.add_argument("--seconds", type=at_least_one, help="of each pgbench run; default 5")
    parser.add_argument("--rounds", type=at_least_one, help="default 3")
    parser.add_argument("--idle", type=at_least_one, help="idle connections; default 2000")
    parser.add_argument("--pool-size", type=at_least_one, default=20, help="server connections of each pool; default 20")
    parser.add_argument("--pin", action="store_true", help="the proxy on one core, everything else on the others")
    parser.add_argument("--document", action="store_true", help="write docs/benchmarks.md from the result")
    options = parser.parse_args()
    for name, quick, full in (("seconds", 2, 5), ("rounds", 1, 3), ("idle", 500, 2000)):
        if getattr(options, name) is None:
            setattr(options, name, quick if options.quick else full)
    cores = sorted(os.sched_getaffinity(0))
    if options.pin and len(cores) < 2:
        parser.error("--pin needs two cores")
    options.proxy_core, options.other_cores = cores[0], cores[1:]
    return options


def main():
    options = parse_options()
    # Thousands of connections, here and in the proxies, which inherit this.
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    root = places.data_root(".bench")
    place = places.ROOT / ".bench"
    place.mkdir(exist_ok=True)
    with (place / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise SetupError("another ./dev bench is at work here") from None
        result = measure_all(options, place, root)
        file = place / ("result.json" if "machine" in result else "micro.json")
        file.write_text(json.dumps(result, indent=1) + "\n")
    print(report.tables(result))
    print(f"\nevery round: .bench/{file.name}")
    if options.document:
        report.write_document(result)
    return 1 if result["problems"] else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (SetupError, BenchError) as problem:
        print(f"error: {problem}", file=sys.stderr)
        sys.exit(2)
