"""Limits that count for all runs of a client together: transfers, joins, worker processes, blocks in memory."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import anyio

from .._io.worker_pool import usable_cores
from .._options import BLOCKS_BYTES, MAX_WORKERS

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from .._options import Options


class Slots:
    """Transfers of one kind that may be under way at a time. Runs get free slots in the order in which they ask."""

    def __init__(self, count: int) -> None:
        self._free = count
        self._turn = anyio.Lock()

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[int]:
        """The number of free slots, which only this block may take meanwhile."""
        async with self._turn:
            yield self._free

    def take(self, count: int) -> None:
        self._free -= count

    def give(self) -> None:
        self._free += 1


class Workers:
    """Worker processes that may be running at a time."""

    def __init__(self, options: Options) -> None:
        #: For one run alone.
        self.most = min(usable_cores(), MAX_WORKERS) if options.workers is None else options.workers
        self._free = self.most

    def take(self) -> int:
        """As many as are free; none when it is only one, which is no faster than this process."""
        taken = self._free if self._free > 1 else 0
        self._free -= taken
        return taken

    def give(self, count: int) -> None:
        self._free += count


class BlockBudget:
    """Bytes of blocks that are read and not yet done with."""

    def __init__(self) -> None:
        self._held = 0
        self._room = anyio.Event()

    def fits(self, size: int) -> bool:
        return self._held + size <= BLOCKS_BYTES

    def take(self, size: int) -> None:
        self._held += size

    def give(self, size: int) -> None:
        self._held -= size
        self._room.set()
        self._room = anyio.Event()

    async def wait(self) -> None:
        """Until some are given back."""
        await self._room.wait()


class Shares:
    """What the runs of one client share."""

    def __init__(self, options: Options) -> None:
        self.uploads = Slots(options.uploads)
        self.downloads = Slots(options.downloads)
        self.workers = Workers(options)
        self.blocks = BlockBudget()
        #: One join at a time: each holds an index in memory, and Python would not run two at once anyway.
        self.joining = anyio.CapacityLimiter(1)
