"""Digests, runs of digests, and the filter before them."""

from __future__ import annotations

import hashlib
import itertools
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from packtrain._rules.keys import FAN_IN, Filter, Span, cover, digests, mergeable, ranges


def test_a_digest_is_blake2b_of_sixteen_bytes() -> None:
    """It stands on disk, so it must not change between versions."""
    assert digests([b"a", b""]) == [hashlib.blake2b(key, digest_size=16).digest() for key in (b"a", b"")]


@pytest.mark.parametrize(
    ("spans", "shards", "chosen"),
    [
        ([], 0, []),
        ([(0, 0)], 0, []),
        ([(0, 0), (1, 1)], 2, [(0, 0), (1, 1)]),
        ([(0, 7), (0, 0), (3, 3), (8, 8)], 9, [(0, 7), (8, 8)]),
        ([(0, 0), (1, 1), (2, 2)], 2, [(0, 0), (1, 1)]),
        ([(0, 0), (2, 2)], 3, None),
        ([(0, 7)], 3, None),
        ([(1, 1)], 2, None),
    ],
)
def test_runs_must_cover_the_shards_exactly(spans: list[Span], shards: int, chosen: list[Span] | None) -> None:
    """Merged runs come before their parts, and runs of shards that were never committed do not count."""
    for order in itertools.permutations(spans):
        assert cover(order, shards) == chosen


def test_merging_keeps_runs_few_and_writes_keys_seldom() -> None:
    """A thousand shards come to few runs, each key having been written once per power of the fan-in."""
    spans: list[Span] = []
    written = [0] * 1000
    for shard in range(1000):
        while number := mergeable(spans):
            merged = (spans[-number][0], spans[-1][1])
            spans[-number:] = [merged]
            for part in range(merged[0], merged[1] + 1):
                written[part] += 1
        spans.append((shard, shard))
    assert len(spans) <= 4 * FAN_IN
    assert max(written) <= 3
    assert cover(spans, 1000) == spans


@given(st.integers(0, 10_000), st.integers(1, 500))
def test_ranges_cover_all_digests_once(total: int, most: int) -> None:
    """Each starts where the last one ends, from zero to the open end."""
    found = list(ranges(total, most))
    assert found[0][0] == bytes(16)
    assert found[-1][1] is None
    assert [high for _, high in found[:-1]] == [low for low, _ in found[1:]]
    assert len(found) == max(1, -(-total // most))


def test_a_filter_lets_all_added_pass_and_few_others() -> None:
    """Never a false no; about three false yeses in a hundred when it is full."""
    source = random.Random(7)
    filled = Filter(50_000)
    added = [source.randbytes(16) for _ in range(filled.capacity)]
    filled.add(b"".join(added))
    assert filled.passing(added) == added
    assert len(filled.passing([source.randbytes(16) for _ in range(20_000)])) < 20_000 * 0.04


def test_an_empty_filter_lets_nothing_pass() -> None:
    """Nothing was added."""
    assert Filter(10).passing(digests([b"a", b"b"])) == []
