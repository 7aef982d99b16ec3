"""Keys of every type that can be a sharding key, and every rule that such a key can have; the side program that says where
the rules put keys."""

import json
import os
import random
import re
import subprocess
from pathlib import Path

from harness import places
from psycopg import pq

BUILD = Path(os.environ.get("TESSERA_BINARY", places.ROOT / "build" / "release" / "tessera")).parent
TOOL = BUILD / "tests" / "tools" / "route_keys"
SHARDS = ["s0", "s1", "s2", "s3", "s4"]
SEED = int(os.environ.get("TESSERA_SEED", random.randrange(2**31)))

ODD_TEXTS = ["", " ", "''", "\\\\", "日本", "\\t", " x", '"', ",", "é", "e\\u0301", "😀", "\\n", "\\\\N", "NULL", "Ä", "ß", "x  ", "%"]
QUOTED = ", ".join(f"E'{text}'" for text in ODD_TEXTS)
TEXT = f"repeat(left(md5(r::text), (m % 31)::int), CASE WHEN m % 97 = 3 THEN 9 ELSE 1 END) || (ARRAY[{QUOTED}])[m % 19 + 1]"
MICROSECONDS = "* interval '1 microsecond'"
# The readable years half of the time, else all there are.
DAYS = "CASE WHEN m % 2 = 0 THEN date '2000-01-01' + (r % 730000)::int ELSE date '4714-11-24 BC' + abs(r % 2147483000)::int END"
MOMENT = (f"CASE WHEN m % 2 = 0 THEN {{0}} '2000-01-01 00:00' + (r % 63000000000000000) {MICROSECONDS}"
          f" ELSE {{0}} '2000-01-01 00:00' + (r % 211800000000000000) {MICROSECONDS} END")


class Type:
    """`random`: a value, as an expression over the random bigint r and the number m. `extremes`: the rest of the domain's
    edges, in text."""

    def __init__(self, name, send, random, extremes):
        self.name, self.send, self.random, self.extremes = name, send, random, extremes

    @property
    def is_text(self):
        return self.name.startswith(("text", "char"))

    @property
    def is_integer(self):
        return self.name in ("smallint", "integer", "bigint")

    @property
    def has_text(self):
        """Whether md5 and crc32 can hash it."""
        return self.is_text or self.is_integer or self.name in ("boolean", "uuid", "oid")


TEXTS = ["", " ", "a", "a ", "NULL", "null", "\\N", "''", "\\", "\t", "\n", "\u00a0", "ä", "A\u0308", "日本語", "😀", "x" * 5000, "\u0001", "\u007f",
         "\uffff"]
YEARS = ["0001-01-01", "0001-12-31", "1582-10-05", "1600-02-29", "1900-02-28", "1970-01-01", "1999-12-31", "2000-01-01", "2000-02-29", "2024-02-29",
         "9999-12-31"]
MIDNIGHTS = ["infinity", "-infinity", "0001-01-01 BC", "0005-02-29 BC", "4713-01-01 BC", *YEARS]
FLOATS = ["NaN", "Infinity", "-Infinity", "0", "-0", "1", "-1", "0.1", "0.5", "1e-30", "-1e30", "16777216", "16777217", "3.4028235e38",
          "1.1754944e-38", "1e-45"]
