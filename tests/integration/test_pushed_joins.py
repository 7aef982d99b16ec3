"""Aggregates that the shards prepare before rows are moved, over tables joined on the sharding key and reference tables: the rows of one plain server, and what each shard is asked for."""

import random

import pytest
from gathered import answer, two_databases
from harness import wire

SCHEMA = """
create table users (id bigint primary key, name text, country text, region int, score double precision, rank numeric);
create table orders (id bigint, user_id bigint, amount numeric(10, 2), pieces int, note text, at timestamptz, primary key (user_id, id));
create table items (user_id bigint, order_id bigint, sku text, pieces smallint, price numeric);
create table events (item text, weight int, user_id bigint);
create table countries (code text primary key, name text, region int);
create table settings (name text primary key, value text);
"""
TABLES = {
    "users": {"rule": "by_user", "key": "id"},
    "orders": {"rule": "by_user", "key": "user_id"},
    "items": {"rule": "by_user", "key": "user_id"},
    "events": {"rule": "by_item", "key": "item"},
    "countries": {"reference": True},
    "settings": {"shard": "s1"},
}


def fill(connection):
    pick = random.Random(7)
    connection.execute("delete from countries")
    countries = [("DE", "Germany", 1), ("FR", "France", 1), ("US", "America", 2), ("ZZ", None, None)]
    users = [(i, pick.choice(["ann", "Bob", "zoë", None]), pick.choice(["DE", "FR", "XX", None]), pick.choice([1, 2, 3, None]), pick.choice([0.1, 0.2, 0.7, None]), pick.choice(["1", "1.0", "2.50", None])) for i in range(60)]
    orders = [(i, pick.randrange(70), pick.choice([None, "1.50", "0.00", "-3.1", "10"]), pick.choice([None, 0, 2, 7]), pick.choice([None, "x", "y"]), f"2024-{pick.randrange(1, 4):02}-02 12:00+00") for i in range(200)]
    items = [(pick.randrange(70), pick.randrange(200), pick.choice(["a", "b", "c"]), pick.choice([None, 1, 2]), pick.choice([None, "0.1", "2.00", "3"])) for _ in range(200)]
    events = [(pick.choice(["apple", "pear", "fig", ""]), pick.choice([None, 1, 5]), pick.randrange(70)) for _ in range(80)]
    for table, some in (("countries", countries), ("users", users), ("orders", orders), ("items", items), ("events", events)):
        for row in some:
            connection.execute(f"insert into {table} values ({', '.join(['%s'] * len(row))})", row)


@pytest.fixture(scope="module")
def both(shards, new_database, tmp_path_factory):
    with two_databases(shards, new_database, tmp_path_factory, SCHEMA, TABLES, fill) as all_of_it:
        yield all_of_it


