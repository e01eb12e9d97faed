"""Deletions, cuts, older copies and flipped bits of single files of a state directory."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.crash.small_runs import CALM, open_runs, undisturbed
from tests.crash.tampering import Case, suffer

if TYPE_CHECKING:
    from pathlib import Path

    from tests.crash.tampering import How

#: Behind the second create, and where all has landed and OUT is made.
CREATED, LANDED = "job.list.before", "manifest.publish.before"
#: What each must come to; scripts/torture tampering takes every file at many moments.
CASES: dict[tuple[str, How, str | None], str] = {
    ("manifest.db-wal", "deleted", CREATED): "refused",
    ("manifest.db", "deleted", CREATED): "refused",
    ("manifest.db", "row", LANDED): "refused",
    ("manifest.run", "emptied", CREATED): "finished",
    ("results/TOKEN/00001-0.jsonl", "bit", LANDED): "refused",
}


def test_no_file_of_the_state_can_be_lost_or_changed_unnoticed(tmp_path: Path) -> None:
    """The next start refuses, or finishes with the same files; never a second job for a shard."""
    calm = undisturbed(tmp_path / "calm", [CALM])[CALM.name]
    chosen = [Case(file=file, how=how, moment=moment, before="", seed=7) for file, how, moment in CASES]
    with open_runs(tmp_path / "torn", CALM) as runs:
        verdicts = list(suffer(runs, calm, chosen))
    assert [verdict for verdict in verdicts if verdict.wrong] == []
    assert [verdict.outcome for verdict in verdicts] == list(CASES.values())
