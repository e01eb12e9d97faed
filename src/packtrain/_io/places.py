"""Places of valid lines in the input: the source and line of each ordinal.

A file of records of fixed size, one for each ordinal whose line does not come right behind that of the ordinal before:
where a source begins, and behind rejected and blank lines. It grows with the input and is cut to the cursor at a
restart, as the list of rejected lines is.
"""

from __future__ import annotations

import itertools
import os
import struct
from bisect import bisect_left
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING, NamedTuple

from .disk import disk_errors, draft, make_durable, open_draft, open_private, sync, truncate, write_all
from .threads import in_thread, uncancelled

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path
    from types import TracebackType
    from typing import Self

    from .._rules.validate import Block

_RECORD = struct.Struct("<QQI")
#: Between two names.
_END = b"\0"


class Place(NamedTuple):
    """Where a valid line comes from; ``line`` counts from 1."""

    source: str
    line: int


class _Run(NamedTuple):
    """Ordinals from ``ordinal`` on are lines from ``line`` on of one source, by its number."""

    ordinal: int
    line: int
    source: int


class PlacesFile:
    """The file while it grows, from its first ``length`` bytes on."""

    def __init__(self, path: Path, length: int) -> None:
        self._path = path
        with disk_errors(path):
            self._file = open_private("places", path, os.O_RDWR)
            length = min(length, self._file.seek(0, os.SEEK_END)) // _RECORD.size * _RECORD.size
            truncate("places", self._file, length)
            self._file.seek(max(0, length - _RECORD.size))
            last = self._file.read(_RECORD.size)
        self._last = _Run(*_RECORD.unpack(last)) if last else None
        #: Bytes before the records of the latest block, and the ordinals of these.
        self._before = length
        self._ordinals: list[int] = []
        self._written = False

    async def add(self, block: Block, source: int, ordinal: int) -> None:
        """Note the accepted lines of a block, of which the first has this ordinal."""
        runs = self._runs(block.lines_no, source, ordinal)
        self._before += len(self._ordinals) * _RECORD.size
        self._ordinals = [run.ordinal for run in runs]
        if runs:
            self._last = runs[-1]
            self._written = True
            await in_thread(self._write, b"".join(_RECORD.pack(*run) for run in runs))

    def length(self, ordinal: int) -> int:
        """Bytes of the records for ordinals before this one, which is of the latest block or ends it."""
        return self._before + bisect_left(self._ordinals, ordinal) * _RECORD.size

    async def sync(self) -> None:
        if self._written:
            await in_thread(self._sync)
            self._written = False

    async def close(self) -> None:
        await uncancelled(self._file.close)

    def _runs(self, lines: Sequence[int], source: int, ordinal: int) -> list[_Run]:
        if not lines:
            return []
        # Of a range only the first can be new.
        jumps = (
            [] if isinstance(lines, range) else [at for at in range(1, len(lines)) if lines[at] != lines[at - 1] + 1]
        )
        runs = [_Run(ordinal + at, lines[at], source) for at in (0, *jumps)]
        # What was noted before the last restart is not noted again.
        known = self._last.ordinal if self._last else -1
        return [
            after
            for before, after in itertools.pairwise((self._last, *runs))
            if after and after.ordinal > known and not _follows(before, after)
        ]

    def _write(self, data: bytes) -> None:
        with disk_errors(self._path):
            write_all("places", self._file, data)

    def _sync(self) -> None:
        with disk_errors(self._path):
            sync("places", self._file)


def _follows(before: _Run | None, after: _Run) -> bool:
    return (
        before is not None
        and before.source == after.source
        and after.line - before.line == after.ordinal - before.ordinal
    )


class Places:
    """Reads the file, best in ascending order; without one, nothing is known."""

    def __init__(self, path: Path, names: Path) -> None:
        self._files = ExitStack()
        self._names: list[str] = []
        self._count = 0
        with suppress(FileNotFoundError):
            self._file = self._files.enter_context(path.open("rb", buffering=0))
            self._names = [name.decode("utf-8", "backslashreplace") for name in names.read_bytes().split(_END)]
            self._count = self._file.seek(0, os.SEEK_END) // _RECORD.size
        self._current: _Run | None = None
        self._next = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._files.close()

    def find(self, ordinal: int) -> Place | None:
        """Where the line of this ordinal comes from; None where it was not noted."""
        if self._current is None or not self._current.ordinal <= ordinal < self._next:
            at = bisect_left(range(self._count), ordinal + 1, key=lambda number: self._run(number).ordinal)
            self._current = self._run(at - 1) if at else None
            self._next = self._run(at).ordinal if at < self._count else 1 << 63
        run = self._current
        if run is None or run.source >= len(self._names):
            return None
        return Place(self._names[run.source], run.line + ordinal - run.ordinal)

    def _run(self, number: int) -> _Run:
        return _Run(*_RECORD.unpack(os.pread(self._file.fileno(), _RECORD.size, number * _RECORD.size)))


def write_names(path: Path, names: Sequence[str]) -> None:
    """The names of the sources, in order; durable. Blocking."""
    temporary = draft(path)
    with disk_errors(path), open_draft("places", temporary) as file:
        write_all("places", file, _END.join(map(os.fsencode, names)))
        make_durable("places", file, temporary, path)
