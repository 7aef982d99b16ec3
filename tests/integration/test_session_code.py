"""What functions, procedures and DO blocks leave in a session stays with it and is nobody else's, as on a plain server.

Every scenario is played twice: by two clients of a plain server, and by two clients of Tessera, which has two connections for them.
"""

import pytest
from harness import wire
from talk import ask, config_of, eventually, log_in, value

SCHEMA = """
create table t (id int primary key, v text);
insert into t select i, 'row ' || i from generate_series(1, 20) i;
create function locks(k int) returns text language plpgsql as $$ begin perform pg_advisory_lock(k); return 'held'; end $$;
create function tries(k int) returns boolean language sql as 'select pg_try_advisory_lock(k)';
create function unlocks(k int) returns boolean language sql as 'select pg_advisory_unlock(k)';
create function calls_locks(k int) returns text language sql begin atomic select locks(k); end;
create function "Calls"(k int) returns text language plpgsql as $$ declare r text; begin execute 'select calls_locks($1)' into r using k; return r; end $$;
create function locks_row(r t) returns boolean language sql as 'select pg_try_advisory_lock(r.id)';
create function locks_by_row() returns boolean language sql as 'select t.locks_row from t where id = 7';
create view locking as select tries(8) as held;
create view over_it as select held from locking;
create function reads_view() returns boolean language sql as 'select held from over_it';
create procedure makes_table() language plpgsql as $$ begin create temp table own (v int); insert into own values (42); end $$;
create procedure nests() language plpgsql as $$ begin call makes_table(); end $$;
create function sets(v text) returns void language plpgsql as $$ begin perform set_config('my.tenant', v, false); end $$;
create function set_plainly() returns void language plpgsql as $$
begin
  /* a comment */ if true then set work_mem = '7MB'; end if;
end $$;
create function by_string() returns void language plpgsql as $$ begin execute format('set work_mem = %L', '8MB'); end $$;
create function holds() returns void language plpgsql as $$ begin execute 'declare held cursor with hold for select id from t order by id'; end $$;
create function prepares() returns void language plpgsql as $$ begin execute 'prepare hidden as select 43'; end $$;

create function updates() returns int language plpgsql as $$
declare n int;
begin
  update t
  set v = v where id = 1;
  insert into t values (1, 'x') on conflict (id) do update set v = t.v;
  create temp table scratch (v int) on commit drop;
  execute format('insert into %I (v) values (%L)', 'scratch', 1);
  set local work_mem = '9MB';
  perform set_config('my.tenant', 'nobody', true);
  perform pg_advisory_xact_lock(77), pg_try_advisory_xact_lock(78);
  select count(*) into n from scratch;
  return n;
end $$;
create function calls_updates() returns int language sql as 'select updates()';
"""

