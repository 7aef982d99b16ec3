"""COPY over several shards: what one plain server answers, and the rows that are left; four shards behind Tessera."""

import contextlib
import os
import random
import struct
import subprocess
import threading
import time

import psycopg
import pytest
from harness import wire
from harness.tessera import Tessera, database_config
from talk import code, errors, eventually, log_in, rows, value

SHARDS = 4
SCHEMA = """
create table kept (id bigint primary key, v text check (v <> 'bad'), n int default 7);
create table small (k int, v text);
create table words (k text primary key, v text);
create table ids (k uuid primary key, v text);
create table placed (v text, country text, user_id bigint, primary key (country, user_id));
create table days (day date, at timestamptz, v text);
create table late (id bigint primary key, parent bigint references late);
create table computed (half numeric generated always as (id / 2.0) stored, v text, id bigint primary key);
create table colors (code text primary key, name text, at timestamptz);
create table numbered (id bigint primary key, no serial, made timestamptz default now());
"""
TABLES = {
    **{name: {"rule": "by_user", "key": "id"} for name in ("kept", "late", "computed", "numbered")},
    **{name: {"rule": "by_user", "key": "k"} for name in ("small", "words", "ids")},
    "placed": {"rule": "by_place", "key": ["country", "user_id"]},
    "days": {"rule": "by_day", "key": "day"},
    "colors": {"reference": True},
}
NAMES = [*TABLES]
ALL = [f"s{i}" for i in range(SHARDS)]
RULES = {
    "by_user": {"type": "hash", "shards": ALL},
    "by_day": {"type": "range", "ranges": [{"below": "2024-01-01", "shard": "s0"}, {"below": "2025-01-01", "shard": "s1"}]},
    "by_country": {"type": "geography", "regions": {"americas": {"countries": ["US"], "shard": "s0"}, "europe": {"countries": ["GB", "FR"], "rule": "by_user"}}, "otherwise": "s3"},
    "by_place": {"type": "composite", "of": ["by_country", "by_user"]},
}


class Both:
    def __init__(self, servers, sharded, plain, single, proxy):
        self.servers, self.sharded, self.plain, self.single, self.proxy = servers, sharded, plain, single, proxy
        self.lookers = [server.connect(sharded) for server in servers] + [plain.connect(single)]
        for looker in self.lookers:
            looker.autocommit = True

    def connect(self):
        """To Tessera, and to the plain server."""
        return log_in(self.proxy, self.sharded), wire.connect(self.plain.host, self.plain.port, "app", self.single, "app")

    def empty(self):
        for looker in self.lookers:
            looker.execute(f"truncate {', '.join(NAMES)}")

    def on_shards(self, query):
        """The rows of each shard."""
        return [looker.execute(query).fetchall() for looker in self.lookers[:-1]]


@pytest.fixture(scope="module")
def both(shards, new_database, tmp_path_factory):
    four = shards(SHARDS)
    sharded, single = new_database(four, SCHEMA), new_database(four[:1], SCHEMA)
    config = {"databases": {sharded: database_config(four, sharded, rules=RULES, tables=TABLES)}}
    with Tessera(config, tmp_path_factory.mktemp("copy")) as proxy:
        yield Both(four, sharded, four[0], single, proxy)
    proxy.check_log()


@pytest.fixture
def pair(both):
    both.empty()
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(connection) for connection in both.connect()]


def pieces(data, step):
    return [data[at:at + step] for at in range(0, len(data), step)] if step else [data]


def copy_from(connection, sql, data, step=None, end=wire.COPY_DONE, extended=False):
    """All that is answered to a COPY … FROM STDIN with this data in messages of `step` bytes."""
    if extended:
        connection.send(wire.parse(sql), wire.bind(), wire.describe_portal(), wire.execute(), wire.SYNC)
    else:
        connection.send(wire.query(sql))
    replies = connection.read_until("G", "Z")
    if replies[-1].type == "Z":
        return replies
    connection.send(*(wire.copy_data(piece) for piece in pieces(data, step)), end, wire.SYNC if extended else b"")
    return replies + connection.read_until("Z")


def told(replies, words=True):
    """Less the shard, which the plain server has not; and less the place in the servers' sources."""
    out = []
    for reply in replies:
        if reply.type == "E":
            fields = wire.error_fields(reply.body)
            context = "\n".join(line for line in fields.get("W", "").split("\n") if not line.startswith("shard "))
            out.append((fields["C"], *([fields["M"], fields.get("D"), context] if words else [])))
        elif reply.type in "CZGnH23":
            out.append((reply.type, bytes(reply.body)))
    return out


