"""Random expressions over a scope, which is {alias: {column: kind}}. Nothing here may fail for some rows only: which rows an expression meets is the planner's choice."""

import re
from typing import NamedTuple

from oracle.kinds import KINDS, NUMBERS, TEXTS, quoted

MARK = re.compile("\x01(\\d+)\x02")
COMPARED = ["=", "=", "=", "<", "<=", ">", ">=", "<>", "is distinct from", "is not distinct from"]


class Statement(NamedTuple):
    """Constants stand in the text as marks, to be written as literals or as parameters."""

    text: str
    constants: list  # (kind, text or None)
    order: tuple = ()  # positions of columns whose sequence ORDER BY determines
    loose: bool = False  # some values may stand for equal ones with another text
    what: str = "select"

    def literal(self):
        return MARK.sub(lambda found: quoted(self.constants[int(found[1])][1]), self.text)

    def parameterized(self):
        """The text with $1 …, and the constants in that order."""
        used = []

        def place(found):
            number = int(found[1])
            if number not in used:
                used.append(number)
            return f"${used.index(number) + 1}"

        text = MARK.sub(place, self.text)
        return text, [self.constants[number] for number in used]


class Expressions:
    def __init__(self, world, rng):
        self.world, self.rng = world, rng
        self.constants = []
        self.names = 0
        self.loose = False

    def one(self, *choices):
        return self.rng.choice(choices)

    def chance(self, p):
        return self.rng.random() < p

    def alias(self, prefix="t"):
        self.names += 1
        return f"{prefix}{self.names}"

    def constant(self, kind, null=0.04):
        """Of the type's values; as text it may be cast."""
        value = None if self.chance(null) else self.rng.choice(KINDS[kind].values)
        return self.mark(kind, value)

    def mark(self, kind, value):
        self.constants.append((kind, value))
        text = f"\x01{len(self.constants) - 1}\x02"
        cast = {"vchar": "varchar", "dec": "numeric"}.get(kind, KINDS[kind].sql)
        return f"{text}::{cast}" if self.chance(0.4) or kind == "mood" else text

    def typed(self, kind):
        """A constant that says its type."""
        self.constants.append((kind, self.rng.choice(KINDS[kind].values)))
        return f"\x01{len(self.constants) - 1}\x02::{KINDS[kind].sql}"

    def columns(self, scope, kinds=None):
        return [(f"{alias}.{name}", kind) for alias, columns in scope.items() for name, kind in columns.items() if kinds is None or kind in kinds]

    def column(self, scope, kinds=None):
        """(text, kind), or None if there is no such one."""
        found = self.columns(scope, kinds)
        return self.rng.choice(found) if found else None

    def total(self, scope):
        """An order that leaves no two different rows beside each other; by values first, so that it is the same whatever texts stand for them."""
        found = self.columns(scope)
        return ", ".join([*(column for column, _ in found), *(f"{column}::text" for column, kind in found if KINDS[kind].loose)])

    # ---- values

    def value(self, scope, kind=None, depth=2):
        """(text, kind) of an expression; with a kind given one of it, or None."""
        column = self.column(scope, None if kind is None else (kind,))
        if depth == 0 or self.chance(0.55):
            return column or (None if kind is None else (self.typed(kind), kind))
        if kind is None:
            kind = self.one(*KINDS, "int", "text", "bool", "date")
        made = self._made(kind, scope, depth)
        return (made, kind) if made else column or (self.typed(kind), kind)

    def _of(self, kind, scope, depth):
        return self.value(scope, kind, depth - 1)[0]

    def _made(self, kind, scope, depth):
        if self.chance(0.25):
            return self._conditional(kind, scope, depth)
        of = lambda k: self._of(k, scope, depth)  # noqa: E731
        if kind == "int":
            return self.one(lambda: f"length({of('text')})", lambda: f"({of('int')} + {self.rng.randint(1, 9)})", lambda: f"abs({of('int')})", lambda: f"({of('int')} % 5)", lambda: f"cardinality({of('ints')})",
                            lambda: f"(extract(year from {of('ts')}))::int", lambda: f"octet_length({of('bytea')})", lambda: f"({of('small')} * 3)", lambda: f"strpos({of('text')}, 'a')")()
        if kind == "big":
            return self.one(lambda: f"({of('int')}::bigint * 7)", lambda: f"twice({of('int')})" if self.chance(0.1) else f"({of('big')} - 1)", lambda: f"greatest({of('big')}, {of('int')})")()
        if kind == "text":
            return self.one(lambda: f"lower({of('text')})", lambda: f"upper({of('vchar')})", lambda: f"left({of('text')}, 2)", lambda: f"({of('text')} || {of('text')})", lambda: f"({of(self.one('int', 'date', 'bool', 'uuid', 'mood', 'dec', 'ts', 'bytea'))})::text",
                            lambda: f"concat({of('text')}, '-', {of('int')})", lambda: f"replace({of('text')}, 'a', 'é')", lambda: f"initcap({of('text')})", lambda: f"({of('jsonb')} ->> 'a')", lambda: f"array_to_string({of('texts')}, ',', '*')",
                            lambda: f"to_char({of('date')}, 'YYYY-MM')", lambda: f"format('%s/%s', {of('int')}, {of('vchar')})", lambda: f"md5({of('text')})", lambda: f"({of('text')} collate \"C\")")()
        if kind == "num":
            return self.one(lambda: f"round({of('num')}, 1)", lambda: f"({of('dec')} * {of('int')})", lambda: f"abs({of('num')})", lambda: f"({of('num')} + {of('dec')})", lambda: f"trunc({of('num')})")()
        if kind == "bool":
            return f"({self.predicate(scope, {}, 0)})"
        if kind == "date":
            return self.one(lambda: f"({of('ts')})::date", lambda: f"make_date(2000 + abs({of('int')}) % 30, 1, 2)")()
        if kind == "ts":
            return self.one(lambda: f"date_trunc('month', {of('ts')})", lambda: f"({of('ts')} + interval '1 day')", lambda: f"({of('tz')} at time zone 'Europe/Berlin')")()
        if kind == "float":
            return self.one(lambda: f"abs({of('float')})", lambda: f"({of('int')})::float8", lambda: f"(- {of('float')})")()
        if kind == "ints":
            return self.one(lambda: f"array[{of('int')}, {of('int')}]", lambda: f"array_remove({of('ints')}, 2)" if self.chance(0) else f"array_append(array[1], {of('int')})")()
        if kind == "texts":
            return self.one(lambda: f"array[{of('text')}, 'x']", lambda: f"string_to_array({of('vchar')}, 'a')")()
        if kind == "jsonb":
            return self.one(lambda: f"jsonb_build_object('x', {of('int')}, 'y', {of('text')})", lambda: f"({of('jsonb')} -> 'a')", lambda: f"to_jsonb({of('texts')})")()
        if kind == "uuid":
            return f"md5({of('text')})::uuid"
        if kind == "dec":
            return f"({of('int')})::numeric(10,2)"
        return None

    def _conditional(self, kind, scope, depth):
        of = lambda: self._of(kind, scope, depth)  # noqa: E731
        return self.one(lambda: f"coalesce({of()}, {of()})", lambda: f"nullif({of()}, {self.typed(kind)})", lambda: f"case when {self.predicate(scope, {}, 0)} then {of()} else {of()} end",
                        lambda: f"case when {self.predicate(scope, {}, 0)} then {of()} end", lambda: f"(select {of()})")()

    # ---- conditions

    def key_condition(self, scope):
        """One that leads to a shard, perhaps; None if there is no such column."""
        keys = [(f"{alias}.{column}", columns[column], family) for alias, columns in scope.items() for column in columns for family, table in ((t.family, t) for t in self.world.tables.values()) if column in table.key and columns[column] == table.columns[column]]
        if not keys:
            return None
        column, kind, family = self.rng.choice(keys)
        pool = self.world.keys["c2" if family == "c" and column.endswith(".num") else family]
        some = [self.mark(kind, self.rng.choice(pool)) for _ in range(self.rng.randint(1, 3))]
        form = self.rng.random()
        if form < 0.5:
            return f"{column} = {some[0]}"
        if form < 0.8:
            return f"{column} in ({', '.join(some)})"
        if form < 0.9:
            return f"{column} = any (array[{', '.join(some)}]::{KINDS[kind].sql.split('(')[0]}[])"
        return f"{column} between {some[0]} and {some[-1]}"

    def compared(self, text, kind, scope):
        form = self.rng.random()
        if form < 0.35:
            return f"{text} {self.one(*COMPARED)} {self.constant(kind)}"
        if form < 0.6:
            kinds = NUMBERS if kind in NUMBERS else TEXTS[:2] if kind in TEXTS[:2] else (kind,)
            other = self.column(scope, kinds)
            return f"{text} {self.one(*COMPARED)} {other[0] if other else self.typed(kind)}"
        if form < 0.7:
            return f"{text} is {self.one('', 'not ')}null"
        if form < 0.8:
            return f"{text} {self.one('', 'not ')}in ({self.constant(kind)}, {self.constant(kind)})"
        if form < 0.87:
            return f"{text} {self.one('', 'not ')}between {self.constant(kind)} and {self.constant(kind)}"
        if kind in TEXTS[:2]:
            return self.one(f"{text} like {self.one(chr(39) + 'a%' + chr(39), chr(39) + '%b%' + chr(39))}", f"{text} ilike 'A_%'", f"{text} ~ '^[a-z]+$'", f"{text} !~* 'Z'", f"{text} collate \"C\" < {self.constant(kind)}", f"starts_with({text}, 'a')")
        if kind == "bool":
            return self.one(text, f"not {text}", f"{text} is true", f"{text} is not false", f"{text} is unknown")
        if kind == "ints":
            return self.one(f"1 = any ({text})", f"{text} @> '{{1}}'", f"{text} && array[2, 7]", f"2 <> all ({text})")
        if kind == "jsonb":
            return self.one(f"{text} ? 'a'", f"{text} @> '{{\"a\": 2}}'", f"jsonb_typeof({text}) = 'object'")
        return f"({text}, 1) {self.one('=', '<', '>=')} ({self.typed(kind)}, {self.one(0, 1, 2)})"

    def predicate(self, scope, outer, depth):
        form = self.rng.random()
        if form < 0.15 and (found := self.key_condition(scope)):
            return found
        if form < 0.3:
            return f"({self.predicate(scope, outer, depth)} {self.one('or', 'and', 'and')} {self.predicate(scope, outer, depth)})"
        if form < 0.35:
            return f"not ({self.predicate(scope, outer, depth)})"
        if depth > 0 and form < 0.5 and (found := self.subquery_condition(scope, outer, depth)):
            return found
        found = self.value(scope, None, 1 if self.chance(0.3) else 0) if scope else None
        if not found:
            return self.one("true", "1 = 1", f"{self.constant('int')} > 2")
        return self.compared(*found, {**scope, **outer})

    def subquery_condition(self, scope, outer, depth):
        raise NotImplementedError
