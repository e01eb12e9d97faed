"""Random schedules in virtual time through the real create and reconcile; and faults that they must find.

Faults of the code itself are sown by ``tests/mutants``, into the same schedules.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, cast

import pytest

from packtrain._errors import PacktrainError
from packtrain._model import JobPage
from packtrain._options import Policy
from packtrain._rules import naming
from packtrain._rules.lifecycle import AMBIGUOUS, CREATE, TABLE, CreateSuspected, JobNeverStarted

from .schedules import draw
from .simulator import POLICY, RUN, simulate, simulate_all, whole
from .virtual import Violation

if TYPE_CHECKING:
    from packtrain._providers.base import Provider

    from .simulator import Wrap

#: TEST_SCHEDULES asks for more of them.
PARTS = 2
SIZE = int(os.environ.get("TEST_SCHEDULES", "600")) // PARTS


@pytest.mark.parametrize("part", range(PARTS))
def test_no_schedule_makes_a_second_job(part: int) -> None:
    """Nor a create without its intent, nor a shard without progress; a violation names its seed.

    The long form is ``scripts/torture schedules``.
    """
    seen = simulate_all(range(part * SIZE, (part + 1) * SIZE))
    assert seen["schedules"] == SIZE
    # All that can happen to a create happens, or the schedules would prove little.
    happened = {kind for kind in TABLE if kind.__name__ in seen}
    assert {event for event, (before, _) in TABLE.items() if before & (CREATE | AMBIGUOUS)} - {CreateSuspected} | {
        JobNeverStarted
    } <= happened


def test_a_seed_is_a_schedule() -> None:
    """The same seed gives the same run, event by event."""
    assert simulate(7) == simulate(7)
    assert draw(7)[0] == draw(7)[0] != draw(8)[0]


class Wrapped:
    """A provider whose list of jobs is changed on its way to the driver."""

    def __init__(self, provider: Provider) -> None:
        self._provider = provider

    def __getattr__(self, name: str) -> object:
        return getattr(self._provider, name)


class FirstPage(Wrapped):
    """Shows the first page of the list as if it were all."""

    async def list_page(self, token: str | None) -> JobPage:
        return JobPage((await self._provider.list_page(token)).jobs, None)


class BrokenPass(Wrapped):
    """Ends the list where a page fails."""

    async def list_page(self, token: str | None) -> JobPage:
        try:
            return await self._provider.list_page(token)
        except PacktrainError:
            return JobPage((), None)


def first_page(provider: Provider) -> Provider:
    return cast("Provider", FirstPage(provider))


def broken_pass(provider: Provider) -> Provider:
    return cast("Provider", BrokenPass(provider))


AT_ONCE = Policy(controlled_looks=1, controlled_settles=0.0, uncontrolled_looks=1, uncontrolled_settles=0.0)
SOWN: dict[str, tuple[Policy, Wrap]] = {
    "absent at once": (AT_ONCE, whole),
    "no wait after the revocation": (Policy(revoked_settles=0.0), whole),
    "one look ends a job": (Policy(ended_looks=1, ended_settles=0.0, empty_looks=1, empty_seconds=0.0), whole),
    "the first page is the list": (POLICY, first_page),
    "a broken pass is an empty list": (POLICY, broken_pass),
}


@pytest.mark.parametrize(("policy", "wrap"), SOWN.values(), ids=SOWN)
def test_a_sown_fault_is_found(policy: Policy, wrap: Wrap) -> None:
    """Each of these ways to a second job shows up within a few thousand schedules."""
    with pytest.raises(Violation, match="seed"):
        simulate_all(range(6000), policy, wrap)


def test_names_are_those_of_the_run() -> None:
    """The virtual service reads shard and generation from a tag."""
    assert naming.shard_prefix(RUN.token, 10, 0).split(".")[2:4] == ["10", "0"]
