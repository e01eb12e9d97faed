"""Where the row of each key stands, for results in any order."""

from __future__ import annotations

import itertools
from array import array
from contextlib import nullcontext
from typing import TYPE_CHECKING

from .join_worker import WORTH_A_PROCESS, chunks_beside
from .result_file import ANSWER, BLANK, Chunk, ResultFiles, chunks, ended

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from contextlib import AbstractContextManager

#: The offset of a row that is not there. Smaller ones are of rows that are no answer.
_ABSENT = -1
#: Keys that are taken while one row is found, for which a process needs about twice as long.
_KEYS_A_ROW = 2


class Window:
    """Some requests by key, each with the place of its row: an answer before an error, then the first."""

    def __init__(self) -> None:
        self.keys: list[str] = []
        #: Of a key that stands twice, the last.
        self._ordinals: dict[str | None, int] = {}
        self._offsets, self._lengths = array("q"), array("q")
        self.duplicates = 0

    def ask(self, keys: Iterable[str]) -> int:
        """Take more keys, before the first row; returns how many those are."""
        some = [*keys]
        self._ordinals.update(zip(some, itertools.count(len(self.keys)), strict=False))
        self.keys += some
        return len(some)

    def enter(self, chunks: Iterable[Chunk], known: bytearray) -> None:
        """Take the rows that are asked for, and mark them in ``known``."""
        self._offsets = array("q", [_ABSENT]) * len(self.keys)
        self._lengths = array("q", [0]) * len(self.keys)
        for chunk in chunks:
            if chunk.number == len(known):
                known += bytes(len(chunk.kinds))
            self._enter(chunk, known)
        self._share()

    def _enter(self, chunk: Chunk, known: bytearray) -> None:
        offsets, lengths, ordinal_of = self._offsets, self._lengths, self._ordinals.get
        number, offset = chunk.number, chunk.offset
        for key, length, kind in zip(*chunk.unpack(), chunk.kinds, strict=True):
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

    def _share(self) -> None:
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
        first, window, early = not self._known, Window(), list[Chunk]()
        with self._chunks() as given:
            for chunk in given:
                early.append(chunk)
                # With all keys there, rows need not wait.
                some = _KEYS_A_ROW * len(chunk.kinds)
                if window.ask(itertools.islice(keys, min(some, most - len(window.keys)))) < some:
                    break
            window.ask(itertools.islice(keys, most - len(window.keys)))
            if window.keys or first:
                window.enter(itertools.chain(early, given), self._known)
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

    def _chunks(self) -> AbstractContextManager[Iterator[Chunk]]:
        big = self._results.size >= WORTH_A_PROCESS
        return chunks_beside(self._results) if big else nullcontext(chunks(self._results))