def data_of(replies):
    return b"".join(reply.body for reply in replies if reply.type == "d")


def same_rows(both, pair, table):
    query = f"select x::text from {table} x order by 1"
    one = rows(pair[1].ask(wire.query(query)))
    assert sorted(row[0] for part in both.on_shards(query) for row in part) == sorted(row[0] for row in one)
    name = {"placed": "country, user_id", "days": "day", "small": "k", "words": "k", "ids": "k"}.get(table, "id")
    asked = f"select {name} from {table}"  # each row is where it is looked for
    for key in rows(pair[0].ask(wire.query(asked)))[:6]:
        where = " and ".join(f"{column} = $k${one}$k$" for column, one in zip(name.split(", "), key, strict=True))
        assert value(pair[0], f"select count(*) from {table} where {where}") == value(pair[1], f"select count(*) from {table} where {where}")


def check(both, pair, sql, data, table, words=True, **how):
    answers = [told(copy_from(connection, sql, data, **how), words) for connection in pair]
    assert answers[0] == answers[1], (sql, data)
    if table:
        same_rows(both, pair, table)
    return answers[0]


MANY = b"".join(b"%d\tv%d\t%d\n" % (i, i, i % 3) for i in range(200))
UUIDS = b"".join(b"%s\tx\n" % b"-".join([b"%08x" % (i * 2654435761 % 2**32), b"0000", b"4000", b"8000", b"%012x" % i]) for i in range(40))
GOOD = {
    "text": ("copy kept from stdin", MANY, "kept"),
    "nothing": ("copy kept from stdin", b"", "kept"),
    "without the last line's end": ("copy kept from stdin", MANY[:-1], "kept"),
    "crlf": ("copy kept from stdin", MANY.replace(b"\n", b"\r\n"), "kept"),
    "cr": ("copy kept from stdin", MANY.replace(b"\n", b"\r"), "kept"),
    "the marker": ("copy kept from stdin", MANY + b"\\.\nand what is behind it", "kept"),
    "some columns": ("copy kept (v, id) from stdin", b"a\t1\nb\t2\n\\N\t3\nc\\td\\\\\\n\t4\n\\x41\\101\t5\n", "kept"),
    "escapes in the key": ("copy words from stdin", b"a\\tb\t1\n\\x41B\t2\nl1\\\nl2\t3\n\\\\N\t4\n\t5\n\\303\\244\t6\n", "words"),
    "another delimiter": ("copy kept from stdin with delimiter ';' null 'nix'", b"1;a;nix\n2;nix;3\n3;\\;;4\n", "kept"),
    "csv": ("copy kept from stdin csv", MANY.replace(b"\t", b","), "kept"),
    "csv with quotes": ("copy kept from stdin with (format csv)", b'1,"a\nb, ""c""",2\n"2",,\n3,"",4\n 5 ," x",6\n', "kept"),
    "csv with a header": ("copy kept from stdin with (format csv, header)", b"x,y,z\n1,a,2\n2,b,3\n", "kept"),
    "csv with a header that must match": ("copy kept (v, id) from stdin with (format csv, header match)", b"v,id\na,1\nb,2\n", "kept"),
    "text with a header": ("copy kept from stdin with (header)", b"x\ty\n1\ta\t2\n2\tb\t3\n", "kept"),
    "csv with all options": ("copy kept from stdin with (format csv, delimiter '|', quote '''', escape '\\', null 'nil', force_null (v), force_not_null (n), encoding 'utf-8')", b"1|'nil'|5\n2|nil|6\n'3'|'a\\'b'|7\n4|'|'|8\n", "kept"),
    "force null": ("copy kept from stdin with (format csv, force_null (v), force_not_null (id))", b'1,"",\n2,,\n', "kept"),
    "old spelling": ("copy kept from stdin with delimiter as ',' null as '' csv quote as '\"'", b"1,a,\n2,b,\n", "kept"),
    "ints": ("copy small from stdin", b"".join(b"%d\tx\n" % i for i in range(-20, 20)) + b" 7 \tpadded\n", "small"),
    "texts": ("copy words from stdin csv", "ä,1\n\"\",2\nA B,3\n'x',4\n日本,5\n".encode(), "words"),
    "uuids": ("copy ids from stdin", UUIDS + b"A0EEBC999C0B4EF8BB6D6BB9BD380A11\ty\n", "ids"),
    "a composite rule": ("copy placed from stdin", b"".join(b"x\t%s\t%d\n" % (country, i) for country in (b"US", b"GB", b"FR", b"XX") for i in range(10)), "placed"),
    "a range rule": ("copy days (v, day) from stdin", b"a\t2023-05-01\nb\t2024-05-01\n", "days"),
    "generated columns are not in it": ("copy computed from stdin", b"a\t1\nb\t2\nc\t3\n", "computed"),
    "where": ("copy kept from stdin where id % 2 = 0 and v <> 'v4'", MANY, "kept"),
    "a comment": ("/* x */ copy kept from stdin; -- y", b"1\ta\t2\n3\tb\t4\n", "kept"),
}


