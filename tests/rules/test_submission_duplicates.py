"""Which jobs are a shard's own, and which are too many."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from packtrain._model import DuplicateState, JobState, Limits, RemoteJob, Run, Shard, ShardRow, State
from packtrain._rules import naming
from packtrain._rules.submission import candidate, extra_of, find_extras, mismatch, plight

TOKEN = naming.token_from(bytes(range(16)))
LIMITS = Limits(shard_bytes=1, live_jobs=1, stored_bytes=1)
RUN = Run(id="r", token=TOKEN, fingerprint="", model="m-1", task="generate", limits=LIMITS)
SHARD = Shard(run="r", index=3, bytes=9, lines=5, sha256="ab" * 32, first=0, last=4)
TAG = naming.job_tag(TOKEN, SHARD, 1)
LIVE = RemoteJob(name="batches/extra", state=JobState.RUNNING, display_name=TAG, requests=5, model="models/m-1")


def found(row: ShardRow | None, job: RemoteJob = LIVE) -> list[DuplicateState]:
    return [duplicate.state for duplicate in find_extras(TOKEN, [job], [row] if row else [])]


def shard_row(state: State, job: str | None = None) -> ShardRow:
    return ShardRow(run="r", shard=3, state=state, job=job, tag=TAG)


@pytest.mark.parametrize("state", [State.SUBMITTED, State.ENDED, State.LANDED, State.CLOSED])
def test_a_job_beside_the_adopted_one_is_cancelled(state: State) -> None:
    """However far the adopted one has come; what has ended already is told as it ended."""
    row = shard_row(state, "batches/own")
    assert found(row) == [DuplicateState.CANCELLING]
    assert found(row, replace(LIVE, state=JobState.CANCELLED)) == [DuplicateState.CANCELLED]
    assert found(row, replace(LIVE, state=JobState.SUCCEEDED)) == [DuplicateState.ENDED]


@pytest.mark.parametrize("state", sorted(set(State) - {State.QUARANTINED, State.CLOSED, State.ENDED, State.LANDED}))
def test_while_no_job_is_adopted_none_is_too_many(state: State) -> None:
    """Its maker may be one commit away from recording it."""
    assert found(shard_row(state)) == []


def test_what_nobody_will_adopt_waits_for_a_person() -> None:
    """Reported, and not touched: the shard is stuck, was given up, or is not in this manifest."""
    assert found(shard_row(State.QUARANTINED)) == [DuplicateState.SEEN]
    assert found(shard_row(State.QUARANTINED, "batches/own")) == [DuplicateState.SEEN]
    assert found(shard_row(State.CLOSED)) == [DuplicateState.SEEN]
    assert found(None) == [DuplicateState.SEEN]


def test_neither_the_adopted_job_nor_those_of_others_are_extras() -> None:
    """The adopted one is known by its name, ours by the run's token."""
    assert found(shard_row(State.SUBMITTED, LIVE.name)) == []
    other = naming.job_tag(naming.token_from(bytes(16)), SHARD, 1)
    assert found(shard_row(State.SUBMITTED, "batches/own"), replace(LIVE, display_name=other)) == []


def test_a_job_of_other_content_is_not_taken_for_the_shards() -> None:
    """Lines, digest, model and number of requests must all be the shard's, as far as the service tells them."""
    assert mismatch(LIVE, RUN, SHARD) is None
    assert mismatch(replace(LIVE, requests=None, model=""), RUN, SHARD) is None
    for strange in (
        replace(LIVE, requests=4),
        replace(LIVE, model="models/m-2"),
        replace(LIVE, display_name=naming.job_tag(TOKEN, replace(SHARD, lines=4), 1)),
        replace(LIVE, display_name=naming.job_tag(TOKEN, replace(SHARD, sha256="cd" * 32), 1)),
        replace(LIVE, display_name=naming.job_tag(TOKEN, replace(SHARD, index=30), 1)),
        replace(LIVE, display_name="renamed"),
    ):
        assert LIVE.name in (mismatch(strange, RUN, SHARD) or "")


def test_a_quarantined_shard_names_the_job_to_adopt() -> None:
    """The one that the service shows, or the name to look for; nothing where no create ever went out."""
    row = replace(shard_row(State.QUARANTINED), reason="stuck")
    tag = naming.read_tag(TOKEN, TAG)
    assert tag is not None
    seen, other = extra_of(tag, LIVE, DuplicateState.SEEN), extra_of(tag, LIVE, DuplicateState.CANCELLED)
    assert plight(row, [seen]) == "stuck; the service shows batches/extra for it"
    assert candidate(row, [seen]) == "batches/extra"
    assert candidate(row, [other]) is None
    assert plight(row, [other, replace(seen, shard=4)]) == f"stuck; a job of it would be called {TAG}"
    assert plight(replace(row, tag=None), []) == "stuck"
