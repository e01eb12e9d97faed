"""Pieces of files appended to others, by the kernel or not."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from packtrain._io.disk import copy_range, open_draft
from tests.seeds import seeded

# Another file system, where there is one.
MEMORY = Path("/dev/shm")  # noqa: S108 - the file made there has a name of its own


@pytest.mark.parametrize(
    "here", [None, pytest.param(MEMORY, marks=pytest.mark.skipif(not MEMORY.is_dir(), reason="needs a second disk"))]
)
def test_a_piece_is_appended_whichever_disk_it_comes_from(tmp_path: Path, here: Path | None) -> None:
    """Two file systems have no call of the kernel between them, so the bytes go through the process."""
    content = seeded("content").randbytes(3_000_000)
    source = (here or tmp_path) / f"packtrain-{os.getpid()}"
    source.write_bytes(content)
    try:
        with source.open("rb") as file, open_draft("results", tmp_path / "out") as target:
            target.write(b"before")
            copy_range("results", file, 1000, 2_500_000, target)
            copy_range("results", file, 0, 10, target)
            assert target.tell() == 2_500_016
    finally:
        source.unlink()
    assert (tmp_path / "out").read_bytes() == b"before" + content[1000:2_501_000] + content[:10]


def test_a_copy_ends_where_its_source_ends(tmp_path: Path) -> None:
    """It does not wait for more, and whoever asked sees it by the length."""
    (tmp_path / "in").write_bytes(b"short")
    with (tmp_path / "in").open("rb") as file, open_draft("results", tmp_path / "out") as target:
        copy_range("results", file, 2, 100, target)
        assert target.tell() == 3