ALL = [
    Type("smallint", "int2send", "(r >> 48)::smallint", ["0", "1", "-1", "32767", "-32768"]),
    Type("integer", "int4send", "(r >> 32)::integer", ["0", "1", "-1", "2147483647", "-2147483648"]),
    Type("bigint", "int8send", "r >> (ARRAY[0, 0, 20, 40])[m % 4 + 1]",
         ["0", "1", "-1", "9223372036854775807", "-9223372036854775808", "2147483648", "-2147483649", "4294967296"]),
    Type("boolean", "boolsend", "r > 0", ["t", "f"]),
    Type("text", "textsend", TEXT, TEXTS),
    Type("character varying", "varcharsend", TEXT, TEXTS),
    Type("character(40)", "bpcharsend", TEXT, [text for text in TEXTS if len(text) < 40]),
    Type("uuid", "uuid_send", "md5(r::text)::uuid", ["0" * 32, "f" * 32]),
    Type("date", "date_send", DAYS, [*MIDNIGHTS, "4714-11-24 BC", "5874897-12-31"]),
    Type("timestamp without time zone", "timestamp_send", MOMENT.format("timestamp"),
         [*MIDNIGHTS, "4714-11-24 BC", "294276-12-31 23:59:59.999999", "1999-12-31 23:59:59.999999", "2000-01-01 00:00:00.000001"]),
    Type("timestamp with time zone", "timestamptz_send", MOMENT.format("timestamptz"),
         [*MIDNIGHTS, "4714-11-24 00:00:00+00 BC", "294276-12-31 23:59:59.999999+00", "1999-12-31 23:59:59.999999+00"]),
    Type("time without time zone", "time_send", f"time '00:00' + (abs(r % 86400000000)) {MICROSECONDS}", ["00:00", "24:00", "23:59:59.999999",
    "00:00:00.000001"]),
    Type("bytea", "byteasend", "substr(decode(md5(r::text), 'hex'), 1, (m % 17)::int)", ["", "\\x00", "\\xff", "\\x5c", "\\x" + "00ff" * 3000]),
    Type("oid", "oidsend", "(r & 4294967295)::oid", ["0", "1", "2147483647", "2147483648", "4294967295"]),
    Type('"char"', "charsend", "((r & 255) - 128)::int::\"char\"", ["", "a", "~", "\x7f"]),
    Type("numeric", "numeric_send",
         "CASE m % 4 WHEN 0 THEN (r % 10000)::numeric / 100 WHEN 1 THEN r::numeric(38, 19) * r ELSE (r % 1000000000000)::numeric / (10 ^ (m % 9))::numeric(20) END",
         ["NaN", "Infinity", "-Infinity", "0", "0.00", "-0.0", "1", "1.0", "1.000000", "-1", "10000", "9999", "0.0001", "0.00010000", "1e-40",
          "1e130", "123456789012345678901234567890.000000001"]),
    Type("real", "float4send", "(r % 1000000)::real * power(10::real, m % 60 - 35)::real", FLOATS),
    Type("double precision", "float8send", "(r >> 12)::double precision * power(10::double precision, m % 590 - 300)",
         [*FLOATS, "1.7976931348623157e308", "2.2250738585072014e-308", "5e-324", "9007199254740993"]),
    Type("macaddr", "macaddr_send", "left(md5(r::text), 12)::macaddr", ["00:00:00:00:00:00", "ff:ff:ff:ff:ff:ff"]),
    Type("inet", "inet_send",
         "CASE m % 3 WHEN 0 THEN set_masklen('10.0.0.0'::inet + (r & 16777215), (m % 33)::int) WHEN 1 THEN '0.0.0.0'::inet + (r & 4294967295)"
         " ELSE set_masklen('8000::'::inet + r, (m % 129)::int) END",
         ["0.0.0.0", "0.0.0.0/0", "255.255.255.255", "10.0.0.1/8", "10.0.0.0/8", "::", "::/0", "::1", "::ffff:10.0.0.1", "2001:db8::/32",
          "f" * 4 + ":f" * 7]),
]
BY_NAME = {one.name: one for one in ALL}



class Keys:
    """The keys of a test: their columns (name, type), expressions over r and m that make them, queries for further ones."""

    def __init__(self, columns, expressions, extremes, limit):
        self.columns, self.expressions, self.extremes, self.limit = columns, expressions, extremes, limit

    def random(self, first, last):
        """A query for as many keys. A fifth are the same thousand, among which are the bounds and entries of the rules."""
        numbers = f"SELECT CASE WHEN n % 5 = 0 THEN n / 5 % 1000 ELSE n END AS m FROM generate_series({first}, {last}) n"
        values = ", ".join(f"({expression})::{key.name} AS {name}" for (name, key), expression in zip(self.columns, self.expressions))
        return f"SELECT {values} FROM (SELECT m, hashint8extended(m, {SEED}) AS r FROM ({numbers}) x OFFSET 0) y"


def literals(connection, key):
    """A query for the type's extremes, and NULL."""
    quoted = ", ".join("(" + connection.execute("SELECT quote_literal(%s)", [text]).fetchone()[0] + ")" for text in key.extremes)
    return f"SELECT v::{key.name} AS k FROM (VALUES {quoted}, (NULL)) e (v)"


