"""Reconciliation with the list of jobs, by a clock that is set."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, cast

import pytest
from msgspec.structs import replace

from packtrain._errors import ApiError, PacktrainError, ProtocolError
from packtrain._flow.reconciler import Watcher
from packtrain._flow.run import Changes, ClientContext, RunContext
from packtrain._flow.shares import Shares
from packtrain._io.spool import Spool
from packtrain._manifest.base import Change
from packtrain._manifest.memory import open_memory
from packtrain._model import DuplicateState, FileState, JobPage, JobState, RemoteFile, RemoteJob, State
from packtrain._options import Options
from packtrain._providers.gemini import CAPABILITIES
from packtrain._providers.service import Service
from packtrain._rules import naming
from packtrain._rules.lifecycle import CreateAmbiguous, CreateIntended, JobAdopted, JobKept
from packtrain._rules.submission import controls
from packtrain.testing.lives import BYTES, LINES, RUN, claimed, live, sealed, shard

if TYPE_CHECKING:
    from packtrain._manifest.base import Manifest
    from packtrain._model import ShardRow
    from packtrain._providers.base import Provider

NOW = 1000.0
OWN = RemoteJob(
    name="batches/0",
    state=JobState.RUNNING,
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

    capabilities = CAPABILITIES
    #: It has input files.
    uploads: object = object()

    def __init__(self) -> None:
        self.rows = [OWN]
        self.out = False
        self.pages = 0
        #: The service's own clock, if it gives its time.
        self.clock: SetClock | None = None
        #: How many times more the file of the ambiguous attempt is found by its name.
        self.found = 0

    def now(self) -> float | None:
        return None if self.clock is None else self.clock.time

    def states(self) -> list[JobState]:
        return [row.state for row in self.rows]

    async def list_page(self, token: str | None) -> JobPage:
        self.pages += 1
        if self.out:
            raise ApiError("unavailable", status=503, code="UNAVAILABLE")
        at = int(token or 0)
        return JobPage((self.rows[at],), str(at + 1) if at + 1 < len(self.rows) else None)

    async def find_job(self, name: str) -> RemoteJob | None:
        return next((row for row in self.rows if row.name == name), None)

    async def delete_file(self, name: str) -> None:
        """Takes effect when it likes."""

    async def find_file(self, name: str) -> RemoteFile | None:
        self.found -= 1
        return RemoteFile(name=name, state=FileState.READY, bytes=BYTES) if self.found >= 0 else None

    async def cancel(self, name: str) -> None:
        self.rows = [replace(row, state=JobState.CANCELLED) if row.name == name else row for row in self.rows]


def context(manifest: Manifest, provider: Listed, clock: SetClock) -> RunContext:
    return ClientContext(
        service=Service(origin="http://127.0.0.1"),
        options=Options(),
        shares=Shares(Options()),
        spool=Spool(Path("nowhere")),
        manifest=manifest,
        provider=cast("Provider", provider),
        clock=clock,
        changes=Changes(),
    ).context(RUN)


async def test_30_every_ten_minutes_the_whole_list_is_looked_through() -> None:
    """In between, a look ends when it has seen the jobs that it is for."""
    provider, clock = Listed(), SetClock()
    async with open_memory() as manifest:
        await sealed(manifest, 1)
        await live(manifest, await claimed(manifest), State.SUBMITTED)
        watcher = Watcher(context(manifest, provider, clock))
        await watcher.look()
        provider.rows.append(EXTRA)
        while clock.time < NOW + 500:
            clock.time += await watcher.look()
        assert provider.states() == [JobState.RUNNING, JobState.RUNNING]
        assert provider.pages > 3
        while clock.time < NOW + 700:
            clock.time += await watcher.look()
        assert provider.states() == [JobState.RUNNING, JobState.CANCELLED]
        assert [duplicate.state for duplicate in await manifest.duplicate_jobs(RUN.id)] == [DuplicateState.CANCELLED]


async def test_21_after_a_day_of_void_passes_a_person_must_decide() -> None:
    """And not an hour earlier; no create follows by itself."""
    provider, clock = Listed(), SetClock()
    provider.out = True
    async with open_memory() as manifest:
        await sealed(manifest, 1)
        row = await live(manifest, await claimed(manifest), State.UPLOADED)
        row = await manifest.write(Change(row, CreateIntended(tag=OWN.display_name, intent_at=NOW)))
        await manifest.write(Change(row, CreateAmbiguous(ambiguous_at=NOW, reason="no answer")))
        watcher = Watcher(context(manifest, provider, clock))
        while clock.time < NOW + 25 * 3600:
            (row,) = await manifest.rows(RUN.id)
            assert row.state is (State.RECONCILING if clock.time <= NOW + 24 * 3600 else State.QUARANTINED)
            try:
                clock.time += await watcher.look()
            except PacktrainError:
                clock.time += 600
    assert "for 24 hours" in (row.reason or "")


async def test_24_a_revocation_counts_when_the_file_is_seen_to_be_gone() -> None:
    """Until then its deletion is asked for again; a create on its way may still be accepted."""
    provider, clock = Listed(), SetClock()
    provider.rows, provider.found = [replace(OWN, display_name="somebody else's")], 3
    async with open_memory() as manifest:
        await sealed(manifest, 1)
        row = await live(manifest, await claimed(manifest), State.UPLOADED)
        row = await manifest.write(Change(row, CreateIntended(tag=OWN.display_name, intent_at=NOW)))
        await manifest.write(Change(row, CreateAmbiguous(ambiguous_at=NOW, reason="no answer")))
        watcher = Watcher(context(manifest, provider, clock))
        while row.state is not State.REVOKED:
            assert clock.time < NOW + 7200
            clock.time += await watcher.look()
            (row,) = await manifest.rows(RUN.id)
            assert (row.state is State.REVOKED) == (provider.found < 0)


async def test_33_a_job_that_does_not_end_in_three_days_is_for_a_person_whoever_was_looking() -> None:
    """The days count that passed while no process ran and the machine was off; kept by a person, it has three more."""
    provider, clock = Listed(), SetClock()
    provider.clock, provider.rows = clock, [replace(OWN, created_at=NOW)]

    async def state_after(hours: float) -> State:
        clock.time = clock.booted = NOW + hours * 3600
        await Watcher(context(manifest, provider, clock)).look()
        (row,) = await manifest.rows(RUN.id)
        return row.state

    async with open_memory() as manifest:
        await sealed(manifest, 1)
        row = await live(manifest, await claimed(manifest), State.UPLOADED)
        row = await manifest.write(Change(row, CreateIntended(tag=OWN.display_name, intent_at=NOW)))
        await manifest.write(Change(row, JobAdopted(job=OWN.name, submitted_at=NOW)))
        assert await state_after(71) is State.SUBMITTED
        assert await state_after(73) is State.QUARANTINED
        (row,) = await manifest.rows(RUN.id)
        await manifest.write(Change(row, JobKept(submitted_at=clock.now(), reason="kept")))
        assert await state_after(73 + 71) is State.SUBMITTED
        assert await state_after(73 + 73) is State.QUARANTINED


async def test_104_a_clock_set_forward_by_days_leaves_jobs_at_work_alone() -> None:
    """There is a warning, and no decision: the service has not given its time."""
    provider, clock = Listed(), SetClock()
    provider.rows = [replace(OWN, created_at=NOW)]
    async with open_memory() as manifest:
        await sealed(manifest, 1)
        await live(manifest, await claimed(manifest), State.SUBMITTED)
        clock.time += 4 * 24 * 3600
        await Watcher(context(manifest, provider, clock)).look()
        (row,) = await manifest.rows(RUN.id)
        assert row.state is State.SUBMITTED


async def test_a_service_whose_clock_is_days_ahead_leaves_jobs_at_work_alone() -> None:
    """One clock alone decides nothing, whichever it is (A7)."""
    provider, clock = Listed(), SetClock()
    provider.clock, provider.rows = SetClock(), [replace(OWN, created_at=NOW)]
    provider.clock.time += 4 * 24 * 3600
    async with open_memory() as manifest:
        await sealed(manifest, 1)
        await live(manifest, await claimed(manifest), State.SUBMITTED)
        await Watcher(context(manifest, provider, clock)).look()
        (row,) = await manifest.rows(RUN.id)
        assert row.state is State.SUBMITTED


class Unreadable(Listed):
    """Describes its job ``batches/0`` in an unknown way, in the list as well as by its name."""

    async def list_page(self, token: str | None) -> JobPage:
        page = await super().list_page(token)
        return JobPage(page.jobs, page.next_token, (f'{{"displayName": "{OWN.display_name}"}}',))

    async def find_job(self, name: str) -> RemoteJob | None:
        if name == OWN.name:
            raise ProtocolError("described in a way that we can't read")
        return await super().find_job(name)


async def test_a_job_that_cannot_be_read_holds_up_no_other() -> None:
    """Each look raises its error, and after three days by the service's clock it is for a person."""
    provider, clock = Unreadable(), SetClock()
    provider.clock = clock
    ended = replace(OWN, name="batches/1", state=JobState.SUCCEEDED, result_file="files/r")
    provider.rows = [replace(ended, display_name=naming.job_tag(RUN.token, shard(1), 1))]
    async with open_memory() as manifest:
        await sealed(manifest, 2)
        for _ in range(2):
            await live(manifest, await claimed(manifest), State.SUBMITTED)
        watcher = Watcher(context(manifest, provider, clock))
        with pytest.raises(ProtocolError, match="can't read"):
            await watcher.look()
        assert [row.state for row in await manifest.rows(RUN.id)] == [State.SUBMITTED, State.ENDED]
        clock.time += 73 * 3600
        with pytest.raises(ProtocolError, match="can't read"):
            await watcher.look()
        assert [row.state for row in await manifest.rows(RUN.id)] == [State.QUARANTINED, State.ENDED]


