"""Digests of keys, the sorted runs that hold them on disk, and the Bloom filter in front of the runs."""

from __future__ import annotations

import hashlib
import itertools
import struct
from array import array
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

DIGEST_BYTES = 16
#: Neighbouring runs of one size that are merged into one.
FAN_IN = 8

#: First and last shard whose keys a run holds.
Span = tuple[int, int]

_EMPTY = hashlib.blake2b(digest_size=DIGEST_BYTES)
_DIGEST = struct.Struct(f"{DIGEST_BYTES}s")


def digests(keys: Iterable[bytes]) -> list[bytes]:
    """BLAKE2b of each key (UTF-8), 16 bytes, in order."""
    found = []
    copy = _EMPTY.copy  # copying a fresh state takes half the time of making one
    for key in keys:
        state = copy()
        state.update(key)
        found.append(state.digest())
    return found


def digests_of(data: bytes | memoryview) -> list[bytes]:
    """The digests in ``data``, one behind the other."""
    return list(itertools.chain.from_iterable(_DIGEST.iter_unpack(data)))


def cover(spans: Iterable[Span], shards: int) -> list[Span] | None:
    """The runs that hold the keys of shards 0 to ``shards - 1`` exactly, in order; None if some are missing.

    Where a merged run and its parts both exist, the merged run is taken: parts are deleted only after it
    is durable.
    """
    longest = {first: last for first, last in sorted(spans) if last < shards}
    chosen: list[Span] = []
    at = 0
    while at < shards:
        if at not in longest:
            return None
        chosen.append((at, longest[at]))
        at = longest[at] + 1
    return chosen


def mergeable(spans: Sequence[Span]) -> int:
    """How many of the last runs to merge into one now: ``FAN_IN`` of equal size, or 0.

    Each key is thus written again once per power of ``FAN_IN`` shards, and the number of runs grows with
    the logarithm of the shards.
    """
    tail = spans[-FAN_IN:]
    sizes = {last - first for first, last in tail}
    return FAN_IN if len(tail) == FAN_IN and len(sizes) == 1 else 0


def ranges(total: int, most: int) -> Iterator[tuple[bytes, bytes | None]]:
    """Cut all digests into ranges ``[low, high)`` of about ``most`` of ``total``; the last has no end.

    Digests are spread evenly, so equal ranges hold nearly equal numbers.
    """
    parts = max(1, -(-total // most))
    bounds = [(part << 64) // parts for part in range(parts)]
    lows = [bound.to_bytes(8, "big") + bytes(DIGEST_BYTES - 8) for bound in bounds]
    yield from zip(lows, [*lows[1:], None], strict=True)


BITS_PER_KEY = 10
_WORD_BITS = 64
_PATTERNS = 1 << 12
_HEAD = struct.Struct(">IH10x")


class Filter:
    """Room for ``capacity`` digests or more: the size doubles, and 100 million take 134 MB."""

    def __init__(self, capacity: int) -> None:
        exponent = max(6, (capacity * BITS_PER_KEY // _WORD_BITS).bit_length())
        self._words = array("Q", bytes(8 << exponent))
        self._shift = 32 - exponent
        # One for each number that two bytes make: to look it up costs less than to cut the number first.
        self._patterns = tuple(map(_pattern, range(_PATTERNS))) * ((1 << 16) // _PATTERNS)
        self.capacity = (_WORD_BITS << exponent) // BITS_PER_KEY
        self.size = 0

    def add(self, digests: bytes) -> None:
        """Take in new digests, one behind the other. Filling beyond ``capacity`` only lets more unseen ones pass."""
        words, shift, patterns = self._words, self._shift, self._patterns
        for where, which in _HEAD.iter_unpack(digests):
            words[where >> shift] |= patterns[which]
        self.size += len(digests) // _HEAD.size

    def passing(self, digests: Sequence[bytes]) -> list[bytes]:
        """Those that may have been added, in order; all others surely have not."""
        words, shift, patterns = self._words, self._shift, self._patterns
        return [
            digest
            for digest, (where, which) in zip(digests, _HEAD.iter_unpack(b"".join(digests)), strict=True)
            if not patterns[which] & ~words[where >> shift]
        ]


def _pattern(number: int) -> int:
    """Four bits of a word, spread by an odd multiplier (2^64 over the golden ratio)."""
    spread = (number + 1) * 0x9E3779B97F4A7C15 % (1 << 64)
    word = 0
    for shift in (58, 52, 46, 40):
        word |= 1 << (spread >> shift & 63)
    return word
