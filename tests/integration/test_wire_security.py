"""Before authentication, and the shape of every message: requirements 1 to 7 of the security list.

What a stranger may send to the front door, and what a false server may answer at the back door.
"""

import base64
import resource
import socket
import statistics
import struct
import time

import pytest
from harness import wire
from harness.wire import SSL_REQUEST, GSSENC_REQUEST
from mock_server import GREETING, READY, MockServer, Relay
from talk import code, config_of, errors, eventually, log_in, rows, value

LENGTHS = [0, 1, 3, 4, 5, 2**31 - 1, 2**31, 2**31 + 1, 2**32 - 1]
LETTERS = [chr(c) for c in range(ord("A"), ord("Z") + 1)] + [chr(c) for c in range(ord("a"), ord("z") + 1)] + ["\0", "\x16", "\xff"]


@pytest.fixture(scope="module")
def server(shards):
    return shards(1)[0]


@pytest.fixture(scope="module")
def database(server, new_database):
    return new_database([server], "create table t (id int primary key, v text); insert into t select i, repeat('x', i) from generate_series(1, 50) i")


def tls_listen(ca, mode="prefer", **more):
    issued = ca.issue("tessera")
    return {"tls": {"mode": mode, "certificate": str(issued.certificate), "private_key": str(issued.private_key), **more.pop("tls", {})}, **more}


@pytest.fixture
def proxy(tessera, server, database, ca):
    return tessera(config_of([server], database, listen=tls_listen(ca), limits={"message_size": "1MB"}))


def stays_well(proxy, database):
    with log_in(proxy, database) as connection:
        assert value(connection, "select 6 * 7") == "42"


def all_bytes(connection):
    """Everything until the peer closes."""
    try:
        while connection.receive():
            pass
    except ConnectionResetError:
        pass
    return connection.buffer


# 1: requests for encryption


@pytest.mark.parametrize("first", [SSL_REQUEST, GSSENC_REQUEST], ids=["tls", "gss"])
@pytest.mark.parametrize("tls", [True, False], ids=["offered", "not offered"])
def test_bytes_behind_an_encryption_request_are_fatal(tessera, server, database, ca, first, tls):
    proxy = tessera(config_of([server], database, listen=tls_listen(ca) if tls else None))
    for behind in (b"\0", wire.startup({"user": "app", "database": database}), SSL_REQUEST):
        with wire.Wire(proxy.host, proxy.port) as connection:
            connection.send(first + behind)
            answer = all_bytes(connection)
        assert answer[:1] == b"E" and b"unencrypted data" in answer and b"08P01" in answer


@pytest.mark.parametrize("twice", [SSL_REQUEST, GSSENC_REQUEST], ids=["tls", "gss"])
def test_each_encryption_request_at_most_once(tessera, server, database, twice):
    proxy = tessera(config_of([server], database))
    other = GSSENC_REQUEST if twice == SSL_REQUEST else SSL_REQUEST
    with wire.Wire(proxy.host, proxy.port) as connection:
        for request in (other, twice):
            connection.send(request)
            assert connection.read_exactly(1) == b"N"
        connection.send(twice)
        assert all_bytes(connection)[:1] == b"E"
    with wire.Wire(proxy.host, proxy.port) as connection:
        for request in (other, twice):
            connection.send(request)
            assert connection.read_exactly(1) == b"N"
        connection.login("app", database, "app")


def test_no_second_tls_inside_tls(proxy, database):
    with wire.Wire(proxy.host, proxy.port) as connection:
        connection.start_tls()
        connection.send(SSL_REQUEST)
        assert connection.read().type == "E"


def test_a_silent_client_is_closed_at_the_login_timeout(tessera, server, database, ca):
    proxy = tessera(config_of([server], database, listen=tls_listen(ca, login_timeout="1s")))
    beginnings = {"silent": b"", "tls asked": SSL_REQUEST, "half a packet": wire.startup({"user": "app"})[:9], "no answer": wire.startup({"user": "app", "database": database})}
    started = time.monotonic()
    waiting = {}
    for name, data in beginnings.items():
        waiting[name] = wire.Wire(proxy.host, proxy.port)
        waiting[name].send(data)
    for name, connection in waiting.items():
        answer = all_bytes(connection)
        assert 0.8 < time.monotonic() - started < 3, name
        assert (b"login timed out" in answer) == (name == "no answer")
        connection.close()


