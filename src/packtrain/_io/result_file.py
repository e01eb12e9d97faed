"""Result files: rows in order, pieces by offset, and rows as values."""

from __future__ import annotations

import itertools
import os
import sys
from bisect import bisect_right
from typing import TYPE_CHECKING, BinaryIO

import aiofiles
import anyio
import msgspec
from msgspec import Raw, Struct

from .._errors import IntegrityError
from .._model import Result, RowError
from .._options import KIB, MIB
from .._rules.framing import Framer
from .._wire.gemini.batches import ResultLine
from .disk import copy_range

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
    from pathlib import Path

#: Lines taken at once: few enough that they stay in the processor's cache from one look to the next.
CHUNK_BYTES = 64 * KIB


class _Object(Struct, gc=False):
    """Matches any object, and checks its content without building it."""


class _Plain(Struct, gc=False, forbid_unknown_fields=True):
    """A row that is an answer and nothing else."""

    key: str
    response: _Object


_result = msgspec.json.Decoder(ResultLine)
_plain = msgspec.json.Decoder(_Plain)


class Row(Struct, frozen=True, gc=False):
    """Where a row stands, and what it says; ``key`` is None for a line that is no row."""

    offset: int
    length: int
    key: str | None
    answered: bool = False
    #: Whether its line ends, as all but the last do.
    ended: bool = True

    def before(self, other: Row) -> bool:
        """Of two rows of one key: an answer before an error, then the first."""
        return (not self.answered, self.offset) < (not other.answered, other.offset)