@pytest.mark.parametrize("case", GOOD.values(), ids=GOOD)
@pytest.mark.parametrize("step", [None, 1, 7])
def test_from_as_one_server(both, pair, case, step):
    check(both, pair, *case, step=step)


@pytest.mark.parametrize("case", GOOD.values(), ids=GOOD)
def test_from_extended(both, pair, case):
    check(both, pair, *case, step=50, extended=True)


def binary(rows_of, end=True):
    data = b"PGCOPY\n\377\r\n\0" + struct.pack(">ii", 0, 0)
    for row in rows_of:
        data += struct.pack(">h", len(row))
        for field in row:
            data += struct.pack(">i", -1) if field is None else struct.pack(">i", len(field)) + field
    return data + (b"\377\377" if end else b"")


BINARY = [(struct.pack(">q", i), b"v%d" % i if i % 5 else None, struct.pack(">i", i)) for i in range(100)]


@pytest.mark.parametrize("step", [None, 1, 13])
@pytest.mark.parametrize("extended", [False, True])
def test_from_binary(both, pair, step, extended):
    check(both, pair, "copy kept from stdin (format binary)", binary(BINARY), "kept", step=step, extended=extended)
    check(both, pair, "copy binary words from stdin", binary([(b"a", b"1"), ("ä".encode(), None)], end=False), "words", step=step)
    check(both, pair, "copy ids from stdin (format binary)", binary([(bytes(range(i, i + 16)), b"x") for i in range(20)]), "ids", step=step)


BAD = {
    "no number": ("copy kept from stdin", MANY + b"x\ty\tz\n"),
    "no number in another column": ("copy kept from stdin", MANY + b"1000\ty\tz\n1001\ta\t2\n"),
    "out of range": ("copy kept from stdin", MANY + b"99999999999999999999\ty\t1\n"),
    "too few columns": ("copy kept from stdin", MANY + b"1000\n"),
    "no key": ("copy kept (v, id) from stdin", b"a\t1\nb\n"),
    "too many columns": ("copy kept from stdin", MANY + b"1000\ta\t1\t2\n"),
    "null in the key": ("copy kept from stdin", MANY + b"\\N\ta\t1\n"),
    "a check": ("copy kept from stdin", MANY + b"1000\tbad\t1\n" + b"".join(b"%d\tok\t1\n" % i for i in range(2000, 2100))),
    "a duplicate": ("copy kept from stdin", MANY + b"100\tagain\t1\n"),
    "a duplicate behind lines within quotes": ("copy kept from stdin csv", b'1,"a\nb\nc",2\n2,"a\nb",3\n3,c,4\n1,d,5\n4,e,6\n'),
    "another kind of line end": ("copy kept from stdin", b"1\ta\t1\n2\tb\t1\r\n"),
    "a newline behind crlf": ("copy kept from stdin csv", b"1,a,1\r\n2,b,1\n"),
    "unterminated": ("copy kept from stdin csv", b'1,a,1\n2,"b,1\n3,c,1\n'),
    "unterminated key": ("copy kept from stdin csv", b'1,a,1\n"2,b,1\n3,c,1\n'),
    "a corrupt marker": ("copy kept from stdin", MANY + b"\\.x\n"),
    "a header that does not match": ("copy kept from stdin (format csv, header match)", b"id,v,m\n1,a,2\n"),
    "a header with too few": ("copy kept from stdin (format csv, header match)", b"id,v\n1,a,2\n"),
    "a zero byte": ("copy kept from stdin", b"1\ta\t1\n2\tb\0c\t2\n"),
    "not UTF-8": ("copy words from stdin", b"a\t1\n\xff\t2\nb\t3\n"),
    "no uuid": ("copy ids from stdin", UUIDS + b"12345\tx\n"),
    "no date": ("copy days (v, day) from stdin", b"a\t2024-02-30\n"),
    "bytes that are no binary copy": ("copy kept from stdin (format binary)", MANY),
    "binary cut short": ("copy kept from stdin (format binary)", binary(BINARY, end=False)[:-3]),
    "binary with more behind its end": ("copy kept from stdin (format binary)", binary(BINARY) + b"x"),
    "binary with too few fields": ("copy kept from stdin (format binary)", binary([*BINARY, (struct.pack(">q", 1000), b"x")])),
    "binary with a key that is too short": ("copy kept from stdin (format binary)", binary([*BINARY, (b"abc", b"x", None)])),
    "no such column": ("copy kept (id, nothing) from stdin", b""),
    "a column twice": ("copy kept (id, id) from stdin", b""),
    "a wrong option": ("copy kept from stdin (format csv, quote 'ab')", b""),
    "an option that does not fit": ("copy kept from stdin (quote '$')", b""),
}


