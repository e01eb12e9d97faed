"""Rows given in Python, as a source of lines."""

from __future__ import annotations

import asyncio
import collections
import threading
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Generator, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import anyio

from .._model import Request, SourceIdentity
from .._rules.lines import OWN, LineShape
from .._rules.validate import encode_line
from .sources import LINGER, skip

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

Row = Request | dict[str, object] | bytes

#: How long closing waits for a synchronous iterable to come back, in seconds.
CLOSE_PATIENCE = 1.0


class RowsSource:
    """A synchronous or asynchronous iterable of rows. It is read once.

    Rows arrive within ``LINGER`` seconds in blocks of about ``size`` bytes at most, however slowly they
    come, and no more than that is pulled ahead. A synchronous iterable is pulled in one thread of its own,
    so that it may hold what is bound to a thread; an asynchronous one in one task, which ends with the
    source. What the iterable raises passes through; a row of another type is a TypeError. A synchronous
    iterable that still blocks ``CLOSE_PATIENCE`` seconds after closing keeps its thread until it comes back.
    """

    replayable = False
    length = None

    def __init__(self, rows: Iterable[Row] | AsyncIterable[Row], shape: LineShape = OWN, *, name: str = "rows") -> None:
        self.name = name
        self._shape = shape
        self._rows = rows
        self._belt = _Belt()
        self._pump: asyncio.Future[None] | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._pump is None:
            return
        self._belt.close()
        if isinstance(self._pump, asyncio.Task):
            self._pump.cancel()
        with anyio.CancelScope(shield=True):
            await asyncio.wait({self._pump}, timeout=CLOSE_PATIENCE)
        if self._pump.done() and not self._pump.cancelled():
            self._pump.exception()  # a failure after the last block was taken is nobody's any more

    def mark(self) -> SourceIdentity:
        return SourceIdentity(self.name)

    async def verify(self) -> None:
        """Rows show their end only when they are read."""

    def chunks(self, *, size: int, offset: int = 0) -> AsyncIterator[bytes]:
        return skip(self._blocks(size), offset, self.name)

    async def _blocks(self, size: int) -> AsyncIterator[bytes]:
        self._belt.size = size
        self._pump = pump = self._start()
        pump.add_done_callback(lambda _: self._belt.ready.set())
        while True:
            with anyio.move_on_after(LINGER):
                await self._belt.ready.wait()
            ended = pump.done()
            chunk = self._belt.take()
            if chunk:
                yield chunk
            elif ended:
                pump.result()
                return

    def _start(self) -> asyncio.Future[None]:
        if isinstance(self._rows, AsyncIterable):
            return asyncio.ensure_future(self._pull(self._rows))
        executor = ThreadPoolExecutor(1, thread_name_prefix="packtrain-rows")
        loop = asyncio.get_running_loop()
        pump = loop.run_in_executor(executor, self._pull_in_thread, self._rows, loop)
        executor.shutdown(wait=False)  # its one thread ends with the pump
        return pump

    async def _pull(self, rows: AsyncIterable[Row]) -> None:
        try:
            async for row in rows:
                self._belt.put(encode_line(row, self._shape))
                while self._belt.full:
                    self._belt.ready.set()
                    self._belt.drained.clear()
                    await self._belt.drained.wait()
        finally:
            if isinstance(rows, AsyncGenerator):
                await rows.aclose()

    def _pull_in_thread(self, rows: Iterable[Row], loop: asyncio.AbstractEventLoop) -> None:
        try:
            for row in rows:
                self._belt.put(encode_line(row, self._shape))
                while self._belt.full:
                    self._belt.room.clear()
                    loop.call_soon_threadsafe(self._belt.ready.set)
                    self._belt.room.wait(LINGER)  # limited: the source may have been closed just before
                if self._belt.closed:
                    return
        finally:
            if isinstance(rows, Generator):
                rows.close()


class _Belt:
    """Lines on their way from the pump, which puts, to the reader, who takes; up to ``size`` bytes lie on it."""

    def __init__(self) -> None:
        self.size = 1
        self.closed = False
        #: For the reader: the belt is full, or the pump has ended.
        self.ready = asyncio.Event()
        #: For a pump that is a task, and for one that is a thread: the reader was there.
        self.drained = asyncio.Event()
        self.room = threading.Event()
        self._lines: collections.deque[bytes] = collections.deque()
        # Each is written by one side alone, so neither needs a lock.
        self._put = 0
        self._taken = 0

    @property
    def full(self) -> bool:
        return self._put - self._taken >= self.size and not self.closed

    def put(self, line: bytes) -> None:
        self._lines.append(line)
        self._put += len(line)

    def take(self) -> bytes:
        self.ready.clear()
        chunk = b"".join([self._lines.popleft() for _ in range(len(self._lines))])
        self._taken += len(chunk)
        self.drained.set()
        self.room.set()
        return chunk

    def close(self) -> None:
        self.closed = True
        self.room.set()
