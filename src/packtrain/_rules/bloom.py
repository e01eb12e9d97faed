"""A Bloom filter over digests: "surely not seen", or "look on disk".

Blocked: all bits of a digest lie in one 64-bit word, so a look costs one cache miss. The first half of the
digest chooses the word, the second half one of 4,096 patterns of four bits. Filled to its capacity it lets
about three in a hundred unseen digests pass, which the caller settles exactly.
"""

from __future__ import annotations

import struct
from array import array
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

BITS_PER_KEY = 10
_WORD_BITS = 64
_PATTERNS = 1 << 12


class Filter:
    """Room for ``capacity`` digests or more: the size doubles, and 100 million take 134 MB."""

    def __init__(self, capacity: int) -> None:
        words = 1 << max(6, (capacity * BITS_PER_KEY // _WORD_BITS).bit_length())
        self._words = array("Q", bytes(8 * words))
        self._patterns = array("Q", map(_pattern, range(_PATTERNS)))
        self.capacity = words * _WORD_BITS // BITS_PER_KEY
        self.size = 0

    def add(self, digests: Collection[bytes]) -> None:
        """Take in new digests. Filling beyond ``capacity`` only lets more unseen ones pass."""
        words, mask, patterns = self._words, len(self._words) - 1, self._patterns
        for where, which in _halves(digests):
            words[where & mask] |= patterns[which & 0xFFF]
        self.size += len(digests)

    def passing(self, digests: Sequence[bytes]) -> list[bytes]:
        """Those that may have been added, in order; all others surely have not."""
        words, mask, patterns = self._words, len(self._words) - 1, self._patterns
        return [
            digest
            for digest, (where, which) in zip(digests, _halves(digests), strict=True)
            if not patterns[which & 0xFFF] & ~words[where & mask]
        ]


def _pattern(number: int) -> int:
    """Four bits of a word, spread by an odd multiplier (2^64 over the golden ratio)."""
    spread = (number + 1) * 0x9E3779B97F4A7C15 % (1 << 64)
    word = 0
    for shift in (58, 52, 46, 40):
        word |= 1 << (spread >> shift & 63)
    return word


def _halves(digests: Collection[bytes]) -> Iterator[tuple[int, int]]:
    return struct.iter_unpack("=QQ", b"".join(digests))
