"""Creates that the service refused, or says it refused: what is looked at before the next one."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from msgspec import structs

import packtrain
from packtrain import ApiError, DecisionNeeded, DecisionRefused, Options, serving
from packtrain._errors import IntegrityError, PacktrainError
from packtrain._flow.reconciler import Watcher
from packtrain._flow.reporting import refresh
from packtrain._flow.submitter import Creator
from packtrain._io.spool import Spool
from packtrain._manifest.base import Change
from packtrain._manifest.memory import open_memory
from packtrain._model import JobPage, RemoteJob, State, Upload
from packtrain._rules import naming, submission
from packtrain._rules.lifecycle import (
    CreateAmbiguous,
    CreateIntended,
    FileReady,
    FinalizeIntended,
    JobAdopted,
    JobNeverStarted,
    UploadIntended,
)
from packtrain.testing import FaultPlan, Script, Step
from packtrain.testing.lives import RUN, claimed, live, sealed
from tests.flow.place import Place
from tests.flow.test_reconciler import NOW, OWN, Listed, SetClock, context

if TYPE_CHECKING:
    from pathlib import Path

    from packtrain._errors import Refusal
    from packtrain._flow.run import RunContext
    from packtrain._manifest.base import Manifest
    from packtrain._model import ShardRow


class Creating(Listed):
    """Answers its first create with this error; ``made``: and makes the job all the same."""

    def __init__(self, error: PacktrainError, *, made: bool) -> None:
        super().__init__()
        self.rows: list[RemoteJob] = []
        self.found = 10**9
        self.error: PacktrainError | None = error
        self.made = made
        self.posts = 0
        self.deleted: list[str] = []

    async def list_page(self, token: str | None) -> JobPage:
        return await super().list_page(token) if self.rows else JobPage((), None)

    async def create(self, *, tag: str, file: str, **_: object) -> RemoteJob:
        self.posts += 1
        job = structs.replace(OWN, name=f"batches/{self.posts}", display_name=tag, input_file=file)
        error, self.error = self.error, None
        if error is None or self.made:
            self.rows.append(job)
        if error is not None:
            raise error
        return job

    async def delete_file(self, name: str) -> None:
        self.deleted.append(naming.plain_file(name))


def refusal(kind: Refusal, status: int) -> ApiError:
    return ApiError(f"create of a job: the service answered {status}", status=status, code="NO", kind=kind)


async def settled(ctx: RunContext, row: ShardRow, clock: SetClock) -> ShardRow:
    """The row once its create has led anywhere; each look comes when it is due, by a program that may start anew."""
    creator, began = Creator(ctx), clock.time
    while row.state is State.UPLOADED:
        assert clock.time < began + 7200
        row = await creator.create(row)
        clock.time = max(clock.time, row.due)
    return row


async def uploaded(manifest: Manifest) -> ShardRow:
    await sealed(manifest, 1)
    return await live(manifest, await claimed(manifest), State.UPLOADED)


@pytest.mark.parametrize(("kind", "status"), [("barred", 403), ("throttled", 429), ("refused", 400)])
async def test_a_refusal_that_was_an_acceptance_makes_no_second_job(kind: Refusal, status: int) -> None:
    """The next start looks at the list before it creates anything (A14)."""
    provider, clock = Creating(refusal(kind, status), made=True), SetClock()
    async with open_memory() as manifest:
        row = await uploaded(manifest)
        ctx = context(manifest, provider, clock)
        try:
            await Creator(ctx).create(row)
        except ApiError:
            assert status != 400
        (row,) = await manifest.rows(RUN.id)
        assert submission.was_refused(row) or status == 400
        row = await settled(ctx, row, clock)
        assert (row.state, row.job, provider.posts) == (State.SUBMITTED, "batches/1", 1)


async def test_a_job_whose_file_is_said_to_be_gone_keeps_it_until_the_list_was_read() -> None:
    """Its deletion would make the job fail that the refused create has made (A14)."""
    provider, clock = Creating(refusal("file_gone", 404), made=True), SetClock()
    async with open_memory() as manifest:
        ctx = context(manifest, provider, clock)
        row = await Creator(ctx).create(await uploaded(manifest))
        assert (row.state, provider.deleted) == (State.SEALED, [])
        name = naming.file_name(RUN.token, 0, 0, 2)
        for event in (
            UploadIntended(attempt=2, file=name, upload=Upload(size=1)),
            FinalizeIntended(upload=Upload(size=1)),
            FileReady(file_expires_at=None),
        ):
            row = await ctx.record(row, event)
        row = await settled(ctx, row, clock)
        assert (row.state, row.job, provider.posts, provider.deleted) == (State.SUBMITTED, "batches/1", 1, [])


async def test_the_first_429_of_a_run_is_settled_within_a_minute(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Two looks at the list, 20 s apart; the log and the status say what is waited for (B16)."""
    provider, clock = Creating(refusal("throttled", 429), made=False), SetClock()
    spool = Spool(tmp_path / "state")
    spool.root.mkdir()
    async with open_memory() as manifest:
        row = await uploaded(manifest)
        ctx = replace(context(manifest, provider, clock), spool=spool)
        creator = Creator(ctx)
        with pytest.raises(ApiError, match="429"):
            await creator.create(row)
        (row,) = await manifest.rows(RUN.id)
        began = clock.time = row.due
        row = await creator.create(row)
        assert "may have made a job (create of a job: the service answered 429)" in caplog.text
        await ctx.release(row, row.due)
        await refresh(ctx, RUN.id)
        (waiting,) = (await packtrain.status(spool.root)).waiting
        assert waiting.shards == 1
        assert waiting.due == pytest.approx(row.due, abs=5)
        assert "answered 429" in waiting.reason
        row = await settled(ctx, row, clock)
        assert (row.state, provider.posts) == (State.SUBMITTED, 2)
        assert clock.time - began < 60


