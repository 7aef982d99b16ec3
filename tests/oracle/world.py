"""A random schema: families of co-located tables under rules of several types, a table with a composite key, reference and plain tables, views; and rows for them."""

from typing import NamedTuple

from oracle.kinds import KEYS, KINDS, ORDINARY, quoted

FUNCTIONS = ["create function twice(n bigint) returns bigint immutable language sql return n * 2", "create function plus(n bigint) returns bigint stable language sql return n + 1"]


class Table(NamedTuple):
    name: str
    columns: dict  # name to kind
    place: str  # sharded, reference, plain, view
    key: tuple = ()  # of a sharded table
    primary: tuple = ()
    defaults: dict = {}
    family: str = ""


class World:
    def __init__(self, rng, shards):
        self.rng, self.shards = rng, [f"s{i}" for i in range(shards)]
        self.tables, self.rules, self.entries, self.statements, self.keys = {}, {}, {}, ["create type mood as enum ('sad', 'ok', 'happy')", *FUNCTIONS], {}
        # A collation of the database's, or the bytes; ICU's is the same on every machine with one version.
        self.locale = rng.choice(["", "template template0 locale_provider icu icu_locale 'en-US'"])
        for family in ("a", "b"):
            self._family(family, rng.choice(KEYS), rng.choice([2, 3]))
        self._composite()
        for i in range(2):
            self._add(f"ref{i}", {"code": rng.choice(["text", "int", "char"]), **self._columns(2, 3)}, "reference", primary=("code",))
        for i in range(2):  # the second is not listed: it is on the default shard
            self._add(f"plain{i}", {"name": rng.choice(["text", "big"]), **self._columns(2, 4)}, "plain", primary=("name",))
        self._views()

    def _columns(self, least, most):
        return {f"c{i}": self.rng.choice(ORDINARY) for i in range(self.rng.randint(least, most))}

    # ---- rules

    def rule(self, kind, pool):
        """A rule that such keys can have."""
        rng, values = self.rng, [value for value in pool if value not in ("infinity", "")]
        spread = {"shards": rng.sample(self.shards, rng.randint(max(1, len(self.shards) - 1), len(self.shards)))}
        kinds = ["hash", "hash", "ring", "directory"]
        if kind in ("int", "big", "uuid", "text", "vchar", "small"):
            kinds += ["md5", "crc32"]
        if kind in ("int", "big", "date", "ts", "small"):
            kinds.append("range")
        if kind in ("int", "big", "small") and len(self.shards) in (2, 4):  # each number has a shard
            kinds.append("embedded")
        if kind in ("text", "vchar"):
            kinds.append("geography")
        chosen = rng.choice(kinds)
        if chosen == "hash":
            return {"type": "hash", "buckets": rng.choice([1024, 16, 100]), **spread}
        if chosen in ("md5", "crc32"):
            return {"type": rng.choice(["hash", "consistent_hash"]), "function": chosen, **spread}
        if chosen == "ring":
            return {"type": "consistent_hash", "virtual_nodes": rng.choice([10, 150]), **spread}
        if chosen == "embedded":
            return {"type": "embedded", "shard_shift": rng.choice([0, 1]), "shard_bits": len(self.shards) // 2, "shards": rng.sample(self.shards, len(self.shards))}
        if chosen == "range":
            bounds = sorted(rng.sample(values, min(len(values), len(self.shards) - 1)), key=lambda text: float(text) if kind in ("int", "big", "small") else text)
            return {"type": "range", "ranges": [*({"below": bound, "shard": rng.choice(self.shards)} for bound in bounds), {"shard": rng.choice(self.shards)}]}
        if chosen == "directory":
            return {"type": "directory", "entries": {value: rng.choice(self.shards) for value in rng.sample(values, min(3, len(values)))}, "otherwise": rng.choice(self.shards)}
        countries = list({value.upper(): value for value in values if value.isprintable() and value == value.strip()}.values())
        return {"type": "geography", "regions": {"one": {"countries": countries[::2], "shard": rng.choice(self.shards)}, "two": {"countries": countries[1::2] or ["QQ"], "rule": "any"}}, "otherwise": rng.choice(self.shards)}

    def pool(self, kind):
        """Keys: those of the kind, and for numbers a run of them."""
        return [*KINDS[kind].values, *(str(i) for i in range(20, 32))] if kind in ("int", "big", "small") else KINDS[kind].values[:12]

    # ---- tables

    def _add(self, name, columns, place, key=(), primary=(), family="", more=()):
        rng = self.rng
        defaults = {column: rng.choice(KINDS[kind].values) for column, kind in columns.items() if column not in (*key, *primary) and rng.random() < 0.15}
        table = Table(name, columns, place, key, primary, defaults, family)
        lines = [f"{column} {KINDS[kind].sql}" + (f" default {quoted(defaults[column])}" if column in defaults else "") for column, kind in columns.items()]
        if primary:
            lines.append(f"primary key ({', '.join(primary)})")
        self.statements.append(f"create table {name} ({', '.join([*lines, *more])})")
        self.tables[name] = table
        if place == "sharded":
            self.entries[name] = {"rule": f"by_{family}", "key": list(key)}
        elif place == "reference":
            self.entries[name] = {"reference": True}
        elif name == "plain0":
            self.entries[name] = {"shard": rng.choice(self.shards)}

    def _family(self, family, kind, size):
        rng = self.rng
        self.rules.setdefault("any", {"type": "hash", "shards": self.shards})
        self.keys[family] = self.pool(kind)
        self.rules[f"by_{family}"] = self.rule(kind, self.keys[family])
        for i in range(size):
            key = "k" if rng.random() < 0.6 else f"{family}k"
            # Where the key stands, what is unique, what is not: the first is the parent of the others.
            columns = {key: kind, **self._columns(3, 5)} if i == 0 else {"id": "int", key: kind, **self._columns(3, 5)}
            primary = (key,) if i == 0 else rng.choice([(key, "id"), (key, "id"), ()])
            self._add(f"{family}{i}", columns, "sharded", (key,), primary, family, [f"check (c0 is distinct from {quoted(KINDS[columns['c0']].values[-1])})"] if i and rng.random() < 0.5 else [])

    def _composite(self):
        kind = self.rng.choice(["int", "big", "uuid", "date"])
        self.keys["c"], self.keys["c2"] = ["DE", "FR", "US", "xx", ""], self.pool(kind)
        self.rules["first"] = {"type": "geography", "regions": {"here": {"countries": ["DE", "fr"], "rule": "second"}, "there": {"countries": ["US"], "shard": self.rng.choice(self.shards)}}, "otherwise": self.rng.choice([*self.shards, "second"])}
        self.rules["second"] = {"type": "hash", "shards": self.shards}
        self.rules["by_c"] = {"type": "composite", "of": ["first", "second"]}
        self._add("c0", {"id": "int", "land": self.rng.choice(["text", "vchar"]), "num": kind, **{f"c{i}": self.rng.choice(ORDINARY) for i in range(3)}}, "sharded", ("land", "num"), ("land", "num", "id"), "c")

    def _views(self):
        first, second = self.tables["a0"], self.tables["a1"]
        columns = {"k": first.columns[first.key[0]], "n": "big", "x": second.columns["c1"]}
        self.statements.append(f"create view joined as select p.{first.key[0]} as k, 1::bigint as n, q.c1 as x from a0 p join a1 q on p.{first.key[0]} = q.{second.key[0]}")
        self.tables["joined"] = Table("joined", columns, "view")
        ref = self.tables["ref0"]
        self.statements.append("create view codes as select code, c0 from ref0 where c0 is not null")
        self.tables["codes"] = Table("codes", {"code": ref.columns["code"], "c0": ref.columns["c0"]}, "view")

    # ---- rows

    def key_value(self, table, column):
        """A key, a few of which are the most."""
        pool = self.keys["c2" if table.family == "c" and column == "num" else table.family]
        return pool[min(int(self.rng.expovariate(0.25)), len(pool) - 1)] if self.rng.random() < 0.7 else self.rng.choice(pool)

    def value(self, table, column, number):
        """The text of a value for a row, the number-th; None: NULL."""
        kind = table.columns[column]
        if column in table.key:
            return self.key_value(table, column)
        if column == "id":
            return str(number)
        if column in table.primary or self.rng.random() < 0.8:
            return self.rng.choice(KINDS[kind].values)
        return None

    def row(self, table, number):
        return [self.value(table, column, number) for column in table.columns]

    def rows(self, table):
        """Rows with different primary keys, none that the check refuses; now and then none at all."""
        if table.place == "sharded" and self.rng.random() < 0.1:
            return []
        found, seen = [], set()
        for number in range(self.rng.choice([5, 40, 90]) if table.place == "sharded" else 8):
            row = dict(zip(table.columns, self.row(table, number)))
            if row.get("c0") == KINDS[table.columns.get("c0", "int")].values[-1]:
                row["c0"] = None
            primary = tuple((row[column] or "").strip() for column in table.primary)
            if primary and primary in seen:
                continue
            seen.add(primary)
            found.append(list(row.values()))
        return found
