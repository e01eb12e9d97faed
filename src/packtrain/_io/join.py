"""Join of requests with their results by key, in the order of the requests. Blocking."""

from __future__ import annotations

import heapq
import itertools
from collections import Counter
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
from msgspec import Raw, Struct

from .._errors import IntegrityError
from .._model import Tally, Verdict
from .._options import (
    JOIN_GATHERED_ROWS,
    JOIN_PROCESS_FROM,
    JOIN_WINDOW,
    JOIN_WRITE_BYTES,
    KERNEL_COPY_FROM,
    MAX_RESULT_LINE_BYTES,
    MIB,
)
from .._rules.generations import Failed, failed_line
from .._rules.join import AnswerSpan, MergeJoin, OutOfOrder
from .._rules.json_text import without_surrogates
from .._rules.lines import OWN, LineShape, is_parsed
from .._rules.result_rows import ANSWER, ResultRow, plain_keys, read_row
from .._snapshots import MergeProgress
from .disk import WriteBehind, disk_errors, open_draft, write_all
from .hash_join import HashJoin
from .join_worker import keys_in_process, unique, unique_keys_in_process
from .request_file import RequestFiles
from .result_file import ResultFiles, long_row, rows

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Sequence
    from contextlib import AbstractContextManager

    from .._rules.join import Row
    from .hash_join import IndexedRequests


class Outputs(Struct, frozen=True):
    """The files that the join writes: answers, keys without one, and rows of no request."""

    answers: Path
    failed: Path
    unknown: Path


class Position(Struct, frozen=True, gc=False):
    """Where a row is, and of which kind, see ``result_rows``."""

    offset: int
    length: int
    kind: int


class Writer:
    """Takes the requests in order, each with its row, and counts. ``absent`` is the reason without a row.

    Answers whose verdict is in ``apart`` are written as failed keys.
    """

    def __init__(
        self,
        outputs: Outputs,
        results: ResultFiles,
        absent: str,
        progress: MergeProgress,
        apart: Collection[Verdict] = (),
    ) -> None:
        self._progress = progress
        self._paths = outputs
        self._results = results
        self._absent = absent
        self._apart = apart
        self._pending, self._failed_lines = bytearray(), bytearray()
        self._answered = self._failed = self._missing = self._unknown = self._bytes = 0
        self._verdicts: Counter[Verdict] = Counter()
        #: Bytes written behind those, because they are expected to follow.
        self._written_ahead = 0

    def __enter__(self) -> Writer:
        with disk_errors(self._paths.answers):
            self._answers = WriteBehind("results", self._paths.answers)
            self._failures = open_draft("results", self._paths.failed)
            self._unknown_rows = open_draft("results", self._paths.unknown)
        return self

    def __exit__(self, *_: object) -> None:
        for file in (self._answers, self._failures, self._unknown_rows):
            file.close()

    def answers(self, lines: list[bytes]) -> None:
        self.drop_ahead()
        self._answered += len(lines)
        data = b"".join(lines)
        self._bytes += len(data)
        self._put(data)

    def copy(self, offset: int, length: int, count: int) -> None:
        """``count`` answers that follow each other in the results."""
        self._answered += count
        self._bytes += length
        done = min(length, self._written_ahead)
        self._written_ahead -= done
        self._copy(offset + done, length - done)

    def write_ahead(self, pieces: Iterable[tuple[int, int]]) -> None:
        """Write answers, by offset and length, that ``copy`` will be called for unless an answer comes between."""
        for offset, length in pieces:
            self._copy(offset, length)
            self._written_ahead += length

    def drop_ahead(self) -> None:
        """Cut off what was written ahead and does not follow."""
        if self._written_ahead:
            self._flush_answers()
            self._answers.cut_to(self._bytes)
            self._written_ahead = 0

    def take(self, key: str, row: Position | None, request: bytes | None = None) -> None:
        """One request; with its line, the answer becomes a member of it."""
        if row is None:
            self._missing += 1
            self._fail(Failed(key, self._absent))
        elif row.length > self._results.limit + 1:
            self._fail(self._too_long(key, row))
        elif row.kind == ANSWER and request is None and row.length >= KERNEL_COPY_FROM and self._ends(row):
            self.drop_ahead()
            self.copy(row.offset, row.length, 1)
        else:
            self._judge(key, self._results.row(row.offset, row.length), request)

    def unknown(self, offset: int, length: int) -> None:
        """A line that belongs to no request."""
        with disk_errors(self._paths.unknown):
            self._results.copy(offset, length, "results", self._unknown_rows)
            if not self._results.ends_with_newline(offset, length):
                write_all("results", self._unknown_rows, b"\n")
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
            empty=self._verdicts[Verdict.EMPTY],
            blocked=self._verdicts[Verdict.BLOCKED],
            recitation=self._verdicts[Verdict.RECITATION],
            truncated=self._verdicts[Verdict.TRUNCATED],
            not_json=self._verdicts[Verdict.NOT_JSON],
            too_long=self._verdicts[Verdict.TOO_LONG],
            duplicates=duplicates,
            unknown=self._unknown,
            bytes=self._bytes,
        )

    def _note_progress(self) -> None:
        self._progress.done = self._bytes + self._written_ahead

    def _judge(self, key: str, line: bytes, request: bytes | None) -> None:
        row = read_row(self._results.shape, line)
        if not row.verdict.is_answer:
            self._fail(_failure(key, row, line.rstrip(b"\r\n")))
            return
        answer = line if request is None else with_member(self._results.shape, request, row.response)
        if row.verdict in self._apart:
            self._fail(Failed(key, f"the answer is {row.verdict}", verdict=row.verdict, row=answer.rstrip(b"\r\n")))
        else:
            self._verdicts[row.verdict] += 1
            self.answers([answer])

    def _ends(self, row: Position) -> bool:
        return self._results.ends_with_newline(row.offset, row.length)

    def _too_long(self, key: str, row: Position) -> Failed:
        most = self._results.limit
        place = f"{row.length:,} bytes at byte {row.offset:,} of the results"
        return Failed(key, f"the row is longer than {most:,} bytes: {place}", verdict=Verdict.TOO_LONG)

    def _fail(self, failed: Failed) -> None:
        self._failed += 1
        if not failed.verdict.is_answer:
            self._verdicts[failed.verdict] += 1
        self._failed_lines += failed_line(failed)
        if len(self._failed_lines) > MIB:
            self._flush_failures()

    def _copy(self, offset: int, length: int) -> None:
        self._note_progress()
        if length < KERNEL_COPY_FROM:
            self._put(self._results.read(offset, length))
        else:
            self._flush_answers()
            self._answers.append(partial(self._results.copy, offset, length))

    def _put(self, data: bytes) -> None:
        self._note_progress()
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


