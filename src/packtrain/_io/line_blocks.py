"""Lines of a file, some at a time, in bounded memory whatever their length. Blocking."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

from msgspec import Struct

from .._options import JOIN_READ_BYTES
from .._rules.framing import BOM

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import BinaryIO


class Scanner(Protocol):
    """Is fed the bytes of a line that is too long to be kept."""

    def feed(self, data: bytes) -> None: ...


S = TypeVar("S", bound=Scanner)


class LineBlock(Struct, Generic[S], frozen=True, gc=False):
    """Lines that follow each other, with their newlines; or one that is too long, and what it was fed to."""

    offset: int
    lines: list[bytes]
    long: S | None = None
    #: Of the long line.
    length: int = 0


def line_blocks(file: BinaryIO, limit: int, scanner: Callable[[], S]) -> Iterator[LineBlock[S]]:
    """All lines of a file, but for a byte order mark at its start. A line above ``limit`` bytes goes to a scanner."""
    offset = len(BOM) if file.seek(0) == 0 and file.read(len(BOM)) == BOM else 0
    file.seek(offset)
    parts: list[bytes] = []
    held, long = 0, None
    while data := file.read(min(JOIN_READ_BYTES, limit)):
        start, end = 0, data.rfind(b"\n") + 1
        if long is not None or held + (data.find(b"\n") if end else len(data)) > limit:
            start = data.index(b"\n") + 1 if end else len(data)
            long = _feed(long or scanner(), [*parts, data[:start]])
            parts.clear()
            if not end:
                held += start
                continue
            yield LineBlock(offset, [], long, held + start)
            offset, held, long = offset + held + start, 0, None
        if start < end:
            lines = io.BytesIO(b"".join((*parts, memoryview(data)[start:end]))).readlines()
            yield LineBlock(offset, lines)
            offset += held + end - start
        if end:
            parts.clear()
            held = 0
        parts.append(data[end:])
        held += len(data) - end
    if long is not None:
        yield LineBlock(offset, [], long, held)
    elif held:
        yield LineBlock(offset, [b"".join(parts)])


def _feed(scanner: S, pieces: list[bytes]) -> S:
    for piece in pieces:
        scanner.feed(piece)
    return scanner
