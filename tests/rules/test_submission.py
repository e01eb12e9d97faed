"""The paid decision, case by case: evidence in, decision out."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from packtrain._errors import ApiError, PacktrainError, ProtocolError, Refusal, TransportError
from packtrain._model import (
    DuplicateJob,
    DuplicateState,
    Entry,
    JobState,
    Limits,
    RemoteJob,
    Run,
    Shard,
    ShardRow,
    State,
)
from packtrain._options import Ambiguity, Policy
from packtrain._rules import naming, submission
from packtrain._rules.lifecycle import Event, JobAdopted, JobEnded, JobNeverStarted, Quarantined, ResultLost, detail
from packtrain._rules.submission import (
    Adopt,
    Evidence,
    Moment,
    Outcome,
    Overdue,
    Pass,
    Quarantine,
    Retry,
    Revoke,
    Shown,
    Sightings,
    Step,
    Terms,
    Wait,
    classify,
    weigh,
)

HOUR, DAY = 3600.0, 24 * 3600.0
SETTLE = 900.0
TOKEN = naming.token_from(bytes(range(16)))
LIMITS = Limits(shard_bytes=1, live_jobs=1, stored_bytes=1)
RUN = Run(id="r", token=TOKEN, fingerprint="", model="m-1", task="generate", limits=LIMITS)
SHARD = Shard(run="r", index=3, bytes=9, lines=5, sha256="ab" * 32, first=0, last=4)
TAG = naming.job_tag(TOKEN, SHARD, 1)
FILE = naming.file_name(TOKEN, 3, 0, 1)
LIVE = RemoteJob(name="batches/own", state=JobState.RUNNING, display_name=TAG, requests=5, model="models/m-1")
NOW = Moment(monotonic=50.0, local=1e9, service=1e9 + 7)


def terms(policy: Policy | None = None, on_ambiguous: Ambiguity = "revoke") -> Terms:
    return Terms(RUN, policy or Policy(), SETTLE, on_ambiguous)


def row_in(state: State, **values: Any) -> ShardRow:
    return replace(ShardRow(run="r", shard=3, state=state, attempt=1, file=FILE, tag=TAG), **values)


# The outcome of a create


def refusal(kind: Refusal | None, status: int = 400) -> ApiError:
    return ApiError("no", status=status, kind=kind)


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (TransportError("refused", sent=False), Outcome.NOT_SENT),
        (TransportError("reset", sent=True), Outcome.AMBIGUOUS),
        (ProtocolError("200 with half a body"), Outcome.AMBIGUOUS),
        *((refusal(None, status), Outcome.AMBIGUOUS) for status in (301, 400, 403, 429, 500, 503)),
        (refusal("absent"), Outcome.AMBIGUOUS),
        (refusal("throttled"), Outcome.THROTTLED),
        (refusal("file_gone"), Outcome.FILE_GONE),
        (refusal("barred"), Outcome.BARRED),
        (refusal("refused"), Outcome.REFUSED),
    ],
    ids=str,
)
def test_the_class_of_a_failed_create(error: PacktrainError, outcome: Outcome) -> None:
    """Only what the provider calls definite counts as a refusal; the rest is ambiguous."""
    assert classify(error, proven=True) is outcome


def test_a_refusal_of_the_first_create_may_concern_the_run() -> None:
    """Before any create was accepted, the cause may be the model rather than the content of one shard."""
    assert classify(refusal("refused"), proven=False) is Outcome.SUSPECT


@pytest.mark.parametrize(
    ("left", "local", "service", "soon"),
    [
        (2 * HOUR - 1, 0.0, 0.0, True),
        (2 * HOUR, 0.0, 0.0, False),
        (2 * HOUR, 4 * DAY, 0.0, None),
        (2 * HOUR, 0.0, 4 * DAY, None),
        (2 * HOUR - 1, -4 * DAY, 0.0, None),
        (0.0, 0.0, None, None),
        (None, 0.0, 0.0, False),
    ],
)
def test_a_file_is_too_old_by_both_clocks(
    left: float | None, local: float, service: float | None, soon: bool | None
) -> None:
    """A false alarm costs an attempt, and either clock may be days off: then the file itself is looked at."""
    now = Moment(0.0, 1e9 + local, None if service is None else 1e9 + service)
    row = row_in(State.UPLOADED, file_expires_at=None if left is None else 1e9 + left)
    assert submission.expires_soon(row, now, Policy()) is soon


@pytest.mark.parametrize(
    ("left", "service", "kept"),
    [(48 * HOUR, 0.0, True), (2 * HOUR - 1, 0.0, False), (48 * HOUR, 4 * DAY, False), (48 * HOUR, None, True)],
)
def test_a_file_that_was_uploaded_just_now_has_not_expired(left: float, service: float | None, kept: bool) -> None:
    """Where its end of life contradicts that, none is known."""
    now = Moment(0.0, 1e9, None if service is None else 1e9 + service)
    assert submission.plausible_expiry(1e9 + left, now, Policy()) == (1e9 + left if kept else None)
    assert submission.plausible_expiry(None, now, Policy()) is None


# The search for a job


OLD, YOUNG = {"batches/old": 5.0}, {"batches/old": 5.0, "batches/young": 15.0}


@pytest.mark.parametrize(
    ("shown", "known", "weight"),
    [
        ((), {}, Pass.UNCONTROLLED),
        (("batches/other",), {}, Pass.UNCONTROLLED),
        ((), OLD, Pass.VOID),
        (("batches/old",), OLD, Pass.CONTROLLED),
        (("batches/old",), YOUNG, Pass.VOID),
        (("batches/old", "batches/young"), YOUNG, Pass.CONTROLLED),
    ],
)
def test_the_weight_of_a_pass(shown: tuple[str, ...], known: dict[str, float], weight: Pass) -> None:
    """It must show a known job, and one younger than the create, if there is one: the list may lag."""
    assert weigh(frozenset(shown), known, 10.0) is weight


def test_the_jobs_that_a_list_should_show() -> None:
    """Each with the earlier of the two times of its create; not those of quarantined shards."""
    rows = [
        row_in(State.SUBMITTED, job="batches/1", intent_at=10.0, submitted_at=8.0),
        row_in(State.ENDED, job="batches/2", submitted_at=4.0),
        row_in(State.CLOSED, job="batches/3"),
        row_in(State.QUARANTINED, job="batches/4"),
        row_in(State.UPLOADED),
    ]
    assert submission.controls(rows) == {"batches/1": 8.0, "batches/2": 4.0, "batches/3": 0.0}


def after(times: list[float], weight: Pass, since: float = 0.0, evidence: Evidence | None = None) -> Evidence:
    evidence = evidence or Evidence(since)
    for at in times:
        evidence = evidence.after(at, weight)
    return evidence


def learned(shown: Shown, state: State = State.RECONCILING) -> Evidence:
    return submission.learn(Evidence(0.0), row_in(state, ambiguous_at=10.0, intent_at=10.0), shown, at(0.0))


def showing(*own: RemoteJob) -> Evidence:
    """After a pass that shows these jobs of the shard."""
    return learned(Shown(frozenset(job.name for job in own), own, {}))


def step(evidence: Evidence, state: State = State.RECONCILING, **values: Any) -> Step:
    on_ambiguous: Ambiguity = values.pop("on_ambiguous", "revoke")
    return submission.next_step(row_in(state, **values), SHARD, evidence, terms(on_ambiguous=on_ambiguous), 0.0)


@pytest.mark.parametrize(
    ("shown", "weight"),
    [
        (Shown(frozenset(), (), {}), Pass.UNCONTROLLED),
        (Shown(frozenset({"batches/x"}), (), {"batches/x": 0.0}), Pass.CONTROLLED),
        (Shown(frozenset(), (), {"batches/x": 0.0}), Pass.VOID),
        (Shown(frozenset({"batches/x"}), (), {"batches/x": 0.0}, whole=False), Pass.VOID),
        (Shown(frozenset(), (), {}, frozenset({"batches/x"})), Pass.UNCONTROLLED),
        (Shown(frozenset({"batches/x"}), (), {"batches/young": 15.0}, frozenset({"batches/x"})), Pass.VOID),
    ],
)
def test_what_a_pass_without_the_job_adds_to_the_evidence(shown: Shown, weight: Pass) -> None:
    """The list need not show a duplicate job; an unreadable job may be the one."""
    evidence = learned(shown)
    assert (evidence.last, evidence.found) == (weight, ())


@pytest.mark.parametrize(
    ("state", "weight"),
    [
        (State.UPLOADED, Pass.CONTROLLED),
        (State.RECONCILING, Pass.UNCONTROLLED),
        (State.REVOKED, Pass.UNCONTROLLED),
    ],
)
def test_a_duplicate_job_is_a_control_only_before_a_second_create(state: State, weight: Pass) -> None:
    """A list may be older than the job of an ambiguous create, and still show an old duplicate job."""
    assert learned(Shown(frozenset({"batches/x"}), (), {}, frozenset({"batches/x"})), state).last is weight


def test_an_old_duplicate_job_does_not_stand_in_for_a_job_that_the_list_must_show() -> None:
    """A replica that shows the duplicate job and not the adopted one is older than what is searched for."""
    stale = Shown(frozenset({"batches/x"}), (), {"batches/own": 5.0}, frozenset({"batches/x"}))
    assert learned(stale).last is Pass.VOID


C, U, V = Pass.CONTROLLED, Pass.UNCONTROLLED, Pass.VOID
ABSENCE = {
    "three controlled passes over the settling time": (after([0, 10, 900], C), True),
    "many quick passes": (after([0, 10, 20, 30, 899], C), False),
    "two controlled passes": (after([0, 900], C), False),
    "controlled passes, the last one void": (after([900], V, evidence=after([0, 10, 20], C)), False),
    "one more controlled pass after that": (after([910], C, evidence=after([900], V, evidence=after([0, 1], C))), True),
    "five uncontrolled passes over twice the time": (after([0, 10, 20, 900, 1800], U), True),
    "five uncontrolled passes, too quick": (after([0, 10, 20, 900, 1799], U), False),
    "four uncontrolled passes": (after([0, 10, 900, 1800], U), False),
    "controlled and uncontrolled passes": (after([900, 1800], U, evidence=after([0, 1, 2], C)), True),
    "void passes for a year": (after([900.0 * n for n in range(90)], V), False),
    "no pass at all": (Evidence(0.0), False),
}


@pytest.mark.parametrize(("evidence", "absent"), ABSENCE.values(), ids=ABSENCE)
def test_when_an_ambiguous_create_made_no_job(evidence: Evidence, absent: bool) -> None:
    """Neither many quick passes nor one late pass is enough."""
    assert isinstance(step(evidence), Revoke) is absent


@pytest.mark.parametrize(("on_ambiguous", "kind"), [("revoke", Revoke), ("wait", Retry), ("quarantine", Quarantine)])
def test_what_follows_from_absence_is_the_callers_choice(on_ambiguous: Ambiguity, kind: type[Step]) -> None:
    """Before a revocation; after one, and before a second create, absence leads to the next create."""
    absent = after([0, 10, 900], C)
    assert type(step(absent, on_ambiguous=on_ambiguous)) is kind
    assert type(step(absent, State.REVOKED, on_ambiguous=on_ambiguous)) is Retry
    assert type(step(absent, State.UPLOADED, intent_at=1.0, on_ambiguous=on_ambiguous)) is Retry


def test_after_a_revocation_only_the_lag_of_the_list_counts() -> None:
    """No create is accepted any more, so a third of the settling time is enough."""
    assert isinstance(step(after([0, 10, 300], C), State.REVOKED), Retry)
    assert isinstance(step(after([0, 10, 299], C), State.REVOKED), Wait)


@pytest.mark.parametrize(
    ("evidence", "intent_at", "kind"),
    [
        (after([5], C), 1.0, Wait),
        (after([0, 19], C), 1.0, Wait),
        (after([0, 20], C), 1.0, Retry),
        (after([0, 20], U), 1.0, Retry),
        (after([0, 10, 20], V, evidence=after([0], U)), 1.0, Wait),
        (after([20], U, evidence=after([0, 10], V)), 1.0, Wait),
        (after([5], V), None, Retry),
        (after([5], U), None, Retry),
    ],
)
def test_a_refused_create_made_no_job_when_two_passes_agree(
    evidence: Evidence, intent_at: float | None, kind: type[Step]
) -> None:
    """20 s apart, and none of them void (B16); where no create was sent there is nothing to prove."""
    assert type(step(evidence, State.UPLOADED, intent_at=intent_at)) is kind


def test_after_a_refusal_the_second_look_comes_after_twenty_seconds() -> None:
    """One in between would prove nothing."""
    first = step(after([0], U), State.UPLOADED, intent_at=1.0)
    assert first == Wait(20.0, 20.0)


def test_an_ambiguous_create_before_a_decision_needs_a_control_or_the_long_wait() -> None:
    """That a person decided to try again says nothing about the job of before."""
    ambiguous = {"intent_at": 1.0, "ambiguous_at": 2.0}
    assert isinstance(step(after([5], C), State.UPLOADED, **ambiguous), Wait)
    assert isinstance(step(after([0, 20], C), State.UPLOADED, **ambiguous), Retry)
    assert isinstance(step(after([0, 20], U), State.UPLOADED, **ambiguous), Wait)
    assert isinstance(step(after([0, 10, 20, 900, 1800], U), State.UPLOADED, **ambiguous), Retry)


def test_without_input_files_absence_takes_longer_and_nothing_is_revoked() -> None:
    """Nothing would make the service refuse a late create, so all of the wait comes before the next one."""
    row, inline = row_in(State.RECONCILING), Terms(RUN, Policy(), SETTLE, "revoke", revocable=False)
    early, late = after([0, 10, 1199], C), after([0, 10, 1200], C)
    assert isinstance(submission.next_step(row, SHARD, early, inline, 0.0), Wait)
    assert isinstance(submission.next_step(row, SHARD, late, inline, 0.0), Retry)


HOPELESS = {
    "void passes for a day": (after([0, 600, DAY], V), True),
    "not quite a day": (after([0, 600, DAY - 1], V), False),
    "two passes after a long pause": (after([DAY, DAY + 600], V), False),
    "a day since the start, but not since the last pass": (
        after([7200, 9000, DAY], V, evidence=after([3600], U)),
        False,
    ),
    "a day since the last pass that was not void": (
        after([7200, 9000, DAY + 3600], V, evidence=after([3600], U)),
        True,
    ),
}


@pytest.mark.parametrize(("evidence", "hopeless"), HOPELESS.values(), ids=HOPELESS)
@pytest.mark.parametrize("state", [State.RECONCILING, State.REVOKED, State.UPLOADED])
def test_a_day_of_void_passes_is_for_a_person(evidence: Evidence, hopeless: bool, state: State) -> None:
    """Whoever asks; no create follows by itself."""
    assert isinstance(step(evidence, state, intent_at=1.0), Quarantine) is hopeless


@given(st.floats(0, 1))
def test_looks_come_quickly_first_and_always_end(jitter: float) -> None:
    """A job that was made is found within seconds; one that was not is given up in bounded time."""
    evidence, times, row = Evidence(100.0), [100.0], row_in(State.RECONCILING)
    while True:
        evidence = evidence.after(times[-1], C)
        following = submission.next_step(row, SHARD, evidence, terms(), jitter)
        if not isinstance(following, Wait):
            break
        assert following.until >= times[-1] + 2
        times.append(following.until)
    assert isinstance(following, Revoke)
    assert times[5] <= 100.0 + 60
    assert len(times) <= 12
    assert SETTLE <= times[-1] - 100.0 <= 1.5 * SETTLE


@pytest.mark.parametrize(
    ("evidence", "until", "absent_at"),
    [
        (Evidence(10.0), 10.0, None),
        (after([10, 20], C, since=10.0), 30.0, 910.0),
        (after([10, 20], U, since=10.0), 30.0, 1810.0),
        (after([10, 20], V, since=10.0), 30.0, None),
        (after([50_000], C), 50_300.0, 900.0),
    ],
)
def test_the_next_look_and_the_end_of_the_search(evidence: Evidence, until: float, absent_at: float | None) -> None:
    """By passes like the last one; after a long stop looks still keep their distance."""
    assert step(evidence) == Wait(until, absent_at)


def test_evidence_counts_for_one_create_and_one_state() -> None:
    """Another driver may have gone on meanwhile; a search before a second create outlives a new input file."""
    row = row_in(State.RECONCILING)
    assert submission.question(row) == submission.question(replace(row, due=5.0))
    others = (replace(row, attempt=2), replace(row, state=State.REVOKED), replace(row, generation=1))
    assert submission.question(row) not in {submission.question(other) for other in others}
    uploaded = row_in(State.UPLOADED, intent_at=1.0)
    assert submission.question(uploaded) == submission.question(replace(uploaded, attempt=2))
    assert submission.question(uploaded) != submission.question(replace(uploaded, intent_at=2.0))


def test_a_job_is_searched_for_since_its_create_may_have_made_it() -> None:
    """Since the intent of a refused create, since the ambiguity of another one; now if neither is known."""
    assert submission.ambiguous_since(row_in(State.UPLOADED, intent_at=1.0, ambiguous_at=2.0), NOW) == 1.0
    assert submission.ambiguous_since(row_in(State.REVOKED, intent_at=1.0, ambiguous_at=2.0), NOW) == 2.0
    assert submission.ambiguous_since(row_in(State.UPLOADED), NOW) == NOW.local


def test_a_deletion_without_effect_is_asked_for_again() -> None:
    """After a tenth of the settling time."""
    assert submission.revocation_due(terms(), 100.0) == 190.0


# Adoption


def test_a_job_is_found_by_its_tag_or_by_its_input_file() -> None:
    """Of any attempt; not by the tag of shard 30, and not when it was given up."""
    row = row_in(State.RECONCILING, attempt=2, file="files/as-the-service-names-it")
    by_tag, by_file = LIVE, replace(LIVE, name="batches/2", display_name="", input_file=FILE)
    latest = replace(by_file, name="batches/3", display_name="renamed", input_file="files/as-the-service-names-it")
    other = naming.job_tag(TOKEN, replace(SHARD, index=30), 1)
    foreign = replace(LIVE, name="batches/4", display_name=other, input_file="files/x")
    jobs = [by_tag, by_file, latest, foreign]
    assert submission.own_jobs(TOKEN, row, jobs, []) == [by_tag, by_file]
    shown = submission.given_up(row, by_tag.name, DuplicateState.SEEN)
    assert submission.own_jobs(TOKEN, row, jobs, [shown, submission.given_up(row, by_file.name)]) == [by_tag]
    assert submission.own_jobs(TOKEN, row, [latest, foreign], []) == [latest], (
        "of another name, when it is the only one"
    )
    assert submission.input_files(TOKEN, row_in(State.SEALED, attempt=1, file=None)) == {FILE}


@pytest.mark.parametrize(
    "job",
    [
        LIVE,
        replace(LIVE, requests=None, model=""),
        replace(LIVE, display_name="", input_file=FILE),
        replace(LIVE, display_name="renamed by the service", input_file=FILE, requests=None),
    ],
)
def test_a_job_whose_data_agrees_is_adopted(job: RemoteJob) -> None:
    """Whether it bears the tag or only reads the file; by any step of the search, at once."""
    for state in (State.UPLOADED, State.RECONCILING, State.REVOKED):
        assert step(showing(job), state) == Adopt(job)


@pytest.mark.parametrize(
    "job",
    [
        replace(LIVE, requests=4),
        replace(LIVE, model="models/m-2"),
        replace(LIVE, display_name=naming.job_tag(TOKEN, replace(SHARD, lines=4), 1)),
        replace(LIVE, display_name=naming.job_tag(TOKEN, replace(SHARD, sha256="cd" * 32), 1)),
        replace(LIVE, display_name=naming.job_tag(TOKEN, replace(SHARD, index=30), 1)),
        replace(LIVE, display_name=naming.job_tag(TOKEN, replace(SHARD, index=30), 1), input_file=FILE),
        replace(LIVE, display_name="renamed"),
        replace(LIVE, display_name="", input_file=FILE, requests=4),
        replace(LIVE, display_name="", input_file=FILE, model="models/m-2"),
    ],
)
def test_a_job_of_other_content_is_for_a_person(job: RemoteJob) -> None:
    """Lines, digest, model and number of requests must all be the shard's, as far as the service shows them."""
    decided = step(showing(LIVE, job))
    assert isinstance(decided, Quarantine)
    assert LIVE.name in decided.reason