JOINED = "users u join orders o on o.user_id = u.id"
# Of all these every shard gives groups, and no rows of tables are moved.
PUSHED = [
    f"select count(*), sum(o.amount), avg(o.pieces), min(o.at), max(u.name) from {JOINED}",
    f"select u.country, count(*), sum(o.pieces) from {JOINED} group by u.country order by 2 desc, 1",
    f"select u.country, o.note, sum(amount) from {JOINED} where o.pieces > 0 and u.name <> 'ann' group by country, note",
    f"select country, count(*) as n from {JOINED} group by country having sum(o.amount) > 0 order by n, country limit 3",
    "select u.country, count(*), count(o.id), sum(o.amount) from users u left join orders o on o.user_id = u.id and o.note = 'x' group by 1",
    "select u.country, count(*), count(u.id), sum(o.amount) from users u right join orders o on o.user_id = u.id group by 1",
    "select c.name, count(*), sum(o.amount) from users u join countries c on c.code = u.country join orders o on o.user_id = u.id group by c.name",
    "select c.name, count(*), count(c.code), sum(o.amount) from users u left join countries c on c.code = u.country join orders o on o.user_id = u.id group by c.name",
    "select c.name, count(*), count(u.id) from countries c right join users u on c.code = u.country group by c.name",
    "select c.region, count(*) from users u, countries c where c.region = u.region group by 1",
    "select u.country, i.sku, sum(i.pieces), sum(o.pieces * i.pieces), sum(i.price * o.pieces - 1) from users u join orders o on o.user_id = u.id join items i on i.user_id = o.user_id group by 1, 2",
    "select sum(o.pieces + 1), avg(o.pieces % 3), sum(o.amount / 3), sum((o.pieces * 2)), avg(-o.amount), sum(2.5 * o.pieces) from orders o join users u on u.id = o.user_id",
    "select count(*) from users u where exists (select from orders o where o.user_id = u.id and o.note = 'x')",
    "select country, count(*) from users where id in (select user_id from orders where pieces > 1) group by country",
    "select country, count(*) from users u where not exists (select from orders o where o.user_id = u.id) and country in (select code from countries) group by 1",
    "select count(*), sum(pieces) from orders join users on user_id = users.id",
    "select count(*) from orders o join items i using (user_id)",
    "select i.sku, count(*) from orders o join items i using (user_id) group by i.sku",
    "select i.user_id, o.user_id, count(*) from orders o join items i using (user_id) group by 1, 2 order by 1, 2",
    "select count(distinct u.country), count(distinct o.note), sum(o.amount) from users u join orders o on o.user_id = u.id",
    "select u.region, count(distinct o.note), sum(distinct o.pieces), string_agg(distinct o.note, ',') from users u join orders o on o.user_id = u.id group by u.region",
    "select count(distinct 1), count(distinct country) from users u join orders o on o.user_id = u.id where u.id < 0",
    f"select count(*) filter (where u.country = 'DE'), sum(o.amount) filter (where o.note = 'x'), avg(o.pieces) filter (where o.id > 50), count(o.note) from {JOINED}",
    f"select u.country, o.note, count(*), grouping(u.country) from {JOINED} group by rollup (u.country, o.note)",
    f"select u.country, sum(sum(o.amount)) over (order by u.country), row_number() over (order by count(*), u.country) from {JOINED} group by u.country",
    f"select distinct u.country, o.note from {JOINED}",
    f"select u.country, lower(u.country) as name, count(*) from {JOINED} group by 1, name",
    f"select u.id, u.country, count(*) as id from {JOINED} group by u.id, u.country order by u.id limit 7",
    f"select max(o.note) as note, u.country from {JOINED} group by u.country",
    f"select count(*) from {JOINED} where o.note = 'x' having count(*) > 100000",
    f"select count(*), sum(o.amount) from {JOINED} where false",
    f"select u.country, count(*) from {JOINED} where false group by 1",
    f"select u.country, sum(case when o.note = 'x' then o.amount when case when o.pieces > 1 then true end then 0.50 else 0 end), avg(case o.note when 'x' then pieces end) from {JOINED} group by 1",
    f"select sum(coalesce(o.pieces, i.pieces, 1)), sum(greatest(o.pieces, 3) * abs(o.amount - 1)) from {JOINED} join items i on i.user_id = u.id",
    "select \"U\".country, count(*) from users as \"U\" join only orders on user_id = \"U\".id group by \"U\".country",
    "select users.country, count(*) from public.users join public.orders on orders.user_id = users.id group by 1",
    # Expressions that are grouped by, in all spellings.
    f"select date_trunc('month', o.at), count(*), sum(amount) from {JOINED} group by 1 order by 1",
    f"select date_trunc('month', at)::date as month, u.country, count(*) from {JOINED} group by month, u.country having date_trunc( 'month', o.at )::date > '2024-01-31' order by month, 2",
    "select extract(year from at)::int, extract(month from orders.at)::integer as m, count(*) from orders group by extract(year from orders.at)::int4, m",
    f"select u.region, o.at::date, o.at::date + 1, sum(o.pieces), grouping(o.at::date) from {JOINED} group by cube (u.region, (o.at::date))",
    "select (date_trunc('month', at))::date, max(id) from orders group by date_trunc('month', at)",
    "select score::int, count(*) from users group by score::int",
    "select at::date, case when at::date > '2024-01-15' then 'late' end, count(*) from orders group by at::date",
    "select -(pieces::int), count(*), pieces from orders group by pieces::int, pieces",
    "select length(name)::int, upper(country)::text, count(*) from users group by length(name)::int, 2",
    "select count(*), at from orders group by at, date_trunc('month', at) order by 2, 1 limit 4",
    "select sum(sum(amount)) over (order by date_trunc('month', at)), date_trunc('month', at) from orders group by date_trunc('month', at)",
    "select amount, count(*) from orders group by amount",
    "select x.m, sum(x.n) from (select date_trunc('month', at)::date as m, u.country, count(*) as n from users u join orders o on o.user_id = u.id group by 1, 2) x group by x.m",
    # Subqueries beside the groups.
    f"select u.country, round(100 * sum(o.amount) / (select sum(amount) from orders where amount > 0), 3) from {JOINED} group by u.country",
    "select name from users u where id in (select user_id from orders group by user_id having sum(amount) > 12) order by id",
    f"select u.region, count(*), (select count(*) from items i where i.pieces = u.region) from {JOINED} group by u.region",
    "select name from users u where region > (select avg(pieces) from orders) order by id",
    # Blocks within a query, each by itself.
    "select f.n, count(*) from (select user_id, count(*) as n from orders group by user_id) f group by f.n",
    "select u.country, sum(f.total) from users u join (select user_id, sum(amount) as total from orders group by user_id) f on f.user_id = u.id group by 1",
    "with t as (select u.country, sum(o.amount) as total from users u join orders o on o.user_id = u.id group by 1) select t.country, t.total, (select avg(total) from t) from t",
    "select country, count(*) from users group by 1 union all select note, count(*) from orders group by 1",
    "select x.country from (select country, count(*) as n from users group by country order by n desc, country limit 2) x order by 1",
    "select * from (select u.country, sum(o.pieces) as pieces from users u join orders o on o.user_id = u.id group by u.country) x join (select item, sum(weight) from events group by item) y on true",
    "select c.name, (select count(*) from events e where e.weight = c.region) from countries c",
    "select u.country, count(*), (select name from settings where value is null) from users u join orders o on o.user_id = u.id group by 1",
]


