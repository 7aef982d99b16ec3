"""One server connection, many clients: nothing of the one may be seen by the other (requirements 8, 9, 11 and 13).

TESSERA_SEED=n repeats one random walk; TESSERA_LOAD_SECONDS=n runs the self-identifying load for longer.
"""

import os
import random
import threading
import time

import pytest
from harness import wire
from roles import need_role
from talk import backends_of, code, config_of, errors, eventually, log_in, rows, value

SCHEMA = """
create table t (id int primary key, v text);
insert into t select i, 'row ' || i from generate_series(1, 20) i;
create sequence s;
create function sets() returns void language plpgsql as $$ begin set datestyle = 'German'; perform set_config('work_mem', '7MB', false); end $$;
create function listens() returns void language plpgsql as $$ begin listen from_function; end $$;
create function locks() returns void language plpgsql as $$ begin perform pg_advisory_lock(4242); end $$;
create function makes_temp() returns void language plpgsql as $$ begin create temp table from_function (v int); end $$;
create function prepares() returns void language plpgsql as $$ begin execute 'prepare hidden as select 1'; end $$;
create view leaks as select set_config('work_mem', '9MB', false);
create view leaks_too as select 1 as one from leaks;
create view leaks_by_code as select sets()::text;
create function declares() returns void language plpgsql as $$ begin execute 'declare held cursor with hold for select 1'; end $$;
"""


@pytest.fixture(scope="module")
def server(shards):
    return shards(1)[0]


@pytest.fixture(scope="module")
def database(server, new_database):
    name = new_database([server], SCHEMA)
    need_role(server, "guest", "grant guest to app;")
    for role in ("alice", "bob"):
        need_role(server, role)
    server.run("create schema alice authorization alice; create schema bob authorization bob", name)
    return name


# 9: what one session leaves behind

SNAPSHOT = {
    "settings": "select name, setting from pg_settings where name not like 'plpgsql.%' order by name",
    "who": "select current_user, session_user, current_database(), current_schemas(false)::text, current_setting('role')",
    "custom": "select nullif(current_setting('my.custom', true), ''), nullif(current_setting('tessera_test.x', true), '')",
    "advisory locks": "select classid, objid, mode from pg_locks where pid = pg_backend_pid() and locktype = 'advisory'",
    "other locks": "select locktype, relation::regclass, mode from pg_locks where pid = pg_backend_pid() and locktype not in ('advisory', 'virtualxid') and relation is distinct from 'pg_locks'::regclass",
    # Tessera's own statements have names that no client can know; all others would be somebody's.
    "prepared": "select name, statement from pg_prepared_statements where name !~ '^tessera_'",
    "cursors": "select name, is_holdable from pg_cursors where name <> ''",
    "channels": "select pg_listening_channels()",
    "temporary": "select relname from pg_class where relnamespace = pg_my_temp_schema() union all select proname from pg_proc where pronamespace = pg_my_temp_schema()"
                 " union all select typname from pg_type where typnamespace = pg_my_temp_schema()",
    "transaction": "select pg_current_xact_id_if_assigned() is null, current_setting('transaction_isolation'), current_setting('transaction_read_only')",
    "lastval": "select lastval()",
    "currval": "select currval('s')",
}


def snapshot(connection):
    """What a session can see of its own state; an error is its SQLSTATE."""
    seen = {}
    for name, sql in SNAPSHOT.items():
        replies = connection.ask(wire.query(sql))
        seen[name] = code(replies) or rows(replies)
        assert connection.status == "I"
    return seen


def difference(fresh, seen):
    found = []
    for name, expected in fresh.items():
        if seen[name] == expected:
            continue
        if name == "settings":
            found.append(sorted(set(map(tuple, seen[name])) ^ set(map(tuple, expected))))
        else:
            found.append((name, seen[name], "instead of", expected))
    return found


