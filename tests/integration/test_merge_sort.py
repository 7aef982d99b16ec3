"""ORDER BY, LIMIT and OFFSET over rows of several shards, merged without temporary tables: the answer of one plain server, in bounded memory."""

import contextlib
import random
import threading
import time
import uuid

import psycopg
import pytest
import twins
from gathered import SHARDS, answer, two_databases
from harness import wire
from harness.meddler import Harm, Meddler
from harness.tessera import database_config
from test_cancel import cancel
from talk import code, errors, eventually, log_in, rows

KINDS = {
    "small": ("smallint", ["-32768", "-1", "0", "7", "32767"]),
    "whole": ("integer", ["-2147483648", "-5", "0", "5", "2147483647"]),
    "large": ("bigint", ["-9223372036854775808", "-1", "0", "1", "9223372036854775807"]),
    "number": ("oid", ["0", "1", "4294967295"]),
    "flag": ("boolean", ["t", "f"]),
    "day": ("date", ["-infinity", "0044-03-15 BC", "1999-12-31", "2000-01-01", "infinity"]),
    "clock": ("time", ["00:00", "12:30:00.000001", "24:00"]),
    "moment": ("timestamp", ["-infinity", "1999-12-31 23:59:59.999999", "2000-01-01", "infinity"]),
    "instant": ("timestamptz", ["-infinity", "1970-01-01 00:00+14", "1970-01-01 00:00-14", "infinity"]),
    "mark": ("uuid", [str(uuid.UUID(int=i << 100)) for i in (0, 1, 9, 200)]),
    "raw": ("bytea", ["", "\\x00", "\\x0000", "\\x00ff", "\\x61", "\\xff"]),
    "word": ("text collate \"C\"", ["", "a", "A", "a b", "a-b", "é", "z", "zoë", "ZZ"]),
    "label": ("varchar(9) collate \"POSIX\"", ["", "a", "B", "aa", "ä"]),
    "padded": ("char(4) collate \"C\"", ["", "a", "a b", "ab", "B"]),
    "letter": ("\"char\"", ["", "a", "\\377", "B"]),
    "exact": ("numeric", ["-Infinity", "-99999999.5", "-1", "-0.0001", "0", "0.000", "0.1", "1", "1.0", "1.00", "10000", "9999.9999", "1e20", "Infinity", "NaN"]),
    "wide": ("double precision", ["-Infinity", "-1.5", "-0", "0", "1e-300", "1e300", "Infinity", "NaN"]),
    "narrow": ("real", ["-Infinity", "-1.5", "-0", "0", "1.5", "Infinity", "NaN"]),
}
# Of no known order: gathered; of the types that somebody has made only the servers know what they are.
OTHERS = {"place": ("text", ["a", "B", "é", "zoë", ""]), "span": ("interval", ["1 day", "24 hours", "-1 month"]), "mood": ("mood", ["sad", "happy"]), "net": ("inet", ["10.0.0.1", "::1"]),
          "kept": ("kept_word", ["x", "Y", ""]), "cents": ("cents", ["0", "5", "77"])}
COLUMNS = KINDS | OTHERS
SCHEMA = f"""
create type mood as enum ('sad', 'happy');
create domain cents as bigint;
create domain kept_word as text collate "C";
create table items (id int primary key, owner int, {", ".join(f"{name} {kind}" for name, (kind, _) in COLUMNS.items())});
create table owners (id int primary key, name text);
create table parts (item int, n int, primary key (item, n));
create table countries (code char(2) primary key, name text);
create table settings (name text primary key, value text);
"""
TABLES = {
    "items": {"rule": "by_user", "key": "id"},
    "parts": {"rule": "by_user", "key": "item"},
    "owners": {"rule": "by_item", "key": "id"},
    "countries": {"reference": True},
    "settings": {"shard": "s1"},
}


@pytest.fixture(scope="module")
def both(shards, new_database, tmp_path_factory):
    with two_databases(shards, new_database, tmp_path_factory, SCHEMA, TABLES, fill) as found:
        yield found


def fill(connection, seed=3):
    pick = random.Random(seed)
    for i in range(120):
        values = [i, pick.choice([None, pick.randrange(9)])] + [pick.choice([None, *some]) for _, some in COLUMNS.values()]
        connection.execute(f"insert into items values ({', '.join(['%s'] * len(values))})", values)
        for n in range(i % 3):
            connection.execute("insert into parts values (%s, %s)", (i, n))


def plan(connection, query):
    return [row[0] for row in connection.execute("explain (tessera) " + query).fetchall()]


