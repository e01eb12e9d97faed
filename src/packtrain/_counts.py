"""Numbers of things, as they stand in a sentence."""

from __future__ import annotations


def counted(number: int, noun: str) -> str:
    """``1 shard``, ``2,000 shards``; the noun is one that only takes an s."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
