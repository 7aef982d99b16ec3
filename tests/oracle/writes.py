"""Random INSERT, UPDATE, DELETE and MERGE, alone and in transactions with savepoints. What they do is determined: no row is changed by one of several others, no two kinds of error stand in one statement."""

from typing import NamedTuple

from oracle.expressions import Statement
from oracle.kinds import KINDS
from oracle.queries import Queries

SAVED = "savepoint s"


class Script(NamedTuple):
    statements: list
    tables: set  # that it may have changed


class Writes(Queries):
    def __init__(self, world, rng):
        super().__init__(world, rng)
        self.numbers = 1000  # of rows: each is new
        self.targets = [table for table in world.tables.values() if table.place != "view"]

    def target(self):
        return self.rng.choices(self.targets, [{"sharded": 6, "reference": 2, "plain": 1}[table.place] for table in self.targets])[0]

    def script(self):
        if self.chance(0.5):
            statement, table = self.write()
            return Script([statement], {table})
        begin = self.one("begin", "begin", "begin isolation level repeatable read", "start transaction")
        statements, tables, saved = [Statement(begin, [], what="begin")], set(), False
        for _ in range(self.rng.randint(1, 6)):
            if self.chance(0.2):
                statements.append(Statement(SAVED, [], what="savepoint"))
                saved = True
            elif saved and self.chance(0.25):
                saved = self.chance(0.5)
                statements.append(Statement("rollback to s" if saved else "release s", [], what="savepoint"))
            elif self.chance(0.25):
                statements.append(Queries.statement(self)._replace(what="select in a transaction"))
            else:
                statement, table = self.write()
                statements.append(statement)
                tables.add(table)
        statements.append(Statement(self.one("commit", "commit", "commit", "rollback"), [], what="end"))
        return Script(statements, tables)

    def write(self):
        """(statement, name of its table)"""
        self.constants, self.common, self.loose = [], {}, False
        table = self.target()
        form = self.rng.random()
        if form < 0.35:
            text = self.insert(table)
        elif form < 0.42:
            text = self.insert_select(table)
        elif form < 0.75:
            text = self.update(table)
        elif form < 0.97:
            text = self.delete(table)
        else:
            text = self.merge(table)
        ordered = text.startswith("insert") and " on conflict" not in text and " select " not in text and "returning" in text
        width = self.width if "returning" in text else 0
        return Statement(text, self.constants, tuple(range(width)) if ordered else (), self.loose, "write"), table.name

    def returning(self, table, alias, joined=False):
        """`joined`: with which of several rows of another table is anybody's guess."""
        self.width = 0
        if not self.chance(0.4):
            return ""
        picked = self.one(["*"], [f"{alias}.{column}" for column in self.rng.sample([*table.columns], min(2, len(table.columns)))], [self.value({alias: table.columns}, None, 1)[0]])
        self.width = len(table.columns) if picked == ["*"] else len(picked)
        if picked == ["*"] and joined:
            picked = [f"{alias}.*"]
        return f" returning {', '.join(picked)}"

    # ---- INSERT

    def cell(self, table, column, number):
        if column in table.defaults and self.chance(0.3):
            return "default"
        if column not in table.key and column != "id" and self.chance(0.1):
            return self.value({}, table.columns[column], 1)[0]
        value = self.world.value(table, column, number)
        return self.mark(table.columns[column], value) if value is not None else "null"

    def tuples(self, table, count):
        """As VALUES; each row has an id of its own where there is one."""
        rows = []
        for _ in range(count):
            self.numbers += 1
            rows.append("(" + ", ".join(self.cell(table, column, self.numbers) for column in table.columns) + ")")
        return ", ".join(rows)

    def insert(self, table):
        count = self.rng.choice([1, 1, 1, 2, 4, 12])
        columns = f" ({', '.join(table.columns)})" if self.chance(0.6) else ""
        text = f"insert into {table.name}{columns} values {self.tuples(table, count)}"
        if table.primary and (table.primary[-1] != "id" or self.chance(0.3)):
            text += self.conflict(table) if count > 1 or self.chance(0.6) else ""
        return text + self.returning(table, table.name)

    def conflict(self, table):
        """One row at most for each key, or DO UPDATE would meet its own rows."""
        free = [column for column in table.columns if column not in (*table.key, *table.primary)]
        target = f" ({', '.join(table.primary)})"
        if not free or self.chance(0.5):
            return f" on conflict{self.one(target, '')} do nothing"
        column = self.rng.choice(free)
        where = f" where {table.name}.{column} is distinct from excluded.{column}" if self.chance(0.3) else ""
        return f" on conflict{target} do update set {column} = {self.one(f'excluded.{column}', f'coalesce({table.name}.{column}, excluded.{column})', self.value({table.name: table.columns}, table.columns[column], 1)[0])}{where}"

    def insert_select(self, table):
        """From a table with the same key: rows with ids of their own."""
        self.numbers += 1000
        same = [one for one in self.targets if one.family == table.family and one.family and "id" in one.columns and [one.columns[k] for k in one.key] == [table.columns[k] for k in table.key]]
        if "id" not in table.columns or not same or table.primary == table.key:
            source = self.one(*self.targets)
        else:
            source = self.rng.choice(same)
        scope = {"x": source.columns}
        keys = dict(zip(table.key, source.key))
        picked = []
        for column, kind in table.columns.items():
            if column in keys:
                picked.append(f"x.{keys[column]}")
            elif column == "id" and "id" in source.columns:
                picked.append(f"x.id + {self.numbers}")
            else:
                picked.append(self.value(scope, kind, 1)[0])
        conflict = "" if table.primary[-1:] == ("id",) else self.one("", " on conflict do nothing")
        return f"insert into {table.name} ({', '.join(table.columns)}) select {', '.join(picked)} from {source.name} as x where {self.predicate(scope, {}, 0)}{conflict}"

    # ---- UPDATE, DELETE

    def other(self, table):
        """(text, scope, condition) of a table to join, or None: one of its family, or a reference table."""
        some = [one for one in self.world.tables.values() if one.place == "reference" or (one.family == table.family and one.family)]
        other = self.rng.choice(some or self.targets)
        if other.family and other.family == table.family:
            return other.name, {"o": other.columns}, " and ".join(f"t.{mine} = o.{theirs}" for mine, theirs in zip(table.key, other.key))
        pair = self.pair({"t": table.columns}, "o", other.columns)
        return (other.name, {"o": other.columns}, pair) if pair else None

    def condition(self, table):
        scope = {"t": table.columns}
        if self.chance(0.4) and (found := self.key_condition(scope)):
            return found + (f" and {self.predicate(scope, {}, 0)}" if self.chance(0.4) else "")
        return self.predicate(scope, {}, 1 if self.chance(0.15) else 0)

    def update(self, table):
        free = [column for column in table.columns if column not in (*table.key, *table.primary)]
        if self.chance(0.02):
            free = [*table.columns]
        sets = [f"{column} = {'default' if self.chance(0.05) else self.value({'t': table.columns}, table.columns[column], 2)[0]}" for column in self.rng.sample(free, min(len(free), self.one(1, 1, 2)))]
        text = f"update {table.name} {self.one('as ', '')}t set {', '.join(sets)}"
        condition = self.condition(table) if self.chance(0.85) else ""
        other = self.other(table) if self.chance(0.15) else None
        if other:
            text += f" from {other[0]} o"
            condition = other[2] + (f" and ({condition})" if condition else "")
        return text + (f" where {condition}" if condition else "") + self.returning(table, "t", other is not None)

    def delete(self, table):
        text = f"delete from {table.name} {self.one('as ', '')}t"
        condition = self.condition(table)
        other = self.other(table) if self.chance(0.15) else None
        if other:
            text += f" using {other[0]} o"
            condition = f"{other[2]} and ({condition})"
        elif self.chance(0.03):
            return text + self.returning(table, "t")
        return f"{text} where {condition}{self.returning(table, 't', other is not None)}"

    def merge(self, table):
        other = self.other(table)
        free = [column for column in table.columns if column not in (*table.key, *table.primary)]
        if not other or not free:
            return self.delete(table)
        column = self.rng.choice(free)
        value = self.value({"t": table.columns}, table.columns[column], 1)[0]
        return f"merge into {table.name} t using (select distinct {next(iter(other[1]['o']))} as m from {other[0]}) s on t.{next(iter(table.columns))} = s.m when matched then {self.one(f'update set {column} = {value}', 'delete')}"
