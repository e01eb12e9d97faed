"""Outages: failures that pass, and answers that are not the service's own, waited out with growing pauses."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import anyio

from .._errors import PacktrainError, ProtocolError
from .._exits import plain_errors
from .._io.clock import time_limit, wait
from .._rules.retry import is_transient, wait_after
from .run import log

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from .._io.clock import Clock

T = TypeVar("T")


class Outage:
    """Failures in a row of one kind of work, which are waited out for ``patience`` seconds.

    Each kind has its own: a proxy may let the list of jobs pass and no download.
    """

    def __init__(self, clock: Clock, patience: float, *, run: str | None = None) -> None:
        self._clock = clock
        self._patience = patience
        self._extra = {"action": "Setback"} | ({} if run is None else {"run": run})
        self._failures = 0
        #: Since when all has failed, by the monotonic clock. Time in which there was nothing to do is no outage.
        self._since: float | None = None

    def end(self) -> None:
        """After a success."""
        self._failures, self._since = 0, None

    def setback(self, error: PacktrainError) -> float:
        """Seconds to wait before another try; raises the error when there is no point in one."""
        now = self._clock.monotonic()
        self._since = now if self._since is None else self._since
        if not (is_transient(error) or isinstance(error, ProtocolError)) or now - self._since > self._patience:
            raise error
        delay = wait_after(error, self._failures, self._clock.jitter())
        self._failures += 1
        log.warning("%s; trying again in %.0f s", error, max(1.0, delay), extra=self._extra)
        return delay


async def outlast(
    work: Callable[[], Awaitable[T]], clock: Clock, patience: float, stop: anyio.Event | None = None
) -> T | None:
    """The result of ``work``, which may be done again, through an outage. None when a stop is asked for before it is
    there."""
    outage, stop = Outage(clock, patience), stop or anyio.Event()
    while not stop.is_set():
        try:
            with plain_errors():
                async with time_limit(clock, None, stop):
                    return await work()
        except PacktrainError as error:
            await wait(clock, stop, outage.setback(error))
    return None
