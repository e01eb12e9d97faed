"""A lost manifest is made anew when lines had been asked again: by the run itself, or by retries."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

import packtrain
from packtrain import IncompleteRun
from packtrain.testing import armed
from tests.flow.test_generations import INTERNAL, INVALID, OPTIONS, Moody, at, jobs, published, retry, run

if TYPE_CHECKING:
    from pathlib import Path

    from tests.flow.place import Place

MOODS = {0: [INTERNAL], 5: [INTERNAL] * 3, 6: [INVALID], 17: [INVALID], 25: [INTERNAL] * 9, 39: [INTERNAL] * 9}


@pytest.fixture
def anyio_backend() -> Any:
    """One loop is enough: what is tested are decisions."""
    return "asyncio", {"use_uvloop": False}


async def recover(place: Place, token: str) -> packtrain.Recovery:
    """From nothing but the input and the service."""
    shutil.rmtree(place.state)
    for path in place.root.glob("out.jsonl*"):
        path.unlink()
    source = place.root / "in.jsonl"
    return await packtrain.recover(
        source, run=token, model="m", out=place.out, state=place.state, service=place.service, options=OPTIONS
    )


@pytest.mark.parametrize(
    ("retries", "asked", "later"),
    [
        pytest.param(2, [], 2, id="by the run"),
        pytest.param(2, [], 0, id="by the run, which would not now"),
        pytest.param(2, [False], 2, id="by a retry"),
        pytest.param(0, [True], 0, id="all of them by a retry"),
        pytest.param(2, [False, True, False], 0, id="by three retries"),
    ],
)
async def test_lines_asked_again_are_found_again(tmp_path: Path, retries: int, asked: list[bool], later: int) -> None:
    """No job is made for them, and what is published is the same to the byte, the times they were asked included."""
    async with at(tmp_path, Moody(MOODS)) as place:
        summary = await run(place, msgspec.structs.replace(OPTIONS, retries=retries))
        for everything in asked:
            summary = await retry(place, everything=everything)
        answers, made = published(place), jobs(place)
        found = await recover(place, summary.run)
        assert (found.jobs, found.with_job) == (made.total(), summary.shards)
        again = await run(place, msgspec.structs.replace(OPTIONS, retries=later))
        assert (again.answered, again.failed) == (summary.answered, summary.failed)
        assert jobs(place) == made
        assert published(place) == answers


async def test_a_retry_that_was_lost_while_it_asked_goes_on(tmp_path: Path) -> None:
    """One job was made and not recorded: that of whichever shard was uploaded first."""
    async with at(tmp_path, Moody({5: [INTERNAL], 17: [INTERNAL]})) as place:
        summary = await run(place, msgspec.structs.replace(OPTIONS, retries=0))
        before = set(jobs(place))
        with armed("manifest.JobAdopted.before=raise:EIO@1"), pytest.raises(IncompleteRun):
            await retry(place)
        made = jobs(place)
        lost = set(made) - before
        assert lost in ({"0.1"}, {"1.1"})
        await recover(place, summary.run)
        assert (await run(place, msgspec.structs.replace(OPTIONS, retries=0))).failed == 1
        assert jobs(place) == made
        assert (await retry(place)).failed == 0
        assert jobs(place) - made == dict.fromkeys({"0.1", "1.1"} - lost, 1)
