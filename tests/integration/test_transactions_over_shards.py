"""What an attacker found: transactions that went wrong over several shards without a word."""

import pytest
from harness import wire
from harness.tessera import database_config
from harness.wire import SYNC, bind, describe_statement, execute, parse, query
from talk import code

SCHEMA = "create table users (id bigint primary key)"


@pytest.fixture
def config(shards, new_database):
    name = new_database(shards(3), SCHEMA)
    rules = {"h": {"type": "hash", "shards": ["s0", "s1", "s2"]}}
    return {"databases": {"shop": database_config(shards(3), name, rules=rules, tables={"users": {"rule": "h", "key": "id"}})}}


def statement(sql, *values):
    return parse(sql) + bind(values) + execute()


FAILS = parse("select nosuch from users", "q") + describe_statement("q")
INSERT = "insert into users values (7100)"


# On one server: 25P02 for the INSERT, ROLLBACK for the COMMIT.
@pytest.mark.parametrize("pipeline", [
    query("begin") + FAILS + SYNC + query(INSERT) + query("commit"),
    statement("begin") + FAILS + SYNC + statement(INSERT) + SYNC + statement("commit") + SYNC,
    query("begin") + execute("nosuch") + SYNC + query("set local work_mem = '1MB'") + statement(INSERT) + SYNC + query("commit"),
], ids=["simple", "extended", "local"])
def test_an_error_in_a_transaction_without_a_shard_fails_it_also_in_a_pipeline(tessera, config, pipeline):
    proxy = tessera(config)
    with wire.connect(proxy.host, proxy.port, "app", "shop", "app") as connection:
        connection.send(pipeline, query("select 'end'"))
        replies = []
        while not replies or b"end" not in replies[-1].body:
            replies.append(connection.read())
        connection.read_until("Z")
        assert b"COMMIT\0" not in [reply.body for reply in replies]
        assert not [r for r in connection.ask(query("select id from users where id = 7100")) if r.type == "D"]


def test_a_name_that_is_taken_is_no_news_in_a_failed_transaction(tessera, config):
    proxy = tessera(config)
    with wire.connect(proxy.host, proxy.port, "app", "shop", "app") as connection:
        connection.ask(parse("select 1", "kept"), SYNC)
        connection.ask(query("begin"))
        assert [code(connection.ask(parse("select 2", "kept"), SYNC)) for _ in range(2)] == ["42P05", "25P02"]


def test_ready_for_query_after_a_pipelined_begin_tells_of_the_transaction(tessera, config):
    proxy = tessera(config)
    with wire.connect(proxy.host, proxy.port, "app", "shop", "app") as connection:
        connection.send(statement("begin"), SYNC, query("rollback"))
        assert [connection.read_until("Z")[-1].body for _ in range(2)] == [b"T", b"I"]


def test_an_empty_transaction_in_a_pipeline_commits(tessera, config):
    proxy = tessera(config)
    with wire.connect(proxy.host, proxy.port, "app", "shop", "app") as connection:
        connection.send(statement("begin"), SYNC, statement("commit"), SYNC)
        replies = connection.read_until("Z") + connection.read_until("Z")
        assert [r.body for r in replies if r.type == "C"] == [b"BEGIN\0", b"COMMIT\0"]


def test_prepare_transaction_is_refused_or_its_name_is_unique(tessera, config, shards):
    proxy = tessera(config)
    acknowledged = []
    try:
        with wire.connect(proxy.host, proxy.port, "app", "shop", "app") as connection:
            for key in range(1, 20):
                replies = connection.ask(query("begin"))
                connection.ask(query(f"insert into users values ({key})"))
                replies = connection.ask(query("prepare transaction 'g'"))
                if b"PREPARE TRANSACTION\0" in [r.body for r in replies]:
                    acknowledged.append(key)
                else:
                    connection.ask(query("rollback"))
        assert len(acknowledged) <= 1, f"one gid for several transactions: of the keys {acknowledged}"
    finally:
        for server in shards(3):
            with server.connect(config["databases"]["shop"]["backend"]["dbname"]) as connection:
                if connection.execute("select 1 from pg_prepared_xacts where database = current_database()").fetchone():
                    connection.execute("rollback prepared 'g'")


