"""Ledger of keys: finds keys that were used before in the run.

Exact, in bounded memory and near linear time. The keys of the open shard are in a set; past ``memory_keys`` they go to
disk as a sorted run. When a shard is sealed its keys become one durable run, and runs of neighbouring shards are merged
eight by eight. A Bloom filter saves most looks at the disk, and takes memory from the set; a key that passes it is
looked up in the runs. As long as all keys fit in memory, whole blocks are compared by set operations.

The order of calls, so that a restart never takes a line for a repeat of itself::

    repeats = ledger.repeated(block.keys)      # asks, changes nothing
    ...                                        # drop those lines, find where the shard is cut
    ledger.add(keys up to the cut)             # only what went into the open shard
    ledger.seal(shard)                         # durable; then commit the shard's row
    ledger.add(keys behind the cut)            # belongs to the next shard

All methods of ``Ledger`` block; call them in one worker thread at a time, as ``BlockCheck`` does.
"""

from __future__ import annotations

import itertools
import re
from functools import partial
from typing import TYPE_CHECKING

from .._errors import InputError, KeysDamaged
from .._rules.keys import Filter, Span, cover, digests_of, mergeable
from .._rules.lines import OWN, LineShape
from .._rules.validate import larger_than_shard, numbered, repeated_key, without
from .disk import disk_errors, make_directory, remove
from .sorted_runs import SortedRun, merged, write_run
from .threads import in_thread, uncancelled

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from pathlib import Path

    from .._options import Duplicates
    from .._rules.sharding import Roller
    from .._rules.validate import Block

_SEALED = re.compile(r"(\d{5,})-(\d{5,})\.run")


class Ledger:
    """The keys of one run, below ``directory``; about ``memory_keys`` of them are in memory.

    Writing raises DiskFull or DiskFailed, reading KeysDamaged when a run is damaged.
    """

    def __init__(self, directory: Path, *, memory_keys: int) -> None:
        self._directory = directory
        self._memory_keys = memory_keys
        #: Number of keys that may be in memory from now on.
        self._room = memory_keys
        #: Keys in memory; all others pass the filter.
        self._known: set[bytes] = set()
        #: Those of them that are of the open shard, in the order that they came.
        self._open: list[bytes] = []
        self._filter: Filter | None = None
        self._spilled: list[SortedRun] = []
        self._sealed: dict[Span, SortedRun] = {}

    def restore(self, shards: int) -> None:
        """Load the keys of shards 0 to ``shards - 1``; whatever else a crash left behind is deleted.

        Raises KeysDamaged when a run is missing or damaged.
        """
        with disk_errors(self._directory):
            make_directory("keys", self._directory, 0o700)
        spans = [(int(match[1]), int(match[2])) for match in map(_SEALED.fullmatch, self._names()) if match]
        chosen = cover(spans, shards)
        if chosen is None:
            raise KeysDamaged(
                f"{self._directory}: the keys of {shards} sealed shards are not complete", path=self._directory
            )
        try:
            for span in chosen:
                self._sealed[span] = SortedRun(self._path(span))
        except KeysDamaged:
            self.close()
            raise
        self._delete_others()
        self._recall()

    def repeated(self, keys: Sequence[bytes]) -> list[int]:
        """Positions in this block whose key was added before, or occurs earlier in the block. Changes nothing."""
        seen = self._on_disk(keys)
        fresh = set(keys)
        if not seen and len(fresh) == len(keys) and fresh.isdisjoint(self._known):
            return []
        positions = []
        for position, key in enumerate(keys):
            if key in seen or key in self._known:
                positions.append(position)
            seen.add(key)
        return positions

    def add(self, keys: Sequence[bytes]) -> None:
        """Keys of the open shard, none of them added before."""
        self._known.update(keys)
        self._open += keys
        if len(self._known) <= self._room:
            return
        if 2 * len(self._open) > self._room:
            self._spill()
        else:
            self._remember(self._known.difference(self._open))
            self._known = set(self._open)

    def seal(self, shard: int) -> None:
        """Make the keys of the open shard durable as those of ``shard``; the caller commits its row next.

        All shards before must be committed by now: their runs may be merged here, and the parts deleted.
        """
        self._compact()
        if self._spilled and self._open:
            self._write_open()
        chunks = merged(self._spilled) if self._spilled else _in_order(self._open)
        self._sealed[shard, shard] = write_run(self._path((shard, shard)), chunks)
        while self._spilled:
            self._spilled.pop().delete()
        self._open = []

    def close(self) -> None:
        for run in itertools.chain(self._sealed.values(), self._spilled):
            run.close()

    def _on_disk(self, keys: Sequence[bytes]) -> set[bytes]:
        if self._filter is None:
            return set()
        runs = [*self._spilled, *self._sealed.values()]
        return {key for key in self._filter.passing(keys) if any(key in run for run in runs)}

    def _spill(self) -> None:
        """All that is in memory goes behind the filter; what is of the open shard is in no run yet, and goes to one."""
        self._write_open()
        self._remember(self._known)
        self._known, self._open = set(), []

    def _write_open(self) -> None:
        path = self._directory / f"open-{len(self._spilled):05d}.run"
        self._spilled.append(write_run(path, _in_order(self._open)))

    def _remember(self, keys: set[bytes]) -> None:
        """Let keys of a run pass the filter; when it is full, make one of twice the size."""
        known = self._filter.size if self._filter else 0
        if self._filter is None or known + len(keys) > self._filter.capacity:
            self._recall_filter()
        else:
            self._filter.add(b"".join(keys))

    def _recall(self) -> None:
        """After a restart: in memory if there is room, behind the filter otherwise."""
        if sum(map(len, self._sealed.values())) > self._memory_keys:
            self._recall_filter()
            return
        for run in self._sealed.values():
            for piece in run.pieces():
                self._known.update(digests_of(piece))

    def _recall_filter(self) -> None:
        runs = [*self._spilled, *self._sealed.values()]
        self._filter = None  # so that the old one and the new are not there at once
        self._room = self._memory_keys * 2 // 5  # a filter takes room itself
        self._filter = Filter(max(sum(map(len, runs)), 8 * self._memory_keys))
        for run in runs:
            for piece in run.pieces():
                self._filter.add(piece)

    def _compact(self) -> None:
        """Merge neighbours while enough of equal size are at the end; parts are deleted when the whole is durable."""
        while number := mergeable(list(self._sealed)):
            spans = list(self._sealed)[-number:]
            parts = [self._sealed[span] for span in spans]
            whole = (spans[0][0], spans[-1][1])
            run = write_run(self._path(whole), merged(parts))
            for span in spans:
                self._sealed.pop(span).delete()
            self._sealed[whole] = run

    def _delete_others(self) -> None:
        kept = {run.path.name for run in self._sealed.values()}
        for name in self._names():
            if name not in kept:
                remove("keys", self._directory / name)

    def _names(self) -> list[str]:
        return [path.name for path in self._directory.iterdir() if path.name.endswith((".run", ".run.tmp"))]

    def _path(self, span: Span) -> Path:
        return self._directory / f"{span[0]:05d}-{span[1]:05d}.run"


