"""Requests to a running driver, for people."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .console import put
from .exits import Exit

if TYPE_CHECKING:
    from pathlib import Path


async def requested(state: Path, id: str) -> Exit:
    """Wait a while for the driver to take the request, and say what became of it."""
    from packtrain import request_taken

    if await request_taken(state, id):
        put("taken by the driver of the run, which goes on with it")
        return Exit.COMPLETE
    put(f"requested ({id}): the driver of the run, or its next start, takes it between two steps")
    return Exit.AGAIN
