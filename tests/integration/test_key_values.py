"""Random conditions on keys of every type, with constants and parameters of other types, in text and in binary, declared and
not: the rows that one database gives are those that come through Tessera on four shards, or the statement is refused.

TESSERA_STATEMENTS=50000 for a longer run; a failure names the seed.
"""

import os
import random

import psycopg
import pytest
from harness.tessera import database_config
from psycopg import pq

STATEMENTS = int(os.environ.get("TESSERA_STATEMENTS", "3000"))
# Type: (pg_type.oid, its send function, values).
TYPES = {
    "smallint": (21, "int2send", ["0", "1", "-5", "7", "32767", "100"]),
    "integer": (23, "int4send", ["0", "1", "-5", "7", "2147483647", "16777217", "100"]),
    "bigint": (20, "int8send", ["0", "1", "7", "-5", "100", "16777217", *(str(2**53 + i) for i in (0, 1, 3, 4))]),
    "numeric": (1700, "numeric_send", ["0", "1", "0.5", "0.1", "7", "7.50", "16777217", str(2**53 + 1), "100"]),
    "real": (700, "float4send", ["0", "0.1", "0.5", "16777216", "7", "1e10", "0.2", "100"]),
    "double precision": (701, "float8send", ["0", "0.1", "0.5", "16777217", "7", str(2**53), "0.2", "100", "0.10000000149011612"]),
    "oid": (26, "oidsend", ["1", "7", "100", "4294967295", "2147483648"]),
    "text": (25, "textsend", ["a", "a ", "b", "ab", "", "A", "7", "0.5"]),
    "varchar(5)": (1043, "varcharsend", ["a", "b", "ab", "", "A", "7"]),
    "char(5)": (1042, "bpcharsend", ["a", "b", "ab", "", "A", "7"]),
    '"char"': (18, "charsend", ["a", "b", "7"]),
    "bytea": (17, "byteasend", ["a", r"\x61", r"\x6162"]),
    "date": (1082, "date_send", ["2024-01-01", "2024-01-02", "infinity", "2024-02-29"]),
    "timestamp": (1114, "timestamp_send", ["2024-01-01 00:00:00", "2024-01-01 10:00:00", "2024-01-02 00:00:00", "2024-01-02 00:00:00.5"]),
    "timestamptz": (1184, "timestamptz_send", ["2024-01-01 00:00:00+00", "2024-01-01 10:00:00+00", "2024-01-02 00:00:00+02"]),
    "time": (1083, "time_send", ["00:00", "10:00", "24:00"]),
    "uuid": (2950, "uuid_send", [f"00000000-0000-0000-0000-0000000000{end}" for end in ("01", "ff")]),
    "boolean": (16, "boolsend", ["t", "f"]),
    "inet": (869, "inet_send", ["10.0.0.1", "10.0.0.1/32", "10.0.0.0/8"]),
}
NAMES = list(TYPES)
FAMILIES = [NAMES[:7], NAMES[7:12], NAMES[12:15], ["time"], ["uuid"], ["boolean"], ["inet", "text"]]
WITHOUT_RANGE = {"text", "varchar(5)", "char(5)", "inet"}  # their order hangs on a collation, or is compared as text


def other_of(number):
    """The type of column j of the table with this number."""
    return NAMES[(number * 7 + 3) % len(NAMES)]


def table(number):
    return f"k{number}"


SCHEMA = "".join(f"create table {table(i)} (k {name}, o text, j {other_of(i)}, b bigint);" for i, name in enumerate(NAMES))


