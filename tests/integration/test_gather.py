"""Queries whose rows come from several shards and whose answer no shard has: through Tessera they give the rows that one plain
server gives, in the same order where the query says one."""

import threading
import time

import pytest
import twins
from gathered import SHARDS, answer, both  # noqa: F401
from harness import wire
from harness.tessera import database_config
from test_cancel import cancel
from talk import code, errors, log_in, rows

QUERIES = [
    "select count(*) from orders",
    "select count(*), sum(amount), avg(amount), min(at), max(note), count(distinct note), bool_or(paid > 0) from orders",
    "select user_id, count(*), sum(amount) from orders group by user_id having count(*) > 2 order by 2 desc, 1",
    "select country, mood, count(*) from users group by rollup (country, mood) order by 1, 2, 3",
    "select grouping(country), country, count(*) from users group by grouping sets ((country), ()) order by 1, 2",
    "select * from users order by name nulls first, id limit 7 offset 3",
    "select name, id from users order by name collate \"C\" desc, id fetch first 5 rows with ties",
    "select distinct country from users",
    "select distinct on (country) country, id from users order by country, id desc",
    "select id, name from users union all select id, note from orders",
    "select country from users intersect select code from countries",
    "select id from users except select user_id from orders",
    "select u.name, o.amount from users u join orders o on o.user_id = u.boss",
    "select u.id, o.id from users u left join orders o on o.id = u.id order by 1, 2",
    "select u.id, o.id from users u full join orders o on o.id = u.id",
    "select u.id, c.name from users u natural join (select code as country, name as cname from countries) c join countries on code = u.country join countries c2 on c2.code = u.country join settings s on s.name = 'limit' join countries c3 on c3.code = u.country",
    "select u.id, c.name, s.value from users u join countries c on c.code = u.country, settings s where s.name = 'limit' order by u.id",
    "select id from users u where exists (select from orders o where o.id = u.id and o.amount > 1)",
    "select id from users u where id in (select id from orders where note is not null)",
    "select id from users u where id not in (select id from orders)",
    "select id, (select max(o.amount) from orders o where o.id <= u.id) from users u order by id",
    "select u.id, l.id from users u cross join lateral (select o.id from orders o where o.id > u.id order by o.id limit 2) l",
    "with recursive chain(id, boss, depth) as (select id, boss, 1 from users where boss is null union all select u.id, u.boss, depth + 1 from users u join chain c on u.boss = c.id where depth < 20) select * from chain",
    "with a as (select user_id, sum(amount) as total from orders group by 1), b as (select avg(total) as mean from a) select a.* from a, b where a.total > b.mean",
    "select id, row_number() over (partition by country order by id), lag(name) over w from users window w as (order by id) order by id",
    "select user_id, id, sum(amount) over (partition by note order by at, user_id, id rows between 1 preceding and current row) from orders",
    "select array_agg(id order by id), string_agg(name, ',' order by id), json_agg(mood order by id), jsonb_object_agg(id, country) from users",
    "select percentile_cont(0.5) within group (order by amount), mode() within group (order by note) from orders",
    "select item, count(*), max(weight), min(weight), jsonb_agg(what order by id) from events group by item order by item",
    "select e.item, u.name from events e join users u on u.name > e.item order by e.id, u.id limit 20",
    "select item, weight from events order by weight desc nulls last, id",
    "select unnest(tags), count(*) from orders group by 1 order by 1",
    "select o.* from orders o order by o.user_id, o.id limit 3",
    "select to_jsonb(o) from (select user_id, note from orders) o order by o.user_id, o.note",
    "table users order by id",
    "select a.x, a.y from users as a (x, y) order by x",
    "select sum(paid), sum(user_id), sum(weight) from orders, (select 1.0::float8 as weight) w",
    "select max(mood), min(mood) from users",
    "select mood, id from users order by mood desc, id",
    "select count(*) from orders where user_id > 10 and amount in (1.50, 0) and note = 'x'",
    "select count(*) from orders where user_id in (1, 2, 3, 4, 5, 6, 7) and at >= '2024-01-10'",
    "select count(*) from orders where user_id = any('{1,2,3,4,5}')",
    "select sum(amount) / 0 from orders",
    "select 1 / (amount - amount) from orders order by id",
    "select nothing from orders order by 1",
    "select count(*) from nowhere, orders",
    "select count(*) from orders where amount = 'x'",
    "select name::int from users order by id",
    "select country, name, count(*) from users group by country",
    "select count(*), now() - now() from orders",
    "select sum(amount) from orders where false",
    "select count(*) from only orders",
    "select from orders limit 3",
    "select extract(month from at), count(*) from orders group by 1 order by 1",
    "select generate_series(1, 2), count(*) from users",
    "select count(*) filter (where country = 'DE'), count(*) filter (where country is null) from users",
    "select \"u\".\"id\" from users \"u\" order by \"u\".\"id\" desc limit 1",
    "values ((select count(*) from users)), ((select count(*) from orders))",
    "select (select count(*) from users) + (select count(*) from events)",
    "select u1.id from users u1 join users u2 on u2.boss = u1.id and u2.country = u1.country",
    "select name from settings union select item from events",
    "select users.* from users order by users.id limit 1",
    "select u.country, count(*), sum(o.amount) from users u join orders o on o.user_id = u.id where u.country = 'DE' and o.note = 'x' group by u.country",
    "select u.country, count(*), count(o.id) from users u left join orders o on o.user_id = u.id and o.note = 'x' where u.country = 'FR' group by 1",
    "select u.country, count(*), count(u.id) from users u right join orders o on o.user_id = u.id and u.country = 'FR' where o.note = 'x' group by 1",
    "select u.country, count(*), count(o.id) from users u full join orders o on o.user_id = u.id and u.country = 'DE' and o.note = 'x' group by 1",
    "select count(*) from users where country = 'DE' and id in (select user_id from orders where note = 'x')",
    "select count(*) from users where country = 'DE' and id not in (select user_id from orders where note = 'x' and user_id is not null)",
    "select country, count(*) from users u where exists (select from orders o where o.user_id = u.id and o.note = 'x' and o.amount > (select avg(amount) from orders where note = 'Y')) group by 1",
    "select a.country, count(*) from users a join users b on a.id = b.id join orders o on o.user_id = b.id where b.country = 'DE' and o.note = 'x' group by 1",
    "select country, (select sum(amount) from orders where user_id = users.id and note = 'x') as s, count(*) from users where country = 'FR' group by 1, 2",
]


