"""truth.jsonl: what really happened, one JSON object a line, durable before a client hears of it.

The order is: the store's row and the text of the line in one transaction, then the line into the file and
fsync, then the answer. So the log never tells of something that did not happen. A crash between the two is
healed at the next start, before anything is served: the newest lines stand in the store together with
their place in the file, and writing them there again changes nothing when they are there already.
"""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

import msgspec

from .._errors import ManifestError

if TYPE_CHECKING:
    from pathlib import Path

LogValue = str | int | float | None


def encode_entry(at: float, what: str, entries: dict[str, LogValue]) -> bytes:
    return msgspec.json.encode({"at": at, "what": what, **entries}) + b"\n"


class AuditLog:
    """The log, open for appending; ``size`` is its length in bytes."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        self.size = os.fstat(self._fd).st_size
        self._unwritten = b""

    def repair(self, position: int, lines: bytes) -> None:
        """Makes the log end with ``lines`` at ``position``. Raises ManifestError when older lines are missing."""
        if self.size < position:
            raise ManifestError(
                f"{self._path}: {self.size} bytes, but the service had written {position}; "
                "it was cut or replaced: restore the whole directory, or start with an empty one"
            )
        os.ftruncate(self._fd, position)
        self.size = position
        self.append(lines)

    def append(self, lines: bytes) -> None:
        """Durable when this returns. What a full disk does not take is owed, and raises OSError."""
        self._unwritten += lines
        self.flush()

    def flush(self) -> None:
        """Writes what is owed; until then, nothing else may be told."""
        if not self._unwritten:
            return
        while self._unwritten:
            written = os.pwrite(self._fd, self._unwritten, self.size)
            self._unwritten, self.size = self._unwritten[written:], self.size + written
        try:
            os.fsync(self._fd)
        except OSError as error:  # whatever its number: what is on the disk is not known now
            raise OSError(errno.EIO, f"{self._path} cannot be synced: {error.strerror}") from error

    def close(self) -> None:
        os.close(self._fd)
