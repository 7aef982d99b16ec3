"""Values that have several spellings, some of them only under certain settings: a key is routed as PostgreSQL understands it,
or the statement is refused. Rows are written and read through Tessera over five shards, and on one database; each shard has
only rows for which its predicate is true.
"""

import pytest
import sharding_keys as sharding
from harness.tessera import Tessera, database_config
from sharding_keys import HASH, SHARDS, ask

INTEGERS = (
    ["42", "+42", " 42 ", "\t42\n", "042", "-42", "-042", "0", "-0", "+0", "0x2A", "0o52", "0b101010", "4_2", "42.0", "42.", "42.5", "4e1", "", " ",
     "- 42", "+-42", "--42",
     "٤٢", "42x", "1,000", "32767", "32768", "-32768", "2147483647", "2147483648", "9223372036854775807", "9223372036854775808"],
    ["42", "+42", "-42", "- 42", "-(-42)", "042", "42.0", "42.", "42.5", "4.2e1", "42.00000000000000000001", "420e-1", ".42e2", "(42)",
     "42::smallint", "42::numeric(4,1)",
     "41.5::int", "42.4::int", "42.0::float8", "42::real", "42::oid", "'42'::smallint", "'42'::text::int", "int '42'", "32767", "32768",
     "'42'::float8", "'4.2e1'::numeric",
     "2147483648", "9223372036854775807", "9223372036854775808", "$$42$$", "E'\\x342'", "U&'\\0034\\0032'", "'4'\n'2'", "B'101010'::int",
     "x'2a'::int", "1 + 41", "abs(-42)"])
TEXTS = (
    ["a", "a ", "a  ", " a", "A", "a\t", "a\n", "", " ", "ab", "abc", "\\x61", "\\141", "\\\\", "''", "ä", "a\u0308", "\u00a0", "'a'", "$a$",
     "NULL", "42", "ａ"],
    ["E'a'", "e'\\x61'", "E'\\141'", "E'a '", "$$a$$", "$q$a $q$", "U&'\\0061'", "U&'d!0061' UESCAPE '!'", "N'a'", "'a'\n'b'", "'a'::text",
     "'a '::text", "'a '::char(5)", "'ab'::char(1)",
     "'ab'::char", "'ab'::character(1)", "'ab'::varchar(1)", "'a '::varchar", "'a '::bpchar", "'a'::name", "'a'::\"char\"", "text 'a'", "char 'ab'",
     "varchar(1) 'ab'", "'a'::varchar::text",
     "'a ' COLLATE \"C\"", "42::text", "'a' || ''", "upper('a')", "E'a\\u0308'", "'ab'::bpchar(1)", "'\\\\'", "'\\'"])
DATES = ["2024-01-02", " 2024-01-02 ", "2024-1-2", "24-01-02", "2024/01/02", "2024.01.02", "20240102", "240102", "2024-002", "2024.002",
         "Jan 2 2024", "2 January 2024", "January 2, 2024",
         "2024-Jan-02", "02-Jan-2024", "01/02/2024", "02/01/2024", "1/2/2024", "02.01.2024", "01-02-2024", "J2460312", "2024-01-02 BC",
         "0044-03-15 BC", "2024-01-02 AD",
         "2024-01-02T10:00", "2024-01-02 10:00:00", "2024-01-02 00:00:00+14", "2024-01-02 23:00:00-10", "2024-01-02Z", "2024-01-02+02",
         "02024-01-02", "12024-01-02", "99-01-02", "0000-01-01",
         "infinity", "-infinity", "+infinity", "Infinity", "-INFINITY", "inf", "epoch", "today", "tomorrow", "yesterday", "TODAY", "2024-02-29",
         "2023-02-29", "2024-02-30", "", "y2024m01d02"]
TIMES_OF_DAY = ["10:00", " 10:00 ", "10:00:00", "10:00:00.5", "10:00:00.50", "10:00:00.1234567", "10:00:00.1234565", "1000", "100000", "T10:00",
                "10:00 AM", "10:00 PM", "10:00am", "22:00", "24:00", "24:00:00",
                "24:00:01", "23:59:60", "23:59:59.9999999", "00:00:00", "0:00", "9:5", "10:00+02", "10:00:00 Europe/Berlin", "10:00Z", "allballs",
                "2024-01-02 10:00", "10:00:00,5", "10", ""]
