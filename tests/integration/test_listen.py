"""LISTEN and NOTIFY: one connection for each role and shard listens for all sessions, whatever becomes of it."""

import time

import pytest
from harness import wire
from roles import make_role
from talk import code, config_of, errors, eventually, log_in, value
from test_faults import cpu_seconds
from test_reload import reload

ASLEEP = 0.3


@pytest.fixture(scope="module")
def database(servers, new_database):
    return new_database(servers, "create table t (id int primary key, v text); insert into t select i, current_setting('cluster_name') from generate_series(1, 100) i")


RULES = {"rules": {"r": {"type": "range", "ranges": [{"below": "50", "shard": "s0"}, {"shard": "s1"}]}}, "tables": {"t": {"rule": "r", "key": "id"}}}


@pytest.fixture
def proxy(tessera, servers, database):
    return tessera(config_of(servers, database, **RULES))


@pytest.fixture
def single(tessera, servers, database):
    return tessera(config_of(servers[:1], database))


@pytest.fixture(params=[1, 2])
def either(request, tessera, servers, database):
    """A database of one shard, and one of two."""
    return tessera(config_of(servers[:request.param], database, **(RULES if request.param == 2 else {})))


class Ear:
    """A session that listens."""

    def __init__(self, proxy, database, **options):
        self.wire = log_in(proxy, database, **options)

    def run(self, sql):
        replies = self.wire.ask(wire.query(sql))
        assert not errors(replies), errors(replies)
        return [told(reply) for reply in replies if reply.type == "A"]

    def heard(self, wait=ASLEEP):
        """What comes within this time, after a statement that shows that the session still works."""
        found, deadline = [], time.monotonic() + wait
        while (left := deadline - time.monotonic()) > 0:
            self.wire.socket.settimeout(left)
            try:
                reply = self.wire.read()
            except TimeoutError:
                break
            assert reply.type == "A", reply
            found.append(told(reply))
        self.wire.socket.settimeout(10)
        return found

    def close(self):
        self.wire.close()


def told(reply):
    channel, payload = reply.body[4:].split(b"\0")[:2]
    return channel.decode(), payload.decode()


def notify(server, database, channel, payload=""):
    server.run(f"select pg_notify('{channel}', '{payload}')", database)


def listeners(server, database):
    """Process ids of connections that listen."""
    return [int(pid) for pid in server.run(f"select pid from pg_stat_activity where datname = '{database}' and query ~ '^(UN)?LISTEN'").split()]


def test_a_notification_on_either_shard_is_heard_once(proxy, servers, database):
    ears = [Ear(proxy, database) for _ in range(4)]  # of both workers
    for ear in ears[:3]:
        ear.run("listen news")
    for number, server in enumerate(servers):
        notify(server, database, "news", f"from {number}")
    for ear in ears[:3]:
        assert sorted(ear.heard()) == [("news", "from 0"), ("news", "from 1")]
    assert ears[3].heard(0.1) == []
    ears[3].run("notify news, 'through the proxy'")
    for ear in ears[:3]:
        assert ear.heard() == [("news", "through the proxy")]


def test_names_and_payloads(either, servers, database):
    ear = Ear(either, database)
    channels = ["plain", "Mixed Case", 'quo"te', "größe", "role", "session_authorization", "x" * 63]
    for channel in channels:
        ear.run('listen "' + channel.replace('"', '""') + '"')
    for channel in channels:
        for payload in ("", "a", "ä ''quoted'' \\ %s\n", "p" * 7999):
            notify(servers[0], database, channel.replace("'", "''"), payload)
            assert ear.heard(0.1) == [(channel, payload.replace("''", "'"))], channel
    ear.run("unlisten role")
    notify(servers[0], database, "role")
    notify(servers[0], database, "session_authorization")
    assert ear.heard() == [("session_authorization", "")]


def test_the_extended_protocol(either, servers, database):
    ear = Ear(either, database)
    def extended(sql):
        replies = ear.wire.ask(wire.parse(sql), wire.bind(), wire.execute(), wire.SYNC)
        assert not errors(replies)
    extended("listen news")
    notify(servers[0], database, "news", "1")
    assert ear.heard() == [("news", "1")]
    extended("unlisten news")
    notify(servers[0], database, "news", "2")
    assert ear.heard() == []


