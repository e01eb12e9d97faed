"""Where the row of each key stands, for results in any order."""

from __future__ import annotations

import itertools
from array import array
from typing import TYPE_CHECKING

import msgspec
from msgspec import Struct

from .answers import ResultFiles, ended, plain_keys, rows

if TYPE_CHECKING:
    from collections.abc import Iterator

#: The offset of a row that is not there. Smaller ones are of rows that are no answer.
_ABSENT = -1
#: What a line may be: nothing that counts, a row without an answer, an answer.
_BLANK, _ROW, _ANSWER = 0, 1, 2

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(list[str | None]).decode


class _Chunk(Struct, frozen=True, gc=False):
    """Some lines: the number and the offset of the first, the keys, packed, for many chunks may wait, the lengths, and
    what each line is."""

    number: int
    offset: int
    keys: bytes
    lengths: array[int]
    kinds: bytes


class Window:
    """Some requests by key, each with the place of its row: an answer before an error, then the first."""

    def __init__(self, keys: list[str]) -> None:
        self.keys = keys
        #: Of a key that stands twice, the last.
        self._ordinals: dict[str | None, int] = dict(zip(keys, itertools.count(), strict=False))
        self._offsets = array("q", [_ABSENT]) * len(keys)
        self._lengths = array("q", [0]) * len(keys)
        self.duplicates = 0

    def enter(self, chunk: _Chunk, known: bytearray) -> None:
        """Take the rows that are asked for, and mark them in ``known``."""
        offsets, lengths, ordinal_of = self._offsets, self._lengths, self._ordinals.get
        number, offset = chunk.number, chunk.offset
        for key, length, kind in zip(_decode(chunk.keys), chunk.lengths, chunk.kinds, strict=True):
            ordinal = ordinal_of(key)
            if ordinal is not None:
                known[number] = 1
                held = offsets[ordinal]
                self.duplicates += held != _ABSENT
                if held == _ABSENT or (kind == _ANSWER and held < _ABSENT):
                    offsets[ordinal] = offset if kind == _ANSWER else _ABSENT - 1 - offset
                    lengths[ordinal] = length
            elif kind == _BLANK:
                known[number] = 1
            number += 1
            offset += length

    def share(self) -> None:
        """A key that stands twice gets its row both times."""
        if len(self._ordinals) < len(self.keys):
            for place, key in enumerate(self.keys):
                ordinal = self._ordinals[key]
                self._offsets[place], self._lengths[place] = self._offsets[ordinal], self._lengths[ordinal]

    def answers(self, start: int, stop: int) -> tuple[array[int], array[int]] | None:
        """Offsets and lengths of the answers to these requests, if each of them has one."""
        offsets = self._offsets[start:stop]
        return (offsets, self._lengths[start:stop]) if min(offsets) >= 0 else None

    def place(self, request: int) -> tuple[int, int, bool] | None:
        """Offset and length of the row of a request, and whether it is an answer."""
        offset = self._offsets[request]
        if offset == _ABSENT:
            return None
        return max(offset, _ABSENT - 1 - offset), self._lengths[request], offset >= 0


class Index:
    """Goes through all results for each window of keys."""

    def __init__(self, results: ResultFiles) -> None:
        self._results = results
        #: One byte a line: 0 when it is of nobody so far.
        self._known = bytearray()
        self.duplicates = 0

    def fill(self, keys: Iterator[str], most: int) -> Window:
        """The next ``most`` of the keys, or what is left of them, with their rows.

        The results are gone through while keys are still to come, for another process may be taking them.
        """
        first, wanted, early, chunks = not self._known, list[str](), list[_Chunk](), self._chunks()
        for chunk in chunks:
            early.append(chunk)
            before = len(wanted)
            wanted += itertools.islice(keys, min(len(chunk.kinds), most - before))
            if len(wanted) - before < len(chunk.kinds):
                break
        wanted += itertools.islice(keys, most - len(wanted))
        window = Window(wanted)
        if wanted or first:
            for chunk in itertools.chain(early, chunks):
                window.enter(chunk, self._known)
        window.share()
        self.duplicates += window.duplicates
        return window

    def unknown(self) -> Iterator[bytes]:
        """Rows whose key is in no request, and rows that are none."""
        number = 0
        if all(self._known):
            return
        for _, lines in self._results.chunks():
            known = self._known[number : number + len(lines)]
            yield from (ended(line) for line, claimed in zip(lines, known, strict=True) if not claimed)
            number += len(lines)

    def _chunks(self) -> Iterator[_Chunk]:
        number = 0
        for offset, lines in self._results.chunks():
            if number == len(self._known):
                self._known += bytes(len(lines))
            yield _chunk(number, offset, lines)
            number += len(lines)


def _chunk(number: int, offset: int, lines: list[bytes]) -> _Chunk:
    lengths = array("q", map(len, lines))
    plain = plain_keys(lines)
    if plain is not None:
        return _Chunk(number, offset, _encode(plain), lengths, bytes([_ANSWER]) * len(lines))
    starts = itertools.accumulate(lengths, initial=offset)
    found = [next(rows(start, [line]), None) for start, line in zip(starts, lines, strict=False)]
    keys = [row.key if row else None for row in found]
    kinds = bytes((_ANSWER if row.answered else _ROW) if row else _BLANK for row in found)
    return _Chunk(number, offset, _encode(keys), lengths, kinds)
