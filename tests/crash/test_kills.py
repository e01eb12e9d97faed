"""SIGKILL at random instants, to the client, the service, or both."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.crash.harness import Bench

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("seed", [1, 2])
def test_a_killed_run_ends_like_one_that_was_left_alone(tmp_path: Path, seed: int) -> None:
    """The output is the same to the byte, and each shard had exactly one job."""
    bench = Bench(tmp_path, lines=8000, shards=8)
    calm, seconds = bench.undisturbed()
    torn, kills = bench.disturbed(8, seed, seconds / 4)
    assert torn == calm
    assert kills > 0
    tags = bench.jobs()
    assert len(tags) == bench.shards
    assert {tag.split(".")[2] for tag in tags} == {str(index) for index in range(bench.shards)}
