"""The short form of the campaign with mutated rows."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.io.mutated_rows import through_merge, through_run

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("seed", [1, 2, 3])
async def test_every_mutated_row_reaches_the_output_or_a_list_by_merge(tmp_path: Path, seed: int) -> None:
    """A6: with its bytes and the reason."""
    assert await through_merge(tmp_path, 1000, seed) == []


async def test_no_mutated_row_that_was_answered_is_asked_again_by_a_run(tmp_path: Path) -> None:
    """A6: only lines that failed are."""
    assert await through_run(tmp_path, 600, 4) == []
