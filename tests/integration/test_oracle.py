"""Random schemas, rows, queries and writes (tests/oracle): what one plain server answers, or a refusal; and the same rows in the end.

TESSERA_SEED is the number of the first world, of which there are four, with 1, 2, 4 and 7 shards; TESSERA_QUERIES=20000 for a longer run. `./dev chaos --only oracle` has many more worlds.
"""

import os
import struct

import pytest
from oracle import compare, run
from oracle.expressions import Statement

QUERIES = int(os.environ.get("TESSERA_QUERIES", "600"))
SEED = int(os.environ.get("TESSERA_SEED", "4"))


def test_worlds(shards, tmp_path):
    tally, differences = run.worlds(SEED, len(run.SHARDS), QUERIES // len(run.SHARDS), shards(2), tmp_path)
    print(tally)
    assert not differences
    assert tally.of("select", "equal") > QUERIES * 0.8 and tally.of("write", "equal") > QUERIES * 0.2, tally
    assert tally.share("select") < 0.02, tally


def row(*values):
    return struct.pack(">H", len(values)) + b"".join(struct.pack(">i", len(value)) + value for value in values)


ROWS = [row(b"1", b"1.0"), row(b"2", b"1.00"), row(b"2", b"x")]
ANSWER = compare.Answer((("a", True, 23, 4, -1, 0), ("b", False, 25, -1, -1, 0)), ROWS, b"SELECT 3\0", "", "I", "")
OTHERS = {
    "a row less": {"rows": ROWS[:2]},
    "a row twice": {"rows": [*ROWS, ROWS[0]]},
    "another value": {"rows": [*ROWS[:2], row(b"2", b"y")]},
    "a name": {"columns": (("A", *ANSWER.columns[0][1:]), ANSWER.columns[1])},
    "a type": {"columns": (ANSWER.columns[0], ("b", False, 25, -1, 7, 0))},
    "a tag": {"tag": b"SELECT 4\0"},
    "a status": {"status": "T"},
    "an error": {"code": "22012", "rows": [], "columns": (), "tag": b""},
}


@pytest.mark.parametrize("other", OTHERS.values(), ids=OTHERS)
@pytest.mark.parametrize("loose", [False, True])
def test_it_sees_what_differs(other, loose):
    statement = Statement("select", [], (), loose)
    assert compare.same(statement, ANSWER, ANSWER)
    assert not compare.same(statement, ANSWER, ANSWER._replace(**other))


def test_it_sees_the_sequence_as_far_as_it_is_determined():
    swapped, backwards = ANSWER._replace(rows=[ROWS[0], ROWS[2], ROWS[1]]), ANSWER._replace(rows=ROWS[::-1])
    found = {order: [compare.same(Statement("select", [], order), ANSWER, other) for other in (swapped, backwards)] for order in ((), (0,), (0, 1))}
    assert found == {(): [True, True], (0,): [True, False], (0, 1): [False, False]}


def test_equal_values_may_have_several_texts_where_any_could_be_given():
    one, other = ANSWER._replace(rows=[row(b"1.0", b"1 day")]), ANSWER._replace(rows=[row(b"1.000", b"24:00:00")])
    assert [compare.same(Statement("select", [], (), loose), one, other) for loose in (False, True)] == [False, True]