@pytest.mark.parametrize("case", BAD.values(), ids=BAD)
def test_errors_are_the_servers(both, pair, case):
    """Words, detail and the line; and nothing is left."""
    for extended in (False, True):
        check(both, pair, *case, "kept", step=100, extended=extended)
        check(both, pair, *case, None, step=1, extended=extended)
    assert all(not parts for parts in both.on_shards("select from kept limit 1"))
    assert value(pair[0], "select 1") == "1"


def test_copy_fail_and_what_a_transaction_keeps_of_it(both, pair):
    end = wire.copy_fail("no more")
    check(both, pair, "copy kept from stdin", MANY, "kept", end=end)
    for connection in pair:
        connection.ask(wire.query("begin"))
        connection.ask(wire.query("insert into kept values (-1, 'before')"))
        connection.ask(wire.query("savepoint a"))
    check(both, pair, "copy kept from stdin", MANY, None, end=end)
    assert [code(connection.ask(wire.query("select 1"))) for connection in pair] == ["25P02"] * 2
    for connection in pair:
        connection.ask(wire.query("rollback to a"))
    check(both, pair, "copy kept from stdin", MANY, None)
    assert [value(connection, "select count(*) from kept") for connection in pair] == ["201"] * 2
    assert [connection.ask(wire.query("commit"))[0].body for connection in pair] == [b"COMMIT\0"] * 2
    same_rows(both, pair, "kept")


def test_in_a_transaction(both, pair):
    for script in (["begin", MANY, "rollback"], ["begin", "insert into kept values (1000, 'x')", MANY, "update kept set n = 9", MANY, "rollback"],
                   ["begin", MANY, "delete from kept where id < 10", "commit"], ["begin", b"5\tx\t1\n", "commit"]):
        for step in script:
            if isinstance(step, bytes):
                check(both, pair, "copy kept from stdin", step, None)
            else:
                answers = [told(connection.ask(wire.query(step)), False) for connection in pair]
                assert answers[0] == answers[1]
        same_rows(both, pair, "kept")


def test_a_foreign_key_within_the_shard(both, pair):
    check(both, pair, "copy late from stdin", b"1\t1\n2\t2\n", "late")
    check(both, pair, "copy late from stdin", b"3\t3\n4\t999\n", "late")


def test_what_is_refused(both, pair):
    for sql, data, expected in [("copy numbered (id, no) from stdin", b"", "0A000"), ("copy kept (v) from stdin", b"", "0A000"),
                                ("copy computed (v) from stdin", b"", "0A000"), ("copy kept from '/tmp/x'", b"", "0A000"), ("copy kept to program 'cat'", b"", "0A000"),
                                ("copy kept from stdin (encoding 'latin1')", b"", "0A000"), ("copy small from stdin", b"1\tx\n\\N\ty\n", "23502"),
                                ("copy days (v, day) from stdin", b"a\t2024-05-01\nb\t2026-01-01\n", "22023"), ("copy days (v, day) from stdin", b"a\t1.2.2024\n", "0A000"),
                                ("copy days from stdin", b"2024-05-01\tnow\tx\n", "0A000"), ("copy colors from stdin", b"x\ty\ttoday\n", "0A000"),
                                ("copy kept from stdin where now() > '2000-01-01'", b"", "0A000"), ("copy (select * from kept order by id) to stdout", b"", "0A000")]:
        replies = copy_from(pair[0], sql, data)
        assert code(replies) == expected, (sql, replies)
        assert all(not parts for parts in both.on_shards("select from small union all select from days union all select from colors"))
    assert "line 2" in errors(copy_from(pair[0], "copy small from stdin", b"1\tx\n\\N\ty\n"))[0]["W"]


