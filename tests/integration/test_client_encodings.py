"""Client encodings in which a byte of a character may look like a quote or a backslash: ASCII is routed as ever, the rest is not guessed."""

import pytest
from harness import wire
from talk import ask, config_of, errors, log_in
from two_shards import RULES, SCHEMA  # noqa: F401 (SCHEMA makes `database`)

UNSAFE = ["SJIS", "BIG5", "GBK", "UHC", "GB18030", "JOHAB", "SHIFT_JIS_2004"]


@pytest.fixture
def proxy(tessera, servers, database):
    return tessera(config_of(servers, database, **RULES))


@pytest.mark.parametrize("encoding", UNSAFE)
def test_ascii_is_routed(proxy, database, encoding):
    with log_in(proxy, database, parameters={"client_encoding": encoding}) as connection:
        assert ask(connection, "select 1") == [["1"]]
        assert ask(connection, "select v from t where id = 7") == [["row 7"]]
        assert ask(connection, r"select v || E'\\' from t where id = 150") == [["row 150\\"]]
        for statement in ("begin", "update t set v = 'x' where id = 150", "rollback"):
            assert not isinstance(ask(connection, statement), str), statement
        assert ask(connection, "select v from t where id = 150") == [["row 150"]]


def test_values_of_parameters_need_no_reading(proxy, database):
    with proxy.connect(database) as connection:
        connection.autocommit = True
        connection.execute("set client_encoding = 'SJIS'")
        for key, text in ((7, "ソ"), (150, "表")):  # the second byte of both is a backslash
            connection.pgconn.exec_params(b"update t set v = $1 where id = $2", [text.encode("sjis"), str(key).encode()])
            assert connection.pgconn.exec_params(b"select v from t where id = $1", [str(key).encode()]).get_value(0, 0) == text.encode("sjis")
        connection.execute("set client_encoding = 'UTF8'")
        assert sorted(connection.execute("select v from t where v in (%s, %s)", ["ソ", "表"]).fetchall()) == [("ソ",), ("表",)]


def test_other_statements_are_refused_with_a_way_out(proxy, database):
    with log_in(proxy, database, parameters={"client_encoding": "SJIS"}) as connection:
        (error,) = errors(connection.ask(wire.query(b"select v from t where id = 7 and v = '\x83\x5c'")))
        assert error["C"] == "0A000" and "SJIS" in error["M"] and "parameters" in error["H"]
