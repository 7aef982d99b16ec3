"""Bad input to the configuration: each mistake has a clear message with its place, from `check` and from `serve` alike."""

import re
import socket
import time

import pytest
from harness import places, wire
from harness.tessera import run_command
from talk import config_of, log_in

GOOD = """\
listen:
  postgres: 127.0.0.1:{port}
databases:
  shop:
    shards:
      s0: {{primary: 127.0.0.1:1}}
      s1: {{primary: 127.0.0.1:2}}
    default_shard: s0
    rules:
      by_id: {{type: hash, buckets: 8, shards: [s0, s1]}}
      by_day: {{type: range, ranges: [{{below: "2024-01-01", shard: s0}}, {{shard: s1}}]}}
    tables:
      users: {{rule: by_id, key: id}}
    users:
      - {{name: app, password: secret-canary}}
"""

# What is changed in the good file, and what the message must say: a place, the problem, a way out.
MISTAKES = {
    "unknown key": ("default_shard: s0", "defualt_shard: s0", r':8:5: error: unknown key "defualt_shard".*\n.*did you mean "default_shard"'),
    "unknown key at the top": ("databases:", "databsaes:", r':3:1: error: unknown key "databsaes".*\n.*did you mean "databases"'),
    "unknown key of a rule": ("buckets: 8", "bukkets: 8", r':10:\d+: error: unknown key "bukkets".*\n.*did you mean "buckets"'),
    "unknown shard in a rule": ("shards: [s0, s1]}", "shards: [s0, s7]}", r':10:\d+: error: there is no shard "s7".*\n.*allowed: s0, s1'),
    "unknown default shard": ("default_shard: s0", "default_shard: s9", r':8:\d+: error: there is no shard "s9"'),
    "unknown rule of a table": ("rule: by_id", "rule: by_di", r':13:\d+: error: there is no rule "by_di".*\n.*did you mean "by_id"'),
    "overlapping ranges": ('[{below: "2024-01-01", shard: s0}, {shard: s1}]', '[{below: "2024-02-01", shard: s0}, {below: "2024-01-01", shard: s1}]', r':11:\d+: error: ranges overlap: "2024-01-01" comes after "2024-02-01"'),
    "equal ranges": ('[{below: "2024-01-01", shard: s0}, {shard: s1}]', '[{below: "5", shard: s0}, {below: "5", shard: s1}]', r':11:\d+: error: two ranges end at "5"'),
    "open range in the middle": ('[{below: "2024-01-01", shard: s0}, {shard: s1}]', "[{shard: s0}, {shard: s1}]", r':11:\d+: error: a range without "below"'),
    "duplicate bucket": ("buckets: 8", "buckets: 8, moved: {3: s1, 2-4: s0}", r":10:\d+: error: .*bucket"),
    "bucket out of range": ("buckets: 8", "buckets: 8, moved: {8: s1}", r":10:\d+: error: .*bucket"),
    "no key": ("rule: by_id, key: id", "rule: by_id", r':13:\d+: error: .*key'),
    "no shards": ("rules:", "x_rules:", r'unknown key "x_rules"'),
    "missing primary": ("s1: {primary: 127.0.0.1:2}", "s1: {}", r':7:\d+: error: "primary" is missing'),
    "missing listen": ("listen:\n  postgres: 127.0.0.1:{port}\n", "", r'error: .*(nothing to listen on|"listen" is missing)'),
    "no port": ("primary: 127.0.0.1:2", "primary: 127.0.0.1", r":7:\d+: error: "),
    "port too large": ("primary: 127.0.0.1:2", "primary: 127.0.0.1:70000", r":7:\d+: error: "),
    "user without a name": ("name: app, ", "", r':15:\d+: error: "name" is missing'),
    "user twice": ("- {name: app, password: secret-canary}", "- {name: app, password: secret-canary}\n      - {name: app, trust: true}", r':16:\d+: error: user "app" is listed twice'),
    "two proofs": ("password: secret-canary", "password: secret-canary, trust: true", r":15:\d+: error: .*password and trust"),
    "bad verifier": ("password: secret-canary", "scram: secret-canary", r":15:\d+: error: .*not such a verifier"),
    "bad network": ("password: secret-canary", "password: secret-canary, from: [10.0.0.0/33]", r":15:\d+: error: "),
    "bad duration": ("default_shard: s0", "default_shard: s0\n    pool: {checkout_timeout: 5 parsecs}", r":9:\d+: error: "),
    "bad size": ("default_shard: s0", "default_shard: s0\n    pool: {size: 0}", r":9:\d+: error: "),
    "size as text": ("default_shard: s0", "default_shard: s0\n    pool: {size: many}", r":9:\d+: error: "),
    "message size too large": ("default_shard: s0", "default_shard: s0\n    limits: {message_size: 4GB}", r":9:\d+: error: "),
    "unknown mode": ("default_shard: s0", "default_shard: s0\n    pool: {mode: transation}", r':9:\d+: error: .*\n.*did you mean "transaction"'),
    "secret that is not there": ("password: secret-canary", 'password: "${env:TESSERA_TEST_NO_SUCH}"', r":15:\d+: error: .*TESSERA_TEST_NO_SUCH"),
    "file that is not there": ("password: secret-canary", 'password: "${file:/no/such/file}"', r":15:\d+: error: .*/no/such/file"),
    "certificate that is not there": ("databases:", "  tls: {mode: require, certificate: nowhere.crt, private_key: nowhere.key}\ndatabases:", r":3:\d+: error: .*nowhere\.crt"),
    "tls without a certificate": ("databases:", "  tls: {mode: require}\ndatabases:", r':3:\d+: error: .*certificate'),
    "the console's name": ("  shop:", "  pgbouncer:", r':4:\d+: error: a database cannot be called "pgbouncer" here\n.*administration console.*another name.*dbname: pgbouncer'),
    "not yaml": ("databases:", "databases: [", r":\d+:\d+: error: "),
    "tab": ("  shop:", "\tshop:", r":4:\d+: error: "),
    "key twice": ("default_shard: s0", "default_shard: s0\n    default_shard: s1", r":9:5: error: .*default_shard"),
    "auth_query without $1": ("default_shard: s0", "default_shard: s0\n    auth_query: {user: u, query: select 1}", r":9:\d+: error: .*\$1"),
}


