"""./dev chaos: faults under load, a storm of reloads, the race of cancel requests, the oracle; a table at the end, exit 1 on a violated guarantee.

  --short          each fault twice, 300 reloads, 5,000 cancel races, 4 worlds: about four minutes, for CI
  --minutes N      faults for that long (10)
  --rounds N       cancel races (100,000)
  --reloads N      reloads to another shape (1,000)
  --worlds N       random schemas of the oracle, each with 200 queries (400)
  --seed N         repeat a run: the same faults in the same order, the same choices of each client
  --only WORDS     faults, reloads, cancel, oracle, or names of faults, separated by commas
  --list           the names of the faults
"""

import argparse
import collections
import os
import random
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "integration"))

from chaos import cancel_race, faults, shapes  # noqa: E402
from chaos.arena import MB, Arena, Violation  # noqa: E402
from chaos.load import NOBODY, percentile  # noqa: E402
from chaos.reload_storm import Storm  # noqa: E402
from harness import places, postgres  # noqa: E402
from harness.tessera import Tessera, TesseraFailed, database_config  # noqa: E402
from oracle import run as oracle  # noqa: E402

LEAST_LOAD = 100  # statements/s before a fault, or the round does not count
RACES = 8  # beside each other
SHORT_TURNS, SHORT_RELOADS, SHORT_ROUNDS, SHORT_WORLDS = 2, 300, 5000, 4
QUERIES = 200  # of a world
STAGES = ("faults", "reloads", "cancel", "oracle")


class Tally:
    """What is printed at the end."""

    def __init__(self):
        self.violations = []
        self.by_fault = collections.defaultdict(collections.Counter)
        self.worst = collections.defaultdict(float)

    def violated(self, where, what):
        self.violations.append(f"{where}: {what}")
        print(f"  VIOLATED {where}: {what}", flush=True)


class Round:
    """Load, fault, quiet, checks."""

    def __init__(self, arena, tally, number, fault, rng, seconds, last_of_first):
        self.last_of_first = last_of_first  # the round after which every fault has been used once
        self.arena, self.tally, self.number, self.fault, self.rng, self.seconds = arena, tally, number, fault, rng, seconds
        self.crowd = arena.crowd

    def run(self):
        """False: there was too little load."""
        rate, before = self._load()
        if rate < LEAST_LOAD:
            print(f"  {rate:.0f} statements/s: the round does not count", flush=True)
            self.tally.by_fault[self.fault.name]["too little load"] += 1
            return False
        statements, refused = self.crowd.total("statements"), self.crowd.total("refused")
        self.crowd.blame = self.fault.blame()
        self.crowd.start_measuring()
        started, words = time.monotonic(), ""
        try:
            words = self.fault.strike(self.arena, self.rng, self.seconds)
            during_rate = (self.crowd.total("statements") - statements) / (time.monotonic() - started)
            during = self.crowd.times(but=self.fault.suffers())
            self.arena.wait_until_served()
        except Violation as problem:
            self.tally.violated(self.fault.name, problem)
            during_rate, during = 0, []
        recovered = time.monotonic()
        self._settle()
        self._report(rate, during_rate, before, during, self.crowd.total("refused") - refused, words, time.monotonic() - recovered)
        return True

    def _load(self):
        """Statements each second, and the times of the shards that the fault will not touch."""
        self.crowd.start_measuring()
        statements, started = self.crowd.total("statements"), time.monotonic()
        time.sleep(max(1.0, self.seconds / 2))
        rate = (self.crowd.total("statements") - statements) / (time.monotonic() - started)
        return rate, self.crowd.times(but=self.fault.suffers())

    def _settle(self):
        stuck = self.crowd.pause()
        if stuck:
            self.tally.violated(self.fault.name, f"stuck: {', '.join(stuck)}")
        self.crowd.blame, self.crowd.cancelled = NOBODY, frozenset()
        for check in (self.arena.check_quiet, self.arena.check_memory, self.arena.proxy.check_log, self._alive):
            try:
                check()
            except (Violation, TesseraFailed, OSError) as problem:
                self.tally.violated(self.fault.name, problem)
        if self.number == self.last_of_first:  # all has been used once: from here on memory should not grow
            self.arena.settled_memory = self.arena.proxy.resident_bytes()
        for problem in self.crowd.problems():
            self.tally.violated(self.fault.name, problem)
        for client in self.crowd.clients:
            client.problems = []
        self.crowd.resume()

    def _alive(self):
        if not self.arena.proxy.is_alive():
            code = self.arena.proxy.process.returncode
            self.arena.proxy.start()
            raise Violation(f"Tessera ended by itself with {code}:\n{self.arena.proxy.log_tail(5)}")

    def _report(self, rate, during_rate, before, during, refused, words, settled):
        mine = self.tally.by_fault[self.fault.name]
        mine.update(rounds=1, refused=refused, load=int(rate), during=int(during_rate))
        text = ""
        if self.fault.measures and before and during:
            was, is_now = percentile(before, 0.99) * 1000, percentile(during, 0.99) * 1000
            text = f"  others' p99 {was:.1f} -> {is_now:.1f} ms"
            self.tally.worst[self.fault.name] = max(self.tally.worst[self.fault.name], is_now / was)
        memory = self.arena.proxy.resident_bytes() / MB
        print(f"{self.number + 1:4d}  {self.fault.name:22s} {rate:5.0f}/s -> {during_rate:5.0f}/s  {refused:4d} refused  quiet in {settled:4.1f} s  {memory:4.0f} MB{text}  [{words}]", flush=True)