@pytest.mark.parametrize("query", PUSHED)
def test_what_shards_prepare(both, query):
    through, one, *_ = both
    expected = answer(one, query)
    assert answer(through, query) == expected


def fragments(both, query):
    """What the shards are asked for."""
    plan = [row[0] for row in both[0].execute(f"explain (tessera) {query}").fetchall()]
    return [line.split(": ", 1)[1] for line in plan if line.strip().startswith("pg_temp.")]


@pytest.mark.parametrize("query", [query for query in PUSHED if " from countries c" not in query or "right join" in query])
def test_groups_are_what_moves(both, query):
    asked = fragments(both, query)
    prepared = [one for one in asked if "GROUP BY" in one or "pg_catalog." in one]
    assert prepared
    assert prepared == asked or any(part in query for part in ("join (select user_id", "settings", "select name from users u where", "from items i where"))


# Of these the shards aggregate some tables' rows, before they are joined with others.
PARTS = [
    "select e.weight, count(*), sum(o.pieces), max(e.item), count(distinct e.item) from orders o join events e on e.user_id = o.user_id group by 1",
    "select e.item, sum(o.amount), avg(o.pieces) from users u join orders o on o.user_id = u.id join events e on e.weight = u.region where o.note = 'x' and u.country <> 'FR' group by e.item",
    "select e.item, count(*), count(u.name) from orders o join users u on u.id = o.user_id, events e where e.weight = o.pieces group by e.item",
    "select e.item, count(*) from orders o, users u, events e where u.id = o.user_id and e.weight = o.pieces and e.user_id = u.region group by e.item",
    "with w as (select item, weight from events where weight is not null) select w.item, sum(o.pieces) from orders o join w on w.weight = o.pieces group by w.item having count(*) > 3",
    "select f.n, sum(o.pieces) from orders o join (select region, count(*) as n from users group by region) f on f.region = o.pieces group by f.n",
    "select count(*), sum(o.amount) from orders o where o.user_id not in (select user_id from events where weight = 1)",
    "select note, count(*) from orders o where exists (select from events e where e.weight = o.pieces) group by note",
    "select s.value, u.country, count(*) from users u join orders o on o.user_id = u.id join settings s on s.value = o.pieces::text or s.value is null group by 1, 2",
    "select distinct u.country, e.item from users u join events e on e.weight = u.region",
    "select e.item, sum(o.pieces) from (orders o join users u on u.id = o.user_id) join events e on (e.weight = o.pieces and u.region = 1) group by 1",
    "select e.item, sum(o.pieces) from events e join (orders o join users u on o.user_id = u.id) on e.weight = o.pieces cross join countries c group by 1",
    "select count(*), sum(o.pieces) from orders o join events e on e.weight = o.pieces where false",
    "select count(*) from orders o join events e on true where e.weight = o.pieces and o.pieces > 100",
    "select e.item, sum(i.pieces) from items i join users u on u.id = i.user_id join orders o on o.user_id = u.id and o.id = i.order_id join events e on e.weight = o.pieces group by 1",
]


