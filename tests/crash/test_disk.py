"""A full and a failing disk at every write of a run."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.crash.disk import Fault, faults, suffer
from tests.crash.small_runs import CALM, undisturbed
from tests.seeds import seeded, short

if TYPE_CHECKING:
    from pathlib import Path

    from tests.crash.small_runs import Calm

#: Where the disk is asked to make something last; behind these, nobody can say whether it did.
LASTING = (".fsync.after", ".dirsync.after", ".rename.after", "manifest.commit.after", "manifest.migrate.after")


@pytest.fixture(scope="module")
def calm(tmp_path_factory: pytest.TempPathFactory) -> Calm:
    """A run on a disk in order."""
    return undisturbed(tmp_path_factory.mktemp("calm"), [CALM])[CALM.name]


def failures(root: Path, calm: Calm, chosen: list[Fault]) -> list[str]:
    verdicts = suffer(root, calm, chosen)
    return [f"{verdict.fault}: {verdict.wrong}" for verdict in verdicts if verdict.wrong or not verdict.struck]


def some(chosen: list[Fault]) -> list[Fault]:
    """A twentieth of them, at least two; scripts/torture disk takes all."""
    return seeded("disk").sample(chosen, max(2, len(chosen) // short(20, 10)))


def test_a_full_disk_at_any_write_ends_the_run_with_advice_and_loses_nothing(tmp_path: Path, calm: Calm) -> None:
    """ENOSPC at every write, file, name and commit: exit code 75, what to do, and the same files afterwards."""
    chosen = faults((point for point in calm.points if point.endswith(".before")), "ENOSPC")
    assert len(chosen) > 50
    assert failures(tmp_path / "torn", calm, some(chosen)) == []


def test_a_failing_disk_ends_the_run_where_it_failed_and_loses_nothing(tmp_path: Path, calm: Calm) -> None:
    """EIO of an fsync, a rename or a commit, which may have taken place all the same: it is not tried again."""
    chosen = faults((point for point in calm.points if point.endswith(LASTING)), "EIO")
    assert len(chosen) > 15
    assert failures(tmp_path / "torn", calm, some(chosen)) == []