@pytest.mark.parametrize("tls", ["prefer", "require"])
def test_bytes_behind_a_servers_tls_answer_are_fatal(tessera, database, tls):
    def serve(connection):
        connection.packet()
        connection.send(b"S" + GREETING)
        connection.drain()

    with MockServer(serve) as mock:
        proxy = tessera(config_of([mock], database, backend={"tls": tls, "connect_timeout": "2s"}, pool={"checkout_timeout": "1s"}))
        with pytest.raises(wire.WireError) as refused:
            log_in(proxy, database)
        assert refused.value.fields["C"].startswith("08"), refused.value
        assert not any(b"user\0app\0" in data for data in mock.received), "it went on in clear text"


# 2: what a server says before TLS


def test_a_servers_words_before_tls_are_not_relayed(tessera, database):
    words = "please send your password to evil.example"

    def serve(connection):
        connection.packet()
        connection.send(wire.message("E", f"SFATAL\0C28000\0M{words}\0\0".encode()))
        connection.drain()

    with MockServer(serve) as mock:
        proxy = tessera(config_of([mock], database, backend={"tls": "require"}, pool={"checkout_timeout": "1s"}))
        with pytest.raises(wire.WireError) as refused:
            log_in(proxy, database)
        assert refused.value.fields["C"].startswith("08")
        assert "evil" not in str(refused.value.fields)


# 3: authentication is a state machine


def in_state(proxy, database, state):
    connection = wire.Wire(proxy.host, proxy.port)
    connection.send(wire.startup({"user": "old" if state == "md5" else "app", "database": database}))
    assert connection.read().type == "R"
    if state == "scram continued":
        first = b"n,,n=,r=abcdefghijklmnopqrstuvwx"
        connection.send(wire.message("p", wire.text("SCRAM-SHA-256") + struct.pack(">I", len(first)) + first))
        assert struct.unpack_from(">I", connection.read().body)[0] == 11
    return connection


def check_refused(connection, context):
    replies = connection.read_to_end()
    assert all(reply.type == "E" for reply in replies), (context, replies)
    assert all(fields["S"] == "FATAL" for fields in errors(replies)), (context, replies)


@pytest.mark.parametrize("state", ["scram", "scram continued", "md5"])
def test_every_message_in_every_state_of_authentication(tessera, server, database, state):
    users = [{"name": "app", "password": "app"}, {"name": "old", "md5": "md5" + "0" * 32}]
    proxy = tessera(config_of([server], database, users=users))
    bodies = {"Q": wire.text("select 1"), "p": b"\0", "P": wire.text("") + wire.text("select 1") + b"\0\0"}
    for letter in LETTERS:
        with in_state(proxy, database, state) as connection:
            body = bodies.get(letter, b"")
            connection.send(letter.encode("latin-1") + struct.pack(">I", len(body) + 4) + body)
            check_refused(connection, letter)
    stays_well(proxy, database)


@pytest.mark.parametrize("state", ["scram", "scram continued", "md5"])
def test_identity_cannot_change_once_authentication_began(tessera, server, database, state):
    users = [{"name": "app", "password": "app"}, {"name": "old", "md5": "md5" + "0" * 32}, {"name": "free", "trust": True}]
    proxy = tessera(config_of([server], database, users=users, backend={"user": "app", "password": "app"}))
    again = wire.startup({"user": "free", "database": database})
    for packet in (again, SSL_REQUEST, wire.cancel_request(1, 1)):
        with in_state(proxy, database, state) as connection:
            connection.send(packet)
            check_refused(connection, packet)
    with wire.Wire(proxy.host, proxy.port) as connection:  # both at once, the second would be let in
        connection.send(wire.startup({"user": "app", "database": database}) + again)
        assert [reply.type for reply in connection.read_to_end()] == ["R", "E"]


