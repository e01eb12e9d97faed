"""The input as batches of judged lines: framed, validated, and free of repeated keys."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import anyio
import anyio.to_thread

from .._errors import InputError
from .._rules.records import Batch, larger_than_shard, repeated_key, scan, without

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream

    from .._io.ledger import Ledger
    from .._io.sources import Source
    from .._options import Options
    from .._rules.framing import Frame
    from .._rules.rolling import Roller


class Judge:
    """Judges one line after the other, against the rules and against all keys before it."""

    def __init__(self, options: Options, roller: Roller, ledger: Ledger) -> None:
        self._options = options
        self._roller = roller
        self._ledger = ledger

    async def judge(self, frame: Frame, source: str) -> Batch:
        """The frame's lines; those that cannot be used have become rejects.

        Raises InputError for a repeated key if that is to be an error.
        """
        return await anyio.to_thread.run_sync(self._judge, frame, source)

    def _judge(self, frame: Frame, source: str) -> Batch:
        batch = scan(frame, source=source)
        limit = self._roller.max_bytes
        batch = without(batch, self._roller.oversized(batch.ends), lambda line: larger_than_shard(line, limit))
        repeated = self._ledger.repeated(batch.keys)
        if repeated and self._options.duplicates == "error":
            at = repeated[0]
            reason = repeated_key(batch.line(at))
            raise InputError(f"{source}:{batch.lines_no[at]} (byte {batch.raw_starts[at]}): {reason}")
        return without(batch, repeated, repeated_key)


@asynccontextmanager
async def reading(source: Source, *, size: int, offset: int = 0) -> AsyncIterator[MemoryObjectReceiveStream[bytes]]:
    """The blocks of a source; while one is worked on, the next is read, and no more than that."""
    send, receive = anyio.create_memory_object_stream[bytes](0)
    async with receive, anyio.create_task_group() as tasks:
        tasks.start_soon(_read, source, size, offset, send)
        yield receive
        tasks.cancel_scope.cancel()


async def _read(source: Source, size: int, offset: int, send: MemoryObjectSendStream[bytes]) -> None:
    async with send:
        async for block in source.blocks(size=size, offset=offset):
            await send.send(block)
