"""Random schedules in virtual time: create and reconcile as they are, and sown faults to see that they are seen."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from packtrain._errors import PacktrainError
from packtrain._flow import job_list, reconciler, submitter
from packtrain._model import State
from packtrain._rules import naming, submission
from packtrain._rules.lifecycle import AMBIGUOUS, CREATE, TABLE, AttemptAbandoned, CreateDeferred, CreateSuspected
from packtrain._rules.submission import Outcome, classify

from .schedules import draw
from .simulator import RUN, simulate, simulate_all
from .virtual import Violation

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from packtrain._model import ShardRow
    from packtrain._providers.base import Provider

    Sow = Callable[[pytest.MonkeyPatch], None]

PARTS = 8


@pytest.mark.parametrize("part", range(PARTS))
def test_twenty_thousand_schedules(part: int) -> None:
    """No second job, no create without its intent, no shard that stands still; a violation names its seed."""
    size = 20_000 // PARTS
    seen = simulate_all(range(part * size, (part + 1) * size))
    assert seen["schedules"] == size
    # All that can happen to a create happens, or the schedules would prove little.
    happened = {kind for kind in TABLE if kind.__name__ in seen}
    assert {event for event, (before, _) in TABLE.items() if before & (CREATE | AMBIGUOUS)} - {
        CreateSuspected
    } <= happened


def test_a_seed_is_a_schedule() -> None:
    """The same seed gives the same run, event by event."""
    assert simulate(7) == simulate(7)
    assert draw(7)[0] == draw(7)[0] != draw(8)[0]


def absent_at_once(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(submission.Search, "absent", lambda _, settle: settle > 0)


def no_wait_after_the_fence(patch: pytest.MonkeyPatch) -> None:
    settle = reconciler.Watcher._patience
    patch.setattr(
        reconciler.Watcher, "_patience", lambda self, job: 0 if job.state is State.REVOKED else settle(self, job)
    )


def no_fence(patch: pytest.MonkeyPatch) -> None:
    async def conclude(self: reconciler.Watcher, job: ShardRow) -> None:
        await self._ctx.record(job, AttemptAbandoned(reason="not in the list"))

    patch.setattr(reconciler.Watcher, "_conclude", conclude)


def a_restart_forgets_the_create(patch: pytest.MonkeyPatch) -> None:
    async def doubt(self: submitter.Creator, job: ShardRow, reason: str) -> ShardRow:
        return await self._ctx.record(job, CreateDeferred(due=0.0, reason=reason))

    patch.setattr(submitter.Creator, "_doubt", doubt)


def a_503_is_a_refusal(patch: pytest.MonkeyPatch) -> None:
    def throttled(error: PacktrainError, *, proven: bool) -> Outcome:
        return Outcome.THROTTLED if getattr(error, "status", 0) == 503 else classify(error, proven=proven)

    patch.setattr(submitter, "classify", throttled)


def a_broken_pass_is_an_empty_list(patch: pytest.MonkeyPatch) -> None:
    async def broken(provider: Provider, token: str, *, until: Collection[str] = ()) -> job_list.Listing:
        try:
            return await job_list.look_through(provider, token, until=until)
        except PacktrainError:
            return job_list.Listing({})

    patch.setattr(reconciler, "look_through", broken)
    patch.setattr(reconciler, "list_jobs", broken)


def an_empty_list_is_believed(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(submission, "sight", lambda *_: submission.Sight.CONTROLLED)


def the_first_page_is_the_list(patch: pytest.MonkeyPatch) -> None:
    async def first_page(provider: Provider, _: str, **__: object) -> job_list.Listing:
        page = await provider.list_page(None)
        return job_list.Listing({job.name: job for job in page.jobs})

    patch.setattr(reconciler, "look_through", first_page)
    patch.setattr(reconciler, "list_jobs", first_page)


def shard_1_is_shard_10(patch: pytest.MonkeyPatch) -> None:
    tagged = job_list.Listing.tagged
    patch.setattr(job_list.Listing, "tagged", lambda self, prefix: tagged(self, prefix.removesuffix(".0.")))


def one_look_ends_a_job(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(submission.Sightings, "confirmed", lambda *_, **__: True)


def one_pass_clears_a_429(patch: pytest.MonkeyPatch) -> None:
    async def clear(self: reconciler.Lookback, job: ShardRow, search: submission.Search) -> None:
        del self, job, search

    patch.setattr(reconciler.Lookback, "_judge", clear)


SOWN = (
    absent_at_once,
    no_wait_after_the_fence,
    no_fence,
    a_restart_forgets_the_create,
    a_503_is_a_refusal,
    a_broken_pass_is_an_empty_list,
    an_empty_list_is_believed,
    the_first_page_is_the_list,
    shard_1_is_shard_10,
    one_look_ends_a_job,
    one_pass_clears_a_429,
)


@pytest.mark.parametrize("sow", SOWN, ids=lambda sow: sow.__name__)
def test_a_sown_fault_is_seen(sow: Sow, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of the ways in which clients make a second job shows up within a few thousand schedules."""
    sow(monkeypatch)
    with pytest.raises(Violation, match="seed"):
        simulate_all(range(6000))


def test_names_are_those_of_the_run() -> None:
    """The virtual service reads shard and generation from a tag."""
    assert naming.shard_prefix(RUN.token, 10, 0).split(".")[2:4] == ["10", "0"]