def test_of_several_jobs_the_furthest_then_the_oldest_is_adopted() -> None:
    """What is paid for already is not thrown away."""

    def job(name: str, state: JobState, at: float | None) -> RemoteJob:
        return replace(LIVE, name=f"batches/{name}", state=state, created_at=at)

    pending, running = job("a", JobState.PENDING, 1), job("b", JobState.RUNNING, 2)
    older, unknown = job("c", JobState.RUNNING, 1), job("d", JobState.FAILED, None)
    assert step(showing(pending, running)) == Adopt(running, (pending,))
    assert step(showing(running, older)) == Adopt(older, (running,))
    assert step(showing(unknown, pending)) == Adopt(pending, (unknown,))


# Duplicate jobs


def duplicates(row: ShardRow | None, job: RemoteJob) -> list[DuplicateState]:
    return [duplicate.state for duplicate in submission.find_duplicates(TOKEN, [job], [row] if row else [])]


EXTRA = replace(LIVE, name="batches/extra")
UNNAMED = replace(EXTRA, display_name="", input_file=FILE)


@pytest.mark.parametrize("state", [State.SUBMITTED, State.ENDED, State.LANDED, State.CLOSED])
@pytest.mark.parametrize("job", [EXTRA, UNNAMED])
def test_a_job_other_than_the_adopted_one_is_cancelled(state: State, job: RemoteJob) -> None:
    """However far the adopted one is; a job that has ended already is reported with its end."""
    row = row_in(state, job="batches/own")
    assert duplicates(row, job) == [DuplicateState.CANCELLING]
    assert duplicates(row, replace(job, state=JobState.CANCELLED)) == [DuplicateState.CANCELLED]
    assert duplicates(row, replace(job, state=JobState.SUCCEEDED)) == [DuplicateState.ENDED]


