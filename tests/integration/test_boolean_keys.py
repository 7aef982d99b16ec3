"""TRUE and FALSE as sharding keys: words of the statement, and no slots of its fingerprint."""

import pytest
from harness import wire
from talk import ask, config_of, log_in, rows

SCHEMA = "create table flags (flag boolean, v text); create table texts (k text, v text); create table numbers (k int, v text)"
HALVES = {"type": "directory", "entries": {"true": "s1", "false": "s0"}}
SPREAD = {f: {"type": "hash", "function": f, "buckets": 2, "shards": ["s0", "s1"]} for f in ("postgres", "md5", "crc32")}
WORDS = [("TRUE", "t"), ("FALSE", "f"), ("true", "t"), ("False", "f"), ("true", "t"), ("TRUE", "t"), ("FALSE", "f")]


@pytest.fixture(params=["directory", *SPREAD])
def told(request, tessera, servers, database):
    """A connection to two shards, and for each value the shard that the parameter goes to."""
    for server in servers:
        server.run("truncate flags", database)
    rules = {"by_flag": SPREAD.get(request.param, HALVES), "by_text": SPREAD["md5"]}
    tables = {"flags": {"rule": "by_flag", "key": "flag"}, "texts": {"rule": "by_text", "key": "k"}, "numbers": {"rule": "by_text", "key": "k"}}
    proxy = tessera({**config_of(servers, database, rules=rules, tables=tables), "workers": 1})
    with log_in(proxy, database) as connection:
        connection.ask(wire.parse("insert into flags values ($1, 'parameter')") + wire.bind([b"t"]) + wire.execute() + wire.SYNC)
        connection.ask(wire.parse("insert into flags values ($1, 'parameter')") + wire.bind([b"f"]) + wire.execute() + wire.SYNC)

        with servers[0].connect(database) as first, servers[1].connect(database) as second:
            def shards_of(flag, v):
                return [i for i, shard in enumerate((first, second)) if shard.execute("select from flags where flag = %s and v = %s", [flag, v]).fetchone() is not None]
            yield connection, shards_of


def test_words_go_where_parameters_go(told):
    connection, shards_of = told
    for number, (word, flag) in enumerate(WORDS):
        assert ask(connection, f"insert into flags values ({word}, 'by word {number}')") == []
        assert ask(connection, f"insert into flags (v, flag) values ('rows {number}', {word}), ('more {number}', '{flag}')") == []
        for v in (f"by word {number}", f"rows {number}", f"more {number}"):
            assert shards_of(flag, v) == shards_of(flag, "parameter")
            assert len(shards_of(flag, v)) == 1
        route = f"route to s{shards_of(flag, 'parameter')[0]}"
        for condition in (f"flag = {word}", f"{word} = flag", f"flag in ({word})", f"flag = any (array[{word}, '{flag}'])", f"flag = {word}::bool"):
            assert route in str(ask(connection, f"explain (tessera) select v from flags where {condition}")), condition
            assert ask(connection, f"select v from flags where {condition} and v = 'by word {number}'") == [[f"by word {number}"]], condition
        assert ask(connection, f"update flags set v = 'changed' where flag = {word} and v = 'by word {number}'") == []
        assert ask(connection, f"select flag, v from flags where flag = {word} and v = 'changed'") == [[flag, "changed"]]
        assert ask(connection, f"delete from flags where flag = {word} and v = 'changed'") == []
        prepared = connection.ask(wire.parse(f"select distinct flag from flags where flag = {word}", f"s{number}") + wire.bind(name=f"s{number}") + wire.execute() + wire.SYNC)
        assert rows(prepared) == [[flag]]
        ask(connection, "prepare p as select distinct flag from flags where flag = $1")
        assert ask(connection, f"execute p({word})") == [[flag]]
        ask(connection, "deallocate p")
    both = ask(connection, "select flag from flags where flag in (TRUE, FALSE) and v = 'parameter' order by 1")
    assert both in ([["f"], ["t"]], "0A000")


def test_where_a_boolean_is_no_key_the_server_decides(told):
    connection, _ = told
    assert ask(connection, "select v from numbers where k = TRUE") == "42883"  # operator does not exist
    assert ask(connection, "select v from texts where k = TRUE") == "42883"
    for sql in ("insert into numbers values (TRUE, 'x')", "insert into texts values (TRUE, 'x')", "insert into flags values (TRUE::int, 'x')"):
        assert ask(connection, sql) in ("0A000", "42804"), sql
    assert ask(connection, "select v from flags where flag = TRUE::text") in ("42883", "0A000")
