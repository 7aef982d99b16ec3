"""The same statement on one database and through Tessera on four shards: the same answer, or 0A000. Each of these was once
answered wrongly and without a word."""

import subprocess

import psycopg
import pytest
from harness.tessera import database_config

TABLES = """
create table users (id bigint primary key, name text, created timestamptz not null default '2024-01-01 00:00+00');
create table orders (id bigint, user_id bigint, total numeric, note text, primary key (user_id, id));
create table numbered (id bigserial primary key, user_id bigint, note text);
create table identified (id bigint generated always as identity, user_id bigint, note text);
create table reals (k real primary key, v text);
create table days (k date primary key, ts timestamp, v text);
create table computed (a bigint, k bigint generated always as (a * 2) stored);
create table countries (code text primary key, name text);
create table whole (id bigint) partition by range (id);
create table part partition of whole for values from (0) to (1000000);
create view calm as select code, upper(name) as name from countries;
create view first_country as select code from countries limit 1;
create view calmer as select code from calm;
create view moodier as select code from first_country;
create function count_orders() returns bigint language sql stable as 'select count(*) from orders';
create function twice(n bigint) returns bigint language sql immutable as 'select 2 * n';
"""
STRAY = """
create table stray (id serial primary key, name text);
create table pg_cars (id bigint);
create view coded as select code, count_orders() as n from countries;
create view stray_coded as select name, count_orders() as n from stray;
"""
ROUTED = {
    "users": "id", "orders": "user_id", "numbered": "user_id", "identified": "user_id", "reals": "k", "days": "k", "computed": "k", "part": "id",
}
COUNTRIES = "insert into countries values ('DE', 'Germany'), ('FR', 'France')"
KEYED = [
    *(f"insert into users values ({i}, 'user {i}')" for i in range(1, 21)),
    *(f"insert into orders values ({i}, {i}, {i}.5, 'DE')" for i in range(1, 21)),
    *(f"insert into users values ({2**53 + i}, 'beyond a double')" for i in range(8)),
    *(f"insert into reals values ('0.{i}', '{i}')" for i in range(1, 10)),
    *(f"insert into days values ('2024-01-{i:02}', '2024-01-{i:02} 10:00', '{i}')" for i in range(1, 21)),
]


@pytest.fixture(scope="module")
def servers(shards):
    return shards(4)


@pytest.fixture(scope="module")
def names(servers, new_database):
    """The databases of the shards, and one that has everything. Only the default shard has what is not listed."""
    sharded = new_database(servers, TABLES)
    plain = new_database(servers[:1], TABLES + STRAY)
    with servers[0].connect(sharded, user="app", password="app") as connection:
        connection.execute(STRAY)
        connection.execute("insert into stray (name) values ('only here')")
    with servers[0].connect(plain, user="app", password="app") as connection:
        connection.execute(COUNTRIES)
        connection.execute("insert into stray (name) values ('only here')")
    for server in servers:
        with server.connect(sharded, user="app", password="app") as connection:
            connection.execute(COUNTRIES)
    return sharded, plain


def configuration(servers, sharded):
    tables = {name: {"rule": "h", "key": key} for name, key in ROUTED.items()}
    rules = {"h": {"type": "hash", "shards": [f"s{i}" for i in range(4)]}}
    return {"databases": {"shop": database_config(servers, sharded, rules=rules, tables={**tables, "countries": {"reference": True}}, hints=True)}}


@pytest.fixture
def both(tessera, servers, names):
    """(through Tessera, on one database), both with the rows of KEYED."""
    sharded, plain = names
    proxy = tessera(configuration(servers, sharded))
    with proxy.connect("shop", autocommit=True) as through, servers[0].connect(plain, user="app", password="app", autocommit=True) as one:
        for server in servers:
            with server.connect(sharded, user="app", password="app") as direct:
                direct.execute("truncate users, orders, numbered, identified, reals, days, computed, part")
        one.execute("truncate users, orders, numbered, identified, reals, days, computed, part")
        for statement in KEYED:
            through.execute(statement)
            one.execute(statement)
        yield through, one