def with_member(shape: LineShape, request: bytes, response: Raw) -> bytes:
    """The answer as a further member of the request line."""
    return b'%b,"%b":%b}\n' % (request.rstrip()[:-1], shape.response.encode(), bytes(response))


def _failure(key: str, row: ResultRow, line: bytes) -> Failed:
    """With the service's own error, if there is one, and with the row where that can't be shown as it came."""
    failed = Failed(key, row.reason, verdict=row.verdict, row=line if row.verdict.is_paid else b"")
    if not memoryview(row.error).nbytes:
        return failed
    if is_parsed(row.error):
        return msgspec.structs.replace(failed, error=row.error)
    shown = Raw(without_surrogates(bytes(row.error)))
    return msgspec.structs.replace(failed, row=line, error=shown if is_parsed(shown) else Raw(b"{}"))


def join_files(
    requests: Sequence[Path],
    results: Sequence[Path],
    outputs: Outputs,
    *,
    with_request: bool = False,
    absent: str = "the service returned no row for this key",
    window: int = JOIN_WINDOW,
    validated: bool = False,
    shape: LineShape = OWN,
    limit: int = MAX_RESULT_LINE_BYTES,
    apart: Collection[Verdict] = (),
    progress: MergeProgress | None = None,
) -> Tally:
    """Write the three outputs, not yet durable, and count. ``absent`` is the reason for keys without a row.

    ``validated``: the requests are sealed shards, whose lines need not be validated again. ``window`` is the number of
    keys held in memory, ``shape`` that of both sides, ``limit`` the most bytes of a row. Answers whose verdict is in
    ``apart`` count as failed.

    Raises IntegrityError for a last row cut short, InputError for a request without a key, IncompleteRun when the disk
    refuses.
    """
    files = RequestFiles(tuple(requests), validated, shape)
    progress = progress or MergeProgress()
    with ResultFiles(results, shape, limit) as returned, Writer(outputs, returned, absent, progress, apart) as writer:
        progress.total = returned.size
        in_order = None if with_request else _join_in_order(files, returned, writer, window)
        if in_order:
            _write_in_order(*in_order, files, returned, writer)
            return writer.finish(in_order[0].duplicates)
        index = HashJoin(returned)
        _write_indexed(files, index, returned, writer, window, join=with_request)
        return writer.finish(index.duplicates)