def attempt(proxy, user, database):
    """The shape of a refused login, and its seconds."""
    started = time.monotonic()
    with wire.Wire(proxy.host, proxy.port) as connection:
        with pytest.raises(wire.WireError) as refused:
            connection.login(user, database, "wrong")
        shape = [(reply.type, len(reply.body)) for reply in connection.login_messages if reply.type == "R"]
    fields = refused.value.fields
    return shape, (fields["S"], fields["C"], fields["M"].replace(user, "USER")), time.monotonic() - started


def test_unknown_users_and_databases_look_like_a_wrong_password(proxy, database):
    cases = {"wrong password": ("app", database), "unknown user": ("apq", database), "unknown database": ("app", database[:-1] + "x")}
    seen = {name: [] for name in cases}
    for _ in range(15):
        for name, case in cases.items():
            seen[name].append(attempt(proxy, *case))
    shapes = {name: {(str(shape), fields) for shape, fields, _ in results} for name, results in seen.items()}
    assert shapes["unknown user"] == shapes["unknown database"] == shapes["wrong password"]
    assert len(shapes["wrong password"]) == 1
    times = {name: statistics.median(seconds for *_, seconds in results) for name, results in seen.items()}
    assert max(times.values()) < 1.5 * min(times.values()) + 0.003, times


def server_first(proxy, user, database):
    with wire.Wire(proxy.host, proxy.port) as connection:
        connection.send(wire.startup({"user": user, "database": database}))
        connection.read()
        first = b"n,,n=,r=abcdefghijklmnopqrstuvwx"
        connection.send(wire.message("p", wire.text("SCRAM-SHA-256") + struct.pack(">I", len(first)) + first))
        return dict(part.split(b"=", 1) for part in connection.read().body[4:].split(b","))


def test_an_unknown_user_keeps_one_salt(proxy, database):
    salts = {user: {(server_first(proxy, user, database)[b"s"], server_first(proxy, user, database)[b"i"]) for _ in range(3)} for user in ("app", "nobody", "noone")}
    assert all(len(found) == 1 for found in salts.values())
    assert len({next(iter(found))[0] for found in salts.values()}) == 3
    assert len({next(iter(found))[1] for found in salts.values()}) == 1


# 4: lengths, in both directions, and packets cut anywhere


def test_wrong_lengths_of_the_first_packet(proxy, database):
    before = proxy.resident_bytes()
    for length in [*LENGTHS, 7, 9, 10001, 16384]:
        for body in (b"", struct.pack(">I", 196608) + b"user\0app\0\0" + b"x" * 200):
            with wire.Wire(proxy.host, proxy.port, timeout=2) as connection:
                connection.send(struct.pack(">I", length) + body)
                connection.socket.shutdown(socket.SHUT_WR)
                answer = all_bytes(connection)
                assert answer[:1] in (b"", b"E"), (length, answer)
    assert proxy.resident_bytes() - before < 20 << 20
    stays_well(proxy, database)


MALFORMED_STARTUPS = {
    "no terminator": b"user\0app", "odd": b"user\0", "no user": b"database\0x\0\0", "nothing": b"", "empty": b"\0", "twice": b"user\0app\0user\0postgres\0\0",
    "after the end": b"user\0app\0\0database\0x\0\0", "long name": b"user\0" + b"a" * 9000 + b"\0\0", "nul option": b"user\0app\0options\0-c\0\0",
}


@pytest.mark.parametrize("case", MALFORMED_STARTUPS)
def test_malformed_startup_messages_are_refused(proxy, database, case):
    body = struct.pack(">I", 196608) + MALFORMED_STARTUPS[case]
    with wire.Wire(proxy.host, proxy.port) as connection:
        connection.send(struct.pack(">I", len(body) + 4) + body)
        replies = []
        try:
            replies.append(connection.read())
        except wire.WireError:
            pass
        # Whatever it asks next, it lets nobody in.
        assert all(reply.type in "ER" and reply.body[:4] != b"\0\0\0\0" for reply in replies)


