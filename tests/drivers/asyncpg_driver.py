"""asyncpg: binary format, prepared statements for everything."""

import asyncio
import io
import json
import ssl
import sys

import asyncpg
from checks import BASE, SPREAD, SSLROOTCERT, check, equal, finish, sqlstate_of


async def raises(sqlstate, awaitable):
    try:
        await awaitable
    except asyncpg.PostgresError as error:
        equal(sqlstate_of(error), sqlstate)
        return
    raise AssertionError(f"no error instead of {sqlstate}")


async def main():
    with check("connect plain"):
        db = await asyncpg.connect(ssl=False, timeout=10)
        equal(await db.fetchval("select 1"), 1)

    with check("connect TLS"):
        secure = await asyncpg.connect(ssl=ssl.create_default_context(cafile=SSLROOTCERT), timeout=10)
        equal(await secure.fetchval("select 2"), 2)
        equal(secure._transport.get_extra_info("ssl_object") is not None, True)
        await secure.close()

    with check("crud by key"):
        for key in range(BASE, BASE + 20):
            await db.execute("delete from items where id = $1", key)
            equal(await db.execute("insert into items (id, owner_id, name, qty) values ($1, $2, $3, $4)", key, 1, f"n {key}", 5), "INSERT 0 1")
            equal(tuple(await db.fetchrow("select name, qty from items where id = $1", key)), (f"n {key}", 5))
            equal(await db.execute("update items set qty = qty + 1 where id = $1", key), "UPDATE 1")
            equal(await db.fetchval("delete from items where id = $1 returning qty", key), 6)

    with check("values"):
        await db.set_type_codec("jsonb", encoder=json.dumps, decoder=json.loads, schema="pg_catalog")
        long = "é漢" * 200_000
        await db.execute("insert into items values ($1, $2, $3, $4, $5)", BASE, None, long, None, {"a": [1, None]})
        equal(tuple(await db.fetchrow("select owner_id, name, data from items where id = $1", BASE)), (None, long, {"a": [1, None]}))

    with check("prepared statements"):
        await db.execute(f"delete from items where id = {BASE + 100}")
        await db.execute("insert into items (id, qty) values ($1, 1)", BASE + 100)
        statement = await db.prepare("select qty from items where id = $1")
        for _ in range(20):
            equal(await statement.fetchval(BASE + 100), 1)
            equal(await statement.fetchval(BASE + 101), None)

    with check("batch"):
        await db.executemany("update items set qty = qty + $1 where id = $2", [(1, BASE + 100)] * 50)
        equal(await db.fetchval("select qty from items where id = $1", BASE + 100), 51)

    with check("transaction commit"):
        async with db.transaction():
            await db.execute("update items set qty = 60 where id = $1", BASE + 100)
            async with db.transaction():  # a savepoint
                await db.execute("update items set qty = qty + 1 where id = $1", BASE + 100)
        equal(await db.fetchval("select qty from items where id = $1", BASE + 100), 61)

    with check("transaction rollback"):
        transaction = db.transaction()
        await transaction.start()
        await db.execute("update items set qty = 99 where id = $1", BASE + 100)
        await transaction.rollback()
        equal(await db.fetchval("select qty from items where id = $1", BASE + 100), 61)

    with check("cursor"):
        async with db.transaction():
            total = [record[0] async for record in db.cursor("select generate_series(1, 500)", prefetch=70)]
        equal(total, list(range(1, 501)))

    with check("copy"):
        await db.execute(f"delete from imports where id between {BASE} and {BASE + 999}")
        records = [(BASE + i, f"row {i}") for i in range(1000)]
        equal(await db.copy_records_to_table("imports", records=records), "COPY 1000")  # binary
        out = io.BytesIO()
        await db.copy_from_query("select * from imports where id between $1 and $2", BASE, BASE + 999, output=out, format="csv")
        equal(len(out.getvalue().splitlines()), 1000)

    with check("errors"):
        await raises("23505", db.execute("insert into items (id) values ($1)", BASE + 100))
        await raises("42601", db.fetch("selekt 1"))
        await raises("22012", db.fetch("select 1/0"))
        equal(await db.fetchval("select 1"), 1)

    with check("failed transaction"):
        transaction = db.transaction()
        await transaction.start()
        await raises("22012", db.fetch("select 1/0"))
        await raises("25P02", db.fetch("select 1"))
        await transaction.rollback()
        equal(await db.fetchval("select 1"), 1)

    with check("several shards"):  # all of it, or refused and nothing
        for key in SPREAD:
            await db.execute("delete from items where id = $1", key)
            await db.execute("insert into items (id, qty) values ($1, 0)", key)
        expected = 1
        try:
            await db.executemany("update items set qty = 1 where id = $1", [(key,) for key in SPREAD])
        except asyncpg.FeatureNotSupportedError:
            expected = 0
        equal([await db.fetchval("select qty from items where id = $1", key) for key in SPREAD], [expected] * len(SPREAD))

    with check("cancel"):  # asyncpg sends a CancelRequest when its time is up
        try:
            await db.execute("select pg_sleep(30)", timeout=0.5)
            raise AssertionError("not cancelled")
        except asyncio.TimeoutError:
            pass
        equal(await db.fetchval("select 1"), 1)

    with check("pool"):
        async with asyncpg.create_pool(min_size=2, max_size=5, ssl=False) as pool:
            equal(await asyncio.gather(*(pool.fetchval("select $1::int", i) for i in range(50))), list(range(50)))

    await db.close()


asyncio.run(main())
sys.exit(finish())
