"""Requirement 13 of security.md: no cache is shared across effective roles."""

import pytest
from harness import wire
from roles import need_role
from talk import code, config_of, log_in, rows, value


SCHEMA = """
create table t (id int primary key, v text);
insert into t select i, 'row ' || i from generate_series(1, 20) i;
"""


@pytest.fixture(scope="module")
def server(shards):
    return shards(1)[0]


@pytest.fixture(scope="module")
def database(server, new_database):
    name = new_database([server], SCHEMA)
    need_role(server, "bob")
    return name


@pytest.fixture(scope="module")
def two(shards, new_database):
    servers = shards(2)
    name = new_database(servers, "create table t (id int primary key, v text); create table secrets (owner text, v text); alter table secrets enable row level security;"
                                 "create policy own on secrets using (owner = current_user); grant all on t, secrets to public;")
    for number, server in enumerate(servers):
        for role in ("alice", "bob"):
            need_role(server, role)
        server.run("grant alice, bob to app")
        server.run(f"create schema alice authorization alice; create table alice.t (id int, v text); insert into alice.t select i, 'alice {number}' from generate_series(1, 20) i;"
                   f"alter table alice.t owner to alice; insert into t select i, 'public {number}' from generate_series(1, 20) i; insert into secrets values ('alice', 'a'), ('bob', 'b')", name)
    return servers, name


def sharded(two, **more):
    servers, name = two
    users = [{"name": user, "password": user} for user in ("app", "alice", "bob")]
    return config_of(servers, name, users=users, rules={"r": {"type": "hash", "shards": ["s0", "s1"]}}, tables={"t": {"rule": "r", "key": "id"}, "secrets": {"shard": "s0"}}, **more)


def test_plans_follow_the_search_path_of_each_role(tessera, two):
    """alice's t is a table of her own on the default shard; everybody else's is spread by id."""
    proxy = tessera(sharded(two, pool={"size": 1}))
    _, name = two
    with log_in(proxy, name) as app, log_in(proxy, name, "alice", "alice") as alice, log_in(proxy, name) as path:
        path.ask(wire.query("set search_path to alice"))
        places = set()
        for turn in range(3):
            for number in range(1, 21):
                sql = f"select v from t where id = {number}"
                places.add(value(app, sql))
                assert value(alice, sql) == "alice 0"
                assert value(path, sql) == "alice 0"
                replies = alice.ask(wire.parse("select v from t where id = $1"), wire.bind([str(number).encode()]), wire.execute(), wire.SYNC)
                assert rows(replies) == [["alice 0"]]
        assert places == {"public 0", "public 1"}


def test_rows_follow_the_effective_role(tessera, two):
    proxy = tessera(sharded(two, pool={"size": 1}))
    _, name = two
    query = wire.parse("select v from secrets", "s") + wire.bind(name="s") + wire.execute() + wire.SYNC
    again = wire.bind(name="s") + wire.execute() + wire.SYNC
    with log_in(proxy, name) as first, log_in(proxy, name) as second:
        first.ask(wire.query("set role alice"))
        second.ask(wire.query("set role bob"))
        assert rows(first.ask(query)) == [["a"]] and rows(second.ask(query)) == [["b"]]
        for _ in range(10):
            assert rows(first.ask(again)) == [["a"]] and rows(second.ask(again)) == [["b"]]
            assert value(first, "select v from secrets") == "a" and value(second, "select v from secrets") == "b"
        first.ask(wire.query("set role bob"))
        assert rows(first.ask(again)) == [["b"]]
        first.ask(wire.query("reset role"))
        assert rows(second.ask(again)) == [["b"]]


def test_caches_follow_ddl(tessera, server, database):
    """A statement prepared before the table changed gives what the table is now, also where another client changed it."""
    proxy = tessera(config_of([server], database, pool={"size": 2}))
    with log_in(proxy, database) as changer, log_in(proxy, database) as reader:
        changer.ask(wire.query("create table d (id int, v text); insert into d values (1, 'one')"))
        prepare, run = wire.parse("select * from d", "star"), wire.bind(name="star") + wire.execute() + wire.SYNC
        assert rows(reader.ask(prepare + run)) == [["1", "one"]]
        changer.ask(wire.query("alter table d add column w int default 7"))
        with log_in(proxy, database) as third:
            assert rows(third.ask(prepare + run)) == [["1", "one", "7"]]
        assert rows(reader.ask(prepare.replace(b"star\0", b"next\0") + run.replace(b"star\0", b"next\0"))) == [["1", "one", "7"]]
        changer.ask(wire.query("drop table d; create table d (x text); insert into d values ('new')"))
        assert rows(reader.ask(wire.query("select * from d"))) == [["new"]]
        changer.ask(wire.query("drop table d"))
        assert code(reader.ask(wire.query("select * from d"))) == "42P01"


def test_a_revoked_right_is_gone_at_once(tessera, server, database):
    proxy = tessera(config_of([server], database, users=[{"name": "bob", "password": "bob"}], pool={"size": 1}))
    server.run("grant select on t to bob", database)
    statement = wire.parse("select v from t where id = $1", "s")
    run = wire.bind([b"3"], name="s") + wire.execute() + wire.SYNC
    with log_in(proxy, database, "bob", "bob") as bob:
        assert rows(bob.ask(statement + run)) == [["row 3"]]
        server.run("revoke select on t from bob", database)
        assert code(bob.ask(run)) == "42501"
        assert code(bob.ask(wire.query("select v from t where id = 3"))) == "42501"