def test_a_reference_table(both, pair):
    query = "select code, name, at::text from colors order by 1"
    for sql, data in [("copy colors from stdin", b"r\tred\t\\N\ng\tgreen\t2024-01-01 00:00+00\n"), ("copy colors (name, code) from stdin csv", b"blue,b\n"),
                      ("copy colors from stdin", b"x\tnew\t\\N\nr\tagain\t\\N\n"), ("copy colors from stdin (format binary)", binary([(b"y", b"yellow", None)]))]:
        check(both, pair, sql, data, None, step=3)
        one = rows(pair[1].ask(wire.query(query)))
        assert both.on_shards(query) == [[tuple(row) for row in one]] * SHARDS
    check(both, pair, "copy colors to stdout", b"", None)


def test_two_writers_of_a_reference_table_meet_in_one_order(both, pair):
    """The second one waits, and finds what the first has written."""
    with log_in(both.proxy, both.sharded) as other:
        pair[0].send(wire.query("copy colors from stdin"))
        pair[0].read_until("G")
        other.send(wire.query("copy colors from stdin"))
        time.sleep(0.3)
        pair[0].send(wire.copy_data(b"r\tred\t\\N\n"), wire.COPY_DONE)
        assert code(pair[0].read_until("Z")) is None
        other.read_until("G")
        other.send(wire.copy_data(b"r\trot\t\\N\n"), wire.COPY_DONE)
        assert code(other.read_until("Z")) == "23505"


# ---- TO

TO = ["copy kept to stdout", "copy kept (v, id) to stdout", "copy kept to stdout csv", "copy kept to stdout (format csv, header)", "copy kept to stdout (header, null 'x')", "copy kept to stdout (format csv, header, force_quote *, delimiter ';')",
      "copy (select id, v from kept where n = 1) to stdout", "copy (select id * 2 as d from kept) to stdout (format csv, header)", "copy (select * from kept where id = 5) to stdout", "copy (select * from kept where id in (5, 6, 7)) to stdout csv header",
      "copy (select id from kept where v = 'nothing') to stdout (format csv, header)", "copy (select id from kept where false) to stdout (format binary)"]


@pytest.mark.parametrize("sql", TO)
@pytest.mark.parametrize("extended", [False, True])
def test_to_as_one_server(both, pair, sql, extended):
    check(both, pair, "copy kept from stdin", MANY, "kept")
    message = wire.parse(sql) + wire.bind() + wire.describe_portal() + wire.execute() + wire.SYNC if extended else wire.query(sql)
    replies = [connection.ask(message) for connection in pair]
    assert told(replies[0]) == told(replies[1])
    kinds = [[kind for kind, before in zip(types, " " + types, strict=False) if kind != "d" or before != "d"] for types in ("".join(reply.type for reply in one) for one in replies)]
    assert kinds[0] == kinds[1]
    data = [data_of(one) for one in replies]
    if "binary" in sql:
        assert data[0] == data[1]
        return
    lines = [one.split(b"\n") for one in data]
    if "header" in sql:
        assert lines[0][0] == lines[1][0]
    assert sorted(lines[0]) == sorted(lines[1])


def test_to_binary_and_back(both, pair):
    check(both, pair, "copy kept from stdin", MANY, "kept")
    data = [data_of(connection.ask(wire.query("copy kept to stdout (format binary)"))) for connection in pair]
    assert len(data[0]) == len(data[1])
    assert data[0][:19] == data[1][:19] and data[0].endswith(b"\377\377")
    both.empty()
    for connection, other in zip(pair, reversed(data), strict=True):
        assert copy_from(connection, "copy kept from stdin (format binary)", other)[-2].body == b"COPY 200\0"
    same_rows(both, pair, "kept")


