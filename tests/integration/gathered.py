"""What the tests of queries over several shards work on: tables by two rules, a reference table and a plain one, with NULLs,
duplicates and values of many types, on four shards behind Tessera and on one plain server."""

import contextlib
import random
import uuid

import psycopg
import pytest
from harness.tessera import Tessera, database_config

SHARDS = 4
SCHEMA = """
create type mood as enum ('sad', 'ok', 'happy');
create domain cents as bigint check (value >= 0);
create table users (id bigint primary key, name text, country char(2), born date, mood mood, boss bigint);
create table orders (id bigint, user_id bigint, amount numeric(10, 2), paid cents, note text, tags text[], at timestamptz,
                     primary key (user_id, id));
create table events (item text, at timestamp, what jsonb, weight double precision, id uuid primary key);
create table countries (code char(2) primary key, name text);
create table settings (name text primary key, value text);
"""
TABLES = {
    "users": {"rule": "by_user", "key": "id"},
    "orders": {"rule": "by_user", "key": "user_id"},
    "events": {"rule": "by_item", "key": "item"},
    "countries": {"reference": True},
    "settings": {"shard": "s1"},
}


def fill(connection, seed=1):
    pick = random.Random(seed)
    users = [(i, pick.choice(["ann", "Bob", "ébène", "zoë", None, "a b", "a-b"]), pick.choice(["DE", "FR", "XX", None]), pick.choice(["1970-01-01", "1999-12-31", None]),
              pick.choice(["sad", "ok", "happy", None]), pick.choice([None, pick.randrange(40)])) for i in range(40)]
    orders = [(i, pick.randrange(50), pick.choice([None, "1.50", "0.00", "99999999.99", "-3.1", str(pick.randrange(100))]), pick.choice([None, 0, 7]), pick.choice([None, "x", "Y", "z z", ""]),
               pick.choice([None, [], ["a", None], ["b", "c"]]), f"2024-01-{pick.randrange(1, 29):02} 12:00+00") for i in range(150)]
    events = [(pick.choice(["apple", "pear", "Äpfel", "", "fig"]), f"2024-02-{pick.randrange(1, 29):02}", pick.choice([None, "{}", '{"a": [1, null]}']), pick.choice([None, "NaN", "Infinity", "0.1", "-2"]),
               str(uuid.UUID(int=i))) for i in range(60)]
    for table, some in (("users", users), ("orders", orders), ("events", events)):
        for row in some:
            connection.execute(f"insert into {table} values ({', '.join(['%s'] * len(row))})", row)


@contextlib.contextmanager
def two_databases(shards, new_database, tmp_path_factory, schema, tables, rows=fill):
    """A session through Tessera over four shards, and one with a plain server: the same rows."""
    four, (plain,) = shards(SHARDS), shards(1)
    sharded, single = new_database(four, schema), new_database([plain], schema)
    reference = "insert into countries values ('DE', 'Germany'), ('FR', 'France'), ('IT', 'Italy')"
    kept = "insert into settings values ('limit', '7'), ('x', null)"
    for server in four:
        with server.connect(sharded, user="app", password="app") as connection:
            connection.execute(reference)
    with four[1].connect(sharded, user="app", password="app") as connection:
        connection.execute(kept)
    rule = {"type": "hash", "shards": [f"s{i}" for i in range(SHARDS)]}
    config = {"databases": {sharded: database_config(four, sharded, rules={"by_user": rule, "by_item": rule}, tables=tables, hints=True)}}
    with Tessera(config, tmp_path_factory.mktemp("gather")) as proxy:
        through = psycopg.connect(host=proxy.host, port=proxy.port, user="app", password="app", dbname=sharded, autocommit=True)
        one = plain.connect(single, user="app", password="app")
        one.autocommit = True
        one.execute(reference)
        one.execute(kept)
        for connection in (through, one):
            rows(connection)
        yield through, one, proxy, sharded
        through.close()
        one.close()
    proxy.check_log()


@pytest.fixture(scope="module")
def both(shards, new_database, tmp_path_factory):
    with two_databases(shards, new_database, tmp_path_factory, SCHEMA, TABLES) as all_of_it:
        yield all_of_it


def answer(connection, query, parameters=None):
    """Its columns and rows, or the SQLSTATE of its error."""
    try:
        cursor = connection.execute(query, parameters)
        found = cursor.fetchall()
    except psycopg.Error as error:
        return error.sqlstate
    if "order by" not in query.lower().rsplit(")", 1)[-1]:
        found.sort(key=repr)
    return [(column.name, column.type_code if column.type_code < 16384 else "own", column.display_size) for column in cursor.description], repr(found)
