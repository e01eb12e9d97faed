"""Requests joined with their results by key, in the order of the requests. Blocking."""

from __future__ import annotations

import heapq
import itertools
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
from msgspec import Raw, Struct

from .._errors import IntegrityError
from .._model import RowError, Tally
from .._options import JOIN_WINDOW, KIB, MIB
from .._wire.gemini.batches import ResultLine, is_given
from .disk import disk_errors, open_private, write_all
from .hash_join import Index
from .join_worker import WORTH_A_PROCESS, keys_ahead, keys_beside, once
from .merge_join import Astray, Run, Walk
from .request_file import Asked
from .result_file import ResultFiles
from .write_behind import Behind

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from contextlib import AbstractContextManager

    from .hash_join import Window
    from .result_file import Row

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


#: Rows read and written at once.
_GATHERED = 256
#: Bytes of results from one time that answers are written, while rows are still walked by, to the next.
_AHEAD = 8 * MIB


def join_files(
    requests: Sequence[Path],
    results: Sequence[Path],
    outputs: Outputs,
    *,
    with_request: bool = False,
    absent: str = "the service returned no row for this key",
    window: int = JOIN_WINDOW,
    judged: bool = False,
) -> Tally:
    """Write the three outputs, not yet durable, and count. ``absent`` is the reason for keys without a row.

    ``judged`` says that the requests are sealed shards, whose lines need not be looked at again. Raises IntegrityError
    for a last row cut short, InputError for a request without a key, IncompleteRun when the disk refuses.
    """
    asked = Asked(tuple(requests), judged)
    with (
        ResultFiles(results) as rows,
        Writer(outputs, rows, absent) as writer,
    ):
        walked = None if with_request else _walk(asked, rows, writer, window)
        if walked:
            _write_walked(*walked, asked, rows, writer)
            return writer.finish(walked[0].duplicates)
        index = Index(rows)
        _write_indexed(asked, index, rows, writer, window, join=with_request)
        return writer.finish(index.duplicates)


def _walk(asked: Asked, results: ResultFiles, writer: Writer, window: int) -> tuple[Walk, list[Row]] | None:
    """Both sides in one order, and the rows of nobody; None if they are not in one.

    What is an answer in its place is all but sure to stay one, so it is written while the next rows are looked at.
    """
    with _keys_once(asked, window) as keys:
        walk = Walk(keys)
        try:
            written = 0
            for offset, lines in results.chunks():
                walk.take(offset, lines)
                if offset - written >= _AHEAD:
                    writer.ahead(walk.grown())
                    written = offset
            walk.finish()
            return walk, walk.settle(asked.keys())
        except Astray:
            writer.take_back()
            return None


def _keys_once(asked: Asked, window: int) -> AbstractContextManager[Iterator[list[str]]]:
    """The keys, and an end of the walk when one stands twice."""
    if asked.judged:
        return nullcontext(asked.keys())
    return keys_beside(asked, window) if _worth_a_process(asked) else nullcontext(once(asked.keys(), window))


def _worth_a_process(asked: Asked) -> bool:
    return sum(path.stat().st_size for path in asked.paths) >= WORTH_A_PROCESS


def _write_walked(walk: Walk, unknown: list[Row], asked: Asked, results: ResultFiles, writer: Writer) -> None:
    names = {place: key for key, place in walk.waiting.items()}
    apart = ((place, row) for place, row in sorted(walk.apart.items(), key=lambda item: item[0]))
    runs = ((run.first, run) for run in walk.runs)
    for place, piece in heapq.merge(runs, apart, key=lambda item: item[0]):
        if isinstance(piece, Run):
            writer.copy(piece.offset, piece.length, piece.count)
        elif place < walk.passed:
            _write_row(names.get(place, ""), piece, results, writer)
    if walk.passed < walk.total:
        keys = itertools.chain.from_iterable(asked.keys())
        for place, key in enumerate(itertools.islice(keys, walk.passed, None), walk.passed):
            _write_row(key, walk.apart.get(place), results, writer)
    for row in unknown:
        writer.stranger(results.row(row.offset, row.length))


def _write_row(key: str, row: Row | None, results: ResultFiles, writer: Writer) -> None:
    lines = [results.row(row.offset, row.length)] if row else []
    if row and row.answered:
        writer.answers(lines)
    else:
        writer.fail(key, *lines)


def _write_indexed(
    asked: Asked, index: Index, results: ResultFiles, writer: Writer, window: int, *, join: bool
) -> None:
    # Only keys are held; the lines, which may be long, are read a second time if they are to go out.
    requests = asked.lines() if join else None
    with _keys(asked, window) as blocks:
        keys = itertools.chain.from_iterable(blocks)
        while True:
            found = index.fill(keys, window)
            for start in range(0, len(found.keys), _GATHERED):
                _write_some(found, start, requests, results, writer)
            if len(found.keys) < window:
                break
    for line in index.unknown():
        writer.stranger(line)


def _keys(asked: Asked, window: int) -> AbstractContextManager[Iterator[list[str]]]:
    alone = asked.judged or not _worth_a_process(asked)
    return nullcontext(asked.keys()) if alone else keys_ahead(asked, window)


def _write_some(
    found: Window, start: int, requests: Iterator[bytes] | None, results: ResultFiles, writer: Writer
) -> None:
    keys = found.keys[start : start + _GATHERED]
    if requests is None and (places := found.answers(start, start + len(keys))):
        writer.answers(results.gather(*places))
        return
    for number, key in enumerate(keys, start):
        request = next(requests) if requests else b""
        offset, length, answered = found.place(number) or (0, 0, False)
        lines = [results.row(offset, length)] if length else []
        if answered:
            writer.answers([with_members(lines[0], request)] if requests else lines)
        else:
            writer.fail(key, *lines)
