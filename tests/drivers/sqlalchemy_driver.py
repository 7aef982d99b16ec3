"""SQLAlchemy, its ORM and its pool, over psycopg2."""

import os
import sys

from checks import BASE, SSLROOTCERT, check, equal, finish, raises
from sqlalchemy import BigInteger, Column, Integer, Text, create_engine, inspect, select, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.engine import URL
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

with check("introspection"):
    columns = [column["name"] for column in inspect(engine).get_columns("items")]
    equal(columns, ["id", "owner_id", "name", "qty", "data"])
    equal(inspect(engine).get_pk_constraint("items")["constrained_columns"], ["id"])

engine.dispose()
sys.exit(finish())