SETTERS = [
    "set datestyle = 'German'", "set time zone 'Asia/Tokyo'", "set session time zone interval '+05:30' hour to minute", "set names 'LATIN1'", "set client_encoding to 'SQL_ASCII'",
    "set search_path to pg_catalog, alice", "set schema 'bob'", "set work_mem = '9MB'", "set statement_timeout = '77s'", "set default_transaction_isolation = 'serializable'",
    "set session characteristics as transaction read only", "set my.custom = 'secret'", "set tessera_test.x to 'y'", "set seed = 0.5", "set xml option document", "set bytea_output to escape",
    "set standard_conforming_strings = off", "set default_transaction_read_only = on", "set application_name = 'first'", "set extra_float_digits = 0", "set lock_timeout = 4321",
    "set row_security = off", "set idle_in_transaction_session_timeout = '99s'", "set plan_cache_mode = force_generic_plan", "set default_tablespace = 'pg_default'",
    "select set_config('work_mem', '8MB', false)", "select set_config('my.custom', 'secret', false), 1", "select set_config('datestyle', 'SQL', id = 0) from t where id = 1",
    "do $$ begin set work_mem = '6MB'; end $$", "do $$ begin execute 'set datestyle = ''SQL, DMY'''; end $$", "do $$ begin perform set_config('my.custom', 'secret', false); end $$", "select sets()",
    "begin; set work_mem = '5MB'; commit", "begin; set local work_mem = '5MB'; commit", "begin; savepoint a; set work_mem = '5MB'; release a; commit",
    "begin; set work_mem = '5MB'; savepoint a; set work_mem = '4MB'; rollback to a; commit", "set work_mem = '5MB'; set datestyle = 'German'", "update pg_settings set setting = 'SQL, DMY' where name = 'DateStyle'",
    "set role guest", "set role none; set role guest", "set local role guest", "begin; set local role guest; commit", "begin; set role guest; commit", "alter role current_user in database {db} set work_mem = '3MB'; alter role current_user in database {db} reset work_mem",
]
OBJECTS = [
    "create temp table tt (v int)", "create temp table tt (v int) on commit drop", "create temp table tt as select * from t", "select * into temp tt from t", "create temp view tv as select 1", "create temp sequence ts",
    "create temp table tt (v int); drop table tt", "create table pg_temp.tt (v int)", "create function pg_temp.f() returns int language sql as 'select 1'", "create type pg_temp.ty as (a int)", "select makes_temp()",
    "do $$ begin create temp table tt (v int); end $$", "begin; create temp table tt (v int); commit",
    "prepare p as select 1", "prepare p(int) as select $1; execute p(1)", "select prepares()", "do $$ begin execute 'prepare hidden as select 1'; end $$", "begin; prepare p as select 1; rollback",
    "begin; declare c cursor with hold for select * from t; commit", "declare c cursor with hold for select * from t", "begin; declare c cursor for select * from t; fetch c; commit", "select declares()",
    "listen news", "listen news; listen other", "begin; listen news; commit", "select listens()", "do $$ begin listen hidden; end $$", "listen news; unlisten news",
    "select pg_advisory_lock(1)", "select pg_advisory_lock_shared(1, 2)", "select pg_try_advisory_lock(3)", "begin; select pg_advisory_xact_lock(4); commit", "select locks()", "do $$ begin perform pg_advisory_lock(5); end $$",
    "select pg_advisory_lock(id) from t where id < 4", "begin; select pg_advisory_lock(6); rollback", "select pg_advisory_lock(7); select pg_advisory_unlock(7)",
    "select nextval('s')", "select nextval('s'); select currval('s')", "select setval('s', 40)", "insert into t values (nextval('s') + 100000, 'x')", "do $$ begin perform nextval('s'); end $$",
    "lock table t in access exclusive mode", "begin; lock table t; commit", "discard all", "discard plans; discard sequences", "reset all", "set work_mem = '5MB'; discard all", "checkpoint",
    "select pg_sleep(0)", "analyze t", "vacuum t", "explain analyze select sets()", "select * from t where id = (select count(*) from (select sets()) q)", "select setseed(0.5)", "select * from leaks", "select one from leaks_too", "select count(*) from t where exists (select from leaks_by_code)", "with w as (select set_config('work_mem', '8MB', false)) select * from w",
    "begin", "begin isolation level serializable read only", "begin; select 1/0", "start transaction; update t set v = v", "begin; savepoint a; select 1/0", "begin; listen news", "begin; set work_mem = '5MB'",
]
SUPERUSER_ONLY = ["set session authorization alice", "set session authorization alice; set role none", "begin; set local session authorization alice; commit", "set session_replication_role = replica", "load 'auto_explain'",
                  "load '$libdir/auto_explain'; set auto_explain.log_min_duration = 0", "set log_statement = 'all'", "set zero_damaged_pages = on", "set debug_print_plan = on"]


