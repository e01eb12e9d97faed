"""Lines of a job's input and results: requests read in blocks, answers written with their keys.

An invalid line fails alone: its error is written under its key if it has one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import msgspec
from msgspec import Raw, Struct

from .._errors import ProtocolError
from .._model import RowError
from .._options import MAX_LINE_BYTES, MIB, PIECE_BYTES
from .._rules.framing import BOM
from .._wire.gemini.batches import Failure
from .._wire.gemini.errors import GRPC_INVALID_ARGUMENT
from .jobs import Counts
from .replies import HttpError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from typing import BinaryIO

    from .backends.backend import Answer
    from .blobs import Appender


#: Input bytes and requests per block: few, so that a cancel is noticed soon and the answers fit into memory (an answer
#: may be a hundred times as long as its request).
BLOCK_BYTES = 1 * MIB
BLOCK_ROWS = 512


class Row(Struct, frozen=True):
    """One line: its key or metadata as JSON text, empty without one; and its request or the error of the line."""

    key: Raw
    request: Raw | RowError


def count_lines(file: BinaryIO) -> int:
    """Number of lines, counting a last line without newline; rewinds the file."""
    count, last = 0, b"\n"
    while piece := file.read(PIECE_BYTES):
        count, last = count + piece.count(b"\n"), piece[-1:]
    file.seek(0)
    return count + (last != b"\n")


class Block(Struct, frozen=True):
    """Rows in file order, and the requests of the valid ones."""

    rows: list[Row]
    requests: list[Raw]


class LineFormat(Protocol):
    """Decodes request lines and encodes result lines."""

    def read(self, line: bytes, number: int) -> Row: ...

    def write(self, key: Raw, answer: Answer) -> bytes: ...


class _Line(Struct, frozen=True):
    key: Raw = Raw()
    request: Raw = Raw()


_NO_KEY = Raw()
_decode = msgspec.json.Decoder(_Line).decode
_encode = msgspec.json.Encoder().encode


class FileFormat:
    """``{"key": ..., "request": ...}`` gives ``{"response": ..., "key": ...}``."""

    def read(self, line: bytes, number: int) -> Row:
        try:
            str(line, "utf-8")
            decoded = _decode(line)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            return bad_row(number, f"it is not a JSON object: {error}")
        if not bytes(decoded.key).startswith(b'"'):
            return bad_row(number, "key is missing or not a string")
        if not bytes(decoded.request).startswith(b"{"):
            return bad_row(number, "request is missing or not an object", decoded.key)
        return Row(decoded.key, decoded.request)

    def write(self, key: Raw, answer: Answer) -> bytes:
        return encode_result(key, answer)


def bad_row(number: int, reason: str, key: Raw = _NO_KEY) -> Row:
    return Row(key, RowError(code=GRPC_INVALID_ARGUMENT, message=f"Line {number}: {reason}."))


class RequestReader:
    """Reads the requests of a file, skipping blank lines."""

    def __init__(self, file: BinaryIO, format: LineFormat) -> None:
        self._file = file
        self._format = format
        self._number = 0

    def block(self, most: int | None = None) -> Block:
        """The next rows, at most ``most``; none at the end of the file."""
        rows: list[Row] = []
        size, most = 0, min(most or BLOCK_ROWS, BLOCK_ROWS)
        while (size < BLOCK_BYTES or not rows) and len(rows) < most and (line := self._file.readline(MAX_LINE_BYTES)):
            self._number += 1
            size += len(line)
            line = line.removeprefix(BOM) if self._number == 1 else line
            if line.isspace():
                continue
            whole = line.endswith(b"\n") or len(line) < MAX_LINE_BYTES
            rows.append(self._format.read(line, self._number) if whole else self._overlong())
        return Block(rows, [row.request for row in rows if isinstance(row.request, Raw)])

    def _overlong(self) -> Row:
        while (rest := self._file.readline(MAX_LINE_BYTES)) and not rest.endswith(b"\n"):
            pass
        return bad_row(self._number, f"it is longer than {MAX_LINE_BYTES} bytes")


class ResultWriter:
    """Appends to a result file; ``counts`` covers the lines written."""

    def __init__(self, file: Appender, format: LineFormat) -> None:
        self._file = file
        self._format = format
        self.counts = Counts()

    def write(self, block: Block, answers: Sequence[Answer]) -> None:
        """Writes ``answers`` to the block's requests, atomically. Raises ProtocolError for a different number."""
        if len(answers) != len(block.requests):
            raise ProtocolError(f"the backend gave {len(answers)} answers to {len(block.requests)} requests")
        remaining = iter(answers)
        outcomes = [next(remaining) if isinstance(row.request, Raw) else row.request for row in block.rows]
        self._file.write_all(join_lines(map(self._format.write, (row.key for row in block.rows), outcomes)))
        failed = sum(isinstance(outcome, RowError) for outcome in outcomes)
        self.counts.failed += failed
        self.counts.succeeded += len(outcomes) - failed


def join_lines(lines: Iterable[bytes]) -> Iterator[bytes]:
    """Pieces of at least PIECE_BYTES, so that not all lines are in memory at once."""
    pending, size = list[bytes](), 0
    for line in lines:
        pending.append(line)
        size += len(line)
        if size >= PIECE_BYTES:
            yield b"".join(pending)
            pending, size = [], 0
    yield b"".join(pending)


def encode_result(key: Raw, answer: Answer) -> bytes:
    if not isinstance(answer, RowError):
        return b'{"response":%b,"key":%b}\n' % (answer, key)
    error = encode_failure(answer)
    return b'{"key":%b,"error":%b}\n' % (key, error) if key else b'{"error":%b}\n' % error


def encode_failure(error: RowError) -> bytes:
    """Leaves out ``details``: the official SDK fails on a job with a row that has them."""
    return _encode(Failure(code=error.code or 0, message=error.message))


#: Ends each line of inline results; removed after the last one. So the blob without its last two bytes is the inside
#: of a JSON list and is sent as it is.
SEPARATOR = b",\n"


class InlineRequest(Struct, frozen=True, omit_defaults=True):
    """One inline request. ``metadata`` is any object, returned with the result."""

    request: Raw
    metadata: Raw = Raw()


class InlineFormat:
    """``{"request": ..., "metadata": ...}`` gives ``{"response": ..., "metadata": ...}``."""

    def read(self, line: bytes, number: int) -> Row:
        item = _decode_item(line)
        return Row(item.metadata, item.request)

    def write(self, key: Raw, answer: Answer) -> bytes:
        outcome = (b"error", encode_failure(answer)) if isinstance(answer, RowError) else (b"response", answer)
        metadata = b',"metadata":%b' % key if key else b""
        return b'{"%b":%b%b}' % (*outcome, metadata) + SEPARATOR


_decode_item = msgspec.json.Decoder(InlineRequest).decode


def encode_inline_requests(items: Sequence[InlineRequest]) -> bytes:
    """The requests as lines. Raises HttpError 400 for an empty list, and for a request or metadata not an object."""
    if not items:
        raise HttpError(400, "batch.inputConfig.requests.requests is empty; give at least one request.")
    return b"".join(_item_line(item, at) for at, item in enumerate(items))


def _item_line(item: InlineRequest, at: int) -> bytes:
    if not bytes(item.request).startswith(b"{") or not (bytes(item.metadata) or b"{").startswith(b"{"):
        raise HttpError(400, f"batch.inputConfig.requests.requests[{at}]: request or metadata is not an object.")
    return msgspec.json.format(msgspec.json.encode(item), indent=-1) + b"\n"
