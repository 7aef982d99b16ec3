"""EXPLAIN (TESSERA) says what the statement would do, and refusals say what would work."""

import json
import re
import struct

import psycopg
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


# ---- EXPLAIN of a statement over several shards ----------------------------------------------------------------------

FOUR = "(1, 'a'), (2, 'b'), (200, 'c'), (201, 'd')"


@pytest.fixture
def filled(proxy, servers, database):
    for server in servers:
        server.run("truncate t, c", database)
    with log_in(proxy, database) as connection:
        assert not errors(connection.ask(wire.query(f"insert into t values {FOUR}")))
        assert not errors(connection.ask(wire.query("insert into c values ('DE'), ('FR')")))
        yield connection


def ids(connection):
    return sorted(int(row[0]) for row in rows(connection.ask(wire.query("select id from t"))))


def document(connection, sql, extended=False):
    text, = plan(connection, sql, extended)
    whole, = json.loads(text)
    return whole


EXTENDED = pytest.mark.parametrize("extended", [False, True], ids=["simple", "extended"])


@EXTENDED
def test_each_shard_explains_its_part_of_a_scatter(filled, extended):
    lines = plan(filled, "explain (costs off) select v from t where id > 0", extended)
    assert lines == ["Tessera Scatter", "  ->  Shard s0", *SCAN, "  ->  Shard s1", *SCAN], lines
    assert "(cost=" in plan(filled, "explain select v from t", extended)[2]
    assert plan(filled, "explain (costs off) select v from t where id = 1", extended)[0] == "Index Scan using t_pkey on t", "one shard answers as ever"


SCAN = ["        ->  Bitmap Heap Scan on t", "              Recheck Cond: (id > 0)", "              ->  Bitmap Index Scan on t_pkey", "                    Index Cond: (id > 0)"]


@EXTENDED
def test_analyze_counts_the_rows_of_each_shard(filled, extended):
    lines = plan(filled, "explain (analyze, costs off, timing off, summary off) select v from t where id <> 201", extended)
    assert [line for line in lines if "Tessera" in line or "Shard" in line] == ["Tessera Scatter  (actual rows=3 loops=1)", "  ->  Shard s0  (actual rows=2 loops=1)", "  ->  Shard s1  (actual rows=1 loops=1)"]
    assert not any("Time:" in line for line in lines)
    lines = plan(filled, "explain analyze select v from t", extended)
    assert re.fullmatch(r"  Data Moved: 4 rows, about \d+ bytes", lines[1]), lines
    assert sum(bool(re.fullmatch(r" {8}Time: \d+\.\d{3} ms", line)) for line in lines) == 2
    assert re.fullmatch(r"Execution Time: \d+\.\d{3} ms", lines[-1])


@EXTENDED
def test_a_gather_shows_its_fragments_and_what_is_left(filled, extended):
    sql = "select v, count(*) over () from t order by v limit 3"
    lines = plan(filled, f"explain (costs off) {sql}", extended)
    assert lines[:4] == ["Tessera Gather", "  ->  Fragment pg_temp.tessera_gather_1", lines[2], "        ->  Shard s0"], lines
    assert lines[2].startswith("        Query: SELECT") and "        ->  Shard s1" in lines
    merge = next(i for i, line in enumerate(lines) if line.startswith("  ->  Merge on s"))
    assert "tessera_gather_1" in lines[merge + 1] and lines[merge + 2] == "        ->  Limit"
    lines = plan(filled, f"explain (analyze, costs off, timing off, summary off) {sql}", extended)
    assert lines[0] == "Tessera Gather  (actual rows=3 loops=1)"
    moved, = [line for line in lines if line.startswith("              Data: ")]
    assert lines[1].removeprefix("  Data Moved: ") == moved.strip().removeprefix("Data: ") and lines[1].startswith("  Data Moved: 2 rows, ")
    assert sum("(actual rows=2 loops=1)" in line and "Shard" in line for line in lines) == 2
    assert any("WindowAgg (actual rows=4 loops=1)" in line for line in lines), lines
    assert rows(filled.ask(wire.query("select count(*) from pg_class where relname like 'tessera_gather%'"))) == [["0"]]


