"""Failpoints from the environment, to see what a crash does."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from .console import say
from .exits import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from contextlib import AbstractContextManager

    from packtrain.testing import Failpoints

VARIABLE = "PACKTRAIN_FAILPOINTS"


@contextmanager
def failpoints(environ: Mapping[str, str]) -> Iterator[None]:
    """Arm them for a block, and list at its end which were never reached. Raises UsageError."""
    text = environ.get(VARIABLE)
    if not text:
        yield
        return
    with _armed(text) as points:
        try:
            yield
        finally:
            for rule in points.unreached():
                say(f"{VARIABLE}: {rule} was never reached")


def _armed(text: str) -> AbstractContextManager[Failpoints]:
    from packtrain.testing import armed

    try:
        return armed(text)
    except ValueError as error:
        raise UsageError(f"{VARIABLE}: {error}") from error
