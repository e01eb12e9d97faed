"""What a join writes: answers, keys without one, and rows of nobody."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
from msgspec import Raw, Struct

from .._disk import disk_errors, open_private, write_all
from .._errors import IntegrityError
from .._model import RowError, Tally
from .._options import KIB, MIB
from .._wire.gemini.batches import ResultLine, is_given
from .behind import Behind

if TYPE_CHECKING:
    from collections.abc import Iterable

    from .answers import ResultFiles

#: What is shorter goes through the buffer, and what is longer is moved by the kernel.
_LEAST_COPY = 256 * KIB

_result = msgspec.json.Decoder(ResultLine)
_error = msgspec.json.Decoder(RowError)


class Outputs(Struct, frozen=True):
    """Where the join writes: answers, keys without one, and rows that answer nothing."""

    answers: Path
    failed: Path
    unknown: Path


class Writer:
    """Takes the requests in order, as answered or as failed, and counts. ``absent`` is the reason without a row."""

    def __init__(self, outputs: Outputs, results: ResultFiles, absent: str) -> None:
        self._paths = outputs
        self._results = results
        self._absent = absent
        self._pending, self._failed_lines = bytearray(), bytearray()
        self._answered = self._failed = self._missing = self._unknown = self._bytes = 0
        #: Bytes that stand behind those, because they are thought to follow.
        self._ahead = 0

    def __enter__(self) -> Writer:
        with disk_errors(self._paths.answers):
            self._answers = Behind("results", self._paths.answers)
            self._failures = open_private("results", self._paths.failed)
            self._strangers = open_private("results", self._paths.unknown)
        return self

    def __exit__(self, *_: object) -> None:
        for file in (self._answers, self._failures, self._strangers):
            file.close()

    def answers(self, lines: list[bytes]) -> None:
        self.take_back()
        self._answered += len(lines)
        data = b"".join(lines)
        self._bytes += len(data)
        self._put(data)

    def copy(self, offset: int, length: int, count: int) -> None:
        """So many answers as they stand in the results, in one piece."""
        self._answered += count
        self._bytes += length
        stands = min(length, self._ahead)
        self._ahead -= stands
        self._copy(offset + stands, length - stands)

    def ahead(self, pieces: Iterable[tuple[int, int]]) -> None:
        """Answers, by offset and length, that ``copy`` will be called for, unless an answer comes between."""
        for offset, length in pieces:
            self._copy(offset, length)
            self._ahead += length

    def take_back(self) -> None:
        """What was written ahead, and not yet called for, does not follow."""
        if self._ahead:
            self._flush_answers()
            self._answers.cut(self._bytes)
            self._ahead = 0

    def fail(self, key: str, line: bytes | None = None) -> None:
        self._failed += 1
        self._missing += line is None
        self._failed_lines += failure(key, self._absent) if line is None else failure(key, *_reason(line))
        if len(self._failed_lines) > MIB:
            self._flush_failures()

    def stranger(self, line: bytes) -> None:
        with disk_errors(self._paths.unknown):
            write_all("results", self._strangers, line)
        self._unknown += 1

    def finish(self, duplicates: int) -> Tally:
        """Write what is left in memory. Raises IntegrityError when the results were cut while they were read."""
        self._flush_answers()
        self._flush_failures()
        if self._answers.size() != self._bytes:
            raise IntegrityError(f"{self._paths.answers}: shorter than the answers read; the results were changed")
        return Tally(
            answered=self._answered,
            failed=self._failed,
            missing=self._missing,
            duplicates=duplicates,
            unknown=self._unknown,
            bytes=self._bytes,
        )

    def _copy(self, offset: int, length: int) -> None:
        if length < _LEAST_COPY:
            self._put(self._results.read(offset, length))
        else:
            self._flush_answers()
            self._answers.copy(self._results, offset, length)

    def _put(self, data: bytes) -> None:
        self._pending += data
        if len(self._pending) > MIB:
            self._flush_answers()

    def _flush_answers(self) -> None:
        self._answers.write(self._pending)
        self._pending = bytearray()

    def _flush_failures(self) -> None:
        with disk_errors(self._paths.failed):
            write_all("results", self._failures, self._failed_lines)
        self._failed_lines.clear()


def with_members(line: bytes, request: bytes) -> bytes:
    """The answer in ``line`` as a further member of the request."""
    return request.rstrip()[:-1] + b',"response":' + bytes(_result.decode(line).response) + b"}\n"


def failure(key: str, reason: str, error: Raw | None = None) -> bytes:
    """A line of the file of failed keys; ``error`` is the service's own, as it came."""
    head = msgspec.json.encode({"key": key, "reason": reason})
    return head[:-1] + b',"error":' + bytes(error) + b"}\n" if error is not None else head + b"\n"


def _reason(line: bytes) -> tuple[str, Raw | None]:
    error = _result.decode(line).error
    if not is_given(error):
        return "the row has neither a response nor an error", None
    try:
        said = _error.decode(error)
    except msgspec.MsgspecError:
        return "the service answered with an error", error
    code = f" (code {said.code})" if said.code is not None else ""
    return f"{said.message or 'the service gave no reason'}{code}", error
