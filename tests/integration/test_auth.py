"""Who may come in, and as whom: users, verifiers, networks, limits, TLS and pass-through."""

import os
import ssl
import stat
import tempfile
import time
from pathlib import Path

import psycopg
import pytest
from harness import wire
from harness.certificates import CertificateAuthority
from roles import context_for, logs_in, make_role, md5_verifier, refused, scram_verifier
from talk import code, config_of, eventually, log_in, value


@pytest.fixture(scope="module")
def server(shards):
    return shards(1)[0]


@pytest.fixture(scope="module")
def database(server, new_database):
    return new_database([server], "create table t (id int primary key, v text)")


LONG = "l" * 900
USERS = [
    {"name": "plain", "password": "Canary-plain"}, {"name": "hashed", "md5": md5_verifier("hashed", "Canary-hashed")}, {"name": "verified", "scram": scram_verifier("Canary-verified")},
    {"name": "costly", "scram": scram_verifier("Canary-costly", iterations=20000)}, {"name": "free", "trust": True}, {"name": "far", "password": "Canary-far", "from": ["10.0.0.0/8", "fd00::/8"]},
    {"name": "near", "password": "Canary-near", "from": ["10.0.0.0/8", "127.0.0.0/8"]}, {"name": "few", "password": "Canary-few", "max_clients": 2}, {"name": "long", "password": LONG},
    {"name": 'a"b\'c d;--', "password": "Canary-odd"}, {"name": "größe", "password": "Canary-umlaut"},
]
PASSWORDS = {"plain": "Canary-plain", "hashed": "Canary-hashed", "verified": "Canary-verified", "costly": "Canary-costly", "near": "Canary-near", "few": "Canary-few", "long": LONG,
             'a"b\'c d;--': "Canary-odd", "größe": "Canary-umlaut"}


@pytest.fixture
def shared(tessera, server, database):
    """All clients share the server role app."""
    return tessera(config_of([server], database, users=USERS, backend={"user": "app", "password": "app"}), canaries=["Canary-", LONG])


def test_each_kind_of_user_logs_in_with_the_right_password_only(shared, database):
    for user, password in PASSWORDS.items():
        with log_in(shared, database, user, password) as connection:
            assert value(connection, "select current_user") == "app"
        for wrong in ("wrong", "", password + "x", password[:-1], md5_verifier(user, password)):
            fields = refused(shared, database, user, wrong)
            assert (fields["S"], fields["C"]) == ("FATAL", "28P01"), (user, wrong)
            assert fields["M"] == f'password authentication failed for user "{user}"'


def test_a_stolen_verifier_is_no_password(shared, database):
    verifier = next(user["scram"] for user in USERS if user["name"] == "verified")
    assert refused(shared, database, "verified", verifier)["C"] == "28P01"


def test_trust_asks_for_nothing(shared, database):
    with log_in(shared, database, "free", None) as connection:
        assert value(connection, "select 1") == "1"
        assert len([reply for reply in connection.login_messages if reply.type == "R"]) == 1


def test_unknown_users_and_databases_are_refused(shared, database):
    assert refused(shared, database, "nobody", "x")["C"] == "28P01"
    assert refused(shared, "nowhere", "plain", "Canary-plain")["C"] == "28P01"
    assert refused(shared, "pgbouncer", "plain", "Canary-plain")["C"] == "28P01"
    assert refused(shared, "", "plain", "Canary-plain")["C"] == "28P01"
    assert refused(shared, database, "app", "app")["C"] == "28P01"  # the server role is no client


def test_the_log_says_why_a_login_failed_and_the_client_is_told_the_same(tessera, server, database):
    make_role(server, "expired", "x", "login valid until '2020-01-01'")
    users = [*USERS, {"name": "bare"}]
    proxy = tessera({**config_of([server], database, users=users, backend={"user": "app", "password": "app"}), "admin": {"console_admins": ["plain"]}}, canaries=["Canary-", LONG])
    for user, where, reason in [("nobody", database, "the user is not in the configuration"), ("plain", "nowhere", "there is no such database"), ("plain", database, "wrong password"),
                                ("bare", database, "neither a password nor a verifier"), ("far", database, "may not come from this address"), ("hashed", "pgbouncer", "neither in admin.console_admins"),
                                ("plain", "pgbouncer", "wrong password")]:
        fields = refused(proxy, where, user, "wrong")
        assert (fields["C"], fields["M"]) == ("28P01", f'password authentication failed for user "{user}"') and not {"D", "H"} & fields.keys()
        proxy.wait_for_log(f"login failed.*user={user}.*database={where}.*{reason}")
    make_role(server, "reader", "Canary-reader", "superuser login")
    asked = tessera(config_of([server], database, users=[], auth_query={"user": "reader", "password": "Canary-reader"}), canaries=["Canary-"])
    assert refused(asked, database, "expired", "x")["C"] == "28P01"
    asked.wait_for_log("login failed.*user=expired.*auth_query has no verifier for the user")


