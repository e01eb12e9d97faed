"""SIGKILL after a refusal, a quarantine, a lost manifest and an older copy: to what helps, and to the run after it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.crash.sequels import SEQUELS, Case, Sequel, torture, undisturbed
from tests.seeds import seeded, short

if TYPE_CHECKING:
    from pathlib import Path

#: Names of the effects that each story is about.
POINTS = {
    "creates are refused for good": {"manifest.CreateRejected"},
    "tried once more by a person's decision": {"manifest.RetryDecided"},
    "dropped by a person's decision": {"manifest.DropDecided"},
    "adopted by a person's decision": {"manifest.JobAdopted"},
    "a lost manifest is recovered": {"recovery.rename", "recovery.dirsync", "manifest.seal"},
    "an older manifest is adopted": {"manifest.adopt", "manifest.identity"},
}


def some(cases: list[Case]) -> list[Case]:
    """One kill of the command, or of the run where no command helps; both with TEST_LONG, and scripts/torture sequels
    takes all."""
    chance = seeded("sequels")
    helping = [case for case in cases if case.victim == "command"]
    chosen = [chance.choice(helping or cases), chance.choice([case for case in cases if case.victim == "run"])]
    return chosen[: short(1, 2)]


@pytest.mark.parametrize("sequel", SEQUELS, ids=lambda sequel: sequel.scenario.name)
def test_what_follows_a_stand_can_be_killed_at_any_point(tmp_path: Path, sequel: Sequel) -> None:
    """The command that helps, or the run after it: once more, and the files and jobs are those of a calm story."""
    calm, cases = undisturbed(tmp_path / "calm", sequel)
    names = {case.kill.partition("=")[0].rpartition(".")[0] for case in cases}
    assert names >= POINTS[sequel.scenario.name]
    verdicts = list(torture(tmp_path / "torn", calm, some(cases)))
    assert [verdict for verdict in verdicts if verdict.wrong] == []
    assert any(verdict.struck for verdict in verdicts)
