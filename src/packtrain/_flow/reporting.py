"""Progress and status file of a run."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from .._errors import IncompleteRun
from .._model import Cursor, State
from .._rules.lifecycle import AMBIGUOUS
from .._rules.submission import candidate, plight
from .._snapshots import PaidTwice, Progress, RowCounts, Status, Waiting
from .run import log

if TYPE_CHECKING:
    from .._model import Statistics
    from .run import ClientContext, Meter

_MAY_WAIT = frozenset({State.UPLOADING, State.FINALIZING, State.UPLOADED})


async def report(client: ClientContext, run: str | None = None) -> None:
    """Refresh periodically until cancelled; the latest run where none is named."""
    while True:
        await (refresh_latest(client) if run is None else refresh(client, run))
        await client.clock.sleep(client.policy.report_every)


async def refresh_latest(client: ClientContext) -> None:
    if runs := await client.manifest.runs():
        await refresh(client, runs[-1].id)


async def refresh(client: ClientContext, run: str) -> None:
    """Read the manifest's statistics of a run, and write the status file."""
    manifest = client.manifest
    statistics = client.meter.statistics = await manifest.statistics(run)
    stuck = await manifest.rows(run, {State.QUARANTINED}) if statistics.count(State.QUARANTINED) else []
    ambiguous = await manifest.rows(run, AMBIGUOUS) if statistics.count(*AMBIGUOUS) else []
    duplicate_jobs = await manifest.duplicate_jobs(run)
    credential = await manifest.credential()
    status = Status(
        at=client.clock.now(),
        statistics=statistics,
        progress=progress(client.meter),
        duplicate_jobs=duplicate_jobs,
        quarantined={row.shard: plight(row, duplicate_jobs) for row in stuck},
        candidates={row.shard: job for row in stuck if (job := candidate(row, duplicate_jobs)) is not None},
        service=(credential.place or None) if credential else None,
        ambiguous={row.shard: row.ambiguous_at or 0.0 for row in ambiguous},
        waiting=await _waiting(client, statistics),
        rows=RowCounts.of(statistics.tally),
        paid_twice=PaidTwice.of(statistics),
    )
    try:
        await client.spool.write_status(msgspec.json.encode(status))
    except IncompleteRun as error:
        # It is for people to look at, and no part of the run.
        if str(error) != client.meter.status_error:
            log.warning("%s; the run goes on", error, extra={"action": "Status"})
        client.meter.status_error = str(error)


async def _waiting(client: ClientContext, statistics: Statistics) -> list[Waiting]:
    """What holds up uploads and creates, the next to try again first."""
    if not statistics.count(*_MAY_WAIT):
        return []
    now, found = client.clock.now(), dict[str, Waiting]()
    for row in await client.manifest.rows(statistics.run, _MAY_WAIT):
        if row.reason and row.due > now:
            before = found.get(row.reason)
            due, shards = (row.due, 1) if before is None else (min(before.due, row.due), before.shards + 1)
            found[row.reason] = Waiting(reason=row.reason, shards=shards, due=due)
    return sorted(found.values(), key=lambda waiting: waiting.due)


def progress(meter: Meter) -> Progress:
    """The manifest's last statistics and what this process has counted since."""
    known = meter.statistics
    cursor = known.cursor if known else Cursor()
    return Progress(
        bytes_total=meter.bytes_total,
        bytes_read=max(meter.bytes_read, cursor.bytes),
        bytes_sent=meter.bytes_sent,
        lines=max(meter.lines, cursor.lines),
        valid=max(meter.valid, cursor.valid),
        rejected=max(meter.rejected, cursor.rejected),
        states=known.states if known else {},
        jobs=known.jobs_created if known else 0,
        lines_answered=known.tally.answered if known else 0,
    )