@pytest.mark.parametrize("query", PARTS)
def test_groups_of_a_part(both, query):
    through, one, *_ = both
    expected = answer(one, query)
    assert answer(through, query) == expected
    assert any("GROUP BY" in asked for asked in fragments(both, query))


# Of these the rows themselves are needed.
OTHERS = [
    "select count(*) from countries c left join users u on u.country = c.code",
    "select c.name, count(u.id) from countries c left join users u on u.country = c.code group by 1",
    "select count(*), sum(o.amount) from users u full join orders o on o.user_id = u.id",
    "select count(*) from users u full join countries c on c.code = u.country",
    "select count(*) from users u right join countries c on c.code = u.country",
    "select count(*), sum(o.amount) from users u join orders o on o.id = u.id",
    "select count(*) from users u left join orders o on o.user_id = u.region",
    "select count(*) from users, orders",
    "select round(sum(u.score)::numeric, 5) from users u join orders o on o.user_id = u.id",
    "select u.rank, count(*) from users u join orders o on o.user_id = u.id group by 1",
    "select u.score, count(*) from users u join orders o on o.user_id = u.id group by 1",
    "select count(distinct u.rank) from users u join orders o on o.user_id = u.id",
    "select coalesce(u.rank, length(u.name)::int), count(*) from users u group by coalesce(u.rank, length(u.name)::int)",
    "select generate_series(1, region)::int, count(*) from users group by generate_series(1, region)::int",
    "select note, count(*) from orders group by note having note::int > 1",
    "select count((select max(e.weight) from events e where e.user_id = u.id)) from users u",
    "select count(*) filter (where exists (select from events e where e.user_id = u.id)) from users u",
    "select max((select count(*) from orders o where o.user_id = u.id)) from users u",
    "select sum(case when exists (select from events e where e.user_id = u.id) then 1 else 0 end) from users u",
    "select u.country, (select sum(u.region * weight) from events) from users u group by u.country, u.region",
    "select name from users u where region > (select avg(pieces) from orders where user_id = u.id) order by id",
    "select name from users u where id in (select max(id) from orders where country = note group by user_id) order by id",
    "select name from users where exists (select max(id) from orders where country = note)",
    "select string_agg(u.name, ',' order by u.name, o.id, u.id) from users u join orders o on o.user_id = u.id",
    "select user_id, count(*) from orders o join items i using (user_id) group by user_id",
    "select stddev(o.pieces) from users u join orders o on o.user_id = u.id",
    "select sum(o.pieces::numeric) from users u join orders o on o.user_id = u.id",
    "select count(*) from users u join (select user_id from orders) o on o.user_id = u.id",
    "select count(*) from users u cross join lateral (select from orders o where o.user_id = u.id limit 1) x",
    "with w as (select id from users where country = 'DE') select count(*) from orders o join w on w.id = o.user_id",
    "select (select max(o.pieces) from orders o where o.user_id = u.id) as m, count(*) from users u group by 1",
    "select u.country from users u group by u.country having (select sum(u.region + i.pieces) from items i) > 0",
    "select u.country, (select count(u.id) from countries) from users u group by u.country",
    "select e.item, sum(o.pieces * e.weight) from orders o join events e on e.weight = o.pieces group by 1",
    "select e.item, sum(e.weight) from orders o join events e on e.weight = o.pieces group by 1",
    "select e.item, count(e.weight), sum(case when e.weight > 1 then o.pieces end) from orders o join events e on e.user_id = o.user_id group by 1",
    "select sum(o.pieces) from orders o, events e",
    "select count(*), count(o.id) from orders o left join events e on e.weight = o.pieces",
    "select sum(o.pieces) from orders o join events e using (user_id)",
    "select o.id, o.user_id, count(*) from orders o join events e on e.weight = o.pieces group by 1, 2",
    "select count(*) from users u, generate_series(1, u.region) g",
    "select count(*) over (), u.country from users u join orders o on o.user_id = u.id",
    "select distinct count(*) over () from users u join orders o on o.user_id = u.id",
    "select count(*) from users u natural join (select 1 as one) x",
    "select u.id, u.country, count(*) from users u(id, name) group by 1, 2",
    "select country, count(*) from users u join orders o on o.user_id = u.id join countries \"country\" on true group by 1",
    "select count(*) from users u join orders o on o.user_id = u.id join settings s on true",
]


