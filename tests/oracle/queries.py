"""Random SELECTs: joins of all kinds, subqueries, WITH, windows, set operations, grouping sets, ORDER BY and LIMIT."""

from oracle.expressions import Expressions, Statement
from oracle.kinds import KINDS, NUMBERS, TEXTS

JOINS = ["join", "join", "join", "left join", "left join", "right join", "full join", "cross join"]
SUMMED = ("small", "int", "big", "dec", "num", "float")
LEAST = [kind for kind in KINDS if kind not in ("bool", "uuid", "bytea", "jsonb", "ints", "texts")]


class Queries(Expressions):
    def __init__(self, world, rng):
        super().__init__(world, rng)
        self.common = {}  # names in WITH: their columns

    # ---- what stands in FROM

    def table(self):
        names = [*self.world.tables]
        return self.world.tables[self.rng.choices(names, [{"sharded": 6, "reference": 2, "plain": 1, "view": 1}[self.world.tables[name].place] for name in names])[0]]

    def source(self, depth, outer):
        """(text, alias, columns)"""
        alias, form = self.alias(), self.rng.random()
        if self.common and form < 0.35:
            name = self.one(*self.common)
            return f"{name} as {alias}", alias, self.common[name]
        if depth > 0 and form < 0.5:
            text, kinds = self.select(depth - 1, {}, self.rng.randint(1, 3))
            columns = {f"c{i}": kind for i, kind in enumerate(kinds)}
            return f"({text}) as {alias} ({', '.join(columns)})", alias, columns
        if form > 0.97:
            return self.one((f"generate_series(1, {self.rng.randint(0, 4)}) as {alias} (n)", alias, {"n": "int"}),
                            (f"(values (1, 'a'), (2, null), (null, 'b')) as {alias} (n, v)", alias, {"n": "int", "v": "text"}))
        table = self.table()
        return f"{table.name} {self.one('as ', '')}{alias}", alias, table.columns

    def co_located(self):
        """Tables of a family joined on their keys, and reference tables, by joins of all kinds: what each shard may answer for itself."""
        name = self.one("a", "a", "b", "b", "c")
        family = [table for table in self.world.tables.values() if table.family == name]
        references = [table for table in self.world.tables.values() if table.place == "reference"]
        text, scope, keyed = "", {}, None
        for _ in range(self.rng.choice([1, 2, 2, 3])):
            table, alias = self.rng.choice(references if self.chance(0.3) else family), self.alias()
            kind, condition = self.one("join", "join", "join", "left join", "left join", "right join", "full join"), self.pair(scope, alias, table.columns)
            if table.family and keyed:
                condition = " and ".join(f"{self.one(f'{keyed[0]}.{one} = {alias}.{other}', f'{alias}.{other} = {keyed[0]}.{one}')}" for one, other in zip(keyed[1], table.key))
                if len(scope) == 1 and keyed[1] == table.key and self.chance(0.2):
                    condition = f"using ({', '.join(table.key)})"
            if not text:
                text = f"{table.name} {alias}"
            elif kind != "full join" and self.chance(0.1) or condition is None:
                text += self.one(f" cross join {table.name} {alias}", f", {table.name} {alias}")
            elif condition.startswith("using"):
                text += f" {kind} {table.name} {alias} {condition}"
            else:
                more = f" and {self.predicate({alias: table.columns}, {}, 0)}" if kind != "full join" and self.chance(0.2) else ""
                text += f" {kind} {table.name} {alias} on {condition}{more}"
            scope[alias] = table.columns
            if table.family and (keyed is None or self.chance(0.3)):
                keyed = (alias, table.key)
        return text, scope

    def relations(self, depth, outer):
        if self.chance(0.2):
            return self.co_located()
        text, alias, columns = self.source(depth, outer)
        scope = {alias: columns}
        for _ in range(self.rng.choices([0, 1, 2], [5, 4, 1])[0]):
            if depth > 0 and self.chance(0.07):
                inner, kinds = self.select(depth - 1, scope, 2)
                alias = self.alias("l")
                text += self.one(f" cross join lateral ({inner}) as {alias} (c0, c1)", f" left join lateral ({inner}) as {alias} (c0, c1) on true")
                scope[alias] = dict(zip(("c0", "c1"), kinds))
                continue
            more, alias, columns = self.source(depth, outer)
            kind = self.one(*JOINS)
            pair = None if kind == "cross join" else self.pair(scope, alias, columns)
            if pair is None:
                kind = "cross join"
            elif self.chance(0.08) and (shared := self.shared(scope, alias, columns)) and kind != "cross join":
                text += f" {kind} {more} using ({shared})"
                scope[alias] = columns
                continue
            scope[alias] = columns
            text += f" {kind} {more}" + (f" on {pair}" if pair else "")
            if pair and kind != "full join" and self.chance(0.3):
                text += f" and {self.predicate({alias: columns}, {}, 0)}"
        return text, scope

    def shared(self, scope, alias, columns):
        """A name that only one of the others has too, with the same kind."""
        for name, kind in columns.items():
            if [one.get(name) for one in scope.values() if name in one] == [kind]:
                return name
        return None

    def pair(self, scope, alias, columns):
        """An equality between what there is and what comes; often that of the sharding keys."""
        keys = {key for table in self.world.tables.values() for key in table.key} if self.chance(0.6) else ()
        mine = [(column, kind) for column, kind in self.columns(scope) if column.split(".")[1] in keys] or self.columns(scope)
        theirs = [(column, kind) for column, kind in self.columns({alias: columns}) if column.split(".")[1] in keys] or self.columns({alias: columns})
        self.rng.shuffle(mine)
        for one, kind in mine:
            same = [column for column, other in theirs if other == kind or (kind in NUMBERS and other in NUMBERS) or (kind in TEXTS[:2] and other in TEXTS[:2])]
            if same:
                return f"{one} = {self.rng.choice(same)}"
        return None

    # ---- SELECT

    def select(self, depth, outer, width):
        """(text, kinds of its columns), without ORDER BY."""
        text, scope = self.relations(depth, outer)
        where = f" where {self.predicate(scope, outer, depth)}" if self.chance(0.6) else ""
        if self.chance(0.25):
            return self.grouped(text + where, scope, outer, width)
        picked = [self.value({**scope, **(outer if self.chance(0.1) else {})}, None, 2 if self.chance(0.3) else 0) for _ in range(width)]
        distinct = ""
        if self.chance(0.12):
            distinct = "distinct "
            self.loose |= any(KINDS[kind].loose for _, kind in picked)
            if self.chance(0.3):
                on = self.column(scope)
                self.loose |= KINDS[on[1]].loose
                return f"select distinct on ({on[0]}) {', '.join(column for column, _ in picked)} from {text}{where} order by {on[0]}, {self.total(scope)}", [kind for _, kind in picked]
        elif self.chance(0.12):
            picked[-1] = self.window(scope)
        return f"select {distinct}{', '.join(column for column, _ in picked)} from {text}{where}", [kind for _, kind in picked]

    def window(self, scope):
        part = f"partition by {self.column(scope)[0]} " if self.chance(0.6) else ""
        total = self.total(scope)
        column, kind = self.column(scope)
        numbers = self.column(scope, SUMMED)
        numbers = numbers[0] if numbers else "1"
        self.loose = True if numbers == "1" or KINDS[kind].loose else self.loose
        by_value = f"({part}order by {column}{self.one('', ' desc', ' nulls first')})"
        by_all = f"({part}order by {total})"
        return self.one((f"row_number() over {by_all}", "big"), (f"rank() over {by_value}", "big"), (f"dense_rank() over {by_value}", "big"), (f"count(*) over {by_value}", "big"), (f"sum(({numbers})::numeric) over {by_value}", "num"),
                        (f"lag({column}) over {by_all}", kind), (f"first_value({column}) over {by_all}", kind), (f"last_value({column}) over ({part}order by {total} rows between 1 preceding and 1 following)", kind), (f"ntile(3) over {by_all}", "int"),
                        (f"count({column}) over ({part.strip()})", "big"), (f"cume_dist() over {by_value}", "float"), (f"nth_value({column}, 2) over {by_all}", kind))

    def aggregate(self, scope):
        """(text, kind)"""
        column, kind = self.value(scope, None, 1 if self.chance(0.2) else 0)
        choices = [("count(*)", "big"), (f"count({column})", "big"), (f"count(distinct {column})", "big")]
        if kind in LEAST:
            choices += [(f"min({column})", kind), (f"max({column})", kind)] * 2
        if kind in SUMMED:
            choices += [(f"sum({column})", "float" if kind == "float" else "num"), (f"avg({column})", "float" if kind == "float" else "num")] * 2
        if kind in ("small", "int", "big", "dec"):
            choices += [(f"{self.one('stddev', 'variance', 'var_pop', 'stddev_pop')}({column})", "num"), (f"sum(distinct {column})", "num")]
        if kind in ("small", "int"):
            choices += [(f"{self.one('bit_and', 'bit_or', 'bit_xor')}({column})", kind)]
        if kind == "bool":
            choices += [(f"{self.one('bool_and', 'bool_or', 'every')}({column})", "bool")] * 3
        if kind in TEXTS[:2]:
            choices += [(f"string_agg({column}, ',' order by {column}, {self.total(scope)})", "text")]
        if kind in ("int", "text"):
            choices += [(f"array_agg({column} order by {self.total(scope)})", kind + "s")]
        if kind in ("int", "date", "text"):
            choices += [(f"percentile_disc(0.5) within group (order by {column})", kind), (f"jsonb_agg({column} order by {self.total(scope)})", "jsonb")]
        text, result = self.rng.choice(choices)
        if KINDS[kind].loose:
            self.loose = True
        if self.chance(0.12) and "within" not in text:
            text += f" filter (where {self.predicate(scope, {}, 0)})"
        return text, result

    def grouped(self, text, scope, outer, width):
        keys = [self.value(scope, None, 1 if self.chance(0.2) else 0) for _ in range(self.rng.choice([0, 1, 1, 2]) if width > 1 else self.one(0, 1))][:width]
        keys = [(key, kind) for key, kind in keys if "\x01" not in key]
        self.loose |= any(KINDS[kind].loose for _, kind in keys)
        parts = [*keys, *(self.aggregate(scope) for _ in range(width - len(keys)))]
        names = [key for key, _ in keys]
        clause = ", ".join(names)
        if names and self.chance(0.2):
            clause = self.one(f"rollup ({clause})", f"cube ({clause})", f"grouping sets (({clause}), ())", f"grouping sets ({clause})")
            if self.chance(0.3) and len(parts) > len(keys):
                parts[-1] = (f"grouping({names[0]})", "int")
        group = f" group by {clause}" if names else ""
        having = f" having {self.one('count(*) > 1', 'count(*) < 5', f'{self.aggregate(scope)[0]} is not null')}" if self.chance(0.2) else ""
        return f"select {', '.join(part for part, _ in parts)} from {text}{group}{having}", [kind for _, kind in parts]

    def subquery_condition(self, scope, outer, depth):
        form, around = self.rng.random(), {**scope, **outer}
        if form < 0.4:
            text, inner = self.relations(depth - 1, around)
            same = self.pair(scope, next(iter(inner)), next(iter(inner.values())))
            return f"{self.one('', 'not ')}exists (select from {text} where {same or 'true'} and {self.predicate(inner, around, depth - 1)})"
        if form < 0.7:
            inner, kinds = self.select(depth - 1, around, 1)
            same = self.column(scope, kinds)
            return f"{same[0]} {self.one('in', 'not in', '= any', '> all')} ({inner})" if same else f"exists ({inner})"
        text, inner = self.relations(depth - 1, around)
        same = self.pair(scope, next(iter(inner)), next(iter(inner.values())))
        return f"(select count(*) from {text} where {same or 'true'}) {self.one('>', '=', '<')} {self.rng.randint(0, 3)}"

    # ---- whole statements

    def with_queries(self):
        text = ""
        for _ in range(self.rng.choice([1, 1, 2])):
            query, kinds = self.select(1, {}, self.rng.randint(1, 3))
            name, columns = self.alias("w"), {f"c{i}": kind for i, kind in enumerate(kinds)}
            text += f"{', ' if text else 'with '}{name} ({', '.join(columns)}) as {self.one('', '', 'materialized ', 'not materialized ')}({query})"
            self.common[name] = columns
        return text + " "

    def recursive(self):
        table = self.world.tables[self.one("a1", "b1", "a0")]
        key = table.key[0]
        self.loose = True
        return self.one(f"with recursive r (n) as (select 1 union all select n + 1 from r where n < 4) select r.n, count(t.{key}) from r left join {table.name} t on length(t.{key}::text) = r.n group by r.n",
                        f"with recursive r (k, n) as (select {key}, 0 from {table.name} union select t.{key}, n + 1 from r join {table.name} t on t.{key} > r.k where n < 2) select n, count(*) from r group by n"), ["int", "big"]

    def set_operation(self, width):
        text, kinds = self.select(1, {}, width)
        for _ in range(self.one(1, 1, 2)):
            for _ in range(30):
                other, others = self.select(1, {}, width)
                if others == kinds and " distinct on " not in other:
                    operator = self.one("union", "union all", "union all", "intersect", "except", "except all", "intersect all")
                    self.loose |= any(KINDS[kind].loose for kind in kinds)
                    text = f"{text} {operator} {other}"
                    break
        return text, kinds

    def lookup(self, width):
        """Statements of applications: a table or two by key."""
        table = self.table()
        alias = self.one(table.name, "x")
        scope = {alias: table.columns}
        columns = self.one("*", ", ".join(f"{alias}.{column}" for column in table.columns), None)
        kinds = [*table.columns.values()]
        if columns is None:
            picked = [self.value(scope, None, 1) for _ in range(width)]
            columns, kinds = ", ".join(column for column, _ in picked), [kind for _, kind in picked]
        condition = self.key_condition(scope) or self.predicate(scope, {}, 0)
        more = f" and {self.predicate(scope, {}, 0)}" if self.chance(0.4) else ""
        return f"select {columns} from {table.name}{f' as {alias}' if alias != table.name else ''} where {condition}{more}", kinds

    def seldom(self):
        """What applications write now and then, and much of which is refused."""
        table = self.table()
        while table.place == "view":
            table = self.table()
        first, (column, kind) = next(iter(table.columns)), self.rng.choice([*table.columns.items()])
        self.loose = True
        return self.one(
            f"select x from {table.name} x", f"select to_jsonb(x) from {table.name} x", f"select count(x) from {table.name} x", f"select x.{first} from {table.name} x for update", f"select x.* from {table.name} x for share", f"table {table.name}",
            f"select from {table.name}", f"select public.{table.name}.{column} from public.{table.name}", f"select pg_typeof({column}) from {table.name}", f"select x.{column}, now() - now() from {table.name} x", f"select count(*) from {table.name} where current_date > {column}" if kind == "date" else f"select count({column}) from {table.name} where now() > '2020-01-01'",
            f"select x.tableoid::regclass::text, count(*) from {table.name} x group by 1", f"select count(*) from {table.name} tablesample system (100)", f"select array(select {column}::text from {table.name} order by 1)", f"select plus({self.rng.randint(1, 5)}), {column} from {table.name}",
            f"select * from (select {first} from {table.name}) a natural join (select {first} from {table.name}) b", f"(select {first} from {table.name} order by 1 limit 3) union all (select {first} from {table.name} order by 1 desc limit 2)", f"select unnest(array[1, 2]), {column} from {table.name}",
            f"select x.{first}, j.key from {table.name} x cross join lateral jsonb_each(jsonb_build_object('a', 1, 'b', {column}::text)) j", f"select j.{first} from ({table.name} x join ref0 y on true) as j ({first})", f"with {table.name} as (select 1 as one) select * from {table.name}",
            f"select max({first}::text) from only {table.name}", f"select {column} as {table.name} from {table.name} order by {table.name}", f"select {', '.join(table.columns)} from {table.name} group by {', '.join(table.primary) or first}", f"select count(*), {column} from {table.name} group by {column} order by count(*) desc, {column}::text",
            f"select {column} from {table.name} {table.name} order by 1", f"select mode() within group (order by {first}) from {table.name} where {first} is null", f"values (1), ((select count(*)::int from {table.name}))", f"select json_agg({column}::text order by {column}::text) from {table.name}", f"select distinct on ({first}) {first} from {table.name} order by {first}",
            f"select count(*) from {table.name} where ({first}, {column}) in (select {first}, {column} from {table.name})", f"select exists (select from {table.name} where {column} is null)", f"select greatest(max({first}), min({first})) from {table.name}", f"select case when count(*) > 3 then 'many' else 'few' end from {table.name} having true")

    def wrong(self):
        """Whose error the client must get whatever the rows are."""
        table, other = self.table(), self.table()
        column = self.rng.choice([*table.columns])
        return self.one(f"select nothing from {table.name}", f"select x.nothing from {table.name} x, {other.name} y", f"select {column}, count(*) from {table.name} x", f"select count(*) from {table.name} where count(*) > 1", f"select {column} + true from {table.name}", f"select nothing({column}) from {table.name}", f"select * from {table.name} x join {other.name} x on true",
                        f"select {column} from {table.name} union select 1, 2", f"select {column} from {table.name} order by 7", f"select * from {table.name}, nowhere", f"select {column} from {table.name} where 'x'::int = 1", f"select {column} from {table.name} where ('{{1'::int[])[1] = 1", f"select {column} from {table.name} limit -1", f"select sum(max(1)) from {table.name}",
                        f"select {column} from {table.name} group by 1 having nothing", f"select (select 1, 2) from {table.name}", f"select {column} frm {table.name}", f"select lag(1) from {table.name}", f"select {column} from {table.name} where row_number() over () = 1", f"with w as (select 1), w as (select 2) select * from {table.name}", f"select 1::nothing from {table.name}")

    def statement(self):
        self.constants, self.common, self.loose, self.names = [], {}, False, 0
        width, form = self.rng.randint(1, 4), self.rng.random()
        if self.chance(0.03):
            return Statement(self.seldom(), [], (), self.loose, "select")
        if self.chance(0.03):
            return Statement(self.wrong(), [], (), False, "select")
        prefix = ""
        if form < 0.12:
            prefix = self.with_queries()
        if form > 0.985:
            text, kinds = self.recursive()
        elif form > 0.85:
            text, kinds = self.set_operation(width)
        elif form > 0.7:
            text, kinds = self.lookup(width)
        elif form > 0.45:
            text, scope = self.co_located() if form < 0.57 else self.relations(0, {})
            where = f" where {self.predicate(scope, {}, 1)}" if self.chance(0.5) else ""
            text, kinds = self.grouped(text + where, scope, {}, width)
        else:
            text, kinds = self.select(2, {}, width)
        text, order = self.ordered(prefix, text, kinds)
        return Statement(text, self.constants, order, self.loose, "select")

    def ordered(self, prefix, text, kinds):
        """(text, positions whose sequence is determined)"""
        if not self.chance(0.5) or " order by" in text.rsplit(")", 1)[-1]:
            return prefix + text, ()
        ways = [self.one("", "", " desc", " nulls first", " desc nulls last") for _ in kinds]
        limit = self.one("", f" limit {self.rng.randint(0, 9)}", f" offset {self.rng.randint(0, 3)}", f" limit 5 offset {self.rng.randint(0, 3)}", f" fetch first {self.rng.randint(1, 4)} rows only")
        if limit == "" and self.chance(0.4):  # by some of the columns only
            position = self.rng.randrange(len(kinds))
            return f"{prefix}{text} order by {position + 1}{ways[position]}", () if KINDS[kinds[position]].loose else (position,)
        if not any(KINDS[kind].loose for kind in kinds):
            positions = self.rng.sample(range(len(kinds)), len(kinds))
            ties = " fetch first 3 rows with ties" if self.chance(0.1) else limit
            return f"{prefix}{text} order by {', '.join(f'{i + 1}{ways[i]}' for i in positions)}{ties}", tuple(range(len(kinds)))
        names = [f"c{i}" for i in range(len(kinds))]
        by = [*(f"o.{name}{way}" for name, way in zip(names, ways)), *(f"o.{name}::text" for name, kind in zip(names, kinds) if KINDS[kind].loose)]
        return f"{prefix}select * from ({text}) as o ({', '.join(names)}) order by {', '.join(by)}{limit}", tuple(range(len(kinds)))