HASH = {"type": "hash", "function": "postgres", "buckets": 1024, "shards": SHARDS}
RING = {"type": "consistent_hash", "virtual_nodes": 150, "shards": SHARDS, "weights": {"s2": 2}}
# The rules that others lead to.
SHARED = {"h": HASH, "ring": RING}


COUNTRY = "(ARRAY['us', 'CA', 'fr', 'GB', 'De', 'JP', '', 'us '])[m % 8 + 1]"
REGIONS = {"americas": {"countries": ["US", "ca"], "shard": "s0"}, "europe": {"countries": ["FR", "gb"], "rule": "second"},
           "germany": {"countries": ["DE"], "rule": "behind"}}
PLACE = {"type": "geography", "regions": REGIONS, "otherwise": "s4"}
EMBEDDED = {"type": "embedded", "shard_shift": 3, "shard_bits": 3, "shards": SHARDS}
YEARS = {"type": "range", "ranges": [{"below": "1500-01-01", "shard": "s3"}, {"below": "2000-01-01", "shard": "s2"}, {"shard": "s1"}]}
TENANTS = {"type": "directory", "entries": {str(i): SHARDS[i % 2] for i in range(0, 100, 3)}, "otherwise": "second"}
TENANT = "(r & 127)::int"


class Composite:
    """A composite rule of those of the parts that are called first, second, third; expressions where they are not the types' own."""

    def __init__(self, parts, types, expressions):
        self.parts = parts
        self.rule = {"type": "composite", "of": [part for part in ("first", "second", "third") if part in parts]}
        self.columns = [(f"k{i}", BY_NAME[name]) for i, name in enumerate(types)]
        self.expressions = [expressions.get(i, key.random) for i, (_, key) in enumerate(self.columns)]


COMPOSITES = {
    "country and number": Composite(
        {"first": PLACE, "second": HASH, "behind": {"type": "consistent_hash", "shards": ["s1", "s2"]}}, ["text", "bigint"], {0: COUNTRY}),
    "country and id with the shard in it": Composite(
        {"first": PLACE, "second": EMBEDDED, "behind": HASH}, ["character varying", "integer"], {0: COUNTRY}),
    "char(n) and uuid by md5": Composite(
        {"first": PLACE, "second": {**HASH, "function": "md5"}, "behind": {**HASH, "buckets": 7}}, ["character(40)", "uuid"], {0: COUNTRY}),
    "tenant and day": Composite({"first": TENANTS, "second": YEARS}, ["integer", "date"], {0: TENANT}),
    "tenant and moment": Composite({"first": TENANTS, "second": HASH}, ["smallint", "timestamp with time zone"], {0: TENANT}),
    "three columns, the last decides": Composite(
        {"first": PLACE, "second": {"type": "directory", "entries": {"1": "s1", "-2": "s2"}, "otherwise": "third"}, "third": HASH,
         "behind": {"type": "directory", "entries": {"5": "s3"}, "otherwise": "third"}},
        ["text", "numeric", "inet"], {0: COUNTRY, 1: "(r % 20)::numeric(5, 2)"}),
    "the first column decides alone": Composite({"first": HASH, "second": HASH}, ["double precision", "bytea"], {}),
    "two numbers": Composite(
        {"first": {"type": "directory", "entries": {"1": "s1"}, "otherwise": "second"}, "second": {"type": "consistent_hash", "shards": SHARDS}},
        ["oid", "real"], {0: "(r & 3)::oid"}),
}


