"""The machine's clock."""

from __future__ import annotations

import random
import time

import anyio


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