class ResultFiles:
    """Opened for as long as they are needed. Offsets count through all of them."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self.paths = paths
        self._files: list[BinaryIO] = []
        self._starts: list[int] = []

    def __enter__(self) -> ResultFiles:
        start = 0
        for path in self.paths:
            self._files.append(path.open("rb", buffering=MIB))
            self._starts.append(start)
            start += path.stat().st_size
        self._starts.append(start)
        return self

    def __exit__(self, *_: object) -> None:
        for file in self._files:
            file.close()

    @property
    def size(self) -> int:
        return self._starts[-1]

    def chunks(self) -> Iterator[tuple[int, list[bytes]]]:
        """All lines in order, some at a time, with the offset of the first."""
        for file, offset in zip(self._files, self._starts, strict=False):
            file.seek(0)
            while lines := file.readlines(CHUNK_BYTES):
                yield offset, lines
                offset += sum(map(len, lines))

    def read(self, offset: int, length: int) -> bytes:
        return b"".join(os.pread(file.fileno(), size, at) for file, at, size in self._pieces(offset, length))

    def row(self, offset: int, length: int) -> bytes:
        """With its newline."""
        return ended(self.read(offset, length))

    def gather(self, offsets: Iterable[int], lengths: Iterable[int]) -> list[bytes]:
        """Rows from anywhere, each with its newline."""
        if len(self._files) != 1:
            return [*map(self.row, offsets, lengths)]
        lines = [*map(os.pread, itertools.repeat(self._files[0].fileno()), lengths, offsets)]
        return lines if all(line.endswith(b"\n") for line in lines) else [*map(ended, lines)]

    def copy(self, what: str, offset: int, length: int, target: BinaryIO) -> None:
        """Append what stands there to a file."""
        for file, at, size in self._pieces(offset, length):
            copy_range(what, file, at, size, target)

    def _pieces(self, offset: int, length: int) -> Iterator[tuple[BinaryIO, int, int]]:
        """File, offset in it, length: what is asked for may go on from one file into the next."""
        while length:
            behind = bisect_right(self._starts, offset)
            size = min(length, self._starts[behind] - offset)
            yield self._files[behind - 1], offset - self._starts[behind - 1], size
            offset, length = offset + size, length - size


def ended(line: bytes) -> bytes:
    """Some services leave out the newline behind the last row."""
    return line if line.endswith(b"\n") else line + b"\n"


def plain_keys(lines: list[bytes]) -> list[str] | None:
    """The quick way: the keys of rows which all are answers and nothing else; None if any may be anything else."""
    try:
        for line in lines:
            if not line.isascii():
                line.decode()
        return [row.key for row in map(_plain.decode, lines)]
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None


def rows(offset: int, lines: list[bytes]) -> Iterator[Row]:
    """The careful way: each line by itself; blank ones are nothing. Raises IntegrityError for one cut short."""
    for line in lines:
        if not line.isspace():
            yield _row(offset, line)
        offset += len(line)


def _row(offset: int, line: bytes) -> Row:
    ended = line.endswith(b"\n")
    try:
        line.decode()
        found = _result.decode(line)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        if ended:
            return Row(offset, len(line), None)
        raise IntegrityError(f"results end in the middle of a line, at byte {offset}") from error
    return Row(offset, len(line), found.key, found.answered, ended)


#: What a line may be: nothing that counts, a row without an answer, an answer.
BLANK, ROW, ANSWER = 0, 1, 2

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(tuple[list[str | None], list[int]]).decode


class Chunk(Struct, frozen=True, gc=False, array_like=True):
    """``number`` and ``offset`` are those of the first line."""

    number: int
    offset: int
    packed: bytes
    #: One a line.
    kinds: bytes

    def unpack(self) -> tuple[list[str | None], list[int]]:
        """Key, None where there is none, and length of each line."""
        return _decode(self.packed)


def chunks(results: ResultFiles) -> Iterator[Chunk]:
    """All lines in order. Raises IntegrityError for a row cut short."""
    number = 0
    for offset, lines in results.chunks():
        yield _chunk(number, offset, lines)
        number += len(lines)


def _chunk(number: int, offset: int, lines: list[bytes]) -> Chunk:
    lengths = [*map(len, lines)]
    plain = plain_keys(lines)
    if plain is not None:
        return Chunk(number, offset, _encode((plain, lengths)), bytes([ANSWER]) * len(lines))
    starts = itertools.accumulate(lengths, initial=offset)
    found = [next(rows(start, [line]), None) for start, line in zip(starts, lines, strict=False)]
    keys = [row.key if row else None for row in found]
    kinds = bytes((ANSWER if row.answered else ROW) if row else BLANK for row in found)
    return Chunk(number, offset, _encode((keys, lengths)), kinds)


class _Value(Struct):
    """An answer as the service gave it, or a line of failed keys as we wrote it."""

    key: str
    response: Raw = Raw()
    # Whatever the service calls an error, which need not be an object.
    error: Raw = Raw()
    reason: str = ""


_value = msgspec.json.Decoder(_Value)
_error = msgspec.json.Decoder(RowError)


async def read_results(path: Path, offset: int = 0, length: int | None = None) -> AsyncIterator[Result]:
    """The rows of a file of answers or of failed keys, or of a piece of it, read block by block."""
    framer, left = Framer(max_line=1 << 40), sys.maxsize if length is None else length
    with anyio.CancelScope(shield=True):  # or a file that opens meanwhile would be nobody's to close
        file = await aiofiles.open(path, "rb", buffering=0)
    try:
        await file.seek(offset)
        while chunk := await file.read(min(MIB, left)):
            left -= len(chunk)
            for raw in framer.feed(chunk):
                for result in _values(raw.data):
                    yield result
    finally:
        with anyio.CancelScope(shield=True):
            await file.close()


def _values(lines: bytes) -> Iterator[Result]:
    for line in lines.split(b"\n")[:-1]:
        row = _value.decode(line)
        if bytes(row.response):
            yield Result(row.key, row.response)
        else:
            yield Result(row.key, None, _as_error(row))


def _as_error(row: _Value) -> RowError:
    try:
        return _error.decode(row.error)
    except msgspec.MsgspecError:
        return RowError(row.reason)
