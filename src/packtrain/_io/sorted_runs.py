"""Sorted runs of key digests on disk.

A run is its digests in order, 16 bytes each, and a footer with their CRC-32 and number. One digest in 256
stays in memory, so that a look costs one search in memory and one read of 4 kB. All functions block.
"""

from __future__ import annotations

import os
import struct
import zlib
from array import array
from bisect import bisect_left, bisect_right
from typing import TYPE_CHECKING

from .._errors import KeysDamaged
from .._options import MIB
from .._rules.keys import DIGEST_BYTES, digests_of, ranges
from .disk import disk_errors, make_durable, open_draft, remove, write_all

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

_FOOTER = struct.Struct(">4sIQ")
_MAGIC = b"PTK1"
_PAGE = 256 * DIGEST_BYTES
#: Digests sorted at once when runs are merged.
_SORTED_AT_ONCE = 1 << 17


class SortedRun:
    """A run opened for reading. Raises KeysDamaged when it is missing, cut or damaged."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._file = path.open("rb", buffering=0)
        except OSError as error:
            raise KeysDamaged(f"{path}: the ledger of keys cannot be read ({error.strerror})", path=path) from error
        try:
            self.count, self._crc = self._footer()
            self._fences = self._check()
        except BaseException:
            self._file.close()
            raise

    def __len__(self) -> int:
        return self.count

    def __contains__(self, digest: bytes) -> bool:
        return any(_holds(page, digest) for page in self._candidates(digest))

    def between(self, low: bytes, high: bytes | None) -> bytes:
        """The digests from ``low`` up to, without, ``high``; to the end for None."""
        start = self._position(low)
        stop = self.count if high is None else self._position(high)
        return self._read(start * DIGEST_BYTES, (stop - start) * DIGEST_BYTES)

    def pieces(self) -> Iterator[bytes]:
        """All digests in order, about a mebibyte at a time."""
        size = self.count * DIGEST_BYTES
        for offset in range(0, size, MIB):
            yield self._read(offset, min(MIB, size - offset))

    def close(self) -> None:
        self._file.close()

    def delete(self) -> None:
        self.close()
        remove("keys", self.path)

    def _footer(self) -> tuple[int, int]:
        size = os.fstat(self._file.fileno()).st_size
        footer = os.pread(self._file.fileno(), _FOOTER.size, max(0, size - _FOOTER.size))
        if len(footer) != _FOOTER.size:
            raise self._damaged("it is cut short")
        magic, crc, count = _FOOTER.unpack(footer)
        if magic != _MAGIC or size != count * DIGEST_BYTES + _FOOTER.size:
            raise self._damaged("its length does not match")
        return count, crc

    def _check(self) -> array[int]:
        """Read it all once: the first half of each page's first digest, in big-endian order."""
        crc = 0
        fences = array("Q")
        for piece in self.pieces():
            crc = zlib.crc32(piece, crc)
            fences.extend(int.from_bytes(piece[at : at + 8], "big") for at in range(0, len(piece), _PAGE))
        if crc != self._crc:
            raise self._damaged("its checksum does not match")
        return fences

    def _damaged(self, how: str) -> KeysDamaged:
        return KeysDamaged(f"{self.path}: the ledger of keys is damaged: {how}", path=self.path)

    def _candidates(self, digest: bytes) -> Iterator[bytes]:
        """The pages that may hold a digest: one, unless first halves are equal across pages."""
        half = int.from_bytes(digest[:8], "big")
        first = max(0, bisect_left(self._fences, half) - 1)
        for page in range(first, bisect_right(self._fences, half)):
            yield self._page(page)

    def _position(self, digest: bytes) -> int:
        """How many digests stand before it."""
        page = max(0, bisect_left(self._fences, int.from_bytes(digest[:8], "big")) - 1)
        position = page * (_PAGE // DIGEST_BYTES)
        while position < self.count:
            found = bisect_left(digests_of(self._page(position * DIGEST_BYTES // _PAGE)), digest)
            position += found
            if found < _PAGE // DIGEST_BYTES:
                break
        return position

    def _page(self, page: int) -> bytes:
        offset = page * _PAGE
        return self._read(offset, min(_PAGE, self.count * DIGEST_BYTES - offset))

    def _read(self, offset: int, length: int) -> bytes:
        data = os.pread(self._file.fileno(), length, offset)
        if len(data) != length:
            raise self._damaged(f"it ends at byte {offset + len(data)}")
        return data


def write_run(path: Path, chunks: Iterable[bytes]) -> SortedRun:
    """Make a run of chunks that follow each other in order. It is durable under its name on return."""
    temporary = path.with_name(path.name + ".tmp")
    crc = count = 0
    with disk_errors(path):
        file = open_draft("keys", temporary)
        with file:
            for chunk in chunks:
                write_all("keys", file, chunk)
                crc = zlib.crc32(chunk, crc)
                count += len(chunk) // DIGEST_BYTES
            write_all("keys", file, _FOOTER.pack(_MAGIC, crc, count))
            make_durable("keys", file, temporary, path)
    return SortedRun(path)


def merged(runs: Sequence[SortedRun]) -> Iterator[bytes]:
    """All digests of some runs as chunks in order, in bounded memory.

    Range by range: the runs' slices are put together and sorted, which finds and merges the sorted slices.
    """
    for low, high in ranges(sum(map(len, runs)), _SORTED_AT_ONCE):
        yield b"".join(sorted(digests_of(b"".join(run.between(low, high) for run in runs))))


def _holds(page: bytes, digest: bytes) -> bool:
    at = page.find(digest)
    while at > 0 and at % DIGEST_BYTES:
        at = page.find(digest, at + 1)
    return at >= 0
