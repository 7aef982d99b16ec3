"""Cursors over several shards, by SQL and by portals with a row limit: what one plain server would have read from them."""

import contextlib

import psycopg
import pytest
from gathered import both  # noqa: F401
from harness import wire
from harness.tessera import database_config
from harness.wire import SYNC, bind, close_portal, describe_portal, describe_statement, execute, parse, query
from talk import code, errors, eventually, log_in, rows
from test_reload import reload

SCAN = "select id, name, mood from users"  # shard by shard
SORTED = "select id, amount, tags from orders where amount > 0 order by amount desc, id"  # on a merge node
JOINED = "select u.id, count(o.id) from users u left join orders o on o.amount > u.id group by u.id order by 1"


def said(connection, sql, parameters=None, **options):
    """Columns and rows, or what is said instead."""
    try:
        cursor = connection.execute(sql, parameters, **options)
    except psycopg.Error as error:
        return error.sqlstate, str(error).splitlines()[0] if error.sqlstate not in ("34000",) else ""
    if cursor.description is None:
        return cursor.statusmessage
    return cursor.statusmessage, [(column.name, column.type_code if column.type_code < 16384 else "own") for column in cursor.description], cursor.fetchall()


def same(sides, *statements):
    """In a transaction on each side; a pair is a statement and its parameters."""
    for statement in statements:
        statement = statement if isinstance(statement, tuple) else (statement,)
        through, one = (said(side, *statement) for side in sides[:2])
        assert through == one, statement
    return one


@pytest.fixture
def sides(both):  # noqa: F811
    yield both
    for side in both[:2]:
        side.execute("rollback")
        side.execute("close all")


def everything(connection, name, step, verb="fetch"):
    """What the cursor has, step by step."""
    found = []
    while True:
        status, _, some = said(connection, f"{verb} forward {step} from {name}")
        assert status == f"FETCH {len(some)}"
        found += some
        if len(some) < step:
            return found


@pytest.mark.parametrize("sql", [SCAN, "select * from events where weight is null", "table users"])
@pytest.mark.parametrize("step", [1, 7, 40, 1000])
def test_a_scan_is_read_in_steps(sides, sql, step):
    found = []
    for side in sides[:2]:
        with side.transaction():
            assert side.execute(f"declare c cursor for {sql}").statusmessage == "DECLARE CURSOR"
            found.append(sorted(everything(side, "c", step), key=repr))
            assert said(side, "fetch all c")[0] == "FETCH 0"
    assert found[0] == found[1] and found[0]


@pytest.mark.parametrize("sql", [SORTED, JOINED, "select max(id), sum(amount) from orders", "select 1 as one where 1 = 0"])
def test_what_is_ordered_is_read_in_steps(sides, sql):
    same(sides, "begin", f"declare c no scroll cursor for {sql}", "fetch c", "fetch 2 from c", "move 3 in c", "fetch next in c", "move forward 1 c", "fetch forward 200 from c",
         "fetch c", "fetch all c", "close c", "fetch c")
    assert sides[0].info.transaction_status == sides[1].info.transaction_status


@pytest.mark.parametrize("sql", [SORTED, "select id, country from users order by id", "select item from events group by item order by item"])
def test_in_any_direction(sides, sql):
    same(sides, "begin", f"declare c scroll cursor for {sql}", "fetch 3 from c", "fetch prior from c", "fetch absolute 5 from c", "fetch relative -2 from c", "fetch last from c",
         "fetch backward 4 from c", "fetch first c", "move absolute 2 in c", "fetch 0 from c", "move last c", "fetch c", "fetch backward all from c", "move 10 c", "fetch c", "close c", "commit")


def test_only_forward_where_it_is_not_said(sides):
    same(sides, "begin", f"declare c no scroll cursor for {SCAN} order by id", "fetch 3 from c", "savepoint s", "fetch prior from c", "rollback to s", "fetch c")


