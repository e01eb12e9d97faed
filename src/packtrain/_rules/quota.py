"""Free capacity: of the spool on this disk, and of the project at the service."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .._model import Limits


def may_open_shard(spooled: int, shard_bytes: int, budget: int) -> bool:
    """Whether another shard may be begun. One always may, or a small budget would stop the run for good."""
    return spooled == 0 or spooled + shard_bytes <= budget


def uploads_that_fit(stored: int, limits: Limits) -> int:
    """How many more shards may go up before the service's store is full, counting each as a full one."""
    if stored == 0:
        return max(1, limits.stored_bytes // limits.shard_bytes)
    return max(0, (limits.stored_bytes - stored) // limits.shard_bytes)


def jobs_that_fit(live: int, limits: Limits) -> int:
    return max(0, limits.live_jobs - live)
