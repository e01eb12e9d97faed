"""Generations: which keys are asked again, when that ends, and what a tree of generations adds up to.

The generations of a shard are a tree. Each asks for keys that those above it left without an answer, and siblings share
no key, so no key is answered twice. The answer of a key is that of the first generation that has one, else its last
failure. An only child's files and tally cover all that its parent's cover, and take their place; siblings cover their
own lines, and their parent keeps what it has answered.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
from msgspec import Raw, Struct

from .._model import Tally, Verdict
from .._validation import counted

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from .._model import Shard, ShardRow

_NO_ROW = "the service returned no row for this key"


def unplaced(reason: str, unknown: int) -> str:
    """The reason for a key without a row when rows came that belong to no key: it may have been answered, and is not
    asked again by itself."""
    return f"{reason}; {counted(unknown, 'row')} of the results {'belongs' if unknown == 1 else 'belong'} to no request"


class Failed(Struct, frozen=True, omit_defaults=True):
    """A key without an answer, as its line in the list of failed keys. ``merge`` knows no ordinal, and did not ask."""

    key: str
    reason: str
    #: The place of its request among all valid lines of the run, from 0.
    ordinal: int = -1
    #: How many times it was asked.
    asked: int = 0
    #: Whether asking again may help.
    retryable: bool | None = None
    #: What its row was; FAILED as well without one.
    verdict: Verdict = msgspec.field(default=Verdict.FAILED, name="class")
    #: The service's own error, as it came.
    error: Raw = Raw()
    #: Where its line is in the input, from 1; None in state directories of earlier versions.
    source: str | None = None
    line: int | None = None
    #: The body of the request, as it was given.
    request: Raw = Raw()
    #: A row that can't be passed on, in base64; of an answer that is asked again, the answer meanwhile.
    row: bytes = msgspec.field(default=b"", name="row_base64")


read_failed_line = msgspec.json.Decoder(Failed).decode
_encode = msgspec.json.Encoder().encode


def failed_line(failed: Failed) -> bytes:
    """With its newline."""
    return _encode(failed) + b"\n"


def standing(before: Failed, now: Failed) -> Failed:
    """What stands of two failures of one key, the second being the later one: a row that was paid for is kept."""
    if not before.verdict.is_paid or now.verdict.is_paid:
        return now
    return msgspec.structs.replace(before, asked=now.asked, retryable=now.retryable)


def absence(row: ShardRow) -> tuple[str, bool]:
    """Why a key of this generation has no row, and whether asking again may help."""
    if row.result:
        return row.reason or _NO_ROW, True
    # Without a job the create was refused for the content of the shard.
    return row.reason or "the job left no results", row.job is not None


def asks_again(row: ShardRow, above: Sequence[ShardRow], retries: int) -> bool:
    """Whether the retryable keys of this generation are asked again without a person's decision.

    ``above`` are its ancestors, its parent first; of them and itself only those made for a retry count against
    ``retries``. A job that ends without results for the same reason twice would do so again. A generation that a person
    asked for is asked once: nothing of its parent was to be asked again. Results with a reason beside them are those
    of a job that somebody cancelled: what it did not come to is asked again by a person alone.
    """
    parent = above[0] if above else None
    used = sum(other.cause == "retry" for other in (row, *above))
    repeats = parent is not None and not (row.result or parent.result) and row.reason == parent.reason
    wished = parent is not None and parent.tally is not None and not parent.tally.again
    cancelled = row.result is not None and row.reason is not None
    return used < retries and row.job is not None and not (repeats or wished or cancelled)


def reopened(rows: Iterable[ShardRow]) -> bool:
    """Whether failed lines were asked again after the run was published: a parent has a tally that asks for none.

    ``rows`` are all of the run.
    """
    tree = Tree(rows)
    parents = filter(None, map(tree.parent, tree.rows))
    return any(parent.tally is not None and not parent.tally.again for parent in parents)


class Tree:
    """The generations of one or more shards."""

    def __init__(self, rows: Iterable[ShardRow]) -> None:
        self.rows = sorted(rows, key=lambda row: (row.shard, row.generation))
        self._rows = {(row.shard, row.generation): row for row in self.rows}
        self._children: dict[tuple[int, int], list[ShardRow]] = {}
        for row in self.rows:
            if row.parent is not None:
                self._children.setdefault((row.shard, row.parent), []).append(row)

    def parent(self, row: ShardRow) -> ShardRow | None:
        return None if row.parent is None else self._rows.get((row.shard, row.parent))

    def children(self, row: ShardRow) -> list[ShardRow]:
        """In the order in which they were made."""
        return self._children.get((row.shard, row.generation), [])

    def above(self, row: ShardRow) -> list[ShardRow]:
        """The ancestors, the parent first."""
        found = []
        parent = self.parent(row)
        while parent is not None:
            found.append(parent)
            parent = self.parent(parent)
        return found

    def continued(self, row: ShardRow) -> ShardRow | None:
        """The parent whose files and tally an only child takes the place of; None for a root and for siblings."""
        parent = self.parent(row)
        return parent if parent is not None and len(self.children(parent)) == 1 else None

    def next_generation(self, shard: int) -> int:
        """The number of the next descendant."""
        return 1 + max((row.generation for row in self.rows if row.shard == shard), default=-1)

    def leaves(self) -> list[ShardRow]:
        """The generations without children: a shard is complete when all of them are."""
        return [row for row in self.rows if not self.children(row)]

    def holders(self) -> list[ShardRow]:
        """The generations whose files, taken together, hold what became of each shard: by shard, and in each every
        parent before its children, which are in input order."""
        roots = [row for row in self.rows if self.parent(row) is None]
        return [row for root in roots for row in self._below(root) if len(self.children(row)) != 1]

    def _below(self, row: ShardRow) -> Iterator[ShardRow]:
        yield row
        for child in self.children(row):
            yield from self._below(child)


def latest(rows: Iterable[ShardRow]) -> list[ShardRow]:
    """The generations that hold what became of each shard; see ``Tree.holders``."""
    return Tree(rows).holders()


def total(rows: Iterable[ShardRow], lines: dict[tuple[int, int], int]) -> Tally:
    """The sum of the tallies of some shards, all of their generations given. ``lines`` are those of each generation.

    What a generation with several children left without an answer counts where it is asked again. Until a child has a
    tally, its lines are failed lines of its parent. The digest is left out.
    """
    tree, sums = Tree(rows), dict.fromkeys(_SUMS, 0)
    for row in tree.rows:
        if row.tally is None:
            continue
        branches = len(tree.children(row)) > 1
        for name in _SUMS:
            sums[name] += 0 if branches and name == "missing" else getattr(row.tally, name)
        before = tree.continued(row)
        if before is not None and before.tally is not None:
            for name in _SUMS:
                sums[name] -= getattr(before.tally, name)
        elif before is None and row.parent is not None:
            for name in ("failed", "again"):
                sums[name] -= lines[row.shard, row.generation]
    return msgspec.convert(sums, Tally)


_SUMS = tuple(name for name in Tally.__struct_fields__ if name not in ("sha256", "lists"))


def covered(shards: Iterable[Shard]) -> dict[tuple[int, int], int]:
    """The lines that the tally of each generation speaks for, by shard and generation."""
    by_place = {(shard.index, shard.generation): shard for shard in shards}
    siblings: dict[tuple[int, int | None], int] = {}
    for shard in by_place.values():
        siblings[shard.index, shard.parent] = siblings.get((shard.index, shard.parent), 0) + 1

    def origin(shard: Shard) -> Shard:
        while shard.parent is not None and siblings[shard.index, shard.parent] == 1:
            shard = by_place[shard.index, shard.parent]
        return shard

    return {place: origin(shard).lines for place, shard in by_place.items()}