@pytest.mark.parametrize("state", sorted(set(State) - {State.QUARANTINED, State.CLOSED, State.ENDED, State.LANDED}))
def test_while_no_job_is_adopted_none_is_a_duplicate(state: State) -> None:
    """Its maker may be one commit away from recording it."""
    assert duplicates(row_in(state), EXTRA) == []
    assert duplicates(row_in(state), UNNAMED) == []


def test_a_job_that_no_driver_will_adopt_waits_for_a_person() -> None:
    """Reported, and left alone: the shard is quarantined, ended without a job, or is not in this manifest."""
    assert duplicates(row_in(State.QUARANTINED), EXTRA) == [DuplicateState.SEEN]
    assert duplicates(row_in(State.QUARANTINED, job="batches/own"), EXTRA) == [DuplicateState.SEEN]
    assert duplicates(row_in(State.CLOSED), EXTRA) == [DuplicateState.SEEN]
    assert duplicates(None, EXTRA) == [DuplicateState.SEEN]


@pytest.mark.parametrize(
    "job",
    [
        LIVE,
        replace(EXTRA, display_name=naming.job_tag(naming.token_from(bytes(16)), SHARD, 1)),
        replace(UNNAMED, display_name="made by a person from our file"),
        replace(UNNAMED, input_file="files/of-others"),
        replace(EXTRA, state=JobState.FAILED, never_started=True),
    ],
)
def test_a_job_that_is_no_duplicate(job: RemoteJob) -> None:
    """The adopted one, those of others, and one that the service refused before it ran: it costs nothing."""
    assert duplicates(row_in(State.SUBMITTED, job=LIVE.name), job) == []


