"""Seeded random sequences of protocol messages, and the shrinking of one that fails.

A sequence is a list of `Step`s. A step holds what belongs together (COPY with its data, say), so that any subset of the
steps is again a sequence that both sides survive in step. Names and statements come from small vocabularies: that is what
makes missing statements, doubled portals and errors in pipelines happen by themselves.
"""

import random
from typing import NamedTuple

from harness import wire

MARKER = "the sequence ends here"

# What every sequence finds: see `schema`.
SCHEMA = """
create table item (id int primary key, name text, qty int check (qty >= 0), at date);
create table other (id int, note text);
"""
RESET = "truncate item, other; insert into item select i, 'name ' || i, i * 3, '2024-01-01'::date + i from generate_series(1, 20) i"

SIMPLE = [
    "", ";", " ; ;", "-- nothing", "select 1", "select 1; select 2, 'two'", "select * from item order by id limit 3",
    "select name, qty from item where id = 4", "select null::int, ''::text, 'é ü 漢'", "select 1/0", "select 1; select 1/0; select 3",
    "selekt 1", "select * from nowhere", "select * from item where id = 'x'", "begin", "commit", "rollback", "begin; select 1",
    "begin; insert into other values (1, 'a'); commit", "savepoint a", "rollback to a", "release a", "commit and chain",
    "insert into item values (101, 'new', 1, null)", "insert into item values (1, 'double', 1, null)",
    "insert into other select i, 'n' from generate_series(1, 5) i", "insert into item values (102, 'neg', -1, null) returning id",
    "update item set qty = qty + 1 where id = 2 returning id, qty", "delete from item where id > 15", "update item set qty = -5",
    "select count(*) from item; begin; delete from other; rollback", "set application_name = 'x y'", "set datestyle = 'German'",
    "show datestyle", "set local work_mem = '1MB'", "reset all", "set client_min_messages = debug1", "show search_path",
    "set search_path = nowhere", "set search_path = public", "select at from item where id = 1",
    "do $$ begin raise notice 'hello'; raise warning 'careful'; end $$", "do $$ begin raise exception 'no' using errcode = 'TS001'; end $$",
    "prepare q as select name from item where id = $1", "execute q(3)", "deallocate q", "deallocate all",
    "declare c cursor for select id from item order by id", "fetch 2 from c", "close c", "begin; declare c cursor for select 1; fetch c",
    "select repeat('x', 100000)", "select generate_series(1, 2000)", "values (1, 'a'), (2, 'b')", "explain (costs off) select 1",
    "create temp table t (a int)", "insert into t values (1)", "select * from t", "drop table if exists t", "discard all",
    "select $1", "lock table other", "listen nothing", "unlisten *", "set transaction isolation level serializable",
    "begin isolation level repeatable read read only", "copy item to stdout", "copy (select 1/0) to stdout",
    "copy item (id, name) to stdout (format csv, header)", "copy item to stdout (format binary)", "select 1; copy other to stdout; select 2",
    "notify elsewhere, 'nobody listens'", "begin; notify elsewhere; rollback",
]
COPY_IN = ["copy other from stdin", "copy other (id) from stdin (format csv)", "copy nowhere from stdin", "copy item (id, name) from stdin"]
COPY_LINES = [b"1\tone\n", b"7\n", b"300\tthree\n", b"x\ty\n", b"2\t", b"\\.\n", b"", b"1\tdouble\n", b"8\t\\N\n",
              b"9\t" + b"long " * 30000 + b"\n"]  # more than is read at once

