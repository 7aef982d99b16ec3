"""auth_query: verifiers from the database, by a connection that follows the configuration and delays nobody else."""

import base64
import concurrent.futures
import copy
import os
import re
import signal
import threading
import time

import pytest
from harness import places, wire
from roles import logs_in, make_role, md5_verifier, refused, scram_verifier
from talk import config_of, eventually, log_in, value
from test_reload import reload


@pytest.fixture(scope="module")
def server(shards):
    return shards(1)[0]


@pytest.fixture(scope="module")
def database(server, new_database):
    return new_database([server], "create table t (id int primary key, v text)")


ASK = "select rolname, case when rolvaliduntil < now() then null else rolpassword end from pg_authid where rolname = $1 and rolcanlogin"


@pytest.fixture(scope="module")
def asked(server, database):
    make_role(server, "asker", "Canary-asker")
    server.run("grant select on pg_authid to asker", database)
    for name, more in (("q_ok", "login"), ("q_until", "login valid until '2100-01-01'"), ("q_expired", "login valid until '2001-01-01'"), ("q_nologin", "nologin"), ("q_changes", "login"), ("q_evil", "login")):
        make_role(server, name, "Canary-" + name, more)
    server.run("drop role if exists q_null; create role q_null login")
    return server


def query_config(server, database, **more):
    return config_of([server], database, users=[], auth_query={"user": "asker", "password": "Canary-asker", "query": ASK, **more}, pool={"checkout_timeout": "2s"})


def test_auth_query_finds_users_and_their_keys_pass_through(tessera, asked, database):
    proxy = tessera(query_config(asked, database), canaries=["Canary-"])
    for name in ("q_ok", "q_until"):
        with log_in(proxy, database, name, "Canary-" + name) as connection:
            assert value(connection, "select current_user") == name
        assert refused(proxy, database, name, "wrong")["C"] == "28P01"
    for name in ("q_expired", "q_nologin", "q_null", "nobody", "q_ok' or '1'='1", "q_ok\\", "$1"):
        assert refused(proxy, database, name, "Canary-" + name)["C"] == "28P01", name
    who = asked.run("select usename, datname from pg_stat_activity where application_name = 'tessera auth_query'")
    assert who.strip() == f"asker|{database}", "a connection of its own, with its own role"


def test_auth_query_is_not_fooled_by_a_search_path(tessera, asked, database):
    """A table of the attacker's in front of pg_authid, and a start-up packet that points to it."""
    asked.run(f"create schema if not exists evil authorization q_evil; create table if not exists evil.pg_authid (rolname name, rolpassword text, rolvaliduntil timestamptz, rolcanlogin bool);"
              f"grant usage on schema evil to public; grant select on evil.pg_authid to public;"
              f"insert into evil.pg_authid values ('q_ok', '{scram_verifier('Canary-evil')}', null, true)", database)
    asked.run(f"alter role asker in database {database} set search_path to evil, pg_catalog", database)
    try:
        proxy = tessera(query_config(asked, database), canaries=["Canary-"])
        for parameters in ({"search_path": "evil, pg_catalog"}, {"options": "-c search_path=evil,pg_catalog"}):
            assert refused(proxy, database, "q_ok", "Canary-evil", parameters=parameters)["C"] == "28P01"
            with log_in(proxy, database, "q_ok", "Canary-q_ok", parameters=parameters) as connection:
                assert value(connection, "select current_user") == "q_ok"
    finally:
        asked.run(f"alter role asker in database {database} reset search_path")


def test_auth_query_sees_changes_of_roles(tessera, asked, database):
    proxy = tessera(query_config(asked, database), canaries=["Canary-"])
    assert logs_in(proxy, database, "q_changes", "Canary-q_changes")
    asked.run("alter role q_changes password 'Canary-new'")
    eventually(lambda: logs_in(proxy, database, "q_changes", "Canary-new"), timeout=13, what="the new password counts")
    assert not logs_in(proxy, database, "q_changes", "Canary-q_changes")
    asked.run("alter role q_changes nologin")
    eventually(lambda: not logs_in(proxy, database, "q_changes", "Canary-new"), timeout=13, what="NOLOGIN counts")