@EXTENDED
def test_sorted_rows_show_what_they_are_merged_by(filled, extended):
    lines = plan(filled, "explain (analyze, timing off, summary off) select v from t where id > 0 order by id desc limit 2 offset 1", extended)
    assert lines[:2] == ["Tessera Merge Sort  (actual rows=2 loops=1)", "  Sort Key: id DESC"] and re.fullmatch(r"  Data Moved: 4 rows, about \d+ bytes", lines[2]), lines
    assert "        Statement: select v , (id) AS tessera_key_1 from t where id > 0 order by id desc  LIMIT 3 " in lines and any("Index Scan" in line for line in lines)
    assert plan(filled, "explain select v from t order by upper(v), id", extended)[1:3] == ["  Sort Key: upper(v), id", "  Order: known when the shards answer; otherwise a Gather"]
    assert plan(filled, "explain (analyze, costs off) select v from t limit 3", extended)[:2] == ["Tessera Limit  (actual rows=3 loops=1)", "  ->  Shard s0  (actual rows=2 loops=1)"]
    node = document(filled, "explain (format json, analyze) select v from t order by id", extended)["Plan"]
    assert node["Custom Plan Provider"] == "Tessera Merge Sort" and node["Sort Key"] == ["id"] and node["Rows Moved"] == 4 and len(node["Shards"]) == 2
    for sql in ("explain (costs off) select nosuch from t order by id", "explain select 'ä', v from t order by id, nosuch desc"):
        failed = refusal(filled, sql, extended)
        assert failed["C"] == "42703" and sql[int(failed["P"]) - 1:].startswith("nosuch"), failed
    failed = refusal(filled, "explain (format xml) select v from t order by id", extended)
    assert failed["C"] == "0A000" and "(FORMAT xml)" in failed["M"]


@EXTENDED
def test_partial_aggregates_are_the_shards_part(filled, extended):
    lines = plan(filled, "explain (analyze, costs off, timing off, summary off) select count(*), max(v) from t", extended)
    assert "tessera_part_1" in lines[3] and any(line == "              ->  Aggregate (actual rows=1 loops=1)" for line in lines), lines


@EXTENDED
def test_a_write_is_done_with_analyze_only(filled, extended):
    for sql in ("update t set v = 'x' where v < 'z'", "delete from t where v < 'z'", "insert into t values (7, 'n'), (300, 'n'), (301, 'n')"):
        lines = plan(filled, f"explain (costs off) {sql}", extended)
        assert lines[0].startswith("Tessera S") and ids(filled) == [1, 2, 200, 201], sql
        filled.ask(wire.query("begin"))
        lines = plan(filled, f"explain (analyze, costs off, timing off, summary off) {sql}", extended)
        assert lines[0].endswith("  (actual rows=3 loops=1)" if "insert" in sql else "  (actual rows=4 loops=1)"), lines
        changed = rows(filled.ask(wire.query("select count(*) from t where v in ('x', 'n')")))
        assert (ids(filled), changed) in (([1, 2, 200, 201], [["4"]]), ([], [["0"]]), ([1, 2, 7, 200, 201, 300, 301], [["3"]])), sql
        filled.ask(wire.query("rollback"))
        assert ids(filled) == [1, 2, 200, 201]
    assert plan(filled, "explain analyze delete from t where v > 'a'", extended)
    assert ids(filled) == [1], "outside of a transaction it has one of its own"


@EXTENDED
def test_each_shard_gets_its_rows_of_an_insert(filled, extended):
    lines = plan(filled, "explain (costs off) insert into t (id, v) values (7, 'n'), (300, 'm'), (8, 'o')", extended)
    assert lines[0] == "Tessera Split" and lines[2] == "        Statement: insert into t (id, v) values (7, 'n'), (8, 'o')"
    assert "        Statement: insert into t (id, v) values (300, 'm')" in lines and "        ->  Insert on t" in lines
    assert plan(filled, "explain (analyze) insert into t values (7, 'n'), (300, 'm')", extended)
    assert ids(filled) == [1, 2, 7, 200, 201, 300]