def test_networks_from_which_a_user_may_come(shared, database):
    assert refused(shared, database, "far", "Canary-far")["C"] == "28P01"
    shared.wait_for_log("login failed.*user=far.*may not come from this address")
    with log_in(shared, database, "near", "Canary-near") as connection:
        assert value(connection, "select 1") == "1"


def test_clients_of_a_unix_socket(tessera, server, database, tmp_path):
    """The socket is open to everybody on the machine, whatever the umask; a user with networks comes from these alone."""
    folder = Path(tempfile.mkdtemp(prefix="tessera-", dir="/tmp"))
    users = [*({"name": name, "password": name, "from": networks} for name, networks in {"far": ["127.0.0.1"], "both": ["127.0.0.1", "local"], "near": "local"}.items()), {"name": "plain", "password": "plain"}]
    config = config_of([server], database, users=users, backend={"user": "app", "password": "app"}, listen={"postgres": f"{folder}:6432"})
    old = os.umask(0o077)
    try:
        tessera(config)
    finally:
        os.umask(old)
    try:
        assert stat.S_IMODE((folder / ".s.PGSQL.6432").stat().st_mode) == 0o777
        for user, comes_in in {"far": False, "both": True, "near": True, "plain": True}.items():
            try:
                psycopg.connect(host=str(folder), port=6432, user=user, password=user, dbname=database).close()
                came = True
            except psycopg.OperationalError:
                came = False
            assert came == comes_in, user
    finally:
        (folder / ".s.PGSQL.6432").unlink(missing_ok=True)
        folder.rmdir()


def test_local_is_no_network(tessera, server, database):
    proxy = tessera(config_of([server], database, users=[{"name": "near", "password": "near", "from": "local"}], backend={"user": "app", "password": "app"}))
    assert refused(proxy, database, "near", "near")["C"] == "28P01"


def test_most_clients_of_a_user_and_of_a_database(tessera, shared, server, database):
    held = [log_in(shared, database, "few", "Canary-few") for _ in range(2)]
    fields = refused(shared, database, "few", "Canary-few")
    assert fields["C"] == "53300" and 'user "few"' in fields["M"] and "2" in fields.get("D", "") + fields.get("H", "")
    with log_in(shared, database, "plain", "Canary-plain") as other:
        assert value(other, "select 1") == "1"
    held.pop().close()
    eventually(lambda: logs_in(shared, database, "few", "Canary-few"))
    proxy = tessera(config_of([server], database, limits={"clients": 3}))
    held += [log_in(proxy, database) for _ in range(3)]
    assert refused(proxy, database, "app", "app")["C"] == "53300"
    for connection in held:
        connection.close()
    eventually(lambda: logs_in(proxy, database, "app", "app"))


# What a user has for himself


def test_pool_size_and_mode_of_a_user(tessera, server, database):
    for name in ("slim", "sticky", "wide"):
        make_role(server, name, name)
    users = [{"name": "slim", "password": "slim", "pool_size": 1}, {"name": "sticky", "password": "sticky", "pool_mode": "session"}, {"name": "wide", "password": "wide"}]
    proxy = tessera(config_of([server], database, users=users, pool={"size": 3, "checkout_timeout": "300ms"}))
    with log_in(proxy, database, "slim", "slim") as first, log_in(proxy, database, "slim", "slim") as second, log_in(proxy, database, "wide", "wide") as wide:
        first.ask(wire.query("begin; select 1"))
        assert code(second.ask(wire.query("select 1"))) == "53300"
        assert value(wide, "select current_user") == "wide"
    with log_in(proxy, database, "sticky", "sticky") as first, log_in(proxy, database, "sticky", "sticky") as second:
        for connection in (first, second):
            connection.ask(wire.query("create temp table mine (v int)"))
        assert len({value(connection, "select pg_backend_pid()") for connection in (first, second, first, second)}) == 2


def test_another_role_and_password_on_the_server(tessera, server, database):
    make_role(server, "inner_role", "inner")
    make_role(server, "other_role", "other")
    users = [{"name": "outer", "password": "Canary-outer", "backend_user": "inner_role", "backend_password": "inner"}, {"name": "wrong", "password": "w", "backend_user": "other_role"}]
    proxy = tessera(config_of([server], database, users=users, pool={"checkout_timeout": "2s"}), canaries=["Canary-outer"])
    with log_in(proxy, database, "outer", "Canary-outer") as connection:
        assert value(connection, "select current_user") == "inner_role"
    fields = refused(proxy, database, "wrong", "w")
    assert fields["C"] == "28P01" and 'shard "s0"' in fields["M"]