def test_auth_query_that_cannot_run_refuses_and_says_so_in_the_log(tessera, asked, database):
    for number, wrong in enumerate(({"password": "Canary-wrong"}, {"query": "select no_such_column from pg_authid where rolname = $1"})):
        proxy = tessera(query_config(asked, database, **wrong), canaries=["Canary-"])
        fields = refused(proxy, database, "q_ok", "Canary-q_ok")
        assert fields["C"] == "57P03" and "asker" not in str(fields), fields
        proxy.wait_for_log("auth_query")


# The query that is built in


def test_without_a_query_pg_authid_is_asked(tessera, asked, database):
    """NOLOGIN and VALID UNTIL count, and a search_path does not."""
    config = query_config(asked, database)
    del config["databases"][database]["auth_query"]["query"]
    proxy = tessera(config, canaries=["Canary-"])
    for name in ("q_ok", "q_until"):
        with log_in(proxy, database, name, "Canary-" + name) as connection:
            assert value(connection, "select current_user") == name
        assert refused(proxy, database, name, "wrong")["C"] == "28P01"
    for name in ("q_expired", "q_nologin", "q_null", "nobody"):
        assert refused(proxy, database, name, "Canary-" + name)["C"] == "28P01", name


def test_its_session_is_read_only_with_an_empty_search_path(tessera, asked, database):
    asked.run("drop table if exists seen_by; create table seen_by (what text); grant insert, select on seen_by to asker", database)
    settings = "current_setting('search_path') || '/' || current_setting('default_transaction_read_only')"
    query = f"select $1::text, case when {settings} = '/on' then (select rolpassword from pg_catalog.pg_authid where rolname = $1) end"
    assert logs_in(tessera(query_config(asked, database, query=query)), database, "q_ok", "Canary-q_ok")
    query = "with w as (insert into public.seen_by values ($1) returning what) select what, (select rolpassword from pg_catalog.pg_authid where rolname = $1) from w"
    assert refused(tessera(query_config(asked, database, query=query)), database, "q_ok", "Canary-q_ok")["C"] == "57P03"
    assert asked.run("select count(*) from seen_by", database).strip() == "0"


def test_several_rows_are_no_answer(tessera, asked, database):
    query = "select rolname, rolpassword from pg_authid where rolname = $1 union all select $1, 'x'"
    assert refused(tessera(query_config(asked, database, query=query)), database, "q_ok", "Canary-q_ok")["C"] == "28P01"


def test_the_function_of_the_documentation(tessera, asked, database):
    text = (places.ROOT / "docs" / "configuration.md").read_text()
    make_role(asked, "tessera_auth", "Canary-function")
    asked.run("create schema if not exists auth", database)
    try:
        asked.run(re.search("```sql\n(CREATE FUNCTION.*?)```", text, re.S)[1], database)
        query = re.search("query: (SELECT rolname, verifier .*)", text)[1]
        proxy = tessera(query_config(asked, database, user="tessera_auth", password="Canary-function", query=query), canaries=["Canary-"])
        assert logs_in(proxy, database, "q_ok", "Canary-q_ok")
        for name in ("q_expired", "q_nologin", "postgres", "nobody"):
            assert refused(proxy, database, name, "Canary-" + name)["C"] == "28P01", name
    finally:
        asked.run("drop schema auth cascade; drop role tessera_auth", database)

# Every login asks


