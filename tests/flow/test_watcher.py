"""When the list of jobs is looked at, and what a day of silence comes to; by a clock that is set."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, cast

import pytest
from msgspec.structs import replace

from packtrain._errors import ApiError, PacktrainError, ProtocolError
from packtrain._flow.context import Context
from packtrain._flow.extras import adopt_job
from packtrain._flow.listing import known_jobs
from packtrain._flow.reconcile import Watcher
from packtrain._flow.signals import Changes
from packtrain._io.spool import RunSpool
from packtrain._manifest.memory import open_memory
from packtrain._model import BatchPage, BatchState, ExtraState, RemoteBatch, RemoteFile, State
from packtrain._options import Options
from packtrain._rules import naming
from packtrain._rules.lifecycle import CreateDoubtful, CreateIntended, JobKnown, Readopted
from packtrain._service import Service
from packtrain.testing.lives import BYTES, LINES, RUN, claimed, live, sealed, shard

if TYPE_CHECKING:
    from packtrain._io.base import Remote
    from packtrain._manifest.base import Manifest

NOW = 1000.0
OWN = RemoteBatch(
    name="batches/0",
    state=BatchState.RUNNING,
    display_name=naming.job_tag(RUN.token, shard(0), 1),
    requests=LINES,
)
EXTRA = replace(OWN, name="batches/extra")


class SetClock:
    def __init__(self) -> None:
        self.time = NOW
        #: When the machine was started.
        self.booted = 0.0

    def now(self) -> float:
        return self.time

    def monotonic(self) -> float:
        return self.time - self.booted

    def jitter(self) -> float:
        return 0.5

    async def sleep(self, seconds: float) -> None:
        self.time += seconds


class Listed:
    """A service with one job on each page of its list; while it is ``out``, every page fails."""

    def __init__(self) -> None:
        self.jobs = [OWN]
        self.out = False
        self.pages = 0
        #: What its own clock says, if it tells it.
        self.clock: SetClock | None = None
        #: So many times more the file of the attempt in doubt is found by its name.
        self.found = 0

    def now(self) -> float | None:
        return None if self.clock is None else self.clock.time

    def states(self) -> list[BatchState]:
        return [job.state for job in self.jobs]

    async def list_page(self, token: str | None) -> BatchPage:
        self.pages += 1
        if self.out:
            raise ApiError("unavailable", status=503, code="UNAVAILABLE")
        at = int(token or 0)
        return BatchPage((self.jobs[at],), str(at + 1) if at + 1 < len(self.jobs) else None)

    async def find_batch(self, name: str) -> RemoteBatch | None:
        return next((job for job in self.jobs if job.name == name), None)

    async def delete_file(self, name: str) -> None:
        """Takes effect when it likes."""

    async def find_file(self, name: str) -> RemoteFile | None:
        self.found -= 1
        return RemoteFile(name=name, state="ACTIVE", bytes=BYTES) if self.found >= 0 else None

    async def cancel(self, name: str) -> None:
        self.jobs = [replace(job, state=BatchState.CANCELLED) if job.name == name else job for job in self.jobs]


def context(manifest: Manifest, remote: Listed, clock: SetClock) -> Context:
    return Context(
        run=RUN,
        service=Service(origin="http://127.0.0.1"),
        options=Options(),
        spool=RunSpool(Path("nowhere"), RUN.token),
        manifest=manifest,
        remote=cast("Remote", remote),
        clock=clock,
        changes=Changes(),
    )


async def test_30_every_ten_minutes_the_whole_list_is_looked_through() -> None:
    """In between, a look ends when it has seen the jobs that it is for."""
    remote, clock = Listed(), SetClock()
    async with open_memory() as manifest:
        await sealed(manifest, 1)
        await live(manifest, await claimed(manifest), State.SUBMITTED)
        watcher = Watcher(context(manifest, remote, clock))
        await watcher.look()
        remote.jobs.append(EXTRA)
        while clock.time < NOW + 500:
            clock.time += await watcher.look()
        assert remote.states() == [BatchState.RUNNING, BatchState.RUNNING]
        assert remote.pages > 3
        while clock.time < NOW + 700:
            clock.time += await watcher.look()
        assert remote.states() == [BatchState.RUNNING, BatchState.CANCELLED]
        assert [extra.state for extra in await manifest.extras(RUN.id)] == [ExtraState.CANCELLED]


async def test_21_when_the_list_says_nothing_for_a_day_a_person_must_decide() -> None:
    """And not an hour earlier; no create follows by itself."""
    remote, clock = Listed(), SetClock()
    remote.out = True
    async with open_memory() as manifest:
        await sealed(manifest, 1)
        job = await live(manifest, await claimed(manifest), State.UPLOADED)
        job = await manifest.record(job, CreateIntended(tag=OWN.display_name, intent_at=NOW))
        await manifest.record(job, CreateDoubtful(doubtful_at=NOW, reason="no answer"))
        watcher = Watcher(context(manifest, remote, clock))
        while clock.time < NOW + 25 * 3600:
            (job,) = await manifest.jobs(RUN.id)
            assert job.state is (State.RECONCILING if clock.time <= NOW + 24 * 3600 else State.QUARANTINED)
            try:
                clock.time += await watcher.look()
            except PacktrainError:
                clock.time += 600
    assert "for a day" in (job.reason or "")


async def test_24_a_fence_stands_when_the_file_is_seen_to_be_gone() -> None:
    """Until then its deletion is asked for again; a create on its way may still be accepted."""
    remote, clock = Listed(), SetClock()
    remote.jobs, remote.found = [replace(OWN, display_name="somebody else's")], 3
    async with open_memory() as manifest:
        await sealed(manifest, 1)
        job = await live(manifest, await claimed(manifest), State.UPLOADED)
        job = await manifest.record(job, CreateIntended(tag=OWN.display_name, intent_at=NOW))
        await manifest.record(job, CreateDoubtful(doubtful_at=NOW, reason="no answer"))
        watcher = Watcher(context(manifest, remote, clock))
        while job.state is not State.FENCED:
            assert clock.time < NOW + 7200
            clock.time += await watcher.look()
            (job,) = await manifest.jobs(RUN.id)
            assert (job.state is State.FENCED) == (remote.found < 0)


async def test_33_a_job_that_does_not_end_in_three_days_is_for_a_person_whoever_was_looking() -> None:
    """The days count that passed while no process ran and the machine was off; kept by a person, it has three more."""
    remote, clock = Listed(), SetClock()
    remote.clock, remote.jobs = clock, [replace(OWN, created_at=NOW)]

    async def state_after(hours: float) -> State:
        clock.time = clock.booted = NOW + hours * 3600
        await Watcher(context(manifest, remote, clock)).look()
        (job,) = await manifest.jobs(RUN.id)
        return job.state

    async with open_memory() as manifest:
        await sealed(manifest, 1)
        job = await live(manifest, await claimed(manifest), State.UPLOADED)
        job = await manifest.record(job, CreateIntended(tag=OWN.display_name, intent_at=NOW))
        await manifest.record(job, JobKnown(batch=OWN.name, submitted_at=NOW))
        assert await state_after(71) is State.SUBMITTED
        assert await state_after(73) is State.QUARANTINED
        (job,) = await manifest.jobs(RUN.id)
        await manifest.record(job, Readopted(submitted_at=clock.now(), reason="kept"))
        assert await state_after(73 + 71) is State.SUBMITTED
        assert await state_after(73 + 73) is State.QUARANTINED


async def test_104_a_clock_set_forward_by_days_leaves_jobs_at_work_alone() -> None:
    """It is told of, and nobody is asked to decide: the service has not said how late it is."""
    remote, clock = Listed(), SetClock()
    remote.jobs = [replace(OWN, created_at=NOW)]
    async with open_memory() as manifest:
        await sealed(manifest, 1)
        await live(manifest, await claimed(manifest), State.SUBMITTED)
        clock.time += 4 * 24 * 3600
        await Watcher(context(manifest, remote, clock)).look()
        (job,) = await manifest.jobs(RUN.id)
        assert job.state is State.SUBMITTED


class Unreadable(Listed):
    """Describes its job ``batches/0`` in a way that nobody can read, in the list as well as by its name."""

    async def list_page(self, token: str | None) -> BatchPage:
        page = await super().list_page(token)
        return BatchPage(page.batches, page.next_token, (f'{{"displayName": "{OWN.display_name}"}}',))

    async def find_batch(self, name: str) -> RemoteBatch | None:
        if name == OWN.name:
            raise ProtocolError("described in a way that we can't read")
        return await super().find_batch(name)


async def test_a_job_that_cannot_be_read_holds_up_no_other() -> None:
    """It is told of at each look, and after three days by the service's clock it is for a person."""
    remote, clock = Unreadable(), SetClock()
    remote.clock = clock
    ended = replace(OWN, name="batches/1", state=BatchState.SUCCEEDED, result_file="files/r")
    remote.jobs = [replace(ended, display_name=naming.job_tag(RUN.token, shard(1), 1))]
    async with open_memory() as manifest:
        await sealed(manifest, 2)
        for _ in range(2):
            await live(manifest, await claimed(manifest), State.SUBMITTED)
        watcher = Watcher(context(manifest, remote, clock))
        with pytest.raises(ProtocolError, match="can't read"):
            await watcher.look()
        assert [job.state for job in await manifest.jobs(RUN.id)] == [State.SUBMITTED, State.ENDED]
        clock.time += 73 * 3600
        with pytest.raises(ProtocolError, match="can't read"):
            await watcher.look()
        assert [job.state for job in await manifest.jobs(RUN.id)] == [State.QUARANTINED, State.ENDED]


