"""Conformance suite of manifests. Subclass ``ManifestSuite`` and give it a ``manifest`` fixture:

    class TestMine(ManifestSuite):
        @pytest.fixture
        def manifest(self, tmp_path):
            return functools.partial(open_mine, tmp_path / "mine")

Each call of the fixture's value opens the same storage again, as a process started again would. It takes ``clock``, a
function that gives the store's time in Unix seconds. A write loses its answer where the suite says so: ``cut`` is a
fixture that cuts the connection inside a write; by default it arms the failpoint of the write.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from typing import Protocol

import anyio
import pytest
from msgspec.structs import replace

from .._errors import Conflict, ManifestError, PacktrainError, QuotaFull, UnknownRun
from .._io.effects import armed
from .._manifest.base import Change, Child, Manifest, Outcome
from .._model import (
    Credential,
    Cursor,
    DuplicateJob,
    DuplicateState,
    ListPass,
    Quota,
    Reservation,
    Shard,
    ShardRow,
    SourceIdentity,
    State,
    Tally,
    Upload,
)
from .._options import LONGEST_WAIT
from .._rules import lifecycle
from .._rules.generations import latest, total
from .._rules.submission import suspicion
from .lives import BYTES, LINES, OTHER, RUN, SECRET, claimed, life, live, sealed, shard

LANDED = lifecycle.Landed(tally=Tally(answered=LINES - 1, failed=1, again=1))


class OpenManifest(Protocol):
    """How the storage of a test is opened."""

    def __call__(self, *, clock: Callable[[], float] = ...) -> AbstractAsyncContextManager[Manifest]: ...


#: Cuts the connection inside the write of an event of this name, ``before`` or ``after`` its commit.
Cut = Callable[[str, str], AbstractContextManager[object]]


class Clock:
    """The store's time, moved by hand."""

    def __init__(self, now: float = 1_000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


class RunSuite:
    """Runs, their inputs, cursors and outputs."""

    async def test_instance_stays(self, manifest: OpenManifest) -> None:
        """The instance is 8 hex digits, made once for a manifest and not for a handle."""
        async with manifest() as held:
            instance = held.instance
        async with manifest() as again:
            assert again.instance == instance
        assert len(instance) == 8
        assert set(instance) <= set("0123456789abcdef")

    async def test_key_mark_stays(self, manifest: OpenManifest) -> None:
        """The mark of the last key is there at the next start; there is none at first."""
        async with manifest() as held:
            assert await held.credential() is None
            await held.set_credential(Credential("salt", "first", "https://one.example"))
            await held.set_credential(Credential("salt", "second", "https://two.example"))
        async with manifest() as again:
            assert await again.credential() == Credential("salt", "second", "https://two.example")

    async def test_recovered_run_stays_one(self, manifest: OpenManifest) -> None:
        """What the run begins with is there at every start."""
        async with manifest() as held:
            await held.open_run(replace(RUN, recovered=True))
        async with manifest() as again:
            assert (await again.open_run(RUN)).recovered

    async def test_run_is_taken_up(self, manifest: OpenManifest) -> None:
        """The same run opened again is the stored one: its token is made once."""
        async with manifest() as held:
            assert await held.open_run(RUN) == RUN
        async with manifest() as again:
            assert await again.open_run(replace(RUN, token=OTHER.token)) == RUN

    async def test_other_fingerprint_is_refused(self, manifest: OpenManifest) -> None:
        """The same id with another fingerprint is another run, and changes nothing."""
        async with manifest() as held:
            await held.open_run(RUN)
            for settings, difference in (
                ({"model": "other"}, f"model {RUN.model} then and other now"),
                ({"join": not RUN.join}, "join .* then and .* now"),
                ({"limits": replace(RUN.limits, shard_bytes=5)}, f"bytes {RUN.limits.shard_bytes} then and 5 now"),
                ({}, "a directory of parts"),
            ):
                with pytest.raises(ManifestError, match=difference):
                    await held.open_run(replace(RUN, fingerprint="changed", **settings))
            assert await held.find_run(RUN.id) == RUN

    async def test_token_is_unique(self, manifest: OpenManifest) -> None:
        """Two runs with one token would make the same remote names."""
        async with manifest() as held:
            await held.open_run(RUN)
            with pytest.raises(ManifestError, match="token"):
                await held.open_run(replace(OTHER, token=RUN.token))

    async def test_runs_in_order(self, manifest: OpenManifest) -> None:
        """Runs are listed whole, in the order in which they were opened."""
        async with manifest() as held:
            assert await held.runs() == []
            for run in (OTHER, RUN):
                await held.open_run(run)
            assert await held.runs() == [OTHER, RUN]

    async def test_unknown_run(self, manifest: OpenManifest) -> None:
        """An unknown run is not found, has no rows, and nothing can be stored for it."""
        async with manifest() as held:
            assert await held.find_run("unknown") is None
            assert await held.claim("unknown", set(State)) == []
            assert await held.rows("unknown") == []
            assert await held.history("unknown") == []
            assert await held.duplicate_jobs("unknown") == []
            for refused in (
                held.cursor("unknown"),
                held.statistics("unknown"),
                held.publish("unknown", "ab"),
                held.published("unknown"),
                held.move("unknown", Cursor()),
                held.keep_sources("unknown", []),
                held.seal(shard(0, "unknown"), Cursor()),
                held.reopen("unknown", []),
            ):
                with pytest.raises(ManifestError, match="unknown"):
                    await refused

    async def test_sources_keep_the_marks_that_shards_were_cut_from(self, manifest: OpenManifest) -> None:
        """Until there is a shard the inputs may still be put right; a name need not be Unicode."""
        first = [
            SourceIdentity("b.jsonl", 7, 1_700_000_000_123_456_789),
            SourceIdentity("a\udcff.jsonl"),
            SourceIdentity("-"),
        ]
        async with manifest() as held:
            await held.open_run(RUN)
            assert await held.keep_sources(RUN.id, [SourceIdentity("b.jsonl", 6, 5)]) == [
                SourceIdentity("b.jsonl", 6, 5)
            ]
            assert await held.keep_sources(RUN.id, first) == first
            await held.seal(shard(0), Cursor(shards=1))
        async with manifest() as again:
            assert await again.keep_sources(RUN.id, [SourceIdentity("b.jsonl", 8, 9)]) == first

    async def test_cursor_moves(self, manifest: OpenManifest) -> None:
        """The cursor is zero at first, and stays where it was moved."""
        there = Cursor(source=1, offset=2**40, line=3, lines=4, valid=2, bytes=2**41, done=True)
        async with manifest() as held:
            await held.open_run(RUN)
            assert await held.cursor(RUN.id) == Cursor()
            await held.move(RUN.id, there)
        async with manifest() as again:
            assert await again.cursor(RUN.id) == there

    async def test_seal_enters_shard_job_and_cursor(self, manifest: OpenManifest) -> None:
        """A shard, its job and the cursor come into the manifest together."""
        async with manifest() as held:
            await sealed(held, 2)
        async with manifest() as again:
            rows = await again.rows(RUN.id)
            assert [(row.shard, row.state, row.attempt, row.fence) for row in rows] == [
                (0, State.SEALED, 0, 0),
                (1, State.SEALED, 0, 0),
            ]
            assert await again.shard(rows[1]) == shard(1)
            assert (await again.cursor(RUN.id)).shards == 2

    async def test_seal_with_what_is_known_already(self, manifest: OpenManifest) -> None:
        """The events are applied at once, with their lines in the history; no claim comes before them."""
        doubt = suspicion(RUN.token, shard(0), 2, 7.5)
        async with manifest() as held:
            await held.open_run(RUN)
            await held.seal(shard(0), Cursor(shards=1), doubt)
            assert await held.claim(RUN.id, {State.SEALED}) == []
            (row,) = await held.rows(RUN.id)
            assert (row.state, row.attempt, row.file, row.tag) == (State.RECONCILING, 2, doubt.file, doubt.tag)
            assert [entry.event for entry in await held.history(RUN.id)] == ["CreateSuspected"]

    async def test_refused_seal_leaves_the_cursor(self, manifest: OpenManifest) -> None:
        """A shard that is there already is refused, and the cursor does not move without it."""
        async with manifest() as held:
            await sealed(held, 1)
            with pytest.raises(ManifestError, match="in the manifest already"):
                await held.seal(replace(shard(0), sha256="ef" * 32), Cursor(shards=9))
            assert (await held.cursor(RUN.id)).shards == 1
            assert await held.shard((await held.rows(RUN.id))[0]) == shard(0)

    async def test_unknown_shard(self, manifest: OpenManifest) -> None:
        """A job of a shard that was never sealed has none."""
        async with manifest() as held:
            await sealed(held, 1)
            (row,) = await held.rows(RUN.id)
            with pytest.raises(ManifestError, match="no shard 7"):
                await held.shard(replace(row, shard=7))

    async def test_publish(self, manifest: OpenManifest) -> None:
        """The output's digest is there once it is published, also for the next start."""
        async with manifest() as held:
            await held.open_run(RUN)
            assert await held.published(RUN.id) is None
            await held.publish(RUN.id, "ab" * 32)
        async with manifest() as again:
            assert await again.published(RUN.id) == "ab" * 32
            assert (await again.statistics(RUN.id)).merged


class ClaimSuite:
    """Who may work on a job."""

    async def test_lowest_shard_first(self, manifest: OpenManifest) -> None:
        """Claims go by shard across states, no more than asked for, and never twice to anybody."""
        async with manifest() as held:
            await sealed(held, 5)
            row = await claimed(held)
            await held.write(Change(await live(held, row, State.UPLOADED), release=True))
            states = {State.UPLOADED, State.SEALED}
            first = await held.claim(RUN.id, states, limit=2)
            rest = await held.claim(RUN.id, states, limit=9)
            assert [row.shard for row in first + rest] == [0, 1, 2, 3, 4]
            assert [row.state for row in first] == [State.UPLOADED, State.SEALED]
            assert await held.claim(RUN.id, states) == []

    async def test_only_these_states_of_this_run(self, manifest: OpenManifest) -> None:
        """A claim takes jobs of the run and the states it names."""
        async with manifest() as held:
            await sealed(held, 1)
            await sealed(held, 1, OTHER)
            assert await held.claim(RUN.id, set(State) - {State.SEALED}) == []
            assert [row.run for row in await held.claim(RUN.id, {State.SEALED}, limit=9)] == [RUN.id]

    async def test_due_by_the_clock_of_the_store(self, manifest: OpenManifest) -> None:
        """A row given back with a wait is due that long after the write, whatever time the caller has."""
        clock = Clock()
        async with manifest(clock=clock) as held:
            await sealed(held, 1)
            row = await held.write(Change(await claimed(held), release=True, wait=100.5))
            assert (row.due, row.owner) == (1_100.5, None)
            clock.now += 100.0
            assert await held.claim(RUN.id, {State.SEALED}) == []
            clock.now += 0.5
            row = await claimed(held)
            assert row.due == 1_100.5
            await held.write(Change(row, release=True))
            assert len(await held.claim(RUN.id, {State.SEALED})) == 1

    async def test_due_of_an_event_by_the_clock_of_the_store(self, manifest: OpenManifest) -> None:
        """The row and the history name the store's time, not the caller's."""
        clock = Clock()
        async with manifest(clock=clock) as held:
            await sealed(held, 1)
            row = await live(held, await claimed(held), State.CREATE_INTENT)
            deferred = lifecycle.CreateDeferred(due=7.0, reason="r")
            row = await held.write(Change(row, deferred, release=True, wait=60.0))
            assert (row.due, row.owner, row.state) == (1_060.0, None, State.UPLOADED)
            assert await held.rows(RUN.id) == [row]
            assert '"due":1060.0' in (await held.history(RUN.id))[-1].detail
            assert await held.claim(RUN.id, {State.UPLOADED}) == []

    async def test_due_after_the_clock_was_set_back(self, manifest: OpenManifest) -> None:
        """A clock that was set back does not hold a row for longer than any wait lasts."""
        clock = Clock(86_400.0)
        async with manifest(clock=clock) as held:
            await sealed(held, 1)
            await held.write(Change(await claimed(held), release=True, wait=LONGEST_WAIT))
            assert await held.claim(RUN.id, {State.SEALED}) == []
            clock.now -= 1.0
            assert len(await held.claim(RUN.id, {State.SEALED})) == 1

    async def test_release_by_an_older_row_of_the_claim(self, manifest: OpenManifest) -> None:
        """Whoever holds a claim gives it back, however far the job has come since; an older claim cannot."""
        async with manifest() as held:
            await sealed(held, 1)
            first = await claimed(held)
            await live(held, first, State.UPLOADING)
            await held.write(Change(first, release=True))
            (second,) = await held.claim(RUN.id, {State.UPLOADING})
            with pytest.raises(ManifestError, match="nothing was written"):
                await held.write(Change(first, release=True))
            assert await held.claim(RUN.id, {State.UPLOADING}) == []
            await held.write(Change(second, release=True))

    async def test_fence_grows(self, manifest: OpenManifest) -> None:
        """Every claim has a higher fence than the one before, also across starts."""
        async with manifest() as held:
            await sealed(held, 1)
            first = await claimed(held)
            await held.write(Change(first, release=True))
            second = await claimed(held)
        async with manifest() as again:
            third = await claimed(again)
        assert first.fence < second.fence < third.fence

    async def test_claims_die_with_the_handle(self, manifest: OpenManifest) -> None:
        """A job that was held when its driver went is free for the next, which shuts the old one out."""
        async with manifest() as held:
            await sealed(held, 1)
            old = await claimed(held)
        async with manifest() as again:
            await claimed(again)
            with pytest.raises(ManifestError, match="claim"):
                await again.write(Change(old, life(0)[0]))

    async def test_cancelled_holder_gives_back(self, manifest: OpenManifest) -> None:
        """A release is done even by a task that was cancelled."""
        async with manifest() as held:
            await sealed(held, 1)
            row = await claimed(held)
            with anyio.CancelScope() as scope:
                scope.cancel()
                await held.write(Change(row, release=True))
            assert (await claimed(held)).shard == 0

    async def test_cancelled_claim_takes_nothing(self, manifest: OpenManifest) -> None:
        """A claim of a task that is cancelled already is not made."""
        async with manifest() as held:
            await sealed(held, 1)
            with anyio.CancelScope() as scope:
                scope.cancel()
                await claimed(held)
            assert (await claimed(held)).fence == 1

    async def test_hundred_tasks(self, manifest: OpenManifest) -> None:
        """However many claim at once, each job is worked on by one, and none is left out."""
        worked: list[int] = []

        async def work(held: Manifest) -> None:
            while rows := await held.claim(RUN.id, {State.SEALED}):
                worked.append(rows[0].shard)
                await held.write(Change(await live(held, rows[0], State.CLOSED), release=True))

        async with manifest() as held:
            await sealed(held, 150)
            async with anyio.create_task_group() as tasks:
                for _ in range(100):
                    tasks.start_soon(work, held)
            assert sorted(worked) == list(range(150))
            assert (await held.statistics(RUN.id)).states == {State.CLOSED: 150}
            assert len(await held.history(RUN.id)) == 150 * len(life(0))


class RecordSuite:
    """What happened to a job."""

    async def test_whole_life(self, manifest: OpenManifest) -> None:
        """Each event leaves the row as ``advance`` has it, readable by the next start."""
        async with manifest() as held:
            await sealed(held, 1)
        for event in life(0):
            async with manifest() as held:
                (row,) = await held.claim(RUN.id, set(State))
                after = await held.write(Change(row, event))
                assert after == replace(lifecycle.advance(row, event), version=row.version + 1)
                assert await held.rows(RUN.id) == [after]

    async def test_second_attempt_clears_what_it_must(self, manifest: OpenManifest) -> None:
        """An event that sets a field to nothing leaves nothing in the row."""
        async with manifest() as held:
            await sealed(held, 1)
            row = await live(held, await claimed(held), State.UPLOADED)
            row = await held.write(Change(row, lifecycle.FileUnusable(reason="too old"), release=True))
        async with manifest() as again:
            (stored,) = await again.rows(RUN.id)
        assert stored == row
        assert (stored.state, stored.file, stored.file_expires_at) == (State.SEALED, None, None)

    async def test_record_writes_history(self, manifest: OpenManifest) -> None:
        """Every change has its line, in order, with what was before and after, and never a session's address."""
        async with manifest() as held:
            await sealed(held, 2)
            await live(held, await claimed(held), State.CLOSED)
            await live(held, await claimed(held), State.UPLOADING)
        async with manifest() as again:
            lines = await again.history(RUN.id, 0)
            assert [line.event for line in lines] == [type(event).__name__ for event in life(0)]
            assert [line.before for line in lines[1:]] == [line.after for line in lines[:-1]]
            assert {line.attempt for line in lines} == {1}
            assert [line.at for line in lines] == sorted(line.at for line in lines)
            assert lines[5].detail == lifecycle.detail(life(0)[5])
            assert SECRET not in repr(await again.history(RUN.id))
            assert len(await again.history(RUN.id)) == len(lines) + 1

    @pytest.mark.parametrize("field", ["fence", "attempt", "state"])
    async def test_stale_record_changes_nothing(self, manifest: OpenManifest, field: str) -> None:
        """A row that moved on since it was read is not written, and no line of history either."""
        async with manifest() as held:
            await sealed(held, 1)
            row = await live(held, await claimed(held), State.UPLOADING)
            stale = replace(row, **{field: {"fence": 0, "attempt": 3, "state": State.FINALIZING}[field]})
            with pytest.raises(ManifestError, match="nothing was written"):
                await held.write(Change(stale, lifecycle.FileReady(file_expires_at=1.0)))
            assert await held.rows(RUN.id) == [row]
            assert len(await held.history(RUN.id)) == 1
            assert await held.claim(RUN.id, set(State)) == []

    async def test_event_outside_the_table(self, manifest: OpenManifest) -> None:
        """An event that may not follow is refused, and changes nothing."""
        async with manifest() as held:
            await sealed(held, 1)
            row = await claimed(held)
            with pytest.raises(ManifestError, match="cannot follow"):
                await held.write(Change(row, lifecycle.Closed()))
            assert await held.rows(RUN.id) == [row]
            assert await held.history(RUN.id) == []

    async def test_batch_is_unique(self, manifest: OpenManifest) -> None:
        """One remote job never belongs to two shards, whatever the run."""
        async with manifest() as held:
            await sealed(held, 1)
            await sealed(held, 1, OTHER)
            await live(held, await claimed(held), State.SUBMITTED)
            row = await claimed(held, run=OTHER.id)
            upload = Upload(size=BYTES)
            row = await held.write(Change(row, lifecycle.UploadIntended(attempt=1, file="files/x", upload=upload)))
            row = await held.write(Change(row, lifecycle.FileReady(file_expires_at=None)))
            with pytest.raises(ManifestError, match="another shard has the same"):
                await held.write(Change(row, lifecycle.JobAdopted(job="batches/0", submitted_at=1.0)))
            assert await held.rows(OTHER.id) == [row]
            assert len(await held.history(OTHER.id)) == 2

    async def test_file_is_unique(self, manifest: OpenManifest) -> None:
        """One input file never belongs to two shards, so that a revocation meets no other."""
        async with manifest() as held:
            await sealed(held, 2)
            await live(held, await claimed(held), State.UPLOADING)
            row = await claimed(held)
            with pytest.raises(ManifestError, match="another shard has the same"):
                await held.write(Change(row, replace(life(1)[0], file="files/in0")))
            assert (await held.rows(RUN.id, {State.SEALED})) == [row]

    async def test_jobs_by_state(self, manifest: OpenManifest) -> None:
        """Jobs are listed lowest shard first, of the states asked for; of no state, none."""
        async with manifest() as held:
            await sealed(held, 3)
            row = await live(held, await claimed(held), State.UPLOADED)
            assert await held.rows(RUN.id, {State.UPLOADED}) == [row]
            assert [row.shard for row in await held.rows(RUN.id, set(State))] == [0, 1, 2]
            assert await held.rows(RUN.id, ()) == []


class DuplicateJobSuite:
    """Jobs too many."""

    async def test_noted_extras_stay(self, manifest: OpenManifest) -> None:
        """Each job once, with its latest state, of its own run alone; those that wait for a person heal nothing."""
        first = DuplicateJob(job="batches/y", shard=1, attempt=2, state=DuplicateState.CANCELLING)
        second = DuplicateJob(job="batches/z", shard=0, generation=1, attempt=1, state=DuplicateState.SEEN)
        async with manifest() as held:
            await held.open_run(RUN)
            await held.open_run(OTHER)
            await held.note(RUN.id, first)
            await held.note(RUN.id, second)
            assert (await held.statistics(RUN.id)).duplicates_live == 1
            await held.note(RUN.id, replace(first, state=DuplicateState.ENDED))
        async with manifest() as again:
            assert await again.duplicate_jobs(RUN.id) == [second, replace(first, state=DuplicateState.ENDED)]
            assert await again.duplicate_jobs(OTHER.id) == []
            statistics = await again.statistics(RUN.id)
            assert (statistics.duplicates_healed, statistics.duplicates_live) == (1, 0)
            with pytest.raises(ManifestError, match="unknown"):
                await again.note("unknown", first)

    async def test_extras_come_with_an_event_or_not_at_all(self, manifest: OpenManifest) -> None:
        """One write: refused, it leaves neither."""
        duplicate = DuplicateJob(job="batches/b", shard=0, attempt=1, state=DuplicateState.CANCELLING)
        async with manifest() as held:
            await sealed(held, 1)
            row = await claimed(held)
            with pytest.raises(ManifestError, match="no longer"):
                await held.write(
                    Change(replace(row, fence=7), lifecycle.Quarantined(reason="r"), duplicate_jobs=(duplicate,))
                )
            assert await held.duplicate_jobs(RUN.id) == []
            await held.write(Change(row, lifecycle.Quarantined(reason="r"), duplicate_jobs=(duplicate,)))
        async with manifest() as again:
            assert await again.duplicate_jobs(RUN.id) == [duplicate]

    async def test_an_adopted_job_is_no_extra(self, manifest: OpenManifest) -> None:
        """Whatever was thought of it before."""
        async with manifest() as held:
            await sealed(held, 1)
            await held.note(RUN.id, DuplicateJob(job="batches/0", shard=0, attempt=1, state=DuplicateState.CANCELLING))
            await live(held, await claimed(held), State.SUBMITTED)
            assert await held.duplicate_jobs(RUN.id) == []
            assert (await held.statistics(RUN.id)).duplicates_healed == 0


class RetrySuite:
    """Generations of a shard."""

    async def test_child_comes_with_the_event(self, manifest: OpenManifest) -> None:
        """The next generation is in the manifest, ready to be claimed, as soon as its parent's answers are."""
        child = replace(shard(0), generation=1, parent=0, cause="retry", depth=1, lines=1, bytes=90)
        async with manifest() as held:
            await sealed(held, 1)
            row = await live(held, await claimed(held), State.ENDED)
            await held.write(Change(row, LANDED, children=(Child(child),)))
        async with manifest() as again:
            (new,) = await again.claim(RUN.id, {State.SEALED}, limit=9)
            assert (new.shard, new.generation, new.attempt) == (0, 1, 0)
            assert await again.shard(new) == child
            assert [(row.generation, row.state) for row in await again.rows(RUN.id)] == [
                (0, State.LANDED),
                (1, State.SEALED),
            ]

    async def test_child_and_event_come_together_or_not_at_all(self, manifest: OpenManifest) -> None:
        """A next generation that is there already is refused, and the event with it; a stale event brings no child."""
        child = replace(shard(0), generation=1, parent=0, cause="retry", depth=1)
        async with manifest() as held:
            await sealed(held, 1)
            row = await live(held, await claimed(held), State.ENDED)
            with pytest.raises(ManifestError, match="nothing was written"):
                await held.write(Change(replace(row, fence=row.fence + 1), LANDED, children=(Child(child),)))
            with pytest.raises(ManifestError, match="in the manifest already"):
                await held.write(Change(row, LANDED, children=(Child(shard(0)),)))
            assert await held.rows(RUN.id) == [row]
            assert [line.event for line in await held.history(RUN.id)][-1] == "JobEnded"
            await held.write(Change(row, LANDED, children=(Child(child),)))

    async def test_last_landed_generation_counts(self, manifest: OpenManifest) -> None:
        """A tally speaks for all generations before it; what was asked again, and lost, is counted apart."""
        async with manifest() as held:
            await sealed(held, 2)
            row = await live(held, await claimed(held), State.ENDED)
            child = replace(shard(0), generation=1, parent=0, cause="retry", depth=1, lines=4)
            await held.write(
                Change(row, lifecycle.Landed(tally=Tally(answered=6, failed=4, again=4)), children=(Child(child),))
            )
            found = await held.statistics(RUN.id)
            assert (found.tally, found.retried, found.lost) == (Tally(answered=6, failed=4, again=4), 4, 0)
            (row,) = await held.claim(RUN.id, {State.SEALED})
            assert row.generation == 1
            for event in [replace(life(0)[0], file="files/1"), *life(0)[1:5]]:
                row = await held.write(Change(row, event))
            row = await held.write(Change(row, lifecycle.JobAdopted(job="batches/1", submitted_at=1.0)))
            row = await held.write(Change(row, lifecycle.JobEnded(result="files/r")))
            row = await held.write(Change(row, lifecycle.ResultLost(reason="expired")))
            assert (row.state, row.result, row.reason) == (State.ENDED, None, "expired")
            await held.write(Change(row, lifecycle.Landed(tally=Tally(answered=6, failed=4))))
        async with manifest() as again:
            found = await again.statistics(RUN.id)
        assert (found.tally, found.retried, found.lost) == (Tally(answered=6, failed=4), 4, 4)
        assert found.jobs_created == 2

    async def test_reopened(self, manifest: OpenManifest) -> None:
        """A published run takes on more generations, all at once, and is not published until it is again."""
        children = [replace(shard(index), generation=1, parent=0, cause="retry", depth=1) for index in range(2)]
        async with manifest() as held:
            await sealed(held, 2)
            with pytest.raises(ManifestError, match="not published"):
                await held.reopen(RUN.id, [Child(each) for each in children])
            await held.publish(RUN.id, "ab" * 32)
            with pytest.raises(ManifestError, match="in the manifest already"):
                await held.reopen(RUN.id, [Child(each) for each in (*children, shard(1))])
            assert await held.published(RUN.id) == "ab" * 32
            assert len(await held.rows(RUN.id)) == 2
            await held.reopen(RUN.id, [Child(each) for each in children])
        async with manifest() as again:
            assert await again.published(RUN.id) is None
            assert [(row.shard, row.generation) for row in await again.rows(RUN.id)] == [(0, 0), (0, 1), (1, 0), (1, 1)]
            assert (await again.cursor(RUN.id)).shards == 2


class TreeSuite:
    """Generations of which one has several children."""

    async def test_children_come_together_and_count_once(self, manifest: OpenManifest) -> None:
        """A parent is closed with all its children or with none; sums never count a line twice."""
        children = [part(number, parent=0, lines=5) for number in (1, 2)]
        async with manifest() as held:
            await sealed(held, 1)
            row = await live(held, await claimed(held), State.ENDED)
            landed = lifecycle.Landed(tally=Tally(answered=0, failed=10, missing=10, again=10))
            with pytest.raises(Conflict, match="in the manifest already"):
                await held.write(Change(row, landed, children=(*map(Child, children), Child(shard(0)))))
            assert await held.rows(RUN.id) == [row]
            row = await held.write(Change(row, landed, children=tuple(map(Child, children))))
            await held.write(Change(row, lifecycle.Closed(), release=True))
            statistics = await held.statistics(RUN.id)
            assert (statistics.tally, statistics.retried) == (Tally(failed=10, again=10), 0)
            assert statistics.states == {State.CLOSED: 1, State.SEALED: 2}
            row = await ended(held, 1)
            assert (row.generation, row.parent, row.cause, row.depth) == (1, 0, "capacity", 1)
            await held.write(Change(row, lifecycle.Landed(tally=Tally(answered=4, failed=1, missing=1, bytes=40))))
            found = (await held.statistics(RUN.id)).tally
            assert found == Tally(answered=4, failed=6, missing=1, again=5, bytes=40)
            row = await ended(held, 2)
            await held.write(Change(row, lifecycle.Landed(tally=Tally(answered=5, unknown=2, bytes=60))))
        async with manifest() as again:
            found = (await again.statistics(RUN.id)).tally
            assert found == Tally(answered=9, failed=1, missing=1, unknown=2, bytes=100)

    async def test_an_only_child_below_siblings_takes_the_place_of_one(self, manifest: OpenManifest) -> None:
        """Deep trees add up as ``generations.total`` has it."""
        async with manifest() as held:
            await sealed(held, 1)
            row = await live(held, await claimed(held), State.ENDED)
            landed = lifecycle.Landed(tally=Tally(answered=2, failed=8, again=8, bytes=20))
            children = tuple(Child(part(number, parent=0, lines=4)) for number in (1, 2))
            await held.write(Change(row, landed, children=children))
            below = Child(replace(part(3, parent=1, lines=1), cause="retry", depth=2))
            landed = lifecycle.Landed(tally=Tally(answered=3, failed=1, again=1, bytes=30))
            await held.write(Change(await ended(held, 1), landed, children=(below,)))
            assert (await held.statistics(RUN.id)).tally == Tally(answered=5, failed=5, again=5, bytes=50)
            await held.write(Change(await ended(held, 3), lifecycle.Landed(tally=Tally(answered=4, bytes=41))))
            rows = await held.rows(RUN.id, shard=0)
            statistics = await held.statistics(RUN.id)
            assert statistics.tally == Tally(answered=6, failed=4, again=4, bytes=61)
            assert statistics.retried == 1
            lines = {(row.shard, row.generation): (await held.shard(row)).lines for row in rows}
            assert total(rows, lines) == statistics.tally
            assert [row.generation for row in latest(rows)] == [0, 3, 2]

    async def test_children_need_the_tally_of_their_parent(self, manifest: OpenManifest) -> None:
        """Or the sums would not say what became of the parent's lines."""
        async with manifest() as held:
            await sealed(held, 1)
            row = await claimed(held)
            with pytest.raises(Conflict, match="with the tally of their parent"):
                await held.write(Change(row, life(0)[0], children=(Child(part(1, parent=0, lines=5)),)))
            assert await held.rows(RUN.id) == [row]

    async def test_rows_of_one_shard(self, manifest: OpenManifest) -> None:
        """All its generations, or those in some states, and no other shard's."""
        async with manifest() as held:
            await sealed(held, 2)
            row = await live(held, await claimed(held), State.ENDED)
            child = replace(part(1, parent=0, lines=1), cause="retry")
            await held.write(Change(row, LANDED, children=(Child(child),)))
            assert [row.generation for row in await held.rows(RUN.id, shard=0)] == [0, 1]
            assert [row.generation for row in await held.rows(RUN.id, {State.SEALED}, shard=0)] == [1]
            assert await held.rows(RUN.id, shard=5) == []


class NodeSuite:
    """Several nodes on one manifest: leases, fencing tokens, list passes and quota."""

    async def test_a_claim_names_its_owner(self, manifest: OpenManifest) -> None:
        """A row that a node has claimed is written by that node alone, until it is released."""
        async with manifest() as held:
            await sealed(held, 1)
            node = (await held.lease(60.0, name="n1")).node
            (row,) = await held.claim(RUN.id, {State.SEALED}, node=node)
            assert row.owner == node
            for other in (None, node + 1):
                with pytest.raises(Conflict, match="nothing was written"):
                    await held.write(Change(replace(row, owner=other), life(0)[0]))
                with pytest.raises(Conflict, match="nothing was written"):
                    await held.write(Change(replace(row, owner=other), release=True))
            row = await held.write(Change(row, life(0)[0], release=True))
            assert row.owner is None
            assert (await held.claim(RUN.id, {State.UPLOADING}))[0].fence == row.fence + 1

    async def test_a_dead_node_is_taken_over(self, manifest: OpenManifest) -> None:
        """Its rows are free, with new fencing tokens; its late writes, claims and beats are refused."""
        clock = Clock()
        async with manifest(clock=clock) as held:
            await sealed(held, 3)
            lease = await held.lease(60.0)
            alive = (await held.lease(60.0)).node
            assert lease.until == 1_060.0
            (late,) = await held.claim(RUN.id, {State.SEALED}, node=lease.node)
            (kept,) = await held.claim(RUN.id, {State.SEALED}, node=alive)
            (own,) = await held.claim(RUN.id, {State.SEALED})
            clock.now += 60.0
            assert await held.take_over() == 0
            clock.now += 1.0
            assert (await held.lease(60.0, node=alive)).until == 1_121.0
            assert await held.take_over() == 1
            assert await held.take_over() == 0
            rows = await held.rows(RUN.id)
            assert rows == [replace(late, owner=None, fence=late.fence + 1), kept, own]
            with pytest.raises(Conflict, match="nothing was written"):
                await held.write(Change(late, life(0)[0]))
            with pytest.raises(Conflict, match="nothing was written"):
                await held.write(Change(late, release=True))
            for refused in (held.lease(60.0, node=lease.node), held.claim(RUN.id, set(State), node=lease.node)):
                with pytest.raises(Conflict, match="has no lease"):
                    await refused
            (row,) = await held.claim(RUN.id, {State.SEALED}, node=alive)
            assert row.fence == late.fence + 2

    async def test_a_lease_that_ran_out_untaken_goes_on(self, manifest: OpenManifest) -> None:
        """An outage of the manifest alone costs no node its rows."""
        clock = Clock()
        async with manifest(clock=clock) as held:
            await sealed(held, 1)
            node = (await held.lease(60.0)).node
            (row,) = await held.claim(RUN.id, {State.SEALED}, node=node)
            clock.now += 1e6
            await held.lease(60.0, node=node)
            assert await held.take_over() == 0
            await held.write(Change(row, life(0)[0]))

    async def test_takeover_keeps_a_wait(self, manifest: OpenManifest) -> None:
        """What the service asked us to wait is waited, whichever node goes on."""
        clock = Clock()
        async with manifest(clock=clock) as held:
            await sealed(held, 1)
            node = (await held.lease(10.0)).node
            (row,) = await held.claim(RUN.id, {State.SEALED}, node=node)
            await held.write(Change(row, wait=100.0))
            clock.now += 50.0
            assert await held.take_over() == 1
            assert await held.claim(RUN.id, {State.SEALED}) == []
            clock.now += 50.0
            assert len(await held.claim(RUN.id, {State.SEALED})) == 1

    async def test_list_passes(self, manifest: OpenManifest) -> None:
        """Those that began after a time, in order, of their own run."""
        passes = [
            ListPass(began_at=float(at), ended_at=at + 2.5, valid=bool(at % 2), control_at=at - 9.0 if at else None)
            for at in range(4)
        ]
        async with manifest() as held:
            await held.open_run(RUN)
            await held.open_run(OTHER)
            assert await held.passes(RUN.id, -1.0) == []
            for done in passes:
                await held.note_pass(RUN.id, done)
            await held.note_pass(OTHER.id, passes[0])
            with pytest.raises(UnknownRun):
                await held.note_pass("unknown", passes[0])
        async with manifest() as again:
            assert await again.passes(RUN.id, -1.0) == passes
            assert await again.passes(RUN.id, 1.0) == passes[2:]
            assert await again.passes(OTHER.id, -1.0) == passes[:1]

    async def test_quota_is_reserved_with_the_create_intent(self, manifest: OpenManifest) -> None:
        """Both or nothing: what does not fit leaves the row as it was; a stale write reserves nothing."""
        tokens = Reservation(service="s", what="tokens", amount=60)
        jobs = Reservation(service="s", what="jobs", amount=1)
        async with manifest() as held:
            await sealed(held, 2)
            await held.set_quota("s", "tokens", 100)
            await held.set_quota("s", "jobs", 5)
            rows = [await live(held, await claimed(held), State.UPLOADED) for _ in range(2)]
            first = await held.write(Change(rows[0], life(0)[4], reserve=(jobs, tokens)))
            assert used(await held.quotas("s")) == {"jobs": 1, "tokens": 60}
            with pytest.raises(QuotaFull) as refused:
                await held.write(Change(rows[1], life(1)[4], reserve=(jobs, tokens)))
            assert (refused.value.used, refused.value.most) == (60, 100)
            with pytest.raises(Conflict, match="no longer"):
                await held.write(Change(rows[0], life(0)[4], reserve=(jobs,)))
            with pytest.raises(Conflict, match="no quota"):
                await held.write(Change(rows[1], life(1)[4], reserve=(replace(jobs, service="t"),)))
            assert await held.rows(RUN.id) == [first, rows[1]]
            assert used(await held.quotas("s")) == {"jobs": 1, "tokens": 60}
        async with manifest() as again:
            assert used(await again.quotas("s")) == {"jobs": 1, "tokens": 60}
            assert await again.quotas("t") == []

    async def test_quota_is_given_back_when_the_job_ends(self, manifest: OpenManifest) -> None:
        """What the row has reserved, exactly, once; a lower limit holds from then on."""
        tokens = Reservation(service="s", what="tokens", amount=60)
        async with manifest() as held:
            await sealed(held, 2)
            await held.set_quota("s", "tokens", 100)
            row = await live(held, await claimed(held), State.UPLOADED)
            row = await held.write(Change(row, life(0)[4], reserve=(tokens,)))
            row = await held.write(Change(row, life(0)[5]))
            await held.set_quota("s", "tokens", 50)
            row = await held.write(Change(row, life(0)[6], free=True))
            assert await held.quotas("s") == [Quota(service="s", what="tokens", used=0, most=50)]
            await held.write(Change(row, life(0)[7], free=True))
            assert used(await held.quotas("s")) == {"tokens": 0}
            row = await live(held, await claimed(held), State.UPLOADED)
            with pytest.raises(QuotaFull):
                await held.write(Change(row, life(1)[4], reserve=(tokens,)))

    async def test_quota_counts_its_rows(self, manifest: OpenManifest) -> None:
        """Many writers at once never pass the limit, and the counter is the sum of what is reserved."""
        job = Reservation(service="s", what="jobs", amount=1)
        went: list[int] = []

        async def create(held: Manifest, row: ShardRow) -> None:
            try:
                await held.write(Change(row, life(row.shard)[4], reserve=(job,)))
                went.append(row.shard)
            except QuotaFull:
                pass

        async with manifest() as held:
            await sealed(held, 12)
            await held.set_quota("s", "jobs", 5)
            rows = [await live(held, await claimed(held), State.UPLOADED) for _ in range(12)]
            async with anyio.create_task_group() as tasks:
                for row in rows:
                    tasks.start_soon(create, held, row)
            assert len(went) == 5
            assert used(await held.quotas("s")) == {"jobs": 5}
            assert [row.shard for row in await held.rows(RUN.id, {State.CREATE_INTENT})] == sorted(went)


class LostAnswerSuite:
    """A write whose answer does not come: the connection is cut inside it."""

    @pytest.fixture
    def cut(self) -> Cut:
        """Cuts before or after the commit; by default at the failpoint that carries the event's name."""
        return lambda event, side: armed(f"manifest.{event}.{side}=raise:EIO")

    @pytest.mark.parametrize(("side", "outcome"), [("before", Outcome.NOT_WRITTEN), ("after", Outcome.WRITTEN)])
    async def test_a_lost_answer_is_read_back(
        self, manifest: OpenManifest, cut: Cut, side: str, outcome: Outcome
    ) -> None:
        """The write raises; reading back says whether it is there, and until then it is unknown or known for sure."""
        async with manifest() as held:
            await sealed(held, 2)
        with cut("UploadIntended", side):
            async with manifest() as held:
                row = await claimed(held)
                change = Change(row, life(0)[0])
                with pytest.raises(PacktrainError):
                    await held.write(change)
                assert await held.outcome(change) in (Outcome.UNKNOWN, outcome)
        async with manifest() as again:
            assert await again.outcome(change) is outcome
            states = [row.state for row in await again.rows(RUN.id)]
            assert (states[0] is State.UPLOADING) is (outcome is Outcome.WRITTEN)
            assert len(await again.history(RUN.id)) == (outcome is Outcome.WRITTEN)

    async def test_an_outcome_is_not_that_of_a_later_claim(self, manifest: OpenManifest) -> None:
        """The same event written under another fencing token is another write."""
        async with manifest() as held:
            await sealed(held, 1)
            first = Change(await claimed(held), life(0)[0])
        async with manifest() as again:
            assert await again.outcome(first) is Outcome.NOT_WRITTEN
            second = Change(await claimed(again), life(0)[0])
            row = await again.write(second)
            await again.write(Change(row, life(0)[1], release=True))
            assert await again.outcome(second) is Outcome.WRITTEN
            assert await again.outcome(first) is Outcome.NOT_WRITTEN
            assert await again.outcome(Change(replace(first.row, shard=7), life(0)[0])) is Outcome.NOT_WRITTEN

    async def test_outcome_of_a_release(self, manifest: OpenManifest) -> None:
        """Written once the row is free under the same fencing token."""
        async with manifest() as held:
            await sealed(held, 1)
            change = Change(await claimed(held), release=True)
            assert await held.outcome(change) is Outcome.NOT_WRITTEN
            await held.write(change)
            assert await held.outcome(change) is Outcome.WRITTEN


def part(number: int, *, parent: int, lines: int) -> Shard:
    """A piece of shard 0, split for its size."""
    return replace(
        shard(0), generation=number, parent=parent, cause="capacity", depth=1, lines=lines, bytes=lines * 100
    )


async def ended(manifest: Manifest, generation: int) -> ShardRow:
    """Bring a generation of shard 0 to the end of its job."""
    rows = {row.generation: row for row in await manifest.claim(RUN.id, {State.SEALED}, limit=9)}
    row = rows.pop(generation)
    for other in rows.values():
        await manifest.write(Change(other, release=True))
    upload = replace(life(0)[0], file=f"files/{generation}")
    known = lifecycle.JobAdopted(job=f"batches/0.{generation}", submitted_at=1.0)
    for event in (upload, *life(0)[1:5], known, lifecycle.JobEnded(result="files/r")):
        row = await manifest.write(Change(row, event))
    return row


def used(quotas: list[Quota]) -> dict[str, int]:
    return {quota.what: quota.used for quota in quotas}


class StatisticsSuite:
    """The snapshot of a run."""

    async def test_statistics(self, manifest: OpenManifest) -> None:
        """Counts and sums are those of the run's own shards, whatever else is in the manifest."""
        async with manifest() as held:
            await sealed(held, 4)
            await sealed(held, 3, OTHER)
            for until in (State.CLOSED, State.LANDED, State.SUBMITTED):
                await live(held, await claimed(held), until)
        async with manifest() as again:
            found = await again.statistics(RUN.id)
        assert found.states == {State.CLOSED: 1, State.LANDED: 1, State.SUBMITTED: 1, State.SEALED: 1}
        assert found.cursor == Cursor(shards=4, valid=4 * LINES)
        assert found.spooled_bytes == 2 * BYTES
        assert found.stored_bytes == 2 * BYTES
        assert found.uploaded_bytes == 3 * BYTES
        assert found.jobs_created == 3
        assert found.tally == Tally(answered=2 * (LINES - 1), failed=2, missing=2, bytes=1000)
        assert not found.merged

    async def test_second_attempt_is_uploaded_again(self, manifest: OpenManifest) -> None:
        """Bytes that went up twice count twice, a shard counts once."""
        async with manifest() as held:
            await sealed(held, 1)
            row = await live(held, await claimed(held), State.UPLOADED)
            row = await held.write(Change(row, lifecycle.FileUnusable(reason="gone")))
            upload = Upload(size=BYTES)
            row = await held.write(Change(row, lifecycle.UploadIntended(attempt=2, file="files/again", upload=upload)))
            await held.write(Change(row, lifecycle.FileReady(file_expires_at=None)))
            found = await held.statistics(RUN.id)
        assert found.uploaded_bytes == 2 * BYTES
        assert found.shards == 1

    async def test_empty_run(self, manifest: OpenManifest) -> None:
        """A run without shards has zeros everywhere."""
        async with manifest() as held:
            await held.open_run(RUN)
            found = await held.statistics(RUN.id)
        assert (found.states, found.tally, found.cursor) == ({}, Tally(), Cursor())


class ManifestSuite(
    RunSuite,
    ClaimSuite,
    RecordSuite,
    DuplicateJobSuite,
    RetrySuite,
    TreeSuite,
    NodeSuite,
    LostAnswerSuite,
    StatisticsSuite,
):
    """All of it."""