def test_inside_a_transaction_it_waits_for_the_end(either, servers, database):
    ear = Ear(either, database)
    ear.run("listen news")
    for end in ("commit", "rollback"):
        ear.run("begin")
        ear.run("select v from t where id = 1")
        notify(servers[0], database, "news", end)
        assert ear.heard() == []
        found = ear.run(end)
        assert (found or ear.heard()) == [("news", end)]
    ear.run("begin")  # nothing of it has reached a server
    notify(servers[0], database, "news", "empty")
    assert ear.heard() == []
    assert (ear.run("commit") or ear.heard()) == [("news", "empty")]


def test_a_notification_of_a_transaction_comes_with_its_commit(either, database):
    ear, mouth = Ear(either, database), Ear(either, database)
    ear.run("listen news")
    mouth.run("begin")
    mouth.run("select v from t where id = 1")
    mouth.run("notify news, 'kept'")
    assert ear.heard() == []
    mouth.run("commit")
    assert ear.heard() == [("news", "kept")]
    mouth.run("begin")
    mouth.run("select v from t where id = 1")
    mouth.run("notify news, 'dropped'")
    mouth.run("rollback")
    assert ear.heard() == []


def test_one_hears_ones_own(either, database):
    ear = Ear(either, database)
    ear.run("listen news")
    assert (ear.run("notify news, 'mine'") or ear.heard()) == [("news", "mine")]
    ear.run("unlisten news")
    for i in range(20):  # in the transaction of the LISTEN
        ear.run("begin")
        ear.run("select v from t where id = 1")
        ear.run("listen news")
        ear.run(f"notify news, 'mine {i}'")
        found = ear.run("commit")
        assert (found or ear.heard()) == [("news", f"mine {i}")]
        ear.run("unlisten news")


@pytest.mark.parametrize("ending", ["unlisten news", "unlisten *", "discard all"])
@pytest.mark.parametrize("how", ["simple", "extended", "begin"])
def test_ones_own_is_heard_before_one_stops_listening(either, servers, database, ending, how):
    """In one flight, as a server tells it: with the end of NOTIFY."""
    if (how, ending) == ("extended", "discard all"):
        pytest.skip("refused there where it is pipelined")
    unit = wire.query if how != "extended" else (lambda sql: wire.parse(sql) + wire.bind() + wire.execute() + wire.SYNC)
    notify_all = ["begin", "select v from t where id = 1", "notify news, 'mine'", "commit"] if how == "begin" else ["notify news, 'mine'"]
    for place in (servers[0], either):
        with wire.connect("127.0.0.1", place.port, "app", database, "app") as connection:
            for _ in range(10):
                connection.send(*(unit(sql) for sql in ["listen news", *notify_all, ending, "select 1"]))
                replies = [reply for _ in range(len(notify_all) + 3) for reply in connection.read_until("Z")]
                assert not errors(replies)
                assert [told(reply) for reply in replies if reply.type == "A"] == [("news", "mine")], place
                assert [reply.type for reply in replies].index("A") < len(replies) - 4


def test_nobody_waits_for_a_listening_connection_that_is_lost(either, servers, database):
    with log_in(either, database) as connection:
        connection.ask(wire.query("listen news"))
        for _ in range(10):
            servers[0].run("select pg_terminate_backend(pid) from pg_stat_activity where query like 'LISTEN%'")
            assert not errors(connection.ask(wire.query("unlisten news"))) and not errors(connection.ask(wire.query("listen news")))


@pytest.mark.parametrize("ending", ["rollback", "commit of a failed one", "savepoint"])
def test_listen_is_undone_by_rollback(either, servers, database, ending):
    ear = Ear(either, database)
    ear.run("listen before")
    ear.run("begin")
    ear.run("select v from t where id = 1")
    if ending == "savepoint":
        ear.run("savepoint a")
    ear.run("listen news")
    ear.run("unlisten before")
    notify(servers[0], database, "news", "inside")
    if ending == "savepoint":
        ear.run("rollback to a")
    elif ending != "rollback":
        ear.wire.ask(wire.query("select 1/0 from t where id = 1"))
    found = ear.run("rollback" if ending == "rollback" else "commit")
    notify(servers[0], database, "news", "after")
    notify(servers[0], database, "before", "still")
    assert found + ear.heard() == [("before", "still")]