def test_a_duplicate_is_recorded_when_it_is_news() -> None:
    """At first, and when one that waited for a person is to be cancelled or has ended."""
    seen, going = (
        submission.given_up(row_in(State.SUBMITTED), "batches/x", state) for state in list(DuplicateState)[:2]
    )
    assert submission.is_news(seen, {})
    assert submission.is_news(going, {"batches/x": DuplicateState.SEEN})
    assert not submission.is_news(seen, {"batches/x": DuplicateState.SEEN})
    assert not submission.is_news(going, {"batches/x": DuplicateState.CANCELLED})


def shown_as(state: DuplicateState, shard: int = 3) -> DuplicateJob:
    return DuplicateJob(job="batches/extra", shard=shard, attempt=1, state=state)


def test_a_quarantined_shard_names_the_job_to_adopt() -> None:
    """The one that the service shows, or its own, or the name to look for; nothing where no create was sent."""
    row = row_in(State.QUARANTINED, reason="stuck")
    seen, other = shown_as(DuplicateState.SEEN), shown_as(DuplicateState.CANCELLED)
    assert submission.plight(row, [seen]) == "stuck; the service shows batches/extra for it"
    assert (
        submission.plight(row, [other, shown_as(DuplicateState.SEEN, 4)]) == f"stuck; a job of it would be called {TAG}"
    )
    assert submission.plight(replace(row, tag=None), []) == "stuck"
    assert submission.plight(replace(row, reason=None, job="batches/own"), []) == "no reason is known"
    assert submission.candidate(row, [seen]) == "batches/extra"
    assert submission.candidate(row, [other]) is None
    assert submission.candidate(replace(row, job="batches/own"), [other]) == "batches/own"


