"""Every rule, on random keys of every type, gives the shard for which its own SQL predicate is true, as evaluated by
PostgreSQL; and the predicates of all other shards are not true for that key.

100,000 keys per type and rule in a minute or two; TESSERA_KEYS=1000000 takes ten times as long.
"""

import json
import os
import subprocess
from pathlib import Path

import pytest

from harness import places

KEYS = int(os.environ.get("TESSERA_KEYS", "100000"))
BUILD = Path(os.environ.get("TESSERA_BINARY", places.ROOT / "build" / "release" / "tessera")).parent
TOOL = BUILD / "tests" / "tools" / "route_keys"
SHARDS = ["s0", "s1", "s2", "s3", "s4"]

# A random bigint for each n, the same in every run.
R = "('x' || md5(n::text || 'salt'))::bit(64)::bigint"
TEXT = "left(md5(n::text), (n % 31)::int) || (ARRAY['', 'ä', ' ', '''', E'\\\\', '日本', E'\\t', ' x', '\"', ','])[n % 10 + 1]"
TYPES = {
    "smallint": f"({R} % 32768)::smallint",
    "integer": f"({R} % 2147483648)::integer",
    "bigint": f"CASE WHEN n % 4 = 0 THEN {R} >> 40 ELSE {R} END",
    "boolean": f"{R} > 0",
    "text": TEXT,
    "character varying": TEXT,
    "character(60)": f"({TEXT})::bpchar(60)",
    "uuid": "md5(n::text)::uuid",
    "date": f"CASE WHEN n < 3 THEN (ARRAY['infinity', '-infinity'])[n]::date ELSE date '0001-01-01' + (abs({R}) % 3600000)::int END",
    "timestamp without time zone": f"timestamp '0001-01-01' + (abs({R}) % 100000000000000000) * interval '1 microsecond'",
    "timestamp with time zone": f"timestamptz '0001-01-02 00:00+00' + (abs({R}) % 100000000000000000) * interval '1 microsecond'",
    "time without time zone": f"time '00:00' + (abs({R}) % 86400000000) * interval '1 microsecond'",
    "bytea": "substr(decode(md5(n::text), 'hex'), 1, n % 17)",
    "oid": f"(abs({R}) % 4294967296)::oid",
    '"char"': f"chr(33 + (abs({R}) % 58)::int)::\"char\"",
    "numeric": f"({R} % 1000000000000)::numeric / (10 ^ (n % 9))::numeric(20)",
    "real": f"({R} % 1000000)::real / 7",
    "double precision": f"({R} >> 12)::double precision / (1 + n % 1000)",
    "macaddr": "left(md5(n::text), 12)::macaddr",
    "inet": f"set_masklen('10.0.0.0'::inet + (abs({R}) % 16777216), (n % 33)::int)",
}
WITH_TEXT = ["smallint", "integer", "bigint", "boolean", "text", "character varying", "character(60)", "uuid", "oid"]
HASH = {"type": "hash", "function": "postgres", "buckets": 1024, "shards": SHARDS}


def rules_for(key_type, server_values):
    """(name, rules by name; the table uses "r")."""
    bounds, entries = server_values
    ranges = [{"below": bound, "shard": SHARDS[i % len(SHARDS)]} for i, bound in enumerate(bounds)]
    listed = {entry: SHARDS[i % 3] for i, entry in enumerate(entries)}
    yield "hash", {"r": HASH}
    yield "hash of 1000 buckets, some moved", {"r": {**HASH, "buckets": 1000, "moved": {17: "s4", 999: "s0", 500: "s3"}}}
    yield "ring", {"r": {"type": "consistent_hash", "virtual_nodes": 150, "shards": SHARDS, "weights": {"s2": 2}}}
    if key_type != "inet":  # the configuration compares their bounds as text
        yield "range", {"r": {"type": "range", "ranges": [*ranges, {"shard": "s4"}]}}
        yield "closed range", {"r": {"type": "range", "ranges": ranges}}
    yield "directory", {"r": {"type": "directory", "entries": listed, "otherwise": "h"}, "h": HASH}
    yield "closed directory", {"r": {"type": "directory", "entries": listed}}
    if key_type in WITH_TEXT:
        yield "md5", {"r": {**HASH, "function": "md5"}}
        yield "md5 of 1000 buckets", {"r": {**HASH, "function": "md5", "buckets": 1000}}
        yield "md5 ring", {"r": {"type": "consistent_hash", "function": "md5", "virtual_nodes": 20, "shards": SHARDS}}
    if key_type in ("smallint", "integer", "bigint"):
        yield "embedded", {"r": {"type": "embedded", "shard_shift": 3, "shard_bits": 4, "shards": SHARDS}}
    if key_type == "bigint":
        yield "embedded at the top", {"r": {"type": "embedded", "shard_shift": 60, "shard_bits": 3}}
    if key_type.startswith(("text", "char")):
        regions = {"a": {"countries": entries[:20], "shard": "s1"}, "b": {"countries": entries[20:40], "rule": "h"}}
        yield "geography", {"r": {"type": "geography", "regions": regions, "otherwise": "s3"}, "h": HASH}


def configuration(path, rules, key, key_type):
    shards = {name: {"primary": f"127.0.0.1:{5000 + i}"} for i, name in enumerate(SHARDS)}
    database = {"shards": shards, "backend": {"dbname": "x"}, "rules": rules,
                "tables": {"keys": {"rule": "r", "key": key, "key_type": key_type}}}
    path.write_text(json.dumps({"listen": {"postgres": "127.0.0.1:6432"}, "databases": {"x": database}}, ensure_ascii=False))
    return path


