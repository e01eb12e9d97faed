"""Where a run keeps its state when nobody says so: beside its answers, under a name made of theirs."""

from __future__ import annotations

import os
from pathlib import Path

_SUFFIX = ".packtrain"


def state_of(out: str | os.PathLike[str]) -> Path:
    """The state directory of a run whose answers go to ``out``."""
    return Path(os.fspath(out).rstrip("/") + _SUFFIX)


def answers_of(state: Path) -> Path | None:
    """Where the answers of a run with this state directory go; None when its name does not tell."""
    name = state.name.removesuffix(_SUFFIX)
    return state.with_name(name) if name not in ("", ".", state.name) else None
