"""Invariants between the rows of a run. Each function yields a text for each violation."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .._model import Shard, State
from .._validation import counted
from . import lifecycle, naming

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from .._model import Cursor, Entry, ShardRow

S = State
#: The fields that a row must have in a state; a bar divides alternatives.
NEEDED = {
    S.UPLOADING: "file upload",
    S.FINALIZING: "file upload",
    S.UPLOADED: "file",
    S.CREATE_INTENT: "file tag intent_at",
    S.RECONCILING: "file tag ambiguous_at",
    S.REVOKE_INTENT: "file",
    S.REVOKED: "ambiguous_at",
    S.SUBMITTED: "job submitted_at",
    S.ENDED: "result|reason",
    S.LANDED: "tally",
    S.CLOSED: "tally",
    S.QUARANTINED: "reason",
}
_EVENTS = {kind.__name__: row for kind, row in lifecycle.TABLE.items()}


def job_flaws(token: str, row: ShardRow, shard: Shard, entries: Iterable[Entry] = ()) -> Iterator[str]:
    """Violations in one row; ``shard`` and ``entries`` are its own."""
    for names in NEEDED.get(row.state, "").split():
        if all(getattr(row, name) is None for name in names.split("|")):
            yield f"is {row.state}, but has no {' and no '.join(names.split('|'))}"
    own = naming.file_name(token, shard.index, shard.generation, row.attempt)
    named = any(entry.event == lifecycle.FileNamed.__name__ and entry.attempt == row.attempt for entry in entries)
    if row.file is not None and not named and not naming.same_file(row.file, own):
        yield f"has the file {row.file}, which is not that of attempt {row.attempt}"
    if row.tag is not None and row.tag not in {naming.job_tag(token, shard, at) for at in range(1, row.attempt + 1)}:
        yield f"has the tag {row.tag}, which is that of none of its {counted(row.attempt, 'attempt')}"


def tally_flaws(row: ShardRow, lines: int) -> Iterator[str]:
    """``lines`` is the number that the shard had when it was cut from the input."""
    if row.tally is not None and lines and row.tally.answered + row.tally.failed != lines:
        yield (
            f"has {counted(row.tally.answered, 'answer')} and {counted(row.tally.failed, 'failure')} for "
            f"{counted(lines, 'line')}"
        )


def history_flaws(row: ShardRow, entries: Iterable[Entry]) -> Iterator[str]:
    """Steps of a row that the table does not allow; ``entries`` are its own, in order."""
    state, attempt = S.SEALED, 0
    for entry in entries:
        allowed, after = _EVENTS.get(entry.event, (frozenset(), None))
        if entry.before is not state or state not in allowed or entry.after is not (after or state):
            yield f"went by {entry.event} from {entry.before} to {entry.after}, when it was {state}"
        if entry.attempt < attempt:
            yield f"went back from attempt {attempt} to {entry.attempt}"
        state, attempt = entry.after, entry.attempt
    if (state, attempt) != (row.state, row.attempt):
        yield f"is {row.state} in attempt {row.attempt}, but its history ends as {state} in attempt {attempt}"


def cut_flaws(shards: list[Shard], cursor: Cursor) -> Iterator[str]:
    """Gaps and overlaps between the shards that were cut from the input, in order, up to where the input is read."""
    following = 0
    for index, shard in enumerate(shards):
        if shard.index != index or shard.first != following or shard.last - shard.first + 1 != shard.lines:
            yield f"shard {shard.index}: has the lines {shard.first} to {shard.last}, where {following} comes next"
        following = shard.last + 1
    if cursor.shards != len(shards):
        yield f"the input is cut into {counted(cursor.shards, 'shard')}, of which there are {len(shards)}"
    if cursor.done and cursor.valid != following:
        yield f"the input has {counted(cursor.valid, 'valid line')}, the shards have {following}"
