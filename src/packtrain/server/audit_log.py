"""Audit log truth.jsonl: every change as one JSON object per line, durable before the client gets its response.

Order of a change: one transaction commits the row and the text of its log lines (the outbox), then the lines are
appended and synced, then the response is sent. So the log never records a change that did not happen. A crash between
commit and append is repaired at the next start, before anything is served: the outbox holds the newest lines and
their position in the file, and writing them there again is idempotent.
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


def encode_entry(at: float, what: str, values: dict[str, LogValue]) -> bytes:
    return msgspec.json.encode({"at": at, "what": what, **values}) + b"\n"


class AuditLog:
    """The open log; ``size`` is its length in bytes."""

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
        """Durable on return. Raises OSError on a full disk; the unwritten rest is kept for ``flush``."""
        self._unwritten += lines
        self.flush()

    def flush(self) -> None:
        """Writes what an earlier ``append`` could not; nothing else may be appended before."""
        if not self._unwritten:
            return
        while self._unwritten:
            written = os.pwrite(self._fd, self._unwritten, self.size)
            self._unwritten, self.size = self._unwritten[written:], self.size + written
        try:
            os.fsync(self._fd)
        except OSError as error:  # EIO whatever the cause: the content on disk is unknown
            raise OSError(errno.EIO, f"{self._path} cannot be synced: {error.strerror}") from error

    def close(self) -> None:
        os.close(self._fd)
