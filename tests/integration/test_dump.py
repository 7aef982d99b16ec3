"""pg_dump and psql's \\d see one database; what pg_dump has written can be put back through Tessera."""

import os
import re
import subprocess

import pytest
from harness.postgres import BIN
from harness.tessera import Tessera
from talk import config_of

SCHEMA = """\
create type mood as enum ('sad', 'ok');
create domain cents as bigint check (value >= 0);
create table users (id bigint primary key, name varchar(40) not null, mood mood default 'ok', created timestamptz default '2020-01-01');
create table countries (code char(2) primary key, name text);
create table orders (id bigint, user_id bigint references users(id), country char(2) references countries(code), total numeric(10,2) check (total >= 0), note text, paid cents, primary key (user_id, id));
create index orders_country on orders (country) where total > 10;
create view dear as select user_id, total from orders where total > 100;
create function next_of(a int) returns int language sql immutable as 'select a + 1';
create table plain (id int primary key, v text);
comment on table users is 'who';
comment on column orders.total is 'with tax';
"""
ROWS = """\
insert into countries values ('DE', 'Germany'), ('FR', E'a\\tb');
insert into users (id, name, mood) select i, 'user ' || i, case when i % 3 = 0 then 'sad'::mood end from generate_series(1, 40) i;
insert into orders select i, 1 + i % 40, case when i % 2 = 0 then 'DE' end, i * 1.25, repeat('ä', i % 7), i from generate_series(1, 300) i;
insert into plain values (1, null), (2, '\\.');
"""
TABLES = {"rules": {"h": {"type": "hash", "shards": ["s0", "s1"]}}, "default_shard": "s0",
          "tables": {"users": {"rule": "h", "key": "id"}, "orders": {"rule": "h", "key": "user_id"}, "countries": {"reference": True}}}


def run(command, host, port, database, *arguments, stdin=None, check=True):
    environment = {**os.environ, "PGPASSWORD": "app", "PGOPTIONS": ""}
    return subprocess.run([BIN / command, "-h", host, "-p", str(port), "-U", "app", "-d", database, *arguments], capture_output=True, text=True, check=check, input=stdin, env=environment)


def content(dump):
    """Statements, and the rows of each COPY in any order: without what a dump says of itself."""
    lines = [line for line in dump.splitlines() if line and not re.match(r"--|\\(un)?restrict", line)]
    found, rows = [], None
    for line in lines:
        if rows is not None and line == "\\.":
            found.append(sorted(rows))
            rows = None
        elif rows is not None:
            rows.append(line)
        else:
            found.append(line)
            rows = [] if line.startswith("COPY ") else None
    return found


@pytest.fixture(scope="module")
def filled(shards, new_database, tmp_path_factory):
    """Rows put in through one server; what it dumps; and Tessera over two others into which that went."""
    servers = shards(3)
    plain = new_database(servers[2:], SCHEMA + ROWS)
    name = new_database(servers[:2])
    dump = run("pg_dump", "127.0.0.1", servers[2].port, plain).stdout
    with Tessera(config_of(servers[:2], name, **TABLES), tmp_path_factory.mktemp("dump")) as proxy:
        done = run("psql", proxy.host, proxy.port, name, "-q", "-v", "ON_ERROR_STOP=1", stdin=dump)
        assert done.stderr == ""
        yield proxy, name, servers, plain, dump
        proxy.stop()
        proxy.check_log()


def test_a_dump_is_that_of_one_server(filled):
    proxy, name, _, _, dump = filled
    assert content(run("pg_dump", proxy.host, proxy.port, name).stdout) == content(dump)


def test_the_schema_is_that_of_one_server(filled):
    proxy, name, servers, plain, _ = filled
    through, one = (run("pg_dump", host, port, database, "--schema-only").stdout for host, port, database in ((proxy.host, proxy.port, name), ("127.0.0.1", servers[2].port, plain)))
    assert content(through) == content(one) and "CREATE TABLE public.orders" in through


@pytest.mark.parametrize("command", [r"\d", r"\d orders", r"\d+ users", r"\d dear", r"\dT+", r"\df", r"\di", r"\dv", r"\dD", r"\dp", r"\dn"])
def test_what_psql_shows(filled, command):
    proxy, name, servers, plain, _ = filled
    through, one = (run("psql", host, port, database, "-X", "-c", command) for host, port, database in ((proxy.host, proxy.port, name), ("127.0.0.1", servers[2].port, plain)))
    assert (through.stdout, through.stderr) == (one.stdout, one.stderr) and through.stdout


def test_rows_by_portions(filled):
    proxy, name, servers, plain, _ = filled
    query = ["-X", "-At", "-v", "FETCH_COUNT=7", "-c", "select o.id, u.name, total from orders o join users u on u.id = user_id order by o.id"]
    through, one = (run("psql", host, port, database, *query).stdout for host, port, database in ((proxy.host, proxy.port, name), ("127.0.0.1", servers[2].port, plain)))
    assert through == one and through.count("\n") == 300