async def test_a_pass_that_hides_one_of_ours_is_void() -> None:
    """It may be the very job that is searched for."""
    provider, clock = Unreadable(), SetClock()
    provider.rows = [replace(OWN, name="batches/1", display_name=naming.job_tag(RUN.token, shard(1), 1))]
    async with open_memory() as manifest:
        await sealed(manifest, 2)
        row = await live(manifest, await claimed(manifest), State.CREATE_INTENT)
        await manifest.write(Change(row, CreateAmbiguous(ambiguous_at=NOW, reason="no answer")))
        await live(manifest, await claimed(manifest), State.SUBMITTED)
        watcher = Watcher(context(manifest, provider, clock))
        while clock.time < NOW + 2 * 3600:
            try:
                clock.time += await watcher.look()
            except ProtocolError:
                clock.time += 60
        assert (await manifest.rows(RUN.id))[0].state is State.RECONCILING


async def test_22_a_job_found_late_is_no_younger_for_that() -> None:
    """A list that shows it may still be older than an ambiguous create."""
    provider, clock = Listed(), SetClock()
    provider.rows = [replace(OWN, created_at=NOW - 500)]
    async with open_memory() as manifest:
        await sealed(manifest, 1)
        row = await live(manifest, await claimed(manifest), State.UPLOADED)
        row = await manifest.write(Change(row, CreateIntended(tag=OWN.display_name, intent_at=NOW)))
        ctx = context(manifest, provider, clock)
        row = await manifest.write(Change(row, CreateAmbiguous(ambiguous_at=NOW - 300, reason="no answer")))
        await Watcher(ctx).look()
        (row,) = await manifest.rows(RUN.id)
        assert (row.state, row.job) == (State.SUBMITTED, OWN.name)
        assert controls([row]) == {OWN.name: NOW - 500}