def test_to_sees_the_transaction_and_errors_fail_it(both, pair):
    for connection in pair:
        connection.ask(wire.query("begin"))
        copy_from(connection, "copy kept from stdin", MANY)
    data = [sorted(data_of(connection.ask(wire.query("copy kept to stdout"))).split(b"\n")) for connection in pair]
    assert data[0] == data[1] and len(data[0]) == 201
    assert [code(connection.ask(wire.query("copy (select 1 / (id - 7) from kept) to stdout"))) for connection in pair] == ["22012"] * 2
    assert [code(connection.ask(wire.query("select 1"))) for connection in pair] == ["25P02"] * 2
    for connection in pair:
        connection.ask(wire.query("rollback"))
    assert [code(connection.ask(wire.query("copy kept (nothing) to stdout"))) for connection in pair] == ["42703"] * 2


def test_shards_with_other_columns_are_refused(both, pair):
    both.servers[1].run("alter table words rename to words_old; create table words (v text, k text primary key)", both.sharded)
    both.servers[1].run("grant all on words to app", both.sharded)
    try:
        assert code(pair[0].ask(wire.query("copy words to stdout"))) == "0A000"
        # by name, so each has its own
        copy_from(pair[0], "copy words from stdin", b"".join(b"k%d\tv%d\n" % (i, i) for i in range(20)))
        assert sum(len(part) for part in both.on_shards("select from words where replace(k, 'k', 'v') = v")) == 20
    finally:
        both.servers[1].run("drop table words; alter table words_old rename to words", both.sharded)


# ---- clients, faults, size

def test_drivers(both, pair, tmp_path):
    import psycopg2

    dsn = {"host": both.proxy.host, "port": both.proxy.port, "user": "app", "password": "app", "dbname": both.sharded}
    file = tmp_path / "rows"
    file.write_bytes(MANY)
    connection = psycopg2.connect(**dsn)
    with connection, connection.cursor() as cursor, file.open() as stream:
        cursor.copy_expert("COPY kept FROM STDIN", stream)
        assert cursor.rowcount == 200
        cursor.execute("delete from kept where id >= 100")
    with connection, connection.cursor() as cursor, (tmp_path / "out").open("w") as stream:
        cursor.copy_to(stream, "kept")
        assert cursor.rowcount == 100
    connection.close()
    assert sorted((tmp_path / "out").read_bytes().split(b"\n"))[1:] == sorted(MANY.split(b"\n")[:100])
    with psycopg.connect(**dsn) as connection, connection.cursor() as cursor:
        with cursor.copy("COPY kept (id, v) FROM STDIN (FORMAT binary)") as copy:
            copy.set_types(["int8", "text"])
            for i in range(1000, 1100):
                copy.write_row((i, f"x{i}"))
        with pytest.raises(psycopg.errors.UniqueViolation) as caught, connection.transaction(), cursor.copy("COPY kept (id, v) FROM STDIN") as copy:
            copy.write_row((2000, "y"))
            copy.write_row((1000, "again"))
        assert "COPY kept, line 2" in caught.value.diag.context and "shard" in caught.value.diag.context
        with cursor.copy("COPY kept TO STDOUT") as copy:
            assert len([*copy.rows()]) == 200
    url = "host={host} port={port} user={user} password={password} dbname={dbname}".format(**dsn)
    done = subprocess.run(["psql", "-X", url, "-c", f"\\copy kept from '{file}' where id >= 100", "-c", "\\copy kept to stdout csv header"], capture_output=True, text=True)
    assert done.returncode == 0 and done.stderr == "" and done.stdout.startswith("COPY 100\nid,v,n\n") and done.stdout.count("\n") == 302, (done.stdout[:200], done.stderr)
    done = subprocess.run(["psql", "-X", url], input="begin;\ncopy kept from stdin;\n5000\ta\t1\n5001\tb\t2\n\\.\ncommit;\n", capture_output=True, text=True)
    assert done.stdout == "BEGIN\nCOPY 2\nCOMMIT\n", done


def busy(both):
    return sum(len(part) for part in both.on_shards("select from pg_stat_activity where datname = current_database() and usename = 'app' and (state <> 'idle' or xact_start is not null)"))


@pytest.mark.parametrize("inside", [False, True])
@pytest.mark.parametrize("half", [False, True])
def test_a_client_that_vanishes(both, pair, inside, half):
    if inside:
        pair[0].ask(wire.query("begin"))
    pair[0].send(wire.query("copy kept from stdin"))
    pair[0].read_until("G")
    pair[0].send(wire.copy_data(MANY), wire.copy_data(MANY)[:20] if half else b"")
    time.sleep(0.1)
    pair[0].close()
    eventually(lambda: busy(both) == 0)
    assert all(not part for part in both.on_shards("select from kept limit 1"))


