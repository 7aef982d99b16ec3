"""Keys of every type under every rule, written and read through a running Tessera over five shards, as literals, casts,
parameters in text and in binary, lists and arrays: each row lies on the shard whose SQL predicate is true for its key, and a
condition on the key leads to that shard alone (an aggregate over several would be refused).

TESSERA_PLACED for more than 250 keys per type and rule; TESSERA_SEED repeats a run.
"""

import os
import struct

import pytest
import sharding_keys as sharding
from harness.tessera import database_config
from sharding_keys import SEED, SHARDS, Keys, ask

PLACED = int(os.environ.get("TESSERA_PLACED", "250"))
NO_PLACE = b"22023"


class Value:
    """A key: its text and its binary form. `readable`: whether Tessera takes the text for it, see sharding_keys."""

    def __init__(self, text, binary, readable=True):
        self.text, self.binary, self.readable = text, binary, readable

    def __repr__(self):
        return repr(self.text)

    @property
    def literal(self):
        return "'" + self.text.replace("'", "''") + "'"

    @property
    def element(self):
        return '"' + self.text.replace("\\", "\\\\").replace('"', '\\"') + '"'


class Form:
    """How a statement says a key: `sql(value)`, and the parameter with it as (bytes, type, format) or None."""

    def __init__(self, name, say, parameter=None):
        self.name, self.say, self.parameter = name, say, parameter

    def of(self, value):
        return self.say(value), [self.parameter(value)] if self.parameter else []


def forms_of(key, oid):
    """The forms of a single value."""
    forms = [
        Form("literal", lambda value: value.literal),
        Form("text parameter", lambda value: "$1", lambda value: (value.text.encode(), 0, 0)),
        Form("declared text parameter", lambda value: "$1", lambda value: (value.text.encode(), oid, 0)),
        Form("undeclared binary parameter", lambda value: "$1", lambda value: (value.binary, 0, 1)),
    ]
    if not key.name.startswith('"') and key.name != "character(40)":  # such a cast may cut the value off
        forms.append(Form("cast", lambda value: f"{value.literal}::{key.name}"))
        forms.append(Form("type and literal", lambda value: f"CAST({value.literal} AS {key.name})"))
        forms.append(Form("cast parameter", lambda value: f"$1::{key.name}", lambda value: (value.text.encode(), 0, 0)))
    if key.is_integer or key.name == "numeric":
        forms.append(Form("number", lambda value: value.text if value.text.lstrip("-").replace(".", "", 1).isdigit() else value.literal))
    return [*forms, Form("binary parameter", lambda value: "$1", lambda value: (value.binary, oid, 1))]


def lists_of(key, array_oid, oid):
    """The forms of several values: what follows the column, and the parameters."""
    def binary_array(values):
        items = b"".join(struct.pack(">i", len(value.binary)) + value.binary for value in values)
        return struct.pack(">iiIii", 1, 0, oid, len(values), 1) + items

    def text_array(values):
        return "{" + ",".join(value.element for value in values) + "}"

    forms = [
        ("IN", lambda values: (f"IN ({', '.join(value.literal for value in values)})", [])),
        ("IN parameters", lambda values: (f"IN ({', '.join(f'${i + 1}' for i in range(len(values)))})", [(value.text.encode(), oid, 0) for value in values])),
        ("OR", lambda values: (" OR k = ".join(["= " + values[0].literal, *(value.literal for value in values[1:])]), [])),
        ("ANY literal", lambda values: (f"= ANY ({Value(text_array(values), b'').literal})", [])),
        ("ANY text parameter", lambda values: ("= ANY ($1)", [(text_array(values).encode(), array_oid, 0)])),
        ("ANY undeclared parameter", lambda values: ("= ANY ($1)", [(text_array(values).encode(), 0, 0)])),
    ]
    if not key.name.startswith('"') and key.name != "character(40)":
        forms.append(("ANY ARRAY", lambda values: (f"= ANY (ARRAY[{', '.join(value.literal for value in values)}]::{key.name}[])", [])))
    return [*forms, ("ANY binary parameter", lambda values: ("= ANY ($1)", [(binary_array(values), array_oid, 1)]))]