CODE, FREE = "code", ""
TENANT = "select coalesce(current_setting('my.tenant', true), '')"
# By name: what pins the first client's session afterwards, and the statements of clients "a" and "b".
SCENARIOS = {
    "a lock": (CODE, [("a", "select locks(1)"), ("b", "select tries(1)"), ("a", "select 1"), ("b", "select tries(1)"), ("a", "select unlocks(1)"), ("b", "select tries(1)")]),
    "a lock that was tried for": (CODE, [("a", "select tries(1)"), ("b", "select tries(1)"), ("a", "select unlocks(1)"), ("a", "select unlocks(1)"), ("b", "select tries(1)")]),
    "a lock in a standard body": (CODE, [("a", "select calls_locks(2)"), ("b", "select tries(2)"), ("a", "select unlocks(2)")]),
    "a lock far down": (CODE, [("a", 'select "Calls"(3)'), ("b", "select tries(3)"), ("a", "select unlocks(3)")]),
    "a lock by field notation": (CODE, [("a", "select t.locks_row from t where id = 4"), ("b", "select tries(4)"), ("a", "select unlocks(4)")]),
    "a lock by field notation in a function": (CODE, [("a", "select locks_by_row()"), ("b", "select tries(7)"), ("a", "select unlocks(7)")]),
    "a lock by a view": (CODE, [("a", "select held from over_it"), ("b", "select tries(8)"), ("a", "select unlocks(8)")]),
    "a lock by a function over a view": (CODE, [("a", "select reads_view()"), ("b", "select tries(8)"), ("a", "select unlocks(8)")]),
    "a lock in DO": (CODE, [("a", "do $$ begin perform pg_advisory_lock(5); end $$"), ("b", "select tries(5)"), ("a", "select unlocks(5)")]),
    "a lock by a function in DO": (CODE, [("a", "do language plpgsql 'begin perform locks(6); end'"), ("b", "select tries(6)"), ("a", "select unlocks(6)")]),
    "a lock in a string": (CODE, [("a", "select query_to_xml('select tries(9)', true, true, '') is null"), ("b", "select tries(9)"), ("a", "select unlocks(9)")]),
    "a table of a procedure": (CODE, [("a", "call makes_table()"), ("b", "select v from own"), ("a", "select v from own"), ("a", "drop table own"), ("a", "select v from own")]),
    "a table of a nested procedure": (CODE, [("a", "call nests()"), ("b", "select v from own"), ("a", "select v from own")]),
    "a table of DO": (CODE, [("a", "do $$ begin create temp table own as select 1 as v; end $$"), ("b", "select v from own"), ("a", "select v from own")]),
    "a setting": (CODE, [("a", "select sets('x')"), ("b", TENANT), ("a", TENANT), ("b", "select sets('y')"), ("a", TENANT), ("b", TENANT)]),
    "a plain SET": (CODE, [("a", "select set_plainly()"), ("b", "show work_mem"), ("a", "show work_mem"), ("a", "reset work_mem"), ("a", "show work_mem")]),
    "a SET in a string": (CODE, [("a", "select by_string()"), ("b", "show work_mem"), ("a", "show work_mem")]),
    "an UPDATE that is a SET": (CODE, [("a", "update pg_settings set setting = '7000' where name = 'work_mem'"), ("b", "show work_mem"), ("a", "show work_mem")]),
    "a SET in DO": (CODE, [("a", "do $$ begin set work_mem = '6MB'; end $$"), ("b", "show work_mem"), ("a", "show work_mem")]),
    "a cursor": (CODE, [("a", "select holds()"), ("b", "fetch 2 from held"), ("a", "fetch 2 from held"), ("a", "fetch 2 from held"), ("a", "close held")]),
    "a prepared statement": ("PREPARE, code", [("a", "select prepares()"), ("b", "select 1"), ("a", "execute hidden"), ("a", "deallocate hidden"), ("a", "execute hidden")]),
    "DISCARD ALL": (FREE, [("a", "select locks(1)"), ("a", "call makes_table()"), ("b", "select tries(1)"), ("a", "discard all"), ("b", "select tries(1)"), ("a", "select v from own")]),
    "in a transaction": (CODE, [("a", "begin"), ("a", "select locks(1)"), ("a", "call makes_table()"), ("a", "rollback"), ("b", "select tries(1)"), ("a", "select v from own"), ("a", "select unlocks(1)")]),
    "nothing that stays": (FREE, [("a", "select updates()"), ("a", TENANT), ("a", "show work_mem"), ("b", "select pg_try_advisory_lock(77)"), ("a", "select v from scratch")]),
    "nothing that stays, far down": (FREE, [("a", "select calls_updates()"), ("b", "select pg_try_advisory_lock(77)")]),
    "nothing that stays, in DO": (FREE, [("a", "do $$ begin perform updates(); update t set v = v; end $$"), ("a", "do $$ begin set local work_mem = '5MB'; end $$"), ("a", "show work_mem")]),
}


def simple(connection, sql):
    return ask(connection, sql)


def extended(connection, sql):
    replies = connection.ask(wire.parse(sql) + wire.bind() + wire.execute() + wire.SYNC)
    failed = [wire.error_fields(reply.body)["C"] for reply in replies if reply.type == "E"]
    return failed or [reply.body for reply in replies if reply.type == "D"]


@pytest.fixture(scope="module")
def server(shards):
    return shards(1)[0]


@pytest.fixture(scope="module")
def database(server, new_database):
    return new_database([server], SCHEMA)


def config(server, database, **more):
    return config_of([server], database, pool={"size": 2, "checkout_timeout": "3s"}, **more)


def pinned(connection):
    return ask(connection, "show tessera.session")[0][4]


def play(clients, steps, way):
    return [(who, sql, way(clients[who], sql)) for who, sql in steps]


@pytest.mark.parametrize("way", [simple, extended])
@pytest.mark.parametrize("name", SCENARIOS)
def test_the_session_keeps_what_its_code_made(tessera, server, database, new_database, name, way):
    pin, steps = SCENARIOS[name]
    proxy = tessera(config(server, database))
    plain = new_database([server], SCHEMA)
    with wire.connect(server.host, server.port, "app", plain, "app") as a, wire.connect(server.host, server.port, "app", plain, "app") as b:
        expected = play({"a": a, "b": b}, steps, way)
    with log_in(proxy, database) as a, log_in(proxy, database) as b:
        assert play({"a": a, "b": b}, steps, way) == expected
        assert pinned(a) == pin


