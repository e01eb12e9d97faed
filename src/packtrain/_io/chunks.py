"""What the lines of results are, some at a time, packed: many chunks may wait, and come from another process."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import msgspec
from msgspec import Struct

from .answers import plain_keys, rows

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .answers import ResultFiles

#: What a line may be: nothing that counts, a row without an answer, an answer.
BLANK, ROW, ANSWER = 0, 1, 2

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(tuple[list[str | None], list[int]]).decode


class Chunk(Struct, frozen=True, gc=False, array_like=True):
    """``number`` and ``offset`` are those of the first line."""

    number: int
    offset: int
    packed: bytes
    #: One a line.
    kinds: bytes

    def unpack(self) -> tuple[list[str | None], list[int]]:
        """Key, None where there is none, and length of each line."""
        return _decode(self.packed)


def chunks(results: ResultFiles) -> Iterator[Chunk]:
    """All lines in order. Raises IntegrityError for a row cut short."""
    number = 0
    for offset, lines in results.chunks():
        yield _chunk(number, offset, lines)
        number += len(lines)


def _chunk(number: int, offset: int, lines: list[bytes]) -> Chunk:
    lengths = [*map(len, lines)]
    plain = plain_keys(lines)
    if plain is not None:
        return Chunk(number, offset, _encode((plain, lengths)), bytes([ANSWER]) * len(lines))
    starts = itertools.accumulate(lengths, initial=offset)
    found = [next(rows(start, [line]), None) for start, line in zip(starts, lines, strict=False)]
    keys = [row.key if row else None for row in found]
    kinds = bytes((ANSWER if row.answered else ROW) if row else BLANK for row in found)
    return Chunk(number, offset, _encode((keys, lengths)), kinds)
