"""The commands that messages tell people to give."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


def operand(path: str | Path) -> str:
    """A path as an argument that is not taken for an option."""
    return f"./{path}" if str(path).startswith("-") else str(path)


def resolving(state: Path, shard: int, run: str) -> str:
    """How to decide about a quarantined shard; the run is named where ``resolve`` would take another by itself."""
    command = ["packtrain", "resolve", operand(state), "--shard", str(shard)]
    command += ["--run", run] if run != "main" else []
    return f"`{shlex.join(command)} --retry` (or --drop, or --adopt NAME)"
