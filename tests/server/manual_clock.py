"""A clock that tests advance: sleeps end when the time is set beyond them."""

from __future__ import annotations

import anyio
from anyio.lowlevel import checkpoint

#: Turns of the event loop in which bytes on loopback reach the peer and its handlers.
TURNS = 50


class ManualClock:
    """Starts at a fixed time. ``advance`` is the only way forward."""

    def __init__(self) -> None:
        self._now = 1_800_000_000.0
        self._sleepers: list[tuple[float, anyio.Event]] = []

    def now(self) -> float:
        return self._now

    def monotonic(self) -> float:
        return self._now

    def jitter(self) -> float:
        return 1.0

    async def sleep(self, seconds: float) -> None:
        woken = anyio.Event()
        self._sleepers.append((self._now + seconds, woken))
        await woken.wait()

    async def advance(self, seconds: float) -> None:
        """Lets bytes in flight arrive, moves the time, and wakes those whose sleep has ended."""
        await settle()
        self._now += seconds
        due = [woken for end, woken in self._sleepers if end <= self._now]
        self._sleepers = [sleeper for sleeper in self._sleepers if sleeper[0] > self._now]
        for woken in due:
            woken.set()
        await settle()


async def settle() -> None:
    for _ in range(TURNS):
        await checkpoint()