def one_connection(server, database, **pool):
    return config_of([server], database, users=[{"name": "app", "password": "app"}, {"name": "postgres", "password": "postgres"}],
                     pool={"size": 1, "checkout_timeout": "2s", **pool})


def report(leaks):
    assert not leaks, "\n".join(f"{sql}\n    {found}" for sql, found in leaks.items())


def throw_away(server, database, keep):
    """Ends the server connections but `keep`, so that one leak does not show up in the cases that follow."""
    server.run(f"select pg_terminate_backend(pid) from pg_stat_activity where datname = '{database}' and pid <> {keep}")
    eventually(lambda: backends_of(server, database) == [keep])


def leak_check(proxy, server, database, user, cases, ending):
    """Each case in a session of its own, ended in this way; then another client of the same user looks around."""
    leaks = {}
    with wire.connect(server.host, server.port, user, database, user) as direct, log_in(proxy, database, user, user) as second:
        fresh = snapshot(direct)
        assert difference(fresh, snapshot(second)) == [], "a session through Tessera differs before anything was done"
        for sql in cases:
            first = log_in(proxy, database, user, user)
            ending(first, sql.replace("{db}", database))
            # The first look may go to a connection of its own; the second goes to the one that was cleaned.
            found = difference(fresh, snapshot(second)) + difference(fresh, snapshot(second))
            first.close()
            if found:
                leaks[sql] = found
                throw_away(server, database, direct.process_id)
    report(leaks)


def ends_politely(connection, sql):
    connection.ask(wire.query(sql))
    connection.send(wire.TERMINATE)
    connection.close()


def vanishes(connection, sql):
    connection.ask(wire.query(sql))
    connection.close()


def by_extended_protocol(connection, sql):
    for part in sql.split(";") if "$$" not in sql else [sql]:
        connection.ask(wire.parse(part), wire.bind(), wire.execute(), wire.SYNC)
    connection.close()


def fails_afterwards(connection, sql):
    """In one message with an error behind: the implicit transaction takes back what it can."""
    connection.ask(wire.query(sql + "; select 1/0"))
    connection.close()


@pytest.mark.parametrize("ending", [ends_politely, vanishes, by_extended_protocol, fails_afterwards])
@pytest.mark.parametrize("cases", [SETTERS, OBJECTS], ids=["settings", "objects"])
def test_a_session_leaves_nothing_behind(tessera, server, database, cases, ending):
    leak_check(tessera(one_connection(server, database)), server, database, "app", cases, ending)


@pytest.mark.parametrize("ending", [vanishes, by_extended_protocol])
def test_a_superusers_session_leaves_nothing_behind(tessera, server, database, ending):
    leak_check(tessera(one_connection(server, database)), server, database, "postgres", SUPERUSER_ONLY, ending)


@pytest.mark.parametrize("mode", ["session", "statement"])
def test_a_session_leaves_nothing_behind_in_other_modes(tessera, server, database, mode):
    """In session mode the second client must wait for the first to leave, so it logs in anew each time."""
    proxy = tessera(one_connection(server, database, mode=mode))
    leaks = {}
    with wire.connect(server.host, server.port, "app", database, "app") as direct:
        fresh = snapshot(direct)
        for sql in SETTERS + OBJECTS:
            vanishes(log_in(proxy, database), sql.replace("{db}", database))
            with log_in(proxy, database) as second:
                if found := difference(fresh, snapshot(second)):
                    leaks[sql] = found
            if found:
                throw_away(server, database, direct.process_id)
    report(leaks)


