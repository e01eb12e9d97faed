"""The progress of a run on standard error: live on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import sys
import time
from contextlib import suppress
from typing import TYPE_CHECKING

import anyio

from packtrain import MergeProgress, Progress

from .console import plain, say
from .figures import Meter, Rate, merge_line

if TYPE_CHECKING:
    from collections.abc import Callable

    from rich.table import Table

#: Seconds between two frames, and between two log lines.
FRAME = 0.5
LOG = 10.0


async def show(read: Callable[[], Progress], quiet: bool) -> None:
    """Show what ``read`` says until cancelled, or until the terminal is gone."""
    if quiet:
        return
    if sys.stderr.isatty():
        with suppress(OSError):
            await _draw(read)
    else:
        await _log(read)


async def _draw(read: Callable[[], Progress]) -> None:
    from rich.console import Console
    from rich.live import Live

    meter = Meter()
    with Live(console=Console(stderr=True), auto_refresh=False, transient=True) as screen:
        while True:
            screen.update(_table(meter.lines(time.monotonic(), read())), refresh=True)
            await anyio.sleep(FRAME)


async def _log(read: Callable[[], Progress]) -> None:
    meter, last = Meter(), Progress()
    while True:
        progress = read()
        lines = dict(meter.lines(time.monotonic(), progress))
        if progress == last or not progress.bytes_read:
            await anyio.sleep(FRAME)
            continue
        last = progress
        text = f"read {lines['read']} | shards {lines['shards']} | jobs {lines['jobs']} | {lines['answers']}"
        say(f"{time.strftime('%H:%M:%S')} {text}")
        await anyio.sleep(LOG)


async def show_merge(progress: MergeProgress, quiet: bool) -> None:
    """As ``show``, for a merge: a bar on a terminal, and a line now and then elsewhere."""
    if quiet:
        return
    if sys.stderr.isatty():
        with suppress(OSError):
            await _draw_bar(progress)
        return
    rate = Rate()
    while True:
        await anyio.sleep(LOG)
        say(f"{time.strftime('%H:%M:%S')} {merge_line(progress, rate, time.monotonic())}")


async def _draw_bar(progress: MergeProgress) -> None:
    from rich.console import Console
    from rich.progress import BarColumn, TextColumn
    from rich.progress import Progress as Bars

    rate = Rate()
    columns = BarColumn(), TextColumn("{task.percentage:>3.0f}% {task.description}")
    with Bars(*columns, console=Console(stderr=True), auto_refresh=False, transient=True) as screen:
        bar = screen.add_task("", total=None)
        while True:
            text = merge_line(progress, rate, time.monotonic())
            screen.update(bar, total=progress.total or None, completed=progress.done, description=text, refresh=True)
            await anyio.sleep(FRAME)


def _table(lines: list[tuple[str, str]]) -> Table:
    from rich.table import Table
    from rich.text import Text

    table = Table.grid(padding=(0, 2))
    for name, text in lines:
        table.add_row(Text(name, style="dim"), Text(plain(text)))
    return table