@pytest.mark.parametrize("length", LENGTHS)
def test_wrong_lengths_of_messages_in_a_session(proxy, database, length):
    before = proxy.resident_bytes()
    for letter in "QPBDECFdcfHSX":
        with log_in(proxy, database) as connection:
            connection.send(letter.encode() + struct.pack(">I", length) + b"\0" * 40)
            connection.socket.shutdown(socket.SHUT_WR)
            replies = connection.read_to_end()
            assert not rows(replies)
            if length < 4 or (length > 1 << 20 and letter != "d"):
                assert code(replies) == "08P01", (letter, length, replies)
    assert proxy.resident_bytes() - before < 20 << 20
    stays_well(proxy, database)


def test_wrong_lengths_of_fields_in_a_session(proxy, database):
    """Counts and lengths inside a message that is otherwise whole."""
    before = proxy.resident_bytes()
    for number in LENGTHS:
        short, long = struct.pack(">H", number & 0xffff), struct.pack(">I", number)
        messages = [
            wire.message("P", b"\0select 1\0" + short), wire.message("P", b"\0select $1\0\0\1" + long), wire.message("P", b"\0select 1"),
            wire.message("B", b"\0\0" + short), wire.message("B", b"\0\0\0\0" + short), wire.message("B", b"\0\0\0\0\0\1" + long + b"abc"),
            wire.message("B", b"\0\0\0\0\0\0" + short), wire.message("E", b"\0" + long), wire.message("E", b"\0" + short), wire.message("D", long),
            wire.message("C", short), wire.message("F", long + short), wire.message("F", long + b"\0\0\0\1" + long + b"\0\0"),
        ]
        for message in messages:
            with log_in(proxy, database) as connection:
                connection.send(wire.parse("select $1::text"), message, wire.SYNC)
                replies = connection.read_until("Z", "E")
                assert replies[-1].type in "ZE"
    assert proxy.resident_bytes() - before < 20 << 20
    stays_well(proxy, database)


def test_every_packet_of_the_client_cut_at_every_byte(proxy, database):
    packet = wire.startup({"user": "app", "database": database})
    for at in range(1, len(packet)):
        with wire.Wire(proxy.host, proxy.port) as connection:
            connection.send(packet[:at])
            time.sleep(0.001)
            connection.send(packet[at:])
            assert connection.read().type == "R"
    talk = (wire.query("select id from t where id < 3 order by id") + wire.parse("select v from t where id = $1", "s", [23]) + wire.bind([b"2"], "p", "s")
            + wire.describe_portal("p") + wire.execute("p") + wire.close_statement("s") + wire.SYNC)
    with log_in(proxy, database) as connection:
        def replies():
            return connection.read_until("Z") + connection.read_until("Z")

        connection.send(talk)
        expected = replies()
        assert rows(expected) == [["1"], ["2"], ["xx"]]
        for at in range(1, len(talk)):
            connection.send(talk[:at])
            time.sleep(0.001)
            connection.send(talk[at:])
            assert replies() == expected, at


def test_every_packet_of_the_server_cut_at_every_byte(tessera, server, database, ca):
    with Relay(server.port, lambda data: [data[i:i + 1] for i in range(len(data))]) as relay:
        for tls in ("disable", "require"):
            proxy = tessera(config_of([relay], database, backend={"tls": tls}))
            with log_in(proxy, database) as connection:
                assert rows(connection.ask(wire.query("select v from t where id < 20 order by id"))) == [["x" * i] for i in range(1, 20)]
                replies = connection.ask(wire.parse("select $1::int"), wire.bind([b"7"]), wire.describe_portal(), wire.execute(), wire.SYNC)
                assert [reply.type for reply in replies] == list("12TDCZ")
                assert code(connection.ask(wire.query("select 1/0"))) == "22012"


