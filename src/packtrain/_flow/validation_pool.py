"""Validation of blocks in parallel, with the results taken in order."""

from __future__ import annotations

from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, closing
from typing import TYPE_CHECKING

import anyio

from .._io.first_block import looked_at
from .._io.threads import finish
from .._io.worker_pool import Workers, open_workers, scan_in_thread
from .._options import WORKERS_FROM
from .._rules.framing import Framer
from .._rules.lines import OWN
from .._text import encodable

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from typing import Self

    from anyio.abc import TaskGroup

    from .._io.storage import Source
    from .._options import Options
    from .._rules.diagnosis import LineForm
    from .._rules.framing import RawBlock
    from .._rules.lines import LineShape
    from .._rules.validate import Block
    from .shares import Shares


class Validator:
    """Validates blocks in this process, and in worker processes once there is more to do than starting them costs."""

    def __init__(self, options: Options, shares: Shares, shape: LineShape = OWN) -> None:
        self._shape = shape
        self._shares = shares
        self.count = shares.workers.most
        self.blocks = shares.blocks
        self._bytes_before = WORKERS_FROM if options.workers is None else 0
        self._workers: Workers | None = None
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await finish(self._stack.aclose())

    async def prepare(self, raw: RawBlock) -> None:
        """Start the worker processes when this block makes them worth it."""
        if self.count > 1 and self._workers is None:
            self._bytes_before -= len(raw.data)
            if self._bytes_before < 0 and (count := self._shares.workers.take()):
                self._stack.callback(self._shares.workers.give, count)
                self._workers = await self._stack.enter_async_context(open_workers(count))

    async def scan(self, raw: RawBlock, source: str) -> Block:
        return await (self._workers.scan if self._workers else scan_in_thread)(raw, source, self._shape)


class Pending:
    """A block that is being validated."""

    def __init__(self, size: int) -> None:
        self.size = size
        self._validated = anyio.Event()
        self._block: Block

    async def scan(self, validator: Validator, raw: RawBlock, source: str) -> None:
        self._block = await validator.scan(raw, source)
        self._validated.set()

    async def block(self) -> Block:
        """Its lines are counted from the start of the block."""
        await self._validated.wait()
        return self._block


class BlockQueue:
    """The blocks of one source that are read and not yet done with, in order. Made by ``validating``."""

    def __init__(self, validator: Validator, source: str, tasks: TaskGroup) -> None:
        self._validator = validator
        self._source = source
        self._tasks = tasks
        # One waits for each that is being validated, so that no process has to wait.
        self._send, self._receive = anyio.create_memory_object_stream[Pending](validator.count)
        self._held = 0
        self._current = 0

    def close(self) -> None:
        self._send.close()
        self._receive.close()
        self._give(self._held)

    async def feed(self, blocks: AsyncIterator[bytes], framer: Framer) -> None:
        async with self._send:
            async for block in blocks:
                await self._put(framer.feed(block))
            await self._put(framer.finish())

    async def take(self) -> Pending | None:
        """The next block, or None at the end; the one before is done with. May be cancelled and tried again."""
        self._give(self._current)
        self._current = 0
        try:
            pending = await self._receive.receive()
        except anyio.EndOfStream:
            return None
        self._current = pending.size
        return pending

    def _give(self, size: int) -> None:
        self._held -= size
        self._validator.blocks.give(size)

    async def _put(self, raws: list[RawBlock]) -> None:
        for raw in raws:
            size = len(raw.data)
            while self._held and not self._validator.blocks.fits(size):  # one block of each source always fits
                await self._validator.blocks.wait()
            self._held += size
            self._validator.blocks.take(size)
            await self._validator.prepare(raw)
            pending = Pending(size)
            await self._send.send(pending)
            self._tasks.start_soon(pending.scan, self._validator, raw, self._source)


@asynccontextmanager
async def validating(
    source: Source, validator: Validator, options: Options, *, offset: int = 0, look: LineForm | None = None
) -> AsyncIterator[BlockQueue]:
    """The blocks of an opened source from ``offset`` on. While one is taken the next are read and validated.

    With ``look``, OtherFormat is raised when the first block as a whole is not of this form.
    """
    framer = Framer(options.max_line_bytes, offset=offset)
    blocks = source.blocks(size=options.block_bytes, offset=offset)
    if look is not None:
        blocks = looked_at(blocks, source.name, look)
    with ExitStack() as streams:
        async with anyio.create_task_group() as tasks:
            # Closed only when nothing is sent any more: whatever ends the block has the last word.
            queue = streams.enter_context(closing(BlockQueue(validator, encodable(source.name), tasks)))
            tasks.start_soon(queue.feed, blocks, framer)
            try:
                yield queue
            finally:
                tasks.cancel_scope.cancel()
