"""Several statements in one simple query, over several shards: the answers and the rows of one plain server."""

import pytest
from harness import wire
from harness.postgres import BIN
from talk import code, errors, eventually, rows
from test_definitions import COLORS, ORDERS, USERS, both, pair, same_schema  # noqa: F401
from test_spanning_transactions import told

FOUR = "insert into users values (1, 'a', 'r'), (2, 'b', 'g'), (3, 'c', null), (4, 'd', 'r')"

SCRIPTS = {
    "a migration": f"{USERS}; {COLORS};\n-- rows\ninsert into colors values ('r', 'red'), ('g', 'green'); {FOUR}; create index on users (name); select name from users where id = 3",
    "a migration in its own transaction": f"begin; {USERS}; {ORDERS}; {FOUR}; alter table users add column age int default 7; update users set age = age + id; commit; select * from users order by id",
    "keys of several shards": "insert into users values (5, 'e', 'r'); insert into users values (6, 'f', 'g'); insert into users values (7, 'g', 'g'); select name from users where id = 6; select count(*) from users",
    "an error undoes all": "insert into users values (8, 'h', 'r'); insert into users values (9, 'i', 'g'); select 1 / (id - 9) from users where id = 9; insert into users values (10, 'k', 'g')",
    "an error of a gather": "delete from users where id = 1; select 1 / (count(*) - count(*)) from users; delete from users where id = 2",
    "an error in its own transaction": "begin; delete from users; select nothing from users; commit; select 1",
    "what is behind the end": "begin; delete from users where id in (1, 2, 3); rollback; select count(*) from users; delete from users where id = 4",
    "a transaction left open": "begin; update users set name = 'x'; select name from users where id = 1",
    "a rollback at the end": "begin; update users set name = 'x'; select count(*) from users where name = 'x'; rollback",
    "savepoints": "begin; delete from users where id = 1; savepoint s; delete from users; rollback to s; release s; commit; select id from users order by id",
    "settings": "set datestyle to german; select count(*), date '2024-12-31' from users; reset datestyle; select date '2024-12-31', count(*) from users",
    "settings that are undone": "set datestyle to german; select count(*) from users; select nothing from users",
    "settings of the transaction": "set local datestyle to german; select count(*), date '2024-12-31' from users",
    "a search path": "select set_config('search_path', 'public', false); select count(*) from users; set search_path to nowhere; select count(*) from users",
    "only settings": "select set_config('datestyle', 'german', false); select set_config('timezone', 'UTC', false)",
    "what a block refuses": "select count(*) from users; vacuum users",
    "empty statements": ";;select count(*) from users;; select name from users where id = 2;",
    "a syntax error": "select count(*) from users; selec 1",
    "prepared": "prepare p as select name from users where id = 3; select count(*) from users; execute p; deallocate p; deallocate p",
    "cursors of a shard": "declare c cursor for select name from users where id = 3; fetch c; select count(*) from users",
    "locks": "lock table users; select id from users; delete from users where id = 3",
    "no rows": "select * from users where id = 77; select * from users where id < 0 order by 1; delete from users where id > 70",
    "copies": "insert into colors values ('b', 'blue'); update colors set name = upper(name); select count(*) from colors, users",
    "a commit that fails": "alter table users add constraint u unique (id) deferrable initially deferred; insert into users values (1, 'twice', null); select count(*) from users",
    "drop and make again": "drop table users; create table users (id bigint primary key, y int); insert into users values (1, 1), (2, 2), (3, 3); select * from users",
    "a failed one behind a commit": "begin; insert into users values (11, 'k', null); commit; insert into users values (12, 'k', null); insert into users values (11, 'k', null), (13, 'k', null)",
}


def fresh(pair):  # noqa: F811
    for connection in pair[:2]:
        for statement in (USERS, COLORS, FOUR, "insert into colors values ('r', 'red'), ('g', 'green')"):
            assert code(connection.ask(wire.query(statement))) is None