@pytest.fixture
def good(tmp_path):
    text = GOOD.format(port=places.free_port())
    file = tmp_path / "tessera.yaml"
    file.write_text(text)
    return file, text


def test_the_good_file_is_good(good):
    file, _ = good
    done = run_command("check", file)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("case", MISTAKES)
def test_a_mistake_is_told_with_its_place(good, case):
    file, text = good
    old, new, expected = MISTAKES[case]
    old = old.replace("{port}", re.search(r"127.0.0.1:(\d{4,})", text)[1])
    assert text.count(old) >= 1
    file.write_text(text.replace(old, new, 1))
    check = run_command("check", file)
    words = check.stdout + check.stderr
    assert check.returncode == 1, words
    assert re.search(re.escape(str(file)) + r":\d+:\d+: error: ", words), words
    assert re.search(expected, words), words
    assert "secret-canary" not in words
    serve = run_command("serve", "--config", file)
    assert serve.returncode == 1 and re.search(expected, serve.stdout + serve.stderr), serve.stdout + serve.stderr
    assert "secret-canary" not in serve.stdout + serve.stderr


def test_all_mistakes_are_told_at_once(good):
    file, text = good
    file.write_text(text.replace("default_shard: s0", "default_shard: s9").replace("rule: by_id", "rule: by_di").replace("primary: 127.0.0.1:2", "primary: nonsense").replace("buckets: 8", "bukkets: 8"))
    words = run_command("check", file)
    found = (words.stdout + words.stderr).count("error: ")
    assert found >= 4, words.stdout + words.stderr


