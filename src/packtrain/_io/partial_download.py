"""A file that is coming down in pieces, over as many tries as it takes. Blocking."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from .._errors import ProtocolError, TransportError
from .._options import KIB
from .disk import disk_errors, open_private, sync, write_all

if TYPE_CHECKING:
    from pathlib import Path

#: Bytes fetched twice at the seam of a resumed download, and compared.
_OVERLAP = 64 * KIB


class Part:
    """``offset`` is where to go on: a little before the end of what is here, so that the seam can be checked."""

    def __init__(self, path: Path) -> None:
        self._path = path
        with disk_errors(path):
            self._file = open_private("part", path, os.O_RDWR)
            self._held = os.fstat(self._file.fileno()).st_size
        self._position = 0

    @property
    def offset(self) -> int:
        return max(0, self._held - _OVERLAP)

    def begin(self, offset: int) -> None:
        """The next piece stands at ``offset``, which the service may have chosen to be 0."""
        if offset > self._held:
            raise ProtocolError(f"download of results: the service began at byte {offset}, beyond our {self._held}")
        self._position = offset

    def write(self, piece: bytes) -> None:
        """Raises TransportError when the bytes are not those of the earlier try; the next one starts over."""
        known = min(len(piece), max(0, self._held - self._position))
        with disk_errors(self._path):
            if known and os.pread(self._file.fileno(), known, self._position) != piece[:known]:
                self._file.truncate(0)
                raise TransportError("download of results: the file changed between two tries; starting over")
            self._file.seek(self._position + known)
            write_all("part", self._file, memoryview(piece)[known:])
        self._position += len(piece)

    def finish(self, total: int | None) -> None:
        """Raises TransportError when the body was shorter than the service had announced."""
        if total is not None and self._position != total:
            raise TransportError(f"download of results: {self._position} of {total} bytes came")
        with disk_errors(self._path):
            self._file.truncate(self._position)
            sync("part", self._file)

    def discard(self) -> None:
        """What came before is of no use; the next try starts over."""
        with disk_errors(self._path):
            self._file.truncate(0)

    def close(self) -> None:
        self._file.close()
