"""Reloads between configurations that are really different: other bounds, rules, kinds, shards by other names and in another order.

Every server holds all keys and each answer names its server, so that every answer can be checked (tests/chaos/shapes.py).
TESSERA_RELOADS=1000 makes the storm as long as `./dev chaos` does.
"""

import concurrent.futures
import copy
import os
import time

import pytest
from chaos.reload_storm import Storm
from chaos.shapes import SCHEMA, Shapes
from harness import wire
from harness.meddler import Harm, Meddler
from talk import code, eventually, log_in, rows, value
from test_reload import reload

RELOADS = int(os.environ.get("TESSERA_RELOADS", "200"))
NAMES = ["bounds moved", "rules swapped", "rules of the tables swapped", "rules written in another order", "shards of the ranges turned", "a directory in a rule's place",
         "a hash in a rule's place", "shards in another order", "shards renamed", "shards have swapped their names", "a shard less", "one table plain",
         "one table on a shard", "both tables plain"]


@pytest.fixture(scope="module")
def servers(shards):
    return shards(3)


@pytest.fixture(scope="module")
def all_shapes(servers, new_database):
    return Shapes(servers, new_database(servers, SCHEMA), pool={"checkout_timeout": "10s"})


@pytest.fixture
def shapes(all_shapes):
    """With no update counted yet."""
    for server in all_shapes.servers:
        server.run("update t set n = 0; update u set n = 0", all_shapes.database)
    return all_shapes


def by_name(shapes, name):
    return next(shape for shape in shapes.all() if shape.name == name)


def ask(connection, table, key, way):
    if way == "simple":
        return connection.ask(wire.query(f"select v from {table} where id = {key}"))
    if way == "prepared":
        return connection.ask(wire.bind([str(key).encode()], name="s" + table), wire.execute(), wire.SYNC)
    return connection.ask(wire.parse(f"select v from {table} where id = $1"), wire.bind([str(key).encode()]), wire.execute(), wire.SYNC)


def check_all(connection, shape, ways=("simple", "prepared", "unnamed")):
    for way in ways:
        for table in "tu":
            for key in range(1, 101, 3):
                replies = ask(connection, table, key, way)
                assert rows(replies) == [[shape.place(table, key)]], (shape.name, way, table, key, replies)


def test_the_list_of_shapes_is_whole(shapes):
    assert [shape.name for shape in shapes.all()] == ["two ranges", *NAMES]


@pytest.mark.parametrize("name", NAMES)
def test_to_another_shape_and_back(tessera, shapes, name):
    """Sessions, prepared statements and a transaction that were there before."""
    old, new = by_name(shapes, "two ranges"), by_name(shapes, name)
    proxy = tessera(old.config)
    with log_in(proxy, shapes.database) as first, log_in(proxy, shapes.database) as open_one:
        for connection in (first, open_one):
            for table in "tu":
                connection.ask(wire.parse(f"select v from {table} where id = $1", "s" + table), wire.SYNC)
        check_all(first, old)
        for before, after in ((old, new), (new, old)):
            open_one.ask(wire.query("begin"))
            assert value(open_one, "select v from t where id = 10") == before.place("t", 10)
            assert reload(proxy, after.config)
            time.sleep(0.3)
            check_all(first, after)
            with log_in(proxy, shapes.database) as fresh:
                check_all(fresh, after, ("simple", "unnamed"))
            for way in ("simple", "prepared", "unnamed"):
                assert rows(ask(open_one, "t", 10, way)) == [[before.place("t", 10)]], "it stays where it began"
            assert code(open_one.ask(wire.query("update t set n = n + 1 where id = 10"))) is None
            assert open_one.ask(wire.query("commit"))[0].body == b"COMMIT\0"
            check_all(open_one, after)


def test_what_has_begun_never_meets_the_servers_of_other_rules(tessera, shapes):
    """BEGIN alone has no server yet. By the old rules key 86 is on s1, which is another server now; and that one has it under no rules."""
    old, new = by_name(shapes, "shards of the ranges turned"), by_name(shapes, "shards have swapped their names")
    proxy = tessera(old.config)
    with log_in(proxy, shapes.database) as client:
        for before, after in ((old, new), (new, old)):
            client.ask(wire.query("begin"))
            assert reload(proxy, after.config)
            time.sleep(0.3)
            assert value(client, "select v from t where id = 86") in (before.place("t", 86), after.place("t", 86))
            client.ask(wire.query("commit"))
            check_all(client, after, ("simple", "unnamed"))


