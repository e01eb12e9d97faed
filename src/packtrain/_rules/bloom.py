"""A Bloom filter over digests: "surely not seen", or "look on disk".

Blocked: all bits of a digest lie in one 64-bit word, so a look costs one cache miss. The first four bytes of the
digest choose the word, in order, so that sorted digests are added from one end of the memory to the other; the next
two choose one of 4,096 patterns of four bits. Filled to its capacity it lets about three in a hundred unseen digests
pass, which the caller settles exactly.
"""

from __future__ import annotations

import struct
from array import array
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

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