async def test_a_pass_that_hides_one_of_ours_says_nothing_of_a_job_in_doubt() -> None:
    """It may be the very one that is looked for."""
    remote, clock = Unreadable(), SetClock()
    remote.jobs = [replace(OWN, name="batches/1", display_name=naming.job_tag(RUN.token, shard(1), 1))]
    async with open_memory() as manifest:
        await sealed(manifest, 2)
        job = await live(manifest, await claimed(manifest), State.CREATE_INTENT)
        await manifest.record(job, CreateDoubtful(doubtful_at=NOW, reason="no answer"))
        await live(manifest, await claimed(manifest), State.SUBMITTED)
        watcher = Watcher(context(manifest, remote, clock))
        while clock.time < NOW + 2 * 3600:
            try:
                clock.time += await watcher.look()
            except ProtocolError:
                clock.time += 60
        assert (await manifest.jobs(RUN.id))[0].state is State.RECONCILING


async def test_22_a_job_found_late_is_no_younger_for_that() -> None:
    """A list that shows it may still be older than a create in doubt."""
    remote, clock = Listed(), SetClock()
    remote.jobs = [replace(OWN, created_at=NOW - 500)]
    async with open_memory() as manifest:
        await sealed(manifest, 1)
        job = await live(manifest, await claimed(manifest), State.UPLOADED)
        job = await manifest.record(job, CreateIntended(tag=OWN.display_name, intent_at=NOW))
        ctx = context(manifest, remote, clock)
        job = await manifest.record(job, CreateDoubtful(doubtful_at=NOW - 300, reason="no answer"))
        await adopt_job(ctx, job, list(remote.jobs))
        (job,) = await manifest.jobs(RUN.id)
        assert await known_jobs(ctx) == {OWN.name: NOW - 500}
