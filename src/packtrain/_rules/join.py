"""Join of requests and result rows in one pass, while both are in the same order, which is the usual case.

Neither side is indexed and no row is read twice: rows that follow each other as their requests do form one span, of
which only the ends are kept. A row that does not fit is set apart and placed when all rows have been read, because a
row may come late, or twice. When too many do not fit, the join gives up with ``OutOfOrder``.
"""

from __future__ import annotations

import itertools
from bisect import bisect_right
from typing import TYPE_CHECKING

from msgspec import Struct

from .._options import JOIN_LOOK_AHEAD, JOIN_UNPLACED_FIRST, JOIN_UNPLACED_MOST, JOIN_UNPLACED_SHARE
from .result_rows import ANSWER, FAILURE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator


class Row(Struct, frozen=True, gc=False):
    """Position and content of one line of results; ``key`` is None for a line that is no row."""

    offset: int
    length: int
    key: str | None
    #: See ``result_rows``: the better, the higher.
    kind: int = FAILURE
    #: The line ends with a newline, as all but the last do.
    ended: bool = True

    @property
    def answered(self) -> bool:
        """An answer that no other row of the key can be better than."""
        return self.kind == ANSWER

    def before(self, other: Row) -> bool:
        """Of two rows of one key: the better one, then the first."""
        return (-self.kind, self.offset) < (-other.kind, other.offset)


class AnswerSpan(Struct, gc=False):
    """Answers that follow each other as their requests do; ``first`` is the ordinal of the first request."""

    first: int
    count: int
    offset: int
    length: int


class OutOfOrder(Exception):  # noqa: N818 - a verdict on the order, not an error
    """The rows are not in the order of the requests."""


class MergeJoin:
    """Takes the rows in order. ``keys`` are those of the requests, each once, some at a time.

    ``parse_keys`` gives the keys of lines that all are answers, or None; ``parse_rows`` gives each row of some lines,
    of which the first begins at the given offset.
    """

    def __init__(
        self,
        keys: Iterator[list[str]],
        parse_keys: Callable[[list[bytes]], list[str] | None],
        parse_rows: Callable[[int, list[bytes]], Iterable[Row]],
    ) -> None:
        self._keys = _KeyQueue(keys)
        self._parse_keys = parse_keys
        self._parse_rows = parse_rows
        self.spans: list[AnswerSpan] = []
        #: Requests whose row, None for none so far, is in no span.
        self.single: dict[int, Row | None] = {}
        #: Those of them that have no full answer so far.
        self.unanswered: dict[str, int] = {}
        #: Rows whose request was not near when they came.
        self.unmatched: list[Row] = []
        self.duplicates = 0
        #: Of requests; known when all are read.
        self.total = 0
        #: Spans that ``grown`` has given to their end, and bytes that it has given of the next one.
        self._given = (0, 0)

    @property
    def position(self) -> int:
        """Requests passed; those behind them have no row but among the unmatched."""
        return self._keys.position

    def take(self, offset: int, lines: list[bytes]) -> None:
        """The next lines of the results. Raises OutOfOrder, and what ``parse_rows`` raises."""
        keys = self._parse_keys(lines) if lines[-1].endswith(b"\n") else None
        if keys is not None and self._keys.peek(len(keys)) == keys:
            self._extend(len(keys), offset, sum(map(len, lines)))
            return
        for row in self._parse_rows(offset, lines):
            self.take_row(row)
        self._refuse_many()

    def take_row(self, row: Row) -> None:
        """One more row."""
        if row.key is None:
            self.unmatched.append(row)
        elif row.key in self.unanswered:
            self._place(self.unanswered[row.key], row)
            if row.answered:
                del self.unanswered[row.key]
        elif self._step_to(row.key):
            self._match(row, row.key)
        else:
            self.unmatched.append(row)

    def _refuse_many(self) -> None:
        unplaced = len(self.single) + len(self.unmatched) + len(self.spans)
        if unplaced > min(JOIN_UNPLACED_FIRST + self.position // JOIN_UNPLACED_SHARE, JOIN_UNPLACED_MOST):
            raise OutOfOrder

    def grown(self) -> list[tuple[int, int]]:
        """Offset and length of what the spans have grown by since the last call."""
        whole, part = self._given
        pieces = [(span.offset, span.length) for span in self.spans[whole:]]
        if pieces:
            pieces[0] = (pieces[0][0] + part, pieces[0][1] - part)
            self._given = (len(self.spans) - 1, self.spans[-1].length)
        return pieces

    def finish(self) -> None:
        """Count the requests that are left when the results end."""
        self.total = self._keys.count()

    def settle(self, keys: Iterable[list[str]]) -> list[Row]:
        """Find the requests of unmatched rows; ``keys`` are all once more. Returns the rows without one, in order.

        Raises OutOfOrder when an answer in a span belongs to a request that got an earlier one.
        """
        wanted = {row.key for row in self.unmatched} - {None}
        if not wanted:
            return self.unmatched
        ordinals = {key: ordinal for ordinal, key in enumerate(itertools.chain.from_iterable(keys)) if key in wanted}
        unknown = []
        for row in self.unmatched:
            ordinal = ordinals.get(row.key) if row.key is not None else None
            if ordinal is None:
                unknown.append(row)
            elif ordinal in self.single or ordinal >= self.position:
                self._place(ordinal, row)
            else:
                self._repeat(ordinal, row)
        return unknown

    def _step_to(self, key: str) -> bool:
        """Pass over the requests before ``key``; False when it is not near."""
        near = self._keys.peek(1)
        if near and near[0] == key:
            return True
        near = self._keys.peek(JOIN_LOOK_AHEAD)
        if key not in near:
            return False
        steps = near.index(key)
        for ordinal, skipped in enumerate(near[:steps], self.position):
            self.single[ordinal] = None
            self.unanswered[skipped] = ordinal
        self._keys.skip(steps)
        return True

    def _match(self, row: Row, key: str) -> None:
        if row.answered and row.ended:
            self._extend(1, row.offset, row.length)
            return
        self.single[self.position] = row
        if not row.answered:
            self.unanswered[key] = self.position
        self._keys.skip(1)

    def _extend(self, count: int, offset: int, length: int) -> None:
        last = self.spans[-1] if self.spans else None
        if last and last.first + last.count == self.position and last.offset + last.length == offset:
            last.count += count
            last.length += length
        else:
            self.spans.append(AnswerSpan(self.position, count, offset, length))
        self._keys.skip(count)

    def _place(self, ordinal: int, row: Row) -> None:
        held = self.single.get(ordinal)
        self.duplicates += held is not None
        if held is None or row.before(held):
            self.single[ordinal] = row

    def _repeat(self, ordinal: int, row: Row) -> None:
        span = self.spans[bisect_right(self.spans, ordinal, key=lambda span: span.first) - 1]
        if row.answered and row.offset < span.offset:
            raise OutOfOrder
        self.duplicates += 1


class _KeyQueue:
    """The keys of the requests that come next."""

    def __init__(self, blocks: Iterator[list[str]]) -> None:
        self._blocks = blocks
        self._keys: list[str] = []
        self._at = 0
        self.position = 0

    def peek(self, count: int) -> list[str]:
        """The next ``count``, or what is left of them."""
        while len(self._keys) - self._at < count and (block := next(self._blocks, None)) is not None:
            self._keys = self._keys[self._at :] + block
            self._at = 0
        return self._keys[self._at : self._at + count]

    def skip(self, count: int) -> None:
        self._at += count
        self.position += count

    def count(self) -> int:
        """All of them, read to the end."""
        return self.position + len(self._keys) - self._at + sum(map(len, self._blocks))