@pytest.mark.parametrize("moment", ["login", "query"])
def test_wrong_lengths_from_a_server(tessera, database, moment):
    """Each message of a server with each false length: the statement fails in bounded time, memory stays."""
    turn = {"next": b""}

    def serve(connection):
        connection.startup()
        if moment == "login":
            connection.send(turn["next"])
            return connection.drain()
        connection.send(GREETING)
        while True:
            kind, body = connection.message()
            if b"broken" in body:
                connection.send(turn["next"])
                return connection.drain()
            answer_catalog(connection, kind, body)

    with MockServer(serve) as mock:
        proxy = tessera(config_of([mock], database, backend={"tls": "disable", "connect_timeout": "1s"},
                                  pool={"checkout_timeout": "300ms", "reconnect_min": "1ms", "reconnect_max": "2ms"}))
        before = proxy.resident_bytes()
        for letter in "RSKZEN" if moment == "login" else "TDCEZSNA1n":
            for length in (0, 3, 2**31, 2**32 - 1):
                turn["next"] = letter.encode() + struct.pack(">I", length) + b"\0" * 64
                with pytest.raises((wire.WireError, ConnectionResetError)):
                    with log_in(proxy, database, timeout=5) as connection:
                        replies = connection.ask(wire.query("select 'broken'"))
                        assert code(replies) in ("08006", "08P01", "08007"), (letter, length, replies)
                        raise wire.WireError("told")
        assert proxy.resident_bytes() - before < 20 << 20
        assert proxy.is_alive()


def answer_catalog(connection, kind, body):
    """Enough of a server for Tessera's own questions: every statement of theirs gives no rows."""
    if kind in "QS":
        text = body.decode(errors="replace")
        if "search_path" in text and "current_setting" in text:
            column = b"search_path\0" + struct.pack(">IHIhIH", 0, 0, 25, -1, 0xffffffff, 0)
            connection.send(wire.message("T", b"\0\1" + column), wire.message("D", b"\0\1\0\0\0\6public"), wire.message("C", b"SELECT 1\0"), READY)
        else:
            connection.send(wire.message("T", b"\0\0"), wire.message("C", b"SELECT 0\0"), READY)


# 5: every message has a checked length


def test_messages_above_the_cap_are_refused_not_cut(proxy, database):
    text = "select length('" + "y" * (2 << 20) + "')"
    for message in (wire.query(text), wire.parse(text), wire.bind([b"z" * (2 << 20)])):
        with log_in(proxy, database) as connection:
            connection.send(wire.parse("select $1::text"))
            try:
                connection.send(message, wire.SYNC)
            except (BrokenPipeError, ConnectionResetError):
                pass
            replies = connection.read_to_end()
            assert not rows(replies)
            assert code(replies) in ("08P01", None)  # a reset may overtake the words
    with log_in(proxy, database) as connection:
        connection.send(wire.query(text)[:5])
        replies = connection.read_to_end()
        assert code(replies) == "08P01" and "limits.message_size" in errors(replies)[0].get("H", "")
    stays_well(proxy, database)


def test_messages_at_the_cap_pass_whole(proxy, database):
    with log_in(proxy, database) as connection:
        for size in (65535, 65536, (1 << 20) - 200):
            assert value(connection, "select length('" + "y" * size + "')") == str(size)
            replies = connection.ask(wire.parse("select length($1::text)", "long" + str(size)), wire.bind([b"z" * size], name="long" + str(size)), wire.execute(), wire.SYNC)
            assert rows(replies) == [[str(size)]]


def test_copy_data_above_the_cap_streams(proxy, database):
    with log_in(proxy, database) as connection:
        connection.ask(wire.query("create temp table c (v text)"))
        connection.send(wire.query("copy c from stdin"))
        connection.read_until("G")
        replies = connection.ask(wire.copy_data(b"w" * (3 << 20) + b"\n"), wire.COPY_DONE)
        assert code(replies) is None
        assert value(connection, "select length(v) from c") == str(3 << 20)


# 6: SCRAM

