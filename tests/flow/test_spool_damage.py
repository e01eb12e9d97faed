"""Files of a run that go missing between two starts: said at once, and healed by putting them back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

import packtrain
from packtrain import IncompleteRun, IntegrityError, Options
from packtrain.testing import armed
from tests.flow.place import read_lines
from tests.flow.test_generations import (
    INTERNAL,
    INVALID,
    LINES,
    OPTIONS,
    SHARDS,
    Moody,
    assert_answered,
    at,
    retry,
    run,
)

if TYPE_CHECKING:
    from pathlib import Path

    from tests.flow.place import Place


#: All lines in one shard, so that one step comes after the other.
ONE = Options()


@pytest.fixture
def anyio_backend() -> Any:
    """One loop is enough: what is tested are decisions."""
    return "asyncio", {"use_uvloop": False}


async def break_off(place: Place, step: str, options: Options = ONE, **how: Any) -> None:
    """Run up to this hit of a step, which fails."""
    point, hit = step.split("@")
    with armed(f"{point}.before=raise:EIO@{hit}"), pytest.raises(IncompleteRun):
        await run(place, options, **how)


async def adopt_own(place: Place, number: int) -> None:
    """What the message says: the shard's job is its own, and is fetched again."""
    async with packtrain.open_client(place.state, service=place.service, options=OPTIONS) as client:
        status = await packtrain.status(place.state)
        job = status.candidates.get(number)
        assert job
        await client.resolve(number, "adopt", job=job)


@pytest.mark.parametrize(
    ("step", "pattern"),
    [
        pytest.param("manifest.Landed@1", "shards/*/*-0.jsonl", id="a shard"),
        pytest.param("manifest.Landed@2", "shards/*/*-1.jsonl", id="lines asked again"),
        pytest.param("manifest.Landed@2", "results/*/*-0.jsonl", id="answers of before"),
        pytest.param("manifest.Landed@2", "results/*/*-0.failed", id="failures of before"),
        pytest.param("manifest.Landed@2", "results/*/*-0.requests", id="requests of before"),
    ],
)
async def test_a_shard_with_a_file_that_is_gone_before_its_join_waits_for_a_person(
    tmp_path: Path, step: str, pattern: str
) -> None:
    """By name, with what to do; put back and adopted, the run ends as ever, and no job is made again."""
    async with at(tmp_path, Moody({5: [INTERNAL], 15: [INVALID]})) as place:
        await break_off(place, step)
        (path,) = place.state.glob(pattern)
        content = path.read_bytes()
        for damage in ["gone", "cut", "bit"] if path.suffix == ".jsonl" else ["gone", "bit"]:
            changed = content[:-1] if damage == "cut" else bytes([content[0] ^ 1]) + content[1:]
            path.unlink() if damage == "gone" else path.write_bytes(changed)
            said = rf"{path.name} (is gone|has \d+ bytes|is not what it was)"
            with pytest.raises(IncompleteRun, match=said):
                await run(place, ONE)
            path.write_bytes(content)
            await adopt_own(place, 0)
        assert_answered(place, await run(place, ONE), without=[15])
        assert len(place.truth("batch_created")) == 2


async def test_a_shard_without_a_job_whose_file_is_gone_can_be_dropped_again(tmp_path: Path) -> None:
    """There is no job to adopt: the message does not name one."""
    async with at(tmp_path, Moody({})) as place:
        await break_off(place, "manifest.UploadIntended@1")
        (path,) = place.state.glob("shards/*/*-0.jsonl")
        content = path.read_bytes()
        for said in ("is gone", "its lines can't be listed as failed"):
            path.unlink()
            with pytest.raises(IncompleteRun, match=said):
                await run(place, ONE)
            path.write_bytes(content)
            async with packtrain.open_client(place.state, service=place.service, options=ONE) as client:
                await client.resolve(0, "drop")
        summary = await run(place, ONE)
        assert (summary.complete, summary.failed, summary.jobs_created) == (True, LINES, 0)


async def test_the_damage_of_one_shard_does_not_hold_up_the_others(tmp_path: Path) -> None:
    """They are answered; the run says what is left to decide."""
    async with at(tmp_path, Moody({})) as place:
        await break_off(place, "manifest.Landed@1", Options(shard_requests=LINES // SHARDS, downloads=1))
        (part,) = place.state.glob("results/*/*.part")
        (path,) = place.state.glob(f"shards/*/{part.stem}.jsonl")
        content = path.read_bytes()
        path.unlink()
        with pytest.raises(IncompleteRun) as told:
            await run(place)
        assert told.value.quarantined == 1
        assert (await packtrain.status(place.state)).statistics.tally.answered == LINES - LINES // SHARDS
        path.write_bytes(content)
        await adopt_own(place, int(part.stem.split("-")[0]))
        assert_answered(place, await run(place))


@pytest.mark.parametrize("pattern", ["results/*/*-1.jsonl", "results/*/*-1.failed"])
async def test_a_file_that_is_gone_before_the_merge_stops_the_run(tmp_path: Path, pattern: str) -> None:
    """By name, with what to do; put back, the run ends as ever. So does one byte that has changed (A4)."""
    async with at(tmp_path, Moody({5: [INTERNAL], 15: [INVALID]})) as place:
        await break_off(place, "manifest.publish@1")
        (path,) = place.state.glob(pattern)
        content = path.read_bytes()
        for damage in ["gone", "cut", "bit"] if path.suffix == ".jsonl" else ["gone", "bit"]:
            changed = content[:-1] if damage == "cut" else bytes([content[0] ^ 1]) + content[1:]
            path.unlink() if damage == "gone" else path.write_bytes(changed)
            said = rf"{path.name} (is gone|has \d+ bytes|is not what it was)"
            with pytest.raises(IntegrityError, match=said):
                await run(place, ONE)
            path.write_bytes(content)
        assert_answered(place, await run(place, ONE), without=[15])


async def test_failed_lines_that_are_gone_cannot_be_asked_again(tmp_path: Path) -> None:
    """The run stays published as it is."""
    async with at(tmp_path, Moody({5: [INTERNAL] * 3})) as place:
        await run(place)
        (path,) = [path for path in place.state.glob("results/*/*.requests") if path.stat().st_size]
        content = path.read_bytes()
        path.unlink()
        with pytest.raises(IntegrityError, match=f"{path.name} is gone"):
            await retry(place)
        path.write_bytes(content)
        assert_answered(place, await retry(place))


@pytest.mark.parametrize("step", ["results.remove@1", "part.remove@1", "manifest.Closed@1"])
async def test_a_part_that_stands_needs_no_copy_any_more(tmp_path: Path, step: str) -> None:
    """Stopped between the part and the row that closes its shard, the run goes on."""
    parts = tmp_path / "parts"
    async with at(tmp_path, Moody({})) as place:
        await break_off(place, step, OPTIONS, out=f"{parts}/")
        summary = await run(place, out=f"{parts}/")
    assert (summary.complete, summary.answered) == (True, LINES)
    assert len([row for part in parts.glob("part-*") for row in read_lines(part)]) == LINES


async def test_a_part_that_is_gone_as_well_as_its_copy_is_told(tmp_path: Path) -> None:
    """Nothing else holds these answers."""
    parts = tmp_path / "parts"
    async with at(tmp_path, Moody({})) as place:
        await break_off(place, "manifest.Closed@1", OPTIONS, out=f"{parts}/")
        for part in parts.glob("part-*"):
            part.unlink()
        with pytest.raises(IntegrityError, match="is gone"):
            await run(place, out=f"{parts}/")
