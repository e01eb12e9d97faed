"""SIGKILL before and after every effect of a run."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.crash.disk import REMOTE
from tests.crash.failpoints import Case, Verdict, around_creates, singles, torture
from tests.crash.small_runs import CALM, LOST, SCENARIOS, undisturbed
from tests.seeds import seeded, short

if TYPE_CHECKING:
    from pathlib import Path

    from tests.crash.small_runs import Calm

PARTS = 2


@pytest.fixture(scope="module")
def calm(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Calm]:
    """A run without any trouble."""
    return undisturbed(tmp_path_factory.mktemp("calm"), [CALM])


def some(cases: list[Case]) -> list[Case]:
    """A twentieth of them; scripts/torture failpoints takes all."""
    return seeded("failpoints").sample(cases, len(cases) // short(20, 10))


def telling(case: Case) -> bool:
    """Behind an effect on this machine stands the world that is there before the next one; not so at the service."""
    (kill,) = case.kills
    return ".before=" in kill or kill.startswith(REMOTE)


def failures(root: Path, calm: dict[str, Calm], cases: list[Case]) -> list[Verdict]:
    """Those that could be told from a calm run, or in which no kill took place."""
    return [verdict for verdict in torture(root, calm, cases) if verdict.wrong or not verdict.struck]


@pytest.mark.parametrize("part", range(PARTS))
def test_a_run_killed_at_any_point_ends_like_one_that_was_left_alone(
    tmp_path: Path, calm: dict[str, Calm], part: int
) -> None:
    """Before each durable write, before and after each call of the service: same files, one job for each shard."""
    cases = list(filter(telling, singles(calm, hits=1)))
    assert len(cases) > 60
    told = [kill for case in cases for kill in case.kills if ".after=" in kill]
    assert [call for call in REMOTE if not any(kill.startswith(call) for kill in told)] == []
    assert failures(tmp_path, calm, some(cases[part::PARTS])) == []


def test_a_run_in_trouble_and_killed_as_well_ends_like_one_in_trouble(tmp_path: Path, calm: dict[str, Calm]) -> None:
    """At the points that only lost replies, dead sessions, damaged files and refusals lead to."""
    calm = calm | undisturbed(tmp_path / "calm", SCENARIOS[1:])
    cases = [case for case in filter(telling, singles(calm, hits=1)) if case.scenario is not CALM]
    points = {kill.rpartition(".")[0] for case in cases for kill in case.kills}
    assert points >= {"manifest.RevokeIntended", "manifest.Revoked", "manifest.CreateAmbiguous", "upload.query"}
    assert around_creates(calm[LOST.name].points)
    assert failures(tmp_path / "torn", calm, some(cases)) == []