def test_a_cursor_is_of_the_moment_in_which_it_was_declared(sides):
    for sql in (SCAN, SORTED):
        found = []
        for side in sides[:2]:
            side.execute("begin")
            side.execute(f"declare c cursor for {sql}")
            first = said(side, "fetch 2 from c")[2]
            side.execute("update users set name = 'changed'")
            side.execute("delete from orders where amount > 10")
            side.execute("insert into users (id, name) values (1001, 'new'), (1002, 'new')")
            found.append(sorted(first + everything(side, "c", 9), key=repr))
            side.execute("rollback")
        assert found[0] == found[1]


def test_several_at_once_and_statements_in_between(sides):
    same(sides, "begin", "declare a cursor for select id from users order by id", "declare b cursor for select id from orders order by id, user_id", "fetch 2 from a", "fetch 3 from b",
         "select count(*) from users", "fetch 2 from a", "select name from users where id = 3", "fetch b", "declare a cursor for select 1")
    same(sides, "rollback", "begin", "fetch a")


def test_with_parameters(sides):
    for sql in ("select id, amount from orders where user_id > %s order by id, user_id", "select id from users where id = any(%s::bigint[]) order by id"):
        for value in (7, 40) if "any" not in sql else ([1, 2, 3, 4, 5, 6], []):
            for side in sides[:2]:
                with contextlib.suppress(psycopg.Error):
                    side.execute("rollback")
            found = []
            for side in sides[:2]:
                with side.transaction(), side.cursor("c", scrollable=False) as cursor:
                    cursor.execute(sql, [value])
                    found.append((cursor.fetchmany(3), cursor.fetchone(), cursor.fetchall(), [column.name for column in cursor.description]))
            assert found[0] == found[1]


@pytest.mark.parametrize("binary", [False, True])
def test_server_side_cursors_of_psycopg(sides, binary):
    for sql in (SCAN + " order by id", SORTED, "select at, weight, id, what from events order by id"):
        found = []
        for side in sides[:2]:
            with side.transaction(), side.cursor("named", binary=binary) as cursor:
                cursor.itersize = 7
                cursor.execute(sql)
                found.append(list(cursor))
        assert repr(found[0]) == repr(found[1]) and found[0]


@pytest.mark.parametrize("sql", [SCAN + " order by id", "select id, name from users where id < 30 order by id"])
def test_cursors_that_outlive_their_transaction(sides, sql):
    """As Django's iterator() declares them in autocommit."""
    found = []
    for side in sides[:2]:
        with side.cursor("held", scrollable=False, withhold=True) as cursor:
            cursor.execute(sql)
            first = cursor.fetchmany(5)
            side.execute("update users set name = name where id = 1")
            side.execute("begin")
            side.execute("select count(*) from orders")
            second = cursor.fetchmany(3)
            side.execute("rollback")
            found.append((first, second, cursor.fetchall()))
    assert found[0] == found[1] and len(found[0][2]) > 10
    same(sides, "fetch held", "declare h cursor with hold for select id from users order by id", "begin", "fetch h", "rollback", "fetch 2 from h", "close h", "fetch h")


def test_what_cannot_be_declared(sides):
    same(sides, f"declare c cursor for {SCAN}", "begin", "declare c cursor for select nothing from users", "rollback", "begin", f"declare c cursor for {SORTED}",
         "declare c cursor for select id / 0 from users", "rollback")
    through = sides[0]
    for sql in (f"declare c cursor with hold for {SCAN}", f"declare c binary cursor for {SCAN}"):
        with through.transaction(force_rollback=True):
            assert said(through, sql)[0] == "0A000"


def test_errors_stand_where_the_statement_has_them(sides):
    for query in ("select nothing from users", "select id from users where name = 1 order by name", "select sum(nothing) from orders"):
        places = []
        for side in sides[:2]:
            with pytest.raises(psycopg.Error) as failed, side.transaction():
                side.execute(f"declare \"é\" cursor for {query}")
            places.append((failed.value.sqlstate, failed.value.diag.statement_position))
        assert places[0] == places[1] and places[1][1], query