def test_a_password_that_was_just_changed_counts_at_once(tessera, asked, database):
    proxy = tessera(query_config(asked, database), canaries=["Canary-"])
    for number in range(5):
        asked.run(f"alter role q_changes login password 'Canary-now-{number}'")
        assert logs_in(proxy, database, "q_changes", f"Canary-now-{number}"), number
        assert not logs_in(proxy, database, "q_changes", f"Canary-now-{number - 1}")
        assert logs_in(proxy, database, "q_changes", f"Canary-now-{number}"), number
    asked.run("alter role q_changes nologin")
    assert not logs_in(proxy, database, "q_changes", "Canary-now-4")
    asked.run("drop role if exists q_late")
    assert not logs_in(proxy, database, "q_late", "Canary-q_late")
    make_role(asked, "q_late", "Canary-q_late")
    assert logs_in(proxy, database, "q_late", "Canary-q_late"), "a role that was not there a moment ago"


def test_a_login_is_not_told_what_was_asked_before_it_came(tessera, asked, database):
    """The server has looked before the change, and answers after it."""
    query = "with seen as materialized (select rolname, rolpassword from pg_authid where rolname = $1) select rolname, rolpassword from seen, pg_sleep(1)"
    proxy = tessera({**query_config(asked, database, query=query), "workers": 1}, canaries=["Canary-"])
    make_role(asked, "q_meanwhile", "Canary-before")
    with concurrent.futures.ThreadPoolExecutor(2) as aside:
        early = aside.submit(logs_in, proxy, database, "q_meanwhile", "Canary-before", timeout=20)
        eventually(lambda: asked.run("select 1 from pg_stat_activity where state = 'active' and wait_event = 'PgSleep'").split())
        asked.run("alter role q_meanwhile password 'Canary-after'")
        assert logs_in(proxy, database, "q_meanwhile", "Canary-after", timeout=20)
        early.result()


def test_logins_at_the_same_moment_are_asked_about_together(tessera, asked, database):
    """Each question takes a tenth of a second, and there is one connection: thirty logins of three users, and all are let in in time."""
    query = "select rolname, rolpassword from pg_authid, pg_sleep(0.1) where rolname = $1"
    proxy = tessera({**query_config(asked, database, query=query), "workers": 1}, canaries=["Canary-"])
    assert logs_in(proxy, database, "q_ok", "Canary-q_ok")
    started = time.monotonic()
    with concurrent.futures.ThreadPoolExecutor(30) as aside:
        logins = [aside.submit(logs_in, proxy, database, name, "Canary-" + name, timeout=20) for name in ("q_ok", "q_until", "q_evil") * 10]
        assert all(login.result() for login in logins)
    assert time.monotonic() - started < 2


def test_what_fails_for_one_name_does_not_fail_for_others(tessera, asked, database):
    """All of them are in one round: behind the first, which is slow."""
    query = "select rolname, rolpassword from pg_authid, pg_sleep(case when $1 = 'q_until' then 1 else 0 end) where rolname = $1 and 1 / (case when $1 = 'q_evil' then 0 else 1 end) = 1"
    proxy = tessera({**query_config(asked, database, query=query), "workers": 1}, canaries=["Canary-"])
    with concurrent.futures.ThreadPoolExecutor(4) as aside:
        slow = aside.submit(logs_in, proxy, database, "q_until", "Canary-q_until", timeout=20)
        eventually(lambda: asked.run("select 1 from pg_stat_activity where state = 'active' and wait_event = 'PgSleep'").split())
        failing = aside.submit(refused, proxy, database, "q_evil", "Canary-q_evil", timeout=20)
        others = [aside.submit(logs_in, proxy, database, "q_ok", "Canary-q_ok", timeout=20) for _ in range(2)]
        assert slow.result() and all(other.result() for other in others) and failing.result()["C"] == "57P03"


# Names


def first_words(port, database, user):
    """SCRAM with a wrong proof: the error that the login ends with, less its place in the server's source."""
    with wire.Wire("127.0.0.1", port) as connection:
        connection.send(startup_bytes(user, database))
        connection.read_until("R", "E")
        first = b"n,,n=,r=abcdefghijklmnop"
        connection.send(wire.message("p", b"SCRAM-SHA-256\0" + len(first).to_bytes(4, "big") + first))
        challenge = connection.read_until("R", "E")[-1].body[4:]
        nonce = challenge.split(b",")[0]
        connection.send(wire.message("p", b"c=biws," + nonce + b",p=" + base64.b64encode(b"x" * 32)))
        fields = raw_fields(connection.read_until("E", "Z")[-1].body)
        return {kind: fields[kind] for kind in (b"S", b"C", b"M")}


