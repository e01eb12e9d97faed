"""Requests joined with their results by key, in the order of the requests; blocking, for a worker thread.

The requests are taken in windows of keys that fit memory; for each the results are scanned once and indexed by
position, and then gathered by ``pread``. A result is found by its key alone: services promise the order of the
input and do not always keep it. The service's line goes out byte for byte.
"""

from __future__ import annotations

import itertools
import os
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import msgspec
from msgspec import Raw, Struct

from .._disk import disk_errors, open_private, write_all
from .._errors import InputError, IntegrityError
from .._model import RowError, Tally
from .._options import JOIN_WINDOW, MIB
from .._rules.requests import key_of
from .._wire.gemini.batches import ResultLine, is_given

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_ABSENT = -1
_LENGTH_BITS = 32


_result = msgspec.json.Decoder(ResultLine)
_error = msgspec.json.Decoder(RowError)


class Outputs(Struct, frozen=True):
    """Where the join writes: answers, keys without one, and rows that answer nothing."""

    answers: Path
    failed: Path
    unknown: Path


def join_files(
    requests: Sequence[Path],
    results: Sequence[Path],
    outputs: Outputs,
    *,
    with_request: bool = False,
    absent: str = "the service returned no row for this key",
    window: int = JOIN_WINDOW,
) -> Tally:
    """Write the three outputs, not yet durable, and count. ``absent`` is the reason for keys without a row.

    Raises IntegrityError for a last row cut short, InputError for a request without a key, IncompleteRun when the
    disk refuses.
    """
    with _Results(results) as rows, _Writer(outputs, rows, with_request, absent) as writer:
        keys = itertools.chain.from_iterable(map(_keys, requests))
        # Only keys are held; the lines, which may be long, are read a second time if they are to go out.
        lines = itertools.chain.from_iterable(map(_lines, requests)) if with_request else itertools.repeat(b"")
        while batch := list(itertools.islice(keys, window)):
            writer.write(batch, lines, rows.index(dict.fromkeys(batch, _ABSENT)))
        writer.write_unknown()
        return writer.tally()


class _Results:
    """Result files as one run of bytes. A position packs offset, length, and whether the row is an answer."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self._paths = paths
        self._files: list[BinaryIO] = []
        self._starts: list[int] = []
        #: One byte a line: 1 when its key is among the requests.
        self._known = bytearray()
        self.duplicates = 0

    def __enter__(self) -> _Results:
        start = 0
        for path in self._paths:
            self._files.append(path.open("rb", buffering=MIB))
            self._starts.append(start)
            start += path.stat().st_size
        return self

    def __exit__(self, *_: object) -> None:
        for file in self._files:
            file.close()

    def index(self, wanted: dict[str, int]) -> dict[str, int]:
        """Fill in the position of each wanted key: an answer before an error, then the first."""
        first = not self._known
        for number, (offset, line) in enumerate(self._scan()):
            if first:
                self._known.append(0)
            row = self._decode(line, offset)
            held = wanted.get(row.key) if row else None
            if row is None or held is None:
                continue
            self._known[number] = 1
            ok = row.answered
            if held != _ABSENT:
                self.duplicates += 1
            if held == _ABSENT or (ok and not held & 1):
                wanted[row.key] = (offset << _LENGTH_BITS | len(line)) << 1 | ok
        return wanted

    def read(self, position: int) -> bytes:
        offset, length = position >> _LENGTH_BITS + 1, position >> 1 & (1 << _LENGTH_BITS) - 1
        which = max(i for i, start in enumerate(self._starts) if start <= offset)
        return os.pread(self._files[which].fileno(), length, offset - self._starts[which])

    def unknown(self) -> Iterator[bytes]:
        """Rows whose key is in no request, and rows that are none."""
        if self._known and not all(self._known):
            yield from (line for known, (_, line) in zip(self._known, self._scan(), strict=True) if not known)

    def _scan(self) -> Iterator[tuple[int, bytes]]:
        for file, offset in zip(self._files, self._starts, strict=True):
            file.seek(0)
            for line in file:
                if not line.isspace():
                    yield offset, line
                offset += len(line)

    def _decode(self, line: bytes, offset: int) -> ResultLine | None:
        try:
            line.decode()
            return _result.decode(line)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            if line.endswith(b"\n"):
                return None
            raise IntegrityError(f"results end in the middle of a line, at byte {offset}") from error


class _Writer:
    def __init__(self, outputs: Outputs, rows: _Results, with_request: bool, absent: str) -> None:
        self._paths = outputs
        self._rows = rows
        self._with_request = with_request
        self._absent = absent
        self._answered = self._failed = self._missing = self._unknown = self._bytes = 0

    def __enter__(self) -> _Writer:
        with disk_errors(self._paths.answers):
            self._answers = open_private("results", self._paths.answers)
            self._failures = open_private("results", self._paths.failed)
            self._strangers = open_private("results", self._paths.unknown)
        return self

    def __exit__(self, *_: object) -> None:
        for file in (self._answers, self._failures, self._strangers):
            file.close()

    def write(self, keys: list[str], requests: Iterator[bytes], positions: dict[str, int]) -> None:
        answers, failures = bytearray(), bytearray()
        for key, request in zip(keys, requests, strict=False):
            where = positions[key]
            if where != _ABSENT and where & 1:
                answers += self._answer(request, self._rows.read(where))
                self._answered += 1
            else:
                failures += self._failure(key, None if where == _ABSENT else self._rows.read(where))
            if len(answers) + len(failures) > MIB:
                self._flush(answers, failures)
        self._flush(answers, failures)

    def write_unknown(self) -> None:
        with disk_errors(self._paths.unknown):
            for line in self._rows.unknown():
                write_all("results", self._strangers, _ended(line))
                self._unknown += 1

    def tally(self) -> Tally:
        return Tally(
            answered=self._answered,
            failed=self._failed,
            missing=self._missing,
            duplicates=self._rows.duplicates,
            unknown=self._unknown,
            bytes=self._bytes,
        )

    def _answer(self, request: bytes, line: bytes) -> bytes:
        if not self._with_request:
            return _ended(line)
        response = bytes(_result.decode(line).response)
        return request.rstrip()[:-1] + b',"response":' + response + b"}\n"

    def _failure(self, key: str, line: bytes | None) -> bytes:
        self._failed += 1
        if line is None:
            self._missing += 1
            return failure(key, self._absent)
        return failure(key, *_reason(line))

    def _flush(self, answers: bytearray, failures: bytearray) -> None:
        with disk_errors(self._paths.answers):
            write_all("results", self._answers, answers)
            write_all("results", self._failures, failures)
        self._bytes += len(answers)
        answers.clear()
        failures.clear()


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


def _lines(path: Path) -> Iterator[bytes]:
    with path.open("rb", buffering=MIB) as file:
        for line in file:
            if not line.isspace():
                yield line


def _keys(path: Path) -> Iterator[str]:
    for number, line in enumerate(_lines(path), start=1):
        try:
            yield key_of(line)
        except InputError as error:
            raise InputError(f"{path}:{number}: {error}") from error


def _ended(line: bytes) -> bytes:
    return line if line.endswith(b"\n") else line + b"\n"
