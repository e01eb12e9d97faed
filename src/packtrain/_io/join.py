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
from .beside import keys_beside, once
from .index import ABSENT, Index
from .joined import Outputs, Writer, with_members
from .walk import Astray, Run, Walk

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path

    from .._model import Tally

#: Rows read and written at once.
_GATHERED = 64
#: Bytes of requests whose keys take longer to find than a process takes to start.
_WORTH_A_PROCESS = 64 * MIB
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
        _write_indexed(asked, index, writer, window, join=with_request)
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
    if sum(path.stat().st_size for path in asked.paths) < _WORTH_A_PROCESS:
        return nullcontext(once(asked.keys(), window))
    return keys_beside(asked, window)


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
        writer.stranger(*results.gather([(row.offset, row.length)]))


def _write_row(key: str, row: Row | None, results: ResultFiles, writer: Writer) -> None:
    lines = results.gather([(row.offset, row.length)]) if row else []
    if row and row.answered:
        writer.answers(lines)
    else:
        writer.fail(key, *lines)


def _write_indexed(asked: Asked, index: Index, writer: Writer, window: int, *, join: bool) -> None:
    keys = itertools.chain.from_iterable(asked.keys())
    # Only keys are held; the lines, which may be long, are read a second time if they are to go out.
    requests = asked.lines() if join else None
    while batch := list(itertools.islice(keys, window)):
        positions = index.fill(dict.fromkeys(batch, ABSENT))
        for start in range(0, len(batch), _GATHERED):
            some = batch[start : start + _GATHERED]
            _write_some(some, [positions[key] for key in some], requests, index, writer)
    for line in index.unknown():
        writer.stranger(line)


def _write_some(
    keys: list[str], places: list[int], requests: Iterator[bytes] | None, index: Index, writer: Writer
) -> None:
    if requests is None and all(place > 0 and place & 1 for place in places):
        writer.answers(index.read(places))
        return
    for key, place, request in zip(keys, places, requests or itertools.repeat(b""), strict=False):
        lines = index.read([place]) if place != ABSENT else []
        if lines and place & 1:
            writer.answers([with_members(lines[0], request)] if requests else lines)
        else:
            writer.fail(key, *lines)