def test_a_decision_against_all_jobs_cancels_the_shown_and_the_own() -> None:
    """A retry and a drop give up whatever the shard had or was shown with."""
    row = row_in(State.QUARANTINED)
    jobs = [shown_as(DuplicateState.SEEN), shown_as(DuplicateState.ENDED), shown_as(DuplicateState.SEEN, 4)]
    assert submission.left_jobs(row, jobs) == [shown_as(DuplicateState.CANCELLING)]
    own = submission.left_jobs(replace(row, job="batches/own"), [])
    assert [(duplicate.job, duplicate.state) for duplicate in own] == [("batches/own", DuplicateState.CANCELLING)]


# A look at a job

SUBMITTED = row_in(State.SUBMITTED, job=LIVE.name, submitted_at=1e9)


def at(seconds: float, *, service: bool = True) -> Moment:
    return Moment(seconds, 1e9 + seconds, 1e9 + seconds if service else None)


def looks(job: RemoteJob | None, times: list[float], row: ShardRow = SUBMITTED) -> list[object]:
    sightings = Sightings()
    return [submission.job_event(row, job, sightings, terms(), at(time)) for time in times]


ENDED = replace(LIVE, state=JobState.FAILED, reason="quota")
DEBOUNCED = {
    "neither listed nor found": (None, [0, 450, 899], [900], Quarantined),
    "succeeded without a result file": (replace(LIVE, state=JobState.SUCCEEDED), [0, 599], [600], Quarantined),
    "failed": (ENDED, [0, 59], [60], JobEnded),
    "expired without a reason": (replace(LIVE, state=JobState.EXPIRED), [0, 59], [60], JobEnded),
    "ended before it ran": (replace(ENDED, never_started=True), [0, 59], [60], JobNeverStarted),
    "ended before it ran, without a reason": (
        replace(ENDED, never_started=True, reason=""),
        [0, 59],
        [60],
        JobNeverStarted,
    ),
}


