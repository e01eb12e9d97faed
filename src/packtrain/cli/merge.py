"""``packtrain merge``: join answers to requests by key."""

from typing import Annotated

import anyio
from cyclopts import Parameter

from packtrain import MergeProgress, MergeReport, Options
from packtrain._validation import counted

from . import arguments as arg
from .console import put, put_json
from .exits import Exit
from .progress import show_merge
from .row_counts import little_text, unusable_text


async def merge(
    *,
    requests: Annotated[
        list[str],
        Parameter(consume_multiple=True, negative=(), metavar="FILE...", help="Files of requests, in order."),
    ],
    results: Annotated[
        list[str],
        Parameter(consume_multiple=True, negative=(), metavar="FILE...", help="Files of results, in any order."),
    ],
    out: arg.Out,
    join: arg.Join = False,
    json: arg.Json = False,
    common: arg.Common = arg.COMMON,
) -> Exit:
    from packtrain import merge as merge_files

    progress = MergeProgress()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(show_merge, progress, common.quiet)
        report = await merge_files(requests, results, out, join=join, options=Options(), progress=progress)
        tasks.cancel_scope.cancel()
    if json:
        put_json(report)
    else:
        put(_text(report, out))
    return Exit.SOME_FAILED if report.failed or report.missing else Exit.COMPLETE


def _text(report: MergeReport, out: str) -> str:
    counts = (
        f"{report.answered:,} answered, {report.failed:,} failed, {report.missing:,} missing, "
        f"{counted(report.duplicates, 'duplicate')}, {counted(report.unknown, 'unknown key')}"
    )
    texts = (little_text(report.rows), unusable_text(report.rows))
    details = "".join(f"; of these {text}" for text in texts if text)
    unknown = f"\nrows of no request are in {out}.unknown.jsonl" if report.unknown else ""
    return f"{out}: {counted(report.lines, 'line')}; {counts}{details}{unknown}"
