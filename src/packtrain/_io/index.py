"""Where the row of each key stands, for results in any order."""

from __future__ import annotations

import itertools
from array import array
from contextlib import nullcontext
from typing import TYPE_CHECKING

from .answers import ResultFiles, ended
from .beside import WORTH_A_PROCESS, chunks_beside
from .chunks import ANSWER, BLANK, Chunk, chunks

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager

#: The offset of a row that is not there. Smaller ones are of rows that are no answer.
_ABSENT = -1
#: Keys that are taken while one row is found.
_KEYS_A_ROW = 2


class Window:
    """Some requests by key, each with the place of its row: an answer before an error, then the first."""

    def __init__(self, keys: list[str]) -> None:
        self.keys = keys
        #: Of a key that stands twice, the last.
        self._ordinals: dict[str | None, int] = dict(zip(keys, itertools.count(), strict=False))
        self._offsets = array("q", [_ABSENT]) * len(keys)
        self._lengths = array("q", [0]) * len(keys)
        self.duplicates = 0

    def enter(self, chunk: Chunk, known: bytearray) -> None:
        """Take the rows that are asked for, and mark them in ``known``."""
        offsets, lengths, ordinal_of = self._offsets, self._lengths, self._ordinals.get
        number, offset = chunk.number, chunk.offset
        for key, length, kind in zip(chunk.keys, chunk.lengths, chunk.kinds, strict=True):
            ordinal = ordinal_of(key)
            if ordinal is not None:
                known[number] = 1
                held = offsets[ordinal]
                self.duplicates += held != _ABSENT
                if held == _ABSENT or (kind == ANSWER and held < _ABSENT):
                    offsets[ordinal] = offset if kind == ANSWER else _ABSENT - 1 - offset
                    lengths[ordinal] = length
            elif kind == BLANK:
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
        first, wanted, early = not self._known, list[str](), list[Chunk]()
        with self._chunks() as given:
            for chunk in given:
                early.append(chunk)
                # Keys take half as long to find as rows, and with all of them there the rows need not wait.
                before, some = len(wanted), min(_KEYS_A_ROW * len(chunk.kinds), most - len(wanted))
                wanted += itertools.islice(keys, some)
                if len(wanted) - before < _KEYS_A_ROW * len(chunk.kinds):
                    break
            wanted += itertools.islice(keys, most - len(wanted))
            window = Window(wanted)
            if wanted or first:
                self._enter(itertools.chain(early, given), window)
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

    def _enter(self, chunks: Iterator[Chunk], window: Window) -> None:
        for chunk in chunks:
            if chunk.number == len(self._known):
                self._known += bytes(len(chunk.kinds))
            window.enter(chunk, self._known)

    def _chunks(self) -> AbstractContextManager[Iterator[Chunk]]:
        big = self._results.size >= WORTH_A_PROCESS
        return chunks_beside(self._results) if big else nullcontext(chunks(self._results))