class Generator:
    def __init__(self, seed):
        self.random = random.Random(seed)
        self.parameters = []  # (text, declared oid or 0, type of the binary form or None)

    def related(self, name):
        return self.random.choice(next(family for family in FAMILIES if name in family))

    def text(self, name):
        return self.random.choice(TYPES[name][2])

    def parameter(self, name, other):
        if self.parameters and self.random.random() < 0.35:
            return f"${self.random.randrange(len(self.parameters)) + 1}"
        declared = self.random.choice([0, 0, TYPES[other][0], TYPES[name][0]])
        self.parameters.append((self.text(self.random.choice([name, other])), declared, self.random.choice([None, None, name, other])))
        return f"${len(self.parameters)}"

    def value(self, name):
        other = self.related(name)
        text = self.text(self.random.choice([name, other]))
        number = text.lstrip("-").replace(".", "", 1).isdigit()
        kind = self.random.random()
        cast = f"::{self.random.choice([name, other])}"
        if kind < 0.35 and number:
            return text
        if kind < 0.6:
            return f"'{text}'"
        if kind < 0.75:
            return f"'{text}'{cast}"
        if kind < 0.8 and number:
            return f"{text}{cast}"
        if kind < 0.97:
            return self.parameter(name, other) + self.random.choice(["", "", "", cast])
        return "null"

    def values(self, name, most=3):
        return ", ".join(self.value(name) for _ in range(self.random.randint(1, most)))

    def condition(self, name, column="k"):
        kind = self.random.random()
        cast = self.random.choice(["", "", f"::{name}[]", f"::{self.related(name)}[]"])
        if kind < 0.3:
            return f"{column} = {self.value(name)}"
        if kind < 0.36:
            return f"{self.value(name)} = {column}"
        if kind < 0.6:
            return f"{column} in ({self.values(name)})"
        if kind < 0.72:
            return f"{column} = any(array[{self.values(name)}]{cast})"
        if kind < 0.8:
            quoted = ",".join('"' + self.text(name).replace("\\", "\\\\") + '"' for _ in range(2))
            return f"{column} = any('{{{quoted}}}'{cast})"
        if kind < 0.86:
            return f"({self.condition(name, column)} or {self.condition(name, column)})"
        if kind < 0.93:
            return f"{column} between {self.value(name)} and {self.value(name)}"
        if kind < 0.96:
            return f"({column}, b) in (({self.value(name)}, 1), ({self.value(name)}, 2))"
        return f"{column} {self.random.choice(['<', '>', '<=', '>='])} {self.value(name)}"

    def statement(self):
        number = self.random.randrange(len(NAMES))
        conditions = [self.condition(NAMES[number])]
        if self.random.random() < 0.4:
            conditions.insert(self.random.randrange(2), self.condition(other_of(number), "j"))
        targets = "*"
        if self.parameters and self.random.random() < 0.15:
            targets = f"${self.random.randrange(len(self.parameters)) + 1}::{self.related(NAMES[number])}, o"
        return f"select {targets} from {table(number)} where {' and '.join(conditions)}"


def bounds(connection, name):
    values = ", ".join(f"('{text}'::{name})" for text in TYPES[name][2])
    rows = connection.execute(f"select v.k::text from (select distinct k from (values {values}) x (k)) v order by v.k").fetchall()
    return [text for (text,) in rows if text.strip()][1:4]


@pytest.fixture(scope="module", params=["hash", "range"])
def both(request, shards, new_database, tmp_path_factory):
    """(through Tessera, on one database), with the same rows."""
    from harness.tessera import Tessera

    servers = shards(4)
    sharded, plain = new_database(servers, SCHEMA), new_database(servers[:1], SCHEMA)
    one = servers[0].connect(plain, user="app", password="app", autocommit=True)
    rules = {"h": {"type": "hash", "shards": [f"s{i}" for i in range(4)]}}
    tables = {table(i): {"rule": "h", "key": "k"} for i in range(len(NAMES))}
    for i, name in enumerate(NAMES):
        if request.param == "range" and name not in WITHOUT_RANGE:
            ranges = [{"below": bound, "shard": f"s{n}"} for n, bound in enumerate(bounds(one, name))]
            rules[f"r{i}"] = {"type": "range", "ranges": [*ranges, {"shard": "s3"}]}
            tables[table(i)]["rule"] = f"r{i}"
    proxy = Tessera({"databases": {"shop": database_config(servers, sharded, rules=rules, tables=tables)}}, tmp_path_factory.mktemp("proxy")).start()
    through = proxy.connect("shop")
    for i, name in enumerate(NAMES):
        others = TYPES[other_of(i)][2]
        for n, text in enumerate(TYPES[name][2]):
            for connection in (through, one):
                connection.execute(f"insert into {table(i)} values ('{text}', $o${text}$o$, '{others[n % len(others)]}', {n % 3})")
    yield through, one
    through.close()
    one.close()
    proxy.stop()
    proxy.check_log()


def encoded(generator, one):
    """The parameters as (bytes, oid, format)."""
    known = []
    for text, declared, name in generator.parameters:
        try:
            row = name and one.execute(f"select {TYPES[name][1]}('{text}'::{name})").fetchone()
        except psycopg.Error:
            row = None
        known.append((row[0], declared if generator.random.random() < 0.5 else TYPES[name][0], 1) if row else (text.encode(), declared, 0))
    return known


def ask(connection, sql, parameters):
    """(SQLSTATE or None, rows)."""
    columns = [list(column) for column in zip(*parameters)] if parameters else [None, None, None]
    result = connection.pgconn.exec_params(sql.encode(), columns[0], param_types=columns[1], param_formats=columns[2])
    if result.status != pq.ExecStatus.TUPLES_OK:
        return result.error_field(pq.DiagnosticField.SQLSTATE), []
    return None, sorted(tuple(result.get_value(r, c) for c in range(result.nfields)) for r in range(result.ntuples))


def test_random_conditions(both):
    through, one = both
    compared = 0
    for seed in range(STATEMENTS):
        generator = Generator(seed)
        sql = generator.statement()
        parameters = encoded(generator, one)
        code, rows = ask(one, sql, parameters)
        if code is not None:
            continue  # an error there is one here, on whichever shard
        state, found = ask(through, sql, parameters)
        if state == b"0A000":
            continue
        assert state is None and found == rows, f"seed {seed}: {sql} {parameters}: {state} {found}, not {rows}"
        compared += 1
    assert compared > STATEMENTS / 2