async def ambiguous(manifest: Manifest) -> ShardRow:
    """A shard whose create got no answer."""
    await sealed(manifest, 1)
    row = await live(manifest, await claimed(manifest), State.UPLOADED)
    row = await manifest.write(Change(row, CreateIntended(tag=OWN.display_name, intent_at=NOW)))
    return await manifest.write(Change(row, CreateAmbiguous(ambiguous_at=NOW, reason="no answer")))


@pytest.mark.parametrize(("requests", "state"), [(LINES, State.SUBMITTED), (LINES + 1, State.QUARANTINED)])
async def test_a_job_without_a_name_is_found_by_its_input_file(requests: int, state: State) -> None:
    """And adopted, if what the service shows of its content agrees."""
    provider, clock = Listed(), SetClock()
    async with open_memory() as manifest:
        row = await ambiguous(manifest)
        provider.rows = [replace(OWN, display_name="", input_file=row.file or "", requests=requests)]
        await Watcher(context(manifest, provider, clock)).look()
        (row,) = await manifest.rows(RUN.id)
        assert row.state is state


REFUSED = replace(OWN, state=JobState.FAILED, reason="too many tokens enqueued", never_started=True)


async def watched_out_of(state: State, ctx: RunContext, watcher: Watcher, clock: SetClock) -> ShardRow:
    """The only row, once it has left the state."""
    began = clock.time
    while True:
        (row,) = await ctx.manifest.rows(RUN.id)
        if row.state is not state:
            return row
        assert clock.time < began + 7200
        clock.time += await watcher.look()