@pytest.mark.parametrize("name", SCRIPTS)
def test_as_one_server(pair, name):  # noqa: F811
    script = SCRIPTS[name]
    if "migration" not in name:
        fresh(pair)
    after = "select * from users order by id", "show datestyle", "show search_path"
    told_of = [[told(connection.ask(wire.query(statement))) for statement in (script, *after)] for connection in pair[:2]]
    assert told_of[0] == told_of[1]
    answers = [[(reply.type, bytes(reply.body)) for reply in connection.ask(wire.query("rollback")) if reply.type in "CZE"] for connection in pair[:2]]
    assert answers[0] == answers[1]
    if "users" in script:
        same_schema(pair)


def test_in_a_transaction_that_is_open(pair):  # noqa: F811
    fresh(pair)
    for statement in ("begin", "delete from users where id = 1; delete from users where id = 2; select count(*) from users", "select count(*) from users; select nothing from users; select 1", "select 1; select count(*) from users", "rollback", "select count(*) from users"):
        answers = [told(connection.ask(wire.query(statement))) for connection in pair[:2]]
        assert answers[0] == answers[1], statement


def test_places_of_errors_are_those_in_the_whole(pair):  # noqa: F811
    fresh(pair)
    script = "select count(*) from users; select 'é', nothing from users where id = 1"
    places = [[wire.error_fields(reply.body)["P"] for reply in connection.ask(wire.query(script)) if reply.type == "E"] for connection in pair[:2]]
    assert places[0] == places[1] and len(places[0]) == 1


def test_the_data_of_copies(pair):  # noqa: F811
    """Data comes when its COPY has begun; what stands behind it runs when it has ended."""
    fresh(pair)
    script = "select count(*) from users; copy users from stdin; select count(*) from users; copy orders from stdin; copy (select * from users where id = 21) to stdout; select count(*) from users where id > 20"
    for connection in pair[:2]:
        assert code(connection.ask(wire.query(ORDERS))) is None
    data = [wire.copy_data(b"21\tx\ty\n22\tx\ty\n23\tx\ty\n") + wire.COPY_DONE, wire.copy_data(b"21\t1\tz\n") + wire.COPY_DONE]
    answers = []
    for connection in pair[:2]:
        connection.send(wire.query(script))
        replies = connection.read_until("G") + [reply for part in data[:1] for reply in connection.send(part) or connection.read_until("G")]
        connection.send(data[1])
        replies += connection.read_until("Z")
        answers.append([(reply.type, bytes(reply.body)) for reply in replies if reply.type in "CDGHdcZE"])
    assert answers[0] == answers[1]
    assert [kind for kind, _ in answers[0]].count("Z") == 1


def test_one_behind_the_other(pair):  # noqa: F811
    """What the client sends behind it without waiting comes behind all of it."""
    fresh(pair)
    messages = wire.query("select count(*) from users; delete from users where id = 1; select count(*) from users") + wire.query("select name from users where id = 2") + wire.query("delete from users; select count(*) from users")
    answers = []
    for connection in pair[:2]:
        connection.send(messages)
        answers.append([(reply.type, bytes(reply.body)) for _ in range(3) for reply in connection.read_until("Z") if reply.type in "CDZE"])
    assert answers[0] == answers[1]


def test_it_runs_although_the_client_has_gone(pair):  # noqa: F811
    through, _, servers, database, _, _, proxy = pair
    fresh(pair)
    with wire.connect(proxy.host, proxy.port, "app", database, "app", timeout=30) as leaving:
        leaving.send(wire.query("delete from users where id = 1; select count(*) from users; delete from users where id = 2") + wire.TERMINATE)
        leaving.read_to_end()
    assert rows(through.ask(wire.query("select id from users order by id"))) == [["3"], ["4"]]


