"""A place to run in, with the service in this process."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from packtrain import serving
from tests.flow.place import Place

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path


@pytest.fixture
async def place(tmp_path: Path, anyio_backend: Any) -> AsyncIterator[Place]:
    async with serving(tmp_path / "service") as origin:
        yield Place(tmp_path, origin)