class Placing:
    """Through Tessera, and past it, over the tables k0, k1, …, one for each rule."""

    def __init__(self, key, through, direct, rules, keys):
        self.key, self.through, self.direct, self.rules = key, through, direct, rules
        self.keys = keys  # for each rule [(value, shard or None)]

    def may_refuse(self, form, values):
        """In binary every key leads to its shard, in text those do that have one meaning."""
        return "binary" not in form and not all(value.readable for value in values)

    def insert(self, number, forms):
        """Every key in one of the forms; those that are refused are put where they belong."""
        for n, (value, shard) in enumerate(self.keys[number]):
            form = forms[(n + number) % len(forms)]
            said, parameters = form.of(value)
            state, what = ask(self.through, f"INSERT INTO k{number} (n, k) VALUES ({n}, {said})", parameters)
            about = f"seed {SEED}: {self.rules[number][0]}, INSERT by {form.name} of {value!r}: {what}"
            if state == b"0A000":
                assert self.may_refuse(form.name, [value]), about
                if shard is not None:
                    assert ask(self.direct[shard], f"INSERT INTO k{number} (n, k) VALUES ({n}, $1)", [(value.binary, 0, 1)])[0] is None
            else:
                assert state == (NO_PLACE if shard is None else None), about

    def check_rows(self, number):
        right = {n: shard for n, (_, shard) in enumerate(self.keys[number]) if shard is not None}
        found = [(n, at, where) for where, connection in enumerate(self.direct) for n, at in connection.execute(f"SELECT n, at FROM k{number}")]
        assert all(at == where for _, at, where in found)
        wrong = [(self.keys[number][n][0], where, right.get(n)) for n, where, _ in found if right.get(n) != where]
        assert not wrong, f"seed {SEED}: {self.rules[number][0]}: rows on wrong shards (key, shard, right one): {wrong[:5]}"
        assert sorted(n for n, _, _ in found) == sorted(right)

    def select(self, number, forms):
        """Every key in another form than it was written in."""
        for n, (value, shard) in enumerate(self.keys[number]):
            form = forms[(n // len(forms) + n + number + 1) % len(forms)]
            said, parameters = form.of(value)
            self.expect(f"SELECT count(*), min(n), min(at) FROM k{number} WHERE k = {said}", parameters, (0, -1, -1) if shard is None else (1, n, shard),
                        number, form.name, [value])

    def select_lists(self, number, lists):
        """Keys of one shard together: asked in one statement, which that shard answers."""
        by_shard = {}
        for value, shard in self.keys[number]:
            if shard is not None:
                by_shard.setdefault(shard, []).append(value)
        for shard, values in by_shard.items():
            for turn, (name, say) in enumerate(lists):
                some = values[turn * 4 % len(values):][:4]
                said, parameters = say(some)
                self.expect(f"SELECT count(*), min(at), max(at) FROM k{number} WHERE k {said}", parameters, (len(some), shard, shard), number, name, some)
        # Keys of all shards together: all of their rows.
        values = [value for value, shard in self.keys[number] if shard is not None][:40]
        for name, say in lists:
            said, parameters = say(values)
            state, rows = ask(self.through, f"SELECT 1 FROM k{number} WHERE k {said}", parameters)
            assert state is None and len(rows) == len(values), f"seed {SEED}: {self.rules[number][0]}, {name} of {values}: {state} {rows}"

    def expect(self, statement, parameters, row, number, form, what):
        state, rows = ask(self.through, statement, parameters)
        if state != b"0A000" or not self.may_refuse(form, what):
            assert state is None and rows == [row], f"seed {SEED}: {self.rules[number][0]}, {form} of {what!r}: {state} {rows}, not {row}: {statement}"


def placed_keys(connection, key, rules, config):
    """For each rule [(value, shard or None)]: distinct keys, and where the rule's predicate is true."""
    random_keys = Keys([("k", key)], [key.random], [], PLACED)
    queries = f"{random_keys.random(1, PLACED)} UNION ALL {sharding.literals(connection, key)}"
    places = [f"array_positions(ARRAY[{', '.join(f'({one}) IS TRUE' for one in shards)}], true)" for shards in sharding.predicates(config, len(rules))]
    rows = connection.execute(f"SELECT k::text, {key.send}(k), {', '.join(places)} FROM (SELECT DISTINCT k FROM ({queries}) q WHERE k IS NOT NULL) d").fetchall()
    values = [Value(row[0], row[1], sharding.readable(key, row[0])) for row in rows]
    found = []
    for i in range(len(rules)):
        assert all(len(row[2 + i]) < 2 for row in rows)
        found.append([(value, row[2 + i][0] - 1 if row[2 + i] else None) for value, row in zip(values, rows)])
    return found


@pytest.fixture(scope="module")
def servers(shards):
    print(f"TESSERA_SEED={SEED}")
    return shards(len(SHARDS))


@pytest.fixture(scope="module")
def database(servers, new_database):
    return new_database(servers)


@pytest.mark.parametrize("key", sharding.ALL, ids=lambda key: key.name)
def test_keys_are_where_the_predicates_say(key, servers, database, tessera, tmp_path):
    with servers[0].connect(database) as one:
        one.execute("SET timezone = 'UTC'")
        oid, array_oid = one.execute("SELECT oid::int, typarray::int FROM pg_type WHERE oid = %s::regtype", [key.name]).fetchone()
        sample = Keys([("k", key)], [key.random], [], PLACED).random(1, PLACED)
        rules = list(sharding.rules_for(key, *sharding.bounds_and_entries(one, key, sample)))
        if key.has_text:
            rules += sharding.crc32_rules()
        config = sharding.write_configuration(tmp_path / "rules.yaml", rules, ["k"], key.name)
        keys = placed_keys(one, key, rules, config)
    collation = 'COLLATE "C"' if key.is_text else ""
    for number, server in enumerate(servers):
        with server.connect(database, user="app", password="app") as connection:
            for i in range(len(rules)):
                connection.execute(f"DROP TABLE IF EXISTS k{i}")
                connection.execute(f"CREATE TABLE k{i} (n int, k {key.name} {collation}, at int NOT NULL DEFAULT {number})")
    named = {f"r{i}": rule for i, (_, rule) in enumerate(rules)}
    tables = {f"k{i}": {"rule": f"r{i}", "key": "k"} for i in range(len(rules))}
    proxy = tessera({"databases": {"shop": database_config(servers, database, rules={**sharding.SHARED, **named}, tables=tables)}})
    direct = [server.connect(database, autocommit=True) for server in servers]
    with proxy.connect("shop", autocommit=True) as through:
        through.execute("SET timezone = 'UTC'")
        placing = Placing(key, through, direct, rules, keys)
        forms, lists = forms_of(key, oid), lists_of(key, array_oid, oid)
        for number in range(len(rules)):
            placing.insert(number, forms)
            placing.check_rows(number)
            placing.select(number, forms)
            placing.select_lists(number, lists)
    for connection in direct:
        connection.close()


def composite_keys(connection, composite, config):
    """[(values of the columns, shard or None)]: distinct keys, and where the rule's predicate is true."""
    names = [name for name, _ in composite.columns]
    query = Keys(composite.columns, composite.expressions, [], PLACED).random(1, PLACED)
    forms = ", ".join(f"{name}::text, {key.send}({name})" for name, key in composite.columns)
    truth = ", ".join(f"({one}) IS TRUE" for one in sharding.predicates(config, 1)[0])
    rows = connection.execute(f"SELECT array_positions(ARRAY[{truth}], true), {forms} FROM (SELECT DISTINCT {', '.join(names)} FROM ({query}) q) d").fetchall()
    assert all(len(row[0]) < 2 for row in rows)
    return [([Value(row[1 + 2 * i], row[2 + 2 * i], sharding.readable(key, row[1 + 2 * i])) for i, (_, key) in enumerate(composite.columns)],
             row[0][0] - 1 if row[0] else None) for row in rows]


def composite_forms(oids):
    """Ways to say the columns of a key: (values -> (each in the statement, parameters), whether it is binary)."""
    def literals(values):
        return [value.literal for value in values], []

    def text(values):
        return [f"${i + 1}" for i in range(len(values))], [(value.text.encode(), 0, 0) for value in values]

    def binary(values):
        return [f"${i + 1}" for i in range(len(values))], [(value.binary, oid, 1) for value, oid in zip(values, oids)]

    def mixed(values):
        said, parameters = text(values[1:])
        return [values[0].literal, *said], parameters

    return [(literals, False), (text, False), (binary, True), (mixed, False)]


@pytest.mark.parametrize("name", sharding.COMPOSITES)
def test_composite_keys_are_where_the_predicate_says(name, servers, database, tessera, tmp_path):
    composite = sharding.COMPOSITES[name]
    names = [column for column, _ in composite.columns]
    rules, types = [(name, composite.rule)], ", ".join(key.name for _, key in composite.columns)
    with servers[0].connect(database, options="-c timezone=UTC") as one:
        keys = composite_keys(one, composite, sharding.write_configuration(tmp_path / "rules.yaml", rules, names, types, composite.parts))
        oids = [one.execute("SELECT %s::regtype::oid::int", [key.name]).fetchone()[0] for _, key in composite.columns]
    direct = [server.connect(database, autocommit=True) for server in servers]
    columns = ", ".join(f"{column} {key.name}" for column, key in composite.columns)
    for number, connection in enumerate(direct):
        connection.execute("DROP TABLE IF EXISTS composite")
        connection.execute(f"CREATE TABLE composite (n int, at int NOT NULL DEFAULT {number}, {columns}); GRANT ALL ON composite TO app")
    config = database_config(servers, database, rules={**composite.parts, "r": composite.rule}, tables={"composite": {"rule": "r", "key": names}})
    proxy = tessera({"databases": {"shop": config}})
    forms = composite_forms(oids)
    with proxy.connect("shop", autocommit=True) as through:
        through.execute("SET timezone = 'UTC'")
        for n, (values, shard) in enumerate(keys):
            may_refuse = not all(value.readable for value in values)
            for turn, (say, binary) in enumerate(forms[n % 4:] + forms[:n % 4]):
                said, parameters = say(values)
                about = f"seed {SEED}: {said} {parameters} {values}, shard {shard}"
                if turn == 0:
                    statement = f"INSERT INTO composite (n, {', '.join(names)}) VALUES ({n}, {', '.join(said)})"
                    state, what = ask(through, statement, parameters)
                    if state == b"0A000" and may_refuse and not binary:
                        break
                    assert state == (NO_PLACE if shard is None else None), f"{about}: {what}"
                    continue
                whole = f"({', '.join(names)}) IN (({', '.join(said)}))"
                condition = whole if turn == 1 else " AND ".join(f"{column} = {one}" for column, one in zip(names, said))
                state, rows = ask(through, f"SELECT count(*), min(n), min(at) FROM composite WHERE {condition}", parameters)
                if state != b"0A000" or binary or not may_refuse:
                    assert (state, rows) == (None, [(0, -1, -1) if shard is None else (1, n, shard)]), f"{about}: {condition}: {state} {rows}"
    for where, connection in enumerate(direct):
        for n, at in connection.execute("SELECT n, at FROM composite"):
            assert at == where == keys[n][1], f"seed {SEED}: {keys[n]} is on shard {where}"
        connection.close()
