"""Benchmarks of Tessera beside PgBouncer and HAProxy, and over four shards beside one server and postgres_fdw; called by
./dev bench (scripts/bench.sh). Every cell is measured in rounds, and in each round every contender has its turn.
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

from bench import BenchError, bulk, cells, contenders, idle, machine, micro, pgbench, report, server, shards, syscalls  # noqa: E402
from bench.contest import Contest, Failure  # noqa: E402
from bench.shards import contest as many_shards  # noqa: E402
from harness import places, postgres, tessera  # noqa: E402
from harness.certificates import CertificateAuthority  # noqa: E402
from harness.places import SetupError  # noqa: E402

GROUPS = ["idle", "select", "tls", "shapes", "reconnect", "bulk", "syscalls", "micro", "shards"]
APART = ["micro", "shards"]  # with results of their own


class Bench(Contest):
    """What the contenders have shown so far. `result` is what is written as JSON."""

    def __init__(self, options, everyone):
        super().__init__(options, everyone)
        self.result = {
            "settings": {"seconds": options.seconds, "rounds": options.rounds, "pool_size": options.pool_size, "pinned": options.pin,
                         "quick": options.quick, "scale": server.SCALE},
            "machine": machine.describe(everyone),
            "contenders": {contender.name: contender.title for contender in everyone},
            "idle": {}, "cells": [], "bulk": {}, "syscalls": [], "problems": self.problems,
        }

    @property
    def proxies(self):
        return [contender for contender in self.everyone if contender.name != "direct"]

    @property
    def cores(self):
        """Where pgbench runs: with --pin anywhere but on the proxy's core."""
        return self.options.other_cores if self.options.pin else None

    # The steps

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

    def bulk(self):
        self.progress(f"{server.ROWS} rows to one client")
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

    def run(self, groups):
        self.start_all()
        if "idle" in groups:
            self.idle()
        self.cells(groups)
        if "bulk" in groups:
            self.bulk()
        if "syscalls" in groups:
            self.syscalls()


def measure(options, groups, root):
    """Sets everything up, measures, takes everything down; the result even if a part of it failed."""
    postgres.remove_all(root)
    postgres_server = server.start(root)
    bench = None
    try:
        if options.pin:
            server.pin(postgres_server, options.other_cores)
        splits = contenders.splits(options.contenders)
        split = "".join(f", split over {count} databases" for count in splits)
        print(f"==> loading {server.ROWS} accounts, whole{split}", file=sys.stderr, flush=True)
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
    """The microbenchmarks come first, before there are servers. A part that cannot be measured is a problem of the whole, unless
    nothing else is wanted."""
    others = [group for group in options.only if group not in APART]
    problems, parts = [], {}

    def part(name, measure_part):
        print(f"==> {name}", file=sys.stderr, flush=True)
        try:
            parts[name] = measure_part()
            problems.extend(parts[name].get("problems", []))
        except BenchError as error:
            if options.only == [name]:
                raise
            problems.append(f"{name}: {error}")

    if "micro" in options.only:
        part("micro", lambda: micro.measure(0.05 if options.quick else 0.5, options.rounds))
    if "shards" in options.only or (others and any(name.startswith("tessera") for name in options.contenders)):
        hold_binary(place)
    if "shards" in options.only:
        part("shards", lambda: many_shards.measure(options, root))
    result = measure(options, others, root) if others else {"problems": []}
    result["problems"] += problems
    return {**result, **parts}


def hold_binary(place):
    """A copy of Tessera and of the floors beside it, so that a build in the meantime does not change what is measured."""
    binary, held = tessera.binary(), place / "tessera"
    for old in [held, *place.glob("floor_*")]:
        old.unlink(missing_ok=True)
    shutil.copy2(binary, held)
    for floor in binary.parent.glob("floor_*"):
        shutil.copy2(floor, place)
    os.environ["TESSERA_BINARY"] = str(held)


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
    parser.add_argument("--rows", type=at_least_one, help="of the many shards; default 1000000, with --quick 50000")
    parser.add_argument("--cells", type=names(shards.NAMES), default=shards.NAMES, metavar="CELLS",
                        help=f"of the many shards: some of {','.join(shards.NAMES)}")
    parser.add_argument("--document", action="store_true", help="write docs/benchmarks.md from the result")
    options = parser.parse_args()
    for name, quick, full in (("seconds", 2, 5), ("rounds", 1, 3), ("idle", 500, 2000), ("rows", 50_000, server.ROWS)):
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
        file = place / ("result.json" if "machine" in result else f"{'-'.join(options.only)}.json")
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
