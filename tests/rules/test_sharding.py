"""Where shards are cut."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from packtrain._rules.sharding import Roller


def roll(roller: Roller, sizes: list[int], blocks: list[int]) -> list[int]:
    """The number of lines of each shard, with the lines handed over in batches of the given lengths."""
    shards, filled_bytes, filled_lines = [], 0, 0
    at = 0
    for length in [*blocks, len(sizes)]:
        block = sizes[at : at + length]
        at += len(block)
        ends = list(itertools.accumulate(block))
        start = 0
        while start < len(ends):
            taken = roller.cut(filled_bytes, filled_lines, ends, start)
            filled_bytes += sum(block[start : start + taken])
            filled_lines += taken
            start += taken
            if start < len(ends):
                shards.append(filled_lines)
                filled_bytes = filled_lines = 0
    return [*shards, filled_lines]


def roll_plainly(roller: Roller, sizes: list[int]) -> list[int]:
    shards, filled_bytes, filled_lines = [], 0, 0
    for size in sizes:
        if filled_bytes + size > roller.max_bytes or filled_lines == roller.max_requests:
            shards.append(filled_lines)
            filled_bytes = filled_lines = 0
        filled_bytes += size
        filled_lines += 1
    return [*shards, filled_lines]


@given(
    st.lists(st.integers(1, 20), max_size=60),
    st.integers(20, 60),
    st.none() | st.integers(1, 7),
    st.lists(st.integers(1, 9)),
)
def test_cuts_do_not_depend_on_batches(
    sizes: list[int], max_bytes: int, max_requests: int | None, blocks: list[int]
) -> None:
    """Same lines, same limits, same shards; and they are those of the plain line-by-line rule."""
    roller = Roller(max_bytes, max_requests)
    assert roll(roller, sizes, blocks) == roll_plainly(roller, sizes)


@pytest.mark.parametrize(("last", "taken"), [(49, 2), (50, 2), (51, 1)])
def test_a_shard_takes_exactly_its_bytes(last: int, taken: int) -> None:
    """One byte more starts the next shard."""
    assert Roller(100).cut(0, 0, [50, 50 + last], 0) == taken


def test_a_full_shard_takes_nothing() -> None:
    """By bytes and by requests."""
    assert Roller(100).cut(100, 1, [1], 0) == 0
    assert Roller(100, 3).cut(10, 3, [1], 0) == 0


def test_lines_larger_than_a_shard_are_found() -> None:
    """They would fit nowhere; a line of just the size fits."""
    roller = Roller(10)
    assert roller.oversized([10, 21, 22, 33]) == [1, 3]
    assert roller.oversized([4, 10]) == []
    assert roller.oversized([]) == []