FALSE_FIRST = [b"", b"n", b"n,,", b"n,,n=", b"n,,r=abc,n=", b"n,,n=,r=", b"n,,m=x,n=,r=abcdefgh", b"n,a=other,n=,r=abcdefgh", b"p=tls-unique,,n=,r=abcdefgh",
               b"p=tls-server-end-point,,n=,r=abcdefgh", b"x,,n=,r=abcdefgh", b"n,,n=,r=\x01\x02", b"n,,n=,r=a,b", b"n,,n=,r=" + b"a" * 5000, b"\xff" * 30]
FALSE_LAST = [b"", b"c=biws", b"c=biws,r={r}", b"c=biws,r={r},p=", b"c=biws,r={r},p=!!!", b"c=biws,r={r},p=AAAA", b"c=eSws,r={r},p={p}", b"c=biws,r=other,p={p}",
              b"c=biws,r={r}x,p={p}", b"r={r},c=biws,p={p}", b"c=biws,r={r},p={p},m=x", b"c=,r={r},p={p}", b"c=biws,r={r},p={p}\0", b"\0" * 50, b"c=biws,r={r},p=" + b"A" * 5000]


def test_false_scram_messages_are_refused(proxy, database):
    for false in FALSE_FIRST:
        with in_state(proxy, database, "scram") as connection:
            connection.send(wire.message("p", wire.text("SCRAM-SHA-256") + struct.pack(">I", len(false)) + false))
            check_refused(connection, false)
    for mechanism in ("SCRAM-SHA-1", "SCRAM-SHA-256-PLUS", "PLAIN", "", "scram-sha-256"):
        with in_state(proxy, database, "scram") as connection:
            first = b"n,,n=,r=abcdefghijkl"
            connection.send(wire.message("p", wire.text(mechanism) + struct.pack(">I", len(first)) + first))
            check_refused(connection, mechanism)
    for length in (-1, 0, 3, 2**31 - 1):
        with in_state(proxy, database, "scram") as connection:
            connection.send(wire.message("p", wire.text("SCRAM-SHA-256") + struct.pack(">i", length) + b"n,,n=,r=abcdefghijkl"))
            check_refused(connection, length)
    proof = base64.b64encode(bytes(32))
    for false in FALSE_LAST:
        with wire.Wire(proxy.host, proxy.port) as connection:
            connection.send(wire.startup({"user": "app", "database": database}))
            connection.read()
            first = b"n,,n=,r=abcdefghijklmnopqrstuvwx"
            connection.send(wire.message("p", wire.text("SCRAM-SHA-256") + struct.pack(">I", len(first)) + first))
            nonce = dict(part.split(b"=", 1) for part in connection.read().body[4:].split(b","))[b"r"]
            connection.send(wire.message("p", false.replace(b"{r}", nonce).replace(b"{p}", proof)))
            check_refused(connection, false)
    stays_well(proxy, database)


def test_channel_binding_is_offered_only_where_it_is_real(proxy, database):
    with in_state(proxy, database, "scram"):
        pass
    with wire.Wire(proxy.host, proxy.port) as plain:
        plain.send(wire.startup({"user": "app", "database": database}))
        assert plain.read().body[4:] == b"SCRAM-SHA-256\0\0"
    with log_in(proxy, database, tls=True, channel_binding=True) as secure:
        assert b"SCRAM-SHA-256-PLUS\0" in secure.login_messages[0].body
    with wire.Wire(proxy.host, proxy.port) as downgraded:  # 'y': "you did not offer channel binding", which it did
        downgraded.start_tls()
        downgraded.send(wire.startup({"user": "app", "database": database}))
        downgraded.read()
        first = b"y,,n=,r=abcdefghijklmnopqrstuvwx"
        downgraded.send(wire.message("p", wire.text("SCRAM-SHA-256") + struct.pack(">I", len(first)) + first))
        check_refused(downgraded, "downgrade")


def test_a_binding_to_another_certificate_is_refused(proxy, database):
    with wire.Wire(proxy.host, proxy.port) as connection:
        connection.start_tls()

        class Imposter:
            def __init__(self, real):
                self.real = real

            def getpeercert(self, **_):
                return b"another certificate"

            def __getattr__(self, name):
                return getattr(self.real, name)

        connection.socket = Imposter(connection.socket)
        with pytest.raises(wire.WireError, match="FATAL"):
            connection.login("app", database, "app", channel_binding=True)


