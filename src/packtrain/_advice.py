"""The commands that messages tell people to give."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


def resolving(state: Path, shard: int, run: str) -> str:
    """How to decide about a quarantined shard; the run is named where ``resolve`` would take another by itself."""
    command = ["packtrain", "resolve", str(state), "--shard", str(shard)]
    command += ["--run", run] if run != "main" else []
    return f"`{shlex.join(command)} --retry` (or --drop, or --adopt NAME)"