@pytest.mark.parametrize("query", QUERIES)
def test_the_rows_of_one_server(both, query):
    through, one, *_ = both
    expected = answer(one, query)
    assert answer(through, query) == expected


EXTENDED = [
    ("select count(*), sum(amount) from orders where user_id < $1", [b"10"], [23], (), (1,)),
    ("select name from users where id > $1 order by id limit $2", [b"3", b"2"], (), (), ()),
    ("select $1::text, count(*) from orders where note = $1 or paid = $2", [b"x", None], (), (), (0,)),
    ("select id from users where country = $1 and born < $2 order by id", [b"DE", b"\0\0\0\0"], (), (0, 1), (1,)),
    ("select id, mood::text from users where mood::text = $1 order by id", [b"happy"], (), (), (1,)),
    ("select count(*) from users where id = any($1)", [b"{1,2,3,77}"], (), (), ()),
    ("select count(*) from users where id in ($1, $2)", [b"1", b"2"], (), (), ()),
    ("select count(*) from users where id = any($1)", [b"nonsense"], (), (), ()),
    ("select count(*) from users where born = $1", [b"2024-13-01"], (), (), ()),
    ("select count(*), sum(o.amount) from users u join orders o on o.user_id = u.id where u.country = $1 and o.note = $2", [b"DE", b"x"], (), (), ()),
    ("select 10 / ($1 - count(*)) from users", [b"40"], (20,), (), ()),
    ("select array_agg(tags order by id) filter (where tags is not null) from (select tags, id from orders where array_ndims(tags) = $1) o", [b"9"], (), (), (1,)),
]


@pytest.mark.parametrize("case", EXTENDED, ids=lambda case: case[0])
def test_the_extended_protocol(both, case):
    """Byte for byte, but for where in the tables the columns come from."""
    _, one, proxy, database = both
    query, parameters, types, formats, results = case
    messages = [wire.parse(query, "s", types), wire.describe_statement("s"), wire.bind(parameters, name="s", formats=formats, result_formats=results), wire.describe_portal(), wire.execute(), wire.SYNC]
    answers = []
    for host, port, name in ((proxy.host, proxy.port, database), (one.info.host, one.info.port, one.info.dbname)):
        with wire.connect(host, port, "app", name, "app") as connection:
            answers.append([twins.masked(reply) if reply.type != "E" else (code([reply]), wire.error_fields(reply.body)["M"]) for reply in connection.ask(*messages)])
    assert answers[0] == answers[1]


def test_it_can_be_asked_again_and_again(both):
    _, _, proxy, database = both
    with wire.connect(proxy.host, proxy.port, "app", database, "app") as connection:
        connection.ask(wire.parse("select count(*) from users where id < $1", "s"), wire.SYNC)
        for bound in range(0, 40, 7):
            assert rows(connection.ask(wire.bind([str(bound).encode()], name="s"), wire.execute(), wire.SYNC)) == [[str(bound)]]
            assert rows(connection.ask(wire.query("select count(*) from users"))) == [["40"]]