MIDWAY = {
    "in a transaction": [wire.query("begin; set work_mem = '5MB'; create temp table tt (v int); select pg_advisory_lock(9); update t set v = v")],
    "in a failed transaction": [wire.query("begin; set work_mem = '5MB'"), wire.query("select 1/0")],
    "in copy in": [wire.query("create temp table tt (v text)"), wire.query("copy tt from stdin"), wire.copy_data(b"a\nb\n")],
    "in half a copy message": [wire.query("copy t from stdin"), wire.copy_data(b"900\tx\n" * 100)[:300]],
    "in a large copy message": [wire.query("copy t (v) from stdin"), wire.copy_data(b"x" * 3_000_000)[:1_000_000]],
    "in copy out": [wire.query("copy (select repeat('x', 1000) from generate_series(1, 100000)) to stdout")],
    "in a result": [wire.query("select repeat('x', 1000) from generate_series(1, 100000)")],
    "in a pipeline": [wire.parse("select set_config('work_mem', '8MB', false)") + wire.bind() + wire.execute(), wire.parse("listen news") + wire.bind() + wire.execute() + wire.FLUSH],
    "in a pipeline behind an error": [wire.parse("selekt") + wire.bind() + wire.execute(), wire.parse("set work_mem = '5MB'") + wire.bind() + wire.execute() + wire.FLUSH],
    "with a portal open": [wire.query("begin") + wire.parse("select * from t", "ps") + wire.bind(portal="pp", name="ps") + wire.execute("pp", 2) + wire.FLUSH],
    "in a statement": [wire.query("set work_mem = '5MB'"), wire.query("select pg_sleep(0.6), pg_advisory_lock(10)")],
    "waiting for a lock": [wire.query("begin; lock table t in access exclusive mode; select pg_sleep(0.5)")],
    "in half a message": [wire.query("set work_mem = '5MB'") + wire.query("select 1")[:7]],
    "in a function call": [wire.query("set datestyle = 'SQL'") + wire.function_call(2626, [b"0.5"])],
    "with replies unread": [wire.query("set work_mem = '5MB'; listen a; prepare p as select 1") * 20],
}


@pytest.mark.parametrize("how", MIDWAY)
def test_a_client_killed_midway_leaves_nothing_behind(tessera, server, database, how):
    proxy = tessera(one_connection(server, database, checkout_timeout="5s"))
    with wire.connect(server.host, server.port, "app", database, "app") as direct, log_in(proxy, database) as second:
        fresh = snapshot(direct)
        for pause in (0, 0.05, 0.2):
            first = log_in(proxy, database)
            for part in MIDWAY[how]:
                first.send(part)
                time.sleep(pause)
            first.close()
            for _ in range(2):
                assert difference(fresh, snapshot(second)) == []
        assert value(second, "select count(*) from t where id >= 900 and id < 100000") == "0"
        second.send(wire.TERMINATE)
    eventually(lambda: len(backends_of(server, database)) <= 2, what="no server connections but the pool's and `direct`")


OFF = "set standard_conforming_strings = off"
MISREAD = {  # what sessions send, one after the other
    "a backslash": [[OFF, wire.query("select '\\'' ; set work_mem = 9216; set role guest; --'")]],
    "a backslash, by the extended protocol": [[OFF, wire.parse("select '\\'', set_config($$work_mem$$, $$9MB$$, false) --'") + wire.bind() + wire.execute() + wire.SYNC]],
    "a backslash, and a twin without one": [[OFF, wire.query("select '\\'' ; set work_mem = 9216; --'")], [OFF, wire.query("select 'x' ; set work_mem = 9216; --'")]],
    "a character that ends in a backslash": [["set client_encoding to sjis", wire.query(b"select E'\x83\x5c' ; set work_mem = 9216; --'")]],
}


