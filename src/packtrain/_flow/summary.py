"""How a run ended."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import anyio.to_thread

from .._reports import Summary
from .output import check_published

if TYPE_CHECKING:
    from .._io.spool import RunSpool
    from .._manifest.base import Manifest
    from .._model import Run, Statistics
    from .output import Output


async def conclude(manifest: Manifest, spool: RunSpool, run: Run, output: Output, began: float) -> Summary:
    """The summary; of a run that is published only with its output in place, and then what a crash left of its copies
    goes. ``began`` by the monotonic clock.

    Raises ManifestError when the output is no longer there as it was published.
    """
    statistics = await manifest.statistics(run.id)
    if statistics.merged:
        await check_published(output, statistics.tally.bytes)
        await anyio.to_thread.run_sync(spool.discard_results)
    return _summarise(run, statistics, began)


def _summarise(run: Run, statistics: Statistics, began: float) -> Summary:
    cursor, tally = statistics.cursor, statistics.tally
    return Summary(
        run=run.token,
        complete=statistics.merged,
        lines=cursor.lines,
        valid=cursor.valid,
        answered=tally.answered,
        failed=tally.failed,
        rejected=cursor.rejected,
        shards=cursor.shards,
        jobs_created=statistics.jobs_created,
        duplicates_healed=statistics.duplicates_healed,
        duplicates_live=statistics.duplicates_live,
        bytes_in=cursor.bytes,
        bytes_uploaded=statistics.uploaded_bytes,
        seconds=round(time.monotonic() - began, 3),
    )
