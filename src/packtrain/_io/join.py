"""Requests joined with their results by key, in the order of the requests; blocking, for a worker thread.

A result is found by its key alone: services promise the order of the input and do not always keep it. While they do,
both are walked through side by side. Where they don't, the requests are taken in windows of keys that fit memory, for
each of which the results are indexed, and the rows then gathered. The service's line goes out byte for byte.
"""

from __future__ import annotations

import heapq
import itertools
from contextlib import nullcontext
from typing import TYPE_CHECKING

from .._options import JOIN_WINDOW, MIB
from .answers import ResultFiles, Row
from .asked import Asked
from .beside import WORTH_A_PROCESS, keys_ahead, keys_beside, once
from .index import Index
from .joined import Outputs, Writer, with_members
from .walk import Astray, Run, Walk

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path

    from .._model import Tally
    from .index import Window

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
