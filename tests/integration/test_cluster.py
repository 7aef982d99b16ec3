"""The harness itself, on plain servers: what the other tests stand on must stand."""

import ssl
import struct

import psycopg
import pytest
from harness import sequences, wire


@pytest.fixture(scope="module")
def server(shards):
    return shards(1)[0]


@pytest.fixture(scope="module")
def database(server, new_database):
    return new_database([server], "create table t (id int primary key, v text)")


def test_servers_are_separate(shards):
    first, second = shards(2)
    assert first.port != second.port
    first.run("create table only_here ()")
    assert second.run("select to_regclass('only_here') is null").strip() == "t"
    first.run("drop table only_here")


def test_settings_that_tessera_needs(server):
    assert server.run("show max_prepared_transactions").strip() == "100"
    assert server.run("show server_version_num").startswith("15")


def test_wrong_password_is_refused(server, database):
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        server.connect(database, user="app", password="wrong")


def test_tls_is_verified(server, database, ca):
    with server.connect(database, sslmode="verify-full", sslrootcert=str(ca.certificate)) as connection:
        assert connection.execute("select ssl from pg_stat_ssl where pid = pg_backend_pid()").fetchone() == (True,)


def test_replica_follows(server, new_server):
    replica = new_server("s0r", replica_of=server)
    server.run("create table replicated as select 7 as seven")
    replica.wait_for_replay()
    assert replica.run("select pg_is_in_recovery(), seven from replicated").strip() == "t|7"
    server.run("drop table replicated")


def test_a_crash_and_a_restart_keep_the_port(new_server):
    server = new_server("crash")
    port = server.port
    server.stop("immediate")
    assert not server.is_running()
    assert server.start().port == port
    assert server.run("select 1").strip() == "1"


# wire


def test_wire_login_by_scram_with_and_without_channel_binding(server, database):
    with wire.connect(server.host, server.port, "app", database, "app") as plain:
        assert plain.status == "I" and plain.parameters["server_encoding"] == "UTF8" and plain.process_id > 0
    with wire.connect(server.host, server.port, "app", database, "app", tls=True, channel_binding=True) as secure:
        assert isinstance(secure.socket, ssl.SSLSocket)
        assert b"SCRAM-SHA-256-PLUS" in secure.login_messages[0].body
    with pytest.raises(wire.WireError) as refused:
        wire.connect(server.host, server.port, "app", database, "wrong")
    assert refused.value.fields["C"] == "28P01"


def test_wire_login_by_md5_and_password(new_server, new_database):
    server = new_server("oldauth", settings={"password_encryption": "md5"},
                        hba="host all weak 127.0.0.1/32 md5\nhost all clear 127.0.0.1/32 password\n")
    server.run("create role weak login password 'w'; create role clear login password 'c'")
    for user, password in (("weak", "w"), ("clear", "c")):
        with wire.connect(server.host, server.port, user, "postgres", password) as connection:
            assert connection.ask(wire.query("select current_user"))[1].body.endswith(user.encode())
        with pytest.raises(wire.WireError, match="28P01"):
            wire.connect(server.host, server.port, user, "postgres", "wrong")


def test_wire_extended_query_in_binary(server, database):
    with wire.connect(server.host, server.port, "app", database, "app") as connection:
        replies = connection.ask(wire.parse("select $1::int + 1"), wire.bind([struct.pack(">i", 41)], formats=[1], result_formats=[1]),
                                 wire.describe_portal(), wire.execute(), wire.SYNC)
        assert [reply.type for reply in replies] == list("12TDCZ")
        assert replies[3].body == struct.pack(">Hii", 1, 4, 42)


def test_wire_error_in_a_pipeline_skips_to_sync(server, database):
    with wire.connect(server.host, server.port, "app", database, "app") as connection:
        replies = connection.ask(wire.parse("selekt"), wire.bind(), wire.execute(), wire.SYNC)
        assert [reply.type for reply in replies] == list("EZ")
        assert wire.error_fields(replies[0].body)["C"] == "42601"


def test_wire_cancel(server, database):
    with wire.connect(server.host, server.port, "app", database, "app") as connection:
        connection.send(wire.query("select pg_sleep(60)"))
        with wire.Wire(server.host, server.port) as canceller:
            canceller.send(wire.cancel_request(connection.process_id, connection.secret_key))
            assert canceller.read_to_end() == []
        replies = connection.read_until("Z")
        assert wire.error_fields(replies[-2].body)["C"] == "57014"


# sequences


def test_a_seed_gives_one_sequence():
    assert sequences.generate(12) == sequences.generate(12)
    assert sequences.generate(12) != sequences.generate(13)


def test_chunks_lose_no_byte():
    data = bytes(range(256)) * 3
    cuts = set()
    for seed in range(20):
        pieces = sequences.chunks(seed, data)
        assert b"".join(piece for piece, _ in pieces) == data
        cuts.add(len(pieces))
    assert len(cuts) > 5


def test_shrinking_finds_the_two_steps_that_matter():
    steps = [sequences.Step(str(i), b"") for i in range(40)]
    needed = {steps[7], steps[31]}
    assert set(sequences.shrink(steps, lambda candidate: needed <= set(candidate))) == needed
