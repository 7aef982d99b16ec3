"""What many connections send in one round of a worker: by one system call, and each by itself."""

import concurrent.futures

import psycopg
import pytest
from talk import config_of
from two_shards import RULES, SCHEMA  # noqa: F401

CLIENTS, ROUNDS = 24, 40


def work(proxy, database, number, tls):
    """Answers of every size; each says whose it is."""
    with psycopg.connect(host=proxy.host, port=proxy.port, dbname=database, user="app", password="app", autocommit=True,
                         sslmode="require" if tls else "disable") as connection:
        for i in range(ROUNDS):
            key = (number * 7 + i * 13) % 200 + 1
            assert connection.execute("select v from t where id = %s", [key]).fetchone() == (f"row {key}",)
            size = 3 ** (i % 12)
            (text,) = connection.execute(f"select repeat('{number:03}', {size}) from t where id = {key}").fetchone()
            assert text == f"{number:03}" * size
            if i % 10 == 0:
                with connection.cursor().copy(f"copy (select g, '{number}' from generate_series(1, 3000) g) to stdout") as copy:
                    rows = [row for row in copy.rows()]
                assert rows == [(str(g), str(number)) for g in range(1, 3001)]
                assert len(connection.execute("select id, v from t").fetchall()) == 400
    return True


@pytest.mark.parametrize("together", [True, False])
def test_every_client_gets_its_own_answers(tessera, servers, database, ca, together):
    tls = {"mode": "prefer", "certificate": str(ca.issue("tessera").certificate), "private_key": str(ca.issue("tessera").private_key)}
    proxy = tessera({**config_of(servers, database, pool={"size": 6}, default_shard="s0", **RULES), "listen": {"tls": tls}, "workers": 1, "io_uring": together})
    with concurrent.futures.ThreadPoolExecutor(CLIENTS) as pool:
        assert all(pool.map(lambda number: work(proxy, database, number, number % 3 == 0), range(CLIENTS)))
