"""Blocking work that one side hands over and another does, one piece after the other."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import anyio
import anyio.to_thread

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream

#: Pieces that wait while one is done.
_WAITING = 2


class Backlog:
    """Made by ``open_backlog``. An error of a piece ends the block that the backlog was opened for."""

    def __init__(self, send: MemoryObjectSendStream[Callable[[], None]]) -> None:
        self._send = send

    async def put(self, piece: Callable[[], None]) -> None:
        """Have it done in a worker thread, after all before; waits while too many wait."""
        await self._send.send(piece)

    async def drain(self) -> None:
        """Until all that was put is done."""
        done = anyio.Event()
        await self._send.send(lambda: anyio.from_thread.run_sync(done.set))
        await done.wait()


@asynccontextmanager
async def open_backlog() -> AsyncIterator[Backlog]:
    send, receive = anyio.create_memory_object_stream[Callable[[], None]](_WAITING)
    async with receive, send, anyio.create_task_group() as tasks:
        tasks.start_soon(_work, receive)
        yield Backlog(send)
        tasks.cancel_scope.cancel()


async def _work(pieces: MemoryObjectReceiveStream[Callable[[], None]]) -> None:
    async for piece in pieces:
        await anyio.to_thread.run_sync(piece)
