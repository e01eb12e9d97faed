"""What every part of a driver has in hand."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import anyio

from .._rules.lifecycle import detail
from .oddities import Oddities

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .._io.base import Clock, Remote
    from .._io.spool import RunSpool
    from .._manifest.base import Manifest
    from .._model import Extra, Job, Run, Shard
    from .._options import Options
    from .._rules.lifecycle import Event
    from .._service import Service
    from .signals import Changes

log = logging.getLogger("packtrain")


@dataclass(frozen=True, kw_only=True)
class Context:
    """One run, and the parts that it runs on."""

    run: Run
    service: Service
    options: Options
    spool: RunSpool
    manifest: Manifest
    remote: Remote
    clock: Clock
    changes: Changes
    #: The run was there before this process opened it, so that its manifest may have been put back meanwhile.
    resumed: bool = False
    oddities: Oddities = field(default_factory=Oddities)
    #: Joins one at a time: each holds an index in memory, and Python would not run two at once anyway.
    joining: anyio.CapacityLimiter = field(default_factory=lambda: anyio.CapacityLimiter(1))

    def service_now(self) -> float:
        """Unix seconds by the service's clock, or by ours as long as it has told none."""
        told = self.remote.now()
        return self.clock.now() if told is None else told

    async def record(
        self, job: Job, event: Event, child: Shard | None = None, *events: Event, extras: Sequence[Extra] = ()
    ) -> Job:
        """The one way from here into the manifest: record, tell, and wake whoever waits for it."""
        after = await self.manifest.record(job, event, child, *events, extras=extras)
        name = type(event).__name__
        log.info(
            "shard %d: %s -> %s %s", job.shard, name, after.state, detail(event), extra={"action": name, "run": job.run}
        )
        self.changes.notify()
        return after