def test_a_file_that_is_not_there(tmp_path):
    for command in (("check", tmp_path / "none.yaml"), ("serve", "--config", tmp_path / "none.yaml")):
        done = run_command(*command)
        assert done.returncode == 1 and "none.yaml" in done.stdout + done.stderr


def test_wrong_use_of_the_command_line():
    for words in ((), ("servce",), ("serve",), ("serve", "--confg", "x"), ("check",)):
        done = run_command(*words)
        assert done.returncode != 0 and len(done.stdout + done.stderr) > 20


@pytest.mark.parametrize("which", ["postgres", "admin"])
def test_a_port_in_use(good, which):
    file, text = good
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        if which == "postgres":
            file.write_text(re.sub(r"postgres: 127.0.0.1:\d+", f"postgres: 127.0.0.1:{port}", text))
        else:
            file.write_text(text.replace("databases:", f"admin: {{listen: 127.0.0.1:{port}}}\ndatabases:", 1))
        assert run_command("check", file).returncode == 0, "the file itself is right"
        started = time.monotonic()
        done = run_command("serve", "--config", file)
        words = done.stdout + done.stderr
        assert done.returncode == 1 and f"127.0.0.1:{port}" in words and "in use" in words, words
        assert time.monotonic() - started < 5


def test_a_host_name_that_does_not_exist(good):
    file, text = good
    file.write_text(text.replace("primary: 127.0.0.1:2", "primary: no-such-host.invalid:2"))
    done = run_command("serve", "--config", file)
    assert done.returncode == 1 and "no-such-host.invalid" in done.stderr + done.stdout and 's1' in done.stderr + done.stdout


@pytest.mark.parametrize("case", ["wrong password", "no such database", "no such role", "nobody listens"])
def test_a_server_that_cannot_be_used_is_told_to_the_client_and_the_log(tessera, shards, new_database, case):
    """The file is right, the world is not: Tessera serves, and says what is wrong where it is noticed."""
    server = shards(1)[0]
    name = new_database([server])
    config = config_of([server], name, backend={"user": "app", "password": "app"}, pool={"checkout_timeout": "1s"})
    backend = config["databases"][name]["backend"]
    expected = {"wrong password": ("28P01", "password authentication failed"), "no such database": ("3D000", "does not exist"), "no such role": ("28P01", "password authentication failed"),
                "nobody listens": ("08006", "s0")}[case]
    if case == "wrong password":
        backend["password"] = "Canary-wrong"
    elif case == "no such database":
        backend["dbname"] = "nowhere"
    elif case == "no such role":
        backend["user"] = "nobody_at_all"
    else:
        config["databases"][name]["shards"]["s0"]["primary"] = f"127.0.0.1:{places.free_port()}"
    proxy = tessera(config, canaries=["Canary-wrong"])
    with pytest.raises(wire.WireError) as refused:
        log_in(proxy, name)
    fields = refused.value.fields
    assert fields["C"] == expected[0] and expected[1] in fields["M"] and "s0" in fields["M"], fields
    if case == "nobody listens":
        assert "refused" in fields["D"]
    proxy.wait_for_log("cannot connect to a shard.*shard=s0")


def test_rules_that_do_not_fit_the_tables(tessera, shards, new_database):
    server = shards(1)[0]
    name = new_database([server], "create table users (number int primary key)")
    proxy = tessera(config_of([server], name, rules={"by_id": {"type": "hash", "shards": ["s0"]}}, tables={"users": {"rule": "by_id", "key": "id"}}), ready=503)
    with pytest.raises(wire.WireError) as refused:
        log_in(proxy, name)
    assert '"id"' in refused.value.fields["M"] or '"id"' in refused.value.fields.get("D", ""), refused.value.fields
    assert str(proxy.config_file) not in str(refused.value.fields)  # the place is for the log
    proxy.wait_for_log(f"rules do not fit.*{proxy.config_file}")
