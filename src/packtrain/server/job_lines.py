"""The lines of a job's files: requests read in blocks, answers written next to their keys.

What is wrong with a line stays with that line, under its key if it has one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import msgspec
from msgspec import Raw, Struct

from .._errors import ProtocolError
from .._model import RowError
from .._options import MAX_LINE_BYTES, MIB, PIECE_BYTES
from .._wire.gemini.batches import Failure
from .._wire.gemini.errors import GRPC_INVALID_ARGUMENT
from .jobs import Counts
from .replies import HttpError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from typing import BinaryIO

    from .backends.backend import Answer
    from .blobs import Appender


#: Input and requests of one block: small enough that a cancel is soon seen and the answers fit into memory, of which
#: one may be a hundred times as long as its request.
BLOCK_BYTES = 1 * MIB
BLOCK_ROWS = 512


class Row(Struct, frozen=True):
    """One line: the JSON text that names it (key or metadata), empty when it has none, and its request or what is
    wrong with it."""

    key: Raw
    request: Raw | RowError


def count_lines(file: BinaryIO) -> int:
    """Of the whole file, a last line without a newline included; the file is at its start again."""
    count, last = 0, b"\n"
    while piece := file.read(PIECE_BYTES):
        count, last = count + piece.count(b"\n"), piece[-1:]
    file.seek(0)
    return count + (last != b"\n")


class Block(Struct, frozen=True):
    """Rows in the order of the file, and the requests of those that have one."""

    rows: list[Row]
    requests: list[Raw]


class LineFormat(Protocol):
    """How a request stands on its line, and its result on another."""

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
            found = _decode(line)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            return bad_row(number, f"it is not a JSON object: {error}")
        if not bytes(found.key).startswith(b'"'):
            return bad_row(number, "key is missing or not a string")
        if not bytes(found.request).startswith(b"{"):
            return bad_row(number, "request is missing or not an object", found.key)
        return Row(found.key, found.request)

    def write(self, key: Raw, answer: Answer) -> bytes:
        return encode_result(key, answer)


def bad_row(number: int, reason: str, key: Raw = _NO_KEY) -> Row:
    return Row(key, RowError(code=GRPC_INVALID_ARGUMENT, message=f"Line {number}: {reason}."))


class RequestReader:
    """The requests of a file; blank lines are none."""

    def __init__(self, file: BinaryIO, form: LineFormat) -> None:
        self._file = file
        self._form = form
        self._number = 0

    def block(self, most: int | None = None) -> Block:
        """The next rows, ``most`` of them at the most; none at the end of the file."""
        rows: list[Row] = []
        size, most = 0, min(most or BLOCK_ROWS, BLOCK_ROWS)
        while (size < BLOCK_BYTES or not rows) and len(rows) < most and (line := self._file.readline(MAX_LINE_BYTES)):
            self._number += 1
            size += len(line)
            if line.isspace():
                continue
            whole = line.endswith(b"\n") or len(line) < MAX_LINE_BYTES
            rows.append(self._form.read(line, self._number) if whole else self._overlong())
        return Block(rows, [row.request for row in rows if isinstance(row.request, Raw)])

    def _overlong(self) -> Row:
        while (rest := self._file.readline(MAX_LINE_BYTES)) and not rest.endswith(b"\n"):
            pass
        return bad_row(self._number, f"it is longer than {MAX_LINE_BYTES} bytes")


class ResultWriter:
    """A file of results that grows; ``counts`` tells what is in it."""

    def __init__(self, file: Appender, form: LineFormat) -> None:
        self._file = file
        self._form = form
        self.counts = Counts()

    def write(self, block: Block, answers: Sequence[Answer]) -> None:
        """``answers`` belong to the block's requests. Raises ProtocolError when they are not as many.

        When it raises, nothing of them was written.
        """
        if len(answers) != len(block.requests):
            raise ProtocolError(f"the backend gave {len(answers)} answers to {len(block.requests)} requests")
        given = iter(answers)
        found = [next(given) if isinstance(row.request, Raw) else row.request for row in block.rows]
        self._file.write_all(join_lines(map(self._form.write, (row.key for row in block.rows), found)))
        failed = sum(isinstance(answer, RowError) for answer in found)
        self.counts.failed += failed
        self.counts.succeeded += len(found) - failed


def join_lines(lines: Iterable[bytes]) -> Iterator[bytes]:
    """In pieces that are worth a write, so that not all of the lines stand in memory."""
    kept, size = list[bytes](), 0
    for line in lines:
        kept.append(line)
        size += len(line)
        if size >= PIECE_BYTES:
            yield b"".join(kept)
            kept, size = [], 0
    yield b"".join(kept)


def encode_result(key: Raw, answer: Answer) -> bytes:
    if not isinstance(answer, RowError):
        return b'{"response":%b,"key":%b}\n' % (answer, key)
    error = encode_failure(answer)
    return b'{"key":%b,"error":%b}\n' % (key, error) if key else b'{"error":%b}\n' % error


def encode_failure(error: RowError) -> bytes:
    """Without ``details``: the official SDK cannot read a job that has a row with them."""
    return _encode(Failure(code=error.code or 0, message=error.message))


#: What ends a line of results and does not belong to the list after the last one.
SEPARATOR = b",\n"


class InlineRequest(Struct, frozen=True, omit_defaults=True):
    """One inline request. ``metadata`` is any object and comes back with the result."""

    request: Raw
    metadata: Raw = Raw()


class InlineFormat:
    """``{"request": ..., "metadata": ...}`` gives ``{"response": ..., "metadata": ...}``."""

    def read(self, line: bytes, number: int) -> Row:
        found = _decode_item(line)
        return Row(found.metadata, found.request)

    def write(self, key: Raw, answer: Answer) -> bytes:
        found = (b"error", encode_failure(answer)) if isinstance(answer, RowError) else (b"response", answer)
        metadata = b',"metadata":%b' % key if key else b""
        return b'{"%b":%b%b}' % (*found, metadata) + SEPARATOR


_decode_item = msgspec.json.Decoder(InlineRequest).decode


def encode_inline_requests(items: Sequence[InlineRequest]) -> bytes:
    """The items as lines. Raises Refusal 400 for none, and for one that is not an object with objects inside."""
    if not items:
        raise HttpError(400, "batch.inputConfig.requests.requests: it is empty; give at least one request.")
    return b"".join(_item_line(item, at) for at, item in enumerate(items))


def _item_line(item: InlineRequest, at: int) -> bytes:
    if not bytes(item.request).startswith(b"{") or not (bytes(item.metadata) or b"{").startswith(b"{"):
        raise HttpError(400, f"batch.inputConfig.requests.requests[{at}]: request or metadata is not an object.")
    return msgspec.json.format(msgspec.json.encode(item), indent=-1) + b"\n"