def answer(connection, statement, parameters=None):
    cursor = connection.execute(statement, parameters)
    return sorted(cursor.fetchall(), key=repr) if cursor.description else cursor.rowcount


SAME = [
    "select * from users where id in (9007199254740993, 1::float8)",
    "select * from users where id in (1, 2, 3)",
    "select * from users where id = any(array[1, 2, 3])",
    "select * from reals where k in (0.1, 0.2)",
    "select * from reals where k in ('0.1', 0.2)",
    "select * from reals where k in (0.5, 1)",
    "select * from reals where k in ('0.1', '0.2')",
    "select * from reals where k = any(array[0.1::real, '0.2'])",
    "select * from reals where k = any(array[0.1::real, 0.2])",
    "select * from days where k in ('2024-01-01', timestamp '2024-01-02 00:00')",
    "select * from days where k in (date '2024-01-01', timestamp '2024-01-02 10:00')",
    "select * from days where k = any(array[date '2024-01-01', '2024-01-02'])",
    "select o.note, o.twice from (select user_id, note, 1 as twice from orders) o where o.user_id = 7",
    "select note from orders o where o.user_id = null",
    "select u.id from users u left join orders o on o.user_id = u.id where u.id = 7 and o.user_id = null",
    "select to_regclass('stray')::text",
    "select count(*) from information_schema.tables where table_name = 'stray'",
    "select count(*) from pg_class where relname = 'stray'",
    "select id from pg_cars",
    "select note from orders o join calm c on c.code = o.note",
    "select note from orders o join calmer c on c.code = o.note",
    "select o.count from orders o where o.user_id = 7",
    "select age(timestamp '2024-01-02', timestamp '2024-01-01') from users where id < 0",
    "select count_orders() from orders where user_id = 77",
    "select twice(4)",
    "select * from countries for update",
    "select o.note from orders o join countries c on c.code = o.note where o.user_id = 7 for update of o",
    "select * from only whole",
    "select * from part where id = 7",
    "insert into numbered (id, user_id) values (1, 7)",
    "insert into orders (id, user_id) values (7, 7) on conflict (user_id, id) do nothing",
    "insert into orders (id, user_id) values (7, 7) on conflict do nothing",
    "insert into orders (id, user_id) values (7, 7) on conflict on constraint orders_pkey do nothing",
    "select pg_table_size('stray') >= 0",
    "select name from stray",
    "select now() = current_timestamp from orders",
    "select note from orders o join first_country c on c.code = o.note",
    "select note from orders o join moodier c on c.code = o.note",
    "select note from orders, (select string_agg(code, ',') from countries) c",
]

REFUSED = [
    "copy (update orders set user_id = 700 where user_id = 7 returning *) to stdout",
    "copy (update countries set name = 'x' returning *) to stdout",
    "copy (delete from countries returning *) to stdout",
    "copy (insert into countries values ('XX', 'x') returning *) to stdout",
    "insert into identified (id, user_id) overriding user value values (1, 7)",
    "insert into numbered (user_id, note) select 7, 'x'",
    "update numbered set id = default where user_id = 7",
    "insert into numbered (id, user_id) values (1, 7) on conflict (id) do nothing",
    "insert into numbered (id, user_id) values (1, 7) on conflict do nothing",
    "insert into numbered (id, user_id) values (1, 7) on conflict on constraint numbered_pkey do nothing",
    "select o.count from orders o",
    "select (o).count from orders o",
    "select o.jsonb_agg from orders o",
    "select note from orders o join coded c on c.code = o.note",
    "select n from coded",
    "select c.n from coded c join countries d on d.code = c.code",
    "select max(s.name) from orders o, stray_coded s",
    "select * from whole",
    "insert into whole values (7)",
    "do $$ begin delete from orders; end $$",
    "select count_orders()",
    "select count_orders() from countries",
    "select * into countries from orders where user_id = 7",
    "select * from orders o join countries c on c.code = o.note where o.user_id = 7 for update",
    "update computed set a = 4 where k = 2",
    "insert into computed (a) values (1)",
    "select pg_relation_size('orders')",
    "select pg_total_relation_size('orders_pkey')",
    "select pg_database_size(current_database())",
]