def run_faults(options, tally, wanted):
    chosen = [fault for fault in faults.ALL if "faults" in wanted or fault.name in wanted]
    rng = random.Random(options.seed)
    keep = places.ROOT / ".cache" / f"chaos-{options.seed}.log"
    keep.parent.mkdir(exist_ok=True)
    print(f"==> faults under load, seed {options.seed}", flush=True)
    with Arena(options.seed, keep) as arena:
        arena.crowd.start()
        until = time.monotonic() + options.minutes * 60
        number, idle = 0, 0
        while (number < SHORT_TURNS * len(chosen) if options.short else time.monotonic() < until) and len(tally.violations) < 25 and idle < 5:
            if number % len(chosen) == 0:
                order = rng.sample(chosen, len(chosen))
            fault = order[number % len(chosen)](rng)
            counted = Round(arena, tally, number, fault, rng, 1.2 if options.short else rng.uniform(1, 4), len(chosen) - 1).run()
            number, idle = (number + 1, 0) if counted else (number, idle + 1)
        if idle:
            tally.violated("load", f"never {LEAST_LOAD} statements/s: the machine is too busy to show anything")
        _end_faults(arena, tally)


def _end_faults(arena, tally):
    for name in arena.crowd.stop():
        tally.violated("the end", f"{name} is stuck")
    for problem in arena.crowd.problems():
        tally.violated("the end", problem)
    for problem in arena.compare()[:20]:
        tally.violated("the truth on the shards", problem)
    try:
        arena.proxy.stop()
    except TesseraFailed as problem:
        tally.violated("the end", problem)
    print_table(arena, tally)


def print_table(arena, tally):
    print("\nfault                   rounds  load/s  during/s  refused  worst p99 of others")
    for name, mine in tally.by_fault.items():
        count = max(1, mine["rounds"])
        ratio = f"x {tally.worst[name]:.2f}" if name in tally.worst else "-"
        print(f"{name:22s} {mine['rounds']:7d} {mine['load'] / count:7.0f} {mine['during'] / count:9.0f} {mine['refused']:8d}  {ratio}")
    codes = sum((client.codes for client in arena.crowd.clients), collections.Counter())
    writes = arena.ledger.counts()
    rows = [("statements, each answer checked", arena.crowd.total("statements")), ("of them over several shards", arena.crowd.total("scatters")),
            ("refused with an error", arena.crowd.total("refused")), ("  by SQLSTATE", ", ".join(f"{code} {count}" for code, count in codes.most_common())),
            ("logins of the clients", arena.crowd.total("reconnects")), *((f"writes {outcome}", writes[outcome]) for outcome in ("acknowledged", "failed", "unknown"))]
    print()
    for name, value in rows:
        print(f"{name:34s} {value}")


def own_server(name, schema, count):
    """Servers and a database of their own for a stage: (root, servers, destroy)."""
    root = places.data_root(".test")
    (root / "servers").mkdir(exist_ok=True)
    postgres.prepare(root)
    servers = [postgres.PostgresServer(root, f"{os.getpid()}-s{number}") for number in range(count)]
    for server in servers:
        server.start()
        with server.connect() as connection:
            connection.execute("create role app login password 'app'")
            connection.execute(f"create database {name} owner app")
        if schema:
            with server.connect(name, user="app", password="app") as connection:
                connection.execute(schema)
    return root, servers


