"""TLS sessions of clients: they are resumed, reloads end them, and idle ones cost little."""

import ssl
import time

import pytest
from harness import wire
from roles import context_for
from talk import config_of, value
from test_reload import reload


@pytest.fixture(scope="module")
def server(shards):
    return shards(1)[0]


@pytest.fixture(scope="module")
def database(server, new_database):
    return new_database([server])


def tls_config(server, database, ca, mode="require", **more):
    issued = ca.issue("tessera")
    tls = {"mode": mode, "certificate": str(issued.certificate), "private_key": str(issued.private_key)}
    if mode.startswith("verify"):
        tls["client_ca"] = str(ca.certificate)
    return config_of([server], database, listen={"tls": tls, **more})


def log_in(proxy, database, context, session=None):
    connection = wire.Wire(proxy.host, proxy.port)
    connection.send(wire.SSL_REQUEST)
    assert connection.read_exactly(1) == b"S"
    connection.socket = context.wrap_socket(connection.socket, server_hostname="localhost", session=session)
    connection.login("app", database, "app")
    assert value(connection, "select 1") == "1"
    return connection


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize("mode", ["require", "verify-full"])
def test_a_second_connection_resumes(tessera, server, database, ca, mode, version):
    proxy = tessera(tls_config(server, database, ca, mode))
    certificate = ca.issue("app", names=()) if mode == "verify-full" else None
    context = context_for(ca, certificate, maximum_version=version)
    with log_in(proxy, database, context) as first:
        assert not first.socket.session_reused
        session = first.socket.session
    for _ in range(4):  # at any worker
        with log_in(proxy, database, context, session) as next_one:
            assert next_one.socket.session_reused
            session = next_one.socket.session
    assert reload(proxy)
    time.sleep(0.2)
    with log_in(proxy, database, context, session) as after:
        assert not after.socket.session_reused, "a reload reads the certificates again and ends all sessions"


def test_a_session_is_no_way_past_a_certificate(tessera, server, database, ca):
    """Made while certificates were not asked for."""
    proxy = tessera(tls_config(server, database, ca))
    context = context_for(ca)
    with log_in(proxy, database, context) as first:
        session = first.socket.session
    assert reload(proxy, tls_config(server, database, ca, "verify-ca"))
    time.sleep(0.2)
    with pytest.raises((ssl.SSLError, wire.WireError, ConnectionResetError)):
        log_in(proxy, database, context, session)


def test_idle_clients_are_cheap(tessera, server, database, ca):
    """performance.md: at most 30 kB for an idle client with TLS."""
    proxy = tessera(tls_config(server, database, ca))
    context = context_for(ca)
    held = [log_in(proxy, database, context) for _ in range(200)]  # pools and caches are made
    before = proxy.resident_bytes()
    held += [log_in(proxy, database, context) for _ in range(500)]
    time.sleep(0.3)
    each = (proxy.resident_bytes() - before) / 500
    print(f"{each / 1024:.1f} kB")
    assert each <= 30 * 1024
    for connection in held:
        connection.close()
