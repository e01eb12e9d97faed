"""How fast a client sends, or takes, what is under way."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .limits import Limits


class Pace:
    """The bytes of one transfer against the clock. ``now`` is any clock that never goes back, in seconds."""

    def __init__(self, limits: Limits, now: float) -> None:
        self._limits = limits
        self._heard = now
        self._since = now
        self._bytes = 0

    def moved(self, count: int, now: float) -> None:
        self._bytes += count
        if count:
            self._heard = now

    def fault(self, now: float) -> str:
        """What is wrong with it, for people; empty while nothing is. Judges the rate once every ``idle_time``."""
        idle, rate = self._limits.idle_time, self._limits.rate
        if now - self._heard >= idle:
            return f"No byte came for {idle:g} seconds"
        if now - self._since < idle:
            return ""
        slow = self._bytes < rate * (now - self._since)
        self._since, self._bytes = now, 0
        return f"Less than {rate:g} bytes a second came" if slow else ""
