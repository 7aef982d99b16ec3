"""EXPLAIN (TESSERA) says what the statement would do, and refusals say what would work."""

import pytest
from harness import wire
from talk import config_of, errors, log_in, rows

SCHEMA = "create table t (id int primary key, v text); create table c (code text)"
RULES = {"rules": {"r": {"type": "range", "ranges": [{"below": "100", "shard": "s0"}, {"shard": "s1"}]}}, "tables": {"t": {"rule": "r", "key": "id"}, "c": {"reference": True}}}


@pytest.fixture
def proxy(tessera, servers, database):
    return tessera(config_of(servers, database, hints=True, **RULES))


def plan(connection, sql, extended=False):
    replies = connection.ask(wire.parse(sql) + wire.bind() + wire.execute() + wire.SYNC if extended else wire.query(sql))
    assert not errors(replies), errors(replies)
    return [row[0] for row in rows(replies)]


def refusal(connection, sql, extended=False):
    failed, = errors(connection.ask(wire.parse(sql) + wire.bind() + wire.execute() + wire.SYNC if extended else wire.query(sql)))
    return failed


@pytest.mark.parametrize("extended", [False, True], ids=["simple", "extended"])
def test_a_hint_before_explain_counts_for_what_is_explained(proxy, database, extended):
    with log_in(proxy, database) as connection:
        assert plan(connection, "explain (tessera) select count(*) from t", extended)[:3] == ["gather from s0, s1", "gather on s0", "  pg_temp.tessera_gather_1 from s0, s1: SELECT pg_catalog.count(*) AS tessera_part_1 from t"]
        assert plan(connection, "explain (tessera) update t set v = now()::text", extended)[0].startswith("refused: ")
        assert plan(connection, "/* tessera: shard=s1 */ explain (tessera) select count(*) from t", extended) == ["route to s1", "note: shard s1 by hint"]
        assert plan(connection, "/* tessera: key=5 */ explain (tessera) select count(*) from t", extended)[0] == "route to s0"
        connection.ask(wire.query("set tessera.shard = 's1'"))
        assert plan(connection, "explain (tessera) select 1", extended)[0] == "route to s1"


def test_what_needs_no_table_goes_to_the_default_shard_and_is_said_to(proxy, database):
    with log_in(proxy, database) as connection:
        assert plan(connection, "explain (tessera) select 1") == ["route to s0, in a transaction to its shard"]
        assert plan(connection, "explain (tessera) select * from c") == ["route to any shard"]


@pytest.mark.parametrize("extended", [False, True], ids=["simple", "extended"])
def test_tessera_takes_no_option_beside_it(proxy, database, extended):
    with log_in(proxy, database) as connection:
        for option in ("analyze", "verbose", "format json", "costs off, buffers"):
            failed = refusal(connection, f"explain (tessera, {option}) select 1", extended)
            assert failed["C"] == "0A000" and f'does not take the option "{option.split()[-1] if "," in option else option.split()[0]}"' in failed["M"], failed
        assert plan(connection, "explain (tessera, analyze off) select 1", extended)
        assert plan(connection, "explain (costs off) select 1", extended) == ["Result"]


def test_what_explain_cannot_hold(proxy, database):
    with log_in(proxy, database) as connection:
        failed = refusal(connection, "explain (tessera) create table x (id int)")
        assert failed["C"] == "42601" and "EXPLAIN takes SELECT, INSERT" in failed["H"]
        assert "H" not in refusal(connection, "explain create table x (id int)")


def test_hints_are_offered_with_what_they_need(tessera, proxy, servers, database):
    plain = tessera(config_of(servers, database, **RULES))
    for sql in ("with d as (delete from c returning *) select 1", "create table w as select * from t", "create rule r as on insert to t do instead nothing"):
        with log_in(proxy, database) as allowed, log_in(plain, database) as not_allowed:
            with_hints, without = refusal(allowed, sql)["H"], refusal(not_allowed, sql)["H"]
            assert "by a hint /* tessera: shard=… */" in with_hints and "hints: true" not in with_hints, with_hints
            assert without == with_hints + " (which takes hints: true in the configuration)"


def test_a_transaction_that_stays_on_the_shard_of_its_first_statement(proxy, database):
    with log_in(proxy, database) as connection:
        for harmless in ("savepoint a", "set local work_mem = '2MB'", "listen x", "show tessera.pools"):
            connection.ask(wire.query("begin"))
            assert not errors(connection.ask(wire.query(harmless))), harmless
            assert not errors(connection.ask(wire.query("select v from t where id = 200"))), harmless
            connection.ask(wire.query("rollback"))
        connection.ask(wire.query("begin; select 1"))
        told = next(found for found in (errors(connection.ask(wire.query(f"select v from t where id = {i}"))) for i in (1, 200)) if found)[0]
        assert "began together with other statements" in told["D"] and "begin with a statement that names the key" in told["H"]


def test_keys_on_several_shards_are_not_told_to_name_a_key(proxy, database):
    with log_in(proxy, database) as connection:
        for sql in ("delete from t where id in (1, 200) and v = clock_timestamp()::text", "select v from t where id in (1, 200) for update", "update t set v = timeofday() where id = any ('{1,200}')"):
            assert refusal(connection, sql)["H"] == "name keys of one shard only: use a statement for each shard's keys"
        assert refusal(connection, "delete from t where v = timeofday()")["H"] == "add a condition on the sharding key: t.id = …"
        assert refusal(connection, "select 1 from t a, t b where a.id = 1 for update")["H"] == "add a condition on the sharding key: t.id = …"


def test_a_hint_is_for_one_statement(proxy, database):
    with log_in(proxy, database) as connection:
        failed = refusal(connection, "/* tessera: shard=s1 */ insert into t values (1, 'x'); insert into t values (2, 'y')")
        assert failed["C"] == "0A000" and "several statements" in failed["M"]
        assert not errors(connection.ask(wire.query("/* of the application */ select 1; select 2")))
