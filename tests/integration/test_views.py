"""Views over sharded tables: the rows of one plain server, and no rows that the server would not show."""

import psycopg
import pytest
from gathered import SHARDS, answer, both  # noqa: F401
from roles import need_role

VIEWS = [
    "create view dear as select user_id, id, amount, note from orders where amount > 10",
    "create view totals (who, spent, many) as select u.name, sum(d.amount), count(*) from users u join dear d on d.user_id = u.id group by u.id, u.name",
    "create view here as select u.id, u.name, c.name as country, u.mood from users u left join countries c on c.code = u.country where u.mood <> 'sad'",
    "create view firsts as select * from orders order by at, id limit 5",
    "create view both_kinds as select id, name as what from users union all select id, note from orders",
    "create view doubled as select a.user_id, b.amount from dear a join dear b using (user_id, id)",
    "create view limits as select code, name as country from countries",
    "create view stamped as select id, now() - now() as age from users",
]
QUERIES = [
    "select * from dear",
    "select count(*), sum(amount) from dear",
    "select amount, id from dear where user_id = 7 order by 1, 2",
    "select * from totals order by spent desc, who limit 3",
    "select h.country, h.mood, count(*) from here h group by rollup (1, 2) order by 1, 2",
    "select x.n, x.i from here as x (i, n) where x.i in (1, 2, 3, 4, 5, 6) order by x.i",
    "table here order by id",
    "select firsts.id from firsts order by at, id",
    "select what, count(*) from both_kinds group by 1 order by 2, 1",
    "select d.*, t.country from doubled d, limits t order by 1, 2, 3 limit 9",
    "with dear as (select 1 as one) select * from dear",
    "select u.id from users u where exists (select from dear d where d.user_id = u.id) and u.id in (select id from here) order by 1",
    "select u.id, l.amount from users u cross join lateral (select d.amount from dear d where d.user_id = u.id order by 1 desc limit 1) l order by 1",
    "select a.id from dear a left join dear b on a.id = b.id + 1 where b.id is null order by 1",
    "select age from stamped",
    "select nothing from dear",
    "select dear.id from dear join here on dear.id = here.id and dear.nothing = 1",
    "select 1 / (amount - amount) from dear",
    "select distinct mood from here",
    "select max(id) over (partition by country order by name, id), id from here order by id",
    "select pg_typeof(1), id from dear where user_id = 7",
]


@pytest.fixture(scope="module")
def viewed(both):  # noqa: F811
    through, one, *_ = both
    for connection in (through, one):
        for view in VIEWS:
            connection.execute(view)
    return both


@pytest.mark.parametrize("query", QUERIES)
def test_the_rows_of_one_server(viewed, query):
    through, one, *_ = viewed
    assert answer(through, query) == answer(one, query)


def test_with_parameters_and_in_a_transaction(viewed):
    answers = []
    for connection in viewed[:2]:
        with connection.transaction(force_rollback=True):
            connection.execute("update orders set amount = amount + 100 where user_id = 7")
            answers.append([answer(connection, query, parameters) for query, parameters in (
                ("select sum(amount) from dear where user_id > %s and id < %s", (5, 100)), ("select count(*) from dear", None), ("select * from totals where who = %s order by spent", ("ann",)))])
    assert answers[0] == answers[1]


def test_a_view_that_has_changed(viewed):
    answers = []
    for connection in viewed[:2]:
        told = []
        for change in ("create view changing as select id from users", "create or replace view changing as select id from users where id > 20", "drop view changing"):
            connection.execute(change)
            told.append(answer(connection, "select count(*) from changing"))
        answers.append(told)
    assert answers[0] == answers[1] and answers[0][2] == "42P01"


def test_rights_are_those_on_the_view(viewed, shards):
    """Who may not read it is told so, whatever he may read of its tables."""
    through, one, *_ = viewed
    user = "viewer"
    for server in {*shards(SHARDS), *shards(1)}:
        need_role(server, user, f"grant {user} to app;")
    for connection in (through, one):
        connection.execute("create view kept_back as select id from users")
        connection.execute(f"revoke all on kept_back from {user}")
        connection.execute(f"grant select on users, dear, orders to {user}")
    answers = []
    for connection in (through, one):
        connection.execute(f"set role {user}")
        answers.append([answer(connection, query) for query in ("select count(*) from kept_back", "select count(*) from users", "select count(*) from dear", "select count(*) from totals")])
        connection.execute("reset role")
    assert answers[0] == answers[1]
    assert answers[0][0] == answers[0][3] == "42501"


REFUSED = {
    "a name with its schema": ("select public.dear.id from public.dear", "gathered"),
    "a row as a whole": ("select here from here", "a row as a whole"),
    "row security": ("select * from guarded", "row security"),
    "operators that could be others": ("select count(*) from dear", "search_path"),
    "a write": ("update users set name = 'x' from dear where dear.user_id = users.id", "only a query"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_refused(viewed, what):
    query, why = REFUSED[what]
    through = viewed[0]
    if what == "row security":
        through.execute("alter table users enable row level security")
        through.execute("create view guarded as select id from users")
    if what == "operators that could be others":
        through.execute("set search_path to public, pg_catalog")
    try:
        with pytest.raises(psycopg.Error, match=why) as refused:
            through.execute(query)
        assert refused.value.sqlstate == "0A000"
    finally:
        through.execute("reset search_path")
        if what == "row security":
            through.execute("drop view guarded")
            through.execute("alter table users disable row level security")


def test_constants_are_read_as_they_were_meant(viewed):
    """Whatever the settings are under which the view was made, the catalog is read, and the view is."""
    through, one, *_ = viewed
    view = "create view constants as select id, date '2024-02-01' as day, interval '-1 day 2:03' as length, 0.1234567890123456::float8 as fine, timestamptz '2024-02-01 10:00+02' as moment from users where id < 3"
    query = "select * from constants order by id"
    answers = []
    for connection in (through, one):
        connection.execute(view)
        told = []
        for settings in ("reset all", "set datestyle to 'SQL, DMY'; set intervalstyle to sql_standard; set extra_float_digits to -10"):
            for setting in settings.split("; "):
                connection.execute(setting)
            told.append(answer(connection, query.replace("*", "id, day::text, length::text, fine = 0.1234567890123456, moment at time zone 'utc'")))
        connection.execute("reset all")
        answers.append(told)
    assert answers[0] == answers[1]
