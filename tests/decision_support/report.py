"""./dev decision-support [--scale S]: asks the 22 questions on one plain server and through Tessera on four shards, and writes docs/decision-support.md. Exits with 1 if an answer differs."""

import argparse
import itertools
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from decision_support import workload  # noqa: E402
from harness import places, postgres  # noqa: E402

PAGE = places.ROOT / "docs" / "decision-support.md"
HEAD = """# A decision-support workload

Written by `./dev decision-support`: a parcel carrier's eight tables (`tests/decision_support`), 22 questions, four shards. `consignments` and `legs`, the large ones, are co-located by `consignment_id`, `senders` and `claims` by
`sender_id`, `vehicles` are spread by `plate`; `regions`, `depots` and `services` are reference tables; `late` and `depot_months` are views. Every answer was that of one plain server, to the byte, as text and in binary.

*Moved* is what went from one shard to another for the answer (`tessera_moved_bytes_total`), in two digits: which shard is the merge node, and need not move its own rows, changes from one statement to the next.

| table | rows |
|---|---|
"""


class Servers:
    """Four shards and a plain server of their own."""

    def __init__(self):
        self.root = places.data_root(".test")
        (self.root / "servers").mkdir(exist_ok=True)
        postgres.prepare(self.root)
        self.all = [postgres.PostgresServer(self.root, f"{os.getpid()}-d{i}") for i in range(5)]
        self.names = itertools.count(1)

    def __enter__(self):
        for server in self.all:
            server.start()
            with server.connect() as connection:
                connection.execute("create role app login password 'app'")
        return self

    def __exit__(self, *_):
        for server in self.all:
            server.destroy()

    def new_database(self, servers, schema):
        name = f"carrier_{next(self.names)}"
        for server in servers:
            with server.connect() as connection:
                connection.execute(f"create database {name} owner app")
            with server.connect(name, user="app", password="app") as connection:
                connection.execute(schema)
        return name


def amount(count):
    """Bytes, two digits of them."""
    if count == 0:
        return "nothing"
    for unit, name in ((1_000_000, "MB"), (1_000, "kB"), (1, "bytes")):
        if count >= unit:
            return f"{float(f'{count / unit:.2g}'):g} {name}"
    return ""


def entry(number, question, sides):
    """The question's part of the page, and whether all answers are right."""
    before = sides.moved()
    through, one = sides.answers(question.sql, False)
    moved = sides.moved() - before
    binary = sides.answers(question.sql, True)
    right = through == one and binary[0] == binary[1]
    print(f"{number:2d}  {'equal' if right else 'DIFFERENT'}  {len(one.rows):5d} rows  {amount(moved):>8s} moved  {question.title}", flush=True)
    if not right:
        print(f"    one server: {one.what()[:500]}\n    Tessera:    {through.what()[:500]}", flush=True)
    text = f"\n## {number}. {question.title}\n\nRows: {len(one.rows)}. Moved: {amount(moved)}.\n\n```sql\n{question.sql}\n```\n\n```\n{sides.plan(question.sql)}\n```\n"
    return text, right


def main():
    parser = argparse.ArgumentParser(prog="./dev decision-support", description=__doc__)
    parser.add_argument("--scale", type=float, default=0.05, help="1 has 40,000 consignments (default: 0.05)")
    options = parser.parse_args()
    with Servers() as servers:
        directory = servers.root / f"{os.getpid()}-decision"
        try:
            with workload.running(servers.all[:4], servers.all[4], servers.new_database, directory, options.scale) as sides:
                page = HEAD + "".join(f"| `{table}` | {count:,} |\n" for table, count in sides.counts.items())
                all_right = True
                for number, question in enumerate(workload.questions(), 1):
                    text, right = entry(number, question, sides)
                    page, all_right = page + text, all_right and right
        finally:
            places.remove_tree(directory)
    if all_right:
        PAGE.write_text(page)
        print(f"wrote {PAGE.relative_to(places.ROOT)}")
    return 0 if all_right else 1


if __name__ == "__main__":
    sys.exit(main())