@pytest.mark.parametrize("query", OTHERS)
def test_what_they_cannot(both, query):
    through, one, *_ = both
    expected, found = answer(one, query), answer(through, query)
    assert found in (expected, "0A000")
    assert found == expected or "countries \"country" in query or "u(id" in query


def test_parameters_go_with_the_part_that_has_them(both):
    _, one, proxy, database = both
    query = "select u.country, sum(o.amount), count(*) + $4::int from users u join orders o on o.user_id = u.id where o.note = $1 and u.region = any ($2) group by 1 having count(*) > $3 order by 1"
    messages = wire.parse(query) + wire.bind([b"x", b"{1,2}", b"1", b"5"]) + wire.describe_portal() + wire.execute() + wire.SYNC
    found = []
    for host, port, name in ((proxy.host, proxy.port, database), (one.info.host, one.info.port, one.info.dbname)):
        with wire.connect(host, port, "app", name, "app") as connection:
            found.append(wire.rows(connection.ask(messages)))
    assert found[0] == found[1] and found[0]


def test_a_transaction_sees_what_it_has_written(both):
    through, one, *_ = both
    query = "select c.name, u.country, count(*), sum(o.amount) from users u join orders o on o.user_id = u.id join countries c on c.code = u.country group by 1, 2"
    answers = []
    for connection in (through, one):
        connection.execute("begin")
        connection.execute("insert into orders (id, user_id, amount) select 1000 + id, id, 5 from users")
        connection.execute("update countries set name = 'here' where code = 'DE'")
        answers.append(answer(connection, query))
        connection.execute("rollback")
    assert answers[0] == answers[1] and "here" in answers[0][1]


def test_all_that_a_fragment_reads_is_checked(both, shards):
    """A reference table that has another column on one shard."""
    through, _, _, database = both
    with shards(4)[2].connect(database, user="app", password="app") as connection:
        connection.execute("alter table countries alter region type bigint")
    try:
        assert answer(through, "select c.region, count(*) from users u join countries c on c.code = u.country group by 1") == "0A000"
    finally:
        with shards(4)[2].connect(database, user="app", password="app") as connection:
            connection.execute("alter table countries alter region type int")