STAMPS = [*DATES, "2024-01-02 10:00", "2024-01-02  10:00", "2024-01-02 10:00:00.5", "2024-01-02 10:00:00.50", "2024-01-02t10:00:00",
          "2024-01-02T10:00:00Z", "2024-01-02 10:00z", "2024-01-02 10:00:00.1234565",
          "2024-01-02 24:00", "2024-01-02 23:59:60", "2024-01-02 10:00 PM", "20240102T100000", "20240102 100000", "2024-01-02 10:00+00",
          "2024-01-02 10:00:00+02", "2024-01-02 10:00:00+02:30", "2024-01-02 10:00:00 -0230",
          "2024-01-02 10:00:00+2", "2024-01-02 10:00:00+02:30:15", "2024-01-02 10:00:00+15:59", "2024-01-02 10:00:00 UTC",
          "2024-01-02 10:00:00 EST", "2024-01-02 10:00:00 America/New_York", "2024-01-02 10:00:00-05 BC",
          "Tue Jan 02 10:00:00 2024", "Tue 02 Jan 10:00:00 2024 PST", "01/02/2024 10:00:00", "02.01.2024 10:00:00", "2024-03-31 02:30",
          "2024-01-02 10:00:00 +00", "2024-01-02 10:00:00  +00", "2024-01-02 10:00:00+0"]
NUMBERS = ["1", "1.0", "1.00", "+1", " 1 ", "01", "1.", ".5", "0.5", "0.50", "5e-1", "5E-1", "50e-2", "-.5", "-0", "0", "0.0", "-0.0", "0e10",
           "1e0", "1e+0", "100e-2", "0x1", "1_0", "1e", "e1", ".", "", "1.2.3", "NaN", "nan",
           "-NaN", "+NaN", "infinity", "Infinity", "-infinity", "+infinity", "inf", "-inf", "Inf", "1e400", "-1e400", "1e-400", "1e-40", "0.1",
           "0.10000000149011612", "0.100000001", "16777217", "16777216", "9007199254740993",
           "9007199254740992", "12345.678900", "1e5", "100000", "1,5", "1 000", "1.0f", "1d", "0x1p3"]
RAW_NUMBERS = ["1", "1.0", "1.00", "+1", "-1", "- 1", "01", "1.", ".5", "0.5", "5e-1", "50e-2", "-.5", "-0", "0.0", "-0.0", "1e0", "(1)", "1::int",
               "1::numeric(3,1)", "0.55::numeric(3,1)", "1::float8", "1::real", "0.1", "0.1::real",
               "0.1::float8", "0.1::float(24)", "0.1::float(53)", "0.1::numeric", "0.1::real::float8", "'0.1'", "'0.1'::real", "'NaN'::float8",
               "'NaN'::numeric", "'infinity'::real", "'-0'::float8", "16777217", "16777217::real",
               "9007199254740993", "9007199254740993::float8", "1e400", "decimal '1.00'", "float '0.5'", "true::int", "1 / 2.0"]
