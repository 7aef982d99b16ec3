"""Every rule, on random keys of every type, gives the shard for which its own SQL predicate is true, as evaluated by
PostgreSQL; and the predicates of all other shards are not true for that key.

A million keys per type and rule (crc32: see below), in parts that run side by side; TESSERA_KEYS for another number. The keys
are others in every run; TESSERA_SEED repeats those of a run that failed.
"""

import os
import re
import subprocess
from concurrent.futures import ThreadPoolExecutor

import pytest
import sharding_keys as sharding
from sharding_keys import SEED, SHARDS, Keys, literals

KEYS = int(os.environ.get("TESSERA_KEYS", "1000000"))
# PostgreSQL computes CRC-32 by a recursive query, 30,000 to 60,000 keys a second.
CRC32_KEYS = max(1000, KEYS // 4)
PARTS = os.cpu_count() or 1
# What the predicates of one table compute again and again; the server is let do it once for a key.
COMMON = re.compile(r"\w*hash\w*\([^,]*?, 0\)|\('x' \|\| substr\(md5\(.*?::text\), 1, 16\)\)::bit\(64\)::bigint"
                    r"|lower\(\(.*? COLLATE \"C\"\)\)|\(WITH RECURSIVE .*? LIMIT 1\)|\"k\d?\"::text")


def share(keys, part):
    """A query for a share of the keys as the side program reads them."""
    count = keys.limit // PARTS
    queries = [keys.random(part * count + 1, (part + 1) * count)]
    if part == 0:
        queries += keys.extremes
    forms = ", ".join(f"{name}, encode({key.send}({name}), 'hex')" for name, key in keys.columns)
    return f"SELECT {forms} FROM ({' UNION ALL '.join(queries)}) z"


def place(judge, config, keys, part, rules):
    """Table placed_<part>: a share of the keys, and for each rule the shards that have them."""
    columns = [f"{name} {key.name}" for name, key in keys.columns]
    with judge.connect() as connection:
        connection.execute(f"DROP TABLE IF EXISTS placed_{part}")
        connection.execute(f"CREATE UNLOGGED TABLE placed_{part} ({', '.join([*columns, *(f'm{i} smallint' for i in range(len(rules)))])})")
    psql = ["psql", "-X", "-q", "-v", "ON_ERROR_STOP=1", "-c"]
    steps = [[*psql, f"COPY ({share(keys, part)}) TO STDOUT"],
             [sharding.TOOL, config, "keys", *(f"k{i}" for i in range(len(rules)))],
             [*psql, f"COPY placed_{part} FROM STDIN"]]
    running, source = [], subprocess.DEVNULL
    for number, step in enumerate(steps):
        process = subprocess.Popen(step, env=judge.environment, stdin=source, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        if number > 0:
            source.close()
        source = process.stdout
        running.append(process)
    running[-1].communicate()
    for process in (running[1], running[0], running[2]):  # if the side program fails, so do the others
        assert process.wait() == 0, process.stderr.read().decode()


def held_by(shards, common):
    """The expression for the number whose bit i says whether the i-th predicate is true."""
    bits = []
    for i, predicate in enumerate(shards):
        short = COMMON.sub(lambda found: common.setdefault(found.group(), f"c{len(common)}"), predicate)
        bits.append(f"CASE WHEN {short} THEN {1 << i} ELSE 0 END")
    return " + ".join(bits)


def compared(judge, keys, part, predicates):
    """For each rule (keys, wrong ones, shards used as bits, a wrong key), in the table that `place` made."""
    names = [name for name, _ in keys.columns]
    common = {}
    held = [held_by(shards, common) for shards in predicates]
    values = ", ".join([*names, *(f"m{i}" for i in range(len(held))), *(f"{expression} AS {name}" for expression, name in common.items())])
    source = f"(SELECT {values} FROM placed_{part} OFFSET 0) q"
    answers = ", ".join(f"count(*) FILTER (WHERE m{i} IS DISTINCT FROM {bits}), bit_or(m{i})" for i, bits in enumerate(held))
    with judge.connect() as connection:
        count, *found = connection.execute(f"SELECT count(*), {answers} FROM {source}").fetchone()
        results = []
        for i, bits in enumerate(held):
            wrong, used = found[2 * i], found[2 * i + 1]
            example = None
            if wrong:
                texts = ", ".join(f"{name}::text" for name in names)
                example = connection.execute(f"SELECT {texts}, m{i}, {bits} FROM {source} WHERE m{i} IS DISTINCT FROM {bits} LIMIT 1").fetchone()
            results.append((count, wrong, used, example))
        connection.execute(f"DROP TABLE placed_{part}")
    return results


def compare(judge, tmp_path, keys, rules, shared=sharding.SHARED):
    """Fails at the first rule that disagrees with its predicates; the shards that each rule used."""
    names, types = [name for name, _ in keys.columns], ", ".join(key.name for _, key in keys.columns)
    config = sharding.write_configuration(tmp_path / "rules.yaml", rules, names, types, shared)
    predicates = sharding.predicates(config, len(rules))

    def work(part):
        place(judge, config, keys, part, rules)
        return compared(judge, keys, part, predicates)

    with ThreadPoolExecutor(PARTS) as pool:
        parts = list(pool.map(work, range(PARTS)))
    used = {}
    for (name, _), *results in zip(rules, *parts):
        assert sum(count for count, _, _, _ in results) >= keys.limit // PARTS * PARTS
        for _, wrong, _, example in results:
            assert wrong == 0, f"seed {SEED}: {name}: {wrong} keys, such as {example!r} (key, where the rule puts it, where the predicates are true)"
        used[name] = [i for i in range(len(SHARDS)) if any(bits >> i & 1 for _, _, bits, _ in results)]
    return used


class Judge:
    """The server that says where a predicate is true."""

    OPTIONS = "-c timezone=UTC -c max_parallel_workers_per_gather=0"

    def __init__(self, server, database):
        self.server, self.database = server, database
        self.environment = {**os.environ, "PGHOST": server.host, "PGPORT": str(server.port), "PGUSER": server.user, "PGPASSWORD": server.password,
                            "PGDATABASE": database, "PGOPTIONS": self.OPTIONS, "PGCLIENTENCODING": "UTF8"}

    def connect(self):
        return self.server.connect(self.database, options=self.OPTIONS)


@pytest.fixture(scope="module")
def judge(shards, new_database):
    print(f"TESSERA_SEED={SEED}")
    server = shards(1)[0]
    return Judge(server, new_database([server]))


@pytest.mark.parametrize("key", sharding.ALL, ids=lambda key: key.name)
def test_rules_agree_with_their_predicates(key, judge, tmp_path):
    with judge.connect() as connection:
        keys = Keys([("k", key)], [key.random], [literals(connection, key)], KEYS)
        bounds, entries = sharding.bounds_and_entries(connection, key, keys.random(1, 3000) + " WHERE m < 1000")
    used = compare(judge, tmp_path, keys, list(sharding.rules_for(key, bounds, entries)))
    for name, shards in used.items():
        assert len(shards) > 1 or key.name == "boolean", f"{name} uses one shard only"


@pytest.mark.parametrize("key", [key for key in sharding.ALL if key.has_text], ids=lambda key: key.name)
def test_crc32_agrees_with_its_predicate(key, judge, tmp_path):
    with judge.connect() as connection:
        keys = Keys([("k", key)], [key.random], [literals(connection, key)], CRC32_KEYS)
    used = compare(judge, tmp_path, keys, list(sharding.crc32_rules()))
    assert key.name == "boolean" or all(len(shards) > 1 for shards in used.values())


@pytest.mark.parametrize("name", sharding.COMPOSITES)
def test_composites_agree_with_their_predicates(name, judge, tmp_path):
    composite = sharding.COMPOSITES[name]
    keys = Keys(composite.columns, composite.expressions, [], KEYS)
    used = compare(judge, tmp_path, keys, [(name, composite.rule)], composite.parts)
    assert len(used[name]) > 1