def staged(tally, name, database, schema, count, config_of, work):
    """Runs `work(proxy, servers)` with a Tessera over servers of its own; returns what it returned."""
    root, servers = own_server(database, schema, count)
    proxy = Tessera(config_of(servers), root / f"{os.getpid()}-{name}")
    try:
        proxy.start()
        done = work(proxy, servers)
        proxy.stop()
        return done
    except (AssertionError, TesseraFailed, OSError) as problem:
        tally.violated(name, problem)
    finally:
        proxy.kill()
        (places.ROOT / ".cache" / f"chaos-{name}.log").write_text(proxy.log())
        for server in servers:
            server.destroy()
        places.remove_tree(proxy.directory)
    return None


def run_reloads(options, tally):
    print(f"\n==> {options.reloads} reloads under load, each to another shape, seed {options.seed}", flush=True)

    def work(proxy, servers):
        storm = Storm(proxy, shapes.Shapes(servers, "shape"), options.seed)
        for problem in storm.run(options.reloads)[:10]:
            tally.violated("reloads", problem)
        print(f"{storm.good} taken, {storm.bad} refused, {storm.answers} answers checked")

    staged(tally, "reloads", "shape", shapes.SCHEMA, 3, lambda servers: shapes.Shapes(servers, "shape").all()[0].config, work)


def run_cancel(options, tally):
    print(f"\n==> {options.rounds} races of a cancel request against the end of its statement, seed {options.seed}", flush=True)

    def config(servers):
        # Each name has a pool of its own.
        return {"databases": {name: database_config(servers, "race", pool={"size": 1, "checkout_timeout": "20s"}) for name in lanes}}

    lanes = [f"race{number}" for number in range(RACES)]
    done = staged(tally, "cancel", "race", "", 1, config, lambda proxy, _: cancel_race.races(proxy, lanes, options.rounds, options.seed))
    if done:
        print(f"{done[0]} rounds, {done[1]} cancels met their statement, none another")


def run_oracle(options, tally):
    print(f"\n==> {options.worlds} worlds of the oracle, the first is {options.seed}", flush=True)
    root, servers = own_server("oracle", "", 2)
    directory = root / f"{os.getpid()}-oracle"
    try:
        found, differences = oracle.worlds(options.seed, options.worlds, QUERIES, servers, directory)
        print(found)
        for difference in differences:
            tally.violated("oracle", difference)
        if found.share("select") >= 0.02:
            tally.violated("oracle", f"{found.share('select'):.1%} of the valid queries were refused")
    except (TesseraFailed, OSError) as problem:
        tally.violated("oracle", problem)
    finally:
        for server in servers:
            server.destroy()
        places.remove_tree(directory)


def main():
    parser = argparse.ArgumentParser(prog="./dev chaos", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, usage="./dev chaos [options]")
    parser.add_argument("--short", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--minutes", type=float, default=10, help=argparse.SUPPRESS)
    parser.add_argument("--rounds", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--reloads", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--worlds", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6), help=argparse.SUPPRESS)
    parser.add_argument("--only", default=",".join(STAGES), help=argparse.SUPPRESS)
    parser.add_argument("--list", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    names = [fault.name for fault in faults.ALL]
    if options.list:
        print("\n".join(names))
        return 0
    options.rounds = options.rounds or (SHORT_ROUNDS if options.short else 100_000)
    options.reloads = options.reloads or (SHORT_RELOADS if options.short else 1000)
    options.worlds = options.worlds or (SHORT_WORLDS if options.short else 400)
    wanted = {word.strip() for word in options.only.split(",")}
    if unknown := wanted - {*STAGES, *names}:
        parser.error(f"no stage or fault {', '.join(sorted(unknown))}; faults: {', '.join(names)}")
    tally, started = Tally(), time.monotonic()
    if wanted - {"reloads", "cancel", "oracle"}:
        run_faults(options, tally, wanted)
    if "reloads" in wanted:
        run_reloads(options, tally)
    if "cancel" in wanted:
        run_cancel(options, tally)
    if "oracle" in wanted:
        run_oracle(options, tally)
    print(f"\n{len(tally.violations)} guarantees violated in {time.monotonic() - started:.0f} s, seed {options.seed}")
    for violation in tally.violations:
        print(f"  {violation}")
    return 1 if tally.violations else 0


if __name__ == "__main__":
    sys.exit(main())