def test_what_is_answered_is_answered_as_by_one_database(both):
    through, one = both
    for statement in SAME:
        assert answer(through, statement) == answer(one, statement), statement


def test_what_would_be_wrong_is_refused_with_a_place_and_a_hint(both):
    through, _ = both
    for statement in REFUSED:
        with pytest.raises(psycopg.Error) as caught:
            with through.cursor() as cursor:
                if statement.startswith("copy"):
                    with cursor.copy(statement) as copy:
                        list(copy)
                else:
                    cursor.execute(statement)
        assert caught.value.sqlstate == "0A000", f"{statement}: {caught.value}"
        assert caught.value.diag.message_hint and caught.value.diag.statement_position, statement


def test_a_hint_says_which_shard_code_runs_on(both):
    through, _ = both
    through.execute("/* tessera: shard=s1 */ do $$ begin end $$")
    assert through.execute("/* tessera: shard=s1 */ select count_orders()").fetchone()[0] >= 0


def test_parameters_without_a_type_are_not_read_as_the_keys(both):
    """By the protocol itself: psycopg would declare the types."""
    through, one = both
    statements = [
        ("select * from users where sqrt($1) > 0 and id = $1", b"9007199254740996"),
        ("select * from users where created >= to_timestamp($1) and id = $1", b"7"),
        ("select * from days where ts = $1 and k = $1", b"2024-01-03 10:00"),
        ("select * from days where k = $1 and ts >= $1", b"2024-01-03"),
        ("select $1::real from reals where k = $1", b"0.5"),
        ("select * from users u join orders o on o.user_id = u.id where u.id = $1 and o.user_id = $1", b"7"),
    ]
    for statement, value in statements:
        got = []
        for connection in (through, one):
            result = connection.pgconn.exec_params(statement.encode(), [value])
            assert result.status == psycopg.pq.ExecStatus.TUPLES_OK, f"{statement}: {result.error_message}"
            got.append(sorted(tuple(result.get_value(r, c) for c in range(result.nfields)) for r in range(result.ntuples)))
        assert got[0] == got[1], statement


def test_prepare_by_sql_takes_its_types(both):
    through, one = both
    for connection in (through, one):
        connection.execute("prepare p (timestamp) as select v from days where k = $1")
        connection.execute("prepare q (bigint) as select name from users where id = $1")
    with pytest.raises(psycopg.errors.FeatureNotSupported):
        # A time stamp at midnight is a day, but 10 o'clock is none: it was read as the day.
        through.execute("prepare r (timestamptz) as select v from days where k = $1")
        through.execute("execute r ('2024-01-03')")
    for execute in ("execute p ('2024-01-03 00:00')", "execute p ('2024-01-03 10:00')", "execute q (007)", "execute q ('7')"):
        assert answer(through, execute) == answer(one, execute), execute


def test_psql_describes_the_default_shard(both, tessera):
    through, one = both
    info, plain = through.info, one.info
    def psql(info, *commands):
        arguments = [word for command in commands for word in ("-c", command)]
        done = subprocess.run(["psql", "-X", "-A", "-t", *arguments], capture_output=True, text=True, timeout=60,
                              env={"PGHOST": info.host, "PGPORT": str(info.port), "PGUSER": "app", "PGPASSWORD": "app", "PGDATABASE": info.dbname, "PATH": "/usr/bin:/bin"})
        assert done.returncode == 0, done.stderr
        return done.stdout
    commands = [r"\d", r"\d orders", r"\d+ numbered", r"\d stray", r"\d+ calm", r"\dn", r"\df", r"\dv", r"\di", r"\ds", r"\d whole", r"\dp", r"\du", r"\dT"]
    assert psql(info, *commands) == psql(plain, *commands)
    for command in (r"\dt+", r"\di+", r"\l+", r"\dx", r"\dconfig"):
        assert psql(info, command)