@pytest.mark.parametrize(("job", "early", "late", "kind"), DEBOUNCED.values(), ids=DEBOUNCED)
def test_an_implausible_reply_counts_after_several_looks(
    job: RemoteJob | None, early: list[float], late: list[float], kind: type[object]
) -> None:
    """And over some time: what follows is paid for again, or is for a person."""
    *before, last = looks(job, early + late)
    assert before == [None] * len(early)
    assert type(last) is kind
    assert looks(job, late) == [None]


def test_a_job_that_never_started_may_be_created_again() -> None:
    """With the same input file, some time later; job and intent are cleared."""
    (_, event) = looks(replace(ENDED, never_started=True), [0, 60])
    assert isinstance(event, JobNeverStarted)
    assert (event.due, event.job, event.submitted_at, event.intent_at) == (1e9 + 60 + 300, None, None, None)
    assert event.reason == "batches/own ended before it ran: quota"


@pytest.mark.parametrize(("before", "wait"), [(1, 600), (3, 2400), (4, 3600), (25, 3600)])
def test_jobs_that_never_start_are_made_less_and_less_often(before: int, wait: float) -> None:
    """What they lack may take hours."""
    sightings = Sightings()
    refused = replace(ENDED, never_started=True)
    _, event = (
        submission.job_event(SUBMITTED, refused, sightings, terms(), at(time), before=before) for time in (0, 60)
    )
    assert isinstance(event, JobNeverStarted)
    assert event.due == 1e9 + 60 + wait