# Pass-through


def test_keys_learned_from_the_client_open_the_servers(tessera, shards, new_database):
    """The file has a verifier, no password; the servers ask for SCRAM; the same verifier stands on both."""
    servers = shards(2)
    name = new_database(servers)
    verifier = scram_verifier("Canary-through")
    for server in servers:
        make_role(server, "through", verifier)
    config = config_of(servers, name, users=[{"name": "through", "scram": verifier}])
    del config["databases"][name]["default_shard"]  # sessions are dealt to the shards in turn
    proxy = tessera(config, canaries=["Canary-through"])
    with log_in(proxy, name, "through", "Canary-through") as connection:
        assert value(connection, "select current_user") == "through"
    seen = set()
    for _ in range(8):
        with log_in(proxy, name, "through", "Canary-through") as connection:
            seen.add(value(connection, "select current_setting('cluster_name')"))
    assert len(seen) == 2
    for server in servers:
        server.run("drop role through")


def test_keys_for_another_salt_do_not_fit_and_say_so(tessera, server, database):
    make_role(server, "salted", "Canary-salted")
    proxy = tessera(config_of([server], database, users=[{"name": "salted", "scram": scram_verifier("Canary-salted")}], pool={"checkout_timeout": "3s"}), canaries=["Canary-salted"])
    started = time.monotonic()
    fields = refused(proxy, database, "salted", "Canary-salted")
    assert time.monotonic() - started < 5
    assert fields["C"].startswith(("28", "08")) and 'shard "s0"' in fields["M"], fields
    assert "must be the same on every shard" in fields["H"]


def test_md5_passes_through_to_servers_that_ask_for_md5(tessera, new_server, new_database):
    server = new_server("oldpass", settings={"password_encryption": "md5"}, hba="host all veteran 127.0.0.1/32 md5\nhost all clear 127.0.0.1/32 password\n")
    name = new_database([server])
    server.run("create role veteran login password 'Canary-vet'; create role clear login password 'Canary-clear'")
    users = [{"name": "veteran", "md5": md5_verifier("veteran", "Canary-vet")}, {"name": "clear", "password": "Canary-clear"}]
    proxy = tessera(config_of([server], name, users=users, backend={"tls": "require"}), canaries=["Canary-"])
    for user, password in (("veteran", "Canary-vet"), ("clear", "Canary-clear")):
        with log_in(proxy, name, user, password) as connection:
            assert value(connection, "select current_user") == user


# TLS


def tls_proxy(tessera, server, database, ca, mode, **more):
    issued = ca.issue("tessera")
    return tessera(config_of([server], database, listen={"tls": {"mode": mode, "certificate": str(issued.certificate), "private_key": str(issued.private_key), **more}}))


def uses_tls(connection):
    return isinstance(connection.socket, ssl.SSLSocket) and value(connection, "select 1") == "1"


def test_tls_prefer_and_require(tessera, server, database, ca):
    proxy = tls_proxy(tessera, server, database, ca, "prefer")
    with log_in(proxy, database) as plain, log_in(proxy, database, tls=context_for(ca)) as secure:
        assert value(plain, "select 1") == "1" and uses_tls(secure)
    proxy = tls_proxy(tessera, server, database, ca, "require")
    with log_in(proxy, database, tls=context_for(ca)) as secure:
        assert uses_tls(secure)
    with wire.Wire(proxy.host, proxy.port) as plain:
        with pytest.raises(wire.WireError) as problem:
            plain.login("app", database, "app")
        assert problem.value.fields["C"] == "28000" and "encrypted" in problem.value.fields["M"]
        assert plain.login_messages[0].type == "E", "nothing was asked of a client without TLS"
    with wire.Wire(tessera(config_of([server], database)).host, proxy.port) as connection:
        connection.send(wire.GSSENC_REQUEST)
        assert connection.read_exactly(1) == b"N"


def test_tls_is_refused_where_there_is_none(tessera, server, database):
    proxy = tessera(config_of([server], database))
    with wire.Wire(proxy.host, proxy.port) as connection:
        connection.send(wire.SSL_REQUEST)
        assert connection.read_exactly(1) == b"N"
        connection.login("app", database, "app")


