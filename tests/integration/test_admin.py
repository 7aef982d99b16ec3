"""The admin endpoint and the console: health, metrics, facts, roles, attacks, reload, and no secret in any answer."""

import contextlib
import http.client
import json
import re
import signal
import socket
import ssl
import time
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest
from harness import wire
from harness.tessera import ADMIN_TOKEN, Tessera, database_config, run_command

TOKENS = {"viewer": "canary-token-viewer-1", "operator": "canary-token-operator-2", "admin": "canary-token-admin-3"}
RANK = {"viewer": 1, "operator": 2, "admin": 3}
CANARIES = [*TOKENS.values(), "canary-backend-password", "canary-verifier-password", ADMIN_TOKEN]
TABLES = {"item": {"rule": "by_id", "key": "id"}, "country": {"reference": True}}
SCHEMA = "create table item (id bigint primary key, v text); create table country (code text primary key)"


@pytest.fixture(scope="module")
def database(servers, new_database):
    name = new_database(servers, SCHEMA)
    for server in servers:
        with server.connect() as connection:
            if not connection.execute("select 1 from pg_roles where rolname = 'guest'").fetchone():
                connection.execute("create role guest login password 'canary-backend-password'")
    return name


def make_config(servers, database, **more):
    users = [{"name": "app", "password": "app"},
             {"name": "guest", "password": "canary-verifier-password", "backend_password": "canary-backend-password"}]
    entry = database_config(servers, database, tables=TABLES, users=users,
                            rules={"by_id": {"type": "hash", "buckets": 64, "shards": ["s0", "s1"]}}, pool={"size": 4})
    tokens = [{"role": role, "token": token} for role, token in TOKENS.items()]
    tokens.append({"role": "admin", "token": ADMIN_TOKEN})
    config = {"databases": {"shop": entry}, "drain_timeout": "10s",
              "admin": {"tokens": tokens, "console_admins": ["app"], "console_viewers": ["guest"]}}
    config["admin"].update(more)
    return config


@pytest.fixture(scope="module")
def proxy(servers, database, tmp_path_factory):
    with Tessera(make_config(servers, database), tmp_path_factory.mktemp("admin"), canaries=CANARIES) as running:
        yield running


def get(proxy, path, token=TOKENS["viewer"]):
    status, text = proxy.http("GET", path, token=token)
    assert status == 200, text
    return json.loads(text)


def raw(proxy, text, timeout=10):
    """Sends bytes as they are; everything that comes back."""
    with socket.create_connection((proxy.host, proxy.admin_port), timeout=timeout) as connection:
        connection.sendall(text if isinstance(text, bytes) else text.encode())
        answer = b""
        while True:
            try:
                piece = connection.recv(65536)
            except ConnectionResetError:
                return answer
            if not piece:
                return answer
            answer += piece


def status_of(answer):
    return int(answer.split(b" ", 2)[1]) if answer else 0


def metrics_of(proxy):
    """{(name, sorted labels): value}; every line must be of Prometheus's text format."""
    status, text = proxy.http("GET", "/metrics", token=None)
    assert status == 200
    values, types = {}, {}
    for line in text.splitlines():
        if line.startswith("# TYPE "):
            _, _, name, kind = line.split(" ")
            assert name not in types, f"{name} twice"
            types[name] = kind
        if line.startswith("#") or not line:
            continue
        match = re.fullmatch(r'([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{((?:[a-z_]+="(?:[^"\\\n]|\\.)*",?)*)\})? (\S+)', line)
        assert match, line
        labels = tuple(sorted(re.findall(r'([a-z_]+)="((?:[^"\\]|\\.)*)"', match[2] or "")))
        assert (match[1], labels) not in values, f"doubled: {line}"
        values[(match[1], labels)] = float(match[3])
        assert re.sub(r"_(bucket|sum|count)$", "", match[1]) in types or match[1] in types, line
    return values


def total(values, name, **labels):
    wanted = set(labels.items())
    return sum(value for (found, having), value in values.items() if found == name and wanted <= set(having))


# Health


def test_health_and_readiness_need_no_token_on_loopback(proxy):
    assert proxy.http("GET", "/healthz", token=None) == (200, '{\n  "status": "ok"\n}\n')
    status, text = proxy.http("GET", "/readyz", token=None)
    ready = json.loads(text)
    assert status == 200 and ready["ready"] is True
    assert ready["databases"]["shop"]["shards"] == [{"shard": "s0", "healthy": True}, {"shard": "s1", "healthy": True}]


