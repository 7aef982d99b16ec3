"""Random queries over four shards: the rows (or the SQLSTATE) that one plain server gives, or a refusal.

TESSERA_QUERIES=20000 for a longer run, TESSERA_SEED for another; a failure names the seed.
"""

import os
import random

from gathered import answer, both  # noqa: F401

QUERIES = int(os.environ.get("TESSERA_QUERIES", "600"))
SEED = int(os.environ.get("TESSERA_SEED", "1"))
COLUMNS = {
    "users": {"id": "n", "name": "t", "country": "t", "born": "d", "mood": "m", "boss": "n"},
    "orders": {"id": "n", "user_id": "n", "amount": "q", "paid": "n", "note": "t", "tags": "a", "at": "z"},
    "events": {"item": "t", "at": "d", "weight": "f", "id": "u"},
    "countries": {"code": "t", "name": "t"},
    "settings": {"name": "t", "value": "t"},
}
CONSTANTS = {
    "n": ["0", "3", "7", "12", "33", "null", "2 + 3"], "t": ["'x'", "'DE'", "'FR'", "''", "'zoë'", "'b'"], "d": ["'1970-01-01'", "'2024-02-10'"], "m": ["'ok'", "'happy'"],
    "q": ["1.50", "0", "50", "-3.1"], "a": ["'{b,c}'", "'{}'"], "z": ["'2024-01-15 12:00+00'"], "f": ["0.1", "'NaN'", "'Infinity'"], "u": [f"'00000000-0000-0000-0000-0000000000{i:02}'" for i in (3, 10, 40)],
}
AGGREGATES = {"n": ["sum", "avg", "min", "max", "count", "bit_and"], "q": ["sum", "avg", "stddev", "max", "count"], "t": ["min", "max", "count", "count(distinct"], "d": ["min", "max"], "m": ["min", "max"],
              "a": ["count"], "z": ["max", "count"], "f": ["max", "count"], "u": ["count"]}


