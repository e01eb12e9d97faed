"""Boundaries between shards.

The cut depends on the accepted lines and the limits alone. The same input with the same limits therefore
gives the same shards, whatever the size of the blocks it was read in.
"""

from __future__ import annotations

from bisect import bisect_right
from typing import TYPE_CHECKING

from msgspec import Struct

if TYPE_CHECKING:
    from collections.abc import Sequence


class Roller(Struct, frozen=True):
    """The limits of one shard: bytes, newlines included, and requests (None for no limit)."""

    max_bytes: int
    max_requests: int | None = None

    def cut(self, filled_bytes: int, filled_lines: int, ends: Sequence[int], start: int) -> int:
        """How many lines from ``start`` on the open shard still takes.

        ``ends`` are the cumulative ends of a block's lines. The open shard is full exactly when this is
        less than ``len(ends) - start``. With oversized lines removed an empty shard always takes one.
        """
        before = ends[start - 1] if start else 0
        stop = bisect_right(ends, before + self.max_bytes - filled_bytes, lo=start)
        if self.max_requests is not None:
            stop = min(stop, start + self.max_requests - filled_lines)
        return max(0, stop - start)

    def oversized(self, ends: Sequence[int]) -> list[int]:
        """Positions of the lines that no shard can take; they become rejects before rolling."""
        if not ends or ends[-1] <= self.max_bytes:
            return []
        starts = [0, *ends[:-1]]
        sizes = enumerate(end - start for start, end in zip(starts, ends, strict=True))
        return [position for position, size in sizes if size > self.max_bytes]