def rules_for(key, bounds, entries):
    """Rules by name. `bounds`: ascending values, as texts; `entries`: others."""
    ranges = [{"below": bound, "shard": SHARDS[i % len(SHARDS)]} for i, bound in enumerate(bounds)]
    listed = {entry: SHARDS[i % 3] for i, entry in enumerate(entries)}
    yield "hash", HASH
    yield "hash of 1000 buckets, some moved", {**HASH, "buckets": 1000, "moved": {17: "s4", 999: "s0", "500-510": "s3"}}
    yield "ring", RING
    yield "range", {"type": "range", "ranges": [*ranges, {"shard": "s4"}]}
    yield "closed range", {"type": "range", "ranges": ranges}
    yield "directory and hash", {"type": "directory", "entries": listed, "otherwise": "h"}
    yield "directory and shard", {"type": "directory", "entries": listed, "otherwise": "s4"}
    yield "closed directory", {"type": "directory", "entries": listed}
    if key.has_text:
        yield "md5", {**HASH, "function": "md5"}
        yield "md5 of 1000 buckets", {**HASH, "function": "md5", "buckets": 1000}
        yield "md5 ring", {"type": "consistent_hash", "function": "md5", "virtual_nodes": 20, "shards": SHARDS}
    if key.is_integer:
        yield "embedded", {"type": "embedded", "shard_shift": 3, "shard_bits": 4, "shards": SHARDS}
        yield "embedded at the top", {"type": "embedded",
        "shard_shift": {"smallint": 12, "integer": 28, "bigint": 60}[key.name], "shard_bits": 3, "shards": SHARDS}
    if key.is_text:
        regions = {"a": {"countries": entries[:20], "shard": "s1"}, "b": {"countries": entries[20:40], "rule": "h"}}
        yield "geography", {"type": "geography", "regions": regions, "otherwise": "ring"}
        yield "closed geography", {"type": "geography", "regions": regions}


def crc32_rules():
    yield "crc32", {**HASH, "function": "crc32"}
    yield "crc32 of 1000 buckets", {**HASH, "function": "crc32", "buckets": 1000}
    yield "crc32 ring", {"type": "consistent_hash", "function": "crc32", "virtual_nodes": 20, "shards": SHARDS}


def readable(key, text):
    """Whether Tessera takes this text for the value it is: dates in ISO form, a "char" that is no escape."""
    if key.name.startswith(("date", "timestamp")):
        return re.match(r"-?infinity|\d{4}-[^B]*$", text) is not None
    return key.name != '"char"' or (len(text) == 1 and text != "\\")


def bounds_and_entries(connection, key, values):
    """Nine values in ascending order and up to 60, out of the values (SQL text of a query with a column k)."""
    order = 'k::text COLLATE "C"' if key.is_text else "k"
    rows = connection.execute(f"SELECT k::text FROM (SELECT DISTINCT {order} AS k FROM ({values}) v) d ORDER BY d.k")
    texts = [text for (text,) in rows if text and readable(key, text) and text == text.strip() and text.isprintable() and len(text) < 200]
    step = max(1, len(texts) // 9)
    entries = texts[::max(1, len(texts) // 60)]
    if key.is_text:  # a country belongs to one region, without regard to ASCII case
        entries = list({entry.upper(): entry for entry in entries}.values())
    return texts[step // 2::step][:9], entries[:60]


def write_configuration(path, rules, key, key_type, shared=SHARED):
    """Table k<i> has the i-th of the rules (name, rule)."""
    shards = {name: {"primary": f"127.0.0.1:{5000 + i}"} for i, name in enumerate(SHARDS)}
    named = {f"r{i}": rule for i, (_, rule) in enumerate(rules)}
    tables = {f"k{i}": {"rule": f"r{i}", "key": key, "key_type": key_type} for i in range(len(rules))}
    database = {"shards": shards, "backend": {"dbname": "x"}, "rules": {**shared, **named}, "tables": tables}
    path.write_text(json.dumps({"listen": {"postgres": "127.0.0.1:6432"}, "databases": {"x": database}}, ensure_ascii=False))
    return path


def predicates(config, count):
    """For each table of the configuration, its shards' predicates."""
    done = subprocess.run([TOOL, config, "predicates", *(f"k{i}" for i in range(count))], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) == count * len(SHARDS)
    return [lines[i:i + len(SHARDS)] for i in range(0, len(lines), len(SHARDS))]


def ask(connection, statement, parameters, encoding="utf-8"):
    """(SQLSTATE or None, rows of numbers or what is wrong)."""
    columns = [list(column) for column in zip(*parameters)] if parameters else [None, None, None]
    result = connection.pgconn.exec_params(statement.encode(encoding), columns[0], param_types=columns[1], param_formats=columns[2])
    if result.status == pq.ExecStatus.FATAL_ERROR:
        return result.error_field(pq.DiagnosticField.SQLSTATE), result.error_message.decode(encoding)
    return None, [tuple(int(result.get_value(r, c) or -1) for c in range(result.nfields)) for r in range(result.ntuples)]
