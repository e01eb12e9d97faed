"""Duplicate jobs are found, cancelled and reported; void lists prove nothing."""

from __future__ import annotations

import math
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import anyio
import anyio.lowlevel
import pytest
from aiohttp import ClientSession
from anyio.lowlevel import checkpoint

import packtrain
from packtrain import IncompleteRun, Options, State, serving
from packtrain._manifest.sqlite import open_sqlite
from packtrain._model import DuplicateJob, DuplicateState
from packtrain.testing import Edit, FaultPlan, List, Status
from packtrain.testing.proxy import open_proxy
from tests.flow.place import Place
from tests.flow.test_recovery import run_until
from tests.server.service_calls import Calls

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from pathlib import Path

    from msgspec import Raw

    from packtrain import Statistics, Summary


class Held:
    """A backend that answers when it is let go."""

    rows = None

    def __init__(self) -> None:
        self.go = anyio.Event()

    async def answer(self, requests: Sequence[Raw], *, task: str, model: str) -> list[bytes]:
        await self.go.wait()
        return [b"{}"] * len(requests)


@asynccontextmanager
async def held(root: Path, faults: FaultPlan | None = None) -> AsyncIterator[tuple[Place, Held]]:
    backend = Held()
    async with serving(root / "service", backend=backend, faults=faults) as origin:
        yield Place(root, origin), backend


async def run(place: Place, options: Options | None = None) -> Summary:
    async with packtrain.open_client(place.state, service=place.service, options=options) as client:
        with anyio.fail_after(100):
            return await client.run(place.root / "in.jsonl", model="m-1", out=place.out)


async def run_till(place: Place, enough: Any) -> None:
    async with packtrain.open_client(place.state, service=place.service) as client:
        work = partial(client.run, place.root / "in.jsonl", model="m-1", out=place.out)
        with anyio.fail_after(100):
            await run_until(client, enough, work)


async def twin(place: Place, name: str | None = None) -> str:
    """Another job under the tag of the run's only one, or under a name; its name at the service."""
    tag = name or place.truth("batch_created")[0]["displayName"]
    async with ClientSession() as client:
        calls = Calls(client, place.origin)
        file = await calls.upload((place.root / "in.jsonl").read_bytes())
        return await calls.job(file["name"], name=tag)


def submitted(statistics: Statistics) -> bool:
    return statistics.count(State.SUBMITTED) == 1


async def test_30_the_sweep_at_the_start_cancels_a_job_beside_the_adopted_one(tmp_path: Path) -> None:
    """Once, while both are live; it is counted, and the output is that of the adopted one."""
    async with held(tmp_path) as (place, backend):
        place.requests(3)
        await run_till(place, submitted)
        duplicate = await twin(place)
        await run_till(
            place, lambda statistics: statistics.duplicates_healed == 1 and bool(place.truth("batch_cancelled"))
        )
        assert [entry["name"] for entry in place.truth("batch_cancelled")] == [duplicate]
        backend.go.set()
        summary = await run(place)
    assert (summary.answered, summary.jobs_created, summary.duplicates_healed) == (3, 1, 1)
    status = await packtrain.status(place.state)
    assert [(row.job, row.state) for row in status.duplicate_jobs] == [(duplicate, DuplicateState.CANCELLED)]


async def test_30_the_sweep_at_the_end_finds_what_came_late(tmp_path: Path) -> None:
    """It had ended by itself, so that nothing is left to save; it is reported all the same."""
    async with held(tmp_path) as (place, backend):
        place.requests(3)
        summaries: list[Summary] = []

        async def work() -> None:
            summaries.append(await run(place))

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(work)
            while not place.truth("batch_created"):
                await checkpoint()
            await twin(place)
            backend.go.set()
    assert [(summary.answered, summary.duplicates_healed) for summary in summaries] == [(3, 1)]


async def test_11_a_cancel_intent_outlives_a_crash(tmp_path: Path) -> None:
    """Killed between the row and the cancel: the next start cancels, although the list does not show the job."""
    async with held(tmp_path) as (place, backend):
        place.requests(3)
        await run_till(place, submitted)
        duplicate = await twin(place, "no tag of ours")
        async with open_sqlite(place.state / "manifest.db") as manifest:
            await manifest.note(
                "main", DuplicateJob(job=duplicate, shard=0, attempt=1, state=DuplicateState.CANCELLING)
            )
        await run_till(place, lambda _: bool(place.truth("batch_cancelled")))
        backend.go.set()
        assert (await run(place)).duplicates_healed == 1


async def test_29_a_cancel_that_is_refused_is_tried_again(tmp_path: Path) -> None:
    """And neither holds up nor ends the run."""
    faults = FaultPlan(rules=(Status(route="batches.cancel", status=404, times=2),))
    async with held(tmp_path, faults) as (place, backend):
        place.requests(3)
        await run_till(place, submitted)
        duplicate = await twin(place)
        await run_till(place, lambda _: bool(place.truth("batch_cancelled")))
        assert [entry["name"] for entry in place.truth("batch_cancelled")] == [duplicate]
        assert len(place.truth("fault")) == 2
        backend.go.set()
        assert (await run(place)).answered == 3