def test_a_shard_that_is_lost_in_it(pair):  # noqa: F811
    """In the middle of a statement: one error, and nothing of the others stays."""
    through, _, servers, database, *_ = pair
    fresh(pair)
    through.send(wire.query("delete from users where id = 1; delete from users where id = 2; select pg_sleep(60) from users where id = 3; delete from users where id = 4"))
    kill = "select count(pg_terminate_backend(pid)) from pg_stat_activity where query like '%pg_sleep(60)%' and state = 'active' and pid <> pg_backend_pid()"
    eventually(lambda: any(server.run(kill, database).strip() == "1" for server in servers), what="the statement at work")
    replies = through.read_until("Z")
    assert [reply.type for reply in replies].count("E") == 1 and replies[-1].body == b"I"
    assert code(replies) in ("57P01", "08006"), errors(replies)
    assert rows(through.ask(wire.query("select count(*) from users"))) == [["4"]]


REFUSED = {
    "a begin behind others": "delete from users; begin; delete from users",
    "a commit of nothing begun": "delete from users where id = 1; delete from users where id = 2; commit; delete from users where id = 3",
    "a savepoint without begin": "select count(*) from users; savepoint s",
}


@pytest.mark.parametrize("script", REFUSED.values(), ids=REFUSED)
def test_refused_before_anything_runs(pair, script):  # noqa: F811
    through = pair[0]
    fresh(pair)
    replies = through.ask(wire.query(script))
    assert code(replies) == "0A000" and "before BEGIN" in errors(replies)[0]["M"]
    assert [reply.type for reply in replies] == ["E", "Z"]
    assert rows(through.ask(wire.query("select count(*) from users"))) == [["4"]]


def test_a_file_of_pg_dump(pair):  # noqa: F811
    """As a tool sends it that does not take files apart."""
    import subprocess

    _, one, _, _, plain, single, _ = pair
    for statement in (USERS, COLORS, ORDERS, FOUR, "insert into colors values ('r', 'red')", "insert into orders select id, id, name from users", "create index on orders (note)", "alter table orders add constraint kept foreign key (user_id) references users (id)", "create view named as select name from users"):
        assert code(one.ask(wire.query(statement))) is None
    dump = subprocess.run([BIN / "pg_dump", "--inserts", "--no-owner", f"postgresql://postgres:postgres@127.0.0.1:{plain.port}/{single}"], capture_output=True, text=True, check=True).stdout
    script = "\n".join(line for line in dump.splitlines() if not line.startswith("\\"))
    script = script.replace("CREATE SCHEMA public;", "")
    through = pair[0]
    replies = through.ask(wire.query(script))
    assert code(replies) is None, errors(replies)
    same_schema(pair)
    counts = "select (select count(*) from public.users), (select count(*) from public.orders), (select count(*) from public.named)"
    assert rows(through.ask(wire.query(counts))) == rows(one.ask(wire.query(counts))) == [["4", "4", "4"]]


FAILING = {
    "a savepoint that there is not": "begin; release savepoint nope; delete from users; commit; delete from users where id = 1; delete from users where id = 2",
    "a rollback to nothing": "begin; savepoint a; rollback to nope; rollback to a; delete from users; commit",
    "an error before a shard has joined": "begin; savepoint a; rollback to nope; rollback; delete from users where id in (1, 2)",
}


@pytest.mark.parametrize("script", FAILING.values(), ids=FAILING)
def test_an_error_of_ours_ends_it_as_well(pair, script):  # noqa: F811
    fresh(pair)
    answers = [[told(connection.ask(wire.query(statement))) for statement in (script, "rollback", "select count(*) from users")] for connection in pair[:2]]
    assert answers[0] == answers[1]


def test_what_changes_how_the_rest_is_read(pair):  # noqa: F811
    """One server has read the whole text before it runs the first statement."""
    through = pair[0]
    fresh(pair)
    replies = through.ask(wire.query("set client_encoding to latin1; insert into users values (5, 'é', null); insert into users values (6, 'é', null)"))
    assert code(replies) == "0A000" and "one server has read them by then" in errors(replies)[0]["M"]
    same = "set client_encoding to 'UTF8'; set standard_conforming_strings = on; select set_config('search_path', 'public', false); insert into users values (5, 'é\\', null); insert into users values (6, 'é', null)"
    assert code(through.ask(wire.query(same))) is None
    assert rows(through.ask(wire.query("select octet_length(name) from users where id = 5"))) == [["3"]]
