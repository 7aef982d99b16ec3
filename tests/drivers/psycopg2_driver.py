"""psycopg2."""

import io
import sys
import threading

import psycopg2
import psycopg2.extras
from checks import BASE, SPREAD, SSLROOTCERT, check, equal, finish, raises, right_or_refused


def connect(**options):
    options.setdefault("sslmode", "disable")
    connection = psycopg2.connect("", connect_timeout=10, **options)
    connection.autocommit = True
    return connection


def rows(sql, parameters=None):
    with db.cursor() as cursor:
        cursor.execute(sql, parameters)
        return cursor.fetchall() if cursor.description else cursor.rowcount


with check("connect plain"):
    db = connect()
    equal(rows("select 1"), [(1,)])

with check("connect TLS"):
    secure = connect(sslmode="verify-full", sslrootcert=SSLROOTCERT)
    equal(secure.info.ssl_in_use, True)
    secure.close()

with check("crud by key"):
    for key in range(BASE, BASE + 20):
        rows("delete from items where id = %s", [key])
        equal(rows("insert into items (id, owner_id, name, qty) values (%s, %s, %s, %s)", [key, 1, f"it's {key}", 5]), 1)
        equal(rows("select name, qty from items where id = %s", [key]), [(f"it's {key}", 5)])
        equal(rows("update items set qty = qty + 1 where id = %s", [key]), 1)
        equal(rows("delete from items where id = %s returning qty", [key]), [(6,)])

with check("values"):
    long = "é漢" * 200_000
    rows("insert into items values (%s, %s, %s, %s, %s)", [BASE, None, long, None, psycopg2.extras.Json({"a": [1, None]})])
    equal(rows("select owner_id, name, data from items where id = %s", [BASE]), [(None, long, {"a": [1, None]})])

with check("prepared statements"):
    rows("prepare by_id (bigint) as select qty from items where id = $1")
    for key in range(BASE + 100, BASE + 110):
        rows("delete from items where id = %s", [key])
        rows("insert into items (id, qty) values (%s, %s)", [key, key])
        equal(rows("execute by_id (%s)", [key]), [(key,)])
    rows("deallocate by_id")

with check("batch"):
    key = BASE + 200
    rows("delete from items where id = %s", [key])
    rows("insert into items (id, qty) values (%s, 0)", [key])
    with db.cursor() as cursor:
        psycopg2.extras.execute_batch(cursor, "update items set qty = qty + %s where id = %s", [(1, key)] * 30, page_size=10)
    equal(rows("select qty from items where id = %s", [key]), [(30,)])

with check("transaction commit"):
    db.autocommit = False
    rows("update items set qty = 5 where id = %s", [BASE + 200])
    db.commit()
    equal(rows("select qty from items where id = %s", [BASE + 200]), [(5,)])
    db.commit()

with check("transaction rollback"):
    rows("update items set qty = 6 where id = %s", [BASE + 200])
    db.rollback()
    equal(rows("select qty from items where id = %s", [BASE + 200]), [(5,)])
    db.rollback()

with check("failed transaction"):
    raises("22012", lambda: rows("select 1/0"))
    raises("25P02", lambda: rows("select 1"))
    db.rollback()
    db.autocommit = True
    equal(rows("select 1"), [(1,)])

with check("copy"):
    rows("delete from imports where id between %s and %s", [BASE, BASE + 999])
    with db.cursor() as cursor:
        cursor.copy_expert("copy imports (id, name) from stdin", io.StringIO("".join(f"{BASE + i}\trow {i}\n" for i in range(1000))))
        equal(cursor.rowcount, 1000)
        out = io.StringIO()
        cursor.copy_expert(f"copy (select * from imports where id between {BASE} and {BASE + 999} order by id) to stdout csv", out)
        lines = out.getvalue().splitlines()
        equal((len(lines), lines[0]), (1000, f"{BASE},row 0"))

with check("errors"):
    raises("23505", lambda: rows("insert into items (id) values (%s)", [BASE + 200]))
    raises("42601", lambda: rows("selekt 1"))
    raises("22012", lambda: rows("select 1/0"))
    equal(rows("select 1"), [(1,)])

with check("several shards"):
    for key in SPREAD:
        rows("delete from items where id = %s", [key])
        rows("insert into items (id, qty) values (%s, 0)", [key])

    def write():
        db.autocommit = False
        try:
            with db:  # commits, or rolls back
                for key in SPREAD:
                    rows("update items set qty = 1 where id = %s", [key])
        finally:
            db.autocommit = True
    right_or_refused(write, lambda key: rows("select qty from items where id = %s", [key])[0][0])

with check("cancel"):
    timer = threading.Timer(0.5, db.cancel)
    timer.start()
    raises("57014", lambda: rows("select pg_sleep(30)"))
    timer.join()
    equal(rows("select 1"), [(1,)])

sys.exit(finish())
