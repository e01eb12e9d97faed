"""A clock that a test moves by hand."""

from __future__ import annotations

import heapq
import itertools
import random
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import anyio
import anyio.lowlevel

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


class ManualClock:
    """Time that stands still until ``advance``; ``open_client`` takes it as ``clock``.

    ``now`` starts at ``start`` (Unix seconds) and ``monotonic`` at 0; both move together. ``jitter`` draws from a
    generator with a fixed ``seed``, or is always ``jitter`` when that is given (0..1).
    """

    def __init__(self, start: float = 1_750_000_000.0, *, seed: int = 0, jitter: float | None = None) -> None:
        self._start = start
        self._passed = 0.0
        self._random = random.Random(seed)  # noqa: S311 - a schedule, not a secret
        self._jitter = jitter
        self._numbers = itertools.count()
        #: When each sleeper wakes; the number keeps those of the same time in their order.
        self._sleepers: list[tuple[float, int, anyio.Event]] = []
        self._fell_asleep = anyio.Event()

    def now(self) -> float:
        return self._start + self._passed

    def monotonic(self) -> float:
        return self._passed

    def jitter(self) -> float:
        return self._random.random() if self._jitter is None else self._jitter

    async def sleep(self, seconds: float) -> None:
        """Until the time has been moved by so many seconds; at once for none."""
        if seconds <= 0:
            await anyio.lowlevel.checkpoint()
            return
        sleeper = (self._passed + seconds, next(self._numbers), anyio.Event())
        heapq.heappush(self._sleepers, sleeper)
        self._fell_asleep.set()
        self._fell_asleep = anyio.Event()
        try:
            await sleeper[2].wait()
        finally:
            if sleeper in self._sleepers:  # cancelled before its time
                self._sleepers.remove(sleeper)
                heapq.heapify(self._sleepers)

    @property
    def next_wake(self) -> float | None:
        """Seconds until the first sleeper wakes; None without sleepers."""
        return self._sleepers[0][0] - self._passed if self._sleepers else None

    def advance(self, seconds: float) -> None:
        """Move the time, and wake in their order those whose time has come. Raises ValueError for less than 0."""
        if seconds < 0:
            raise ValueError("time does not go back")
        self._passed += seconds
        while self._sleepers and self._sleepers[0][0] <= self._passed:
            heapq.heappop(self._sleepers)[2].set()

    @asynccontextmanager
    async def running(self, *, idle: float = 0.005) -> AsyncIterator[None]:
        """Skip waits while the block runs: when ``idle`` real seconds pass and a task sleeps, move to the first wake.

        A call under way then seems to take as long as the waits that are skipped meanwhile, as if the service were
        slow. So only what does not depend on how long calls take can be tested this way.
        """
        failure: Exception | None = None
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._skip, idle)
            try:
                yield
            except Exception as error:  # noqa: BLE001 - raised below, outside of the task group
                failure = error
            tasks.cancel_scope.cancel()
        if failure is not None:
            raise failure

    async def _skip(self, idle: float) -> None:
        while True:
            while self.next_wake is None:
                await self._fell_asleep.wait()
            before = self._passed
            await anyio.sleep(idle)
            if self._passed == before and (left := self.next_wake) is not None:
                self.advance(left)
