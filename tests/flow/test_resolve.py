"""A person decides about a quarantined shard, and the run goes on."""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio
import pytest

import packtrain
from packtrain import Decision, IncompleteRun, InputError, ManifestError, Options, Service, State
from packtrain._manifest.base import Change
from packtrain._manifest.sqlite import open_sqlite
from packtrain._model import DuplicateState
from packtrain._rules.lifecycle import Quarantined
from packtrain.testing import armed
from packtrain.testing.proxy import open_proxy
from tests.flow.place import Place, read_lines
from tests.flow.test_duplicates import run, twin

if TYPE_CHECKING:
    from packtrain import ShardRow

POLICY = Options(on_ambiguous="quarantine")
#: Nobody listens there: retry and drop ask nothing.
NOWHERE = Service(origin="http://127.0.0.1:9")


async def stuck(place: Place) -> ShardRow:
    """A run whose only shard is quarantined, because its create was lost; its row."""
    source = place.requests(3)
    async with open_proxy(place.origin) as proxy:
        proxy.refuse = b":batchGenerateContent"
        service = place.service_at(proxy.origin)
        async with packtrain.open_client(place.state, service=service, options=POLICY) as client:
            with pytest.raises(IncompleteRun, match="left no job"), anyio.fail_after(100):
                await client.run(source, model="m-1", out=place.out)
    return await row(place)


async def row(place: Place) -> ShardRow:
    async with open_sqlite(place.state / "manifest.db") as manifest:
        (row,) = await manifest.rows("main")
        return row


async def decide(place: Place, decision: Decision, job: str | None = None, shard: int = 0) -> ShardRow:
    service = NOWHERE if job is None else place.service
    async with packtrain.open_client(place.state, service=service) as client:
        return await client.resolve(shard, decision, job=job)


async def test_retry_makes_one_more_attempt(place: Place) -> None:
    """With a file of its own; the file of the attempt that was given up is revoked before the create."""
    before = await stuck(place)
    after = await decide(place, "retry")
    assert (after.state, after.attempt) == (State.UPLOADING, 2)
    summary = await run(place, POLICY)
    assert (summary.answered, summary.failed, summary.jobs_created) == (3, 0, 1)
    assert [entry["file"] for entry in place.truth("batch_created")] == [f"files/{after.file}"]
    assert f"files/{before.file}" in [entry["name"] for entry in place.truth("file_deleted")]


async def test_retry_finds_a_job_that_shows_up_late(place: Place) -> None:
    """And adopts it instead of making another one."""
    before = await stuck(place)
    await decide(place, "retry")
    late = await twin(place, before.tag)
    summary = await run(place, POLICY)
    assert (summary.answered, summary.duplicates_healed) == (3, 0)
    assert [entry["name"] for entry in place.truth("batch_created")] == [late]


async def test_retry_gives_up_a_job_that_was_shown_before(place: Place) -> None:
    """The person knew of it, and decided for another one: it is counted as one too many, and never read."""
    before = await stuck(place)
    shown = await twin(place, before.tag)
    with pytest.raises(IncompleteRun):
        await run(place, POLICY)
    await decide(place, "retry")
    summary = await run(place, POLICY)
    assert (summary.answered, summary.jobs_created, summary.duplicates_healed) == (3, 1, 1)
    assert (await row(place)).job != shown
    assert len(place.truth("batch_created")) == 2


@pytest.mark.parametrize("decision", ["retry", "drop"])
async def test_a_decision_that_was_not_recorded_cancels_nothing(place: Place, decision: Decision) -> None:
    """Stopped before its one transaction, the job that was shown still waits for a person."""
    before = await stuck(place)
    await twin(place, before.tag)
    with pytest.raises(IncompleteRun):
        await run(place, POLICY)
    with armed(f"manifest.{decision.title()}Decided.before=raise:EIO"), pytest.raises(IncompleteRun):
        await decide(place, decision)
    async with open_sqlite(place.state / "manifest.db") as manifest:
        assert [duplicate.state for duplicate in await manifest.duplicate_jobs("main")] == [DuplicateState.SEEN]
    assert await row(place) == before


async def test_drop_fails_all_lines_with_the_reason(place: Place) -> None:
    """The run is complete then."""
    await stuck(place)
    assert (await decide(place, "drop")).state is State.ENDED
    summary = await run(place, POLICY)
    assert (summary.complete, summary.answered, summary.failed) == (True, 0, 3)
    failed = read_lines(place.root / "out.jsonl.failed.jsonl")
    assert all("dropped by a person's decision" in str(line) for line in failed)
    assert place.truth("batch_created") == []


async def test_adopt_takes_the_job_that_was_named(place: Place) -> None:
    """It was found by a person; it is checked to be of this shard, and then goes the way of all jobs."""
    before = await stuck(place)
    job = await twin(place, before.tag)
    assert (await decide(place, "adopt", job)).state is State.SUBMITTED
    summary = await run(place, POLICY)
    assert (summary.answered, summary.jobs_created, summary.duplicates_healed) == (3, 1, 0)
    assert len(place.truth("batch_created")) == 1


async def test_adopt_goes_on_with_the_job_that_the_shard_had(place: Place) -> None:
    """As after a quarantine for its age; it is no second job."""
    before = await stuck(place)
    job = await twin(place, before.tag)
    await decide(place, "adopt", job)
    async with open_sqlite(place.state / "manifest.db") as manifest:
        (row,) = await manifest.rows("main")
        await manifest.write(Change(row, Quarantined(reason="it is too old")))
    assert (await decide(place, "adopt", job)).job == job
    summary = await run(place, POLICY)
    assert (summary.answered, summary.jobs_created, summary.duplicates_healed) == (3, 1, 0)


async def test_only_a_job_of_the_same_content_can_be_adopted(place: Place) -> None:
    """Neither one that there is not, nor one of somebody else, nor what is no job."""
    before = await stuck(place)
    other = await twin(place, "somebody else's")
    for name, reason in (("batches/none", "no such job"), (other, "no name of shard 0"), ("files/x", "not the name")):
        with pytest.raises(InputError, match=reason):
            await decide(place, "adopt", name)
    assert await row(place) == before


async def test_there_is_nothing_to_decide_about_other_shards(place: Place) -> None:
    """Nor while somebody drives the run."""
    await stuck(place)
    for number in (-1, 1):
        with pytest.raises(InputError, match=f"there is no shard {number}; shards are 0 to 0"):
            await decide(place, "drop", shard=number)
    async with packtrain.open_client(place.state, service=place.service) as client:
        with pytest.raises(ManifestError, match="in use"):
            await decide(place, "drop")
        with pytest.raises(InputError, match="no run 'other'"):
            await client.resolve(0, "drop", run_id="other")
