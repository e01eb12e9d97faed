"""Several runs of one client at a time: they share its limits, and nothing that one writes disturbs another."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import anyio
import anyio.lowlevel
import pytest

import packtrain
from packtrain import Options
from packtrain._flow.shares import BlockBudget, Shares, Slots
from packtrain._flow.validation_pool import Validator, validating
from packtrain._io.row_source import RowsSource
from packtrain._options import BLOCKS_BYTES
from tests.flow.place import read_lines, request_line
from tests.flow.test_workers import children

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.flow.place import Place

RUNS = 8


@pytest.fixture
def anyio_backend() -> Any:
    """One loop is enough: what is tested are limits."""
    return "asyncio", {"use_uvloop": False}


async def run_all(place: Place, count: int, options: Options) -> list[packtrain.Summary]:
    summaries: list[packtrain.Summary] = []

    async def run(client: packtrain.Client, number: int) -> None:
        rows = map(request_line, range(10 * number, 10 * number + 10))
        out = place.root / f"out-{number}.jsonl"
        summaries.append(await client.run(rows, model="m", out=out, run_id=f"run-{number}"))

    async with (
        packtrain.open_client(place.state, service=place.service, options=options) as client,
        anyio.create_task_group() as tasks,
    ):
        for number in range(count):
            tasks.start_soon(run, client, number)
    return summaries


async def test_runs_side_by_side_in_one_client(place: Place) -> None:
    """A15: each is complete, and each output has the answers of its own run."""
    summaries = await run_all(place, RUNS, Options(shard_requests=5))
    assert [summary.complete for summary in summaries] == [True] * RUNS
    for number in range(RUNS):
        keys = [row["key"] for row in read_lines(place.root / f"out-{number}.jsonl")]
        assert keys == [f"key-{n}" for n in range(10 * number, 10 * number + 10)]


async def test_a_status_that_cannot_be_written_never_ends_a_run(place: Place, caplog: pytest.LogCaptureFixture) -> None:
    """A15: it is for people to look at; a warning says why it is old, once."""
    async with packtrain.open_client(place.state, service=place.service) as client:
        (place.state / "status.json").mkdir()
        with caplog.at_level(logging.WARNING):
            summary = await client.run([request_line(1)], model="m", out=place.out)
    assert summary.complete
    assert len([record for record in caplog.records if "status.json" in record.message]) == 1


async def test_uploads_are_limited_for_all_runs_together(place: Place) -> None:
    """A12: with one at a time, none starts before the one before it has ended."""
    await run_all(place, 3, Options(shard_requests=5, uploads=1))
    under_way = most = 0
    for entry in place.truth():
        under_way += {"upload_started": 1, "file_finalised": -1}.get(entry["what"], 0)
        most = max(most, under_way)
    assert most == 1


async def test_free_slots_go_round() -> None:
    """A12: a run that would take all of them waits behind one that asked before."""
    slots, got = Slots(2), list[str]()

    async def ask(name: str) -> None:
        async with slots.turn() as room:
            await anyio.lowlevel.checkpoint()
            got.append(f"{name}{room}")
            slots.take(1)

    async with anyio.create_task_group() as tasks:
        for name in "abc":
            tasks.start_soon(ask, name)
    assert got == ["a2", "b1", "c0"]


async def test_worker_processes_are_limited_for_all_inputs_together() -> None:
    """A12: who finds none free validates in this process; what is given back can be taken."""
    options, before = Options(workers=2), len(children())
    shares = Shares(options)

    def lines() -> Iterator[dict[str, Any]]:
        yield from map(request_line, range(200))

    async def validate() -> int:
        count = 0
        async with (
            Validator(options, shares) as validator,
            RowsSource(lines()) as source,
            validating(source, validator, options) as blocks,
        ):
            while (pending := await blocks.take()) is not None:
                count += len((await pending.block()).ends)
                assert len(children()) - before <= 2
                await reached()
        return count

    counts, arrived, both = list[int](), list[int](), anyio.Event()

    async def reached() -> None:
        arrived.append(1)
        if len(arrived) == 2:
            both.set()
        await both.wait()

    async def one() -> None:
        counts.append(await validate())

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(one)
        tasks.start_soon(one)
    assert counts == [200, 200]
    assert len(children()) == before
    assert shares.workers.take() == 2


async def test_blocks_in_memory_are_limited_for_all_inputs_together() -> None:
    """A12: a source that holds a block waits until others have given theirs back."""
    budget = BlockBudget()
    budget.take(BLOCKS_BYTES - 10)
    assert budget.fits(10)
    assert not budget.fits(11)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(budget.wait)
        await anyio.wait_all_tasks_blocked()
        budget.give(BLOCKS_BYTES - 10)
    assert budget.fits(BLOCKS_BYTES)
