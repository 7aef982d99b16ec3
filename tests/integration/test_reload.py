"""Reloading the configuration: a good one counts at once, a bad one changes nothing, and nobody at work is disturbed."""

import json
import re
import threading
import time

import pytest
from harness import wire
from harness.certificates import CertificateAuthority
from talk import backends_of, code, config_of, errors, eventually, log_in, rows, value
from two_shards import ranges

SCHEMA = "create table t (id int primary key, v text); insert into t select i, current_setting('cluster_name') from generate_series(1, 100) i"


def reload(proxy, config=None):
    """SIGHUP with this configuration; waits until it has been read. True: it counts."""
    if config is not None:
        proxy.write_config(config)
    before = len(re.findall("configuration (not )?reloaded", proxy.log()))
    proxy.reload()
    eventually(lambda: len(re.findall("configuration (not )?reloaded", proxy.log())) > before, what="a line in the log")
    return not re.findall("configuration (not )?reloaded", proxy.log())[-1]


def place_of(connection, key):
    return value(connection, f"select v from t where id = {key}").split("-")[-1]


def test_a_good_file_counts(tessera, servers, database):
    proxy = tessera(config_of(servers, database, **ranges(50)))
    with log_in(proxy, database) as connection:
        statement = wire.parse("select v from t where id = $1", "s") + wire.SYNC
        connection.ask(statement)
        run = wire.bind([b"60"], name="s") + wire.execute() + wire.SYNC
        assert (place_of(connection, 40), place_of(connection, 60)) == ("s0", "s1")
        assert reload(proxy, config_of(servers, database, **ranges(70)))
        eventually(lambda: place_of(connection, 60) == "s0")
        assert rows(connection.ask(run))[0][0].endswith("s0"), "also for what was prepared before"
        assert place_of(connection, 80) == "s1"


def test_users_and_databases_come_and_go(tessera, servers, database):
    proxy = tessera(config_of(servers, database))
    with log_in(proxy, database) as old:
        users = [{"name": "app", "password": "new-password"}, {"name": "guest_user", "password": "g"}]
        config = config_of(servers, database, users=users, backend={"user": "app", "password": "app"})
        config["databases"]["second"] = config["databases"][database]
        assert reload(proxy, config)
        assert value(old, "select 1") == "1", "who is in stays in"
        for user, password, name, works in (("app", "app", database, False), ("app", "new-password", database, True), ("guest_user", "g", database, True), ("guest_user", "g", "second", True)):
            if works:
                with log_in(proxy, name, user, password) as connection:
                    assert value(connection, "select current_user") == "app"
            else:
                with pytest.raises(wire.WireError, match="28P01"):
                    log_in(proxy, name, user, password)
        with log_in(proxy, "second", "guest_user", "g") as guest:
            assert value(guest, "select 1") == "1"
            assert reload(proxy, config_of(servers, database))
            with pytest.raises(wire.WireError, match="28P01"):
                log_in(proxy, "second", "guest_user", "g")
            # A session of a database that has gone: it goes on or is told, it does not hang.
            try:
                replies = guest.ask(wire.query("select 1"))
                assert rows(replies) == [["1"]] or code(replies)
            except (wire.WireError, ConnectionResetError):
                pass
        with log_in(proxy, database) as connection:
            assert value(connection, "select 1") == "1"


