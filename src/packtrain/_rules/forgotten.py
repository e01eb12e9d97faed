"""What to make of a shard when the manifest may have forgotten what became of it.

Its create counts as sent and unanswered. Then all that holds for a lost answer holds here: a job that bears the
shard's tag is adopted, whatever its attempt; when none shows up for long enough, the attempt's input file is revoked,
and only then the next attempt begins.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .._model import State
from . import naming
from .lifecycle import Suspected

if TYPE_CHECKING:
    from collections.abc import Iterable

    from .._model import Job, RemoteBatch, Shard


def suspicion(token: str, shard: Shard, attempt: int, now: float) -> Suspected:
    """``attempt`` is the latest that may have been begun, 1 when nothing tells of any."""
    return Suspected(
        attempt=attempt,
        file=naming.file_name(token, shard.index, shard.generation, attempt),
        tag=naming.job_tag(token, shard, attempt),
        doubtful_at=now,
        reason="the manifest was recovered, and may have forgotten a job of this shard",
    )


def unknown(token: str, batches: Iterable[RemoteBatch], jobs: Iterable[Job]) -> list[RemoteBatch]:
    """Jobs of attempts of which the manifest knows no intent to create them; ``jobs`` are all of the run, read after
    the pass over the list.

    Before the next attempt of a shard is sent, any job of an earlier one is looked for anyway.
    """
    rows = {(job.shard, job.generation): job for job in jobs}
    tags = [(naming.read_tag(token, batch.display_name), batch) for batch in batches]
    return [batch for tag, batch in tags if tag is not None and not _intended(token, tag, rows)]


def _intended(token: str, tag: naming.Tag, rows: dict[tuple[int, int], Job]) -> bool:
    job = rows.get((tag.shard, tag.generation))
    if job is None:
        return False
    if job.state is State.QUARANTINED or tag.attempt < job.attempt:
        return True
    sent = naming.read_tag(token, job.tag or "")
    return sent is not None and sent.attempt >= tag.attempt
