"""When to look at the jobs again, and when looking has settled that there is none."""

from __future__ import annotations

from msgspec import Struct

from .._model import BatchState, RemoteBatch

_RANK = {BatchState.SUCCEEDED: 0, BatchState.RUNNING: 1, BatchState.PENDING: 2}


def next_delay(quiet: int, bounds: tuple[float, float], jitter: float) -> float:
    """Seconds to the next look after ``quiet`` looks in a row that changed nothing; ±20 % jitter (in 0..1)."""
    floor, ceiling = bounds
    return min(ceiling, floor * 1.3 ** min(quiet, 60)) * (0.8 + 0.4 * jitter)


class Search(Struct, frozen=True):
    """What list passes have shown of a job in doubt.

    A pass counts when it is complete. It is controlled when it also shows a job that we know to exist; the list
    has been seen empty while jobs were pending, so without a control absence needs twice the time and more passes.
    """

    since: float
    passes: int = 0
    controlled: int = 0
    last: float = 0.0
    last_controlled: float = 0.0

    def after(self, now: float, *, controlled: bool) -> Search:
        last_controlled = now if controlled else self.last_controlled
        return Search(self.since, self.passes + 1, self.controlled + controlled, now, last_controlled)

    def absent(self, settle: float) -> bool:
        """The job was not made, as far as looking can tell."""
        by_control = self.controlled >= 3 and self.last_controlled - self.since >= settle
        return by_control or (self.passes >= 5 and self.last - self.since >= 2 * settle)

    def next_look(self, settle: float) -> float:
        """Seconds from one pass to the next: short at first, so that a job is found soon."""
        return max(settle / 10, min(settle / 2, (self.last - self.since) / 2))


def winner(matches: list[RemoteBatch]) -> RemoteBatch:
    """The one job to keep when a tag stands on several: furthest on, then oldest, then by name."""
    return min(matches, key=lambda b: (_RANK.get(b.state, 3), b.created_at or 0.0, b.name))
