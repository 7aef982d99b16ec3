"""Types of columns, and values of each that meet the odd corners: duplicates, several spellings of one value, extremes."""

from typing import NamedTuple


class Kind(NamedTuple):
    sql: str
    values: list  # texts
    oid: int  # of a parameter; 0: the server finds it
    loose: bool = False  # equal values may have several texts, so that DISTINCT, min and their like may give any of them


def _uuid(i):
    return f"00000000-0000-4000-8000-0000000000{i:02x}"


KINDS = {
    "small": Kind("smallint", ["0", "1", "-1", "2", "7", "32000"], 21),
    "int": Kind("integer", ["0", "1", "2", "3", "5", "8", "13", "-4", "100"], 23),
    "big": Kind("bigint", ["0", "1", "2", "4", "9", "-1", "17", "3000000000", "-9000000000"], 20),
    "dec": Kind("numeric(10,2)", ["0.00", "1.50", "-3.10", "99999999.99", "7.00", "0.01"], 1700),
    "num": Kind("numeric", ["1", "1.0", "1.000", "-0.5", "0", "0.00", "NaN", "Infinity", "-Infinity", "0.0001", "123456789012345678901234567890.000000001"], 1700, True),
    # Sums of these are exact, in whatever order.
    "float": Kind("double precision", ["0", "-0", "0.5", "-2.25", "NaN", "Infinity", "-Infinity", "1024"], 701, True),
    "text": Kind("text", ["", "a", "A", "b", "ä", "Z", "zoë", "a b", "a-b", "ab", "10", "9", "%", "it's", "back\\slash", "x" * 300], 25),
    "vchar": Kind("varchar(12)", ["", "a", "Ab", "é", "e", "long enough"], 1043),
    "char": Kind("char(4)", ["", "a", "DE", "FR", "fr", "abcd"], 1042),
    "bool": Kind("boolean", ["t", "f"], 16),
    "date": Kind("date", ["1970-01-01", "1999-12-31", "2000-02-29", "2024-02-10", "2024-12-31", "infinity"], 1082),
    "ts": Kind("timestamp", ["1970-01-01 00:00:00", "1999-12-31 23:59:59.999999", "2024-02-10 12:30:00", "2024-03-31 02:30:00"], 1114),
    "tz": Kind("timestamptz", ["1970-01-01 00:00:00+00", "2024-02-10 12:30:00+02", "2024-02-10 10:30:00+00", "2024-03-31 01:30:00+00"], 1184),
    "time": Kind("time", ["00:00", "12:30:00.5", "23:59:59.999999"], 1083),
    "span": Kind("interval", ["1 day", "24:00:00", "1 mon", "30 days", "-2 hours", "0"], 1186, True),
    "uuid": Kind("uuid", [_uuid(i) for i in (1, 2, 3, 10, 200)], 2950),
    "bytea": Kind("bytea", ["\\x", "\\x00", "\\x00ff", "\\x5c27", "\\x61"], 17),
    "ints": Kind("integer[]", ["{}", "{1}", "{1,NULL}", "{2,1}", "{{1,2},{3,4}}"], 1007),
    "texts": Kind("text[]", ["{}", "{a}", "{a,NULL}", '{"b c","\\"q\\""}', "{NULL}"], 1009),
    "jsonb": Kind("jsonb", ["{}", '{"a": [1, null]}', '{"a": 2, "b": "x"}', "null", "[1, 2]", '"s"'], 3802),
    "mood": Kind("mood", ["sad", "ok", "happy"], 0),
}
ORDINARY = list(KINDS)
NUMBERS = ("small", "int", "big", "dec", "num", "float")
TEXTS = ("text", "vchar", "char")
KEYS = ("int", "big", "text", "vchar", "uuid", "date", "ts", "small", "dec", "bytea")


def quoted(value):
    return "null" if value is None else "'" + value.replace("'", "''") + "'"