UUID = "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"
SPELLINGS = {
    "smallint": INTEGERS, "integer": INTEGERS, "bigint": INTEGERS,
    "oid": (["42", "+42", " 42 ", "042", "-42", "-1", "4294967295", "4294967296", "0x2A", "052", "42.0", "", "2147483648", "-2147483648"],
            ["42", "-42", "042", "42.0", "42::oid", "42::int", "-1::int", "(-1)::int", "4294967295", "4294967296", "'42'::oid",
             "'pg_class'::regclass", "42::regclass", "'-1'::int", "-1::bigint"]),
    "text": TEXTS, "character varying": TEXTS, "character(40)": TEXTS,
    '"char"': (["a", "ab", "", " ", "a ", "\\", "\\141", "\\\\", "\\x61", "\\400", "ä", "A"], ["'a'::\"char\"", "'a'::char", "'ab'::char(2)",
    "'a'::text", "'ab'::\"char\"", "E'\\x61'", "97::\"char\"", "E'\\\\141'", "'a'::bpchar"]),
    "boolean": (["t", "tr", "true", "TRUE", " t ", "y", "yes", "on", "ON", "o", "of", "off", "f", "fal", "no", "n", "1", "0", "00", "01", "2", "",
                 "truely", "ｔ"],
                ["true", "TRUE", "True", "false", "'t'::bool", "'1'", "1::bool", "0::bool", "not false", "bool 't'", "true::bool", "'on'::boolean"]),
    "uuid": ([UUID, UUID.upper(), f"{{{UUID}}}", f"{{{UUID.upper()}}}", UUID.replace("-", ""), f"{{{UUID.replace('-', '')}}}",
              "a0ee-bc99-9c0b-4ef8-bb6d-6bb9-bd38-0a11", f" {UUID} ", f"{{{UUID}", f"{UUID}}}", f"({UUID})",
              "a0eebc999c0b4ef8-bb6d6bb9bd380a11", "a0eebc9-99c0b-4ef8-bb6d-6bb9bd380a11", f"-{UUID}", f"{UUID}-", f"{UUID}0", UUID[:-1], "",
              f"urn:uuid:{UUID}", "a0eebc99--9c0b-4ef8-bb6d-6bb9bd380a11"],
             [f"'{UUID}'::uuid", f"uuid '{UUID.upper()}'", f"'{{{UUID}}}'::uuid", f"E'{UUID}'", f"'{UUID}'::text::uuid", f"$${UUID}$$"]),
    "date": (DATES, ["date '2024-01-02'", "'2024-01-02'::date", "'2024-01-02 10:00'::timestamp", "'2024-01-02 00:00'::timestamp",
             "timestamp '2024-01-02'", "'2024-01-02 00:00+00'::timestamptz", "'infinity'::timestamp",
                     "make_date(2024, 1, 2)", "current_date", "'2024-01-02'::text::date", "date 'today'", "to_date('02.01.2024', 'DD.MM.YYYY')",
                     "20240102", "'2024-01-02 23:30'::timestamp(0)", "'2024-01-01 23:59:59.9'::timestamp(0)"]),
    "timestamp without time zone": (STAMPS, ["timestamp '2024-01-02 10:00'", "'2024-01-02 10:00'::timestamp",
                                    "'2024-01-02 10:00:00.5'::timestamp(0)", "timestamp(0) '2024-01-02 10:00:00.5'", "date '2024-01-02'",
                                    "'2024-01-02'::date",
                                             "'2024-01-02 10:00+02'::timestamptz", "'2024-01-02 10:00'::timestamptz", "timestamp 'epoch'",
                                             "localtimestamp", "'2024-01-02 10:00+02'::timestamp", "'infinity'::date",
                                             "timestamp with time zone '2024-01-02 10:00+02'"]),
    "timestamp with time zone": (STAMPS, ["timestamptz '2024-01-02 10:00+02'", "'2024-01-02 10:00+02'::timestamptz",
                                 "'2024-01-02 10:00:00.5+02'::timestamptz(0)", "date '2024-01-02'", "'2024-01-02 10:00'::timestamp",
                                 "'2024-01-02 10:00+02'::timestamp",
                                          "timestamp '2024-01-02 10:00+02'", "timestamp with time zone '2024-01-02 10:00+02'",
                                          "timestamptz 'epoch'", "'infinity'::date", "'infinity'::timestamp",
                                          "'2024-01-02 10:00' AT TIME ZONE 'UTC'"]),
    "time without time zone": (TIMES_OF_DAY, ["time '10:00'", "'10:00'::time", "'10:00:00.5'::time(0)", "'10:00+02'::timetz",
                               "'2024-01-02 10:00'::timestamp::time", "interval '10 hours'", "'10:00'::interval", "time(0) '10:00:00.5'"]),
    "bytea": (["a", "\\x61", "\\x 61", "\\x6 1", "\\X61", "\\x61 62", "\\141", "\\\\", "\\x5c", "\\134", "\\x", "", "\\x6", "\\x6g", "\\xAb",
               "\\xab", "\\9", "\\400", "ä", "\\303\\244", "\\xc3a4", " a ", "\\x61\n", "\\000", "\\x00"],
              ["'a'::bytea", "'\\x61'::bytea", "E'\\\\x61'", "E'\\\\141'", "E'a'::bytea", "decode('61', 'hex')", "'a'::text::bytea",
               "convert_to('a', 'UTF8')", "bytea '\\x61'", "$$\\x61$$", "U&'\\0061'", "E'\\x61'", "X'61'"]),
    "numeric": (NUMBERS, RAW_NUMBERS), "real": (NUMBERS, RAW_NUMBERS), "double precision": (NUMBERS, RAW_NUMBERS),
    "macaddr": (["08:00:2b:01:02:03", "08-00-2b-01-02-03", "08002b:010203", "08002b-010203", "0800.2b01.0203", "0800-2b01-0203", "08002b010203",
                 "08:00:2B:01:02:03", " 08:00:2b:01:02:03 ", "8:0:2b:1:2:3", "08:00:2b:01:02", "08:00:2b:01:02:03:04",
                 "08:00-2b:01-02:03", "", "08:00:2b:01:02:0g", "08:00:2b:01:02:03x", "+8:00:2b:01:02:03", "0x:00:2b:01:02:03", "08: 0:2b:01:02:03"],
                ["macaddr '08:00:2b:01:02:03'", "'08:00:2b:01:02:03'::macaddr", "'08:00:2b:ff:fe:01:02:03'::macaddr8",
                 "trunc(macaddr '08:00:2b:01:02:03')"]),
    "inet": (["10.0.0.1", "10.0.0.1/32", "10.0.0.1/8", "10.0.0.0/8", "10.0.0/8", "10/8", "10", "010.0.0.1", "10.0.0.01", "10.0.0.1/08",
              "10.0.0.1/+8", "10.0.0.1/-0", "10.0.0.1/33", "10.0.0.1/", " 10.0.0.1", "10.0.0.1 ", "0x0a.0.0.1", "0a000001", "10.0.0.256", "::1",
              "::1/128", "0:0:0:0:0:0:0:1", "::0001", "0::1", "::ffff:10.0.0.1", "::FFFF:0A00:0001", "2001:DB8::", "2001:db8:0:0::",
              "2001:db8::/32", "2001:0db8::/032", "::10.0.0.1", "fe80::1%eth0", "1::2::3", "", "10.0.0.1/8 "],
             ["inet '10.0.0.1'", "'10.0.0.1'::inet", "'10.0.0.0/8'::cidr", "cidr '10.0.0.0/8'", "'10.0.0.1/32'::cidr", "'10.0.0.1'::text::inet",
              "'10.0.0.0/24'::inet + 1", "host('10.0.0.1/8')::inet"]),
}
DAYS = ("date", "time")
BYTES = ("text", "char", '"char"', "bytea")
# What the session says before, and the types that it matters to.
SETTINGS = {
    "as it comes": ([], ("",)),
    "German dates, in New York": (["SET datestyle = 'German'", "SET timezone = 'America/New_York'"], DAYS),
    "days first, in Calcutta": (["SET datestyle = 'SQL, DMY'", "SET timezone = 'Asia/Kolkata'"], DAYS),
    "years first": (["SET datestyle = 'ISO, YMD'", "SET timezone = 'Pacific/Kiritimati'"], DAYS),
    "backslashes escape": (["SET standard_conforming_strings = off", "SET escape_string_warning = off"], BYTES),
    "LATIN1": (["SET client_encoding = 'LATIN1'"], BYTES),
    "names first": (["SET search_path = \"$user\", public, pg_catalog", "SET transform_null_equals = on", "SET array_nulls = off"], ("bigint",
                     "text")),
}


