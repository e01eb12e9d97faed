"""Results of one generation of a shard on their way into durable files. Every call is one trip to a worker thread."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import msgspec

from .._model import Tally, Verdict
from .._options import MAX_RESULT_LINE_BYTES
from .._rules.generations import absence
from .disk import draft, remove
from .generation_files import GenerationRequests, account, pick
from .spool import land
from .storage import Stored
from .threads import in_thread

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anyio import CapacityLimiter

    from .._model import Shard, ShardRow
    from .._rules.lines import LineShape
    from .generation_files import RetryLines
    from .spool import RunSpool


class GenerationJoin:
    """Joins the results of ``row`` with its requests, and with what the generation ``parent`` left, which it continues.

    ``first`` is the ordinal of the first request of those that it speaks for; ``parts`` are the names of the downloaded
    results. With ``again`` failed lines whose failure may pass become the generation ``child``; ``known_lines`` is the
    number of lines of a next generation that the service already has a job for, 0 without one.
    """

    def __init__(
        self,
        files: RunSpool,
        row: ShardRow,
        shard: Shard,
        *,
        first: int,
        parent: ShardRow | None,
        parts: Sequence[str],
        child: int,
        again: bool,
        known_lines: int,
        with_request: bool,
        window: int,
        limiter: CapacityLimiter,
        shape: LineShape,
        retry_class: Sequence[str] = (),
        row_limit: int = MAX_RESULT_LINE_BYTES,
    ) -> None:
        self._files = files
        self._row = row
        self._shard = shard
        self._parent = parent
        self._parts = parts
        self._kept = files.kept(row)
        self._child = child
        self._again = again
        self._known_lines = known_lines
        self._with_request = with_request
        self._window = window
        self._limiter = limiter
        self._requests = GenerationRequests(
            requests=files.shard_path(row.shard, row.generation),
            lines=shard.lines,
            results=tuple(files.parts.path(part) for part in parts),
            first=first,
            absent=absence(row),
            parent=files.kept(parent) if parent else None,
            parent_tally=(parent and parent.tally) or Tally(),
            shape=shape,
            places=(files.places, files.source_names),
            again=frozenset(map(Verdict, retry_class)),
            row_limit=row_limit,
        )
        self._tally = Tally()
        self._picked: RetryLines | None = None

    @property
    def lines(self) -> int:
        """Of the generation's requests."""
        return self._requests.lines

    async def check(self) -> None:
        """Raises FileDamaged when a file that is to be joined is gone or not what it was."""
        await in_thread(self._check)

    async def join(self) -> Tally:
        """Join what was downloaded; the files are not durable yet. Raises IntegrityError for results cut short."""
        return await in_thread(self._join, limiter=self._limiter)

    async def seal(self) -> tuple[Tally, Shard | None]:
        """Make all files durable; returns the tally, and the next generation if there is one."""
        return await in_thread(self._seal)

    async def digests(self) -> list[str]:
        """SHA-256 of each downloaded file, in hex."""
        return [await self._files.parts.digest(part) for part in self._parts]

    def _check(self) -> None:
        files, row, parent = self._files, self._row, self._parent
        requests = files.shard(row.shard, row.generation)
        files.check(files.shards, [Stored(requests, self._shard.bytes)])
        files.compare(files.shards, requests, self._shard.sha256)
        if parent is not None:
            answers = Stored(files.answers(parent), self._requests.parent_tally.bytes)
            files.check(files.results, [answers, files.failed(parent), files.requests(parent)])
            files.compare(files.results, answers.name, self._requests.parent_tally.sha256)
            compare_lists(files, parent)

    def _join(self) -> Tally:
        self._tally, self._picked = self._account()
        if self._known_lines == self._tally.failed > self._tally.again:
            # All failed lines were asked again, not only those whose failure may pass.
            self._tally, self._picked = self._account(everything=True)
        return self._tally

    def _account(self, *, everything: bool = False) -> tuple[Tally, RetryLines | None]:
        return account(
            self._requests,
            self._kept.drafts,
            draft(self._files.shard_path(self._row.shard, self._child)) if self._again else None,
            everything=everything,
            with_request=self._with_request,
            window=self._window,
        )

    def _seal(self) -> tuple[Tally, Shard | None]:
        child = _seal_child(self._files, self._row, self._child, self._picked) if self._picked else None
        digest, *lists = land(self._kept.drafts.all, self._kept.all)
        return msgspec.structs.replace(self._tally, sha256=digest, lists=tuple(lists)), child


def compare_lists(files: RunSpool, row: ShardRow) -> None:
    """Blocking. Raises FileDamaged when a list that a generation left is not what it was; empty ones may be gone."""
    names = (files.failed(row), files.unknown(row), files.requests(row))
    for name, sha256 in zip(names, row.tally.lists if row.tally else (), strict=False):
        if files.results.size(name) is not None:
            files.compare(files.results, name, sha256)


async def make_child(
    files: RunSpool, row: ShardRow, generation: int, shape: LineShape, *, everything: bool
) -> Shard | None:
    """A child of a generation that is done, durable: its failed lines whose failure may pass, or all of them.

    None when there are none. Raises FileDamaged.
    """
    return await in_thread(partial(_make_child, files, row, generation, shape, everything=everything))


def _make_child(files: RunSpool, row: ShardRow, generation: int, shape: LineShape, *, everything: bool) -> Shard | None:
    if row.tally is None or not row.tally.failed:
        return None
    files.check(files.results, [files.failed(row), files.requests(row)])
    compare_lists(files, row)
    temporary = draft(files.shard_path(row.shard, generation))
    picked = pick(files.kept(row), temporary, everything=everything, shape=shape)
    if picked is None:
        remove("shard", temporary)
        return None
    return _seal_child(files, row, generation, picked)


def _seal_child(files: RunSpool, row: ShardRow, generation: int, picked: RetryLines) -> Shard:
    path = files.shard_path(row.shard, generation)
    (digest,) = land([draft(path)], [path], what="shard")
    return picked.shard(row, generation, path.stat().st_size, digest)