@pytest.mark.parametrize("what", MISREAD)
def test_strings_that_the_server_reads_otherwise_hide_nothing(tessera, server, database, what):
    """Tessera's parser sees one long string where the server sees a second statement."""
    proxy = tessera(one_connection(server, database))
    with wire.connect(server.host, server.port, "app", database, "app") as direct, log_in(proxy, database) as second:
        fresh = snapshot(direct)
        for parts in MISREAD[what]:
            first = log_in(proxy, database)
            for part in parts:
                replies = first.ask(wire.query(part) if isinstance(part, str) else part)
                assert not errors(replies), errors(replies)
            kept = value(first, "select current_setting('work_mem')")
            first.close()
        assert difference(fresh, snapshot(second)) == []
        assert kept == "9MB", "the session itself keeps it"


@pytest.mark.parametrize("literal", [r"'C:\dir'", r"E'C:\\dir'", "'C:'\n'\\dir'", "'C:'\n  '\\'\n'dir'"])
def test_a_setting_with_a_backslash_is_restored_where_others_read_strings_otherwise(tessera, server, database, literal):
    proxy = tessera(one_connection(server, database))
    with log_in(proxy, database) as first, log_in(proxy, database) as second:
        first.ask(wire.query(OFF))
        assert not errors(second.ask(wire.query(f"set my.custom = {literal}")))
        assert value(first, "select current_setting('standard_conforming_strings')") == "off"
        assert value(second, "select current_setting('my.custom')") == r"C:\dir"


# 8: two identities never share an uncleaned connection

SETTINGS = {
    "application_name": ["", "one", "two", "it's"], "DateStyle": ["ISO, MDY", "German, DMY", "SQL, DMY"], "work_mem": ["4MB", "5MB", "6MB"], "search_path": ['"$user", public', "alice, public", "pg_catalog"],
    "TimeZone": ["UTC", "Asia/Tokyo", "America/New_York"], "statement_timeout": ["0", "30s", "40s"], "extra_float_digits": ["1", "0", "3"], "my.custom": ["", "a", "b\\c", "d'e"], "lock_timeout": ["0", "7s"],
}
LOOK = "select " + ", ".join(f"coalesce(current_setting('{name}', true), '')" for name in SETTINGS) + ", current_user, session_user, current_database()"


class Model:
    """One client and what it must see of itself."""

    set_config = 0.1  # how often set_config() in place of SET

    def __init__(self, proxy, database, user, rng):
        self.rng, self.user, self.database = rng, user, database
        chosen = {name: rng.choice(values) for name, values in SETTINGS.items() if name != "my.custom" and rng.random() < 0.3}
        self.base = {name: values[0] for name, values in SETTINGS.items()} | chosen
        self.now = dict(self.base)
        self.saved = None  # of the transaction that is open
        self.local = {}
        self.connection = log_in(proxy, database, user, user, parameters=chosen)
        self.history = [f"login {user} {database} {chosen}"]

    def step(self):
        name = self.rng.choice(list(SETTINGS))
        chosen = self.rng.choice(SETTINGS[name])
        literal = "'" + chosen.replace("'", "''") + "'" if name != "search_path" else chosen
        do = self.rng.choices(["set", "set local", "reset", "reset all", "begin", "commit", "rollback", "error", "discard", "look", "extended"], [6, 2, 2, 1, 2, 2, 2, 1, 0.5, 6, 3])[0]
        if do == "set":
            self.run(f"set {name} to {literal}")
            self.now[name] = chosen
            self.local.pop(name, None)
        elif do == "set local" and self.saved is not None:
            self.run(f"set local {name} to {literal}")
            self.local[name] = chosen
        elif do == "extended":
            statement = f"select set_config('{name}', $1, false)" if self.rng.random() < self.set_config else f"set {name} to {literal}"
            parameters = [chosen.encode()] if "$1" in statement else []
            self.history.append(f"extended {statement} {parameters}")
            replies = self.connection.ask(wire.parse(statement), wire.bind(parameters), wire.execute(), wire.SYNC)
            assert code(replies) is None, (self.history, replies)
            self.now[name] = chosen
            self.local.pop(name, None)
        elif do == "reset":
            self.run(f"reset {name}")
            self.now[name] = self.base[name]
            self.local.pop(name, None)
        elif do == "reset all":
            self.run("reset all")
            self.now = dict(self.base)
            self.local = {}
        elif do == "begin" and self.saved is None:
            self.run("begin")
            self.saved, self.local = dict(self.now), {}
        elif do in ("commit", "rollback") and self.saved is not None:
            self.run(do)
            self.end(do == "commit")
        elif do == "error" and self.saved is not None:
            self.history.append("error, rollback")
            assert code(self.connection.ask(wire.query("select 1/0"))) == "22012"
            self.connection.ask(wire.query("commit"))
            self.end(False)
        elif do == "discard" and self.saved is None:
            self.run("discard all")
            self.now = dict(self.base)
        self.look()

    def end(self, kept):
        if not kept:
            self.now = self.saved
        self.saved, self.local = None, {}

    def run(self, sql):
        self.history.append(sql)
        replies = self.connection.ask(wire.query(sql))
        assert code(replies) is None, ("\n".join(self.history), replies)

    def look(self):
        seen = rows(self.connection.ask(wire.query(LOOK)))[0]
        expected = [(self.now | self.local)[name] for name in SETTINGS] + [self.user, self.user, self.database]
        assert seen == expected, "\n".join([*self.history, f"saw      {seen}", f"expected {expected}"])