@EXTENDED
def test_copies_are_written_everywhere_or_nowhere(filled, servers, database, extended):
    def codes():
        return [server.run("select string_agg(code, ',' order by code) from c", database).strip() for server in servers]

    assert plan(filled, "explain (costs off) delete from c", extended)[:2] == ["Tessera Replicate", "  ->  Shard s0"]
    assert codes() == ["DE,FR"] * len(servers)
    for form in ("", ", format json"):
        told = plan(filled, f"explain (analyze, timing off, summary off{form}) insert into c values ('IT'), ('AT')", extended)
        assert '"Actual Rows": 2' in told[0] if form else told[0] == "Tessera Replicate  (actual rows=2 loops=1)"
    assert codes() == ["AT,AT,DE,FR,IT,IT"] * len(servers)
    servers[1].run("delete from c where code = 'DE'", database)
    for form in ("text", "json"):
        failed = refusal(filled, f"explain (analyze, format {form}) delete from c where code < 'F'", extended)
        assert failed["C"] == "XX001" and "copies of a reference table differ" in failed["M"]
    assert codes() == ["AT,AT,DE,FR,IT,IT", "AT,AT,FR,IT,IT"]


@EXTENDED
def test_json_is_one_document(filled, extended):
    whole = document(filled, "explain (format json, analyze) select v from t", extended)
    assert whole["Plan"]["Custom Plan Provider"] == "Tessera Scatter" and whole["Plan"]["Actual Rows"] == 4 and whole["Execution Time"] > 0
    assert [(shard["Shard"], shard["Explain"][0]["Plan"]["Node Type"], shard["Actual Rows"]) for shard in whole["Plan"]["Shards"]] == [("s0", "Seq Scan", 2), ("s1", "Seq Scan", 2)]
    node = document(filled, "explain (format json, analyze) select v from t order by v", extended)["Plan"]
    assert node["Rows Moved"] == 2 and node["Bytes Moved"] > 0
    assert [len(fragment["Shards"]) for fragment in node["Fragments"]] == [2] and node["Merge"]["Explain"][0]["Plan"]["Node Type"] == "Sort"
    node = document(filled, "explain (format 'json') insert into t values (7, 'n'), (300, 'm')", extended)["Plan"]
    assert [shard["Statement"] for shard in node["Shards"]] == ['insert into t ("id", "v")  values (7, \'n\')', 'insert into t ("id", "v")  values (300, \'m\')']


@EXTENDED
def test_other_formats_are_refused_by_name(filled, extended):
    for form in ("xml", "yaml"):
        for sql in ("select v from t", "select count(*) from t", "delete from c", "insert into t values (7, 'n'), (300, 'm')"):
            failed = refusal(filled, f"explain (format {form}) {sql}", extended)
            assert failed["C"] == "0A000" and f"(FORMAT {form})" in failed["M"] and "FORMAT JSON" in failed["H"], failed
        assert plan(filled, f"explain (format {form}) select v from t where id = 1", extended)
    assert refusal(filled, "explain (format nonsense) select v from t", extended)["C"] == "22023"
    assert refusal(filled, "explain (nonsense) select v from t", extended)["C"] == "42601"


def test_a_number_decides_whether_it_is_done(filled):
    """Literals are no part of a plan's key, but these are options."""
    for number in (0, 1):
        plan(filled, f"explain (analyze {number}) delete from t where v > 'a'")
        assert ids(filled) == ([1] if number else [1, 2, 200, 201])


@EXTENDED
def test_an_error_says_which_shard_it_is_of(filled, extended):
    for sql in ("select 1 / (id - 200) from t", "select 1 / (id - 200) from t order by 1", "update t set v = (1 / (id - 200))::text"):
        failed = refusal(filled, f"explain analyze {sql}", extended)
        assert failed["C"] == "22012" and (failed.get("D") == "on shard s1" or "order by" in sql), failed
        assert ids(filled) == [1, 2, 200, 201]
    sql = "explain select nosuch from t"
    failed = refusal(filled, sql, extended)
    assert failed["C"] == "42703" and sql[int(failed["P"]) - 1:].startswith("nosuch"), failed


