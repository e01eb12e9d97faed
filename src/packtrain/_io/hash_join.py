"""Index of result rows by key, for results in any order. Blocking."""

from __future__ import annotations

import itertools
from array import array
from contextlib import nullcontext
from typing import TYPE_CHECKING

from .._options import JOIN_GATHERED_BYTES, JOIN_PROCESS_FROM
from .._rules.framing import BOM
from .._rules.result_rows import ANSWER, BLANK
from .join_worker import parsed_in_process
from .result_file import MARKED, ParsedLines, ResultFiles, parse_all

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from contextlib import AbstractContextManager

#: Keys that are taken while one row is parsed, for which a process needs about twice as long.
_KEYS_A_ROW = 2


class IndexedRequests:
    """Some requests by key, each with the position of its row: the best one, then the first."""

    def __init__(self) -> None:
        self.keys: list[str] = []
        #: Of a key that occurs twice, the last.
        self._ordinals: dict[str | None, int] = {}
        self._offsets, self._lengths, self._kinds = array("q"), array("q"), bytearray()
        self.duplicates = 0

    def add(self, keys: Iterable[str]) -> int:
        """Take more keys, before the first row; returns their number."""
        added = [*keys]
        self._ordinals.update(zip(added, itertools.count(len(self.keys)), strict=False))
        self.keys += added
        return len(added)

    def enter(self, blocks: Iterable[ParsedLines], known: bytearray) -> None:
        """Take the rows of these requests, and mark them in ``known``."""
        count = len(self.keys)
        self._offsets, self._lengths, self._kinds = array("q", [0]) * count, array("q", [0]) * count, bytearray(count)
        for block in blocks:
            if block.number == len(known):
                known += bytes(len(block.kinds))
            self._enter(block, known)
        self._share()

    def _enter(self, block: ParsedLines, known: bytearray) -> None:
        offsets, lengths, kinds, ordinal_of = self._offsets, self._lengths, self._kinds, self._ordinals.get
        number, offset = block.number, block.offset
        for key, length, kind in zip(*block.unpack(), block.kinds, strict=True):
            ordinal = ordinal_of(key)
            if ordinal is not None:
                known[number] = 1
                held = kinds[ordinal]
                self.duplicates += held != BLANK
                if kind % MARKED > held:
                    mark = len(BOM) if kind >= MARKED else 0
                    offsets[ordinal], lengths[ordinal] = offset + mark, length - mark
                    kinds[ordinal] = kind % MARKED
            elif kind == BLANK:
                known[number] = 1
            number += 1
            offset += length

    def _share(self) -> None:
        """A key that occurs twice gets its row both times."""
        if len(self._ordinals) < len(self.keys):
            for place, key in enumerate(self.keys):
                ordinal = self._ordinals[key]
                for column in (self._offsets, self._lengths, self._kinds):
                    column[place] = column[ordinal]

    def answers(self, start: int, stop: int) -> tuple[array[int], array[int]] | None:
        """Offsets and lengths of the answers to these requests; None if one of them has none, or they are long."""
        lengths = self._lengths[start:stop]
        if min(self._kinds[start:stop]) < ANSWER or sum(lengths) > JOIN_GATHERED_BYTES:
            return None
        return self._offsets[start:stop], lengths

    def position(self, request: int) -> tuple[int, int, int] | None:
        """Offset, length and kind of the row of a request."""
        if self._kinds[request] == BLANK:
            return None
        return self._offsets[request], self._lengths[request], self._kinds[request]


class HashJoin:
    """Reads all results once for so many keys as fit memory."""

    def __init__(self, results: ResultFiles) -> None:
        self._results = results
        #: One byte a line: 0 while no request has claimed it.
        self._known = bytearray()
        self.duplicates = 0

    def fill(self, keys: Iterator[str], most: int) -> IndexedRequests:
        """The next ``most`` of the keys, or what is left of them, with their rows.

        The results are parsed while keys are still to come, because another process may be parsing them.
        """
        first, requests, early = not self._known, IndexedRequests(), list[ParsedLines]()
        with self._parsed() as blocks:
            for block in blocks:
                early.append(block)
                # With all keys there, rows need not wait.
                count = _KEYS_A_ROW * len(block.kinds)
                if requests.add(itertools.islice(keys, min(count, most - len(requests.keys)))) < count:
                    break
            requests.add(itertools.islice(keys, most - len(requests.keys)))
            if requests.keys or first:
                requests.enter(itertools.chain(early, blocks), self._known)
        self.duplicates += requests.duplicates
        return requests

    def unknown(self) -> Iterator[tuple[int, int]]:
        """Offset and length of rows whose key is in no request, and of lines that are no rows."""
        number = 0
        if all(self._known):
            return
        for block in self._results.blocks():
            lengths = [*map(len, block.lines)] if block.long is None else [block.length]
            offset, known = block.offset, self._known[number : number + len(lengths)]
            for length, claimed in zip(lengths, known, strict=True):
                if not claimed:
                    yield offset, length
                offset += length
            number += len(lengths)

    def _parsed(self) -> AbstractContextManager[Iterator[ParsedLines]]:
        big = self._results.size >= JOIN_PROCESS_FROM
        return parsed_in_process(self._results) if big else nullcontext(parse_all(self._results))
