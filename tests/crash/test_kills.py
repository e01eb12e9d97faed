"""SIGKILL at random instants, to the client, the service, or both."""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio

from tests.crash.kills import torture
from tests.crash.run import Bench
from tests.crash.service import Torment, audit
from tests.seeds import SEED, short

if TYPE_CHECKING:
    from pathlib import Path


#: The long form is scripts/torture kills.
KILLS = short(12, 40)


def test_runs_killed_at_random_and_again_while_they_recover_end_like_calm_ones(tmp_path: Path) -> None:
    """Small runs, up to four kills each: the same files, one job for each shard, a service in order."""
    figures, found = torture(tmp_path, KILLS, SEED)
    assert found == []
    assert figures["kills"] >= KILLS


def test_a_killed_run_ends_like_one_that_was_left_alone(tmp_path: Path) -> None:
    """The output is the same to the byte, and each shard had exactly one job."""
    bench = Bench(tmp_path, lines=4000, shards=8)
    calm, seconds = bench.undisturbed()
    torn, kills = bench.disturbed(8, 1, seconds / 4)
    assert torn == calm
    assert kills > 0
    tags = bench.jobs()
    assert len(tags) == bench.shards
    assert {tag.split(".")[2] for tag in tags} == {str(index) for index in range(bench.shards)}
    assert bench.audit() == []


async def test_a_killed_service_keeps_what_it_told_of(tmp_path: Path) -> None:
    """Every file and job that a client was told of is there once, and the directory is what the truth log says."""
    torment = Torment(tmp_path / "service", kills=short(3, 6), seed=SEED, longest_life=1.0)
    await torment.run()
    assert torment.told.jobs
    assert await anyio.to_thread.run_sync(audit, tmp_path / "service", torment.told) == []