def test_listen_and_unlisten_count_from_commit_on(either, servers, database):
    ear = Ear(either, database)
    ear.run("listen before")
    ear.run("begin")
    ear.run("select v from t where id = 1")
    ear.run("listen news")
    ear.run("unlisten before")
    ear.run("commit")
    notify(servers[0], database, "before", "gone")
    notify(servers[0], database, "news", "1")
    assert ear.heard() == [("news", "1")]
    ear.run("begin")
    ear.run("unlisten *")
    ear.run("commit")
    notify(servers[0], database, "news", "2")
    assert ear.heard() == []


@pytest.mark.parametrize("ending", ["unlisten news", "unlisten *", "discard all"])
def test_nothing_is_heard_afterwards(either, servers, database, ending):
    ear, other = Ear(either, database), Ear(either, database)
    ear.run("listen news")
    ear.run("listen more")
    other.run("listen news")
    ear.run(ending)
    notify(servers[0], database, "news", "late")
    notify(servers[0], database, "more", "late")
    assert other.heard() == [("news", "late")]
    assert ear.heard() == ([("more", "late")] if ending == "unlisten news" else [])


def test_connections_are_closed_when_nobody_listens(proxy, servers, database):
    ears = [Ear(proxy, database) for _ in range(2)]
    ears[0].run("listen news")
    ears[1].run("listen news")
    for server in servers:
        assert 1 <= len(listeners(server, database)) <= 2
    ears[0].close()  # without a word
    ears[1].run("unlisten *")
    for server in servers:
        eventually(lambda: not listeners(server, database), timeout=12, what="they are closed")
    ears[1].run("listen news")
    notify(servers[1], database, "news", "again")
    assert ears[1].heard() == [("news", "again")]


def test_a_lost_connection_is_made_anew(proxy, servers, database):
    ears = [Ear(proxy, database) for _ in range(3)]
    for number, ear in enumerate(ears):
        ear.run("listen news")
        ear.run(f"listen own_{number}")
    old = listeners(servers[1], database)
    for pid in old:
        servers[1].run(f"select pg_terminate_backend({pid})")
    proxy.wait_for_log("notifications may have been missed")
    eventually(lambda: len(set(listeners(servers[1], database)) - set(old)) == len(old), what="they listen again")
    proxy.wait_for_log("listening again")
    time.sleep(0.2)
    notify(servers[1], database, "news", "alive")
    for number, ear in enumerate(ears):
        notify(servers[1], database, f"own_{number}", "mine")
        assert ear.heard() == [("news", "alive"), (f"own_{number}", "mine")]
        assert value(ear.wire, "select 1") == "1"


def test_a_server_that_restarts(tessera, new_server, new_database):
    server = new_server("restarts")
    name = new_database([server])
    proxy = tessera(config_of([server], name, pool={"checkout_timeout": "500ms"}))
    ear = Ear(proxy, name)
    ear.run("listen news")
    server.stop()
    proxy.wait_for_log("notifications may have been missed")
    late = wire.query("listen more")
    replies = ear.wire.ask(late)
    assert code(replies).startswith(("08", "57")), "who asks in the meantime is told"
    server.start()
    eventually(lambda: listeners(server, name), timeout=20)
    time.sleep(0.2)
    ear.run("listen more")
    notify(server, name, "news", "back")
    notify(server, name, "more", "too")
    assert ear.heard() == [("news", "back"), ("more", "too")]


def test_a_reload_that_moves_the_shard(tessera, servers, database):
    proxy = tessera(config_of(servers[:1], database))
    ear = Ear(proxy, database)
    ear.run("listen news")
    assert reload(proxy, config_of(servers[1:], database))
    eventually(lambda: listeners(servers[1], database), what="it listens at the new place")
    eventually(lambda: not listeners(servers[0], database), what="and not at the old one")
    time.sleep(0.2)
    notify(servers[0], database, "news", "old")
    notify(servers[1], database, "news", "new")
    assert ear.heard() == [("news", "new")]
    proxy.wait_for_log("notifications may have been missed.*moved")


