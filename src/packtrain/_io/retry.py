"""Retries of calls that may be repeated."""

from __future__ import annotations

import itertools
import logging
from typing import TYPE_CHECKING, TypeVar

from .._errors import ApiError, TransportError
from .._rules.retry import is_transient, wait_after

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from .clock import Clock

T = TypeVar("T")

log = logging.getLogger("packtrain")


async def persist(call: Callable[[], Awaitable[T]], clock: Clock, *, tries: int, seconds: float | None = None) -> T:
    """The result of the call, repeated after transient failures, not beyond ``seconds`` since the first try if given;
    raises the last error. Never for a create."""
    began = clock.monotonic()
    for failures in itertools.count():
        try:
            return await call()
        except (TransportError, ApiError) as error:
            late = seconds is not None and clock.monotonic() - began > seconds
            if late or failures + 1 >= tries or not is_transient(error):
                raise
            delay = wait_after(error, failures, clock.jitter())
            log.info("%s; trying again in %.1f s", error, delay, extra={"action": "Retry"})
            await clock.sleep(delay)
    raise AssertionError("unreachable: the last try raises")
