"""Time and randomness, handed in so that tests need not wait."""

from __future__ import annotations

import random
import time
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Protocol

import anyio

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable


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


@asynccontextmanager
async def time_limit(clock: Clock, seconds: float | None, stop: anyio.Event | None = None) -> AsyncIterator[None]:
    """Leave the block after so many seconds by the clock, as ``anyio.move_on_after`` does by the event loop's, or when
    ``stop`` is set.

    An error of the block comes out in an exception group.
    """
    async with anyio.create_task_group() as tasks:

        async def leave(after: Callable[[], Awaitable[object]]) -> None:
            await after()
            tasks.cancel_scope.cancel()

        if seconds is not None:
            tasks.start_soon(leave, partial(clock.sleep, seconds))
        if stop is not None:
            tasks.start_soon(leave, stop.wait)
        yield
        tasks.cancel_scope.cancel()


async def wait(clock: Clock, event: anyio.Event, seconds: float) -> None:
    """Until the event, or for so long."""
    async with time_limit(clock, seconds):
        await event.wait()