def test_a_reload_that_moves_nothing_disturbs_nobody(tessera, servers, database, ca):
    """With verified TLS each reload reads the certificates again; connections that listen stay."""
    config = config_of(servers[:1], database, backend={"tls": "verify-ca", "ca": str(ca.certificate)})
    proxy = tessera(config)
    ear = Ear(proxy, database)
    ear.run("listen news")
    before = listeners(servers[0], database)
    config["databases"][database]["limits"] = {"clients": 77}
    assert reload(proxy, config)
    time.sleep(0.2)
    assert listeners(servers[0], database) == before
    notify(servers[0], database, "news", "heard")
    assert ear.heard() == [("news", "heard")]


def test_a_reload_that_changes_the_role(tessera, servers, database):
    """Sessions that are open work as another role from then on: so do their ears, and when they end nothing is left under either."""
    make_role(servers[0], "hearer", "hearer")
    proxy = tessera(config_of(servers[:1], database))
    ear, leaver = Ear(proxy, database), Ear(proxy, database)
    ear.run("listen news")
    leaver.run("listen other")
    roles = f"select distinct usename from pg_stat_activity where datname = '{database}' and query ~ '^LISTEN'"
    assert servers[0].run(roles).split() == ["app"]
    users = [{"name": "app", "password": "app", "backend_user": "hearer", "backend_password": "hearer"}]
    assert reload(proxy, config_of(servers[:1], database, users=users))
    eventually(lambda: "hearer" in servers[0].run(roles).split(), what="the new role listens")
    time.sleep(0.3)
    notify(servers[0], database, "news", "once")
    assert ear.heard() == [("news", "once")]
    ear.run("unlisten news")
    leaver.close()
    eventually(lambda: not servers[0].run(roles).split(), timeout=12, what="nobody listens any more")
    for channel in ("news", "other"):
        notify(servers[0], database, channel, "to nobody")
    assert ear.heard() == [] and value(ear.wire, "select current_user") == "hearer"


def connections_to(servers, database):
    return sum(int(server.run(f"select count(*) from pg_stat_activity where datname = '{database}' and backend_type = 'client backend'", "postgres")) for server in servers)


def console(proxy, words):
    with log_in(proxy, "pgbouncer") as connection:
        assert code(connection.ask(wire.query(words))) is None, words


def pids_of(servers, database):
    return [set(listeners(server, database)) for server in servers]


def test_pause_closes_them_and_resume_listens_again(tessera, servers, database):
    proxy = tessera({**config_of(servers, database, pool={"checkout_timeout": "500ms"}, **RULES), "admin": {"console_admins": ["app"]}})
    ear, late = Ear(proxy, database), Ear(proxy, database)
    ear.run("listen news")
    console(proxy, "PAUSE")
    assert pids_of(servers, database) == [set(), set()] and connections_to(servers, database) == 0
    notify(servers[0], database, "news", "lost")
    fields = errors(late.wire.ask(wire.query("listen late")))[0]
    assert fields["C"] == "57P03" and "paused" in fields["M"], fields
    assert connections_to(servers, database) == 0
    console(proxy, "RESUME")
    eventually(lambda: all(pids_of(servers, database)), what="it listens again")
    late.run("listen late")
    notify(servers[0], database, "news", "1")
    notify(servers[1], database, "news", "2")
    notify(servers[1], database, "late", "3")
    assert sorted(ear.heard()) == [("news", "1"), ("news", "2")] and late.heard() == [("late", "3")]
    proxy.wait_for_log("notifications may have been missed.*PAUSE")


def test_reconnect_renews_them(tessera, servers, database):
    proxy = tessera({**config_of(servers, database, **RULES), "admin": {"console_admins": ["app"]}})
    ear = Ear(proxy, database)
    ear.run("listen news")
    ear.run("listen more")
    before = pids_of(servers, database)
    assert all(before)
    console(proxy, "RECONNECT")
    eventually(lambda: all(now and not now & old for now, old in zip(pids_of(servers, database), before)), what="other connections listen")
    found = []
    for channel in ("news", "more"):
        found += ear.run(f"listen {channel}")  # it does so already
        for server in servers:
            notify(server, database, channel, "x")
    assert sorted(found + ear.heard()) == [("more", "x")] * 2 + [("news", "x")] * 2
    proxy.wait_for_log("notifications may have been missed.*RECONNECT")