def test_parameters_and_descriptions(filled):
    def ask(sql, values, types=()):
        return filled.ask(wire.parse(sql, types=types) + wire.describe_statement() + wire.bind(values) + wire.describe_portal() + wire.execute() + wire.SYNC)

    for sql in ("explain (costs off) select v from t where v = $1 or id = any ($2)", "explain (analyze, costs off) select v, count(*) over () from t where v = $1 and id <> all ($2) order by v",
                "explain (costs off, verbose) update t set v = $1 where id = any ($2)"):
        replies = ask(sql, [b"a", b"{1,200}"])
        assert not errors(replies), errors(replies)
        described = [reply for reply in replies if reply.type == "T"]
        assert len(described) == 2 and all(b"QUERY PLAN\0" in reply.body for reply in described) and described[0].body == described[1].body
        assert replies[-2].type == "C" and replies[-2].body == b"EXPLAIN\0"
        assert any("'a'::text" in row[0] for row in rows(replies)) and rows(replies)[0][0].startswith("Tessera ")
    replies = ask("explain (costs off) insert into t values ($1, $2), ($3, $4)", [b"7", b"low", b"300", b"high"])
    assert not errors(replies), errors(replies)
    assert [row[0].strip() for row in rows(replies) if "Statement" in row[0]] == ['Statement: insert into t ("id", "v")  values ($1, $2)'] * 2
    replies = filled.ask(wire.parse("explain (format json) select v from t") + wire.bind(result_formats=[1]) + wire.describe_portal() + wire.execute() + wire.SYNC)
    description, = [reply.body for reply in replies if reply.type == "T"]
    assert struct.unpack(">ihih", description[-12:])[-1] == 1 and struct.unpack(">i", description[-12:-8]) == (114,)
    assert json.loads(rows(replies)[0][0])


def test_inside_a_transaction_it_sees_what_was_written(filled):
    for sql in ("begin", "insert into t values (3, 'e'), (202, 'f')"):
        assert not errors(filled.ask(wire.query(sql)))
    assert plan(filled, "explain (analyze, costs off) select v from t")[0] == "Tessera Scatter  (actual rows=6 loops=1)"
    lines = plan(filled, "explain (analyze, costs off, timing off) select v from t order by v")
    assert lines[0] == "Tessera Gather  (actual rows=6 loops=1)" and lines[1].startswith("  Data Moved: 6 rows")
    assert plan(filled, "explain select v from t order by v")[0] == "Tessera Gather"
    failed = refusal(filled, "explain analyze select 1 / (id - 202) from t")
    assert failed["D"] == "on shard s1" and refusal(filled, "explain select v from t")["C"] == "25P02"
    filled.ask(wire.query("rollback"))
    assert ids(filled) == [1, 2, 200, 201]


def test_as_psycopg_asks(filled, proxy, database):
    with psycopg.connect(host=proxy.host, port=proxy.port, user="app", password="app", dbname=database) as connection:
        lines = [line for line, in connection.execute("explain (costs off) select v from t where v < %s order by v", ["z"], prepare=True)]
        assert lines[0] == "Tessera Gather"
        (node,), = connection.execute("explain (format json) select v from t").fetchone()
        assert len(node["Plan"]["Shards"]) == 2


def test_what_is_still_refused(filled):
    filled.ask(wire.query("prepare p as select v from t"))
    for sql in ("explain execute p", "explain declare x cursor for select v from t", "explain create table x as select v from t", "explain update t set v = now()::text", "explain select distinct pg_typeof(v) from t",
                "explain merge into t using c on false when not matched then insert values (1, 'x')"):
        assert refusal(filled, sql)["C"] == "0A000", sql


def test_in_a_message_of_several_statements(filled):
    replies = filled.ask(wire.query("explain (costs off) select v from t; explain (analyze, costs off) delete from t where v > 'a'; select count(*) from t"))
    assert not errors(replies), errors(replies)
    assert rows(replies)[0] == ["Tessera Scatter"] and rows(replies)[-1] == ["1"]


def test_tessera_shows_the_statements_of_a_split_insert(proxy, database):
    with log_in(proxy, database) as connection:
        assert plan(connection, "explain (tessera) insert into t values (7, 'n'), (300, 'm')") == [
            "split over s0, s1, each row to its own", "split 2 rows", "  s0 takes 1: insert into t (\"id\", \"v\")  values (7, 'n')", "  s1 takes 2: insert into t (\"id\", \"v\")  values (300, 'm')"]