def _join_in_order(
    requests: RequestFiles, results: ResultFiles, writer: Writer, window: int
) -> tuple[MergeJoin, list[Row]] | None:
    """The join and the rows of no request; None when the two sides are not in one order.

    An answer in its place is all but sure to stay, so it is written while the next rows are read.
    """
    with _unique_keys(requests, window) as keys:
        join = MergeJoin(keys, partial(plain_keys, results.shape), partial(rows, results.shape))
        try:
            written = 0
            for block in results.blocks():
                if block.long is None:
                    join.take(block.offset, block.lines)
                else:
                    join.take_row(long_row(results.shape, block, block.long))
                if block.offset - written >= JOIN_WRITE_BYTES:
                    writer.write_ahead(join.grown())
                    written = block.offset
            join.finish()
            return join, join.settle(requests.keys())
        except OutOfOrder:
            writer.drop_ahead()
            return None


def _unique_keys(requests: RequestFiles, window: int) -> AbstractContextManager[Iterator[list[str]]]:
    """The keys; OutOfOrder is raised when one occurs twice."""
    if requests.validated:
        return nullcontext(requests.keys())
    if _is_large(requests):
        return unique_keys_in_process(requests, window)
    return nullcontext(unique(requests.keys(), window))


def _is_large(requests: RequestFiles) -> bool:
    return sum(path.stat().st_size for path in requests.paths) >= JOIN_PROCESS_FROM


def _write_in_order(
    join: MergeJoin, unknown: list[Row], requests: RequestFiles, results: ResultFiles, writer: Writer
) -> None:
    names = {ordinal: key for key, ordinal in join.unanswered.items()}
    single = ((ordinal, row) for ordinal, row in sorted(join.single.items(), key=lambda item: item[0]))
    spans = ((span.first, span) for span in join.spans)
    for ordinal, piece in heapq.merge(spans, single, key=lambda item: item[0]):
        if isinstance(piece, AnswerSpan):
            writer.copy(piece.offset, piece.length, piece.count)
        elif ordinal < join.position:
            writer.take(names.get(ordinal, ""), _position(piece))
    if join.position < join.total:
        keys = itertools.chain.from_iterable(requests.keys())
        for ordinal, key in enumerate(itertools.islice(keys, join.position, None), join.position):
            writer.take(key, _position(join.single.get(ordinal)))
    for row in unknown:
        writer.unknown(row.offset, row.length)


def _position(row: Row | None) -> Position | None:
    return Position(row.offset, row.length, row.kind) if row else None


def _write_indexed(
    requests: RequestFiles, index: HashJoin, results: ResultFiles, writer: Writer, window: int, *, join: bool
) -> None:
    # Only keys are held; the lines, which may be long, are read a second time if they are to go out.
    lines = requests.lines() if join else None
    with _keys(requests, window) as blocks:
        keys = itertools.chain.from_iterable(blocks)
        while True:
            indexed = index.fill(keys, window)
            for start in range(0, len(indexed.keys), JOIN_GATHERED_ROWS):
                _write_gathered(indexed, start, lines, results, writer)
            if len(indexed.keys) < window:
                break
    for position in index.unknown():
        writer.unknown(*position)


def _keys(requests: RequestFiles, window: int) -> AbstractContextManager[Iterator[list[str]]]:
    here = requests.validated or not _is_large(requests)
    return nullcontext(requests.keys()) if here else keys_in_process(requests, window)


def _write_gathered(
    indexed: IndexedRequests, start: int, requests: Iterator[bytes] | None, results: ResultFiles, writer: Writer
) -> None:
    keys = indexed.keys[start : start + JOIN_GATHERED_ROWS]
    if requests is None and (positions := indexed.answers(start, start + len(keys))):
        writer.answers(results.gather(*positions))
        return
    for number, key in enumerate(keys, start):
        found = indexed.position(number)
        writer.take(key, Position(*found) if found else None, next(requests) if requests else None)
