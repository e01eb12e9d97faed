"""What the service says that can hardly be meant: believed when it was said often enough, for long enough.

One false look must not decide about work that was paid for. What was seen is kept for the life of one process, since
only a clock that never jumps can say how long ago it was.
"""

from __future__ import annotations

from msgspec import Struct


class _Seen(Struct, frozen=True):
    what: str
    since: float
    looks: int = 1


class Oddities:
    """One oddity at a time of each name."""

    def __init__(self) -> None:
        self._seen: dict[str, _Seen] = {}

    def confirmed(self, name: str, what: str, now: float, *, looks: int, seconds: float) -> bool:
        """One more look at ``now``, by the monotonic clock; whether that makes as many in a row, over so long."""
        before = self._seen.get(name)
        if before is None or before.what != what:
            seen = _Seen(what, now)
        else:
            seen = _Seen(what, before.since, before.looks + 1)
        self._seen[name] = seen
        return seen.looks >= looks and now - seen.since >= seconds

    def forget(self, name: str) -> None:
        self._seen.pop(name, None)
