"""How a run stands, for people: kept at hand, and written down where another process can read it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import anyio
import anyio.to_thread
import msgspec

from .._io.spool import replace
from .._model import State
from .._reports import Progress, Status
from .._rules.extras import plight
from .._rules.lifecycle import DOUBT

if TYPE_CHECKING:
    from .._io.spool import Spool
    from .._manifest.base import Manifest
    from .._model import Statistics
    from .signals import Meter

_PERIOD = 1.0


class Reporter:
    """Reads the manifest about once a second; ``progress`` adds what this process knows."""

    def __init__(self, spool: Spool, manifest: Manifest, meter: Meter) -> None:
        self._spool = spool
        self._manifest = manifest
        self._meter = meter
        self._statistics: Statistics | None = None

    async def report(self, run: str | None = None) -> None:
        """Until cancelled; of the latest run where none is named."""
        while True:
            await self.refresh_latest() if run is None else await self.refresh(run)
            await anyio.sleep(_PERIOD)

    async def refresh_latest(self) -> None:
        if runs := await self._manifest.runs():
            await self.refresh(runs[-1].id)

    async def refresh(self, run: str) -> None:
        statistics = self._statistics = await self._manifest.statistics(run)
        stuck = await self._manifest.jobs(run, {State.QUARANTINED}) if statistics.count(State.QUARANTINED) else []
        doubted = await self._manifest.jobs(run, DOUBT) if statistics.count(*DOUBT) else []
        extras = await self._manifest.extras(run)
        mark = await self._manifest.key_mark()
        status = Status(
            at=time.time(),
            statistics=statistics,
            progress=self.progress(),
            extras=extras,
            quarantined={job.shard: plight(job, extras) for job in stuck},
            service=(mark.place or None) if mark else None,
            doubted={job.shard: job.doubtful_at or 0.0 for job in doubted},
        )
        await anyio.to_thread.run_sync(replace, self._spool.status, msgspec.json.encode(status))

    def progress(self) -> Progress:
        meter, known = self._meter, self._statistics
        cursor = known.cursor if known else None
        return Progress(
            bytes_total=meter.bytes_total,
            bytes_read=max(meter.bytes_read, cursor.bytes if cursor else 0),
            bytes_sent=meter.bytes_sent,
            lines=max(meter.lines, cursor.lines if cursor else 0),
            valid=max(meter.valid, cursor.valid if cursor else 0),
            rejected=max(meter.rejected, cursor.rejected if cursor else 0),
            states=known.states if known else {},
            jobs=known.jobs_created if known else 0,
            lines_answered=known.tally.answered if known else 0,
        )