def test_an_error_while_reading(sides):
    for sql in ("select 10 / (id - 25) from users where id > 20 order by 1", "select 10 / (id - 25) from users where id > 20"):
        same(sides, "begin", f"declare c cursor for {sql}", "savepoint s", "fetch all from c", "fetch c", "rollback to s", "fetch c", "rollback", "fetch c")


def test_savepoints(sides):
    same(sides, "begin", f"declare a cursor for {SORTED}", "savepoint s", f"declare b cursor for {SORTED}", "fetch a", "fetch b", "rollback to s", "fetch a", "savepoint t", "fetch b", "rollback")
    same(sides, "begin", "savepoint s", "savepoint t", f"declare a cursor for {SORTED}", "release t", "fetch a", "rollback to s", "savepoint u", "fetch a", "rollback")
    same(sides, "begin", "savepoint s", f"declare a cursor for {SORTED}", "release s", "savepoint t", "fetch a", "rollback to t", "fetch a", "commit")
    same(sides, "begin", "savepoint s", "declare a cursor for select id from orders where user_id = 7 order by id", "rollback to s", "declare a cursor for select id from orders where user_id = 8 order by id",
         "fetch a", "savepoint t", f"declare b cursor for {SORTED}", "rollback to t", "declare b cursor for select 1 as one", "fetch a", "fetch b", "rollback")
    found = []
    for side in sides[:2]:  # shard by shard
        side.execute("begin")
        side.execute(f"declare a cursor for {SCAN}")
        some = said(side, "fetch 5 from a")[2]
        side.execute("savepoint s")
        side.execute("update users set name = 'x' where id < 9")
        side.execute("rollback to s")
        found.append(sorted(some + everything(side, "a", 4), key=repr))
        side.execute("rollback")
    assert found[0] == found[1]


def test_cursors_of_one_shard_are_found_from_others(sides):
    same(sides, "begin", "declare a cursor for select id, amount from orders where user_id = 7 order by id", "declare b cursor for select id, amount from orders where user_id = 8 order by id",
         "select count(*) from orders where user_id = 9", "fetch a", "fetch b", "fetch 2 from a", "select name from users where id = 21", "move 1 in b", "fetch all from b", "close a", "fetch a")
    same(sides, "rollback", "begin", "declare a cursor for select id from orders where user_id = 7 order by id", f"declare b cursor for {SORTED}", "close all", "fetch a", "rollback",
         "begin", "fetch b")


def test_close_all_closes_them_on_all_shards(sides):
    same(sides, "begin", "declare a cursor for select id from orders where user_id = 7", "declare b cursor for select id from orders where user_id = 8", f"declare c cursor for {SCAN}",
         "close all", "declare a cursor for select 1", "declare b cursor for select id from orders where user_id = 7", "commit")


def test_several_statements_in_one_message(sides):
    script = f"begin; declare c cursor for {SORTED}; fetch 3 from c; select 1; move 2 in c; fetch c; close c; commit"
    found = [[(result.ntuples, result.command_status, [result.get_value(i, 0) for i in range(result.ntuples)]) for result in every(side, script)] for side in sides[:2]]
    assert found[0] == found[1] and len(found[0]) == 8


def every(connection, script):
    cursor = connection.execute(script)
    results = [cursor.pgresult]
    while cursor.nextset():
        results.append(cursor.pgresult)
    return results


# ---- portals --------------------------------------------------------------------------------------------------------


@pytest.fixture
def wires(both, shards):  # noqa: F811
    through, one, proxy, database = both
    with log_in(proxy, database) as a, wire.connect(one.info.host, one.info.port, "app", one.info.dbname, "app") as b:
        yield a, b


