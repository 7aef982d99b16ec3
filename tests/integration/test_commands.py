"""The offline commands: check, explain, id. Text for people, JSON and exit codes for scripts."""

import json
import os
import re

import pytest
from harness import places
from harness.certificates import CertificateAuthority
from harness.tessera import run_command

CONFIG = """\
listen: {postgres: 127.0.0.1:6432}
store: {sqlite: topology.db}
databases:
  shop:
    shards: {s0: {primary: 127.0.0.1:1, replicas: [{address: 127.0.0.1:3, zone: b}]}, s1: {primary: 127.0.0.1:2}}
    rules: {by_id: {type: hash, shards: [s0, s1]}, by_bits: {type: embedded}}
    tables: {users: {rule: by_id, key: id, key_type: bigint}}
    users: [{name: app, password: app}]
  blog:
    shards: {b0: {primary: 127.0.0.1:4}}
    default_shard: b0
    users: [{name: app, password: app}]
    rules: {by_bits: {type: embedded}}
    limits: {merge_memory: 1MB}
"""
WARNINGS = [(2, 1, "store"), (5, 41, "replicas"), (14, 14, "merge_memory")]


@pytest.fixture
def config(tmp_path):
    file = tmp_path / "tessera.yaml"
    file.write_text(CONFIG)
    return file


def as_json(done):
    return json.loads(done.stdout)


# ---- check -----------------------------------------------------------------------------------------------------------


def test_the_configuration_may_be_given_in_two_ways_and_neither_is_the_required_one(config):
    help_text = run_command("check", "--help").stdout
    assert "REQUIRED" not in help_text and "[config]" in help_text, help_text
    for arguments in ([config], ["-c", config], ["--config", config], ["--json", config]):
        assert run_command("check", *arguments).returncode == 0
    for arguments in ([], [""], ["--json"]):
        done = run_command("check", *arguments)
        assert done.returncode == 2 and "the configuration file or folder is required" in done.stderr


def test_keys_without_effect_are_warnings(config):
    plain = run_command("check", config)
    assert plain.returncode == 0 and "valid, 2 databases" in plain.stdout
    assert plain.stderr.splitlines() == [f'{config}:{line}:{column}: warning: "{key}" has no effect in this version' for line, column, key in WARNINGS]
    done = run_command("check", config, "--json")
    assert done.returncode == 0
    told = as_json(done)
    assert told["valid"] and told["problems"] == []
    assert [(one["line"], one["column"]) for one in told["warnings"]] == [(line, column) for line, column, _ in WARNINGS]


def test_rules_that_cannot_work_are_found_in_every_database_in_both_forms(config):
    text = CONFIG.replace("key: id, key_type: bigint}", "key: id, key_type: bigint}, t: {rule: by_bits, key: k, key_type: text}")
    config.write_text(text.replace("merge_memory: 1MB}", "merge_memory: 1MB}\n    tables: {t: {rule: by_bits, key: k, key_type: text}}"))
    plain, told = run_command("check", config), run_command("check", config, "--json")
    assert plain.returncode == told.returncode == 1
    expected = [(6, 52), (13, 13)]
    errors = [line for line in plain.stderr.splitlines() if ": error: " in line]
    assert [line.startswith(f"{config}:{at}:{column}: error: rule \"by_bits\"") for line, (at, column) in zip(errors, expected)] == [True, True]
    told = as_json(told)
    assert not told["valid"] and [(one["line"], one["column"]) for one in told["problems"]] == expected
    assert all("by_bits" in one["message"] for one in told["problems"])


def test_what_is_wrong_with_each_table_is_told(config):
    text = CONFIG.replace("key: id, key_type: bigint}", "key: id, key_type: json}, t: {rule: by_bits, key: k, key_type: text}, u: {rule: by_bits, key: k, key_type: text}, v: {rule: by_bits, key: k, key_type: point}")
    config.write_text(text)
    errors = [line for line in run_command("check", config).stderr.splitlines() if ": error: " in line]
    assert [words in line for words, line in zip(("type json", '(table "t"', '(table "u"', "type point"), errors, strict=True)] == [True] * 4, errors


@pytest.mark.parametrize("old, new, words", [
    ("postgres: 127.0.0.1:6432", "postgres: 127.0.0.1:6432, mysql: 127.0.0.1:6033", '"mysql" is not in this version'),
    ("default_shard: b0", "engine: mysql", 'engine "mysql" is not in this version'),
    ("key_type: bigint", "key_type: bigint, unique: [email]", '"unique" is not in this version'),
    ("default_shard: b0\n    users: [{name: app, password: app}]", "backend: {user: shared}\n    users: [{name: a, trust: true, backend_user: b}]", '"backend_user" has no effect where all clients share'),
])
def test_what_this_version_cannot_honour_is_a_mistake_for_check_and_serve_alike(config, old, new, words):
    config.write_text(CONFIG.replace(old, new))
    check, serve = run_command("check", config), run_command("serve", "--config", config)
    assert check.returncode == serve.returncode == 1
    assert words in check.stderr and words in serve.stderr
    assert [line for line in check.stderr.splitlines() if ": error: " in line] == [line for line in serve.stderr.splitlines() if ": error: " in line]