@pytest.mark.parametrize("inside", [False, True])
def test_a_shard_that_is_lost(both, pair, inside):
    if inside:
        pair[0].ask(wire.query("begin"))
    pair[0].send(wire.query("copy kept from stdin"))
    pair[0].read_until("G")
    pair[0].send(wire.copy_data(MANY))
    ended = both.servers[2].run("select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() and usename = 'app' and state <> 'idle'", both.sharded)
    assert "t" in ended
    replies = pair[0].read_until("E" if inside else "Z")
    assert code(replies) in ("57P01", "08006"), replies
    if inside:
        pair[0].read_until("Z")
    pair[0].send(wire.copy_data(MANY), wire.COPY_DONE)  # what was under way already
    if inside:
        assert code(pair[0].ask(wire.query("select 1"))) == "25P02"
        pair[0].ask(wire.query("rollback"))
    assert value(pair[0], "select count(*) from kept") == "0"
    assert copy_from(pair[0], "copy kept from stdin", MANY)[-2].body == b"COPY 200\0"


@pytest.mark.parametrize("extended", [False, True])
def test_cancel(both, pair, extended):
    """While it waits for data, and while a server works on it."""
    begin = wire.parse("copy kept from stdin") + wire.bind() + wire.execute() + wire.SYNC if extended else wire.query("copy kept from stdin")
    blocker = both.servers[1].connect(both.sharded)
    for locked in (False, True):
        if locked:
            found = next(i for i in range(1000) if is_on(both, i, 1))
            blocker.execute("begin")
            blocker.execute("insert into kept values (%s, 'mine')", (found,))
        pair[0].send(begin)
        pair[0].read_until("G")
        pair[0].send(wire.copy_data(b"%d\ta\t1\n" % found if locked else MANY), wire.COPY_DONE if locked else b"")
        time.sleep(0.3)
        with wire.Wire(both.proxy.host, both.proxy.port) as other:
            other.send(wire.cancel_request(pair[0].process_id, pair[0].secret_key))
            other.read_to_end()
        if extended:
            assert code(pair[0].read_until("E")) == "57014"
            pair[0].send(b"" if locked else wire.COPY_DONE, wire.SYNC)
            pair[0].read_until("Z")
        else:
            assert code(pair[0].read_until("Z")) == "57014"
        assert value(pair[0], "select count(*) from kept") == "0"
        blocker.execute("rollback")
    blocker.close()


def is_on(both, key, shard):
    """Whether a row with this key goes to the shard: asked of EXPLAIN."""
    with psycopg.connect(host=both.proxy.host, port=both.proxy.port, user="app", password="app", dbname=both.sharded) as connection:
        text = " ".join(row[0] for row in connection.execute(f"explain (tessera) select from kept where id = {key}"))
    return f"route to s{shard}" in text


def test_statement_timeout(both, new_database, tessera):
    config = {"databases": {both.sharded: database_config(both.servers, both.sharded, rules=RULES, tables=TABLES, limits={"statement_timeout": "500ms"})}}
    proxy = tessera(config)
    both.empty()
    with log_in(proxy, both.sharded) as connection:
        connection.send(wire.query("copy kept from stdin"))
        connection.read_until("G")
        connection.send(wire.copy_data(MANY))
        assert errors(connection.read_until("Z"))[0]["M"] == "canceling statement due to statement timeout"
        assert value(connection, "select count(*) from kept") == "0"


def test_other_messages_in_the_middle(both, pair):
    for connection in pair:
        connection.send(wire.query("copy kept from stdin"))
        connection.read_until("G")
        connection.send(wire.copy_data(b"1\ta"), wire.FLUSH, wire.SYNC, wire.copy_data(b"\t1\n2\tb\t2\n"), wire.COPY_DONE)
    answers = [told(connection.read_until("Z")) for connection in pair]
    assert answers[0] == answers[1]
    same_rows(both, pair, "kept")
    for connection in pair:
        connection.send(wire.query("copy kept from stdin"))
        connection.read_until("G")
        connection.send(wire.copy_data(b"9\ta\t1\n"), wire.query("select 1"))
        assert code(connection.read_to_end()) == "08P01"


