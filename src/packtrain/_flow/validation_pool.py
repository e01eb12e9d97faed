"""Validation of blocks in parallel, with the results taken in order."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AsyncExitStack, asynccontextmanager, closing
from typing import TYPE_CHECKING

import anyio
import anyio.to_thread

from .._io.worker_pool import Workers, open_workers, scan_in_thread, usable_cores
from .._options import BLOCKS_BYTES, MAX_WORKERS, WORKERS_FROM
from .._rules.framing import Framer
from .._rules.lines import OWN

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from typing import Self

    from anyio.abc import TaskGroup
    from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream

    from .._io.sources import Source
    from .._options import Options
    from .._rules.framing import RawBlock
    from .._rules.lines import LineShape
    from .._rules.validate import Block

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


class Scanner:
    """Judges frames in this process, and in others when there is more to do than starting them costs."""

    def __init__(self, options: Options, shape: LineShape = OWN) -> None:
        self._shape = shape
        chosen = options.workers
        self.count = min(usable_cores(), MAX_WORKERS) if chosen is None else chosen
        self._bytes_before = WORKERS_FROM if chosen is None else 0
        self._workers: Workers | None = None
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        with anyio.CancelScope(shield=True):
            await self._stack.aclose()

    async def prepare(self, raw: RawBlock) -> None:
        """Start the other processes when this frame is the first that is worth it."""
        if self.count > 1 and self._workers is None:
            self._bytes_before -= len(raw.data)
            if self._bytes_before < 0:
                self._workers = await self._stack.enter_async_context(open_workers(self.count))

    async def scan(self, raw: RawBlock, source: str) -> Block:
        return await (self._workers.scan if self._workers else scan_in_thread)(raw, source, self._shape)


class Pending:
    """A frame that is being judged."""

    def __init__(self, size: int) -> None:
        self.size = size
        self._judged = anyio.Event()
        self._batch: Block

    async def scan(self, scanner: Scanner, raw: RawBlock, source: str) -> None:
        self._batch = await scanner.scan(raw, source)
        self._judged.set()

    async def block(self) -> Block:
        """Its lines are counted from the start of the frame."""
        await self._judged.wait()
        return self._batch


class Window:
    """The frames of one source that are read and not yet done with, in order. Made by ``scanning``."""

    def __init__(self, scanner: Scanner, source: str, tasks: TaskGroup) -> None:
        self._scanner = scanner
        self._source = source
        self._tasks = tasks
        # One waits for each that is judged, so that no process has to.
        self._send, self._receive = anyio.create_memory_object_stream[Pending](scanner.count)
        self._held = 0
        self._current = 0
        self._room = anyio.Event()

    def close(self) -> None:
        self._send.close()
        self._receive.close()

    async def feed(self, chunks: AsyncIterator[bytes], framer: Framer) -> None:
        async with self._send:
            async for chunk in chunks:
                await self._put(framer.feed(chunk))
            await self._put(framer.finish())

    async def take(self) -> Pending | None:
        """The next frame, or None at the end; the one before is done with. May be cancelled and tried again."""
        self._held -= self._current
        self._current = 0
        self._room.set()
        try:
            pending = await self._receive.receive()
        except anyio.EndOfStream:
            return None
        self._current = pending.size
        return pending

    async def _put(self, raws: list[RawBlock]) -> None:
        for raw in raws:
            size = len(raw.data)
            while self._held and self._held + size > BLOCKS_BYTES:
                self._room = anyio.Event()
                await self._room.wait()
            self._held += size
            await self._scanner.prepare(raw)
            pending = Pending(size)
            await self._send.send(pending)
            self._tasks.start_soon(pending.scan, self._scanner, raw, self._source)


@asynccontextmanager
async def scanning(source: Source, scanner: Scanner, options: Options, *, offset: int = 0) -> AsyncIterator[Window]:
    """The frames of an opened source from ``offset`` on. While one is taken the next are read and judged."""
    framer = Framer(options.max_line_bytes, offset=offset)
    async with anyio.create_task_group() as tasks:
        with closing(Window(scanner, source.name, tasks)) as window:
            tasks.start_soon(window.feed, source.chunks(size=options.block_bytes, offset=offset), framer)
            yield window
            tasks.cancel_scope.cancel()