def route_keys(config, what, keys=None):
    done = subprocess.run([TOOL, config, what, "keys"], input=keys, capture_output=True)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout


def compare(connection, config, columns, keys, limit):
    """The number of keys that rule and predicates disagree on."""
    predicates = route_keys(config, "predicates").decode().splitlines()
    assert len(predicates) == len(SHARDS)
    shards = route_keys(config, "keys", keys)
    connection.execute("CREATE TEMP TABLE placed (n serial, shard int)")
    with connection.cursor().copy("COPY placed (shard) FROM STDIN") as copy:
        copy.write(shards)
    connection.execute("CREATE UNIQUE INDEX ON placed (n)")
    truth = ", ".join(f"coalesce({predicate}, false)" for predicate in predicates)
    # Shard i alone is true: the list of shards is just [i]; -1: none is.
    right = f"array_positions(ARRAY[{truth}], true) = CASE WHEN shard < 0 THEN '{{}}' ELSE ARRAY[shard + 1] END"
    row = connection.execute(
        "SELECT count(*), count(*) FILTER (WHERE NOT agree), count(DISTINCT shard), min(key) FILTER (WHERE NOT agree) "
        f"FROM (SELECT {columns[0]}::text AS key, shard, {right} AS agree FROM keys JOIN placed USING (n) OFFSET 0) compared"
    ).fetchone()
    connection.execute("DROP TABLE placed")
    assert row[0] == limit
    return row


def read_keys(connection, columns, limit):
    with connection.cursor().copy(f"COPY (SELECT {', '.join(columns)} FROM keys WHERE n <= {limit} ORDER BY n) TO STDOUT") as copy:
        return b"".join(bytes(block) for block in copy)


@pytest.fixture(scope="module")
def connection(shards, new_database):
    server = shards(1)[0]
    with server.connect(new_database([server])) as opened:
        opened.execute("SET timezone = 'UTC'; SET max_parallel_workers_per_gather = 0; SET work_mem = '64MB'")
        yield opened


@pytest.mark.parametrize("key_type", TYPES)
def test_rules_agree_with_their_predicates(key_type, connection, tmp_path):
    connection.execute("DROP TABLE IF EXISTS keys")
    connection.execute(f"CREATE UNLOGGED TABLE keys AS SELECT n, ({TYPES[key_type]})::{key_type} AS k FROM generate_series(1, {KEYS}) n")
    order = 'k::text COLLATE "C"' if key_type.startswith(("text", "char")) else "k"
    distinct = f"SELECT DISTINCT {order} AS k FROM keys WHERE n % 101 = 7 OR n < 200"
    values = [row[0] for row in connection.execute(f"SELECT k::text FROM ({distinct}) d ORDER BY d.k")]
    values = [value for value in values if value and value.strip() == value]
    step = max(1, len(values) // 9)
    bounds, entries = values[step // 2::step][:9], values[::max(1, len(values) // 60)]
    keys = read_keys(connection, ["k"], KEYS)
    for name, rules in rules_for(key_type, (bounds, entries)):
        config = configuration(tmp_path / "rules.yaml", rules, "k", key_type)
        _, wrong, used, example = compare(connection, config, ["k"], keys, KEYS)
        assert wrong == 0, f"{name} on {key_type}: {wrong} keys, such as {example!r}"
        assert used > 1 or key_type in ("boolean",), f"{name} on {key_type} uses one shard only"


@pytest.mark.parametrize("key_type", ["bigint", "text", "uuid"])
def test_crc32_agrees_with_its_predicate(key_type, connection, tmp_path):
    """PostgreSQL computes CRC-32 by recursion, some thousand keys a second."""
    limit = min(KEYS, 5000)
    connection.execute("DROP TABLE IF EXISTS keys")
    connection.execute(f"CREATE TABLE keys AS SELECT n, ({TYPES[key_type]})::{key_type} AS k FROM generate_series(1, {limit}) n")
    keys = read_keys(connection, ["k"], limit)
    for rule in ({**HASH, "function": "crc32"}, {"type": "consistent_hash", "function": "crc32", "virtual_nodes": 20, "shards": SHARDS}):
        config = configuration(tmp_path / "rules.yaml", {"r": rule}, "k", key_type)
        _, wrong, used, example = compare(connection, config, ["k"], keys, limit)
        assert wrong == 0, f"{key_type}: {wrong} keys, such as {example!r}"
        assert used == len(SHARDS)


def test_composite_agrees_with_its_predicate(connection, tmp_path):
    connection.execute("DROP TABLE IF EXISTS keys")
    connection.execute("CREATE UNLOGGED TABLE keys AS SELECT n, (ARRAY['us', 'CA', 'fr', 'GB', 'De', 'JP'])[n % 6 + 1] AS country, "
                       f"{R} AS id FROM generate_series(1, {KEYS}) n")
    keys = read_keys(connection, ["country", "id"], KEYS)
    regions = {"americas": {"countries": ["US", "ca"], "shard": "s0"}, "europe": {"countries": ["FR", "gb"], "rule": "users"},
               "germany": {"countries": ["DE"], "rule": "other"}}
    rules = {"r": {"type": "composite", "of": ["place", "users"]}, "users": HASH,
             "other": {"type": "consistent_hash", "shards": ["s1", "s2"]},
             "place": {"type": "geography", "regions": regions, "otherwise": "s4"}}
    config = configuration(tmp_path / "rules.yaml", rules, ["country", "id"], "text, bigint")
    _, wrong, used, example = compare(connection, config, ["country"], keys, KEYS)
    assert (wrong, used) == (0, len(SHARDS)), example
