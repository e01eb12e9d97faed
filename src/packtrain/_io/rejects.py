"""The file of rejected lines while it grows. Blocking."""

from __future__ import annotations

import itertools
import os
from typing import TYPE_CHECKING

import msgspec

from .disk import disk_errors, open_private, sync, sync_directory, write_all

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from .._model import Reject


class RejectsFile:
    """Taken up at ``length`` bytes, which is how much of it belongs to the last sealed shard."""

    def __init__(self, path: Path, length: int) -> None:
        self._path = path
        with disk_errors(path):
            self._file = open_private("rejects", path, os.O_WRONLY)
            self._file.truncate(length)
            self._file.seek(length)
        self._length = length

    def write(self, rejects: Sequence[Reject]) -> list[int]:
        """One JSON line each; returns the length of the file after each of them."""
        lines = [msgspec.json.encode(reject) + b"\n" for reject in rejects]
        ends = list(itertools.accumulate(map(len, lines), initial=self._length))
        with disk_errors(self._path):
            write_all("rejects", self._file, b"".join(lines))
        self._length = ends[-1]
        return ends[1:]

    def sync(self) -> None:
        with disk_errors(self._path):
            sync("rejects", self._file)
            sync_directory("rejects", self._path.parent)

    def close(self) -> None:
        self._file.close()
