"""A temporary directory of a stage."""

from __future__ import annotations

import shutil
import tempfile
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from .._io.threads import uncancelled

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@asynccontextmanager
async def scratch(near: Path | None = None) -> AsyncIterator[Path]:
    """A directory that is removed with its files when the block ends."""
    directory = await uncancelled(partial(tempfile.mkdtemp, prefix=".packtrain-", dir=near))
    try:
        yield Path(directory)
    finally:
        await uncancelled(partial(shutil.rmtree, directory, ignore_errors=True))