def seeds(count):
    if "TESSERA_SEED" in os.environ:
        return [int(os.environ["TESSERA_SEED"])]
    return [*range(count // 2), *(random.SystemRandom().randrange(10**9) for _ in range(count - count // 2))]


def test_identities_never_share_an_uncleaned_connection(tessera, server, database):
    config = config_of([server], database, users=[{"name": user, "password": user} for user in ("app", "alice", "bob")], pool={"size": 1, "checkout_timeout": "20s"})
    config["databases"]["second name"] = {**config["databases"][database]}
    config["workers"] = 1
    proxy = tessera(config)
    for seed in seeds(12):
        rng = random.Random(seed)
        clients = [Model(proxy, database, user, rng) for user in ("app", "app", "app", "alice", "bob")]
        try:
            for _ in range(60):
                client = rng.choice(clients)
                holder = next((other for other in clients if other is not client and other.user == client.user and (other.saved is not None or other_is_pinned(other))), None)
                (holder or client).step()
        except AssertionError as error:
            raise AssertionError(f"seed {seed}\n{error}") from None
        finally:
            for client in clients:
                client.connection.close()


def other_is_pinned(client):
    """A set_config() keeps the connection, so with one connection nobody else of that user gets a turn."""
    return any("set_config" in line for line in client.history[-60:])


# 11: wrong rows to the wrong client


class SelfIdentifying(threading.Thread):
    """Asks for its own name and number, in every way there is, and counts what is not its own."""

    def __init__(self, number, proxy, database, until):
        super().__init__(daemon=True)
        self.rng = random.Random(number)
        self.name = f"client-{number}"
        self.proxy, self.database, self.until = proxy, database, until
        self.sequence = self.answered = self.refused = 0
        self.problems = []
        self.connection = None

    def run(self):
        while time.monotonic() < self.until and not self.problems:
            try:
                if self.connection is None:
                    self.connection = log_in(self.proxy, self.database, timeout=20)
                    self.prepared = False
                self.rng.choice([self.simple, self.simple, self.extended, self.by_name, self.pipeline, self.several, self.transaction, self.cancelled, self.timed_out, self.killed])()
            except TimeoutError:
                self.problems.append("no answer in 20 s")
            except (wire.WireError, OSError) as error:
                self.refused += 1
                self.drop()
                if getattr(error, "fields", {}).get("C") not in (None, "53300", "57014"):
                    self.problems.append(f"login: {error}")
            except Exception as error:  # a malformed answer is a finding, not an accident
                self.problems.append(repr(error))
        self.drop()

    def drop(self):
        if self.connection:
            self.connection.close()
        self.connection = None

    def next(self):
        self.sequence += 1
        return [self.name, str(self.sequence)]

    def check(self, replies, *expected):
        got = rows(replies)
        failed = code(replies)
        if failed in ("53300", "57014") and got == list(expected)[:len(got)]:
            self.refused += 1
        elif failed or got != list(expected):
            self.problems.append(f"{got} {errors(replies)} instead of {expected}")
        self.answered += len(got)

    def sql(self, mine, more=""):
        return f"select '{mine[0]}', {mine[1]}{more}"

    def simple(self):
        mine = self.next()
        self.check(self.connection.ask(wire.query(self.sql(mine))), mine)

    def several(self):
        mine = [self.next() for _ in range(3)]
        self.check(self.connection.ask(wire.query(";".join(map(self.sql, mine)))), *mine)

    def parts(self, mine, name="", parse=True):
        parameters = [value.encode() for value in mine]
        return (wire.parse("select $1::text, $2::int", name) if parse else b"") + wire.bind(parameters, name=name) + wire.execute()

    def extended(self):
        mine = self.next()
        self.check(self.connection.ask(self.parts(mine), wire.SYNC), mine)

    def by_name(self):
        mine = self.next()
        replies = self.connection.ask(self.parts(mine, "mine", not self.prepared), wire.SYNC)
        self.prepared = self.prepared or any(reply.type == "1" for reply in replies)
        self.check(replies, mine)

    def pipeline(self):
        mine = [self.next() for _ in range(self.rng.randrange(2, 6))]
        for one in mine:
            self.connection.send(self.parts(one), wire.SYNC)
        for one in mine:
            self.check(self.connection.read_until("Z"), one)

    def transaction(self):
        for sql in ("begin", None, "commit"):
            if sql is None:
                self.simple()
            else:
                replies = self.connection.ask(wire.query(sql))
                if code(replies) and code(replies) not in ("53300",):
                    self.problems.append(f"{sql}: {errors(replies)}")
        if self.connection.status != "I":
            self.connection.ask(wire.query("rollback"))

    def cancelled(self):
        mine = self.next()
        self.connection.send(wire.query(self.sql(mine, ", pg_sleep(0.02)")))
        time.sleep(self.rng.random() * 0.03)
        with wire.Wire(self.proxy.host, self.proxy.port) as canceller:
            canceller.send(wire.cancel_request(self.connection.process_id, self.connection.secret_key))
            canceller.read_to_end()
        self.check(self.connection.read_until("Z"), [*mine, ""])

    def timed_out(self):
        self.connection.ask(wire.query("set statement_timeout = 10"))
        mine = self.next()
        self.check(self.connection.ask(wire.query(self.sql(mine, ", pg_sleep(0.005 + random() / 50)"))), [*mine, ""])
        self.connection.ask(wire.query("set statement_timeout = 0"))

    def killed(self):
        """Leaves with answers on their way, and comes back."""
        mine = self.next()
        self.connection.send(self.parts(mine), wire.query(self.sql(mine, ", repeat('x', 100000)")) * self.rng.randrange(3))
        time.sleep(self.rng.random() * 0.01)
        self.drop()


@pytest.mark.parametrize("size, checkout", [(4, "10s"), (1, "30ms")], ids=["busy", "exhausted"])
def test_every_row_goes_to_the_client_who_asked(tessera, server, database, size, checkout):
    proxy = tessera(config_of([server], database, pool={"size": size, "checkout_timeout": checkout, "prepared_statements": 3, "reconnect_min": "1ms"}))
    until = time.monotonic() + float(os.environ.get("TESSERA_LOAD_SECONDS", "8"))
    clients = [SelfIdentifying(number, proxy, database, until) for number in range(16)]
    for client in clients:
        client.start()
    for client in clients:
        client.join(until - time.monotonic() + 40)
        assert not client.is_alive(), f"{client.name} hangs at {client.sequence}"
    problems = [f"{client.name}: {problem}" for client in clients for problem in client.problems]
    assert problems == []
    answered, refused = sum(client.answered for client in clients), sum(client.refused for client in clients)
    assert answered > 500 and refused > 10, (answered, refused)