# (statement, the values of its parameters to choose from)
EXTENDED = [
    ("select 1", []), ("select $1::int + 1", [[b"5", b"-1", None, b"x", b"2147483647"]]), ("", []),
    ("select id, name, qty from item where id = $1", [[b"1", b"2", b"99", None]]),
    ("select id, name from item order by id", []), ("select generate_series(1, 30)", []),
    ("insert into other values ($1, $2)", [[b"1", b"2", b"bad"], [b"note", None, b""]]),
    ("insert into item values ($1, $2) returning *", [[b"1", b"200", b"201"], [b"n"]]),
    ("update item set qty = $2 where id = $1", [[b"1", b"2"], [b"5", b"-5"]]),
    ("delete from other where id = $1", [[b"1", b"2"]]), ("selekt", []), ("select * from nowhere", []), ("select 1; select 2", []),
    ("select 1 / $1::int", [[b"1", b"0"]]), ("begin", []), ("commit", []), ("rollback", []), ("set datestyle = 'ISO, DMY'", []),
    ("show datestyle", []), ("copy other to stdout", []), ("select $1::text, $2::int[]", [[b"t", None], [b"{1,2}", b"{", None]]),
    ("savepoint a", []), ("rollback to a", []), ("do $$ begin raise notice 'n'; end $$", []), ("select at from item where id = $1", [[b"3"]]),
    ("discard all", []), ("deallocate all", []),
]
# (object id, arguments): abs(int4), lower(text), int4div, none
FUNCTIONS = [(1397, [b"-5"]), (870, [b"ABC"]), (154, [b"1", b"0"]), (154, [b"6", b"3"]), (1, [])]
STATEMENTS = ["", "", "s1", "s2"]
PORTALS = ["", "", "", "p1"]


class Step(NamedTuple):
    label: str  # what a person reads
    data: bytes


def _simple(chooser):
    sql = chooser.choice(SIMPLE)
    return Step(f"Query {sql!r}", wire.query(sql))


def _copy_in(chooser, start, label):
    """COPY's data and its end follow at once. If COPY did not start, the server ignores them."""
    lines = [chooser.choice(COPY_LINES) for _ in range(chooser.randrange(4))]
    data = b"".join(wire.copy_data(line) for line in lines)
    noise = chooser.choice([b"", b"", wire.FLUSH, wire.SYNC])  # both mean nothing in the middle of COPY
    if noise == wire.SYNC and "Execute" not in label:
        noise = b""  # after a simple Query that failed, Sync would be answered
    end, name = chooser.choice([(wire.COPY_DONE, "done"), (wire.COPY_DONE, "done"), (wire.copy_fail("enough"), "fail")])
    shown = [line if len(line) < 60 else line[:20] + b"..." for line in lines]
    return Step(f"{label}, data {shown}{', Sync' if noise == wire.SYNC else ''}, {name}", start + data + noise + end)


def _copy_simple(chooser):
    sql = chooser.choice(COPY_IN)
    return _copy_in(chooser, wire.query(sql), f"Query {sql!r}")


def _copy_extended(chooser):
    sql = chooser.choice(COPY_IN)
    return _copy_in(chooser, wire.parse(sql) + wire.bind() + wire.execute(), f"Parse, Bind, Execute {sql!r}")


def _function_call(chooser):
    oid, arguments = chooser.choice(FUNCTIONS)
    result = chooser.choice([0, 1])
    return Step(f"FunctionCall {oid} {arguments} {result}", wire.function_call(oid, arguments, [], result))


def _parse(chooser):
    sql, parameters = chooser.choice(EXTENDED)
    name = chooser.choice(STATEMENTS)
    types = [chooser.choice([0, 0, 23, 25]) for _ in parameters] if chooser.random() < 0.3 else []
    return Step(f"Parse {name!r} {sql!r} {types}", wire.parse(sql, name, types))


def _bind(chooser):
    portal, name = chooser.choice(PORTALS), chooser.choice(STATEMENTS)
    values = [chooser.choice([b"1", b"2", b"x", None]) for _ in range(chooser.choice([0, 0, 1, 1, 2]))]
    results = chooser.choice([[], [], [0], [1]])
    return Step(f"Bind {portal!r} to {name!r} {values} {results}", wire.bind(values, portal, name, [], results))


