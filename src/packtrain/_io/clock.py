"""Time and randomness, handed in so that tests need not wait."""

from __future__ import annotations

import random
import time
from typing import Protocol

import anyio


class Clock(Protocol):
    """Time, and the randomness that spreads waits."""

    def now(self) -> float:
        """Unix seconds."""
        ...

    def monotonic(self) -> float:
        """Seconds that only go forward, whatever is done to the machine's clock; of use within one process."""
        ...

    def jitter(self) -> float:
        """A random number in 0..1."""
        ...

    async def sleep(self, seconds: float) -> None: ...


class SystemClock:
    """Wall time, real waits, real randomness."""

    def now(self) -> float:
        return time.time()

    def monotonic(self) -> float:
        return time.monotonic()

    def jitter(self) -> float:
        return random.random()  # noqa: S311 - spreads waits, guards nothing

    async def sleep(self, seconds: float) -> None:
        await anyio.sleep(seconds)