def test_a_database_that_nobody_can_log_in_to(config):
    for way_in, warned in [("users: [{name: app, password: app}]", False), ("users: []", True), ("backend: {unknown_users: passthrough}", False), ("auth_query: {user: a}", False),
                           ("users: [{name: app}]", False), ("backend: {user: x}\n    users: [{name: app}]", True), ("users: [{name: app, trust: true}]", False)]:
        config.write_text(CONFIG.replace("users: [{name: app, password: app}]\n  blog", f"{way_in}\n  blog"))
        done = run_command("check", config)
        assert done.returncode == 0, done.stderr
        assert (f'{config}:4:3: warning: nobody can log in to the database "shop"' in done.stderr) == warned, (way_in, done.stderr)


def test_a_key_of_another_certificate(config, tmp_path):
    ca = CertificateAuthority(tmp_path / "tls")
    one, other = ca.issue("one"), ca.issue("other")
    files = f"certificate: {one.certificate}, private_key: {{}}"
    for where, text in [("listen.tls", CONFIG.replace("6432}", "6432, tls: {mode: prefer, %s}}" % files)), ("admin", CONFIG.replace("store:", "admin: {listen: 127.0.0.1:7432, %s}\nstore:" % files)),
                        ("databases.shop.backend", CONFIG.replace("  shop:", "  shop:\n    backend: {client_certificate: %s, client_key: {}}" % one.certificate))]:
        for key, code in ((one.private_key, 0), (other.private_key, 1)):
            config.write_text(text.replace("{}", str(key)))
            done = run_command("check", config)
            assert done.returncode == code, (where, done.stderr)
        assert f"{config}: error: {where}: " in done.stderr and "private key" in done.stderr


@pytest.mark.parametrize("mode, code", [("verify-full", 1), ("require", 0)])
def test_a_file_of_authorities_that_holds_none(config, mode, code):
    nothing = config.with_name("empty.pem")
    nothing.write_text("-----BEGIN CERTIFICATE-----\nbm90aGluZyBvZiB1c2U=\n-----END CERTIFICATE-----\n")
    config.write_text(CONFIG.replace("  shop:", "  shop:\n    backend: {tls: %s, ca: %s}" % (mode, nothing)))
    done = run_command("check", config)
    assert done.returncode == code, done.stderr
    assert code == 0 or ("databases.shop.backend: " in done.stderr and str(nothing) in done.stderr)


def test_one_address_for_two(config):
    config.write_text(CONFIG.replace("store:", "admin: {listen: 127.0.0.1:6432}\nstore:"))
    done = run_command("check", config)
    assert done.returncode == 1 and f"{config}:2:17: error: the admin endpoint and PostgreSQL clients cannot listen on the same address" in done.stderr


def test_the_level_of_the_log_under_its_other_name(config):
    config.write_text(CONFIG.replace("store:", "log: {level: warning}\nstore:"))
    assert 'did you mean "warn"?' in run_command("check", config).stderr


# ---- what the documents show ------------------------------------------------------------------------------------------


def example(document):
    """The first YAML in a document."""
    return re.search(r"```yaml\n(.*?)```", (places.ROOT / document).read_text(), re.S)[1]


@pytest.mark.parametrize("document", ["README.md", "docs/configuration.md"])
def test_the_first_example_is_valid_and_lets_somebody_in(config, document):
    config.write_text(example(document))
    done = run_command("check", config, env={**os.environ, "APP_PASSWORD": "secret"})
    assert done.returncode == 0 and done.stderr == "", done.stderr


def test_the_plan_that_the_readme_asks_for(config):
    config.write_text(example("README.md"))
    sql = re.search(r'tessera explain -c tessera.yaml "(.*)"', (places.ROOT / "README.md").read_text())[1]
    done = run_command("explain", "-c", config, sql, env={**os.environ, "APP_PASSWORD": "secret"})
    assert done.returncode == 0 and done.stdout.startswith("route to s"), done.stdout + done.stderr


