"""What to make of a shard when the manifest may have forgotten what became of it.

Its create counts as sent and unanswered. Then all that holds for a lost answer holds here: a job that bears the
shard's tag is adopted, whatever its attempt; when none shows up for long enough, the attempt's input file is revoked,
and only then the next attempt begins.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from . import naming
from .lifecycle import Suspected

if TYPE_CHECKING:
    from .._model import Shard


def suspicion(token: str, shard: Shard, attempt: int, now: float) -> Suspected:
    """``attempt`` is the latest that may have been begun, 1 when nothing tells of any."""
    return Suspected(
        attempt=attempt,
        file=naming.file_name(token, shard.index, shard.generation, attempt),
        tag=naming.job_tag(token, shard, attempt),
        doubtful_at=now,
        reason="the manifest was recovered, and may have forgotten a job of this shard",
    )
