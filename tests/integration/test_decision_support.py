"""A carrier's 22 questions (tests/decision_support) on four shards: the answers of one plain server, to the byte, as text and in binary."""

import pytest
from decision_support import workload
from oracle import compare

SCALE = 0.02


@pytest.fixture(scope="module")
def sides(shards, new_database, tmp_path_factory):
    four = shards(4)
    with workload.running(four, four[0], new_database, tmp_path_factory.mktemp("decision"), SCALE) as both:
        yield both


@pytest.mark.parametrize("binary", [False, True], ids=["text", "binary"])
@pytest.mark.parametrize("question", workload.questions(), ids=lambda question: question.title)
def test_the_answer_of_one_server(sides, question, binary):
    through, one = sides.answers(question.sql, binary)
    assert through == one
    assert one.rows, "the question has no answer"


def test_the_rows_went_where_they_belong(sides):
    for table, count in sides.counts.items():
        through, one = sides.answers(f"select count(*) from {table}", False)
        assert through == one and compare.fields(one.rows[0]) == [str(count).encode()]
    assert len(workload.questions()) == 22 and sides.moved() > 0