def forms_of(key, oid, spellings, expressions):
    """(the key in a statement, parameters as (text, type, format)) for every way to say one of them."""
    for text in spellings:
        literal = "'" + text.replace("'", "''") + "'"
        yield literal, []
        yield f"{literal}::{key.name}", []
        yield "$1", [(text, 0, 0)]
        yield "$1", [(text, oid, 0)]
        yield f"$1::{key.name}", [(text, 25, 0)]
        yield f"$1::{key.name}", [(text, 0, 0)]
    for expression in expressions:
        yield expression, []


class Twins:
    """Five shards behind Tessera, and one database with the same rows."""

    def __init__(self, key, table, oid, through, one, encoding):
        self.key, self.table, self.oid, self.through, self.one, self.encoding = key, table, oid, through, one, encoding
        self.same, self.refused = 0, 0

    def answers(self, statement, parameters):
        """Tessera's and the one database's (SQLSTATE or None, rows or message)."""
        encoded = [(text.encode(self.encoding), oid, form) for text, oid, form in parameters]
        return [ask(connection, statement, encoded, self.encoding) for connection in (self.through, self.one)]

    def insert(self, n, said, parameters):
        """Through Tessera, or by the binary form of what the one database makes of it if Tessera does not."""
        statement = f"INSERT INTO {self.table} (n, k) VALUES ({n}, {said})"
        (state, what), (code, why) = self.answers(statement, parameters)
        assert state is not None or code is None, f"{statement} {parameters} was done, but on one database: {why}"
        if code is not None or state is None:
            return
        assert state == b"0A000", f"{statement} {parameters}: {what}, but on one database it is done"
        binary = self.one.pgconn.exec_params(f"SELECT {self.key.send}(k) FROM {self.table} WHERE n = {n}".encode(), None, result_format=1).get_value(0, 0)
        if ask(self.through, f"INSERT INTO {self.table} (n, k) VALUES ({n}, $1)", [(binary, self.oid, 1)])[0] is not None:
            self.one.execute(f"DELETE FROM {self.table} WHERE n = {n}")

    def select(self, condition, parameters):
        """The same answer on both sides; an error is one on both; or Tessera refuses."""
        statement = f"SELECT n FROM {self.table} WHERE k {condition} FOR SHARE"  # which is refused over several shards
        (state, found), (code, rows) = self.answers(statement, parameters)
        about = f"{statement} {parameters}: {state} {found}, but on one database {code} {rows}"
        if code is not None:
            assert state is not None, about
        elif state == b"0A000":
            self.refused += 1
        else:
            assert state is None and sorted(found) == sorted(rows), about
            self.same += 1