DIRECTIONS = ["", " desc", " nulls first", " desc nulls last"]


@pytest.mark.parametrize("column", COLUMNS)
def test_each_type_in_each_direction(both, column):
    through, one, *_ = both
    for direction in DIRECTIONS:
        for query in (f"select id, {column} from items order by {column}{direction}, id", f"select {column} as x, id from items order by 1{direction}, 2 limit 9 offset 4",
                      f"select id from items order by {column}{direction}, id desc offset 100"):
            assert answer(through, query) == answer(one, query), query
            merged = plan(through, query)[0].startswith("merge sort of s0, s1, s2, s3") and not any("gather on" in line for line in plan(through, query))
            assert merged == (column in KINDS or column in ("kept", "cents", "mood")), query


MERGED = [
    "select * from items order by id",
    "select * from items order by id desc limit 3",
    "select i.* from items i order by i.word, i.id",
    "select id as word, word as id from items order by id, word",
    "select -id as id from items order by id limit 5",
    "select -id as id, id as x from items order by x desc limit 5",
    "select word, id from items order by (word), ((id)) desc limit 10",
    "select word, id from items order by (2) desc limit 10",
    "select id from items order by id % 7, id",
    "select id from items order by place collate \"C\" desc, id fetch first 12 rows only",
    "select id from items order by lower(place) collate \"C\", id offset 3 rows fetch next row only",
    "select id from items order by case when id > 50 then 0 else 1 end, -id",
    "select id from items order by exact is null, abs(exact), id",
    "select id from items where id > 20 and flag order by moment nulls first, id limit all",
    "select id from items where id in (3, 5, 8, 9, 70) order by id",
    "select id from items order by id limit 0",
    "select id from items order by id offset 1000",
    "select id from items order by id limit 1000 offset 119",
    "select i.id, p.n from items i join parts p on p.item = i.id order by p.n desc, i.id limit 20",
    "select i.id, p.n, c.name from items i join parts p on p.item = i.id left join countries c on c.code = 'DE' order by i.id, n",
    "select i.id, p.n from items i left join parts p on p.item = i.id order by p.n, i.id",
    "select p.item from items i join parts p on p.item = i.id and p.n = 1 order by item limit 4",
    "select id from items i where exists (select from parts p where p.item = i.id) order by whole, id",
    "select id, (select count(*) from parts p where p.item = items.id) as c from items order by c desc, id limit 7",
    "select \"id\" as \"I d\" from items order by \"I d\" limit 2",
    "select id from items order by id -- the last\n limit 2",
    "select id -- the key\n from items /* all */ order by id limit 2;",
    "select p from parts p order by n, item limit 30",
    "select row_to_json(p) as j from parts p order by p.item, p.n limit 3",
    "select public.items.id, pg_typeof(word) from public.items order by 1 limit 3",
    "select 'é' as é, id from items order by id limit 1",
    "select id, id from items order by items.id limit 2",
    "select nothing from items order by 1",
    "select id from items order by nothing",
    "select id, word as é from items order by nothing.é",
    "select id from items order by id limit 1 + 'x'",
    "select 1 / (id - 77) from items order by id",
    "select raw from items order by owner + 9223372036854775807, id",
    "select id from items order by 3",
    "select id from items order by 'x'",
    "select whole as x, id as x from items order by x",
    "select id from items order by id limit -1",
    "select id from items order by id limit 1.5",
    "select id from items order by id limit 2 + 1",
    "select id from items order by id limit null offset null",
    "select id from items order by id using >",
    "select generate_series(1, 2), id from items order by id, 1 limit 3",
    "select id from items order by id limit 3 for update",
    "select distinct owner from items order by owner",
    "select id, row_number() over (order by id) from items order by id limit 3",
    "select id from items order by id fetch first 3 rows with ties",
    "select id from owners union all select id from items order by 1 limit 3",
    "select x from (select id as x from items order by id limit 5) s order by x desc",
    "select a.y from items as a (y) order by y limit 3",
]


@pytest.mark.parametrize("query", MERGED)
def test_the_rows_of_one_server(both, query):
    through, one, *_ = both
    expected, found = answer(one, query), answer(through, query)
    assert found == expected or (query.endswith("for update") and found == "0A000")


