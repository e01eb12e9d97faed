"""Result files: downloaded in pieces, read in order, by offset, and as values."""

from __future__ import annotations

import hashlib
import itertools
import os
from bisect import bisect_right
from functools import partial
from typing import TYPE_CHECKING, BinaryIO

import msgspec
from msgspec import Struct

from .._errors import IntegrityError, ProtocolError, TransportError
from .._model import Result, RowError
from .._options import DOWNLOAD_OVERLAP, MAX_RESULT_LINE_BYTES, MIB, WRITEBACK_BYTES
from .._rules.framing import BOM, Framer
from .._rules.generations import Failed, read_failed_line
from .._rules.join import Row
from .._rules.lines import OWN, LineShape
from .._rules.result_rows import ANSWER, BLANK, FAILURE, find_key, member_scanner, plain_keys, read_row
from .disk import copy_range, disk_errors, open_draft, open_private, sync, truncate, write_all
from .line_blocks import LineBlock, line_blocks

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
    from pathlib import Path

    from .._rules.json_text import MemberScanner
    from .storage import Readable


#: The ending of the digest beside a partial download.
SUM = ".sum"


class PartialDownload:
    """A results file that comes down over several tries.

    ``offset`` is where the next try begins: a little before the end of what is here, so that the overlap is compared.
    What lies before it is not fetched again: it is believed only as far as the digest beside it, which is written from
    time to time, says that it is what came.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._sum = path.with_name(path.name + SUM)
        self._digest = hashlib.sha256()
        with disk_errors(path):
            self._file = open_private("part", path, os.O_RDWR)
            self._held = self._hashed = self._noted = self._believed()
        self._position = 0

    def _believed(self) -> int:
        """The bytes to go on behind; others are cut off. Fewer than are compared anyway need no digest."""
        size = os.fstat(self._file.fileno()).st_size
        noted = _read_sum(self._sum) if size > DOWNLOAD_OVERLAP else _Sum(size, "")
        held = noted.size if noted is not None and noted.size <= size else 0
        while self._file.tell() < held and (block := self._file.read(min(MIB, held - self._file.tell()))):
            self._digest.update(block)
        if held and noted is not None and noted.sha256 not in ("", self._digest.hexdigest()):
            self._digest, held = hashlib.sha256(), 0
        if held < size:
            truncate("part", self._file, held)
        return held

    @property
    def offset(self) -> int:
        return max(0, self._held - DOWNLOAD_OVERLAP)

    def begin(self, offset: int) -> None:
        """The next piece begins at ``offset``; the service may have chosen 0."""
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
        self._digest.update(memoryview(piece)[known:])
        self._position += len(piece)
        self._hashed = max(self._hashed, self._position)
        if self._hashed - self._noted >= WRITEBACK_BYTES:
            self._note()

    def finish(self, total: int | None) -> None:
        """Raises TransportError when the body was shorter than the service had announced."""
        if total is not None and self._position != total:
            raise TransportError(f"download of results: {self._position} of {total} bytes came")
        with disk_errors(self._path):
            self._file.truncate(self._position)
            sync("part", self._file)

    def discard(self) -> None:
        """Empty the file, so that the next try starts over."""
        with disk_errors(self._path):
            self._file.truncate(0)

    def close(self) -> None:
        try:
            if self._hashed > max(self._noted, DOWNLOAD_OVERLAP):
                self._note()
        finally:
            self._file.close()

    def _note(self) -> None:
        """A digest that does not fit, because a crash came between, costs a download and nothing else."""
        with disk_errors(self._sum), open_draft("part", self._sum) as file:
            write_all("part", file, msgspec.json.encode(_Sum(self._hashed, self._digest.hexdigest())))
        self._noted = self._hashed


class _Sum(Struct, frozen=True):
    """How many bytes of a partial download came, and their SHA-256 in hex; empty where none is needed."""

    size: int
    sha256: str


def _read_sum(path: Path) -> _Sum | None:
    try:
        return msgspec.json.decode(path.read_bytes(), type=_Sum)
    except (FileNotFoundError, msgspec.DecodeError):
        return None


class ResultFiles:
    """Files of results read as one: offsets count through all of them. Open inside the block of a ``with``.

    Of a row above ``limit`` bytes only the key is read.
    """

    def __init__(self, paths: Sequence[Path], shape: LineShape = OWN, limit: int = MAX_RESULT_LINE_BYTES) -> None:
        self.paths = paths
        self.shape = shape
        self.limit = limit
        self._files: list[BinaryIO] = []
        self._starts: list[int] = []

    def __enter__(self) -> ResultFiles:
        start = 0
        for path in self.paths:
            self._files.append(path.open("rb", buffering=0))
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

    def blocks(self) -> Iterator[LineBlock[MemberScanner]]:
        """All lines in order, some at a time."""
        for file, start in zip(self._files, self._starts, strict=False):
            for block in line_blocks(file, self.limit, partial(member_scanner, self.shape)):
                yield msgspec.structs.replace(block, offset=start + block.offset) if start else block

    def read(self, offset: int, length: int) -> bytes:
        return b"".join(os.pread(file.fileno(), size, at) for file, at, size in self._pieces(offset, length))

    def row(self, offset: int, length: int) -> bytes:
        """With its newline."""
        return with_newline(self.read(offset, length))

    def ends_with_newline(self, offset: int, length: int) -> bool:
        return self.read(offset + length - 1, 1) == b"\n"

    def gather(self, offsets: Iterable[int], lengths: Iterable[int]) -> list[bytes]:
        """Rows from anywhere, each with its newline."""
        if len(self._files) != 1:
            return [*map(self.row, offsets, lengths)]
        lines = [*map(os.pread, itertools.repeat(self._files[0].fileno()), lengths, offsets)]
        return lines if all(line.endswith(b"\n") for line in lines) else [*map(with_newline, lines)]

    def copy(self, offset: int, length: int, what: str, target: BinaryIO) -> None:
        """Append these bytes to a file."""
        for file, at, size in self._pieces(offset, length):
            copy_range(what, file, at, size, target)

    def _pieces(self, offset: int, length: int) -> Iterator[tuple[BinaryIO, int, int]]:
        """File, offset in it, length: a range may go on from one file into the next."""
        while length:
            after = bisect_right(self._starts, offset)
            size = min(length, self._starts[after] - offset)
            yield self._files[after - 1], offset - self._starts[after - 1], size
            offset, length = offset + size, length - size


def with_newline(line: bytes) -> bytes:
    """The line with its newline, which some services leave out behind the last row."""
    return line if line.endswith(b"\n") else line + b"\n"


def rows(shape: LineShape, offset: int, lines: list[bytes]) -> Iterator[Row]:
    """Each line by itself, without blank ones. Raises IntegrityError for one cut short. The slow way."""
    for line in lines:
        if not line.isspace():
            yield _row(shape, offset, line)
        offset += len(line)


def _row(shape: LineShape, offset: int, line: bytes) -> Row:
    text = line.removeprefix(BOM)
    offset, ended = offset + len(line) - len(text), line.endswith(b"\n")
    row = read_row(shape, text)
    if not ended and not row.whole:
        raise _cut(offset)
    return Row(offset, len(text), row.key, row.kind, ended)


def long_row(shape: LineShape, block: LineBlock[MemberScanner], scanner: MemberScanner) -> Row:
    """The row of a line that is too long. Raises IntegrityError when it is cut short."""
    if not scanner.complete and not scanner.ended:
        raise _cut(block.offset)
    return Row(block.offset, block.length, find_key(shape, scanner), FAILURE, scanner.ended)


def _cut(offset: int) -> IntegrityError:
    return IntegrityError(f"results end in the middle of a line, at byte {offset}")


#: Added to the kind of a line that begins with a byte order mark.
MARKED = 64

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(tuple[list[str | None], list[int]]).decode


class ParsedLines(Struct, frozen=True, gc=False, array_like=True):
    """Keys and kinds of some lines; ``number`` and ``offset`` are those of the first."""

    number: int
    offset: int
    packed: bytes
    #: One byte a line.
    kinds: bytes

    def unpack(self) -> tuple[list[str | None], list[int]]:
        """Key, None where there is none, and length of each line."""
        return _decode(self.packed)


def parse_all(results: ResultFiles) -> Iterator[ParsedLines]:
    """All lines in order. Raises IntegrityError for a row cut short."""
    number = 0
    for block in results.blocks():
        if block.long is None:
            yield _parse(results.shape, number, block.offset, block.lines)
            number += len(block.lines)
        else:
            row = long_row(results.shape, block, block.long)
            yield ParsedLines(number, row.offset, _encode(([row.key], [row.length])), bytes([row.kind]))
            number += 1


def _parse(shape: LineShape, number: int, offset: int, lines: list[bytes]) -> ParsedLines:
    lengths = [*map(len, lines)]
    plain = plain_keys(shape, lines)
    if plain is not None:
        return ParsedLines(number, offset, _encode((plain, lengths)), bytes([ANSWER]) * len(lines))
    starts = itertools.accumulate(lengths, initial=offset)
    parsed = [next(rows(shape, start, [line]), None) for start, line in zip(starts, lines, strict=False)]
    keys = [row.key if row else None for row in parsed]
    marks = [MARKED if line.startswith(BOM) else 0 for line in lines]
    kinds = bytes((row.kind + mark) if row else BLANK for row, mark in zip(parsed, marks, strict=True))
    return ParsedLines(number, offset, _encode((keys, lengths)), kinds)


_error = msgspec.json.Decoder(RowError)


async def read_results(
    origin: Readable, name: str, shape: LineShape | None = None, offset: int = 0, length: int | None = None
) -> AsyncIterator[Result]:
    """The rows of an object of answers in this shape, or without one of failed keys; of a range, block by block."""
    framer = Framer(max_line=1 << 40)
    async for block in origin.blocks(name, offset, length):
        for raw in framer.feed(block):
            for line in raw.data.split(b"\n")[:-1]:
                yield _answer(line, shape) if shape else _failed(line)


def _answer(line: bytes, shape: LineShape) -> Result:
    row = read_row(shape, line)
    return Result(row.key or "", row.response)


def _failed(line: bytes) -> Result:
    row: Failed = read_failed_line(line)
    try:
        return Result(row.key, None, _error.decode(row.error))
    except msgspec.MsgspecError:
        return Result(row.key, None, RowError(row.reason))