def test_head_is_get_without_a_body(proxy):
    answer = raw(proxy, "HEAD /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
    head, _, body = answer.partition(b"\r\n\r\n")
    assert status_of(answer) == 200 and b"Content-Length: 21" in head and body == b""


def test_connections_are_kept_alive(proxy):
    connection = http.client.HTTPConnection(proxy.host, proxy.admin_port, timeout=10)
    connection.connect()
    first = connection.sock
    for _ in range(5):
        connection.request("GET", "/healthz")
        assert connection.getresponse().read() and connection.sock is first
    connection.close()


def test_draining_turns_readiness_off_at_once(servers, database, tessera):
    proxy = tessera(make_config(servers, database))
    client = proxy.connect("shop", autocommit=False)
    client.execute("select * from item where id = 1")
    proxy.process.send_signal(signal.SIGTERM)
    deadline = time.monotonic() + 5
    while (answer := proxy.http("GET", "/readyz", token=None))[0] == 200:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert answer[0] == 503 and json.loads(answer[1]) == {"ready": False, "reasons": ["draining"]}
    assert proxy.http("GET", "/healthz", token=None)[0] == 200
    assert total(metrics_of(proxy), "tessera_draining") == 1
    client.commit()
    client.close()
    assert proxy.process.wait(10) == 0


def connect_to_what_is_left(proxy):
    """A login asks some shard for its settings: with one of two down, every other login fails."""
    for _ in range(10):
        try:
            return proxy.connect("shop")
        except psycopg.OperationalError as error:
            refused = error
    raise refused


def test_an_unreachable_shard_is_unhealthy_and_ready_all_the_same(servers, database, tessera):
    config = make_config(servers, database)
    config["databases"]["shop"]["shards"]["s1"]["primary"] = "127.0.0.1:9"
    config["databases"]["shop"]["pool"] = {"checkout_timeout": "300ms"}
    proxy = tessera(config)
    with connect_to_what_is_left(proxy) as client:
        failed = 0
        for key in range(1, 9):
            try:
                client.execute(f"select * from item where id = {key}")
            except psycopg.OperationalError:
                failed += 1
        assert 0 < failed < 8
        status, text = proxy.http("GET", "/readyz", token=None)
        assert status == 200
        assert json.loads(text)["databases"]["shop"]["shards"] == [{"shard": "s0", "healthy": True}, {"shard": "s1", "healthy": False}]
        shard = [one for one in get(proxy, "/v1/shards")["shards"] if one["shard"] == "s1"][0]
        assert shard["healthy"] is False and shard["last_error"]
        assert total(metrics_of(proxy), "tessera_shard_healthy", shard="s1") == 0


# Metrics


def test_metrics_parse_and_grow(proxy):
    before = metrics_of(proxy)
    with proxy.connect("shop") as client:
        for key in range(1, 21):
            client.execute(f"insert into item values ({key}, 'x') on conflict do nothing")
            client.execute(f"select v from item where id = {key}")
        with pytest.raises(psycopg.errors.UndefinedColumn):
            client.execute("select nothing from item where id = 1")
        during = metrics_of(proxy)
    after = metrics_of(proxy)

    def grown(name, **labels):
        return total(after, name, **labels) - total(before, name, **labels)

    assert grown("tessera_statements_total", database="shop", **{"class": "insert"}) == 20
    assert grown("tessera_statements_total", database="shop", **{"class": "select"}) == 21
    assert grown("tessera_statements_total", shard="s0") > 0 and grown("tessera_statements_total", shard="s1") > 0
    assert grown("tessera_statement_duration_seconds_count", database="shop") >= 41
    assert grown("tessera_statement_duration_seconds_sum", database="shop") > 0
    assert grown("tessera_errors_total", sqlstate="42703") == 1
    assert grown("tessera_plan_cache_hits_total") >= 38
    assert grown("tessera_logins_total", database="shop") == 1
    assert grown("tessera_client_received_bytes_total") > 1000 and grown("tessera_client_sent_bytes_total") > 1000
    assert total(during, "tessera_clients", database="shop") == total(before, "tessera_clients", database="shop") + 1
    assert total(during, "tessera_pool_open_connections", user="app") >= 2
    assert grown("tessera_pool_checkouts_total", user="app") >= 40
    for name in ("process_resident_memory_bytes", "process_open_fds", "tessera_uptime_seconds", "process_cpu_seconds_total"):
        assert total(after, name) > 0, name


def test_histogram_buckets_are_cumulative(proxy):
    with proxy.connect("shop") as client:
        client.execute("select pg_sleep(0.05) from item where id = 1")
    values = metrics_of(proxy)
    for shard in ("s0", "s1"):
        buckets = sorted((float(dict(labels)["le"].replace("+Inf", "inf")), value) for (name, labels), value in values.items()
                         if name == "tessera_statement_duration_seconds_bucket" and ("shard", shard) in labels)
        counts = [count for _, count in buckets]
        assert buckets[-1][0] == float("inf") and counts == sorted(counts) and len(buckets) > 10
        assert counts[-1] == total(values, "tessera_statement_duration_seconds_count", shard=shard)


def test_failed_logins_are_counted(proxy):
    before = total(metrics_of(proxy), "tessera_login_failures_total", database="shop")
    with pytest.raises(psycopg.OperationalError):
        proxy.connect("shop", password="wrong")
    assert total(metrics_of(proxy), "tessera_login_failures_total", database="shop") == before + 1


def test_every_kind_of_failed_login_is_counted_by_sqlstate(servers, database, tessera, ca):
    config = make_config(servers, database)
    certificate = ca.issue("tessera")
    config["listen"] = {"login_timeout": "1s", "max_clients": 1, "tls": {"mode": "require", "certificate": str(certificate.certificate), "private_key": str(certificate.private_key)}}
    proxy = tessera(config)

    def failures(**labels):
        return total(metrics_of(proxy), "tessera_login_failures_total", **labels)

    def refused(user, name, password, **options):
        with pytest.raises(wire.WireError) as error:
            wire.connect(proxy.host, proxy.port, user, name, password, **options)
        return error.value.fields["C"]

    assert refused("app", "shop", "wrong", tls=True) == "28P01" and failures(database="shop", sqlstate="28P01") == 1
    assert refused("app", "nowhere", "app", tls=True) == "28P01" and failures(database="", sqlstate="28P01") == 1
    assert refused("app", "pgbouncer", "wrong", tls=True) == "28P01" and failures(database="pgbouncer", sqlstate="28P01") == 1
    assert refused("app", "shop", "app") == "28000" and failures(database="shop", sqlstate="28000") == 1
    with socket.create_connection((proxy.host, proxy.port)) as silent:
        assert silent.recv(1) == b"" and failures(database="", sqlstate="28000") == 1
    with socket.create_connection((proxy.host, proxy.port)) as garbage:
        garbage.sendall(bytes(8))
        garbage.recv(1)
        assert failures(database="", sqlstate="08P01") == 1
    with wire.connect(proxy.host, proxy.port, "app", "shop", "app", tls=True):
        assert refused("app", "shop", "app", tls=True) == "53300" and failures(database="shop", sqlstate="53300") == 1
    assert get(proxy, "/v1/databases")["databases"][0]["login_failures"] == 3


# Facts


def test_facts(proxy):
    with proxy.connect("shop", autocommit=False, application_name='<b>"a"') as client:
        client.execute("select v from item where id = 1")
        client.execute("create temporary table mine (x int)")
        session = [one for one in get(proxy, "/v1/sessions")["sessions"] if one["application_name"] == '<b>"a"'][0]
        assert session["user"] == "app" and session["database"] == "shop" and session["address"] == "127.0.0.1"
        assert session["state"] == "idle in transaction" and session["shard"] in ("s0", "s1")
        assert session["pinned"] == "temporary objects" and session["statements"] >= 2 and session["tls"] is False
        pools = {(pool["user"], pool["shard"]): pool for pool in get(proxy, "/v1/pools")["pools"] if pool["database"] == "shop"}
        pool = pools["app", session["shard"]]
        assert pool["busy"] == 1 and pool["limit"] == 4 and pool["open"] >= 1 and "leased" in {one["state"] for one in pool["connections"]}
    shop = get(proxy, "/v1/databases")["databases"][0]
    assert shop["database"] == "shop" and shop["shards"] == ["s0", "s1"] and shop["catalog_loaded"] is True
    assert [shard["shard"] for shard in get(proxy, "/v1/shards")["shards"]] == ["s0", "s1"]
    tables = {table["table"]: table for table in get(proxy, "/v1/tables")["tables"]}
    assert tables["item"]["kind"] == "sharded" and tables["item"]["key"] == ["id"] and tables["item"]["routable"] is True
    assert tables["country"]["kind"] == "reference"
    rule = get(proxy, "/v1/rules")["rules"][0]
    assert rule["rule"] == "by_id" and rule["settings"]["buckets"] == 64
    topology = get(proxy, "/v1/topology")["databases"][0]
    assert topology["version"] > 0 and topology["shards"][1]["shard"] == "s1" and "by_id" in topology["rules"]
    assert get(proxy, "/v1/config")["databases"]["shop"]["rules"]["by_id"]["buckets"] == 64


def test_the_sessions_list_is_bounded(proxy):
    clients = [proxy.connect("shop") for _ in range(3)]
    answer = get(proxy, "/v1/sessions?limit=2&database=shop")
    assert len(answer["sessions"]) == 2 and answer["truncated"] is True and answer["total"] >= 3
    assert get(proxy, "/v1/sessions?database=nothing")["sessions"] == []
    for bad in ("0", "-1", "x", "", "100001", "99999999999999999999"):
        assert proxy.http("GET", f"/v1/sessions?limit={bad}")[0] == 400, bad
    for client in clients:
        client.close()


def test_the_page_is_static_and_closed(proxy):
    answer = raw(proxy, "GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").decode()
    assert answer.startswith("HTTP/1.1 200") and "default-src 'none'" in answer and "X-Content-Type-Options: nosniff" in answer
    assert not re.search(r"https?://", answer)
    script = proxy.http("GET", "/console.js", token=None)[1]
    assert "innerHTML" not in script and not re.search(r"https?://", script)


# Roles


def routes_of(proxy):
    document = get(proxy, "/v1/openapi.json")
    assert document["openapi"].startswith("3.")
    return [(method.upper(), path, operation["x-tessera-access"]) for path, operations in document["paths"].items() for method, operation in operations.items()]


def expected_status(access, role):
    if access == "everyone":
        return "allowed"
    if role is None:
        return "allowed" if access == "viewer_or_loopback" else 401
    if role == "unknown":
        return 401
    needed = 1 if access == "viewer_or_loopback" else RANK[access]
    return "allowed" if RANK[role] >= needed else 403


def test_every_route_with_every_role(proxy):
    routes = routes_of(proxy)
    assert len(routes) >= 16 and ("POST", "/v1/config/reload", "operator") in routes
    for method, path, access in routes:
        for role, token in {**TOKENS, "unknown": "no-such-token", None: None}.items():
            status, text = proxy.http(method, path, token=token)
            expected = expected_status(access, role)
            assert (status == 200 if expected == "allowed" else status == expected), (method, path, role, status, text)
        wrong = "GET" if method == "POST" else "POST"
        assert proxy.http(wrong, path)[0] == 405
    assert proxy.http("GET", "/v1/nothing")[0] == 404
    assert proxy.http("DELETE", "/v1/config")[0] == 405


class TokenlessTessera(Tessera):
    """One without tokens in its configuration: whoever sends one is refused."""

    def http(self, method, path, body=None, token=None):
        return super().http(method, path, body, token)


def test_without_tokens_loopback_may_do_all(servers, database, tmp_path):
    with TokenlessTessera(make_config(servers, database, tokens=[]), tmp_path) as proxy:
        document = json.loads(proxy.http("GET", "/v1/openapi.json")[1])
        for path, operations in document["paths"].items():
            for method in operations:
                assert proxy.http(method.upper(), path)[0] == 200, path
        assert proxy.http("GET", "/v1/config", token="anything")[0] == 401


# Attacks


def ask(proxy, headers="", method="GET", path="/v1/config", body="", host="localhost"):
    lines = f"{method} {path} HTTP/1.1\r\nConnection: close\r\nAuthorization: Bearer {TOKENS['admin']}\r\n"
    if host is not None:
        lines += f"Host: {host}\r\n"
    return status_of(raw(proxy, lines + headers + "\r\n" + body))


def test_host_and_origin(proxy):
    assert ask(proxy) == 200
    assert ask(proxy, host=f"127.0.0.1:{proxy.admin_port}") == 200
    assert ask(proxy, host="evil.example.com") == 421
    assert ask(proxy, host="127.0.0.1:1") == 421
    assert ask(proxy, host=None) == 400
    assert ask(proxy, "Host: localhost\r\n") == 400
    assert ask(proxy, "Origin: http://localhost\r\n") == 200
    assert ask(proxy, "Origin: http://evil.example.com\r\n") == 403
    assert ask(proxy, "Origin: null\r\n") == 403
    answer = raw(proxy, "OPTIONS /v1/config HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nOrigin: http://localhost\r\n\r\n")
    assert status_of(answer) == 405 and b"Access-Control" not in answer


def test_lengths_that_contradict_each_other(proxy):
    post = {"method": "POST", "path": "/v1/config/reload"}
    json_type = "Content-Type: application/json\r\n"
    assert ask(proxy, json_type + "Content-Length: 2\r\n", body="{}", **post) == 200
    assert ask(proxy, json_type + "Transfer-Encoding: chunked\r\n", body="2\r\n{}\r\n0\r\n\r\n", **post) == 200
    for headers in ("Content-Length: 2\r\nContent-Length: 2\r\n", "Content-Length: 2\r\nContent-Length: 3\r\n", "Content-Length: 2, 2\r\n",
                    "Content-Length: -2\r\n", "Content-Length: 2x\r\n", "Content-Length: 99999999999999999999999\r\n",
                    "Content-Length: 2\r\nTransfer-Encoding: chunked\r\n", "Transfer-Encoding: chunked\r\nContent-Length: 2\r\n",
                    "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n"):
        assert ask(proxy, json_type + headers, body="{}", **post) == 400, headers
    # What follows in the stream must never be taken for a second request.
    smuggled = (f"POST /v1/config/reload HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n"
                f"0\r\n\r\nGET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
    assert raw(proxy, smuggled).count(b"HTTP/1.1 ") == 1


def test_bodies(proxy):
    post = {"method": "POST", "path": "/v1/config/reload"}
    assert ask(proxy, "Content-Type: text/plain\r\nContent-Length: 2\r\n", body="{}", **post) == 415
    assert ask(proxy, "Content-Length: 2\r\n", body="{}", **post) == 415
    assert ask(proxy, "Content-Type: application/json\r\nContent-Length: 1\r\n", body="{", **post) == 400
    assert ask(proxy, "Content-Type: application/json\r\nContent-Length: 2\r\n", body="{}") == 400
    assert ask(proxy, "Content-Type: application/json\r\nContent-Length: 1048577\r\n", **post) == 413
    deep = "[" * 500000
    assert ask(proxy, f"Content-Type: application/json\r\nContent-Length: {len(deep)}\r\n", body=deep, **post) == 400


def test_a_client_that_waits_to_be_told_to_continue(proxy):
    """Expect: 100-continue, as curl sends with larger bodies."""
    head = (f"POST /v1/config/reload HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {TOKENS['admin']}\r\nContent-Type: application/json\r\n"
            "Expect: 100-Continue\r\n{}\r\n")
    with socket.create_connection((proxy.host, proxy.admin_port), timeout=5) as connection:
        for framing, body in (("Content-Length: 2000\r\n", b"{" + b" " * 1998 + b"}"), ("Transfer-Encoding: chunked\r\n", b"2\r\n{}\r\n0\r\n\r\n")):
            connection.sendall(head.format(framing).encode())
            assert connection.recv(65536) == b"HTTP/1.1 100 Continue\r\n\r\n"
            connection.sendall(body)
            assert connection.recv(65536).startswith(b"HTTP/1.1 200 ")
        connection.sendall(head.format("Content-Length: 2\r\n").encode() + b"{}")  # it has not waited
        assert connection.recv(65536).startswith(b"HTTP/1.1 200 ")
    too_large = head.format("Content-Length: 1048577\r\nConnection: close\r\n")
    assert raw(proxy, too_large).startswith(b"HTTP/1.1 413 ")


def test_targets_in_absolute_form(proxy):
    """The host in the target counts, not that of the header."""
    assert ask(proxy, path="http://localhost/v1/config") == 200
    assert ask(proxy, path=f"HTTP://127.0.0.1:{proxy.admin_port}/v1/config", host="proxy.example.com") == 200
    assert ask(proxy, path="http://localhost?x=1") == ask(proxy, path="/?x=1")
    assert ask(proxy, path="http://evil.example.com/v1/config") == 421
    assert ask(proxy, path="http://localhost@evil.example.com/v1/config") == 400
    assert ask(proxy, path="http:///v1/config") == 400
    assert ask(proxy, path="ftp://localhost/v1/config") == 404
    assert ask(proxy, "Host: localhost\r\n", path="http://localhost/v1/config") == 400
    assert ask(proxy, path="http://localhost/v1/config", host=None) == 400


def test_sizes_and_garbage(proxy):
    assert ask(proxy, "X-Large: " + "x" * 9000 + "\r\n") == 431
    assert ask(proxy, path="/" + "x" * 9000) == 431
    assert status_of(raw(proxy, "GET /healthz HTTP/9.9\r\nHost: localhost\r\n\r\n")) == 400
    assert status_of(raw(proxy, "\x00\x01\x02\x03 nonsense\r\n\r\n")) == 400
    assert status_of(raw(proxy, "GET /healthz HTTP/1.1\r\nHost : localhost\r\n\r\n")) == 400
    assert ask(proxy, path="/../etc/passwd") == 404
    assert ask(proxy, path="/%2e%2e/x?%zz") == 404
    assert proxy.http("GET", "/healthz")[0] == 200


def test_slow_sockets_keep_nobody_waiting(proxy):
    ask_for = "GET {} HTTP/1.1\r\nHost: localhost\r\nConnection: {}\r\n\r\n"
    slow, idle = [], []

    def is_answered_at_once():
        for path in ("/healthz", "/readyz", "/metrics"):
            began = time.monotonic()
            assert status_of(raw(proxy, ask_for.format(path, "close"))) in (200, 401), path
            assert time.monotonic() - began < 5, path  # a slow one may take 15

    def connect(into, text):
        into.append(socket.create_connection((proxy.host, proxy.admin_port), timeout=25))
        into[-1].sendall(text.encode())

    try:
        for _ in range(200):
            connect(slow, "GET /hea")
        is_answered_at_once()
        # The last ones may still go on, the first ones have lost their places.
        slow[-1].sendall(b"lthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert status_of(slow[-1].recv(1000)) == 200
        with contextlib.suppress(ConnectionResetError):
            assert slow[0].recv(100) == b""
        for _ in range(200):
            connect(idle, ask_for.format("/healthz", "keep-alive"))
            assert status_of(idle[-1].recv(1000)) == 200
        is_answered_at_once()
        # A slow one is ended, 15 s after it began, whatever it sends meanwhile.
        began = time.monotonic()
        connect(slow, "GET /hea")
        time.sleep(0.5)
        slow[-1].sendall(b"l")
        assert slow[-1].recv(100) == b"" and 10 < time.monotonic() - began < 20
    finally:
        for one in slow + idle:
            one.close()


class TlsTessera(Tessera):
    """One whose admin endpoint speaks TLS."""

    context = None

    def http(self, method, path, body=None, token=ADMIN_TOKEN):
        connection = http.client.HTTPSConnection(self.host, self.admin_port, timeout=10, context=self.context)
        try:
            connection.request(method, path, headers={"Authorization": f"Bearer {token}"} if token else {})
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        finally:
            connection.close()


def test_tls(servers, database, ca, tmp_path):
    first, second = ca.issue("server"), ca.issue("renewed")
    certificate, key = tmp_path / "admin.crt", tmp_path / "admin.key"

    def install(issued):
        certificate.write_bytes(issued.certificate.read_bytes())
        key.write_bytes(issued.private_key.read_bytes())

    def served_certificate(proxy):
        with socket.create_connection((proxy.host, proxy.admin_port), timeout=5) as plain:
            with TlsTessera.context.wrap_socket(plain, server_hostname="localhost") as secure:
                return dict(part[0] for part in secure.getpeercert()["subject"])["commonName"]

    TlsTessera.context = ssl.create_default_context(cafile=str(ca.certificate))
    install(first)
    config = make_config(servers, database, certificate=str(certificate), private_key=str(key))
    with TlsTessera(config, tmp_path / "tessera", canaries=CANARIES) as proxy:
        assert proxy.http("GET", "/v1/config", token=TOKENS["viewer"])[0] == 200
        assert proxy.http("GET", "/v1/config", token=None)[0] == 401
        assert b"HTTP/1.1 200" not in raw(proxy, "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        old.check_hostname, old.verify_mode, old.maximum_version = False, ssl.CERT_NONE, ssl.TLSVersion.TLSv1_1
        with pytest.raises((ssl.SSLError, OSError)), socket.create_connection((proxy.host, proxy.admin_port), timeout=5) as plain:
            old.wrap_socket(plain)
        # Half-open handshakes harm nobody.
        held = [socket.create_connection((proxy.host, proxy.admin_port)) for _ in range(20)]
        assert proxy.http("GET", "/healthz", token=None)[0] == 200
        for one in held:
            one.close()
        assert served_certificate(proxy) == "server"
        install(second)
        assert proxy.http("POST", "/v1/config/reload")[0] == 200
        assert served_certificate(proxy) == "renewed"


# Configuration


def test_reload(servers, database, tessera):
    config = make_config(servers, database)
    proxy = tessera(config, canaries=CANARIES)
    reloads = total(metrics_of(proxy), "tessera_config_reloads_total")
    config["databases"]["shop"]["pool"]["size"] = 7
    proxy.write_config(config)
    status, text = proxy.http("POST", "/v1/config/reload", token=TOKENS["operator"])
    assert (status, json.loads(text)) == (200, {"reloaded": True, "problems": [], "warnings": []})
    assert get(proxy, "/v1/config")["databases"]["shop"]["pool"]["size"] == 7
    assert total(metrics_of(proxy), "tessera_config_reloads_total") == reloads + 1

    config["databases"]["shop"]["pool"]["size"] = -1
    config["databases"]["shop"]["default_shard"] = "s9"
    proxy.write_config(config)
    status, text = proxy.http("POST", "/v1/config/reload", token=TOKENS["operator"])
    answer = json.loads(text)
    assert status == 422 and answer["reloaded"] is False and len(answer["problems"]) == 2
    assert "tessera.yaml:" in answer["problems"][0] and "size" in text and "s9" in text
    assert get(proxy, "/v1/config")["databases"]["shop"]["pool"]["size"] == 7
    assert total(metrics_of(proxy), "tessera_config_reloads_total") == reloads + 1
    with proxy.connect("shop") as client:
        assert client.execute("select 1").fetchone() == (1,)


def test_tokens_change_with_a_reload(servers, database, tessera):
    config = make_config(servers, database)
    proxy = tessera(config)
    assert proxy.http("GET", "/v1/config", token=TOKENS["viewer"])[0] == 200
    config["admin"]["tokens"] = [{"role": "admin", "token": ADMIN_TOKEN}, {"role": "viewer", "token": "another-token"}]
    proxy.write_config(config)
    assert proxy.http("POST", "/v1/config/reload")[0] == 200
    assert proxy.http("GET", "/v1/config", token=TOKENS["viewer"])[0] == 401
    assert proxy.http("GET", "/v1/config", token="another-token")[0] == 200


def test_a_port_in_use_is_named(servers, database, tessera, tmp_path):
    first = tessera(make_config(servers, database))
    second = Tessera(make_config(servers, database, listen=f"127.0.0.1:{first.admin_port}"), tmp_path / "second")
    done = run_command("serve", "--config", second.config_file)
    assert done.returncode == 1 and str(first.admin_port) in done.stderr and "in use" in done.stderr


def test_no_secret_in_any_answer(proxy):
    with proxy.connect("shop") as client, proxy.connect("shop", user="guest", password="canary-verifier-password") as guest:
        client.execute("select * from item where id = 1")
        guest.execute("select 1")
        texts = [proxy.http(method, path, token=TOKENS["admin"])[1] for method, path, _ in routes_of(proxy)]
        with console(proxy) as connection:
            views = show(connection, "HELP")[0]["command"].removeprefix("SHOW ").split(" | ")
            texts += [json.dumps(show(connection, view)) for view in views]
    assert len(texts) > 30
    for secret in CANARIES:
        for text in texts:
            assert secret not in text
    assert "***" in "".join(texts)


# Console


def console(proxy, user="app", password="app"):
    return proxy.connect("pgbouncer", user=user, password=password, cursor_factory=psycopg.ClientCursor)


def show(connection, what):
    cursor = connection.execute(f"SHOW {what}")
    names = [column.name for column in cursor.description]
    return [dict(zip(names, row)) for row in cursor.fetchall()]


PGBOUNCER_COLUMNS = {
    "POOLS": "database user cl_active cl_waiting sv_active sv_idle sv_used sv_tested sv_login maxwait maxwait_us pool_mode",
    "STATS": "database total_xact_count total_query_count total_received total_sent total_xact_time total_query_time total_wait_time "
             "avg_xact_count avg_query_count avg_recv avg_sent avg_xact_time avg_query_time avg_wait_time",
    "STATS_TOTALS": "database xact_count query_count received sent xact_time query_time wait_time",
    "CLIENTS": "type user database state addr port connect_time request_time wait wait_us close_needed ptr link remote_pid tls application_name",
    "SERVERS": "type user database state addr port connect_time request_time wait wait_us close_needed ptr link remote_pid tls",
    "DATABASES": "name host port database force_user pool_size pool_mode max_connections current_connections paused disabled",
    "CONFIG": "key value default changeable",
    "LISTS": "list items",
    "USERS": "name pool_mode",
    "VERSION": "version",
    "STATE": "key value",
}


def test_console_views(proxy, servers):
    with proxy.connect("shop", autocommit=False, application_name="watched") as client, console(proxy) as connection:
        client.execute("select v from item where id = 1")
        for view, columns in PGBOUNCER_COLUMNS.items():
            rows = show(connection, view)
            assert rows and set(columns.split()) <= set(rows[0]), view
        watched = [row for row in show(connection, "CLIENTS") if row["application_name"] == "watched"][0]
        server = [row for row in show(connection, "SERVERS") if row["ptr"] == watched["link"]][0]
        assert server["link"] == watched["ptr"] and server["state"] == "active"
        assert (server["addr"], int(server["port"])) in [(one.host, one.port) for one in servers]
        assert int(server["remote_pid"]) == client.execute("select pg_backend_pid()").fetchone()[0]
        pool = [row for row in show(connection, "POOLS") if row["user"] == "app"][0]
        assert pool["database"] == "shop" and int(pool["sv_active"]) == 1 and pool["pool_mode"] == "transaction"
        assert [row["shard"] for row in show(connection, "TESSERA SHARDS")] == ["s0", "s1"]
        assert show(connection, "tessera.topology")[0]["rule"] == "by_id"
        assert "watched" in {row["application_name"] for row in show(connection, "TESSERA SESSIONS")}
        assert show(connection, "VERSION")[0]["version"].startswith("Tessera ")
        queries = int(show(connection, "STATS")[0]["total_query_count"])
        client.execute("select v from item where id = 1")
        assert int(show(connection, "STATS")[0]["total_query_count"]) == queries + 1


def test_show_config_tells_defaults_and_what_a_reload_changes(servers, database, tessera, ca):
    issued = ca.issue("tessera")
    tls = {"mode": "prefer", "certificate": str(issued.certificate), "private_key": str(issued.private_key)}
    config = make_config(servers, database)
    proxy = tessera({**config, "listen": {"tls": tls, "backlog": 99}})
    with console(proxy) as connection:
        told = {row["key"]: row for row in show(connection, "CONFIG")}
    assert told["listen.tls.mode"]["value"] == "prefer"
    assert (told["listen.backlog"]["value"], told["listen.backlog"]["default"]) == ("99", "4096")
    assert told["databases.shop.pool.size"]["default"] == "20" and told["drain_timeout"]["default"] == "1m" and told["listen.postgres"]["default"] == ""
    assert told["databases.shop.rules.by_id.type"]["default"] == "" and told["databases.shop.users.0.trust"]["default"] == "false"
    fixed = {key for key, row in told.items() if row["changeable"] == "no"}
    assert fixed == {"listen.postgres", "listen.backlog", "admin.listen", "workers", "io_uring"}


def test_show_config_tells_what_is_in_force_and_what_a_restart_would_change(servers, database, tessera, tmp_path):
    config = make_config(servers, database)
    proxy = tessera({**config, "listen": {"backlog": 99}})

    def told():
        with console(proxy) as connection:
            return {row["key"]: (row["value"], row["changeable"]) for row in show(connection, "CONFIG")}

    def reload(**more):
        proxy.write_config({**config, "listen": {"postgres": f"{proxy.host}:{proxy.port}", "backlog": 7}, **more})
        assert proxy.http("POST", "/v1/config/reload")[0] == 200

    assert told()["io_uring"] == ("true", "no") and "pid_file" not in told()
    reload(io_uring=False, pid_file=str(tmp_path / "other.pid"), drain_timeout="7s")
    after = told()
    assert after["listen.backlog"] == ("99", 'no; a restart makes it "7"')
    assert after["io_uring"] == ("true", 'no; a restart makes it "false"')
    assert after["pid_file"] == ("", f'no; a restart makes it "{tmp_path / "other.pid"}"')
    assert after["drain_timeout"] == ("7s", "yes") and after["workers"] == ("2", "no")
    in_force = json.loads(proxy.http("GET", "/v1/config")[1])
    assert (in_force["listen"]["backlog"], in_force["io_uring"], in_force["drain_timeout"]) == (99, True, "7s")


def test_a_pid_file_of_the_command_line_is_the_one_in_force(servers, database, tmp_path):
    given = tmp_path / "given.pid"

    class WithPidFile(Tessera):
        def command(self):
            return [*super().command(), "--pid-file", str(given)]

    with WithPidFile({**make_config(servers, database), "pid_file": str(tmp_path / "other.pid")}, tmp_path / "tessera") as proxy:
        assert json.loads(proxy.http("GET", "/v1/config")[1])["pid_file"] == str(given)
        assert json.loads(proxy.http("POST", "/v1/config/reload")[1])["warnings"] == []
        assert given.exists() and not (tmp_path / "other.pid").exists()


@pytest.mark.parametrize("wanted", (True, False))
def test_it_is_told_whether_io_uring_is_in_use(servers, database, tessera, wanted):
    proxy = tessera({**make_config(servers, database), "io_uring": wanted})
    (workers,) = re.findall(r"^tessera_io_uring_workers (\d+)$", proxy.http("GET", "/metrics")[1], re.M)
    with console(proxy) as connection:
        state = {row["key"]: row["value"] for row in show(connection, "STATE")}
    refused = "does not let us use io_uring" in proxy.log()
    in_use = wanted and not refused
    assert (int(workers), state["io_uring"]) == ((2, "yes") if in_use else (0, "no"))
    assert ("io_uring is in use" in proxy.log()) == in_use


def test_viewers_may_only_look(proxy):
    with console(proxy, "guest", "canary-verifier-password") as connection:
        assert show(connection, "POOLS") is not None
        for command in ("PAUSE", "RESUME", "RECONNECT", "RELOAD", "SHUTDOWN"):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute(command)
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        console(proxy, "guest", "wrong")


def test_users_that_are_not_listed_stay_outside(servers, database, tessera):
    proxy = tessera(make_config(servers, database, console_viewers=[]))
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        console(proxy, "guest", "canary-verifier-password")


def test_console_mistakes(proxy):
    with console(proxy) as connection:
        for command in ("SELECT 1", "SHOW NOTHING", "PAUSE a b", 'PAUSE "x'):
            with pytest.raises(psycopg.errors.SyntaxError):
                connection.execute(command)
        with pytest.raises(psycopg.errors.InvalidCatalogName):
            connection.execute("PAUSE nowhere")
        with pytest.raises(psycopg.errors.FeatureNotSupported, match="SIGTERM"):
            connection.execute("SHUTDOWN")
        assert show(connection, "STATE")[0] == {"key": "active", "value": "yes"}


def test_console_messages_may_come_together(proxy):
    with wire.connect(proxy.host, proxy.port, "app", "pgbouncer", "app") as connection:
        connection.send(wire.query("SHOW VERSION") + wire.query("SHOW POOLS;") + wire.query("") + wire.query("SHOW STATE"))
        kinds = ["".join(reply.type for reply in connection.read_until("Z")) for _ in range(4)]
        assert kinds[0] == "TDCZ" and re.fullmatch("TD*CZ", kinds[1]) and kinds[2] == "IZ" and kinds[3] == "TDDDDDCZ"
        connection.send(wire.parse("SHOW VERSION") + wire.SYNC)
        assert [reply.type for reply in connection.read_until("Z")] == ["E", "Z"]


def test_the_console_gives_one_error_for_a_unit_of_the_extended_protocol(proxy):
    with wire.connect(proxy.host, proxy.port, "app", "pgbouncer", "app") as connection:
        unit = wire.parse("SHOW VERSION") + wire.bind([]) + wire.execute() + wire.query("SHOW VERSION") + wire.SYNC
        connection.send(unit + unit + wire.query("SHOW VERSION"))
        assert ["".join(reply.type for reply in connection.read_until("Z")) for _ in range(3)] == ["EZ", "EZ", "TDCZ"]


def test_users_of_the_console_come_from_where_they_may(servers, database, tessera):
    config = make_config(servers, database)
    config["databases"]["shop"]["users"][0]["from"] = ["10.0.0.0/8"]
    proxy = tessera(config)
    with pytest.raises(wire.WireError) as refused:
        wire.connect(proxy.host, proxy.port, "app", "pgbouncer", "app")
    assert refused.value.fields["C"] == "28P01"
    proxy.wait_for_log("login failed.*database=pgbouncer.*may not come from this address")
    wire.connect(proxy.host, proxy.port, "guest", "pgbouncer", "canary-verifier-password").close()


def test_the_console_outlives_the_login_timeout(servers, database, tessera):
    config = make_config(servers, database)
    config["listen"] = {"login_timeout": "1s"}
    proxy = tessera(config)
    with console(proxy) as connection:
        time.sleep(1.5)
        assert show(connection, "VERSION")


def test_pause_waits_and_resume_goes_on(servers, database, tessera):
    proxy = tessera(make_config(servers, database))
    busy, other = proxy.connect("shop", autocommit=False), proxy.connect("shop")
    busy.execute("select v from item where id = 1")
    with wire.connect(proxy.host, proxy.port, "app", "pgbouncer", "app") as pausing, console(proxy) as connection:
        pausing.send(wire.query("PAUSE shop"))
        pausing.socket.settimeout(0.5)
        with pytest.raises(TimeoutError):
            pausing.read_until("Z")
        busy.execute("select v from item where id = 1")  # a transaction under way goes on
        busy.commit()
        pausing.socket.settimeout(10)
        assert [reply.type for reply in pausing.read_until("Z")] == ["C", "Z"]
        assert dict((row["key"], row["value"]) for row in show(connection, "STATE"))["paused"] == "yes"
        assert all(row["paused"] == "1" for row in show(connection, "DATABASES"))
        deadline = time.monotonic() + 5
        while show(connection, "SERVERS"):
            assert time.monotonic() < deadline, "idle connections stay open"
            time.sleep(0.05)
        with wire.connect(proxy.host, proxy.port, "app", "pgbouncer", "app") as resuming:
            with ThreadPoolExecutor() as threads:
                waiting = threads.submit(lambda: other.execute("select 42").fetchone())
                time.sleep(0.3)
                assert not waiting.done()
                assert [reply.type for reply in resuming.ask(wire.query("RESUME shop"))] == ["C", "Z"]
                assert waiting.result(5) == (42,)
    busy.close()
    other.close()


def test_reconnect_replaces_connections(proxy):
    with proxy.connect("shop") as client, console(proxy) as connection:
        client.execute("insert into item values (1, 'x') on conflict do nothing")
        before = client.execute("select pg_backend_pid() from item where id = 1").fetchone()
        assert client.execute("select pg_backend_pid() from item where id = 1").fetchone() == before
        connection.execute("RECONNECT shop")
        assert client.execute("select pg_backend_pid() from item where id = 1").fetchone() != before


def test_console_reload(servers, database, tessera):
    config = make_config(servers, database)
    proxy = tessera(config)
    with console(proxy) as connection:
        config["databases"]["shop"]["pool"]["size"] = 9
        proxy.write_config(config)
        connection.execute("RELOAD")
        assert {row["pool_size"] for row in show(connection, "DATABASES")} == {"9"}
        config["databases"]["shop"]["pool"]["size"] = -1
        proxy.write_config(config)
        with pytest.raises(psycopg.errors.ConfigFileError) as refused:
            connection.execute("RELOAD")
        assert "tessera.yaml:" in refused.value.diag.message_detail
        assert {row["pool_size"] for row in show(connection, "DATABASES")} == {"9"}