def masked(replies):
    """Without the tables' numbers and the texts of errors."""
    kept = []
    for reply in replies:
        if reply.type == "E":
            kept.append(("E", wire.error_fields(reply.body)["C"]))
        elif reply.type == "T":
            kept.append(("T", len(reply.body)))
        elif reply.type not in "NS":
            kept.append((reply.type, reply.body))
    return kept


def both_say(wires, *units):
    for unit in units:
        through, one = (masked(side.ask(unit)) for side in wires)
        assert through == one, unit
    return one


ORDERED = "select id, amount, note from orders where amount > $1 order by id, user_id"


@pytest.mark.parametrize("portal", ["", "p"])
@pytest.mark.parametrize("result", [0, 1])
def test_a_portal_is_read_on(wires, portal, result):
    bound = parse(ORDERED) + bind([b"1"], portal=portal, result_formats=[result])
    both_say(wires, query("begin"), bound + describe_portal(portal) + execute(portal, 4) + SYNC)
    if portal:  # the unnamed one ends with the next Parse or query
        both_say(wires, execute(portal, 3) + SYNC, query("select count(*) from users"), execute(portal, 2) + execute(portal, 1) + SYNC, execute(portal, 1000) + execute(portal, 5) + SYNC,
                 execute(portal) + SYNC)
    both_say(wires, query("commit"), execute(portal, 1) + SYNC)


def test_all_at_once_behind_a_limit(wires):
    both_say(wires, query("begin"), parse(ORDERED) + bind([b"1"], portal="p") + execute("p", 4) + execute("p") + SYNC, close_portal("p") + SYNC, execute("p", 1) + SYNC, query("rollback"))


def test_portals_shard_by_shard(wires):
    """As JDBC reads with setFetchSize."""
    found = []
    for side in wires:
        side.ask(query("begin"))
        answers = side.ask(parse(SCAN, "s") + bind(portal="p", name="s") + describe_portal("p") + execute("p", 7) + SYNC)
        got = rows(answers)
        while "s" in [reply.type for reply in answers]:
            answers = side.ask(execute("p", 7) + SYNC)
            got += rows(answers)
            assert not code(answers)
        assert len(got) == 40
        found.append(sorted(got))
        assert code(side.ask(close_portal("p") + SYNC)) is None
        assert code(side.ask(execute("p", 1) + SYNC)) == "34000"
        side.ask(query("rollback"))
    assert found[0] == found[1]


def test_cursors_by_the_extended_protocol(wires):
    both_say(wires, query("begin"), parse(f"declare c cursor for {ORDERED}") + bind([b"1"]) + describe_portal() + execute() + SYNC, describe_portal("c") + SYNC,
             parse("fetch 3 from c", "f") + describe_statement("f") + SYNC)
    for result in (0, 1):
        both_say(wires, bind(name="f", result_formats=[result]) + describe_portal() + execute() + SYNC)
    both_say(wires, execute("c", 2) + SYNC, parse("move 2 in c") + bind() + describe_portal() + execute() + SYNC, parse("close c") + bind() + describe_portal() + execute() + SYNC,
             bind(name="f") + execute() + SYNC, query("rollback"))


def test_in_one_unit(wires):
    both_say(wires, query("begin") + parse(f"declare c cursor for {ORDERED}") + bind([b"1"]) + execute() + parse("fetch 2 from c") + bind() + execute() + bind() + execute() + SYNC,
             query("commit"))


def test_read_on_behind_a_lock(wires):
    """Gathering would have to wait for it; what is gathered need not."""
    both_say(wires, query("begin"), parse(ORDERED) + bind([b"1"], portal="p") + execute("p", 4) + SYNC, query(f"declare c cursor for {SORTED}"), query("lock table users in access exclusive mode"),
             execute("p", 3) + SYNC, query("fetch 2 from c"), query("rollback"))