async def test_a_duplicate_job_is_cancelled_after_the_output_was_published(tmp_path: Path, caplog: Any) -> None:
    """Its cancel did not work before the end: the run is not finished, says so, and the next start goes on with it."""
    faults = FaultPlan(rules=(Status(route="batches.cancel", status=404, times=1),))
    async with held(tmp_path, faults) as (place, backend):
        place.requests(3)
        backend.go.set()
        await run(place)
        backend.go = anyio.Event()
        duplicate = await twin(place)
        async with open_sqlite(place.state / "manifest.db") as manifest:
            await manifest.note(
                "main", DuplicateJob(job=duplicate, shard=0, attempt=1, state=DuplicateState.CANCELLING)
            )
        ask = partial(packtrain.finished, place.state, service=place.service, model="m-1", out=place.out)
        assert await ask() is None
        async with packtrain.open_client(place.state, service=place.service) as client:
            client.stop()  # no time for a second cancel
            summary = await client.run(place.root / "in.jsonl", model="m-1", out=place.out)
        assert (summary.complete, summary.duplicates_healed, summary.duplicates_live) == (True, 1, 1)
        assert f"{duplicate} is a duplicate job that has not been cancelled yet" in caplog.text
        assert (await run(place)).duplicates_live == 0
        assert [entry["name"] for entry in place.truth("batch_cancelled")] == [duplicate]
        assert await ask() is not None


async def test_20_without_an_adopted_job_none_is_cancelled(tmp_path: Path) -> None:
    """The shard waits for a person; so does a job that shows up for it, and the status names both."""
    async with held(tmp_path) as (place, _), open_proxy(place.origin) as proxy:
        source, proxy.refuse = place.requests(3), b":batchGenerateContent"
        options = Options(on_ambiguous="quarantine")
        service = place.service_at(proxy.origin)
        async with packtrain.open_client(place.state, service=service, options=options) as client:
            with pytest.raises(IncompleteRun), anyio.fail_after(100):
                await client.run(source, model="m-1", out=place.out)
        async with open_sqlite(place.state / "manifest.db") as manifest:
            (row,) = await manifest.rows("main")
        job = await twin(place, row.tag)
        with pytest.raises(IncompleteRun):
            await run(place, options)
        assert place.truth("batch_cancelled") == []
        status = await packtrain.status(place.state)
    assert [(duplicate.job, duplicate.state) for duplicate in status.duplicate_jobs] == [(job, DuplicateState.SEEN)]
    assert status.statistics.duplicates_healed == 0
    assert "left no job in the list" in status.quarantined[0]


async def test_23_a_job_of_other_content_under_our_tag_is_for_a_person(tmp_path: Path) -> None:
    """A foreign driver, or a tag that was used twice: nothing is adopted, nothing cancelled, nothing created."""
    faults = FaultPlan(
        rules=(
            Status(route="batches.create", calls=(1,), status=503, acted=True),
            Edit(route="batches.get", member="metadata.batchStats.requestCount", value="4"),
        )
    )
    async with held(tmp_path, faults) as (place, _):
        place.requests(3)
        with pytest.raises(IncompleteRun, match="has 4 requests instead of 3"):
            await run(place)
        assert len(place.truth("batch_created")) == 1
        assert place.truth("batch_cancelled") == []


async def test_23_a_list_without_known_jobs_never_proves_absence(tmp_path: Path) -> None:
    """It is empty for five times as long as absence would take, and no second create is sent."""
    rules = (
        Status(route="batches.create", calls=(2,), status=503, acted=True),
        List(route="batches.list", how="empty"),
    )
    async with held(tmp_path, FaultPlan(rules=rules)) as (place, _):
        place.requests(4)
        options = Options(shard_requests=2)
        async with packtrain.open_client(place.state, service=place.service, options=options) as client:
            work = partial(client.run, place.root / "in.jsonl", model="m-1", out=place.out)
            began = math.inf

            def enough(statistics: Statistics) -> bool:
                nonlocal began
                if statistics.count(State.RECONCILING):
                    began = min(began, anyio.current_time())
                waited = anyio.current_time() - began
                return statistics.count(State.REVOKED, State.REVOKE_INTENT) > 0 or waited > 5 * place.service.settle

            await run_until(client, enough, work)
            assert (await client.statistics()).states == {State.SUBMITTED: 1, State.RECONCILING: 1}
    assert len(place.truth("batch_created")) == 2


async def test_a_list_with_an_unreadable_job_of_ours_is_void(tmp_path: Path) -> None:
    """The job is there, and must not be taken for absent; it is found when the list is readable again."""
    rules = (
        Status(route="batches.create", calls=(1,), status=503, acted=True),
        Edit(route="batches.list", member="operations.*.metadata.createTime", value="yesterday", times=2),
    )
    async with serving(tmp_path / "service", faults=FaultPlan(rules=rules)) as origin:
        place = Place(tmp_path, origin)
        place.requests(3)
        assert (await run(place)).answered == 3
    assert len(place.truth("batch_created")) == 1
    assert len(place.truth("fault")) == 3