def test_a_pipeline_goes_on_behind_it(both, pair):
    """libpq sends Sync behind Execute, and again behind the end of the data."""
    for connection in pair:
        connection.send(wire.parse("copy kept from stdin"), wire.bind(), wire.execute())
        connection.send(wire.copy_data(MANY), wire.COPY_DONE, wire.parse("select count(*) from kept"), wire.bind(), wire.execute(), wire.SYNC)
    answers = [connection.read_until("Z") for connection in pair]
    assert told(answers[0]) == told(answers[1]) and rows(answers[0]) == rows(answers[1]) == [["200"]]
    for connection in pair:  # and what fails behind it takes it back
        connection.send(wire.parse("copy small from stdin"), wire.bind(), wire.execute(), wire.copy_data(b"1\ta\n2\tb\n3\tc\n"), wire.COPY_DONE)
        connection.send(wire.parse("select 1 / 0"), wire.bind(), wire.execute(), wire.SYNC)
    answers = [told(connection.read_until("Z"), False) for connection in pair]
    assert answers[0] == answers[1]
    same_rows(both, pair, "small")


def rows_of(count, size):
    """About count * size bytes."""
    filler = "x" * (size - 20)
    for begin in range(0, count, 1000):
        yield "".join(f"{i}\t{filler}{i}\t1\n" for i in range(begin, min(count, begin + 1000))).encode()


def test_a_big_one_takes_no_memory(both, pair):
    """Also when a shard stands still for a while, and when the client reads slowly."""
    count, size = 400_000, 500
    before = both.proxy.resident_bytes()
    most = [0]
    done = threading.Event()

    def watch():
        while not done.wait(0.05):
            most[0] = max(most[0], both.proxy.resident_bytes())

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        pair[0].socket.settimeout(120)
        pair[0].send(wire.query("copy kept from stdin"))
        pair[0].read_until("G")
        for number, piece in enumerate(rows_of(count, size)):
            if number == 50:
                with both.servers[3].connect(both.sharded) as looker:
                    stopped = [row[0] for row in looker.execute("select pid from pg_stat_activity where datname = current_database() and usename = 'app' and state <> 'idle'")]
                subprocess.run(["kill", "-STOP", *map(str, stopped)], check=True)
                threading.Timer(1, lambda: subprocess.run(["kill", "-CONT", *map(str, stopped)], check=True)).start()
            pair[0].send(wire.copy_data(piece))
        pair[0].send(wire.COPY_DONE)
        assert pair[0].read_until("Z")[-2].body == f"COPY {count}\0".encode()
        pair[0].send(wire.query("copy kept to stdout"))
        time.sleep(1)
        found = sum(1 for _ in iter(lambda: pair[0].read().type, "C"))
        pair[0].read_until("Z")
        assert found == count + 2
    finally:
        done.set()
        watcher.join()
    assert most[0] - before < 40 << 20, (before, most[0])


# ---- odd data

SOUP = ["1", "2", "3", "a", ",", ",", "\t", "\t", "\n", "\n", "\n", "\r", "\r\n", '"', '"', "'", "\\", "\\.", "\\N", "\\.\n", " ", "\\t", "bad"]
FORMS = ["", "csv", "csv header", "csv quote ''''", "csv escape '\\'", "(header)", "(format csv, force_null (v))"]


@pytest.mark.parametrize("seed", range(int(os.environ.get("TESSERA_COPIES", "10"))))
def test_any_text_is_taken_or_refused_alike(both, pair, seed):
    """Random characters: the same rows, or the same error."""
    pick = random.Random(seed)
    agreed = 0
    for _ in range(120):
        form = pick.choice(FORMS)
        length = pick.randrange(1, 14)
        data = "".join(pick.choice(SOUP) for _ in range(length))
        if pick.random() < 0.6:
            mark = "," if "csv" in form else "\t"
            data = mark.join(["7", data[:3]]) + pick.choice(["\n", "\r\n", "\r"]) + data
        sql = f"copy words (k, v) from stdin {form}"
        replies = [copy_from(connection, sql, data.encode(), step=pick.choice([None, 1, 2])) for connection in pair]
        answers = [told(one) for one in replies]
        refused = code(replies[0]) == "23502" and code(replies[1]) == "23502"
        assert answers[0] == answers[1] or refused, (sql, data, answers)
        agreed += answers[0][-2][0] == "C"
        same_rows(both, pair, "words")
        for connection in pair:
            connection.ask(wire.query("delete from words"))
    assert agreed > 10
