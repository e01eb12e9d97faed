"""The file of rejected lines while it grows. Blocking."""

from __future__ import annotations

import itertools
import os
from typing import TYPE_CHECKING

import msgspec

from .spool import disk_errors, sync_directory, write_all

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from .._model import Reject


class RejectsFile:
    """Taken up at ``length`` bytes, which is how much of it belongs to the last sealed shard."""

    def __init__(self, path: Path, length: int) -> None:
        self._path = path
        with disk_errors(path):
            flags = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
            self._file = os.fdopen(os.open(path, flags, 0o600), "wb", buffering=0)
            self._file.truncate(length)
            self._file.seek(length)
        self._length = length

    def write(self, rejects: Sequence[Reject]) -> list[int]:
        """One JSON line each; returns the length of the file after each of them."""
        lines = [msgspec.json.encode(reject) + b"\n" for reject in rejects]
        ends = list(itertools.accumulate(map(len, lines), initial=self._length))
        with disk_errors(self._path):
            write_all(self._file, b"".join(lines))
        self._length = ends[-1]
        return ends[1:]

    def sync(self) -> None:
        with disk_errors(self._path):
            os.fsync(self._file.fileno())
            sync_directory(self._path.parent)

    def close(self) -> None:
        self._file.close()
