"""SQLAlchemy, its ORM and its pool, over psycopg2; prepared statements over asyncpg."""

import asyncio
import io
import os
import ssl
import sys
import threading

from checks import BASE, SPREAD, SSLROOTCERT, check, equal, finish, raises, right_or_refused
from sqlalchemy import BigInteger, Column, Integer, Text, create_engine, inspect, select, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.engine import URL
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.orm import Session, declarative_base

url = URL.create("postgresql+psycopg2", os.environ["PGUSER"], os.environ["PGPASSWORD"], os.environ["PGHOST"], int(os.environ["PGPORT"]),
                 os.environ["PGDATABASE"])
Base = declarative_base()


class Item(Base):
    __tablename__ = "items"
    id = Column(BigInteger, primary_key=True, autoincrement=False)
    owner_id = Column(BigInteger)
    name = Column(Text)
    qty = Column(Integer)
    data = Column(JSONB)


class Numbered(Base):
    __tablename__ = "numbered"
    id = Column(BigInteger, primary_key=True)
    name = Column(Text)


engine = create_engine(url, connect_args={"sslmode": "disable", "connect_timeout": 10}, pool_pre_ping=True, future=True)

with check("connect plain"):
    with engine.connect() as connection:
        equal(connection.execute(text("select 1")).scalar(), 1)

with check("connect TLS"):
    secure = create_engine(url, connect_args={"sslmode": "verify-full", "sslrootcert": SSLROOTCERT}, future=True)
    with secure.connect() as connection:
        equal(connection.connection.dbapi_connection.info.ssl_in_use, True)

with check("crud by key"):
    for key in range(BASE, BASE + 10):
        with Session(engine, future=True) as session, session.begin():
            session.execute(text("delete from items where id = :id"), {"id": key})
            session.add(Item(id=key, owner_id=1, name=f"n {key}", qty=5, data={"tags": ["ü"]}))
        with Session(engine, future=True) as session, session.begin():
            item = session.get(Item, key)
            equal((item.name, item.data), (f"n {key}", {"tags": ["ü"]}))
            item.qty += 1
        with Session(engine, future=True) as session, session.begin():
            equal(session.execute(select(Item.qty).where(Item.id == key)).scalar(), 6)

with check("generated keys"):
    with Session(engine, future=True) as session, session.begin():
        made = [Numbered(name=f"n {i}") for i in range(30)]
        session.add_all(made)
        session.flush()
        keys = [one.id for one in made]
    equal(len(set(keys)), 30)
    with Session(engine, future=True) as session:
        equal([session.get(Numbered, key).name for key in keys], [f"n {i}" for i in range(30)])

with check("values"):
    long = "é漢" * 200_000
    with Session(engine, future=True) as session, session.begin():
        session.execute(text("delete from items where id = :id"), {"id": BASE + 50})
        session.add(Item(id=BASE + 50, name=long, data={"a": [1, None]}))
    with Session(engine, future=True) as session:
        item = session.get(Item, BASE + 50)
        equal((item.owner_id, item.name, item.data), (None, long, {"a": [1, None]}))


async def prepared():
    """The dialect of asyncpg prepares every statement."""
    secure = create_async_engine(url.set(drivername="postgresql+asyncpg"), connect_args={"ssl": ssl.create_default_context(cafile=SSLROOTCERT)})
    for key in range(BASE, BASE + 10):
        for _ in range(3):
            async with secure.begin() as connection:
                equal((await connection.execute(select(Item.name).where(Item.id == key))).scalar(), f"n {key}")
    await secure.dispose()

with check("prepared statements"):
    asyncio.run(prepared())

with check("transaction commit"):
    with Session(engine, future=True) as session:
        session.get(Item, BASE).owner_id = 4
        session.commit()
        equal(session.get(Item, BASE).owner_id, 4)

with check("transaction rollback"):
    with Session(engine, future=True) as session:
        session.get(Item, BASE).qty = 100
        session.flush()
        session.rollback()
        equal(session.get(Item, BASE).qty, 6)

with check("savepoint"):
    with Session(engine, future=True) as session, session.begin():
        with session.begin_nested():
            session.get(Item, BASE).qty = 7
    with Session(engine, future=True) as session:
        equal(session.get(Item, BASE).qty, 7)

with check("batch"):
    with engine.begin() as connection:
        connection.execute(text("update items set qty = qty + :n where id = :id"), [{"n": 1, "id": BASE}] * 20)
        equal(connection.execute(text("select qty from items where id = :id"), {"id": BASE}).scalar(), 27)

with check("errors"):
    def run(sql):
        with engine.begin() as connection:
            connection.execute(text(sql))
    raises("23505", lambda: run(f"insert into items (id) values ({BASE})"))
    raises("42601", lambda: run("selekt 1"))
    raises("22012", lambda: run("select 1/0"))

with check("failed transaction"):
    with engine.connect() as connection:
        raises("22012", lambda: connection.execute(text("select 1/0")))
        raises("25P02", lambda: connection.execute(text("select 1")))
        connection.rollback()
        equal(connection.execute(text("select 1")).scalar(), 1)

with check("copy"):  # by the connection of the driver below
    raw = engine.raw_connection()
    with raw.cursor() as cursor:
        cursor.execute("delete from imports where id between %s and %s", [BASE, BASE + 999])
        cursor.copy_expert("copy imports (id, name) from stdin", io.StringIO("".join(f"{BASE + i}\trow {i}\n" for i in range(1000))))
        out = io.StringIO()
        cursor.copy_expert(f"copy (select * from imports where id between {BASE} and {BASE + 999} order by id) to stdout csv", out)
        equal(out.getvalue(), "".join(f"{BASE + i},row {i}\n" for i in range(1000)))
    raw.commit()
    raw.close()

with check("several shards"):
    for key in SPREAD:
        with engine.begin() as connection:
            connection.execute(text("delete from items where id = :id"), {"id": key})
            connection.execute(text("insert into items (id, qty) values (:id, 0)"), {"id": key})

    def write():
        with engine.begin() as connection:
            connection.execute(text("update items set qty = 1 where id = :id"), [{"id": key} for key in SPREAD])

    def read(key):
        with engine.connect() as connection:
            return connection.execute(select(Item.qty).where(Item.id == key)).scalar()
    right_or_refused(write, read)

with check("cancel"):
    with engine.connect() as connection:
        timer = threading.Timer(0.5, connection.connection.dbapi_connection.cancel)
        timer.start()
        raises("57014", lambda: connection.execute(text("select pg_sleep(30)")))
        timer.join()
        connection.rollback()
        equal(connection.execute(text("select 1")).scalar(), 1)

with check("introspection"):
    columns = [column["name"] for column in inspect(engine).get_columns("items")]
    equal(columns, ["id", "owner_id", "name", "qty", "data"])
    equal(inspect(engine).get_pk_constraint("items")["constrained_columns"], ["id"])

engine.dispose()
sys.exit(finish())