def test_they_count_against_max_server_connections(tessera, servers, database):
    proxy = tessera(config_of(servers[:1], database, pool={"max_server_connections": 1, "checkout_timeout": "500ms", "idle_timeout": "100ms"}))
    with log_in(proxy, database) as holder, log_in(proxy, database) as other:
        value(holder, "select 1")
        eventually(lambda: not errors(holder.ask(wire.query("begin")) + holder.ask(wire.query("select 1"))))
        replies = other.ask(wire.query("listen news"))
        assert code(replies) == "53300" and "max_server_connections" in errors(replies)[0]["H"], errors(replies)
        holder.ask(wire.query("commit"))
        eventually(lambda: code(other.ask(wire.query("listen news"))) is None)


def test_roles_do_not_share(tessera, servers, database):
    make_role(servers[0], "hearer", "hearer")
    proxy = tessera(config_of(servers[:1], database, users=[{"name": "app", "password": "app"}, {"name": "hearer", "password": "hearer"}]))
    one, two = Ear(proxy, database), Ear(proxy, database, user="hearer", password="hearer")
    one.run("listen news")
    two.run("listen news")
    assert set(servers[0].run(f"select distinct usename from pg_stat_activity where datname = '{database}' and query ~ '^LISTEN'").split()) == {"app", "hearer"}
    two.run("unlisten news")
    notify(servers[0], database, "news", "x")
    assert one.heard() == [("news", "x")] and two.heard() == []


def test_many_channels_and_sessions(either, servers, database):
    ears = [Ear(either, database) for _ in range(20)]
    for number, ear in enumerate(ears):
        ear.wire.send(b"".join(wire.query(f"listen c_{number}_{i}") for i in range(30)))
    for ear in ears:
        for _ in range(30):
            assert not errors(ear.wire.read_until("Z"))
    for number in range(20):
        notify(servers[0], database, f"c_{number}_29", str(number))
    for number, ear in enumerate(ears):
        assert ear.heard(0.1) == [(f"c_{number}_29", str(number))]
        ear.close()


def test_a_client_that_does_not_read_is_not_held_for_ever(single, servers, database):
    """40 MB for somebody who takes none of it; others hear all."""
    slow, other = Ear(single, database), Ear(single, database)
    slow.run("listen flood")
    other.run("listen calm")
    servers[0].run("select pg_notify('flood', i || repeat('x', 7900)) from generate_series(1, 5000) i", database)
    notify(servers[0], database, "calm", "still here")
    assert other.heard() == [("calm", "still here")]
    # The other may be on another worker thread, which has heard all of it earlier.
    eventually(lambda: 'sqlstate="54000"' in single.http("GET", "/metrics")[1], timeout=30)
    last = None
    while last is None or last.type == "A":
        last = slow.wire.read()
    assert last.type == "E" and wire.error_fields(last.body)["C"] == "54000", last


def test_psycopgs_notifies(either, servers, database):
    with either.connect(database) as connection:
        connection.execute("listen news")
        notify(servers[0], database, "news", "one")
        for found in connection.notifies():
            assert (found.channel, found.payload) == ("news", "one")
            break
        connection.autocommit = False
        connection.execute("listen later")
        connection.commit()
        notify(servers[0], database, "later", "two")
        for found in connection.notifies():
            assert (found.channel, found.payload) == ("later", "two")
            break


def test_a_session_may_listen_to_very_many_channels(single, database):
    """Each LISTEN and each transaction costs the same, however many there are; also a session's end, of the same role."""
    ear = Ear(single, database)
    spent = []
    for first in range(0, 10_000, 1000):
        before = cpu_seconds(single)
        for channel in range(first, first + 1000):
            ear.run(f"listen c{channel}")
        for _ in range(1000):
            ear.run("begin; commit")
        for _ in range(100):
            Ear(single, database).close()
        spent.append(cpu_seconds(single) - before)
    assert spent[-1] < 4 * spent[0], spent
    ear.run("unlisten *")
    assert value(ear.wire, "select count(*) from pg_listening_channels()") == "0"
