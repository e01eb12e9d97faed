"""Which keys are asked again, and which failure of a shard ends the asking.

A shard is a lineage of generations: each asks for keys that all generations before it left without an answer, so no
key is answered twice. The answer of a key is that of the first generation that has one, else its last failure.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import Raw, Struct

if TYPE_CHECKING:
    from collections.abc import Iterable

    from .._model import ShardRow

_NO_ROW = "the service returned no row for this key"


class Failed(Struct, frozen=True, omit_defaults=True):
    """A key without an answer, as its line in the list of failed keys."""

    key: str
    reason: str
    #: The place of its request among all valid lines of the run, from 0.
    ordinal: int
    #: How many times it was asked.
    asked: int
    #: Whether asking again may help.
    retryable: bool
    #: The service's own error, as it came.
    error: Raw = Raw()


def absence(row: ShardRow) -> tuple[str, bool]:
    """Why a key of this generation has no row, and whether asking again may help."""
    if row.result:
        return _NO_ROW, True
    # Without a job the create was refused for what stands in the shard.
    return row.reason or "the job left no results", row.job is not None


def asks_again(row: ShardRow, parent: ShardRow | None, retries: int) -> bool:
    """Whether the retryable keys of this generation go on in another one by themselves.

    ``parent`` is the generation before. A job that ends without results for the same reason twice would do so again.
    One that a person asked for is asked once: nothing of its parent was to go on by itself.
    """
    repeats = parent is not None and not (row.result or parent.result) and row.reason == parent.reason
    wished = parent is not None and parent.tally is not None and not parent.tally.again
    return row.generation < retries and row.job is not None and not repeats and not wished


def reopened(rows: Iterable[ShardRow]) -> bool:
    """Whether failed lines were asked again after the run was published: a generation follows one that asked for none.

    ``jobs`` are all of the run, each generation behind its parent.
    """
    parents: dict[int, ShardRow] = {}
    for row in rows:
        parent = parents.get(row.shard)
        if parent is not None and parent.tally is not None and not parent.tally.again:
            return True
        parents[row.shard] = row
    return False


def latest(rows: Iterable[ShardRow]) -> list[ShardRow]:
    """The last generation of each shard, which tells what became of all of it; lowest shard first."""
    last = {row.shard: row for row in sorted(rows, key=lambda row: (row.shard, row.generation))}
    return list(last.values())