class BlockCheck:
    """Checks validated blocks, in order, against the limits and against all keys before.

    Each call is one trip to a worker thread. Lines that cannot be used become rejects; those that ``answered`` finds,
    by the digests of their keys, are skipped.
    """

    def __init__(
        self,
        ledger: Ledger,
        roller: Roller,
        duplicates: Duplicates,
        shape: LineShape = OWN,
        answered: Callable[[Sequence[bytes]], list[int]] | None = None,
    ) -> None:
        self._answered = answered
        self._ledger = ledger
        self._roller = roller
        self._duplicates = duplicates
        self._shape = shape

    async def restore(self, shards: int) -> None:
        await in_thread(self._ledger.restore, shards)

    async def check(self, block: Block, before: int) -> Block:
        """The usable lines of a block that follows ``before`` lines.

        Raises InputError for a repeated key when that is to be an error.
        """
        return await in_thread(self._check, block, before)

    async def check_and_add(self, block: Block, before: int) -> Block:
        """As ``check``; the keys of the usable lines count as used from now on."""
        return await in_thread(self._check_and_add, block, before)

    async def add(self, keys: Sequence[bytes]) -> None:
        await in_thread(self._ledger.add, keys)

    async def seal(self, shard: int) -> None:
        await in_thread(self._ledger.seal, shard)

    async def close(self) -> None:
        await uncancelled(self._ledger.close)

    def _check(self, block: Block, before: int) -> Block:
        block = numbered(block, before)
        limit = self._roller.max_bytes
        block = without(block, self._roller.oversized(block.ends), lambda line: larger_than_shard(line, limit))
        if self._answered is not None:
            block = without(block, self._answered(block.keys), None)
        repeated = self._ledger.repeated(block.keys)
        if repeated and self._duplicates == "error":
            at = repeated[0]
            reason = repeated_key(block.line(at), self._shape)
            raise InputError(f"{block.source}:{block.lines_no[at]} (byte {block.start(at)}): {reason}")
        return without(block, repeated, partial(repeated_key, shape=self._shape))

    def _check_and_add(self, block: Block, before: int) -> Block:
        block = self._check(block, before)
        self._ledger.add(block.keys)
        return block


def _in_order(digests: Iterable[bytes]) -> Iterator[bytes]:
    """Put together by their first bytes and sorted in small parts, which stay in the processor's cache."""
    parts: list[list[bytes]] = [[] for _ in range(256)]
    appends = [part.append for part in parts]
    for digest in digests:
        appends[digest[0]](digest)
    return (b"".join(sorted(part)) for part in parts)
