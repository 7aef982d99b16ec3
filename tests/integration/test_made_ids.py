"""`id: snowflake`: ids that Tessera makes by leases of milliseconds. Unique whoever makes them, and under a rule of type `embedded` on the shard that they name."""

import threading

import psycopg
import pytest
from harness import wire
from harness.tessera import database_config
from talk import code, eventually, log_in


@pytest.fixture(scope="module")
def servers(shards):
    return shards(4)


def decode(number):
    return number >> 23, number >> 10 & 8191, number & 1023


def made(servers, database, rule, workers=2, **more):
    tables = {"made": {"rule": "r", "key": "id", "id": "snowflake"}, "other": {"rule": "h", "key": "owner", "id": "snowflake", "id_column": "id"}}
    shards = [f"s{i}" for i in range(len(servers))]
    return {"workers": workers, "databases": {"shop": database_config(servers, database, rules={"r": rule, "h": {"type": "hash", "shards": shards}}, tables=tables, **more)}}


MADE = "create table made (id bigint primary key, v text); create table other (owner bigint, id bigint not null default -1, v text)"


@pytest.mark.parametrize("count", [1, 4])
@pytest.mark.parametrize("rule", [{"type": "embedded"}, {"type": "hash"}])
def test_ids_that_are_made(tessera, shards, new_database, rule, count):
    servers = shards(count)
    database = new_database(servers, MADE)
    rule = dict(rule, shards=[f"s{i}" for i in range(count)])
    proxies = [tessera(made(servers, database, rule)) for _ in range(2)]
    ids, problems = [], []

    def work(number):
        try:
            with proxies[number % 2].connect("shop", autocommit=True) as connection:
                own = []
                for i in range(100):
                    own += connection.execute("insert into made (v) values (%s) returning id", [str(i)], prepare=True).fetchall()
                    own += connection.execute("insert into made values (default, 'a'), (default, 'b') returning id").fetchall()
                    own += connection.execute("insert into other (owner, v) values (%s, 'x'), (%s, 'y') returning id", [i, i + 1]).fetchall()
                ids.extend(row[0] for row in own)
        except Exception as error:  # noqa: BLE001
            problems.append(error)

    threads = [threading.Thread(target=work, args=[number]) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not problems
    assert len(ids) == len(set(ids)) == 4000
    slots = {decode(number)[1] for number in ids}
    assert slots == (set(range(count)) if rule["type"] == "embedded" else {0})
    with proxies[0].connect("shop", autocommit=True) as connection:
        for number in ids[:10]:
            found = connection.execute("select count(*) from made where id = %s", [number]).fetchone()[0] + connection.execute("select count(*) from other where id = %s", [number]).fetchone()[0]
            assert found == 1
    if rule["type"] == "embedded":
        for i, server in enumerate(servers):
            with server.connect(database) as direct:
                assert {decode(row[0])[1] for row in direct.execute("select id from made")} == {i}


def test_made_ids_do_not_hang_on_clocks(tessera, servers, new_database):
    """What was leased counts, also where the clock says that it is long to come."""
    database = new_database(servers, MADE)
    proxy = tessera(made(servers, database, {"type": "embedded"}))
    with proxy.connect("shop", autocommit=True) as connection:
        (first,) = connection.execute("insert into made (v) values ('x') returning id").fetchone()
        with servers[0].connect(database, autocommit=True) as direct:
            direct.execute("update tessera.id_lease set until_ms = until_ms + 86400000")
        later = eventually(lambda: [row[0] for _ in range(4) for row in connection.execute("insert into made (v) values ('x') returning id") if decode(row[0])[0] - decode(first)[0] >= 86400000])
        assert len(later) == len(set(later))
        for statement in ("insert into made (v) select 'x'", "insert into other (owner) select 1"):
            with pytest.raises(psycopg.errors.FeatureNotSupported):
                connection.execute(statement)
        assert connection.execute("insert into made (id, v) values (1024, 'own') returning id").fetchall() == [(1024,)]


def test_made_ids_without_the_right_to_make_the_table(tessera, servers, new_database):
    database = new_database(servers, MADE)
    for server in servers:
        with server.connect(database, autocommit=True) as direct:
            direct.execute(f'alter database "{database}" owner to current_user')
    proxy = tessera(made(servers, database, {"type": "embedded"}))
    with log_in(proxy, "shop") as connection, servers[0].connect(database, autocommit=True) as direct:
        replies = connection.ask(wire.query("insert into made (v) values ('x')"))
        (fields,) = [wire.error_fields(reply.body) for reply in replies if reply.type == "E"]
        assert fields["C"] == "42501" and "tessera.id_lease" in fields["H"]
        direct.execute("create schema tessera; create table tessera.id_lease (slot int primary key, until_ms bigint not null)")
        direct.execute("grant usage on schema tessera to app; grant select, insert, update on tessera.id_lease to app")
        assert code(connection.ask(wire.query("insert into made (v) values ('x')"))) is None
