"""Which keys are asked again, and which failure of a shard ends the asking.

A shard is a lineage of generations: each asks for keys that all generations before it left without an answer, so no
key is answered twice. The answer of a key is that of the first generation that has one, else its last failure.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
from msgspec import Raw, Struct

from .retry import TRANSIENT

if TYPE_CHECKING:
    from collections.abc import Iterable

    from .._model import ShardRow

#: gRPC's numbers and names for the error of a row, and whether the same request may fare better another time.
GRPC: tuple[tuple[int, str, bool], ...] = (
    (1, "CANCELLED", True),
    (2, "UNKNOWN", True),
    (3, "INVALID_ARGUMENT", False),
    (4, "DEADLINE_EXCEEDED", True),
    (5, "NOT_FOUND", False),
    (6, "ALREADY_EXISTS", False),
    (7, "PERMISSION_DENIED", False),
    (8, "RESOURCE_EXHAUSTED", True),
    (9, "FAILED_PRECONDITION", False),
    (10, "ABORTED", True),
    (11, "OUT_OF_RANGE", False),
    (12, "UNIMPLEMENTED", False),
    (13, "INTERNAL", True),
    (14, "UNAVAILABLE", True),
    (15, "DATA_LOSS", False),
    (16, "UNAUTHENTICATED", False),
)
_NUMBERS = {number: retryable for number, _, retryable in GRPC}
_NAMES = {name: retryable for _, name, retryable in GRPC}

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


class _Said(Struct):
    code: int | str | None = None
    status: str | None = None


_said = msgspec.json.Decoder(_Said)


def is_retryable(error: Raw) -> bool:
    """Whether a row's error is one that passes: by gRPC number, by HTTP status, or by name; a stranger is not."""
    try:
        said = _said.decode(error)
    except msgspec.MsgspecError:
        return False
    if isinstance(said.code, int):
        return _NUMBERS.get(said.code, said.code in TRANSIENT)
    return _NAMES.get(str(said.code or said.status).upper(), False)


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