def test_rollback_with_more_behind_it_ends_a_transaction_that_failed_without_a_shard(tessera, config):
    proxy = tessera(config)
    with wire.connect(proxy.host, proxy.port, "app", "shop", "app") as connection:
        connection.ask(query("begin"))
        connection.ask(query("rollback to s"))
        replies = connection.ask(query("rollback; select 1"))
        assert (b"ROLLBACK\0" in [r.body for r in replies], connection.status) == (True, "I")


# What each answers, and the transaction's state then, must be as on one server.
MISTAKES = {
    "unknown setting": ["begin", "set local nosuch = 1", "select 1", "commit"],
    "bad value": ["begin", "set local work_mem = 'much'", "commit"],
    "bad isolation": ["begin", "set local transaction_isolation = 'none'", "rollback"],
    "of a superuser": ["begin", "set local log_statement = 'all'", "commit"],
    "unknown role": ["begin", "set local role nosuch", "commit"],
    "behind a savepoint": ["begin", "savepoint a", "set local nosuch = 1", "rollback to a", "set local work_mem = '1MB'", "show work_mem", "commit"],
    "in a subtransaction": ["begin", "savepoint a", "set transaction isolation level serializable", "commit"],
    "write inside of read only": ["begin read only", "savepoint a", "set transaction read write", "rollback to a", "commit"],
    "what comes before counts": ["begin", "set local work_mem = '1MB'", "set local work_mem = 'much'", "commit", "show work_mem"],
    "none": ["begin", "set local work_mem = '1234kB'", "set transaction read only", "show work_mem", "show transaction_read_only", "commit", "show work_mem"],
    "for the session": ["begin", "set session characteristics as transaction read only", "commit", "show default_transaction_read_only",
                        "begin", "set session characteristics as transaction read write", "rollback", "show default_transaction_read_only"],
}


@pytest.mark.parametrize("way", [query, lambda sql: statement(sql) + SYNC], ids=["simple", "extended"])
@pytest.mark.parametrize("statements", MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_before_a_transaction_has_its_shard_shows_where_it_is_made(tessera, config, shards, statements, way):
    proxy = tessera(config)
    server, name = shards(1)[0], config["databases"]["shop"]["backend"]["dbname"]
    with wire.connect(proxy.host, proxy.port, "app", "shop", "app") as ours, wire.connect(server.host, server.port, "app", name, "app") as plain:
        for sql in statements:
            told = []
            for connection in (plain, ours):
                replies = connection.ask(way(sql))
                kept = [r for r in replies if r.type in "123CD"]
                told.append((kept, [(e["C"], e["M"]) for e in (wire.error_fields(r.body) for r in replies if r.type == "E")], connection.status))
            assert told[0] == told[1], sql
    with wire.connect(proxy.host, proxy.port, "app", "shop", "app") as other:
        for key in range(1, 9):
            assert [r.type for r in other.ask(query(f"insert into users values ({key})"))] == ["C", "Z"], "nobody's settings are left over"


def test_bind_complete_of_a_statement_over_several_shards_waits_for_the_servers(tessera, config, shards):
    proxy = tessera(config)
    server, name = shards(1)[0], config["databases"]["shop"]["backend"]["dbname"]
    select = parse("select id from users where id > $1")
    pipelines = [select + bind([value], result_formats=formats) + more + SYNC
                 for value, formats in ((b"0", ()), (b"zero", ()), (b"0", (7,)), (b"0", (0, 0)))
                 for more in (execute(), wire.describe_portal() + execute(), wire.message("C", b"Snone\0") + execute())]
    with wire.connect(proxy.host, proxy.port, "app", "shop", "app") as ours, wire.connect(server.host, server.port, "app", name, "app") as plain:
        for pipeline in pipelines:
            told = [[r.type for r in connection.ask(pipeline)] for connection in (plain, ours)]
            assert told[0] == told[1], pipeline
        assert [r.type for r in ours.ask(select + bind([b"0"]) + execute() + SYNC)] == ["1", "2", "C", "Z"]


def test_a_describe_between_bind_and_execute_over_several_shards_is_not_swallowed(tessera, config):
    proxy = tessera(config)
    with wire.connect(proxy.host, proxy.port, "app", "shop", "app") as connection:
        connection.ask(parse("select 1", "other") + SYNC)
        replies = connection.ask(parse("select id from users") + bind() + describe_statement("other") + execute() + SYNC)
        assert [r.type for r in replies] == ["1", "2", "E", "Z"] and wire.error_fields(replies[2].body)["C"] == "0A000"