def test_after_a_day_of_jobs_that_never_started_a_person_must_decide() -> None:
    """Without a bound they would be made for ever."""
    sightings, refused = Sightings(), replace(ENDED, never_started=True)
    _, event = (submission.job_event(SUBMITTED, refused, sightings, terms(), at(time), before=26) for time in (0, 60))
    assert isinstance(event, Quarantined)
    assert "so did 26 jobs before it" in event.reason


CANCELLED = replace(LIVE, state=JobState.CANCELLED)


def test_a_job_that_somebody_cancelled_is_for_a_person() -> None:
    """To ask its lines again costs money, and somebody wanted it to end (A5)."""
    (_, event) = looks(CANCELLED, [0, 60])
    assert isinstance(event, Quarantined)
    assert "was cancelled at the service" in event.reason
    row = replace(SUBMITTED, state=State.QUARANTINED, reason=event.reason)
    assert submission.was_cancelled(row)
    assert submission.candidate(row, []) is None
    assert not submission.was_cancelled(replace(row, reason="late"))


def test_a_job_that_never_started_is_never_the_shards_own_again() -> None:
    """It bears the same tag as the next create of its file, and later replies may show it otherwise."""
    happened: list[Event] = [
        JobAdopted(job="batches/1", submitted_at=1.0),
        JobNeverStarted(due=2.0, reason="quota"),
        JobAdopted(job="batches/2", submitted_at=3.0),
        JobEnded(result="files/r"),
    ]
    state = State.SUBMITTED
    history = [
        Entry(
            at=0.0,
            shard=3,
            generation=0,
            attempt=1,
            event=type(event).__name__,
            before=state,
            after=state,
            detail=detail(event),
        )
        for event in happened
    ]
    assert submission.refused_jobs(history) == {"batches/1"}
    assert submission.refused_jobs([]) == frozenset()
    assert submission.never_started(history) == 1


def test_a_plausible_reply_restarts_the_count() -> None:
    """And so does another implausible one."""
    sightings = Sightings()
    replies = [(ENDED, 0), (LIVE, 30), (ENDED, 60), (replace(ENDED, state=JobState.EXPIRED), 119), (ENDED, 120)]
    assert [submission.job_event(SUBMITTED, job, sightings, terms(), at(time)) for job, time in replies] == [None] * 5


def test_an_end_with_results_is_believed_at_once() -> None:
    """Whatever the state: a cancelled job may have results as well."""
    ended = replace(LIVE, state=JobState.SUCCEEDED, result_file="files/r")
    assert looks(ended, [0]) == [JobEnded(result="files/r")]
    (cancelled,) = looks(replace(ended, state=JobState.CANCELLED), [0])
    assert isinstance(cancelled, JobEnded)
    assert cancelled.result == "files/r"
    assert "was cancelled" in (cancelled.reason or "")