def test_what_it_cannot_do_is_refused(both):
    _, _, proxy, database = both
    with wire.connect(proxy.host, proxy.port, "app", database, "app") as connection:
        for query in ("select count(o), count(o.note) from orders o", "select row_to_json(u) from users u order by name limit 2", "select s.value, count(u.*) from settings s left join users u on u.id < s.value::int group by s.name order by s.name",
                      "select to_jsonb(j) from (users u cross join countries c) j order by 1", "select o.to_jsonb from orders o order by 1", "select count(*), current_setting('transaction_isolation') from users",
                      "select pg_typeof(o.id) from orders o order by note limit 1", "select ctid from orders order by 1 limit 1", "select count(*) from orders for update", "select count(*) from pg_class, orders",
                      "select * from orders tablesample bernoulli (50) limit 1", "select count(*), nextval('pg_catalog.x') from orders", "select users.id, users.name from users group by users.id",
                      "select public.users.id from public.users order by name", "copy (select count(*) from users) to stdout", "explain (format xml) select count(*) from users"):
            replies = connection.ask(wire.query(query))
            assert code(replies) == "0A000", (query, errors(replies), rows(replies))
            assert rows(connection.ask(wire.query("select count(*) from users"))) == [["40"]]


def test_an_error_leaves_everything_clean(both):
    """On a shard that gives rows, on the merge node, at once and in the middle of the rows."""
    through, one, *_ = both
    for query in ("select 1 / (id - 30) from users order by id", "select sum(1 / (length(name) - 3)) from users", "select name::int from users where id = any('{1,2,3,4,5,6,7}') order by 1",
                  "select sum(amount)::int2 from orders", "select count(*) from users where name > any('{1'::text[])"):
        assert answer(through, query) == answer(one, query)
        assert answer(through, "select count(*) from users") == answer(one, "select count(*) from users")


def test_many_at_the_same_time_with_few_connections(shards, new_database, tessera):
    """Each takes a connection to every shard: they wait for one another, never in a circle."""
    four = shards(SHARDS)
    database = new_database(four, "create table t (id int primary key, v text)")
    rule = {"type": "hash", "shards": [f"s{i}" for i in range(SHARDS)]}
    proxy = tessera({"workers": 2, "databases": {database: database_config(four, database, rules={"r": rule}, tables={"t": {"rule": "r", "key": "id"}}, pool={"size": 2})}})
    with log_in(proxy, database) as connection:
        for i in range(50):
            connection.ask(wire.query(f"insert into t values ({i}, 'x')"))
    problems = []

    def work():
        with log_in(proxy, database, timeout=60) as connection:
            for _ in range(10):
                replies = connection.ask(wire.query("select count(*), sum(id) from t"))
                if rows(replies) != [["50", "1225"]]:
                    problems.append(errors(replies) or rows(replies))

    workers = [threading.Thread(target=work) for _ in range(8)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(120)
    assert problems == []


PART = 100_000
BIG = SHARDS * PART


def test_many_rows_without_growing(shards, new_database, tessera):
    """Rows come to the merge node as fast as it takes them, and to the client as fast as that takes them."""
    four = shards(SHARDS)
    database = new_database(four, "create table t (id int primary key, v text)")
    for number, server in enumerate(four):
        with server.connect(database, user="app", password="app") as connection:
            connection.execute(f"insert into t select i, repeat('x', 200) from generate_series({number * PART}, {(number + 1) * PART - 1}) i")
    rule = {"type": "range", "ranges": [{"below": str((i + 1) * PART), "shard": f"s{i}"} for i in range(SHARDS)]}
    proxy = tessera({"workers": 1, "databases": {database: database_config(four, database, rules={"r": rule}, tables={"t": {"rule": "r", "key": "id"}})}})

    def resident():
        with open(f"/proc/{proxy.process.pid}/status") as status:
            return next(int(line.split()[1]) for line in status if line.startswith("VmHWM"))

    with log_in(proxy, database, timeout=120) as connection:
        assert rows(connection.ask(wire.query("select count(*) from t where id < 10"))) == [["10"]]
        before = resident()
        replies = connection.ask(wire.query("select count(*), max(length(v)), sum(id) from t"))
        assert rows(replies) == [[str(BIG), "200", str(BIG * (BIG - 1) // 2)]]
        assert resident() - before < 20_000, "kB, of 90 MB that went through"


def test_a_cancel_and_a_timeout_end_it(both):
    _, _, proxy, database = both
    slow = "select count(*) from users where pg_sleep(5) is not null"
    with wire.connect(proxy.host, proxy.port, "app", database, "app") as connection:
        connection.send(wire.query(slow))
        time.sleep(0.5)
        cancel(proxy, connection.process_id, connection.secret_key)
        assert code(connection.read_until("Z")) == "57014"
        connection.ask(wire.query("set statement_timeout = '300ms'"))
        assert code(connection.ask(wire.query(slow))) == "57014"
        connection.ask(wire.query("reset statement_timeout"))
        assert rows(connection.ask(wire.query("select count(*) from users"))) == [["40"]]


def test_behind_a_definition_that_writes_the_table_anew(both):
    """A snapshot from before it would find the new table empty."""
    through, _, proxy, database = both
    expected = answer(through, "select count(*) from users")
    for _ in range(4):  # each shard is the merge node once
        through.execute("begin")
        through.execute("alter table users alter column name type text using name || ''")
        found = []
        with log_in(proxy, database, "app", "app") as other:
            other.send(wire.query("select count(*) from users"))
            time.sleep(0.3)
            through.execute("commit")
            found = rows(other.read_until("Z"))
        assert repr([tuple(map(int, row)) for row in found]) == expected[1]
