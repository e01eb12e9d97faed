"""The service in a separate thread, for blocking and asynchronous clients."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from anyio.from_thread import start_blocking_portal

from packtrain.server import serving

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def origin(tmp_path: Path) -> Iterator[str]:
    """The origin of a service in ``tmp_path / "service"``."""
    with start_blocking_portal() as portal, portal.wrap_async_context_manager(serving(tmp_path / "service")) as found:
        yield found