def startup_bytes(user, database):
    body = b"\0\x03\0\0user\0" + user + b"\0database\0" + database.encode() + b"\0\0"
    return (len(body) + 4).to_bytes(4, "big") + body


def raw_fields(body):
    return {field[:1]: field[1:] for field in body.split(b"\0") if field}


@pytest.mark.parametrize("name", [b"no_\xffbody", b"\xe9t\xe9", b"x" * 70, "ü".encode() * 32 + b"x"])
def test_odd_names_are_refused_as_the_server_refuses_them(tessera, asked, database, name):
    proxy = tessera(query_config(asked, database), canaries=["Canary-"])
    assert first_words(proxy.port, database, name) == first_words(asked.port, database, name)


def test_long_names_are_cut_as_the_server_cuts_them(tessera, asked, database):
    long = "q_" + "l" * 70
    make_role(asked, long[:63], "Canary-long")
    try:
        proxy = tessera(query_config(asked, database), canaries=["Canary-"])
        for place in (asked, proxy):
            with wire.connect("127.0.0.1", place.port, long, database, "Canary-long") as connection:
                assert value(connection, "select current_user") == long[:63]
    finally:
        asked.run(f"drop role {long[:63]}")


def test_an_md5_verifier_where_the_shard_wants_scram(tessera, asked, database):
    asked.run(f"drop role if exists q_old; create role q_old login password '{md5_verifier('q_old', 'Canary-old')}'")
    fields = refused(tessera(query_config(asked, database), canaries=["Canary-"]), database, "q_old", "Canary-old")
    assert fields["C"] == "28000" and "SCRAM" in fields["M"] and "md5" in fields["H"], fields


def test_an_md5_verifier_reaches_a_shard_that_asks_for_md5(tessera, new_server, new_database):
    server = new_server("oldest", settings={"password_encryption": "md5"}, hba="host all q_older 127.0.0.1/32 md5\n")
    name = new_database([server])
    server.run("set password_encryption = 'scram-sha-256'; create role asker login password 'Canary-asker'; grant select on pg_authid to asker", name)
    make_role(server, "q_older", "Canary-older")
    with log_in(tessera(query_config(server, name), canaries=["Canary-"]), name, "q_older", "Canary-older") as connection:
        assert value(connection, "select current_user") == "q_older"


# It follows the configuration


@pytest.fixture(scope="module")
def second(shards, new_database, database):
    """Another server with a database of the same name, where roles have other passwords."""
    server = shards(2)[1]
    new_database([server], "create table t (id int primary key, v text)", database)
    for name in ("asker", "q_ok"):
        make_role(server, name, f"Canary-{name}-2")
    server.run("grant select on pg_authid to asker", database)
    return server


def test_it_follows_a_shard_that_moves(tessera, asked, second, database):
    config = query_config(asked, database)
    proxy = tessera(config, canaries=["Canary-"])
    assert logs_in(proxy, database, "q_ok", "Canary-q_ok")
    assert not logs_in(proxy, database, "q_ok", "Canary-q_ok-2")
    config = query_config(second, database, password="Canary-asker-2")
    assert reload(proxy, config)
    eventually(lambda: logs_in(proxy, database, "q_ok", "Canary-q_ok-2"), timeout=3, what="the new server's password counts")
    assert not logs_in(proxy, database, "q_ok", "Canary-q_ok")
    eventually(lambda: not connections(asked), what="nothing is left at the old place")


def connections(server):
    return server.run("select usename from pg_stat_activity where application_name = 'tessera auth_query'").split()