def test_limit_without_order(both):
    """Any rows are right, as long as there are so many."""
    through, *_ = both
    everything = {row[0] for row in through.execute("select id from items").fetchall()}
    for limit, offset, count in ((5, 0, 5), (200, 0, 120), (50, 100, 20), (0, 0, 0), (3, 119, 1)):
        query = f"select id from items limit {limit} offset {offset}"
        assert plan(through, query)[0].startswith("merge sort")
        found = [row[0] for row in through.execute(query).fetchall()]
        assert len(found) == len(set(found)) == count and set(found) <= everything
    assert len(through.execute("select id from items offset 100").fetchall()) == 20


EXTENDED = [
    ("select id, word, exact from items order by word, id", [], (), (), ()),
    ("select id, word, exact from items order by word desc, id limit 7", [], (), (), (1,)),
    ("select id, word, exact, day from items order by exact, id limit 30", [], (), (), (1, 0, 1, 0)),
    ("select id from items order by id limit $1", [b"3"], (), (), ()),
    ("select id from items order by id limit $1 offset $2", [b"3", b"5"], (), (), ()),
    ("select id from items order by id limit $2 offset $1", [b"\0\0\0\0\0\0\0\5", b"4"], (), (1, 0), (1,)),
    ("select id from items order by id limit $1 offset $2", [None, b"110"], (), (), ()),
    ("select id from items order by id limit $1 offset $2", [b"3", None], (), (), ()),
    ("select id from items order by id limit 10 offset $1", [b"3"], (), (), ()),
    ("select id from items order by id limit $1", [b"\0\0\0\3"], (23,), (1,), (1,)),
    ("select id from items order by id limit $1", [b"3"], (25,), (), ()),
    ("select id from items order by id limit $1", [b"three"], (), (), ()),
    ("select id from items order by id limit $1", [b"-3"], (), (), ()),
    ("select id from items order by id offset $1", [b"117"], (), (), ()),
    ("select id, $1 from items where id < $2 order by id % $3::int, id", [b"x", b"9", b"4"], (), (), ()),
    ("select id from items where exact > $1 order by whole + $1, id", [b"-1.5"], (), (), ()),
    ("select id from items where exact > $1 order by whole + $1, id", [b"-1"], (23,), (), ()),
    ("select id from items where large > $1 order by small + $1, id", [b"\xff\xff\xff\xff\xff\xff\xff\x01"], (), (1,), (1,)),
    ("select id, large + $1 as x from items where small > $1 order by x, id", [b"100000"], (), (), ()),
    ("select id from items where word = $1 order by id", [b"a"], (), (), (1,)),
    ("select id, word from items order by id", [], (), (), (0, 0, 0)),
    ("select id from items order by id limit 3", [], (), (), (7,)),
    ("select 1 / (id - $1) from items order by id", [b"60"], (), (), ()),
]


@pytest.mark.parametrize("case", EXTENDED, ids=lambda case: case[0])
def test_the_extended_protocol(both, case):
    """Byte for byte, but for where in the tables the columns come from; nothing shows the additional columns."""
    _, one, proxy, database = both
    query, parameters, types, formats, results = case
    messages = [wire.parse(query, "s", types), wire.describe_statement("s"), wire.bind(parameters, name="s", formats=formats, result_formats=results), wire.describe_portal(), wire.execute(), wire.SYNC]
    answers = []
    for host, port, name in ((proxy.host, proxy.port, database), (one.info.host, one.info.port, one.info.dbname)):
        with wire.connect(host, port, "app", name, "app") as connection:
            told = connection.ask(*messages)
            if errors(told):  # one shard's may come before another has taken the parameters
                told = [reply for reply in told if reply.type not in "2TD"]
            answers.append([twins.masked(reply) if reply.type != "E" else (code([reply]), wire.error_fields(reply.body)["M"]) for reply in told])
    assert answers[0] == answers[1]


def test_prepared_once_and_run_with_other_limits(both):
    _, _, proxy, database = both
    with wire.connect(proxy.host, proxy.port, "app", database, "app") as connection:
        connection.ask(wire.parse("select id from items where id >= $1 order by id limit $2", "s"), wire.SYNC)
        for first, limit in ((0, 3), (100, 1), (5, 0), (118, 9)):
            replies = connection.ask(wire.bind([str(first).encode(), str(limit).encode()], name="s"), wire.execute(), wire.SYNC)
            assert [row[0] for row in rows(replies)] == [str(i) for i in range(120)][first:first + limit]
            assert not any(reply.type in "TE" for reply in replies)