class Generator:
    def __init__(self, seed):
        self.random = random.Random(seed)
        self.names = 0

    def one(self, *choices):
        return self.random.choice(choices)

    def chance(self, p):
        return self.random.random() < p

    def alias(self):
        self.names += 1
        return f"a{self.names}"

    def column(self, scope, kinds=None):
        """(text, kind) of a column in the scope: {alias: {column: kind}}; None: there is no such one."""
        found = [(f"{alias}.{name}", kind) for alias, columns in scope.items() for name, kind in columns.items() if kinds is None or kind in kinds]
        return self.random.choice(found) if found else None

    def source(self, depth):
        """(text, alias, columns)"""
        alias = self.alias()
        if depth > 0 and self.chance(0.2):
            text, kinds = self.select(depth - 1, {}, self.random.randint(1, 3))
            columns = {f"c{i}": kind for i, kind in enumerate(kinds)}
            return f"({text}) as {alias} ({', '.join(columns)})", alias, columns
        table = self.random.choices(list(COLUMNS), [5, 5, 3, 1, 1])[0]
        return f"{table} {self.one('as ', '')}{alias}", alias, COLUMNS[table]

    def predicate(self, scope, outer, depth):
        kind = self.random.random()
        text, type_ = self.column(scope)
        if kind < 0.3:
            return f"{text} {self.one('=', '=', '<', '>=', '<>')} {self.one(*CONSTANTS[type_])}"
        if kind < 0.4:
            return f"{text} is {self.one('', 'not ')}null"
        if kind < 0.55:
            other = self.column({**scope, **outer}, type_)
            return f"{text} {self.one('=', '=', '<', 'is distinct from')} {other[0]}"
        if kind < 0.65:
            return f"{text} in ({', '.join(self.random.sample(CONSTANTS[type_], min(2, len(CONSTANTS[type_]))))})"
        if kind < 0.75:
            return f"({self.predicate(scope, outer, depth)} {self.one('or', 'and')} {self.predicate(scope, outer, depth)})"
        if kind < 0.8:
            return f"not ({self.predicate(scope, outer, depth)})"
        if depth > 0 and kind < 0.9:
            return f"{self.one('', 'not ')}exists ({self.select(depth - 1, {**scope, **outer}, 1)[0]})"
        if depth > 0:
            inner, kinds = self.select(depth - 1, {**scope, **outer}, 1)
            same = self.column(scope, kinds)
            return f"{same[0]} {self.one('', 'not ')}in ({inner})" if same else f"exists ({inner})"
        return f"{text} is not distinct from {self.one(*CONSTANTS[type_])}"

    def relations(self, depth, outer):
        text, alias, columns = self.source(depth)
        scope = {alias: columns}
        for _ in range(self.random.choices([0, 1, 2], [5, 4, 1])[0]):
            more, alias, columns = self.source(depth)
            kind = self.one("join", "join", "left join", "right join", "full join", "cross join")
            pair = None
            if kind != "cross join":
                mine = self.column(scope)
                same = self.column({alias: columns}, mine[1])
                pair = f"{mine[0]} = {same[0]}" if same else None
            if pair is None:
                kind = "cross join"
            scope[alias] = columns
            text += f" {kind} {more}" + (f" on {pair}" if pair else "")
            if pair and kind != "full join" and self.chance(0.3):
                text += f" and {self.predicate({alias: columns}, {}, 0)}"
        return text, scope

    def select(self, depth, outer, width):
        """(text, kinds of its columns), without ORDER BY."""
        text, scope = self.relations(depth, outer)
        where = f" where {self.predicate(scope, outer, depth)}" if self.chance(0.6) else ""
        picked = [self.column(scope) for _ in range(width)]
        if self.chance(0.25):
            aggregated, kinds = [], []
            for column, kind in picked[1:] or picked:
                function = self.one(*AGGREGATES[kind])
                aggregated.append(f"{function} {column})" if function.endswith("(distinct") else f"{function}({column})")
                kinds.append(kind if function in ("min", "max") else "n" if function.startswith("count") else "q")
            if len(picked) == 1:
                return f"select {', '.join(aggregated)} from {text}{where}", kinds
            having = f" having count(*) > {self.one(0, 1, 3)}" if self.chance(0.3) else ""
            return f"select {', '.join([picked[0][0], *aggregated])} from {text}{where} group by {picked[0][0]}{having}", [picked[0][1], *kinds]
        distinct = "distinct " if self.chance(0.15) else ""
        return f"select {distinct}{', '.join(column for column, _ in picked)} from {text}{where}", [kind for _, kind in picked]

    def aggregate(self, scope):
        column, kind = self.column(scope)
        function = self.one(*AGGREGATES[kind])
        text = f"{function} {column})" if function.endswith("(distinct") else f"{function}({column})"
        return self.one(text, text, "count(*)", f"coalesce({text}::text, '-')", f"{text} filter (where {self.predicate(scope, {}, 0)})" if self.chance(0.2) else text)

    def over_one_table(self):
        """Groups and aggregates of one table, which the shards can prepare."""
        table = self.random.choice(list(COLUMNS))
        alias = self.one(self.alias(), table)
        scope = {alias: COLUMNS[table]}
        keys = []
        for _ in range(self.random.choice([0, 0, 1, 1, 2])):
            column, kind = self.column(scope)
            keys.append(self.one(column, column, *{"t": [f"lower({column})", f"length({column})"], "d": [f"extract(month from {column})"], "z": [f"date_trunc('week', {column})"], "n": [f"{column} % 5"],
                                                   "q": [f"round({column})", f"{column}::text"]}.get(kind, [])))
        outputs = [*keys, *(self.aggregate(scope) for _ in range(self.random.choice([0, 1, 2, 3] if keys else [1, 2, 3])))]
        text = f"select {'distinct ' if self.chance(0.1) else ''}{', '.join(outputs)} from {table}{f' as {alias}' if alias != table else ''}"
        if self.chance(0.5):
            text += f" where {self.predicate(scope, {}, 0)}"
        if keys:
            text += f" group by {', '.join(self.one(key, str(i + 1)) for i, key in enumerate(keys))}"
        if self.chance(0.3):
            text += f" having {self.one('count(*) > 1', f'{self.aggregate(scope)} is not null')}"
        if self.chance(0.4):
            text += f" order by {', '.join(self.one(str(i + 1), f'{i + 1} desc') for i in range(len(outputs)))} limit 7"
        return text

    def statement(self):
        if self.chance(0.4):
            return self.over_one_table()
        width = self.random.randint(1, 4)
        text, kinds = self.select(2, {}, width)
        if self.chance(0.15):
            for _ in range(20):
                other, others = self.select(1, {}, width)
                if others == kinds:
                    text = f"{text} {self.one('union', 'union all', 'intersect', 'except', 'except all')} {other}"
                    break
        elif self.chance(0.15):
            names = ", ".join(f"c{i}" for i in range(len(kinds)))
            text = f"with w ({names}) as ({text}) select *, row_number() over (order by {names}) from w"
            kinds = [*kinds, "n"]
        if self.chance(0.4):
            order = ", ".join(f"{i + 1} {self.one('', 'desc', 'nulls first')}" for i in range(len(kinds)))
            text = f"select * from ({text}) as ordered order by {order}"
            if self.chance(0.6):
                text += f" limit {self.random.randint(0, 9)}{self.one('', ' offset 2')}"
        return text


def test_random_queries(both):
    through, one, *_ = both
    one.execute("set statement_timeout = '1s'")
    through.execute("set statement_timeout = '20s'")
    outcomes = {"rows": 0, "error": 0, "refused": 0, "slow": 0}
    for seed in range(SEED * 1_000_000, SEED * 1_000_000 + QUERIES):
        query = Generator(seed).statement()
        expected = answer(one, query)
        if expected == "57014":
            outcomes["slow"] += 1
            continue
        found = answer(through, query)
        if found == "0A000":
            outcomes["refused"] += 1
            continue
        assert found == expected, f"seed {seed}: {query}"
        outcomes["error" if isinstance(expected, str) else "rows"] += 1
    print(outcomes)
    assert outcomes["rows"] > QUERIES * 0.8 and outcomes["refused"] < QUERIES * 0.02, outcomes