NONCE = "{nonce}"
FALSE_SERVER_FIRST = ["", "r={nonce}", "r={nonce}x,s=,i=4096", "r={nonce}x,s=c2FsdHNhbHQ=,i=0", "r={nonce}x,s=c2FsdHNhbHQ=,i=-1", "r={nonce}x,s=c2FsdHNhbHQ=,i=2147483647",
                      "r={nonce}x,s=c2FsdHNhbHQ=,i=99999999999999999999", "r={nonce}x,s=c2FsdHNhbHQ=,i=4096x", "r={nonce},s=c2FsdHNhbHQ=,i=4096", "r=other,s=c2FsdHNhbHQ=,i=4096",
                      "r={nonce}x,s=!!!!,i=4096", "m=ext,r={nonce}x,s=c2FsdHNhbHQ=,i=4096", "r={nonce}" + "x" * 9000 + ",s=c2FsdHNhbHQ=,i=4096", "e=other-error"]


def test_false_scram_messages_of_a_server_are_refused(tessera, database):
    """Also a server that does not know the password, and one that asks for nothing."""
    turn = {"first": "", "proofs": 0}

    def serve(connection):
        connection.startup()
        connection.send(wire.message("R", struct.pack(">I", 10) + b"SCRAM-SHA-256\0\0"))
        nonce = connection.message()[1].split(b"r=", 1)[1].decode()
        connection.send(wire.message("R", struct.pack(">I", 11) + turn["first"].replace(NONCE, nonce).encode()))
        connection.message()
        turn["proofs"] += 1
        connection.send(wire.message("R", struct.pack(">I", 12) + b"v=" + base64.b64encode(bytes(32))), GREETING)
        connection.drain()

    with MockServer(serve) as mock:
        proxy = tessera(config_of([mock], database, backend={"tls": "disable", "connect_timeout": "1s"},
                                  pool={"checkout_timeout": "300ms", "reconnect_min": "1ms", "reconnect_max": "2ms"}))
        for turn["first"] in FALSE_SERVER_FIRST:
            started = time.monotonic()
            with pytest.raises(wire.WireError):
                log_in(proxy, database)
            assert time.monotonic() - started < 2, turn["first"]
            assert turn["proofs"] == 0, f"a proof was sent for {turn['first']!r}"
        turn["first"] = "r={nonce}x,s=c2FsdHNhbHQ=,i=4096"
        with pytest.raises(wire.WireError):
            log_in(proxy, database)
        assert turn["proofs"] > 0


def test_a_server_cannot_ask_for_the_password_in_clear_text_without_tls(tessera, database):
    def serve(connection):
        connection.startup()
        connection.send(wire.message("R", struct.pack(">I", 3)))
        connection.message()

    with MockServer(serve) as mock:
        proxy = tessera(config_of([mock], database, users=[{"name": "app", "password": "Canary-0815"}], backend={"tls": "disable"},
                                  pool={"checkout_timeout": "300ms"}), canaries=["Canary-0815"])
        with pytest.raises(wire.WireError):
            log_in(proxy, database, password="Canary-0815")
        assert not any(b"Canary-0815" in data for data in mock.received)


# 7: crowds


@pytest.fixture
def many_files():
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    yield hard
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_half_open_and_slow_clients_do_not_slow_a_login(tessera, server, database, ca, many_files):
    count = 5000
    if many_files < count + 500:
        pytest.skip(f"NOT SHOWN: {count} half-open clients need {count + 500} file descriptors, this machine allows {many_files}: raise the hard limit (ulimit -Hn)")
    proxy = tessera(config_of([server], database, listen=tls_listen(ca, login_timeout="20s")))
    stays_well(proxy, database)
    idle_memory = proxy.resident_bytes()
    packet = wire.startup({"user": "app", "database": database})
    crowd = []
    try:
        for number in range(count):
            one = socket.create_connection((proxy.host, proxy.port))
            crowd.append(one)
            one.sendall((b"", SSL_REQUEST, packet[:6], SSL_REQUEST + b"", packet)[number % 5])
        slowest = 0
        for turn in range(5):
            for one in crowd[:1000]:
                try:
                    one.send(b"\0")
                except OSError:
                    pass  # it was turned away for what it said before
            started = time.monotonic()
            stays_well(proxy, database)
            slowest = max(slowest, time.monotonic() - started)
            time.sleep(0.2)
        assert slowest < 1.0
        assert proxy.resident_bytes() - idle_memory < 60 << 20
    finally:
        for one in crowd:
            one.close()
    stays_well(proxy, database)


