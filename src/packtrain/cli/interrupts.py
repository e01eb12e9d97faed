"""Signals: the first one asks to stop, the second stops at once."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING, TypeVar

import anyio

from packtrain._signals import stop_signals

from .console import say

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from anyio.abc import TaskGroup


T = TypeVar("T")

#: Seconds in which signals that programs send count as one: a batch scheduler sends its own to every process of a job,
#: of which one may hand it on to another.
_ONCE = 1.0


class Interrupts:
    """What a signal does; ``group`` is for whatever has to live as long as the work does."""

    def __init__(self, group: TaskGroup) -> None:
        self.group = group
        self.count = 0
        self._first = 0.0
        self._drain: Callable[[], None] | None = None

    def on_first(self, drain: Callable[[], None]) -> None:
        """Let the first signal drain the work; without it, the first already ends it at once."""
        self._drain = drain

    async def heed(self, ready: anyio.Event) -> None:
        heeded = stop_signals()
        try:
            with anyio.open_signal_receiver(*heeded) as signals:
                ready.set()
                async for number in signals:
                    self._heed_one(number)
        finally:
            # Once a signal has stopped the work, a further one has nothing left to stop.
            for number in heeded:
                signal.signal(number, signal.SIG_IGN if self.count else signal.default_int_handler)

    def _heed_one(self, number: int) -> None:
        if self.count and number != signal.SIGINT and anyio.current_time() < self._first + _ONCE:
            return
        self.count += 1
        self._first = self._first or anyio.current_time()
        if self.count == 1 and self._drain is not None:
            say("stopping; start the same command again to go on (a second signal stops at once)")
            self._drain()
        else:
            self.group.cancel_scope.cancel()


def stopped(state: Path) -> str:
    """The message when a signal has ended the work at once."""
    return f"stopped; progress is saved in {state}; start the same command again to go on"


async def interruptible(work: Callable[[Interrupts], Awaitable[T]]) -> T | None:
    """What ``work`` returns; None when it was ended by a signal."""
    result = None
    async with anyio.create_task_group() as group:
        interrupts, ready = Interrupts(group), anyio.Event()
        group.start_soon(interrupts.heed, ready)
        await ready.wait()
        result = await work(interrupts)
        group.cancel_scope.cancel()
    return result
