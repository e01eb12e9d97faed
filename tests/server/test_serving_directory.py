"""The directory argument of ``serving``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from packtrain import serving

if TYPE_CHECKING:
    from pathlib import Path


async def test_a_directory_may_be_given_as_text(tmp_path: Path) -> None:
    """A str is accepted like a Path."""
    async with serving(str(tmp_path / "service")):
        assert (tmp_path / "service").is_dir()
