"""Further runs: fixed lines that are added to the output of a complete run."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest

from packtrain import InputError, Options, OutputChanged, PacktrainError, Summary, open_client, verify
from packtrain.testing import armed
from tests.flow.place import Place, read_lines, request_line, write_lines

if TYPE_CHECKING:
    from pathlib import Path

ODD = {"contents": 7}


def broken(place: Place) -> Path:
    """Ten good lines, two that the service refuses, and three that are rejected."""
    rows = [json.dumps(request_line(number)) for number in range(10)]
    rows[3:3] = [json.dumps({"key": "odd-1", "request": ODD}), '{"key": "torn", "request": {', "rubbish"]
    rows[9:9] = [json.dumps({"key": "odd-2", "request": ODD}), json.dumps({"key": 7, "request": {}})]
    path = place.root / "in.jsonl"
    path.write_text("\n".join(rows) + "\n")
    return path


def fixed(place: Place, *keys: str, name: str = "fixed.jsonl") -> Path:
    return write_lines(place.root / name, ({**request_line(0), "key": key} for key in keys))


async def run(place: Place) -> Summary:
    async with open_client(place.state, service=place.service, options=Options(shard_requests=4)) as client:
        return await client.run(broken(place), model="m", out=place.out)


async def extend(place: Place, inputs: Any) -> Summary:
    async with open_client(place.state, service=place.service, options=Options(shard_requests=2)) as client:
        return await client.extend(inputs, into=place.out)


def keys(place: Place) -> list[str]:
    return [row["key"] for row in read_lines(place.out)]


def failed(place: Place) -> list[str]:
    path = place.root / "out.jsonl.failed.jsonl"
    return [row["key"] for row in read_lines(path)] if path.exists() else []


def rejected(place: Place) -> list[str]:
    path = place.root / "out.jsonl.rejected.jsonl"
    return [row["text"] for row in read_lines(path)] if path.exists() else []


GOOD = [f"key-{number}" for number in range(10)]


async def test_fixed_lines_are_answered_behind_the_others(place: Place) -> None:
    """And leave their lists; what has an answer is not asked again."""
    await run(place)
    before = place.out.read_bytes()
    assert (failed(place), len(rejected(place))) == (["odd-1", "odd-2"], 3)
    summary = await extend(place, fixed(place, "odd-1", "key-5", "torn", "7", "new", "key-9"))
    assert keys(place) == [*GOOD, "odd-1", "torn", "7", "new"]
    assert place.out.read_bytes().startswith(before)
    assert (failed(place), rejected(place)) == (["odd-2"], ["rubbish"])
    assert (summary.complete, summary.answered, summary.failed) == (True, 14, 1)
    assert (summary.rejected, summary.skipped, summary.valid) == (1, 2, 15)
    assert (await verify(place.state, out=place.out, read_data=True)).findings == []


async def test_the_same_call_again_does_nothing(place: Place) -> None:
    """And so does the first run, which shows what there is now."""
    await run(place)
    path = fixed(place, "odd-1", "torn")
    first = await extend(place, path)
    content, jobs = place.out.read_bytes(), len(place.truth("batch_created"))
    again = await extend(place, path)
    async with open_client(place.state, service=place.service, options=Options(shard_requests=4)) as client:
        main = await client.run(place.root / "in.jsonl", model="m", out=place.out)
        with pytest.raises(InputError, match="was added to"):
            await client.retry(place.out, everything=True)
    for summary in (again, main):
        assert (summary.complete, summary.answered, summary.failed) == (True, first.answered, first.failed)
    assert (place.out.read_bytes(), len(place.truth("batch_created"))) == (content, jobs)


async def test_what_fails_again_is_listed_once_and_can_be_given_again(place: Place) -> None:
    """Each input is a run of its own; the last one that has a key counts."""
    await run(place)
    again = write_lines(place.root / "again.jsonl", [{"key": "odd-1", "request": ODD}, {**request_line(0), "key": "x"}])
    await extend(place, again)
    assert failed(place) == ["odd-2", "odd-1"]
    summary = await extend(place, fixed(place, "odd-1", "odd-2", "x"))
    assert (failed(place), keys(place)) == ([], [*GOOD, "x", "odd-1", "odd-2"])
    assert (summary.answered, summary.failed, summary.skipped) == (13, 0, 1)


async def test_nothing_to_add_changes_nothing(place: Place) -> None:
    """All the keys have answers."""
    await run(place)
    before = place.out.read_bytes()
    summary = await extend(place, fixed(place, "key-1", "key-2"))
    assert (summary.complete, summary.answered, summary.skipped) == (True, 10, 2)
    assert place.out.read_bytes() == before
    assert len(failed(place)) == 2


async def test_an_output_that_was_changed_is_refused(place: Place) -> None:
    """Nothing is asked for it."""
    await run(place)
    jobs = len(place.truth("batch_created"))
    with place.out.open("a") as file:
        file.write("x\n")
    with pytest.raises(OutputChanged):
        await extend(place, fixed(place, "odd-1"))
    assert len(place.truth("batch_created")) == jobs


POINTS = [
    "shard.rename.after",
    "manifest.CreateIntended.after",
    "manifest.publish.before",
    "manifest.publish.after",
    "results.rename.after",
    "output.rename.before",
    "output.rename.after",
]


@pytest.mark.parametrize("point", POINTS)
async def test_a_further_run_that_broke_off_goes_on(place: Place, point: str) -> None:
    """The same call ends it, with one job a shard and every line once."""
    await run(place)
    made = len(place.truth("batch_created"))
    path = fixed(place, "odd-1", "key-5", "torn")
    with armed(f"{point}=raise:EIO@1") as failpoints, suppress(PacktrainError):
        await extend(place, path)
    assert failpoints.unreached() == []
    summary = await extend(place, path)
    assert (summary.complete, summary.answered, summary.failed, summary.skipped) == (True, 12, 1, 1)
    assert keys(place) == [*GOOD, "odd-1", "torn"]
    assert (failed(place), len(rejected(place))) == (["odd-2"], 2)
    assert len(place.truth("batch_created")) == made + 1