def test_the_end_of_the_session_gives_it_back(tessera, server, database):
    proxy = tessera(config(server, database))
    with log_in(proxy, database) as b:
        with log_in(proxy, database) as a:
            assert value(a, "select locks(1)") == "held" and value(b, "select tries(1)") == "f"
            ask(a, "call makes_table()")
        eventually(lambda: value(b, "select tries(1)") == "t")
        assert ask(b, "select v from own") == "42P01"


def test_the_configuration_vouches_for_functions(tessera, server, database):
    """Nor is a session pinned by what calls them."""
    proxy = tessera(config(server, database, read_only_functions=["sets"]))
    with log_in(proxy, database) as a:
        ask(a, "select sets('x')")
        ask(a, "do $$ begin perform sets('x'); end $$")
        assert pinned(a) == ""
        ask(a, "select locks(1)")
        assert pinned(a) == "code"


def test_one_shape_of_do_is_judged_by_each_body(tessera, server, database):
    proxy = tessera(config(server, database))
    with log_in(proxy, database) as a:
        for number in range(3):
            ask(a, f"do $$ begin set local work_mem = '{number + 1}MB'; end $$")
            assert pinned(a) == ""
        ask(a, "do $$ begin set work_mem = '3MB'; end $$")
        assert pinned(a) == "code"


def test_functions_made_and_replaced_through_tessera(tessera, server, new_database):
    name = new_database([server], SCHEMA + "grant all on schema public to app")
    proxy = tessera(config(server, name, catalog_interval="0s"))
    with log_in(proxy, name) as a, log_in(proxy, name) as b:
        assert value(a, "select 1") == "1"
        body = "create or replace function fresh() returns int language plpgsql as $$ begin {} return 1; end $$"
        for sql in ("", "perform pg_advisory_lock(1);", "", "perform pg_advisory_lock(2);"):
            # At once, before the catalog has been read again.
            assert ask(a, body.format(sql)) == [] and ask(a, "select fresh()") == [["1"]]
            assert sql == "" or pinned(a) == "code"
            ask(a, "discard all")
        assert ask(a, body.format("") + "; " + body.format("set work_mem = '7MB';") + "; select fresh(); select 1") == [["1"], ["1"]]
        assert pinned(a) == "code" and value(a, "show work_mem") == "7MB" and value(b, "show work_mem") == "4MB"
        eventually(lambda: ask(b, "select fresh()") == [["1"]] and pinned(b) == "code")
        # What it called was another's; now it is harmless, and known to be.
        ask(b, "discard all")
        assert ask(b, "create or replace function calls_fresh() returns int language sql as 'select fresh()'") == []
        ask(b, "discard all")
        assert ask(a, body.format("")) == []

        def harmless():
            ask(b, "discard all")
            return ask(b, "select calls_fresh()") == [["1"]] and pinned(b) == ""

        eventually(harmless)


def test_a_function_that_is_not_known_is_taken_for_one_that_stays(tessera, server, new_database):
    name = new_database([server], SCHEMA)
    proxy = tessera(config(server, name, catalog_interval="0s"))
    with log_in(proxy, name) as a:
        assert value(a, "select 1") == "1"
        server.run("create function later() returns void language sql as 'select pg_advisory_lock(3)'", name)
        ask(a, "select later()")
        assert pinned(a) == "code" and value(a, "select unlocks(3)") == "t"


@pytest.mark.parametrize("way", [simple, extended])
def test_over_several_shards(tessera, shards, new_database, way):
    """A session that is pinned on one shard keeps that connection while it works on the other."""
    servers = shards(2)
    name = new_database(servers, SCHEMA)
    rules = {"rules": {"r": {"type": "range", "ranges": [{"below": "10", "shard": "s0"}, {"shard": "s1"}]}}, "tables": {"t": {"rule": "r", "key": "id"}}}
    proxy = tessera(config_of(servers, name, pool={"size": 2, "checkout_timeout": "3s"}, **rules))
    with log_in(proxy, name) as a, log_in(proxy, name) as b:
        for key in (1, 11):
            assert way(a, f"select tries(100) from t where id = {key}") == way(b, f"select true from t where id = {key}")
        assert pinned(a) == "code"
        for key in (1, 11):
            assert way(b, f"select tries(100) from t where id = {key}") == way(b, f"select false from t where id = {key}")
        for key in (1, 11):
            assert way(a, f"select unlocks(100) from t where id = {key}") == way(b, f"select true from t where id = {key}")