def test_limits_of_clients_in_total_and_by_address(tessera, server, database):
    for limit in ("max_clients", "max_clients_per_address"):
        proxy = tessera(config_of([server], database, listen={limit: 5}))
        held = [log_in(proxy, database) for _ in range(5)]
        with pytest.raises(wire.WireError) as refused:
            log_in(proxy, database)
        assert refused.value.fields["C"] == "53300"
        assert value(held[0], "select 1") == "1"
        held.pop().close()
        eventually(lambda: _may_log_in(proxy, database), what=f"a place free again under {limit}")
        for one in held:
            one.close()


def _may_log_in(proxy, database):
    try:
        stays_well(proxy, database)
        return True
    except wire.WireError:
        return False


def test_a_client_that_floods_before_it_is_let_in_is_cut_off(proxy, database):
    before = proxy.resident_bytes()
    with wire.Wire(proxy.host, proxy.port, timeout=5) as connection:
        connection.send(wire.startup({"user": "app", "database": database}))
        connection.read()
        try:
            for _ in range(200):
                connection.send(b"p" + struct.pack(">I", 60000) + b"x" * 60000)
        except (BrokenPipeError, ConnectionResetError):
            pass
        assert all(reply.type == "E" for reply in connection.read_to_end())
    assert proxy.resident_bytes() - before < 20 << 20


# 20: PROXY protocol


def from_balancer(proxy, database, header, user="app", password="app"):
    connection = wire.Wire(proxy.host, proxy.port)
    connection.send(header)
    return connection.login(user, database, password)


def test_a_proxy_header_from_a_trusted_network_says_who_the_client_is(tessera, server, database):
    users = [{"name": "app", "password": "app", "from": ["192.0.2.0/24"]}]
    proxy = tessera(config_of([server], database, users=users, listen={"proxy_protocol_from": ["127.0.0.0/8"], "max_clients_per_address": 1}))
    version_2 = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c" + bytes([192, 0, 2, 9, 127, 0, 0, 1, 1, 0, 25, 32])
    with from_balancer(proxy, database, b"PROXY TCP4 192.0.2.8 127.0.0.1 1000 6432\r\n") as first, from_balancer(proxy, database, version_2) as second:
        assert value(first, "select 1") == value(second, "select 1") == "1"
        with pytest.raises(wire.WireError) as problem:  # a second one from the same client
            from_balancer(proxy, database, version_2)
        assert problem.value.fields["C"] == "53300"
    with pytest.raises(wire.WireError) as problem:
        from_balancer(proxy, database, b"PROXY TCP4 198.51.100.1 127.0.0.1 1000 6432\r\n")
    assert problem.value.fields["C"] == "28P01"
    for missing in (b"", b"PROXY TCP4 nonsense\r\n"):  # the header is owed
        with pytest.raises((wire.WireError, ConnectionResetError)) as problem:
            from_balancer(proxy, database, missing)
        assert not getattr(problem.value, "fields", None)
    assert "no PROXY header" in proxy.log()


def test_a_proxy_header_from_anybody_else_is_garbage(tessera, server, database):
    proxy = tessera(config_of([server], database))
    with pytest.raises(wire.WireError) as problem:
        from_balancer(proxy, database, b"PROXY TCP4 192.0.2.8 127.0.0.1 1000 6432\r\n")
    assert problem.value.fields["C"] == "08P01"
