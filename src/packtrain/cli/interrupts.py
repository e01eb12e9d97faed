"""The first SIGINT or SIGTERM asks to stop, the second stops."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING, TypeVar

import anyio

from .console import say

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from anyio.abc import TaskGroup


T = TypeVar("T")

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interrupts:
    """What a signal does; ``group`` is for whatever has to live as long as the work does."""

    def __init__(self, group: TaskGroup) -> None:
        self.group = group
        self.count = 0
        self._stop: Callable[[], None] = group.cancel_scope.cancel

    def on_first(self, stop: Callable[[], None]) -> None:
        """Let the first signal drain the work; without it, the first already ends it at once."""
        self._stop = stop

    async def heed(self, ready: anyio.Event) -> None:
        try:
            with anyio.open_signal_receiver(*_SIGNALS) as signals:
                ready.set()
                async for _ in signals:
                    self._heed_one()
        finally:
            if self.count:
                _end_listening()

    def _heed_one(self) -> None:
        self.count += 1
        if self.count == 1:
            say("stopping; the same command goes on where this one stopped (again to stop at once)")
            self._stop()
        else:
            self.group.cancel_scope.cancel()


def _end_listening() -> None:
    """Once the work has come to a stand because of a signal, a further one has nothing left to stop."""
    for number in _SIGNALS:
        signal.signal(number, signal.SIG_IGN)


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
