#!/usr/bin/python3
"""Writes hash_vectors.txt: what a real PostgreSQL makes of keys of every type.

Usage: make_hash_vectors.py "host=127.0.0.1 port=5432 user=postgres" > hash_vectors.txt

One line per key, tab-separated: type, key (COPY's text escapes), the extended hash with seed 0 and with SEED, then, for
types that have a text of their own, the first 64 bits of the text's md5 ("-": none). Hashes are signed.
"""
import random
import sys

import psycopg

SEED = 81985529216486895
RANDOM = random.Random(20240229)


def integers(bits):
    top = 1 << (bits - 1)
    edges = [0, 1, -1, 2, -2, 42, 255, 256, top - 1, -top, top - 2, -top + 1]
    if bits == 64:
        edges += [2**31, 2**31 - 1, -2**31 - 1, 2**32, 2**32 - 1, -2**32, 2**53, 2**53 + 1]
    return [str(v) for v in edges + [RANDOM.randrange(-top, top) >> RANDOM.randrange(bits - 1) for _ in range(60)]]


def texts():
    edges = ["", " ", "a", "A", "ab", "'", '"', "\\", "\t", "\n", "ä", "日本語", "🙂", "a" * 255, "x y  ", "  x", "NULL"]
    edges += ["abcdefghijklmnopqrstuvwxyz"[:n] for n in range(1, 27)]
    alphabet = "abcXYZ 019_-@.äß€"
    return edges + ["".join(RANDOM.choices(alphabet, k=RANDOM.randrange(1, 40))) for _ in range(40)]


def numerics():
    edges = "0 -0 0.0 1 -1 1.0 1.10 10000 9999 10001 100000000 0.0001 0.00001 1234.5678 12345.6789 -0.5 1e20 1e-20 NaN " \
            "Infinity -Infinity 99999999999999999999.99999999999999999999 0.10000 1000000 0.000012345".split()
    return edges + [f"{RANDOM.randrange(-10**12, 10**12)}.{RANDOM.randrange(10**RANDOM.randrange(1, 9))}" for _ in range(40)]


def floats(single):
    edges = "0 -0 1 -1 0.5 0.1 1.1 1e10 1e-10 NaN Infinity -Infinity 123456.789 3.1415927".split()
    if not single:
        edges += ["1e300", "-1e-300", "9007199254740993", "2.2250738585072014e-308"]
    return edges + [repr(RANDOM.uniform(-1e6, 1e6)) for _ in range(40)]


def dates():
    edges = ["2000-01-01", "1999-12-31", "1970-01-01", "2024-02-29", "0001-01-01", "9999-12-31", "infinity", "-infinity"]
    return edges + [f"{RANDOM.randrange(1, 9999):04}-{RANDOM.randrange(1, 13):02}-{RANDOM.randrange(1, 29):02}" for _ in range(40)]


def times():
    edges = ["00:00:00", "24:00:00", "23:59:59.999999", "12:34", "12:34:56.7"]
    return edges + [f"{RANDOM.randrange(24):02}:{RANDOM.randrange(60):02}:{RANDOM.randrange(60):02}.{RANDOM.randrange(10**6):06}"
                    for _ in range(40)]


def stamps(zone):
    days, clocks = [d for d in dates() if "infinity" not in d], times()[2:]
    made = [f"{RANDOM.choice(days)} {RANDOM.choice(clocks)}{RANDOM.choice(['+00', '+02', '-05:30', 'Z']) if zone else ''}"
            for _ in range(60)]
    return made + ["infinity", "-infinity"] + (["2000-01-01 00:00:00+00"] if zone else ["2000-01-01", "2000-01-01 00:00:00"])


def hexes(count):
    return "".join(RANDOM.choices("0123456789abcdef", k=count))


KEYS = {
    "smallint": integers(16), "integer": integers(32), "bigint": integers(64),
    "boolean": ["true", "false"],
    "text": texts(), "character varying": texts(), "character": texts(),
    "uuid": ["00000000-0000-0000-0000-000000000000", "ffffffff-ffff-ffff-ffff-ffffffffffff"] +
            [f"{hexes(8)}-{hexes(4)}-{hexes(4)}-{hexes(4)}-{hexes(12)}" for _ in range(40)],
    "date": dates(), "time without time zone": times(),
    "timestamp without time zone": stamps(False), "timestamp with time zone": stamps(True),
    "bytea": ["\\x", "\\x00", "\\xff"] + ["\\x" + hexes(2 * RANDOM.randrange(1, 30)) for _ in range(40)],
    "oid": ["0", "1", "4294967295", "2147483648"] + [str(RANDOM.randrange(2**32)) for _ in range(30)],
    '"char"': list("aZ09 ~"),
    "numeric": numerics(), "real": floats(True), "double precision": floats(False),
    "macaddr": [":".join(hexes(2) for _ in range(6)) for _ in range(30)],
    "inet": ["0.0.0.0", "255.255.255.255", "10.0.0.0/8", "::1", "::", "2001:db8::1/64", "192.168.1.77/24"],
}
WITH_TEXT = {"smallint", "integer", "bigint", "boolean", "text", "character varying", "character", "uuid", "oid"}
CAST = {"character": "bpchar"}


def escape(text):
    return text.replace("\\", "\\\\").replace("\t", "\\t").replace("\n", "\\n")


def main():
    with psycopg.connect(sys.argv[1]) as connection:
        connection.execute("SET timezone = 'Etc/GMT+7'")
        for name, keys in KEYS.items():
            typed = f"%s::text::{CAST.get(name, name)}"
            md5 = f"('x' || substr(md5(({typed})::text), 1, 16))::bit(64)::bigint" if name in WITH_TEXT else "%s::text"
            for key in keys:
                row = connection.execute(f"SELECT hash_record_extended(ROW({typed}), 0), hash_record_extended(ROW({typed}), "
                                         f"{SEED}), {md5}", (key, key, key)).fetchone()
                print(name, escape(key), row[0], row[1], row[2] if name in WITH_TEXT else "-", sep="\t")


if __name__ == "__main__":
    main()
