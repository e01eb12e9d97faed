"""A file gets its name only when it is durable, and its name is made durable next."""

from __future__ import annotations

from typing import TYPE_CHECKING

from packtrain._io.request_file import ShardWriter
from packtrain._io.spool import land, publish_file
from packtrain.testing import armed

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def steps(tmp_path: Path, work: Callable[[], object]) -> list[str]:
    """What was done about durability, in order."""
    trace = tmp_path / "trace"
    with armed(f"trace={trace}"):
        work()
    points = [line.split()[0].split(".") for line in trace.read_text().splitlines()]
    return [step for _, step, side in points if side == "after" and step in ("fsync", "rename", "dirsync")]


def test_a_shard_is_synced_before_it_gets_its_name(tmp_path: Path) -> None:
    """A machine that loses its power leaves the whole shard, or none under that name."""

    def work() -> None:
        writer = ShardWriter(tmp_path / "shard")
        writer.write(memoryview(b"line\n"))
        writer.seal()

    assert steps(tmp_path, work) == ["fsync", "rename", "dirsync"]


def test_an_output_is_synced_before_it_gets_its_name(tmp_path: Path) -> None:
    """As what is published is all that is left in the end."""
    (tmp_path / "part").write_bytes(b"line\n")
    assert steps(tmp_path, lambda: publish_file([tmp_path / "part"], tmp_path / "out")) == [
        "fsync",
        "rename",
        "dirsync",
    ]


def test_results_are_synced_before_they_get_their_names(tmp_path: Path) -> None:
    """Each file for itself, and then the directory."""
    drafts, finals = [tmp_path / "a.tmp", tmp_path / "b.tmp"], [tmp_path / "a", tmp_path / "b"]
    for draft in drafts:
        draft.write_bytes(b"line\n")
    assert steps(tmp_path, lambda: land(drafts, finals)) == ["fsync", "rename", "fsync", "rename", "dirsync"]
