"""Pass-through by password: users whose passwords only the servers know."""

import concurrent.futures
import copy
import os
import signal
import time

import pytest
from harness import wire
from roles import context_for, logs_in, make_role, refused
from talk import config_of, eventually, log_in, value
from test_reload import reload


@pytest.fixture(scope="module")
def server(new_server):
    return new_server("through", hba="host all by_trust 127.0.0.1/32 trust\nhost all by_md5 127.0.0.1/32 md5\nhost all by_clear 127.0.0.1/32 password\n")


@pytest.fixture(scope="module")
def database(server, new_database):
    name = new_database([server])
    for role in ("alice", "unlisted", "by_trust", "by_clear", "inner"):
        make_role(server, role, "Canary-" + role)
    server.run("set password_encryption = 'md5'; create role by_md5 login password 'Canary-by_md5'")
    make_role(server, "may_not", "Canary-may_not", "nologin")
    make_role(server, "expired", "Canary-expired", "login valid until '2001-01-01'")
    server.run("create role locked login password 'Canary-locked'")
    server.run(f'revoke connect on database "{name}" from public; grant connect on database "{name}" to alice, unlisted, by_trust, by_clear, by_md5, inner')
    return name


USERS = [{"name": name} for name in ("alice", "by_trust", "by_md5", "by_clear", "may_not", "expired", "locked")]
USERS += [{"name": "outer", "backend_user": "inner"}, {"name": "far", "from": ["10.0.0.0/8"]}, {"name": "scrammed", "password": "Canary-scrammed"}]


def through(tessera, server, database, ca, users=USERS, **backend):
    issued = ca.issue("tessera")
    tls = {"mode": "prefer", "certificate": str(issued.certificate), "private_key": str(issued.private_key)}
    return tessera(config_of([server], database, users=users, backend={"tls": "require", **backend}, listen={"tls": tls}, pool={"checkout_timeout": "2s"}), canaries=["Canary-"])


@pytest.fixture
def proxy(tessera, server, database, ca):
    return through(tessera, server, database, ca)


def asked_for(connection_or_error):
    """The numbers of the authentication requests."""
    return [int.from_bytes(reply.body[:4], "big") for reply in connection_or_error if reply.type == "R"]


def test_the_server_decides_and_the_password_opens_its_doors(proxy, database, ca):
    for user in ("alice", "by_md5", "by_clear"):
        with log_in(proxy, database, user, "Canary-" + user, tls=context_for(ca)) as connection:
            assert asked_for(connection.login_messages) == [3, 0], "a password in clear, then OK"
            assert value(connection, "select current_user") == user
        for wrong in ("wrong", "Canary-", "canary-" + user):
            fields = refused(proxy, database, user, wrong, tls=context_for(ca))
            assert (fields["S"], fields["C"], fields["M"]) == ("FATAL", "28P01", f'password authentication failed for user "{user}"')
    with log_in(proxy, database, "outer", "Canary-inner", tls=context_for(ca)) as connection:
        assert value(connection, "select current_user") == "inner"
    assert not logs_in(proxy, database, "outer", "Canary-outer", tls=context_for(ca))
    with proxy.connect(database, "alice", "Canary-alice", sslmode="require") as connection:
        assert connection.execute("select current_user").fetchone() == ("alice",)


def test_without_tls_no_password_is_asked_for(proxy, database):
    for user in ("alice", "nobody", "unlisted"):
        with wire.Wire(proxy.host, proxy.port) as connection:
            with pytest.raises(wire.WireError) as problem:
                connection.login(user, database, "Canary-" + user)
            assert not asked_for(connection.login_messages)
        fields = problem.value.fields
        assert fields["C"] == "28000" and "encrypted" in fields["M"] and "sslmode" in fields["H"], fields


def test_roles_that_may_not_log_in(proxy, database, ca):
    for user in ("may_not", "expired"):
        assert refused(proxy, database, user, "Canary-" + user, tls=context_for(ca))["C"] == "28P01"
    fields = refused(proxy, database, "locked", "Canary-locked", tls=context_for(ca))  # the right password, but no right to connect
    assert fields["C"] == "57P03" and "could not be checked" in fields["M"], fields
    proxy.wait_for_log("could not be checked.*permission denied")


def test_a_server_that_asks_for_no_password_proves_nothing(proxy, database, ca):
    for password in ("Canary-by_trust", "anything"):
        assert refused(proxy, database, "by_trust", password, tls=context_for(ca))["C"] == "28P01"
    proxy.wait_for_log("asked for no password")


