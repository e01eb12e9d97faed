"""Requests and results side by side, as long as both are in one order, which is the usual case.

Neither is indexed and no row is touched twice: rows that follow each other as their requests do are one run, of which
only the ends are remembered. What does not fit is put aside, and settled when all rows have been seen, for a row may
come late, or twice. When more does not fit than is worth it, the walk is given up.
"""

from __future__ import annotations

import itertools
from bisect import bisect_right
from typing import TYPE_CHECKING

from msgspec import Struct

from .result_file import Row, plain_keys, rows

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

#: Requests without a row that a walk steps over to find the one of the next row.
LOOK_AHEAD = 1000
#: What may be put aside: some to begin with, a share of the rows seen, and never more than fits memory.
_SOME, _SHARE, _MOST = 1000, 2, 250_000


class Run(Struct, gc=False):
    """Answers that follow each other as their requests do; ``first`` is the ordinal of the first request."""

    first: int
    count: int
    offset: int
    length: int


class Astray(Exception):  # noqa: N818 - a verdict on the order, not an error
    """The order does not hold."""


class Walk:
    """Takes the rows in order. ``keys`` are those of the requests, each once, some at a time."""

    def __init__(self, keys: Iterator[list[str]]) -> None:
        self._ahead = _Ahead(keys)
        self.runs: list[Run] = []
        #: Requests whose row, None for none so far, is in no run.
        self.apart: dict[int, Row | None] = {}
        #: Those of them that have no answer so far.
        self.waiting: dict[str, int] = {}
        #: Rows that were met where their request was not near.
        self.strays: list[Row] = []
        self.duplicates = 0
        #: Of requests; known when all are read.
        self.total = 0
        #: Runs that ``grown`` has told to their end, and bytes that it has told of the one behind them.
        self._told = (0, 0)

    @property
    def passed(self) -> int:
        """Requests walked by; those behind them have no row but among the strays."""
        return self._ahead.passed

    def take(self, offset: int, lines: list[bytes]) -> None:
        """The next lines of the results. Raises Astray, and IntegrityError for a row cut short."""
        keys = plain_keys(lines) if lines[-1].endswith(b"\n") else None
        if keys is not None and self._ahead.peek(len(keys)) == keys:
            self._run(len(keys), offset, sum(map(len, lines)))
            return
        for row in rows(offset, lines):
            self._row(row)
        aside = len(self.apart) + len(self.strays) + len(self.runs)
        if aside > min(_SOME + self.passed // _SHARE, _MOST):
            raise Astray

    def grown(self) -> list[tuple[int, int]]:
        """Offset and length of what the runs have grown by since this was asked last."""
        told, part = self._told
        pieces = [(run.offset, run.length) for run in self.runs[told:]]
        if pieces:
            pieces[0] = (pieces[0][0] + part, pieces[0][1] - part)
            self._told = (len(self.runs) - 1, self.runs[-1].length)
        return pieces

    def finish(self) -> None:
        """Count the requests that are left when the results end."""
        self.total = self._ahead.count()

    def settle(self, keys: Iterable[list[str]]) -> list[Row]:
        """Find the requests of the strays; ``keys`` are all once more. Returns the rows that have none, in order.

        Raises Astray when an answer that was walked by belongs to a request that got a later one.
        """
        sought = {row.key for row in self.strays} - {None}
        if not sought:
            return self.strays
        places = {key: place for place, key in enumerate(itertools.chain.from_iterable(keys)) if key in sought}
        unknown = []
        for row in self.strays:
            place = places.get(row.key) if row.key is not None else None
            if place is None:
                unknown.append(row)
            elif place in self.apart or place >= self.passed:
                self._place(place, row)
            else:
                self._repeat(place, row)
        return unknown

    def _row(self, row: Row) -> None:
        if row.key is None:
            self.strays.append(row)
        elif row.key in self.waiting:
            self._place(self.waiting[row.key], row)
            if row.answered:
                del self.waiting[row.key]
        elif self._step_to(row.key):
            self._meet(row, row.key)
        else:
            self.strays.append(row)

    def _step_to(self, key: str) -> bool:
        """Whether the request is near; those before it are passed over."""
        near = self._ahead.peek(1)
        if near and near[0] == key:
            return True
        near = self._ahead.peek(LOOK_AHEAD)
        if key not in near:
            return False
        steps = near.index(key)
        for place, passed in enumerate(near[:steps], self.passed):
            self.apart[place] = None
            self.waiting[passed] = place
        self._ahead.skip(steps)
        return True

    def _meet(self, row: Row, key: str) -> None:
        if row.answered and row.ended:
            self._run(1, row.offset, row.length)
            return
        self.apart[self.passed] = row
        if not row.answered:
            self.waiting[key] = self.passed
        self._ahead.skip(1)

    def _run(self, count: int, offset: int, length: int) -> None:
        last = self.runs[-1] if self.runs else None
        if last and last.first + last.count == self.passed and last.offset + last.length == offset:
            last.count += count
            last.length += length
        else:
            self.runs.append(Run(self.passed, count, offset, length))
        self._ahead.skip(count)

    def _place(self, place: int, row: Row) -> None:
        held = self.apart.get(place)
        self.duplicates += held is not None
        if held is None or row.before(held):
            self.apart[place] = row

    def _repeat(self, place: int, row: Row) -> None:
        run = self.runs[bisect_right(self.runs, place, key=lambda run: run.first) - 1]
        if row.answered and row.offset < run.offset:
            raise Astray
        self.duplicates += 1


class _Ahead:
    """The keys of the requests that come next."""

    def __init__(self, blocks: Iterator[list[str]]) -> None:
        self._blocks = blocks
        self._keys: list[str] = []
        self._at = 0
        self.passed = 0

    def peek(self, count: int) -> list[str]:
        """So many, or what is left of them."""
        while len(self._keys) - self._at < count and (block := next(self._blocks, None)) is not None:
            self._keys = self._keys[self._at :] + block
            self._at = 0
        return self._keys[self._at : self._at + count]

    def skip(self, count: int) -> None:
        self._at += count
        self.passed += count

    def count(self) -> int:
        """All of them, read to the end."""
        return self.passed + len(self._keys) - self._at + sum(map(len, self._blocks))
