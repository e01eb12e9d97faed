"""Worker processes that validate blocks in parallel.

The bytes of a block go through shared memory, the questions and answers through pipes. A worker keeps nothing: when
one is lost, starting again is all that it costs.
"""

from __future__ import annotations

import mmap
import os
import signal
import subprocess
import tempfile
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from functools import partial
from typing import TYPE_CHECKING

import anyio
from anyio.streams.buffered import BufferedByteReceiveStream

from .._errors import WorkerLost
from .._options import WORKER_BYTES
from .._rules.lines import OWN
from .._rules.validate import scan
from .threads import finish, in_thread
from .worker import LENGTH_BYTES, answer, command, packed_question

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from anyio.abc import Process

    from .._rules.framing import RawBlock
    from .._rules.lines import LineShape
    from .._rules.validate import Block


class Workers:
    """Some processes, each with one block at a time. Made by ``open_workers``."""

    def __init__(self, workers: list[Worker]) -> None:
        self._idle = workers
        self._turns = anyio.Semaphore(len(workers))

    async def scan(self, raw: RawBlock, source: str, shape: LineShape = OWN) -> Block:
        """Validate one block, as ``scan`` of the rules does. Raises WorkerLost when a process was lost."""
        if len(raw.data) > WORKER_BYTES:
            return await scan_in_thread(raw, source, shape)
        async with self._turns:
            worker = self._idle.pop()
            block = await worker.scan(raw, source, shape)
            self._idle.append(worker)
            return block


async def scan_in_thread(raw: RawBlock, source: str, shape: LineShape = OWN) -> Block:
    return await in_thread(partial(scan, raw, source=source, shape=shape))


@asynccontextmanager
async def open_workers(count: int) -> AsyncIterator[Workers]:
    """``count`` processes, until the ``with`` ends. Raises WorkerLost when they cannot be started."""
    async with AsyncExitStack() as stack:
        yield Workers([await stack.enter_async_context(_open_worker()) for _ in range(count)])


@asynccontextmanager
async def _open_worker() -> AsyncIterator[Worker]:
    with _shared_memory() as (handle, memory):
        try:
            # In a session of its own, a signal from the terminal is left to this process.
            process = await finish(
                anyio.open_process(
                    command("packtrain._io.worker", str(handle)),
                    stderr=subprocess.DEVNULL,
                    env={},
                    pass_fds=[handle],
                    start_new_session=True,
                )
            )
        except OSError as error:
            raise WorkerLost(f"no worker process could be started ({error.strerror})") from error
        try:
            yield Worker(process, memory)
        finally:
            if process.returncode is None:
                process.kill()
            await finish(process.aclose())


class Worker:
    """One process, and the memory that it shares with this one."""

    def __init__(self, process: Process, memory: mmap.mmap) -> None:
        assert process.stdin
        assert process.stdout
        self._process = process
        self._memory = memory
        self._input = process.stdin
        self._output = BufferedByteReceiveStream(process.stdout)

    async def scan(self, raw: RawBlock, source: str, shape: LineShape = OWN) -> Block:
        self._memory[: len(raw.data)] = raw.data
        message = packed_question(raw, source, shape)
        try:
            await self._input.send(len(message).to_bytes(LENGTH_BYTES, "big") + message)
            length = await self._output.receive_exactly(LENGTH_BYTES)
            reply = await self._output.receive_exactly(int.from_bytes(length, "big"))
        except (anyio.IncompleteRead, anyio.BrokenResourceError, anyio.ClosedResourceError) as error:
            raise WorkerLost(f"a worker process {await self._end()}") from error
        return answer(reply, raw, source)

    async def _end(self) -> str:
        code = await self._process.wait()
        if code >= 0:
            return f"ended by itself with {code}"
        hint = ", perhaps because memory ran out" if code == -signal.SIGKILL else ""
        return f"was killed by {signal.Signals(-code).name}{hint}"


@contextmanager
def _shared_memory() -> Iterator[tuple[int, mmap.mmap]]:
    """Memory that a child can map by its descriptor; a file without a name where there is nothing better."""
    handle = os.memfd_create("packtrain") if hasattr(os, "memfd_create") else _nameless()
    try:
        os.ftruncate(handle, WORKER_BYTES)
        with mmap.mmap(handle, WORKER_BYTES) as memory:
            yield handle, memory
    finally:
        os.close(handle)


def _nameless() -> int:
    with tempfile.TemporaryFile(buffering=0) as file:
        return os.dup(file.fileno())


def usable_cores() -> int:
    """Of this machine, those that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
