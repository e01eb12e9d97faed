"""The life of a shard: the table is total, and its promises hold along every path."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from packtrain._errors import ManifestError
from packtrain._model import ShardRow, State, Tally, Upload
from packtrain._rules import lifecycle
from packtrain._rules.lifecycle import (
    AMBIGUOUS,
    COLLECT,
    CREATE,
    LIVE,
    SETTLED,
    SPOOLED,
    STORED,
    TABLE,
    UPLOAD,
    WATCHED,
    AttemptAbandoned,
    Closed,
    CreateAmbiguous,
    CreateDeferred,
    CreateIntended,
    CreateRejected,
    CreateSuspected,
    DropDecided,
    Event,
    FileNamed,
    FileReady,
    FileUnusable,
    FinalizeIntended,
    JobAdopted,
    JobEnded,
    JobKept,
    JobNeverStarted,
    Landed,
    PartStored,
    Quarantined,
    ResultLost,
    RetryDecided,
    Revoked,
    RevokeIntended,
    UploadIntended,
    UploadLost,
    UploadOpened,
    UploadRested,
    advance,
    detail,
)

SECRET = "http://127.0.0.1/upload?upload_id=secret"
UP = Upload(size=10, session=SECRET)
SAMPLES: tuple[Event, ...] = (
    UploadIntended(attempt=1, file="files/a", upload=Upload(size=10)),
    UploadOpened(upload=UP),
    UploadLost(upload=Upload(size=10), reason="gone"),
    UploadRested(upload=Upload(size=10, rests=1), reason="no progress"),
    FinalizeIntended(upload=UP),
    PartStored(upload=Upload(size=10, parts=("id-0",))),
    FileNamed(file="file-1"),
    FileReady(file_expires_at=1e9),
    FileUnusable(reason="damaged"),
    CreateIntended(tag="t", intent_at=1.0),
    CreateDeferred(due=2.0, reason="quota"),
    CreateRejected(reason="bad line"),
    CreateAmbiguous(ambiguous_at=3.0, reason="lost reply"),
    CreateSuspected(attempt=1, file="files/a", tag="t", ambiguous_at=3.5, reason="a copy"),
    JobAdopted(job="batches/b", submitted_at=4.0),
    RevokeIntended(),
    Revoked(ambiguous_at=5.0),
    AttemptAbandoned(reason="absent"),
    JobEnded(result="files/r"),
    JobNeverStarted(due=7.0, reason="enqueued tokens"),
    ResultLost(reason="expired"),
    Landed(tally=Tally(answered=1)),
    Closed(),
    Quarantined(reason="two jobs"),
    JobKept(submitted_at=6.0, reason="wait on"),
    RetryDecided(attempt=4, file="files/d", upload=Upload(size=10), reason="once more"),
    DropDecided(reason="let it be"),
)
EVENT = {type(event): event for event in SAMPLES}


def test_every_event_is_in_the_table_and_has_a_sample() -> None:
    """An event that the table forgets could never be recorded."""
    kinds = {kind for kind in vars(lifecycle).values() if isinstance(kind, type) and issubclass(kind, Event)}
    assert kinds - {Event} == set(TABLE) == set(EVENT)


def test_every_state_belongs_to_exactly_one_lane() -> None:
    """A state without a lane would never be left; one in two lanes would be worked on twice."""
    lanes = (UPLOAD, CREATE, WATCHED, AMBIGUOUS, COLLECT, SETTLED)
    assert sorted(state for lane in lanes for state in lane) == sorted(State)


def test_every_state_can_be_reached_and_left_unless_it_is_settled() -> None:
    """No state is a trap, and none is for show."""
    reached = {after for _, after in TABLE.values() if after} | {State.SEALED}
    left = set().union(*(before for before, _ in TABLE.values()))
    assert reached == set(State)
    assert left == set(State) - {State.CLOSED}


def test_out_of_a_quarantine_leads_a_persons_decision_alone() -> None:
    """To the job that was named, to one more attempt, or to the end."""
    out = {event for event, (before, _) in TABLE.items() if State.QUARANTINED in before}
    assert out == {JobAdopted, JobKept, RetryDecided, DropDecided}


@pytest.mark.parametrize("state", list(State))
@pytest.mark.parametrize("event", SAMPLES, ids=lambda event: type(event).__name__)
def test_an_event_leads_where_the_table_says_or_is_refused(state: State, event: Event) -> None:
    """All pairs of state and event, so that nothing is allowed by accident."""
    row = ShardRow(run="r", shard=7, state=state, attempt=1)
    allowed, after = TABLE[type(event)]
    if state in allowed:
        assert advance(row, event).state is (after or state)
    else:
        with pytest.raises(ManifestError, match="shard 7"):
            advance(row, event)


@pytest.mark.parametrize("event", SAMPLES, ids=lambda event: type(event).__name__)
def test_an_event_sets_its_own_fields_and_no_other(event: Event) -> None:
    """What an event does not speak of stays."""
    allowed, after = TABLE[type(event)]
    before = ShardRow(
        run="r", shard=1, state=min(allowed), attempt=1, fence=9, file="files/x", job="batches/y", reason="z"
    )
    fields = msgspec.structs.asdict(event)
    assert advance(before, event) == msgspec.structs.replace(before, state=after or before.state, **fields)


def test_a_create_needs_a_recorded_intent() -> None:
    """A job becomes ours only out of an intent, an ambiguous create, a look made because of one, or by a person's
    decision."""
    by_itself = {State.UPLOADED, State.CREATE_INTENT, State.RECONCILING, State.REVOKED}
    assert TABLE[JobAdopted][0] == by_itself | {State.QUARANTINED}
    assert TABLE[CreateIntended] == (frozenset({State.UPLOADED}), State.CREATE_INTENT)


def test_only_a_known_job_is_downloaded() -> None:
    """A duplicate may cost money, but never enters the output."""
    assert TABLE[JobEnded][0] == {State.SUBMITTED}
    assert {event for event, (_, after) in TABLE.items() if after is State.SUBMITTED} == {JobAdopted, JobKept}
    assert TABLE[Landed][0] == {State.ENDED}


@given(st.lists(st.sampled_from(SAMPLES), max_size=60))
def test_along_any_path_an_attempt_begins_only_when_the_last_one_is_over(events: list[Event]) -> None:
    """Between two upload intents of a shard lies a spoiled file or an attempt abandoned after a look."""
    row, over = ShardRow(run="r", shard=0), True
    for event in events:
        try:
            row = advance(row, event)
        except ManifestError:
            continue
        if isinstance(event, UploadIntended):
            assert over
            over = False
        over = over or isinstance(event, FileUnusable | AttemptAbandoned)


def test_what_may_be_live_or_stored_counts_until_it_is_known_to_be_gone() -> None:
    """Quotas err on the side of too little."""
    assert {State.CREATE_INTENT, State.RECONCILING, State.REVOKED, State.SUBMITTED} <= LIVE
    assert State.UPLOADING in STORED and State.LANDED in STORED and State.CLOSED not in STORED
    assert State.SUBMITTED in SPOOLED and State.LANDED not in SPOOLED and State.QUARANTINED not in SPOOLED


@pytest.mark.parametrize("event", SAMPLES, ids=lambda event: type(event).__name__)
def test_the_history_does_not_hold_the_upload_address(event: Event) -> None:
    """Whoever knows the address can write to the file."""
    assert "upload_id" not in detail(event)