async def test_a_job_that_never_started_leads_back_to_its_create() -> None:
    """Once it has been seen to have ended twice; the same input file is used again, after a wait."""
    provider, clock = Listed(), SetClock()
    provider.rows = [REFUSED]
    async with open_memory() as manifest:
        await sealed(manifest, 1)
        before = await live(manifest, await claimed(manifest), State.SUBMITTED)
        ctx = context(manifest, provider, clock)
        watcher = Watcher(ctx)
        clock.time += await watcher.look()
        assert (await manifest.rows(RUN.id))[0].state is State.SUBMITTED
        row = await watched_out_of(State.SUBMITTED, ctx, watcher, clock)
        assert (row.state, row.file, row.attempt) == (State.UPLOADED, before.file, before.attempt)
        assert (row.job, row.submitted_at, row.intent_at) == (None, None, None)
        assert row.due > clock.time
        assert "too many tokens enqueued" in (row.reason or "")
        assert await manifest.duplicate_jobs(RUN.id) == []


async def test_a_job_that_never_started_is_never_adopted_again() -> None:
    """It bears the tag of the second create of its file as well, and a later reply may show it in another way."""
    provider, clock = Listed(), SetClock()
    provider.rows = [REFUSED]
    async with open_memory() as manifest:
        await sealed(manifest, 1)
        await live(manifest, await claimed(manifest), State.SUBMITTED)
        ctx = context(manifest, provider, clock)
        watcher = Watcher(ctx)
        row = await watched_out_of(State.SUBMITTED, ctx, watcher, clock)
        row = await ctx.record(row, CreateIntended(tag=OWN.display_name, intent_at=clock.now()))
        await ctx.record(row, CreateAmbiguous(ambiguous_at=clock.now(), reason="no answer"))
        provider.rows = [OWN]
        assert (await watched_out_of(State.RECONCILING, ctx, watcher, clock)).state is State.REVOKED
        provider.rows = [OWN, replace(OWN, name="batches/1")]
        row = await watched_out_of(State.REVOKED, ctx, watcher, clock)
        assert (row.state, row.job) == (State.SUBMITTED, "batches/1")