def test_an_open_pipeline_and_an_open_portal_end_where_they_began(tessera, shapes):
    old, new = by_name(shapes, "two ranges"), by_name(shapes, "shards of the ranges turned")
    proxy = tessera(old.config)
    with log_in(proxy, shapes.database) as portal, log_in(proxy, shapes.database) as unit:
        portal.ask(wire.query("begin"))
        portal.send(wire.parse("select v from t where id = $1 union all select 'second' union all select 'third'") + wire.bind([b"10"], portal="p") + wire.execute("p", 1) + wire.FLUSH)
        assert rows(portal.read_until("s")) == [[old.place("t", 10)]]
        unit.send(wire.parse("update t set n = n + 1 where id = $1 returning v", "w") + wire.bind([b"11"], name="w") + wire.execute() + wire.FLUSH)
        assert rows(unit.read_until("C")) == [[old.place("t", 11)]]
        assert reload(proxy, new.config)
        time.sleep(0.3)
        replies = portal.ask(wire.execute("p", 0), wire.SYNC)
        assert rows(replies) == [["second"], ["third"]], replies
        assert portal.ask(wire.query("commit"))[0].body == b"COMMIT\0"
        replies = unit.ask(wire.bind([b"11"], name="w"), wire.execute(), wire.SYNC)
        assert rows(replies) == [[old.place("t", 11)]], replies
        assert rows(unit.ask(wire.bind([b"11"], name="w"), wire.execute(), wire.SYNC)) == [[new.place("t", 11)]]


def test_a_login_that_waits_for_the_catalog_goes_on_in_the_new_shape(tessera, shapes):
    """The first client's login reads the catalog; the server that is asked for it never answers, and then it is no shard any more."""
    old, new = by_name(shapes, "two ranges"), by_name(shapes, "shards renamed")
    with Meddler(shapes.servers[0].port) as middle, concurrent.futures.ThreadPoolExecutor(1) as aside:
        middle.add(Harm("hang", kind="T"))
        config = copy.deepcopy(old.config)
        config["databases"][shapes.database]["shards"]["s0"]["primary"] = middle.address
        proxy = tessera(config)
        login = aside.submit(log_in, proxy, shapes.database, timeout=20)
        eventually(lambda: middle.done == 1)
        assert reload(proxy, new.config)
        started = time.monotonic()
        with login.result() as client:
            assert time.monotonic() - started < 5
            check_all(client, new, ("simple", "unnamed"))


def test_invalid_files_change_nothing(tessera, shapes):
    good = by_name(shapes, "two ranges")
    proxy = tessera(good.config)
    with log_in(proxy, shapes.database) as connection:
        for table in "tu":
            connection.ask(wire.parse(f"select v from {table} where id = $1", "s" + table), wire.SYNC)
        for bad in shapes.invalid():
            if isinstance(bad, str):
                proxy.config_file.write_text(bad)
                assert not reload(proxy), bad
            else:
                assert not reload(proxy, bad), bad
            check_all(connection, good)


KINDS = {
    "bounds": ["two ranges", "bounds moved", "rules written in another order"],
    "rules": ["two ranges", "rules swapped", "rules of the tables swapped", "shards of the ranges turned"],
    "kinds": ["two ranges", "a directory in a rule's place", "a hash in a rule's place"],
    "shards": ["two ranges", "shards in another order", "shards renamed", "shards have swapped their names", "a shard less"],
    "tables": ["two ranges", "one table plain", "one table on a shard", "both tables plain"],
}
SINGLE = ("simple", "prepared", "unnamed", "update", "scatter", "pipeline")


@pytest.mark.parametrize("ways", [SINGLE, ("transaction",)], ids=["statements", "transactions"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_storm_of_one_kind(tessera, shapes, kind, ways):
    proxy = tessera(by_name(shapes, KINDS[kind][0]).config)
    storm = Storm(proxy, shapes, only=KINDS[kind], watchers=4, ways=ways)
    assert storm.run(max(20, RELOADS // 5), answers=100) == []
    assert storm.answers > 100 and storm.good > 5


def test_a_storm_of_all(tessera, shapes):
    proxy = tessera(shapes.all()[0].config)
    storm = Storm(proxy, shapes)
    assert storm.run(RELOADS, answers=1000) == []
    assert storm.answers > 1000 and storm.good > RELOADS / 2 and storm.bad > RELOADS / 20
