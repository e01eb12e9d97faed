"""Rows of a Python iterable, as a source of lines."""

from __future__ import annotations

import asyncio
import collections
import threading
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Generator, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import anyio

from .._errors import InputError
from .._model import Request, SourceIdentity
from .._options import CLOSE_PATIENCE, LINGER
from .._rules.lines import OWN, LineShape
from .._rules.validate import encode_line
from .sources import skip
from .threads import finish

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

Row = Request | dict[str, object] | bytes


class RowsSource:
    """A synchronous or asynchronous iterable of rows. It is read once.

    Rows arrive within ``LINGER`` seconds in blocks of about ``size`` bytes at most, however slowly they
    come, and no more than that is pulled ahead. A synchronous iterable is pulled in one thread of its own,
    so that it may use objects that are bound to a thread; an asynchronous one in one task, which ends with the
    source. What the iterable raises passes through; a row that cannot be a line is a TypeError or an InputError
    that names it, counted from 1, and its key. A synchronous iterable that still blocks ``CLOSE_PATIENCE`` seconds
    after closing keeps its thread until it returns.
    """

    replayable = False
    size = None
    description = None

    def __init__(self, rows: Iterable[Row] | AsyncIterable[Row], shape: LineShape = OWN, *, name: str = "rows") -> None:
        self.name = name
        self._shape = shape
        self._rows = rows
        self._buffer = _LineBuffer()
        self._pump: asyncio.Future[None] | None = None
        self._count = 0

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._pump is None:
            return
        self._buffer.close()
        if isinstance(self._pump, asyncio.Task):
            self._pump.cancel()
        await finish(asyncio.wait({self._pump}, timeout=CLOSE_PATIENCE))
        if self._pump.done() and not self._pump.cancelled():
            self._pump.exception()  # a failure after the last block was taken is of no interest

    def identity(self) -> SourceIdentity:
        return SourceIdentity(self.name)

    async def verify(self) -> None:
        """The end of rows is known only when they are read."""

    def blocks(self, *, size: int, offset: int = 0) -> AsyncIterator[bytes]:
        return skip(self._blocks(size), offset, self.name)

    async def _blocks(self, size: int) -> AsyncIterator[bytes]:
        self._buffer.size = size
        self._pump = pump = self._start()
        pump.add_done_callback(lambda _: self._buffer.ready.set())
        while True:
            with anyio.move_on_after(LINGER):
                await self._buffer.ready.wait()
            ended = pump.done()
            block = self._buffer.take()
            if block:
                yield block
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
                self._put(row)
                while self._buffer.full:
                    self._buffer.ready.set()
                    self._buffer.drained.clear()
                    await self._buffer.drained.wait()
        finally:
            if isinstance(rows, AsyncGenerator):
                await rows.aclose()

    def _put(self, row: Row) -> None:
        self._count += 1
        try:
            line = encode_line(row, self._shape)
        except TypeError as error:
            raise TypeError(f"{self._place(row)}: {error}") from error
        except UnicodeEncodeError as error:
            raise InputError(f"{self._place(row)}: half of a surrogate pair cannot be sent as UTF-8") from error
        except (InputError, RecursionError) as error:
            raise InputError(f"{self._place(row)}: {error}") from error
        self._buffer.put(line)

    def _place(self, row: Row) -> str:
        key = row.key if isinstance(row, Request) else row.get("key") if isinstance(row, dict) else None
        return f"row {self._count}" + (f" (key {key!r:.100})" if key is not None else "")

    def _pull_in_thread(self, rows: Iterable[Row], loop: asyncio.AbstractEventLoop) -> None:
        try:
            for row in rows:
                self._put(row)
                while self._buffer.full:
                    self._buffer.room.clear()
                    loop.call_soon_threadsafe(self._buffer.ready.set)
                    self._buffer.room.wait(LINGER)  # limited: the source may have been closed just before
                if self._buffer.closed:
                    return
        finally:
            if isinstance(rows, Generator):
                rows.close()


class _LineBuffer:
    """Lines between the pump, which puts them, and the reader, which takes them; about ``size`` bytes at most."""

    def __init__(self) -> None:
        self.size = 1
        self.closed = False
        #: For the reader: the buffer is full, or the pump has ended.
        self.ready = asyncio.Event()
        #: For a pump that is a task, and for one that is a thread: the reader has taken lines.
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
        block = b"".join([self._lines.popleft() for _ in range(len(self._lines))])
        self._taken += len(block)
        self.drained.set()
        self.room.set()
        return block

    def close(self) -> None:
        self.closed = True
        self.room.set()
