"""A running service and a client of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from aiohttp import ClientSession

from packtrain.server import serving

from .service_calls import Calls

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "service"


@pytest.fixture
async def calls(directory: Path) -> AsyncIterator[Calls]:
    async with serving(directory) as origin, ClientSession() as session:
        yield Calls(session, origin)
