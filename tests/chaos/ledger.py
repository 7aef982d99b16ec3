"""Every row that a client tried to write, and what it was told: acknowledged, failed or unknown.

At the end the shards are asked directly: an acknowledged row is there, a failed one is not, none is there twice or on a foreign
shard, and of a transaction all rows are there or none.
"""

import collections
import itertools
import threading

ACKNOWLEDGED, FAILED, UNKNOWN = "acknowledged", "failed", "unknown"
KEYS_OF_A_SHARD = 1_000_000_000
FIRST_WRITE = 1_000_000  # below are the rows that are only read


class Group:
    """Rows that must appear together."""

    def __init__(self, table, shard, ids, story):
        self.table, self.shard, self.ids, self.story = table, shard, ids, story
        self.outcome = UNKNOWN  # until somebody knows better: what is not settled at the end never was


class Ledger:
    def __init__(self):
        self._numbers = itertools.count(FIRST_WRITE)
        self._lock = threading.Lock()
        self.groups = []

    def open(self, table, shard, count, story):
        """`story`: how it was written, for the report."""
        ids = [shard * KEYS_OF_A_SHARD + next(self._numbers) for _ in range(count)]
        group = Group(table, shard, ids, story)
        with self._lock:
            self.groups.append(group)
        return group

    def counts(self):
        with self._lock:
            return collections.Counter(group.outcome for group in self.groups)

    def compare(self, found):
        """`found[table]`: (shard, id) of every row. Returns what is wrong, in words."""
        problems, places = [], {table: collections.defaultdict(list) for table in found}
        for table, rows in found.items():
            for shard, row in rows:
                places[table][row].append(shard)
        with self._lock:
            groups = list(self.groups)
        for group in groups:
            problems += self._judge(group, [places[group.table].pop(row, []) for row in group.ids])
        strangers = sum(len(rows) for rows in places.values())
        if strangers:
            problems.append(f"{strangers} rows that nobody wrote")
        return problems

    @staticmethod
    def _judge(group, present):
        where = f"{group.table} {group.ids[0]} ({group.story})"
        if any(len(shards) > 1 for shards in present):
            yield f"{where}: written twice"
        if any(shards and shards[0] != group.shard for shards in present):
            yield f"{where}: on a foreign shard"
        there = sum(bool(shards) for shards in present)
        if 0 < there < len(present):
            yield f"{where}: {there} of {len(present)} rows of one transaction"
        if group.outcome == ACKNOWLEDGED and there == 0:
            yield f"{where}: was acknowledged and is missing"
        if group.outcome == FAILED and there:
            yield f"{where}: was reported as failed and is there"
