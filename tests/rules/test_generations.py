"""Which keys are asked again: every row of the tables."""

from __future__ import annotations

import pytest

from packtrain._model import ShardRow, Tally
from packtrain._rules.generations import absence, asks_again, latest, reopened


def row(
    generation: int = 0,
    *,
    job: str | None = "batches/b",
    result: str | None = None,
    reason: str = "",
    tally: Tally | None = None,
) -> ShardRow:
    return ShardRow(run="r", shard=3, generation=generation, job=job, result=result, reason=reason or None, tally=tally)


def test_a_missing_row_and_a_job_without_results_may_be_asked_again_and_a_refused_create_not() -> None:
    """What the service never took, it takes no better the next time."""
    assert absence(row(result="files/r")) == ("the service returned no row for this key", True)
    assert absence(row(reason="the job expired")) == ("the job expired", True)
    assert absence(row()) == ("the job left no results", True)
    assert absence(row(job=None, reason="a bad line")) == ("a bad line", False)


AGAIN = {
    "answered in part": (row(result="files/r"), None, 1, True),
    "no retries left": (row(result="files/r"), None, 0, False),
    "the last generation": (row(2, result="files/r"), row(1, result="files/q"), 2, False),
    "35 ended without results": (row(reason="expired"), None, 1, True),
    "35 twice, for the same reason": (row(1, reason="expired"), row(reason="expired"), 9, False),
    "35 twice, for different reasons": (row(1, reason="expired"), row(reason="failed"), 9, True),
    "35 after an answer": (row(1, reason="expired"), row(result="files/q", reason="expired"), 9, True),
    "answered after 35": (row(1, result="files/r"), row(), 9, True),
    "asked for by a person": (row(1, result="files/r"), row(result="files/q", tally=Tally(failed=1)), 9, False),
    "asked for by itself": (row(1, result="files/r"), row(result="files/q", tally=Tally(failed=1, again=1)), 9, True),
    "create refused": (row(job=None, reason="bad"), None, 9, False),
}


@pytest.mark.parametrize(("last", "parent", "retries", "again"), AGAIN.values(), ids=AGAIN)
def test_a_lineage_goes_on_within_its_bound_and_not_in_a_circle(
    last: ShardRow, parent: ShardRow | None, retries: int, again: bool
) -> None:
    """The same end twice would be the same a third time."""
    assert asks_again(last, parent, retries) == again


def test_the_last_generation_speaks_for_its_shard() -> None:
    """In the order of the shards, however they are given."""
    rows = [
        ShardRow(run="r", shard=1),
        ShardRow(run="r", shard=0, generation=2),
        ShardRow(run="r", shard=0),
        ShardRow(run="r", shard=2),
    ]
    assert [(row.shard, row.generation) for row in latest(rows)] == [(0, 2), (1, 0), (2, 0)]


def test_a_generation_behind_one_that_asked_for_none_is_the_work_of_a_retry() -> None:
    """Those that a run makes by itself follow lines to be asked again."""

    def row(shard: int, generation: int, tally: Tally | None) -> ShardRow:
        return ShardRow(run="r", shard=shard, generation=generation, tally=tally)

    by_itself = [row(0, 0, Tally(failed=2, again=1)), row(0, 1, Tally(failed=1)), row(1, 0, Tally(failed=1))]
    assert not reopened([])
    assert not reopened(by_itself)
    assert reopened([*by_itself, row(1, 1, None)])