@pytest.mark.parametrize(
    ("row", "made", "service", "kind"),
    [
        (SUBMITTED, None, True, Quarantined),
        (SUBMITTED, 1e9 + 2, True, type(None)),
        (SUBMITTED, None, False, Overdue),
        (replace(SUBMITTED, submitted_at=None), None, True, type(None)),
    ],
)
def test_a_job_that_does_not_end_in_three_days_is_for_a_person(
    row: ShardRow, made: float | None, service: bool, kind: type[object]
) -> None:
    """By the service's clock and its time of creation; by this machine's clock it is a warning."""
    now = at(72 * HOUR + 1, service=service)
    assert type(submission.job_event(row, replace(LIVE, created_at=made), Sightings(), terms(), now)) is kind
    assert submission.overdue(SUBMITTED, "running", Policy(), at(72 * HOUR)) is None


@pytest.mark.parametrize(
    ("local", "service", "kind"),
    [
        (73, 73, Quarantined),
        (73, 71, Overdue),
        (71, 73, Overdue),
        (73, None, Overdue),
        (71, None, type(None)),
        (71, 71, type(None)),
    ],
)
def test_one_clock_alone_makes_no_job_late(local: float, service: float | None, kind: type[object]) -> None:
    """Either may be days off, and a quarantine stops a job that is at work."""
    begin = SUBMITTED.submitted_at or 0.0
    now = Moment(0.0, begin + local * HOUR, None if service is None else begin + service * HOUR)
    assert type(submission.overdue(SUBMITTED, "running", Policy(), now)) is kind


@pytest.mark.parametrize(
    ("shown", "times", "kind"),
    [
        ((False, False), [0.0, 450.0, 900.0], str),
        ((False, False), [72 * HOUR + 1, 72 * HOUR + 450, 72 * HOUR + 901], ResultLost),
        ((True, True), [0.0, 450.0, 900.0], str),
        ((True, False), [0.0, 450.0, 899.0], str),
        ((True, False), [0.0, 900.0], str),
        ((True, False), [0.0, 450.0, 900.0], ResultLost),
    ],
)
def test_results_are_lost_when_they_are_gone_and_their_job_is_not(
    shown: tuple[bool, bool], times: list[float], kind: type[object]
) -> None:
    """Then it is not our key that sees nothing; a job older than three days may be gone as well."""
    sightings, row = Sightings(), replace(SUBMITTED, result="files/r")
    events = [submission.missing_results(row, "404", shown, sightings, terms(), at(time)) for time in times]
    assert [type(event) for event in events] == [str] * (len(times) - 1) + [kind]


@given(st.integers(0, 10_000), st.floats(0, 1))
def test_the_wait_for_the_next_look_stays_within_its_bounds(quiet: int, jitter: float) -> None:
    """However long nothing changes."""
    assert 30 * 0.8 <= submission.next_delay(quiet, (30.0, 300.0), Policy(), jitter) <= 300 * 1.2 + 1e-6


def test_waits_grow_while_nothing_changes() -> None:
    """A quiet service is not asked every half minute all day."""
    delays = [submission.next_delay(quiet, (30.0, 300.0), Policy(), 0.5) for quiet in range(20)]
    assert delays == sorted(delays)
    assert delays[-1] == 300.0


# Creates that the manifest may have forgotten


def test_a_suspected_create_is_named_like_a_real_one() -> None:
    """Its file is revoked, and its tag searched for, as after a lost reply."""
    event = submission.suspicion(TOKEN, SHARD, 1, 5.0)
    assert (event.file, event.tag, event.ambiguous_at) == (FILE, TAG, 5.0)


@pytest.mark.parametrize(
    ("row", "attempt", "forgotten"),
    [
        (None, 1, True),
        (row_in(State.SUBMITTED), 1, False),
        (row_in(State.SUBMITTED), 2, True),
        (row_in(State.UPLOADED, tag=None), 1, True),
        (row_in(State.UPLOADED, tag=None, attempt=2), 1, False),
        (row_in(State.QUARANTINED, tag=None), 2, False),
    ],
)
def test_a_job_without_an_intent_shows_that_the_manifest_forgot(
    row: ShardRow | None, attempt: int, forgotten: bool
) -> None:
    """It was restored from an older copy, and would create again what it has created."""
    job = replace(LIVE, display_name=naming.job_tag(TOKEN, SHARD, attempt))
    foreign = replace(LIVE, name="batches/foreign", display_name="of others")
    found = submission.unknown(TOKEN, [job, foreign], [row] if row else [])
    assert found == ([job] if forgotten else [])