async def test_a_job_that_never_started_is_followed_by_a_look_at_the_list() -> None:
    """A create of the same input file may have been accepted meanwhile."""
    provider, clock = Creating(refusal("refused", 400), made=False), SetClock()
    async with open_memory() as manifest:
        ctx, row = context(manifest, provider, clock), await uploaded(manifest)
        row = await ctx.record(row, CreateIntended(tag=OWN.display_name, intent_at=NOW))
        row = await ctx.record(row, JobAdopted(job="batches/early", submitted_at=NOW))
        row = await ctx.record(row, JobNeverStarted(due=clock.now(), reason="quota"))
        provider.rows = [structs.replace(OWN, name="batches/late")]
        row = await settled(ctx, row, clock)
        assert (row.state, row.job, provider.posts) == (State.SUBMITTED, "batches/late", 0)


async def test_a_shard_that_cannot_be_read_while_it_is_sent_leaves_an_ambiguous_create() -> None:
    """Where the create carries the lines, some of them may have arrived."""
    provider, clock = Creating(IntegrityError("cut short"), made=False), SetClock()
    async with open_memory() as manifest:
        row = await Creator(context(manifest, provider, clock)).create(await uploaded(manifest))
        assert row.state is State.RECONCILING


async def test_without_input_files_no_revocation_is_recorded() -> None:
    """Nothing could be deleted; the wait is longer instead, and then the next attempt begins."""
    provider, clock = Listed(), SetClock()
    provider.uploads, provider.rows = None, [structs.replace(OWN, display_name="somebody else's")]
    async with open_memory() as manifest:
        row = await uploaded(manifest)
        row = await manifest.write(Change(row, CreateIntended(tag=OWN.display_name, intent_at=NOW)))
        await manifest.write(Change(row, CreateAmbiguous(ambiguous_at=NOW, reason="no answer")))
        watcher = Watcher(context(manifest, provider, clock))
        while (row := (await manifest.rows(RUN.id))[0]).state is State.RECONCILING:
            assert clock.time < NOW + 7200
            clock.time += await watcher.look()
        assert row.state is State.SEALED
        assert clock.time >= NOW + 1200
        assert "Revoked" not in {entry.event for entry in await manifest.history(RUN.id)}


async def test_a_job_cancelled_by_hand_is_not_made_again_unless_it_is_asked_for(tmp_path: Path) -> None:
    """The run ends with a decision to make; a retry is one (A5)."""
    cancelled = Script(jobs=(1,), steps=(Step(state="CANCELLED", looks=10**6),))
    async with serving(tmp_path / "service", faults=FaultPlan(scripts=(cancelled,))) as origin:
        place = Place(tmp_path, origin)
        source = place.requests(4)

        async with packtrain.open_client(
            place.state, service=place.service, options=Options(shard_requests=2)
        ) as opened:
            for _ in range(2):
                with pytest.raises(DecisionNeeded, match="was cancelled at the service") as caught:
                    await opened.run(source, model="m", out=place.out)
                assert len(place.truth("batch_created")) == 2
            (number,) = caught.value.shards
            assert caught.value.candidates == {}
            (row,) = [row for row in place.truth("batch_created") if f".{number}.0.1." in row["displayName"]]
            with pytest.raises(DecisionRefused, match="nothing to adopt"):
                await opened.resolve(number, "adopt", job=row["name"])
            summary = await opened.retry(place.out)
        assert (summary.complete, summary.answered, summary.duplicates_healed) == (True, 4, 1)
        assert len(place.truth("batch_created")) == 3