def can_be_said(form, encoding):
    said, parameters = form
    try:
        return bool((said + "".join(text for text, _, _ in parameters)).encode(encoding))
    except UnicodeEncodeError:
        return False


@pytest.fixture(scope="module")
def servers(shards):
    return shards(len(SHARDS))


CASES = [(key, settings) for key in sharding.ALL for settings, (_, types) in SETTINGS.items() if key.name.startswith(types)]


@pytest.fixture(scope="module")
def spelled(servers, new_database, tmp_path_factory):
    """(Tessera, name of the shards' database, of the one database), with table k<i> for the i-th type."""
    collations = ['COLLATE "C"' if key.is_text else "" for key in sharding.ALL]
    schema = ";".join(f"CREATE TABLE k{i} (n int, k {key.name} {collations[i]})" for i, key in enumerate(sharding.ALL))
    database, plain = new_database(servers, schema), new_database(servers[:1], schema)
    tables = {f"k{i}": {"rule": "h", "key": "k"} for i in range(len(sharding.ALL))}
    config = database_config(servers, database, rules={"h": HASH}, tables=tables)
    with Tessera({"databases": {"shop": config}}, tmp_path_factory.mktemp("spelled")) as proxy:
        yield proxy, database, plain


@pytest.mark.parametrize(("key", "settings"), CASES, ids=[f"{key.name}, {settings}" for key, settings in CASES])
def test_spellings_mean_what_they_mean_to_the_server(key, settings, spelled, servers, tmp_path):
    proxy, database, plain = spelled
    table = f"k{sharding.ALL.index(key)}"
    predicates = sharding.predicates(sharding.write_configuration(tmp_path / "rules.yaml", [("hash", HASH)], ["k"], key.name), 1)[0]
    encoding = "latin-1" if settings == "LATIN1" else "utf-8"
    with servers[0].connect(plain, user="app", password="app", autocommit=True) as one, proxy.connect("shop", autocommit=True) as through:
        oid = one.execute("SELECT %s::regtype::oid::int", [key.name]).fetchone()[0]
        for connection in (through, one):
            for statement in SETTINGS[settings][0]:
                connection.execute(statement)
        one.execute(f"TRUNCATE {table}")
        twins = Twins(key, table, oid, through, one, encoding)
        forms = [form for form in forms_of(key, oid, *SPELLINGS[key.name]) if can_be_said(form, encoding)]
        for n, (said, parameters) in enumerate(forms):
            twins.insert(n, said, parameters)
        for said, parameters in forms:
            twins.select(f"= {said}", parameters)
            twins.select(f"IN ({said}, {said})", parameters)
            twins.select(f"= ANY (ARRAY[{said}])", parameters)
    for server, predicate in zip(servers, predicates):
        with server.connect(database) as direct:
            wrong = direct.execute(f"SELECT n, k::text FROM {table} WHERE ({predicate}) IS NOT TRUE").fetchall()
            assert not wrong, [(forms[n], stored) for n, stored in wrong[:5]]
            direct.execute(f"TRUNCATE {table}")
    assert settings == "names first" or twins.same > len(forms) // 4
