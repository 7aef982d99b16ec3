"""SET tessera.shard begins and ends as any other setting does: what is left of it would send the next statements astray."""

import pytest
from harness import wire
from talk import ask, code, config_of, errors, log_in
from two_shards import RULES, SCHEMA


@pytest.fixture
def proxy(tessera, servers, database):
    return tessera(config_of(servers, database, hints=True, **RULES))


@pytest.fixture
def connection(proxy, database):
    with log_in(proxy, database) as connection:
        yield connection


def is_set(connection):
    """Whether an aggregate of all rows goes to the one shard that was chosen."""
    shown = ask(connection, "show tessera.shard")
    counted = ask(connection, "select count(*) from t")
    assert (shown, counted) in (([["s1"]], [["200"]]), ([[""]], [["400"]]), ([[""]], "0A000")), (shown, counted)
    return shown == [["s1"]]


SET = "set tessera.shard = 's1'"


@pytest.mark.parametrize("end", ["reset tessera.shard", "set tessera.shard to default", "reset all", "discard all"])
def test_it_lasts_until_it_is_reset(connection, end):
    assert not is_set(connection)
    ask(connection, SET)
    assert is_set(connection)
    ask(connection, end)
    assert not is_set(connection)


@pytest.mark.parametrize("first", ["", "select v from t where id = 150"])
def test_in_a_transaction_it_goes_back_with_that(connection, first):
    def begin():
        ask(connection, "begin")
        if first:
            ask(connection, first)

    begin()
    ask(connection, SET)
    assert is_set(connection)
    ask(connection, "rollback")
    assert not is_set(connection)

    begin()
    ask(connection, "savepoint a")
    ask(connection, SET)
    ask(connection, "rollback to a")
    ask(connection, "set local tessera.shard = 's1'")
    assert is_set(connection)
    ask(connection, "commit")
    assert not is_set(connection)

    begin()
    ask(connection, SET)
    ask(connection, "commit")
    assert is_set(connection)


def test_set_local_outside_of_a_transaction_does_nothing(connection):
    answers = connection.ask(wire.query("set local tessera.shard = 's1'"))
    assert [reply.type for reply in answers] == ["N", "C", "Z"] and not is_set(connection)


@pytest.mark.parametrize("sql, after", [("begin; " + SET, True), (SET + "; select 1", True), (SET + "; select 1; reset tessera.shard", False), (SET + "; select nothing", False), ("set local tessera.shard = 's1'; select 1", False)])
def test_together_with_other_statements(connection, sql, after):
    """One by one, in the transaction that such a message is."""
    connection.ask(wire.query(sql))
    assert is_set(connection) == after
    connection.ask(wire.query("rollback"))
    assert is_set(connection) == (after and not sql.startswith("begin"))


def test_where_it_would_not_count_it_is_refused(connection):
    answers = connection.ask(wire.query("select set_config('tessera.shard', 's1', false)"))
    assert code(answers) == "0A000" and "of Tessera" in errors(answers)[0]["M"]
    assert connection.status == "I" and not is_set(connection)


@pytest.mark.parametrize("parameters", [{"tessera.shard": "s1"}, {"options": "-c Tessera.Shard=s1"}])
def test_at_start_up_it_is_refused(proxy, database, parameters):
    with pytest.raises(wire.WireError) as refused:
        log_in(proxy, database, parameters=parameters)
    assert refused.value.fields["C"] == "0A000" and "tessera.shard" in refused.value.fields["M"]