BAD = {
    "not yaml": lambda text: text[: len(text) // 2],
    "empty": lambda text: "",
    "unknown key": lambda text: text.replace('"default_shard"', '"defualt_shard"'),
    "unknown shard": lambda text: text.replace('"default_shard": "s0"', '"default_shard": "s9"'),
    "another port": lambda text: re.sub(r'"postgres": "127.0.0.1:\d+"', '"postgres": "127.0.0.1:1"', text),
    "other workers": lambda text: text.replace('"workers": 2', '"workers": 3'),
    "a key that no table has": lambda text: text.replace('"key": "id"', '"key": "nope"'),
    "a host that does not exist": None,
}


@pytest.mark.parametrize("case", [name for name, change in BAD.items() if change])
def test_a_bad_file_changes_nothing_and_says_why(tessera, servers, database, case):
    proxy = tessera(config_of(servers, database, **ranges(50), users=[{"name": "app", "password": "app"}]))
    with log_in(proxy, database) as connection:
        assert place_of(connection, 60) == "s1"
        good = proxy.config_file.read_text()
        bad = BAD[case](good.replace('"below": "50"', '"below": "70"').replace('"password": "app"', '"password": "Canary-other"'))
        assert bad != good
        proxy.config_file.write_text(bad)
        assert not reload(proxy)
        assert "not reloaded" in proxy.log() and "problem=" in proxy.log() and "Canary" not in proxy.log()
        assert (place_of(connection, 60), place_of(connection, 40)) == ("s1", "s0")
        with log_in(proxy, database) as another:
            assert place_of(another, 60) == "s1"
        proxy.config_file.write_text(good)
        assert reload(proxy)


def test_a_file_that_has_gone_changes_nothing(tessera, servers, database):
    proxy = tessera(config_of(servers, database))
    text = proxy.config_file.read_text()
    proxy.config_file.unlink()
    assert not reload(proxy)
    with log_in(proxy, database) as connection:
        assert value(connection, "select 1") == "1"
    proxy.config_file.write_text(text)
    assert reload(proxy)


def test_a_transaction_ends_on_the_configuration_it_began_with(tessera, servers, database):
    """It stays on its shard, also when its keys would now be elsewhere."""
    proxy = tessera(config_of(servers, database, **ranges(50)))
    with log_in(proxy, database) as connection:
        connection.ask(wire.query("begin"))
        assert place_of(connection, 60) == "s1"
        connection.ask(wire.query("update t set v = v where id = 60"))
        connection.ask(wire.query("savepoint a"))
        assert reload(proxy, config_of(servers, database, **ranges(70)))
        time.sleep(0.1)
        assert connection.status == "T"
        replies = connection.ask(wire.query("select 1"))
        assert code(replies) is None and connection.status == "T"
        assert connection.ask(wire.query("commit"))[0].body == b"COMMIT\0"
        assert place_of(connection, 60) == "s0"


def test_pool_settings_change(tessera, servers, database):
    proxy = tessera(config_of(servers[:1], database, pool={"size": 1, "checkout_timeout": "300ms"}))
    with log_in(proxy, database) as first, log_in(proxy, database) as second:
        first.ask(wire.query("begin; select 1"))
        assert code(second.ask(wire.query("select 1"))) == "53300"
        assert reload(proxy, config_of(servers[:1], database, pool={"size": 2, "checkout_timeout": "300ms"}))
        eventually(lambda: code(second.ask(wire.query("select 1"))) is None, timeout=3)
        assert reload(proxy, config_of(servers[:1], database, pool={"size": 1, "checkout_timeout": "300ms"}))
        first.ask(wire.query("commit"))
        first.ask(wire.query("begin; select 1"))
        eventually(lambda: code(second.ask(wire.query("select 1"))) == "53300", timeout=3, what="the smaller size counts too")
        first.ask(wire.query("commit"))


def test_reloads_do_not_queue_up_for_a_connection(tessera, servers, database):
    """Each has the catalog looked at again: one look at a time, however many are asked for meanwhile."""
    config = config_of(servers[:1], database, pool={"size": 1})
    config |= {"workers": 1, "admin": {"console_viewers": ["app"]}}
    proxy = tessera(config)
    with log_in(proxy, database) as busy, log_in(proxy, "pgbouncer") as console:
        busy.ask(wire.query("begin; select 1"))
        waiting = lambda: int(rows(console.ask(wire.query("show pools")))[0][3])
        assert waiting() == 0
        for _ in range(5):
            assert reload(proxy, config)
            eventually(lambda: waiting() >= 1)
        time.sleep(0.5)
        assert waiting() == 1
        busy.ask(wire.query("commit"))
        eventually(lambda: waiting() == 0)


def test_a_shard_moves_to_another_server(tessera, servers, database):
    """The address of a shard changes: idle connections go, transactions end where they are."""
    proxy = tessera(config_of(servers[:1], database))
    with log_in(proxy, database) as busy, log_in(proxy, database) as idle:
        busy.ask(wire.query("begin"))
        assert place_of(busy, 5) == place_of(idle, 5) == "s0"
        assert reload(proxy, config_of(servers[1:], database))
        eventually(lambda: place_of(idle, 5) == "s1")
        assert place_of(busy, 5) == "s0"
        busy.ask(wire.query("commit"))
        assert place_of(busy, 5) == "s1"
        eventually(lambda: backends_of(servers[0], database) == [])


class Worker(threading.Thread):
    """Transactions and statements one after the other; any error is a finding."""

    def __init__(self, proxy, database, number, stop):
        super().__init__(daemon=True)
        self.proxy, self.database, self.number, self.stop = proxy, database, number, stop
        self.count, self.problems = 0, []

    def run(self):
        try:
            while not self.stop.is_set():
                with log_in(self.proxy, self.database, timeout=20) as connection:
                    connection.ask(wire.parse("select id from t where id = $1", "s"), wire.SYNC)
                    for turn in range(40):
                        key = str((self.number * 40 + turn) % 100 + 1)
                        self.check(connection.ask(wire.query(f"select id from t where id = {key}")), key)
                        self.check(connection.ask(wire.bind([key.encode()], name="s"), wire.execute(), wire.SYNC), key)
                        connection.ask(wire.query("begin"))
                        self.check(connection.ask(wire.query(f"select id from t where id = {key}")), key)
                        self.check(connection.ask(wire.query(f"select id from t where id = {key} for update")), key)
                        if connection.ask(wire.query("commit"))[0].body != b"COMMIT\0":
                            self.problems.append("no COMMIT")
        except Exception as error:
            self.problems.append(repr(error))

    def check(self, replies, key):
        self.count += 1
        if rows(replies) != [[key]]:
            self.problems.append(f"{errors(replies)} {rows(replies)} for {key}")


def test_two_hundred_reloads_under_load(tessera, servers, database):
    """Good ones with other rules and pools, and bad ones in between: zero errors."""
    configs = [config_of(servers, database, **ranges(50), pool={"size": 4}), config_of(servers, database, **ranges(50), pool={"size": 6, "idle_timeout": "1s"}, limits={"clients": 500}),
               config_of(servers, database, **ranges(50), hints=True, users=[{"name": "app", "password": "app"}, {"name": "other", "password": "x"}])]
    proxy = tessera(configs[0])
    stop = threading.Event()
    workers = [Worker(proxy, database, number, stop) for number in range(6)]
    for worker in workers:
        worker.start()
    good = bad = 0
    for number in range(200):
        if number % 5 == 4:
            proxy.config_file.write_text("databases: nonsense\n")
            proxy.reload()
            bad += 1
        else:
            proxy.write_config(configs[number % len(configs)])
            proxy.reload()
            good += 1
        time.sleep(0.03)
        assert proxy.is_alive(), proxy.process.returncode
    # The signals of a moment fall into one; what counts is that the last one did its work.
    assert reload(proxy, configs[0])
    stop.set()
    for worker in workers:
        worker.join(30)
        assert not worker.is_alive()
    assert [problem for worker in workers for problem in worker.problems] == []
    assert sum(worker.count for worker in workers) > 1000
    assert proxy.log().count('msg="configuration reloaded"') > 50 and proxy.log().count("not reloaded") > 10


def test_keys_that_need_a_restart_or_have_no_effect_are_named(tessera, servers, database, tmp_path):
    proxy = tessera(config_of(servers, database))
    config = config_of(servers, database, reads={"max_lag": "1s"})
    config["pid_file"] = str(tmp_path / "tessera.pid")
    config["listen"] = {"postgres": f"127.0.0.1:{proxy.port}", "backlog": 7}
    proxy.write_config(config)
    status, text = proxy.http("POST", "/v1/config/reload")
    told = json.loads(text)
    assert status == 200 and told["reloaded"] is True
    assert told["warnings"][:2] == ["pid_file: restart to apply", "listen.backlog: restart to apply"]
    assert told["warnings"][2].endswith('warning: "reads" has no effect in this version')
    proxy.wait_for_log('warning="pid_file: restart to apply"')

    def warnings():
        return [text for text in json.loads(proxy.http("POST", "/v1/config/reload")[1])["warnings"] if text.endswith("restart to apply")]

    assert len(warnings()) == 2, "as long as the process runs with others"
    assert json.loads(proxy.http("GET", "/v1/config")[1])["listen"]["backlog"] == 4096, "the one in force"
    proxy.write_config(config_of(servers, database))
    assert warnings() == []


def test_the_plan_cache_has_its_new_size_at_once(tessera, servers, database):
    proxy = tessera({**config_of(servers, database), "workers": 1})
    cached = lambda: json.loads(proxy.http("GET", "/v1/databases")[1])["databases"][0]["plan_cache"]["entries"]
    with log_in(proxy, database) as connection:
        for i in range(20):
            value(connection, f"select 1 as c{i}")
        assert cached() >= 20
        assert reload(proxy, {**config_of(servers, database, limits={"plan_cache": 5}), "workers": 1})
        for i in range(20):
            value(connection, f"select 1 as d{i}")
        eventually(lambda: cached() <= 5, what="a smaller cache")


def test_connections_under_tls_stay_unless_the_certificates_are_new(tessera, servers, database, ca, tmp_path):
    trusted = tmp_path / "trusted.pem"
    trusted.write_bytes(ca.certificate.read_bytes())
    server = servers[0]
    config = {**config_of([server], database, backend={"tls": "verify-ca", "ca": str(trusted)}), "workers": 1}
    proxy = tessera(config)
    with log_in(proxy, database) as connection:
        value(connection, "select 1")
        before = backends_of(server, database)
        assert before and reload(proxy, config)
        value(connection, "select 1")
        assert set(before) <= set(backends_of(server, database))  # and one more, perhaps, that looks at the catalog
        another = CertificateAuthority(tmp_path / "another", "Another CA")
        trusted.write_bytes(ca.certificate.read_bytes() + another.certificate.read_bytes())
        assert reload(proxy, config)
        value(connection, "select 1")
        eventually(lambda: not set(before) & set(backends_of(server, database)), what="a connection that trusts the new file")
