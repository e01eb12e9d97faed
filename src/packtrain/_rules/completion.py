"""When there is nothing left to do for a run, by what its manifest counts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .._model import State
from . import quota
from .lifecycle import AMBIGUOUS, COLLECT, LIVE, SETTLED

if TYPE_CHECKING:
    from .._model import Limits, Statistics


def settled(statistics: Statistics) -> bool:
    """All of the input is cut, and every shard has landed or waits for a person. A landed one may still have its input
    file at the service, whose deletion holds up nothing."""
    return statistics.cursor.done and statistics.count(*SETTLED, State.LANDED) == statistics.shards


def submitted(statistics: Statistics, limits: Limits, spool_bytes: int) -> bool:
    """Nothing more moves until jobs end: all is submitted, or what is left waits for room here or at the service."""
    if statistics.count(*COLLECT, *AMBIGUOUS, State.CREATE_INTENT, State.UPLOADING, State.FINALIZING):
        return False
    jobs_full = not quota.jobs_that_fit(statistics.count(*LIVE), limits)
    store_full = not quota.uploads_that_fit(statistics.stored_bytes, limits)
    spool_full = not quota.may_open_shard(statistics.spooled_bytes, limits.shard_bytes, spool_bytes)
    uploaded = jobs_full or not statistics.count(State.UPLOADED)
    sealed = store_full or not statistics.count(State.SEALED)
    return uploaded and sealed and (statistics.cursor.done or spool_full or jobs_full or store_full)


def never(_: Statistics) -> bool:
    """For who drives until stopped."""
    return False
