"""The service's clock, estimated from the times in its answers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import Struct

if TYPE_CHECKING:
    from .._options import Policy


class _Candidate(Struct, frozen=True):
    """A time that was seen, and is not accepted yet."""

    #: Seconds by which it is ahead of the monotonic clock.
    ahead: float
    since: float
    looks: int = 1


class ServiceClock:
    """Unix seconds by the service's clock.

    A time near this machine's own is accepted at once. Any other may be an error of one answer, or the answer of a
    cache, so it is accepted only after several answers in a row whose times advance at the pace of the monotonic clock.
    """

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self._ahead: float | None = None
        self._candidate: _Candidate | None = None

    def now(self, monotonic: float) -> float | None:
        """None until a time has been accepted."""
        return None if self._ahead is None else monotonic + self._ahead

    def observe(self, served_at: float, monotonic: float, local: float) -> None:
        """Note the time of one answer; ``local`` is this machine's Unix time."""
        ahead = served_at - monotonic
        if abs(served_at - local) <= self._policy.clock_agrees or self._agrees(ahead, self._ahead):
            self._ahead, self._candidate = ahead, None
            return
        before, policy = self._candidate, self._policy
        if before is None or not self._agrees(ahead, before.ahead):
            self._candidate = _Candidate(ahead, monotonic)
            return
        looks = before.looks + 1
        if looks >= policy.clock_looks and monotonic - before.since >= policy.clock_seconds:
            self._ahead, self._candidate = ahead, None
        else:
            self._candidate = _Candidate(before.ahead, before.since, looks)

    def _agrees(self, ahead: float, other: float | None) -> bool:
        return other is not None and abs(ahead - other) <= self._policy.clock_tolerance
