"""Generations: which keys are asked again, by every row of the tables, and what trees add up to."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from packtrain._model import Cause, Shard, ShardRow, Tally
from packtrain._rules.generations import Tree, absence, asks_again, covered, latest, reopened, total


def row(
    generation: int = 0,
    *,
    job: str | None = "batches/b",
    result: str | None = None,
    reason: str = "",
    tally: Tally | None = None,
) -> ShardRow:
    return ShardRow(
        run="r",
        shard=3,
        generation=generation,
        parent=generation - 1 if generation else None,
        cause="retry" if generation else None,
        depth=generation,
        job=job,
        result=result,
        reason=reason or None,
        tally=tally,
    )


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
    assert asks_again(last, [parent] if parent else [], retries) == again


def test_what_a_cancelled_job_left_is_asked_again_by_a_person_alone() -> None:
    """Its results have a reason beside them, which its other lines fail with (A5)."""
    left = row(result="files/r", reason="batches/b was cancelled")
    assert absence(left) == ("batches/b was cancelled", True)
    assert not asks_again(left, [], 2)
    assert asks_again(row(result="files/r"), [], 2)


def generation(
    number: int, parent: int | None = None, *, shard: int = 0, tally: Tally | None = None, cause: Cause | None = None
) -> ShardRow:
    cause = cause or (None if parent is None else "retry")
    return ShardRow(run="r", shard=shard, generation=number, parent=parent, cause=cause, tally=tally)


#: Generation 0 went on as 1, which was split in three; the second of them went on as 5.
SPLIT = [
    generation(0, tally=Tally(answered=4, failed=6, missing=2, again=6, bytes=40)),
    generation(1, 0, tally=Tally(answered=4, failed=6, missing=6, again=6, bytes=40)),
    generation(2, 1, cause="capacity", tally=Tally(answered=2, bytes=20)),
    generation(3, 1, cause="capacity", tally=Tally(answered=1, failed=1, missing=1, again=1, bytes=10)),
    generation(4, 1, cause="capacity"),
    generation(5, 3, tally=Tally(answered=2, unknown=3, bytes=21)),
]
LINES = {(0, 0): 10, (0, 1): 6, (0, 2): 2, (0, 3): 2, (0, 4): 2, (0, 5): 1}


def numbers(rows: list[ShardRow]) -> list[tuple[int, int]]:
    return [(row.shard, row.generation) for row in rows]


def test_an_only_child_takes_the_place_of_its_parent_and_siblings_do_not() -> None:
    """What became of a shard is where the chains end, and with a parent of several; in input order."""
    chain = [generation(0), generation(1, 0), generation(2, 1)]
    others = [generation(0, shard=2), generation(0, shard=1)]
    assert numbers(latest([*others, *reversed(chain)])) == [(0, 2), (1, 0), (2, 0)]
    assert numbers(latest(SPLIT)) == [(0, 1), (0, 2), (0, 5), (0, 4)]
    tree = Tree(SPLIT)
    assert numbers(tree.leaves()) == [(0, 2), (0, 4), (0, 5)]
    assert [row.generation for row in tree.above(SPLIT[5])] == [3, 1, 0]
    assert [tree.continued(row) for row in SPLIT] == [None, SPLIT[0], None, None, None, SPLIT[3]]
    assert (tree.next_generation(0), tree.next_generation(7)) == (6, 0)


def test_a_tally_is_the_sum_over_the_leaves_and_what_parents_answered() -> None:
    """Lines of a child without a tally are failed lines that are asked again; no line counts twice."""
    assert total([], {}) == Tally()
    assert total(SPLIT[:1], LINES) == SPLIT[0].tally
    assert total(SPLIT[:2], LINES) == SPLIT[1].tally
    # Of the split one: nothing has landed; then part by part.
    assert total([*SPLIT[:2], *(replace(row, tally=None) for row in SPLIT[2:])], LINES) == Tally(
        answered=4, failed=6, again=6, bytes=40
    )
    assert total(SPLIT, LINES) == Tally(answered=8, failed=2, again=2, unknown=3, bytes=81)
    assert total([*SPLIT[:4], replace(SPLIT[4], tally=Tally(answered=2, bytes=22)), SPLIT[5]], LINES) == Tally(
        answered=10, unknown=3, bytes=103
    )


def test_siblings_are_held_to_their_own_lines_and_an_only_child_to_those_of_its_parent() -> None:
    """What answers and failures of a generation add up to."""
    shards = [
        Shard(
            run="r", index=0, generation=row.generation, parent=row.parent, bytes=1, sha256="", first=0, last=0,
            lines=LINES[0, row.generation],
        )
        for row in SPLIT
    ]  # fmt: skip
    assert covered(shards) == {(0, 0): 10, (0, 1): 10, (0, 2): 2, (0, 3): 2, (0, 4): 2, (0, 5): 2}


@pytest.mark.parametrize(
    ("causes", "again"), [("retry retry", False), ("retry capacity", True), ("bisect expiry", True)]
)
def test_only_retries_count_against_the_retries(causes: str, again: bool) -> None:
    """A shard that was cut smaller has not been asked more often."""
    first, second = causes.split()
    root = row(result="files/r", tally=Tally(failed=1, again=1))
    above = replace(row(1, result="files/r", tally=Tally(failed=1, again=1)), cause=first)
    last = replace(row(2, result="files/r"), cause=second)
    assert asks_again(last, [above, root], 2) == again


def test_a_generation_behind_one_that_asked_for_none_is_the_work_of_a_retry() -> None:
    """Those that a run makes by itself follow lines to be asked again."""
    by_itself = [
        generation(0, tally=Tally(failed=2, again=1)),
        generation(1, 0, tally=Tally(failed=1)),
        generation(0, shard=1, tally=Tally(failed=1)),
    ]
    assert not reopened([])
    assert not reopened(by_itself)
    assert not reopened(SPLIT)
    assert reopened([*by_itself, generation(1, 0, shard=1)])