@pytest.mark.parametrize("mode", ["verify-ca", "verify-full"])
def test_client_certificates(tessera, server, database, ca, tmp_path, mode):
    proxy = tls_proxy(tessera, server, database, ca, mode, client_ca=str(ca.certificate))
    strangers = CertificateAuthority(tmp_path / "strangers", "Somebody else")
    with log_in(proxy, database, tls=context_for(ca, ca.issue("app", names=()))) as connection:
        assert uses_tls(connection)
    for context in (context_for(ca), context_for(ca, strangers.issue("app", names=()))):
        with pytest.raises((ssl.SSLError, wire.WireError, ConnectionResetError)) as problem:
            log_in(proxy, database, tls=context)
        assert not getattr(problem.value, "fields", {}).get("C", "").startswith("28P")
    with pytest.raises(wire.WireError):
        log_in(proxy, database)
    other = context_for(ca, ca.issue("somebody", names=()))
    if mode == "verify-ca":
        log_in(proxy, database, tls=other).close()
    else:
        assert refused(proxy, database, "app", "app", tls=other)["C"] == "28000"
    assert refused(proxy, database, "app", "wrong", tls=context_for(ca, ca.issue("app", names=())))["C"] == "28P01", "a certificate does not replace the password"


def test_the_lowest_tls_version(tessera, server, database, ca):
    proxy = tls_proxy(tessera, server, database, ca, "require", min_version="1.3")
    with pytest.raises((ssl.SSLError, ConnectionResetError)):
        log_in(proxy, database, tls=context_for(ca, maximum_version=ssl.TLSVersion.TLSv1_2))
    with log_in(proxy, database, tls=context_for(ca)) as connection:
        assert connection.socket.version() == "TLSv1.3"
    proxy = tls_proxy(tessera, server, database, ca, "require")
    with log_in(proxy, database, tls=context_for(ca, maximum_version=ssl.TLSVersion.TLSv1_2)) as connection:
        assert connection.socket.version() == "TLSv1.2"


def test_garbage_instead_of_a_handshake(tessera, server, database, ca):
    proxy = tls_proxy(tessera, server, database, ca, "prefer")
    for garbage in (b"\0" * 200, os.urandom(5000), wire.startup({"user": "app"}), b"\x16\x03\x01\xff\xff" + b"x" * 70000):
        with wire.Wire(proxy.host, proxy.port) as connection:
            connection.send(wire.SSL_REQUEST)
            assert connection.read_exactly(1) == b"S"
            try:
                connection.send(garbage)
                while connection.receive():
                    pass
            except OSError:
                pass
    with log_in(proxy, database, tls=True) as connection:
        assert uses_tls(connection)


# TLS to the servers


@pytest.mark.parametrize("mode, own_ca, works", [("disable", True, True), ("prefer", False, True), ("require", False, True), ("verify-ca", True, True), ("verify-ca", False, False),
                                                 ("verify-full", True, True), ("verify-full", False, False)])
def test_tls_to_the_servers(tessera, server, database, ca, tmp_path, mode, own_ca, works):
    trusted = ca if own_ca else CertificateAuthority(tmp_path / "strangers", "Somebody else")
    proxy = tessera(config_of([server], database, backend={"tls": mode, "ca": str(trusted.certificate)}, pool={"checkout_timeout": "1s"}))
    if not works:
        fields = refused(proxy, database, "app", "app")
        assert fields["C"].startswith("08") and "certificate" in str(fields), fields
        return
    with log_in(proxy, database) as connection:
        assert value(connection, "select ssl from pg_stat_ssl where pid = pg_backend_pid()") == ("f" if mode == "disable" else "t")


def test_the_servers_name_is_verified(tessera, new_server, new_database, ca):
    server = new_server("misnamed")
    name = new_database([server])
    other = ca.issue("elsewhere", names=("DNS:elsewhere.example",))
    server._write("server.crt", other.certificate.read_text(), 0o600)
    server._write("server.key", other.private_key.read_text(), 0o600)
    server.run("select pg_reload_conf()")
    for mode, works in (("verify-ca", True), ("verify-full", False)):
        proxy = tessera(config_of([server], name, backend={"tls": mode, "ca": str(ca.certificate)}, pool={"checkout_timeout": "1s"}))
        assert logs_in(proxy, name, "app", "app") == works, mode


def test_require_does_not_fall_back_to_clear_text(tessera, new_server, new_database):
    server = new_server("untls", settings={"ssl": "off"})
    name = new_database([server])
    for mode, works in (("prefer", True), ("require", False), ("verify-full", False)):
        proxy = tessera(config_of([server], name, backend={"tls": mode}, pool={"checkout_timeout": "1s"}))
        assert logs_in(proxy, name, "app", "app") == works, mode