def test_a_row_limit_suspends_the_portal(both):
    _, _, proxy, database = both
    with wire.connect(proxy.host, proxy.port, "app", database, "app") as connection:
        for limit, kind in ((4, "s"), (120, "s"), (121, "C")):
            replies = connection.ask(wire.parse("select id from items order by id"), wire.bind(), wire.execute(limit=limit), wire.SYNC)
            assert [int(row[0]) for row in rows(replies)] == list(range(min(limit, 120)))
            assert [reply.type for reply in replies][-2] == kind
        replies = connection.ask(wire.parse("select id from items order by id limit 3 offset 2"), wire.bind(), wire.execute(limit=10), wire.SYNC)
        assert [row[0] for row in rows(replies)] == ["2", "3", "4"] and replies[-2].body == b"SELECT 3\0"


def test_inside_a_transaction_its_writes_are_seen(both):
    through, one, *_ = both
    queries = ["select id, word from items order by word, id limit 200", "select id from items order by place, id", "select id from items order by lower(place), id", "select id from items order by id desc limit 3"]
    for connection in (through, one):
        connection.execute("begin")
        connection.execute("insert into items (id, word, place) values (1000, 'new', 'new'), (1001, 'new', null), (1002, null, 'x'), (1003, 'b', 'y')")
        connection.execute("delete from items where id < 9")
    for query in queries:
        assert answer(through, query) == answer(one, query), query
    for connection in (through, one):
        with pytest.raises(psycopg.errors.DivisionByZero):
            connection.execute("select 1 / (id - 60) from items order by id").fetchall()
        with pytest.raises(psycopg.errors.InFailedSqlTransaction):
            connection.execute(queries[0])
        connection.execute("rollback")
    assert answer(through, queries[0]) == answer(one, queries[0])


def test_an_error_says_where_in_the_clients_text(both):
    through, one, proxy, database = both
    for query in ("select id from items order by nothing", "select id from nowhere.items order by id", "select 'é', id from items where nothing order by id limit 5", "select id from items order by id, lower(5) limit 2",
                  "select id, other from items order by 1", "select id from items order by id limit 3 offset 2 for nothing"):
        told = []
        for host, port, name in ((proxy.host, proxy.port, database), (one.info.host, one.info.port, one.info.dbname)):
            with wire.connect(host, port, "app", name, "app") as connection:
                failed, = errors(connection.ask(wire.query(query)))
                told.append((failed["C"], failed["M"], failed.get("P")))
        assert told[0] == told[1], query


def test_explain_names_the_keys(both):
    through, *_ = both
    assert plan(through, "select id, place from items order by word desc, exact nulls first, id desc nulls last limit 5 offset 2") == [
        "merge sort of s0, s1, s2, s3", "  by word DESC, exact NULLS FIRST, id DESC NULLS LAST", "  after the first 2 rows", "  at most 5 rows",
        "  each shard: select id, place , (word) AS tessera_key_1 , (exact) AS tessera_key_2 , (id) AS tessera_key_3 from items order by word desc, exact nulls first, id desc nulls last  LIMIT 7 "]
    assert "  unless the servers name a type whose order is not known here" in plan(through, "select id from items order by id + 1")
    told = plan(through, "select id from items order by place")
    assert told[:2] == ["merge sort of s0, s1, s2, s3", "  but its order or its LIMIT is for a server to tell:"] and told[2].startswith("gather on")


PART = 100_000


@pytest.fixture(scope="module")
def crowd(shards, new_database):
    four = shards(SHARDS)
    return four, new_database(four, "create table t (id int primary key, v text)")


def config(servers, database, **more):
    rule = {"type": "hash", "shards": [f"s{i}" for i in range(SHARDS)]}
    return {"workers": 1, "databases": {database: database_config(servers, database, rules={"r": rule}, tables={"t": {"rule": "r", "key": "id"}}, **more)}}


@pytest.fixture(scope="module")
def filled(crowd):
    """Every number once, on some shard: where it is matters to no query without a key."""
    servers, database = crowd
    for number, server in enumerate(servers):
        with server.connect(database, user="app", password="app") as connection:
            connection.execute(f"insert into t select i * {SHARDS} + {number}, repeat('x', 200) from generate_series(0, {PART - 1}) i")
            connection.execute("analyze t")
    return crowd


def test_many_rows_without_growing(filled, tessera):
    """As fast as the client takes them, in order; also when it does not take them for a while."""
    servers, database = filled
    proxy = tessera(config(servers, database))
    peak = [0]
    ended = threading.Event()

    def watch():
        while not ended.wait(0.02):
            peak[0] = max(peak[0], proxy.resident_bytes())

    with log_in(proxy, database, timeout=120) as connection:
        assert rows(connection.ask(wire.query("select id from t order by id limit 2"))) == [["0"], ["1"]]
        before = proxy.resident_bytes()
        watcher = threading.Thread(target=watch)
        watcher.start()
        connection.send(wire.query("select id, v from t order by id"))
        time.sleep(1)
        replies = connection.read_until("Z")
        ended.set()
        watcher.join()
        assert [int(row[0]) for row in rows(replies)] == list(range(SHARDS * PART))
        assert peak[0] - before < 20_000_000, "of 90 MB that went through"


