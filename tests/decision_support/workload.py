"""The workload on one plain server and behind Tessera: its questions, their answers, what Tessera does for them."""

import contextlib
import re
from pathlib import Path
from typing import NamedTuple

from harness import wire
from harness.tessera import Tessera, database_config
from oracle import compare

from decision_support.data import RULES, TABLES, Data

HERE = Path(__file__).resolve().parent
SCHEMA = (HERE / "schema.sql").read_text()
MOVED = re.compile(r"^tessera_moved_bytes_total\{.*\} (\d+)$", re.MULTILINE)


class Question(NamedTuple):
    title: str
    sql: str


def questions():
    parts = re.split(r"^-- \d+\. ", (HERE / "queries.sql").read_text(), flags=re.MULTILINE)[1:]
    return [Question(*part.strip().split("\n", 1)) for part in parts]


class Sides:
    """Connections (harness.wire) to Tessera and to the plain server, with the same rows behind both."""

    def __init__(self, proxy, through, one, counts):
        self.proxy, self.through, self.one, self.counts = proxy, through, one, counts

    def answers(self, sql, binary):
        """What each of them says to it: (Tessera, plain server)."""
        if binary:
            messages = wire.parse(sql) + wire.bind(result_formats=(1,)) + wire.describe_portal() + wire.execute() + wire.SYNC
        else:
            messages = wire.query(sql)
        return compare.answer(self.through, messages), compare.answer(self.one, messages)

    def plan(self, sql):
        return "\n".join(row[0] for row in wire.rows(self.through.ask(wire.query(f"explain (tessera) {sql}"))))

    def moved(self):
        """Bytes of rows that went from one shard to another since the start."""
        return sum(map(int, MOVED.findall(self.proxy.http("GET", "/metrics")[1])))


@contextlib.contextmanager
def running(servers, plain, new_database, directory, scale):
    """`servers`: the shards; `new_database(servers, schema)` makes a database on each."""
    name, single = new_database(servers, SCHEMA), new_database([plain], SCHEMA)
    rules = {rule: {"type": kind, "shards": [f"s{i}" for i in range(len(servers))]} for rule, kind in RULES.items()}
    with Tessera({"databases": {name: database_config(servers, name, rules=rules, tables=TABLES)}}, directory) as proxy:
        with proxy.connect(name) as sharded, plain.connect(single, user="app", password="app") as alone:
            counts = Data(scale).load([sharded, alone])
        with wire.connect(proxy.host, proxy.port, "app", name, "app", timeout=300) as through, wire.connect(plain.host, plain.port, "app", single, "app", timeout=300) as one:
            yield Sides(proxy, through, one, counts)