# ---- the command line ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("words, said", [
    (("bogus",), ['there is no command "bogus"', "serve, check, explain"]), (("chek", "x"), ['did you mean "check"?']), (("serve", "--confg", "x"), ['unknown option "--confg"', 'did you mean "--config"?']),
    (("serve", "-c", "x", "--bogus=y"), ['unknown option "--bogus"', "--pid-file"]), (("--bogus",), ['unknown option "--bogus"']), (("serve",), ["--config is required"]),
])
def test_words_that_mean_nothing(words, said):
    done = run_command(*words)
    assert done.returncode == 2 and done.stdout == "" and all(text in done.stderr for text in said), done.stderr


def test_help_and_the_other_way_to_name_the_configuration(config):
    done = run_command("help")
    assert done.returncode == 0 and all(command in done.stdout for command in ("serve", "check", "explain", "schema")) and done.stdout == run_command("--help").stdout
    for words in (("--config", config), ("-c", config), (config,)):
        assert run_command("check", *words).returncode == 0
    assert run_command("schema").stdout.endswith("}\n") and not run_command("schema").stdout.endswith("\n\n")


# ---- explain ---------------------------------------------------------------------------------------------------------


def explain(config, sql):
    done = run_command("explain", "--config", config, "--database", "shop", "--json", sql)
    plain = run_command("explain", "--config", config, "--database", "shop", sql)
    assert plain.returncode == done.returncode and plain.stdout
    return done.returncode, as_json(done)


def test_a_plan_as_json(config):
    code, told = explain(config, "select name from users where id = 5")
    assert code == 0 and told["database"] == "shop" and told["error"] is None
    statement, = told["statements"]
    assert statement["command"] == "SELECT" and statement["outcome"] == "route" and statement["shards"] in (["s0"], ["s1"])
    assert statement["refusal"] is None and statement["read_only"] is True
    assert statement["tables"] == [{"tables": ["users"], "rule": "by_id", "shard": None, "by_key": True}]


def test_a_plan_of_all_shards(config):
    code, told = explain(config, "select * from users")
    assert code == 0 and told["statements"][0]["outcome"] == "scatter" and told["statements"][0]["shards"] == ["s0", "s1"]


def test_a_plan_that_depends_on_a_parameter(config):
    code, told = explain(config, "select * from users where id = $1")
    assert code == 0 and told["statements"][0]["outcome"] == "depends on parameters" and told["statements"][0]["shards"] == []
    assert told["statements"][0]["tables"][0]["by_key"] is True


def test_a_dollar_in_a_literal_is_no_parameter(config):
    code, told = explain(config, "select * from users where id = 5 and name = '$1'")
    assert code == 0 and told["statements"][0]["outcome"] == "route"


def test_a_refused_statement_ends_with_1(config):
    code, told = explain(config, "select distinct pg_typeof(id) from users")
    assert code == 1
    refusal = told["statements"][0]["refusal"]
    assert told["statements"][0]["outcome"] == "refused"
    assert refusal["sqlstate"] == "0A000" and "several shards" in refusal["message"] and refusal["hint"] and refusal["position"] == 17


def test_one_refused_statement_of_several_ends_with_1(config):
    code, told = explain(config, "select 1; select * from nowhere")
    assert code == 1 and [one["outcome"] for one in told["statements"]] == ["any", "refused"]


def test_a_statement_that_is_none_ends_with_1(config):
    code, told = explain(config, "selct 1")
    assert code == 1 and told["statements"] == []
    assert told["error"]["sqlstate"] == "42601" and told["error"]["position"] == 1


# ---- id --------------------------------------------------------------------------------------------------------------


def test_an_id_is_taken_apart():
    done = run_command("id", "1234567890123456789")
    assert done.returncode == 0
    assert done.stdout.split() == ["time", "2024-08-30T09:06:01.083Z", "shard", "6752", "sequence", "277"]
    told = as_json(run_command("id", "--json", "1234567890123456789"))
    assert told == {"id": 1234567890123456789, "time": "2024-08-30T09:06:01.083Z", "time_ms": 1725008761083, "shard": 6752, "sequence": 277}
    rebuilt = (told["time_ms"] - 1577836800000) << 23 | told["shard"] << 10 | told["sequence"]
    assert rebuilt == told["id"]


def test_ids_of_another_epoch_and_negative_ones():
    assert as_json(run_command("id", "--json", "--epoch", "1970-01-01", "0"))["time"] == "1970-01-01T00:00:00.000Z"
    assert as_json(run_command("id", "--json", "--", "-1"))["shard"] == 8191


@pytest.mark.parametrize("words", [("id", "12x"), ("id", ""), ("id", "9223372036854775808"), ("id", "--epoch", "yesterday", "1")])
def test_what_is_no_id(words):
    done = run_command(*words)
    assert done.returncode == 1 and done.stdout == "" and "is not an" in done.stderr and "hint: " in done.stderr


def test_an_id_is_needed():
    assert run_command("id").returncode == 2
