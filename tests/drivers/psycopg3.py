"""psycopg 3."""

import sys
import threading
import time

import psycopg
from checks import BASE, SPREAD, SSLROOTCERT, check, equal, finish, raises, right_or_refused
from psycopg.types.json import Jsonb


def connect(**options):
    options.setdefault("autocommit", True)
    options.setdefault("sslmode", "disable")
    return psycopg.connect("", connect_timeout=10, **options)


with check("connect plain"):
    with connect() as connection:
        equal(connection.execute("select 1").fetchone(), (1,))

with check("connect TLS"):
    with connect(sslmode="verify-full", sslrootcert=SSLROOTCERT) as connection:
        equal(connection.pgconn.ssl_in_use, True)
        equal(connection.execute("select 1").fetchone(), (1,))

db = connect()

with check("crud by key"):
    for key in range(BASE, BASE + 20):
        db.execute("delete from items where id = %s", [key])
        db.execute("insert into items (id, owner_id, name, qty) values (%s, %s, %s, %s)", [key, 1, f"item {key}", 5])
        equal(db.execute("select name, qty from items where id = %s", [key]).fetchall(), [(f"item {key}", 5)])
        equal(db.execute("update items set qty = qty + 1 where id = %s", [key]).rowcount, 1)
        equal(db.execute("select qty from items where id = %s", [key]).fetchone(), (6,))
        equal(db.execute("delete from items where id = %s returning name", [key]).fetchall(), [(f"item {key}",)])
        equal(db.execute("select from items where id = %s", [key]).fetchall(), [])

with check("values"):
    long = "é漢" * 200_000
    db.execute("insert into items values (%s, %s, %s, %s, %s)", [BASE, None, long, None, Jsonb({"a": [1, None, "ü"]})])
    equal(db.execute("select owner_id, name, data from items where id = %s", [BASE]).fetchone(), (None, long, {"a": [1, None, "ü"]}))
    with db.cursor(binary=True) as cursor:
        equal(cursor.execute("select id, data from items where id = %s", [BASE]).fetchone(), (BASE, {"a": [1, None, "ü"]}))

with check("prepared statements"):
    for key in range(BASE + 100, BASE + 140):
        db.execute("delete from items where id = %s", [key], prepare=True)
        db.execute("insert into items (id, qty) values (%s, %s)", [key, key], prepare=True)
        equal(db.execute("select qty from items where id = %s", [key], prepare=True).fetchone(), (key,))

with check("pipeline"):
    key = BASE + 200
    with db.pipeline():
        db.execute("delete from items where id = %s", [key])
        db.execute("insert into items (id, qty) values (%s, 1)", [key])
        cursors = [db.execute("update items set qty = qty + 1 where id = %s returning qty", [key]) for _ in range(20)]
    equal([cursor.fetchone()[0] for cursor in cursors], list(range(2, 22)))

with check("pipeline error"):
    try:
        with db.pipeline():
            db.execute("update items set qty = 100 where id = %s", [BASE + 200])
            db.execute("select 1/0")
            db.execute("update items set qty = 200 where id = %s", [BASE + 200])
        raise AssertionError("no error")
    except psycopg.errors.DivisionByZero:
        pass
    equal(db.execute("select qty from items where id = %s", [BASE + 200]).fetchone(), (21,))

with check("executemany"):
    with db.cursor() as cursor:
        cursor.executemany("update items set qty = qty + %s where id = %s", [(1, BASE + 200)] * 10)
    equal(db.execute("select qty from items where id = %s", [BASE + 200]).fetchone(), (31,))

with check("transaction commit"):
    with db.transaction():
        db.execute("update items set qty = 77 where id = %s", [BASE + 200])
        with db.transaction():  # a savepoint
            db.execute("update items set qty = 78 where id = %s", [BASE + 200])
    equal(db.execute("select qty from items where id = %s", [BASE + 200]).fetchone(), (78,))

with check("transaction rollback"):
    with db.transaction(force_rollback=True):
        db.execute("update items set qty = 99 where id = %s", [BASE + 200])
        equal(db.execute("select qty from items where id = %s", [BASE + 200]).fetchone(), (99,))
    equal(db.execute("select qty from items where id = %s", [BASE + 200]).fetchone(), (78,))

with check("server-side cursor"):
    with db.transaction(), db.cursor("c") as cursor:
        cursor.execute("select generate_series(1, 1000)")
        equal(len(cursor.fetchmany(300)) + len(cursor.fetchall()), 1000)

with check("copy"):
    db.execute("delete from imports where id between %s and %s", [BASE, BASE + 999])
    with db.cursor() as cursor:
        with cursor.copy("copy imports (id, name) from stdin") as copy:
            for i in range(1000):
                copy.write_row((BASE + i, f"row {i}"))
        equal(cursor.rowcount, 1000)
        with cursor.copy(f"copy (select id, name from imports where id between {BASE} and {BASE + 999} order by id) to stdout") as copy:
            rows = list(copy.rows())
        equal((len(rows), rows[999]), (1000, (str(BASE + 999), "row 999")))

with check("copy binary"):
    db.execute("delete from imports where id = %s", [BASE])
    with db.cursor() as cursor:
        with cursor.copy("copy imports (id, name) from stdin (format binary)") as copy:
            copy.set_types(["int8", "text"])
            copy.write_row((BASE, "é漢" * 100_000))
        with cursor.copy(f"copy (select id, name from imports where id = {BASE}) to stdout (format binary)") as copy:
            copy.set_types(["int8", "text"])
            equal(list(copy.rows()), [(BASE, "é漢" * 100_000)])

with check("copy error"):
    def bad_copy():
        with db.cursor() as cursor, cursor.copy("copy imports (id, name) from stdin") as copy:
            copy.write("x\ty\n")
    raises("22P02", bad_copy)
    equal(db.execute("select 1").fetchone(), (1,))

with check("errors"):
    db.execute("delete from items where id = %s", [BASE + 300])
    db.execute("insert into items (id) values (%s)", [BASE + 300])
    raises("23505", lambda: db.execute("insert into items (id) values (%s)", [BASE + 300]))
    raises("42601", lambda: db.execute("selekt 1"))
    raises("22012", lambda: db.execute("select 1/0"))
    equal(db.execute("select 1").fetchone(), (1,))

with check("failed transaction"):
    db.execute("begin")
    raises("22012", lambda: db.execute("select 1/0"))
    raises("25P02", lambda: db.execute("select 1"))
    db.execute("rollback")
    equal(db.execute("select 1").fetchone(), (1,))

with check("several shards"):
    def read(key):
        return db.execute("select qty from items where id = %s", [key], prepare=False).fetchone()[0]

    def fill():
        for key in SPREAD:
            db.execute("delete from items where id = %s", [key])
            db.execute("insert into items (id, qty) values (%s, 0)", [key])

    def write(around):
        with around:
            for key in SPREAD:
                db.execute("update items set qty = 1 where id = %s", [key], prepare=False)
    fill()
    right_or_refused(lambda: write(db.pipeline()), read)
    fill()
    right_or_refused(lambda: write(db.transaction()), read)

with check("cancel"):
    timer = threading.Timer(0.5, db.cancel)
    timer.start()
    before = time.monotonic()
    raises("57014", lambda: db.execute("select pg_sleep(30)"))
    timer.join()
    assert time.monotonic() - before < 10, "the cancel came late"
    equal(db.execute("select 1").fetchone(), (1,))

db.close()
sys.exit(finish())
