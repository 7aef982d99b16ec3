"""Statements in one flight with the login's last message, from a client that does not wait: one PostgreSQL runs them."""

import socket
import time

import pytest
from harness import wire
from talk import code, config_of, eventually, log_in, rows

SCHEMA = "create table t (id int primary key, v text)"


@pytest.fixture(scope="module")
def database(servers, new_database):
    return new_database(servers[:1], SCHEMA)


@pytest.fixture
def proxy(tessera, servers, database):
    config = config_of(servers[:1], database, users=[{"name": "app", "password": "app"}, {"name": "boss", "trust": True, "from": ["127.0.0.0/8"], "backend_user": "app", "backend_password": "app"}], pool={"checkout_timeout": "3s"})
    return tessera({**config, "admin": {"console_admins": ["app"]}})


class Hasty(wire.Wire):
    """Says its last words together with the proof of its password, or with the start-up packet of one who needs none."""

    words = b""
    ending = "closed"

    def send(self, *parts):
        data = b"".join(parts)
        last = b",p=" in data or b"user\0boss\0" in data
        super().send(data + (self.words if last else b""))
        if last:
            if self.ending == "half closed":
                self.socket.shutdown(socket.SHUT_WR)
            elif self.ending == "closed":
                self.socket.close()


def hasten(place, database, words, ending, user="app"):
    """What it was answered; of one who listens."""
    with Hasty("127.0.0.1", place.port) as client:
        client.words, client.ending = words, ending
        try:
            client.login(user, database, "app")
        except (OSError, wire.WireError):
            return None
        return client.read_to_end()


def ids(server, database):
    return sorted(int(line) for line in server.run("select id from t", database).split())


@pytest.mark.parametrize("goodbye", [wire.TERMINATE, b""], ids=["goodbye", "no goodbye"])
@pytest.mark.parametrize("ending", ["closed", "half closed"])
@pytest.mark.parametrize("who", ["server", "app", "boss"])
def test_what_comes_with_the_login_is_carried_out(servers, database, proxy, who, ending, goodbye):
    servers[0].run("truncate t", database)
    place = servers[0] if who == "server" else proxy
    for key in range(20):
        words = wire.query(f"insert into t values ({key}, 'x')") + wire.parse("select v from t") + wire.bind() + wire.execute() + wire.SYNC + goodbye
        answer = hasten(place, database, words, ending, "boss" if who == "boss" else "app")
        if ending == "half closed":
            assert rows(answer) == [["x"]] * (key + 1), key
    eventually(lambda: ids(servers[0], database) == list(range(20)), what="every one has been inserted")


def clients(proxy):
    with log_in(proxy, "pgbouncer") as connection:
        return len(rows(connection.ask(wire.query("SHOW CLIENTS"))))


@pytest.mark.parametrize("words", [b"", wire.TERMINATE, wire.query("select 1")[:-2]], ids=["nothing", "goodbye", "half a message"])
def test_who_has_nothing_to_say_is_not_kept(proxy, database, words):
    for _ in range(5):
        hasten(proxy, database, words, "closed")
    eventually(lambda: clients(proxy) == 0, timeout=3)


def test_a_wrong_password_runs_nothing(servers, database, proxy):
    servers[0].run("truncate t", database)
    with Hasty("127.0.0.1", proxy.port) as client:
        client.words, client.ending = wire.query("insert into t values (1, 'x')") + wire.TERMINATE, "half closed"
        with pytest.raises(wire.WireError):
            client.login("app", database, "wrong")
    time.sleep(0.2)
    assert ids(servers[0], database) == []


@pytest.mark.parametrize("ending", ["closed", "half closed"])
def test_commands_of_the_console_are_carried_out_too(database, proxy, ending):
    words = [wire.query("SHOW VERSION"), wire.query("RECONNECT"), wire.query("PAUSE"), wire.query("SHOW VERSION"), wire.TERMINATE]
    answer = hasten(proxy, "pgbouncer", b"".join(words), ending)
    if ending == "half closed":
        assert "".join(reply.type for reply in answer if reply.type in "CZ") == "CZ" * 4
    eventually(lambda: code_of_statement(proxy, database) == "57P03", timeout=5)
    hasten(proxy, "pgbouncer", wire.query("SHOW VERSION") + wire.query("RESUME") + wire.TERMINATE, ending)
    eventually(lambda: code_of_statement(proxy, database) is None, timeout=5)


def code_of_statement(proxy, database):
    try:
        with log_in(proxy, database) as connection:
            return code(connection.ask(wire.query("select v from t")))
    except wire.WireError as refused:
        return refused.fields["C"]
