"""Failpoints from the environment, for those who want to see what a crash does."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING

from .exits import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

VARIABLE = "PACKTRAIN_FAILPOINTS"


def failpoints(environ: Mapping[str, str]) -> AbstractContextManager[None]:
    """What arms them for a block; does nothing without the variable. Raises UsageError."""
    text = environ.get(VARIABLE)
    if not text:
        return nullcontext()
    from packtrain.testing import armed

    try:
        return armed(text)
    except ValueError as error:
        raise UsageError(f"{VARIABLE}: {error}") from error