def test_unknown_users_take_the_same_path(proxy, server, database, ca):
    """The same questions, the same words; and a server is asked in vain, so that the time is the same."""
    for user, password in (("nobody", "x"), ("unlisted", "Canary-unlisted"), ("far", "Canary-far")):
        with wire.Wire(proxy.host, proxy.port) as connection:
            connection.start_tls(context_for(ca))
            with pytest.raises(wire.WireError) as problem:
                connection.login(user, database, password)
            assert asked_for(connection.login_messages) == [3]
        assert problem.value.fields["M"] == f'password authentication failed for user "{user}"' and problem.value.fields["C"] == "28P01"
    for user in ("nobody", "far"):
        assert f'password authentication failed for user "{user}"' in server.log_file.read_text()
    with wire.Wire(proxy.host, proxy.port) as connection:
        with pytest.raises(wire.WireError):
            connection.login("scrammed", database, "wrong")
        assert asked_for(connection.login_messages)[0] == 10, "who has a verifier is asked for its proof, as ever"


def test_unknown_users_may_be_let_through(tessera, server, database, ca):
    proxy = through(tessera, server, database, ca, users=[], unknown_users="passthrough")
    with log_in(proxy, database, "unlisted", "Canary-unlisted", tls=context_for(ca)) as connection:
        assert value(connection, "select current_user") == "unlisted"
    assert refused(proxy, database, "unlisted", "wrong", tls=context_for(ca))["C"] == "28P01"
    assert refused(proxy, database, "nobody", "wrong", tls=context_for(ca))["C"] == "28P01"
    assert refused(proxy, database, "by_trust", "Canary-by_trust", tls=context_for(ca))["C"] == "28P01"


def test_a_changed_password_counts_at_once_and_the_old_one_not_for_long(proxy, server, database, ca):
    tls = context_for(ca)
    assert logs_in(proxy, database, "alice", "Canary-alice", tls=tls)
    server.run("alter role alice password 'Canary-new'")
    assert logs_in(proxy, database, "alice", "Canary-new", tls=tls)
    eventually(lambda: not logs_in(proxy, database, "alice", "Canary-alice", tls=tls), timeout=12, pause=0.3)
    server.run("alter role alice password 'Canary-alice'")


def test_a_proved_password_is_not_asked_about_again(proxy, server, database, ca):
    server.run("alter system set log_connections = on")
    server.run("select pg_reload_conf()")
    tls = context_for(ca)
    with log_in(proxy, database, "alice", "Canary-alice", tls=tls) as connection:
        value(connection, "select 1")
        time.sleep(0.2)
        before = server.log_file.read_text().count("connection authorized: user=alice")
        for _ in range(5):
            assert logs_in(proxy, database, "alice", "Canary-alice", tls=tls)
        assert server.log_file.read_text().count("connection authorized: user=alice") <= before + 1, "beside a pool's connection of the other worker"
    server.run("alter system reset log_connections")
    server.run("select pg_reload_conf()")


def test_a_unix_socket_needs_no_tls(tessera, server, database, ca, tmp_path):
    folder = tmp_path / "unix"
    folder.mkdir()
    config = config_of([server], database, users=USERS, backend={"tls": "require"}, listen={"postgres": f"{folder}:6432"})
    tessera(config, canaries=["Canary-"])
    with wire.connect(str(folder), 6432, "alice", database, "Canary-alice") as connection:
        assert value(connection, "select current_user") == "alice"


def test_a_server_that_is_down_is_no_wrong_password(tessera, new_server, new_database, ca):
    down = new_server("down")
    name = new_database([down])
    make_role(down, "alice", "Canary-alice")
    proxy = through(tessera, down, name, ca, users=[{"name": "alice"}])
    down.stop()
    for user in ("alice", "nobody"):
        fields = refused(proxy, name, user, "Canary-alice", tls=context_for(ca))
        assert fields["C"] == "57P03" and "could not be checked" in fields["M"], fields
    down.start()
    eventually(lambda: logs_in(proxy, name, "alice", "Canary-alice", tls=context_for(ca)))


def test_a_login_that_waits_for_the_server_outlives_the_names_of_the_shards(tessera, server, database, ca):
    """The reload puts another database in the place of the one that was asked."""
    proxy = through(tessera, server, database, ca)
    renamed = copy.deepcopy(proxy.config)
    shards = renamed["databases"][database]["shards"]
    shards["another_name"] = shards.pop("s0")
    renamed["databases"][database]["default_shard"] = "another_name"
    postmaster = int((server.data / "postmaster.pid").read_text().split()[0])
    with concurrent.futures.ThreadPoolExecutor(1) as aside:
        os.kill(postmaster, signal.SIGSTOP)
        try:
            login = aside.submit(logs_in, proxy, database, "alice", "Canary-alice", tls=context_for(ca), timeout=20)
            time.sleep(0.5)  # until the server is asked
            assert reload(proxy, renamed)
            time.sleep(0.5)
        finally:
            os.kill(postmaster, signal.SIGCONT)
        started = time.monotonic()
        assert login.result()
        assert time.monotonic() - started < 5
