"""What ``serving`` takes as its directory."""

from __future__ import annotations

from typing import TYPE_CHECKING

from packtrain import serving

if TYPE_CHECKING:
    from pathlib import Path


async def test_a_directory_may_be_given_as_text(tmp_path: Path) -> None:
    """As everywhere else in Python."""
    async with serving(str(tmp_path / "service")):
        assert (tmp_path / "service").is_dir()