def test_a_cancel_in_the_middle(filled, tessera):
    servers, database = filled
    proxy = tessera(config(servers, database))
    with log_in(proxy, database, timeout=30) as connection:
        connection.send(wire.query("select id, v from t order by id"))
        time.sleep(0.5)
        cancel(proxy, connection.process_id, connection.secret_key)
        replies = connection.read_until("Z")
        assert code(replies) == "57014" and 0 < len(rows(replies)) < SHARDS * PART
        connection.send(wire.query("select id from t order by pg_sleep(1) is null, id limit 3"))
        time.sleep(0.3)
        cancel(proxy, connection.process_id, connection.secret_key)
        assert code(connection.read_until("Z")) == "57014"
        assert rows(connection.ask(wire.query("select id from t order by id desc limit 1"))) == [[str(SHARDS * PART - 1)]]
    clean(proxy, servers, database)


def clean(proxy, servers, database):
    """No server works for anybody any more."""
    for server in servers:
        eventually(lambda s=server: s.run(f"select count(*) from pg_stat_activity where datname = '{database}' and state <> 'idle' and pid <> pg_backend_pid()", "postgres").strip() == "0")


@pytest.mark.parametrize("action", ["cut", "reset", "truncate", "hang"])
def test_a_shard_that_is_lost_in_the_middle(filled, tessera, action):
    servers, database = filled
    with contextlib.ExitStack() as stack:
        middle = stack.enter_context(Meddler(servers[2].port))
        settings = config(servers, database)
        settings["databases"][database]["shards"]["s2"]["primary"] = f"127.0.0.1:{middle.port}"
        proxy = tessera(settings)
        with log_in(proxy, database, timeout=60) as connection:
            assert len(rows(connection.ask(wire.query("select id from t order by id limit 5")))) == 5
            middle.restart_counting()
            middle.add(Harm(action, kind="D", nth=5000))
            connection.send(wire.query("select id, v from t order by id"))
            if action == "hang":
                time.sleep(1)
                cancel(proxy, connection.process_id, connection.secret_key)
                time.sleep(0.2)
                middle.cut()
            replies = connection.read_until("Z")
            assert code(replies) in ("08006", "57014") and len(errors(replies)) == 1
            found = [int(row[0]) for row in rows(replies)]
            assert found == list(range(len(found)))
            middle.clear()
            assert rows(connection.ask(wire.query("select id from t order by id limit 3"))) == [["0"], ["1"], ["2"]]
        clean(proxy, servers, database)


def test_a_slow_shard_only_slows(filled, tessera):
    servers, database = filled
    with Meddler(servers[1].port) as middle:
        settings = config(servers, database)
        settings["databases"][database]["shards"]["s1"]["primary"] = f"127.0.0.1:{middle.port}"
        proxy = tessera(settings)
        with log_in(proxy, database, timeout=60) as connection, log_in(proxy, database, timeout=60) as other:
            middle.add(Harm("delay", kind="D", times=5, seconds=0.2))
            connection.send(wire.query("select id from t order by id limit 40"))
            started = time.monotonic()
            assert rows(other.ask(wire.query("select id from t where id = 0"))) in ([["0"]], [])
            assert time.monotonic() - started < 0.5
            assert [int(row[0]) for row in rows(connection.read_until("Z"))] == list(range(40))


def test_rows_that_are_not_in_order_are_no_answer(crowd, new_database, shards, tessera):
    """A column whose collation is another on one shard than the catalog says."""
    four = shards(SHARDS)
    database = new_database(four, "create table t (id int primary key, v text collate \"C\")")
    proxy = tessera(config(four, database))
    for server in four[1:]:
        server.run("alter table t alter v type text collate \"en-x-icu\"", database)
    with log_in(proxy, database) as connection:
        for i, word in enumerate(["a", "B", "c", "D"] * 10):
            connection.ask(wire.query(f"insert into t values ({i}, '{word}')"))
        replies = connection.ask(wire.query("select v from t order by v"))
        assert code(replies) == "XX000" and "order" in errors(replies)[0]["M"]
        assert rows(connection.ask(wire.query("select id from t order by id limit 1"))) == [["0"]]
