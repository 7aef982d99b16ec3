"""Values that are none of the key's type: refused with the SQLSTATE and the words of one database, and never a row."""

import psycopg
import pytest
from harness.tessera import Tessera, database_config
from psycopg import pq
from sharding_keys import HASH, SHARDS

TABLES = {"b": "bigint", "s": "smallint", "i": "integer", "u": "uuid", "d": "date", "m": "timestamp", "z": "timestamptz", "n": "numeric", "t": "time", "a": "bytea",
          "f": "float8", "o": "boolean", "x": "text", "e": "inet", "c": "macaddr", "r": "oid"}
SCHEMA = ";".join(f"create table {name} (k {kind} primary key, v int)" for name, kind in TABLES.items())
MALFORMED = [("b", "15x"), ("b", "99999999999999999999"), ("b", "1.5"), ("b", ""), ("b", "é"), ("s", "40000"), ("i", "3000000000"), ("u", "not-uuid"), ("u", ""),
             ("d", "2024-13-01"), ("d", "2023-02-29"), ("d", "nope"), ("d", ""), ("m", "2024-00-01"), ("m", "never"), ("z", "2024-01-32 10:00+00"),
             ("z", "2024-01-02 25:00:00Z"), ("z", "x"), ("n", "one"), ("n", "1;5"), ("t", "25:00"), ("t", "noon"), ("a", "\\xgg"), ("a", "\\x0"), ("a", "\\9"), ("f", "x"),
             ("o", "perhaps"), ("e", "host"), ("c", "host"), ("r", "5x"), ("r", "5000000000")]
INT2, INT4, INT8, TEXT, NUMERIC, DATE = 21, 23, 20, 25, 1700, 1082
FIELDS = [pq.DiagnosticField.SQLSTATE, pq.DiagnosticField.MESSAGE_PRIMARY, pq.DiagnosticField.MESSAGE_HINT]


@pytest.fixture(scope="module")
def servers(shards):
    return shards(len(SHARDS))


@pytest.fixture(scope="module")
def sides(servers, new_database, tmp_path_factory):
    """Connections: through Tessera over five shards, to one database."""
    database, plain = new_database(servers, SCHEMA), new_database(servers[:1], SCHEMA)
    tables = {name: {"rule": "h", "key": "k"} for name in TABLES}
    config = {"databases": {database: database_config(servers, database, rules={"h": HASH}, tables=tables)}}
    with (Tessera(config, tmp_path_factory.mktemp("tessera")) as proxy, proxy.connect(database) as through,
          servers[0].connect(plain, user="app", password="app") as one):
        through.autocommit = one.autocommit = True
        yield through, one


def error(connection, sql, values=None, types=None):
    """What is wrong with it, in a transaction of its own that does not stay."""
    connection.execute("begin")
    if values is None:
        result = connection.pgconn.exec_(sql.encode())
    else:
        result = connection.pgconn.exec_params(sql.encode(), values, types)
    position = result.error_field(pq.DiagnosticField.STATEMENT_POSITION)
    connection.execute("rollback")
    return [result.error_field(field) for field in FIELDS], position


def assert_same(sides, *statement):
    (through, position), (one, plain_position) = (error(side, *statement) for side in sides)
    assert one[0] is not None, statement
    assert through == one, statement
    assert position in (None, plain_position), statement


@pytest.mark.parametrize("table, text", MALFORMED, ids=str)
def test_a_malformed_key_is_refused_in_the_servers_words(sides, table, text):
    statements = ["insert into {0} (k, v) values ({1}, 1)", "insert into {0} (v, k) values (1, {1}), (2, {1})", "update {0} set v = 1 where k = {1}",
                  "delete from {0} where k = {1}", "select * from {0} where v = 1 and k = {1}", "select * from {0} where k in ({1}, {1})"]
    for statement in statements:
        assert_same(sides, statement.format(table, f"'{text}'"))
        if statement.count("{1}") == 1:
            assert_same(sides, statement.format(table, "$1"), [text.encode()])
    if table != "a":
        array = '{"' + text + '"}'
        assert_same(sides, f"update {table} set v = 1 where k = any('{array}')")
        assert_same(sides, f"update {table} set v = 1 where k = any($1)", [array.encode()])


@pytest.mark.parametrize("statement", [
    ("insert into b values (99999999999999999999)",), ("insert into i values (3000000000)",), ("insert into s values (-40000)",),
    ("insert into b values ($1)", [b"99999999999999999999"], [NUMERIC]), ("insert into i values ($1)", [b"3000000000"], [INT8]),
    ("insert into s values ($1)", [b"70000"], [INT4]), ("select * from b where k = $1", [b"15x"], [INT8]),
    ("insert into u values (5)",), ("update u set v = 1 where k = 5",), ("update x set v = 1 where k = 5000000000",), ("insert into d values (1.5)",),
    ("insert into b values ('8'::text)",), ("delete from b where k = '8'::text",), ("insert into b values ('8x'::integer)",),
    *((statement.format(table), [b"8"], [TEXT])
      for statement in ("insert into {} values ($1)", "select * from {} where k = $1", "update {} set v = 1 where k = $1") for table in "biudzmnafoec"),
    ("insert into b values ($1)", [b"2024-01-01"], [DATE]), ("delete from x where k = $1", [b"8"], [INT2]),
], ids=lambda statement: f"{statement[0]} {statement[1:]}")
def test_values_of_other_types_and_out_of_range(sides, statement):
    assert_same(sides, *statement)


def test_null_names_the_column(sides):
    for statement in [("insert into b values (null, 1)",), ("insert into u values ($1)", [None])]:
        (through, _), (one, _) = (error(side, *statement) for side in sides)
        assert through[0] == one[0] == b"23502"
        assert b'sharding key "k"' in through[1]


def test_no_row_and_the_transaction_has_failed(sides):
    through, _ = sides
    through.execute("begin")
    through.execute("insert into b values (1)")
    with pytest.raises(psycopg.errors.InvalidTextRepresentation) as refusal:
        through.execute("/* é */ insert into u values ('x')")
    assert refusal.value.diag.statement_position == "31"
    with pytest.raises(psycopg.errors.InFailedSqlTransaction):
        through.execute("select 1")
    through.execute("rollback")
    with pytest.raises(psycopg.errors.InvalidTextRepresentation):
        through.execute("insert into b values (1); insert into u values ('x')")
    assert through.execute("select k from b").fetchall() == []


@pytest.mark.parametrize("table, value", [("d", "'tomorrow'"), ("d", "'01/02/2024'"), ("b", "'0x2a'"), ("b", "'1_0'"), ("b", "1.5"), ("z", "'2024-01-02 10:00'"),
                                          ("r", "'-5'"), ("f", "'1e999'"), ("f", "'-nan'"), ("b", "B'101'::int"), ("c", "'+8:00:2b:01:02:03'")])
def test_what_a_server_may_take_is_not_called_malformed(sides, table, value):
    through, _ = sides
    assert error(through, f"insert into {table} values ({value})")[0][0] == b"0A000"