def test_what_has_failed_cannot_be_run(wires):
    both_say(wires, query("begin"), parse("select note from orders where 1 / (id - id) > 0 order by note") + bind(portal="p") + SYNC, query("savepoint s"))
    assert code(wires[0].ask(execute("p", 1) + SYNC)) == "22012"
    wires[1].ask(execute("p", 1) + SYNC)
    both_say(wires, query("rollback to s"), execute("p", 1) + SYNC, query("rollback"))


# ---- what must not be left ------------------------------------------------------------------------------------------


def test_closed_portals_leave_nothing_on_the_shards(both):  # noqa: F811
    _, _, proxy, database = both

    def open_on(shard):
        return int(rows(side.ask(query(f"/* tessera: shard=s{shard} */ select count(*) from pg_cursors where name like 'tessera%'")))[0][0])

    with log_in(proxy, database) as side:
        side.ask(query("begin"))
        for n in range(3):
            side.ask(parse(SCAN) + bind(portal=f"p{n}") + execute(f"p{n}", 2) + SYNC)
            side.ask(query(f"declare c{n} cursor for {SCAN}"))
            assert rows(side.ask(query(f"fetch c{n}")))
            assert [open_on(shard) for shard in range(4)] == [2, 2, 2, 2]
            side.ask(close_portal(f"p{n}") + SYNC)
            side.ask(query(f"close c{n}"))
            assert [open_on(shard) for shard in range(4)] == [0, 0, 0, 0]
        side.ask(query("rollback"))


def busy(through):
    """Connections of other sessions that are in a transaction, on all shards."""
    asked = "select count(*) from pg_stat_activity where state like 'idle in transaction%' and datname = current_database()"
    return sum(through.execute(f"/* tessera: shard=s{shard} */ {asked}").fetchone()[0] for shard in range(4))


@pytest.mark.parametrize("ending", ["commit", "rollback", "close", "leave", "error"])
def test_the_merge_nodes_connection_comes_back(both, ending):  # noqa: F811
    through, _, proxy, database = both
    before = busy(through)
    for hold in ("", "with hold"):
        with log_in(proxy, database) as side:
            if not hold:
                side.ask(query("begin"))
            assert code(side.ask(query(f"declare c cursor {hold} for {SORTED}"))) is None
            assert rows(side.ask(query("fetch 2 from c")))
            assert busy(through) > before
            if ending == "error":
                side.ask(query("select 1 / 0"))
                side.ask(query("rollback"))
            elif ending in ("commit", "rollback"):
                side.ask(query(ending))
            elif ending == "close":
                side.ask(query("close c") + query("commit"))
            if hold and ending in ("commit", "rollback", "error"):
                assert rows(side.ask(query("fetch c")))
        eventually(lambda: busy(through) == before, what=f"{ending} {hold}")


def test_a_session_with_a_held_cursor_does_not_move_to_other_shards(shards, new_database, tessera):
    """Its rows are kept on a connection of the shards that were."""
    servers = shards(2)
    database = new_database(servers, "create table t (id bigint primary key); insert into t select generate_series(1, 9)")
    config = {"databases": {database: database_config(servers, database, rules={"r": {"type": "hash", "shards": ["s0", "s1"]}}, tables={"t": {"rule": "r", "key": "id"}})}}
    proxy = tessera(config)
    with log_in(proxy, database) as holding, log_in(proxy, database) as free:
        assert code(holding.ask(query("declare c cursor with hold for select id from t"))) is None
        assert rows(holding.ask(query("fetch c")))
        assert "cursors with hold" in rows(holding.ask(query("show tessera.sessions")))[0]
        shape = config["databases"][database]
        shape["shards"] = {"t" + name[1:]: shard for name, shard in shape["shards"].items()}
        shape["rules"]["r"]["shards"] = ["t0", "t1"]
        if "default_shard" in shape:
            shape["default_shard"] = "t0"
        assert reload(proxy, config)
        assert rows(free.ask(query("select count(*) from t"))) == [["18"]]
        holding.send(query("fetch c"))
        assert [error["C"] for error in errors(holding.read_to_end())] == ["57P01"]
    proxy.check_log()