def _whole(chooser):
    """Parse, Bind, Describe, Execute of one statement, as drivers send it."""
    sql, parameters = chooser.choice(EXTENDED)
    name, portal = chooser.choice(STATEMENTS), chooser.choice(PORTALS)
    values = [chooser.choice(choices) for choices in parameters]
    limit = chooser.choice([0, 0, 0, 1, 7])
    results = chooser.choice([[], [0], [1]])
    data = wire.close_statement(name) if name and chooser.random() < 0.7 else b""
    data += wire.parse(sql, name)
    if chooser.random() < 0.4:
        data += wire.describe_statement(name)
    data += wire.bind(values, portal, name, [], results)
    if chooser.random() < 0.6:
        data += wire.describe_portal(portal)
    data += wire.execute(portal, limit)
    while limit and chooser.random() < 0.5:
        data += wire.execute(portal, limit)
    return Step(f"Parse…Execute {name!r} {portal!r} {sql!r} {values} limit {limit} {results}", data)


def _small(chooser):
    name, portal, limit = chooser.choice(STATEMENTS), chooser.choice(PORTALS), chooser.choice([0, 1, 5])
    return chooser.choice([
        Step(f"Execute {portal!r} {limit}", wire.execute(portal, limit)),
        Step(f"Describe statement {name!r}", wire.describe_statement(name)),
        Step(f"Describe portal {portal!r}", wire.describe_portal(portal)),
        Step(f"Close statement {name!r}", wire.close_statement(name)),
        Step(f"Close portal {portal!r}", wire.close_portal(portal)),
        Step("Flush", wire.FLUSH),
        Step("CopyDone out of place", wire.COPY_DONE),
    ])


def _transaction(chooser):
    sql = chooser.choice(["begin", "begin", "commit", "rollback"])
    return Step(f"Query {sql!r}", wire.query(sql))


def _sync(_chooser):
    return Step("Sync", wire.SYNC)


def generate(seed, length=None):
    """The sequence of this seed. Styles: simple only, extended only, mixed; now and then a Sync goes missing."""
    chooser = random.Random(seed)
    kinds = chooser.choice([
        [_simple, _simple, _simple, _copy_simple, _function_call],
        [_whole, _whole, _parse, _bind, _small, _small, _sync, _sync],
        [_whole, _sync, _whole, _sync, _copy_extended, _small],
        [_transaction, _copy_extended, _copy_extended, _copy_simple, _whole, _sync, _sync],
        [_simple, _simple, _whole, _sync, _sync, _parse, _bind, _small, _copy_simple, _copy_extended, _function_call],
    ])
    return [chooser.choice(kinds)(chooser) for _ in range(length or chooser.randrange(3, 30))]


def ending():
    """Leaves COPY, ends a pipeline and asks a question whose answer marks the end of the replies."""
    return wire.copy_fail("end") + wire.SYNC + wire.query(f"rollback; select '{MARKER}'")


def is_complete(replies):
    """Has the answer to `ending` arrived?"""
    tail = replies[-200:]
    at = tail.rfind(MARKER.encode())
    return at >= 0 and tail[-6:-1] == b"Z\0\0\0\5"


def chunks(seed, data):
    """The bytes cut at random places, with pauses: [(bytes, seconds before them)]."""
    chooser = random.Random(f"chunks {seed}")
    if chooser.random() < 0.4:
        return [(data, 0.0)]
    most = chooser.choice([1, 7, 60, 400]) if len(data) < 2000 else chooser.choice([60, 400])
    pieces, at = [], 0
    while at < len(data):
        size = chooser.randint(1, most)
        pieces.append((data[at:at + size], 0.004 if chooser.random() < 0.02 else 0.0))
        at += size
    return pieces


def shrink(steps, still_fails, most_tries=150):
    """A shorter list of steps for which `still_fails(steps)` holds: first halves are dropped, then single steps."""
    tries = 0
    size = max(1, len(steps) // 2)
    while size:
        at, shorter = 0, False
        while at < len(steps) and tries < most_tries:
            candidate = steps[:at] + steps[at + size:]
            tries += 1
            if candidate != steps and still_fails(candidate):
                steps, shorter = candidate, True
            else:
                at += size
        if tries >= most_tries:
            break
        size = size // 2 if size > 1 else int(shorter)
    return steps