def test_a_login_that_waits_for_an_answer_outlives_the_names_of_the_shards(tessera, asked, database):
    """The reload puts another database in the place of the one that was asked."""
    query = "select rolname, rolpassword from pg_authid, pg_sleep(1.5) where rolname = $1 and rolcanlogin"
    config = query_config(asked, database, query=query)
    proxy = tessera(config, canaries=["Canary-"])
    with concurrent.futures.ThreadPoolExecutor(1) as aside:
        login = aside.submit(logs_in, proxy, database, "q_ok", "Canary-q_ok", timeout=20)
        eventually(lambda: asked.run("select 1 from pg_stat_activity where state = 'active' and query like '%pg_sleep(1.5)%' and pid <> pg_backend_pid()").split())
        renamed = copy.deepcopy(config)
        shards = renamed["databases"][database]["shards"]
        shards["another_name"] = shards.pop("s0")
        renamed["databases"][database]["default_shard"] = "another_name"
        assert reload(proxy, renamed)
        started = time.monotonic()
        assert login.result()
        assert time.monotonic() - started < 5


def test_it_follows_another_user_and_password(tessera, asked, database):
    make_role(asked, "asker_two", "Canary-two")
    asked.run("grant select on pg_authid to asker_two", database)
    proxy = tessera(query_config(asked, database), canaries=["Canary-"])
    assert logs_in(proxy, database, "q_ok", "Canary-q_ok") and connections(asked) == ["asker"]
    assert reload(proxy, query_config(asked, database, user="asker_two", password="Canary-two"))
    eventually(lambda: logs_in(proxy, database, "q_until", "Canary-q_until") and connections(asked) == ["asker_two"])
    assert reload(proxy, query_config(asked, database, user="asker_two", password="Canary-wrong"))
    eventually(lambda: not connections(asked))
    assert refused(proxy, database, "q_ok", "Canary-q_ok")["C"] == "57P03"
    assert reload(proxy, config_of([asked], database, users=[]))
    eventually(lambda: refused(proxy, database, "q_ok", "Canary-q_ok")["C"] == "28P01", what="without an auth_query nobody is known")


def test_a_connection_that_has_died_is_made_anew(tessera, asked, database):
    proxy = tessera(query_config(asked, database), canaries=["Canary-"])
    for name in ("q_ok", "q_until", "q_ok"):
        assert logs_in(proxy, database, name, "Canary-" + name)
        asked.run("select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'tessera auth_query'")


def test_pause_closes_its_connection_and_logins_wait(tessera, asked, database):
    config = {**query_config(asked, database), "admin": {"console_admins": ["boss"]}}
    config["databases"][database]["users"] = [{"name": "boss", "password": "Canary-boss"}]
    proxy = tessera(config, canaries=["Canary-"])

    def console(words):
        with log_in(proxy, "pgbouncer", "boss", "Canary-boss") as connection:
            assert [reply.type for reply in connection.ask(wire.query(words))] == ["C", "Z"], words

    assert logs_in(proxy, database, "q_ok", "Canary-q_ok")
    before = asked.run("select pid from pg_stat_activity where application_name = 'tessera auth_query'").split()
    console("RECONNECT")
    eventually(lambda: not connections(asked))
    assert logs_in(proxy, database, "q_ok", "Canary-q_ok")
    assert asked.run("select pid from pg_stat_activity where application_name = 'tessera auth_query'").split() not in ([], before)
    console("PAUSE")
    eventually(lambda: not connections(asked), timeout=1)
    fields = refused(proxy, database, "q_ok", "Canary-q_ok")
    assert fields["C"] == "57P03" and "paused" in fields["M"], fields
    assert not connections(asked)
    with concurrent.futures.ThreadPoolExecutor(1) as aside:
        waiting = aside.submit(logs_in, proxy, database, "q_ok", "Canary-q_ok")
        time.sleep(0.3)
        assert not connections(asked)
        console("RESUME")
        assert waiting.result()


# A server that hangs


