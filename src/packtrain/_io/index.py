"""Where the row of each key stands, for results in any order."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .answers import ResultFiles, ended, plain_keys, rows

if TYPE_CHECKING:
    from collections.abc import Iterator

ABSENT = -1
_LENGTH_BITS = 32
_LENGTH = (1 << _LENGTH_BITS) - 1


class Index:
    """Goes through all results for each window of keys. A position packs offset, length, and whether the row is an
    answer."""

    def __init__(self, results: ResultFiles) -> None:
        self._results = results
        #: One byte a line: 0 when it is of nobody so far.
        self._known = bytearray()
        self.duplicates = 0

    def fill(self, wanted: dict[str, int]) -> dict[str, int]:
        """Set the position of each wanted key that has a row: an answer before an error, then the first."""
        first = not self._known
        number = 0
        for offset, lines in self._results.chunks():
            if first:
                self._known += bytes(len(lines))
            keys = plain_keys(lines)
            if keys is None:
                self._fill_each(number, offset, lines, wanted)
            else:
                self._fill_plain(number, offset, zip(keys, map(len, lines), strict=True), wanted)
            number += len(lines)
        return wanted

    def unknown(self) -> Iterator[bytes]:
        """Rows whose key is in no request, and rows that are none."""
        number = 0
        if all(self._known):
            return
        for _, lines in self._results.chunks():
            known = self._known[number : number + len(lines)]
            yield from (ended(line) for line, claimed in zip(lines, known, strict=True) if not claimed)
            number += len(lines)

    def read(self, positions: list[int]) -> list[bytes]:
        """The rows at these positions, each with its newline."""
        return self._results.gather([(at >> _LENGTH_BITS + 1, at >> 1 & _LENGTH) for at in positions])

    def _fill_plain(self, number: int, offset: int, found: Iterator[tuple[str, int]], wanted: dict[str, int]) -> None:
        held_by, known = wanted.get, self._known
        for key, length in found:
            held = held_by(key)
            if held is not None:
                known[number] = 1
                if held == ABSENT:
                    wanted[key] = (offset << _LENGTH_BITS | length) << 1 | 1
                else:
                    self.duplicates += 1
                    if not held & 1:
                        wanted[key] = (offset << _LENGTH_BITS | length) << 1 | 1
            number += 1
            offset += length

    def _fill_each(self, number: int, offset: int, lines: list[bytes], wanted: dict[str, int]) -> None:
        for at, line in enumerate(lines, number):
            row = next(rows(offset, [line]), None)
            offset += len(line)
            held = wanted.get(row.key) if row and row.key is not None else None
            self._known[at] |= row is None or held is not None
            if row is None or row.key is None or held is None:
                continue
            self.duplicates += held != ABSENT
            if held == ABSENT or (row.answered and not held & 1):
                wanted[row.key] = (row.offset << _LENGTH_BITS | row.length) << 1 | row.answered