def test_a_hanging_server_delays_its_own_database_only(tessera, asked, database, new_server, new_database):
    hanging = new_server("hanging")
    name = new_database([hanging])
    make_role(hanging, "asker", "Canary-asker")
    make_role(hanging, "q_ok", "Canary-q_ok")
    hanging.run("grant select on pg_authid to asker", name)
    config = query_config(asked, database)
    config["databases"]["hung"] = query_config(hanging, name)["databases"][name]
    proxy = tessera(config, canaries=["Canary-"])
    assert logs_in(proxy, "hung", "q_ok", "Canary-q_ok")
    processes = [int((hanging.data / "postmaster.pid").read_text().split()[0])]
    processes += [int(pid) for pid in hanging.run("select pid from pg_stat_activity where backend_type = 'client backend' and pid <> pg_backend_pid()").split()]
    took, codes = [], []

    def try_the_hung_one(user):
        started = time.monotonic()
        codes.append(refused(proxy, "hung", user, "x")["C"])
        took.append(time.monotonic() - started)

    for pid in processes:
        os.kill(pid, signal.SIGSTOP)
    try:
        waiting = [threading.Thread(target=try_the_hung_one, args=(f"user_{i}",)) for i in range(20)]
        for thread in waiting:
            thread.start()
        time.sleep(0.3)
        for user in ("q_ok", "q_until", "q_ok", "q_until"):  # also at a worker that waits for the other database
            started = time.monotonic()
            assert logs_in(proxy, database, user, "Canary-" + user)
            assert time.monotonic() - started < 1
            asked.run("select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'tessera auth_query'")
        for thread in waiting:
            thread.join()
    finally:
        for pid in processes:
            os.kill(pid, signal.SIGCONT)
    assert codes == ["57P03"] * 20 and 3 < min(took) and max(took) < 8, (codes, took)
    proxy.wait_for_log("auth_query failed.*no answer within 5 s")
    eventually(lambda: logs_in(proxy, "hung", "q_ok", "Canary-q_ok"), what="it works again")


# TLS


@pytest.fixture
def strict(new_server, ca):
    """A server where the asker must come with TLS and a client's certificate."""
    server = new_server("strict")
    server._write("ca.crt", ca.certificate.read_text(), 0o644)
    server.run("alter system set ssl_ca_file = 'ca.crt'")
    server._write("pg_hba.conf", "hostssl all asker 127.0.0.1/32 scram-sha-256 clientcert=verify-ca\nhost all asker all reject\n" + (server.data / "pg_hba.conf").read_text(), 0o600)
    server.run("select pg_reload_conf()")
    return server


def test_it_shows_the_client_certificate(tessera, strict, new_database, ca):
    name = new_database([strict])
    for role in ("asker", "q_ok"):
        make_role(strict, role, "Canary-" + role)
    strict.run("grant select on pg_authid to asker", name)
    issued = ca.issue("tessera-client", names=())
    backend = {"tls": "verify-full", "ca": str(ca.certificate), "client_certificate": str(issued.certificate), "client_key": str(issued.private_key)}
    config = query_config(strict, name)
    config["databases"][name]["backend"].update(backend)
    proxy = tessera(config, canaries=["Canary-"])
    eventually(lambda: logs_in(proxy, name, "q_ok", "Canary-q_ok"), timeout=3)
    del config["databases"][name]["backend"]["client_certificate"], config["databases"][name]["backend"]["client_key"]
    assert refused(tessera(config), name, "q_ok", "Canary-q_ok")["C"] == "57P03"


@pytest.mark.parametrize("trusted", [True, False])
def test_without_a_ca_the_systems_is_believed(tessera, asked, database, ca, monkeypatch, trusted):
    monkeypatch.setenv("SSL_CERT_FILE", str(ca.certificate) if trusted else "/dev/null")
    config = query_config(asked, database)
    config["databases"][database]["backend"] = {"dbname": database, "tls": "verify-full"}
    assert logs_in(tessera(config, canaries=["Canary-"]), database, "q_ok", "Canary-q_ok") == trusted
