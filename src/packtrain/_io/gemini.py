"""The Gemini Batch API as a Remote: calls from ``_wire`` sent through the transport."""

from __future__ import annotations

import contextlib
import re
from typing import TYPE_CHECKING

from .._errors import ProtocolError
from .._options import CALL_ATTEMPTS
from .._wire.gemini import batches, files
from .._wire.gemini.errors import error_of
from .._wire.http import served_at
from .patience import persist
from .transport import FileRange

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from .._model import BatchPage, RemoteBatch, RemoteFile, Task
    from .._rules.upload import Answer
    from .._wire.http import Call, Reply
    from .base import Clock
    from .spool import ShardReader
    from .transport import Transport

#: Gone, never there, or not ours: the Files API says 403 for all of them, batches say 404.
_ABSENT = frozenset({403, 404})
#: The name is taken, or the file too large: another one may do.
_OF_ONE_FILE = frozenset({409, 413})


class GeminiRemote:
    """Implements ``Remote``. ``sent`` is told every number of bytes of file data that leaves."""

    def __init__(self, transport: Transport, clock: Clock, *, sent: Callable[[int], None]) -> None:
        self._transport = transport
        self._clock = clock
        self._sent = sent
        #: How far the service's clock is ahead of our monotonic one.
        self._ahead: float | None = None

    def now(self) -> float | None:
        return None if self._ahead is None else self._clock.monotonic() + self._ahead

    async def start_upload(self, *, name: str, display_name: str, size: int) -> Answer:
        call = files.start_upload(name=name, display_name=display_name, size=size)
        reply = await self._idempotent("start of an upload", call, allowed=_OF_ONE_FILE)
        return files.read_upload(reply)

    async def send(self, url: str, reader: ShardReader, *, offset: int, length: int, finalize: bool) -> Answer:
        body = FileRange(reader.read, offset, length, self._sent) if length else None
        return files.read_upload(
            await self._transport.send(files.send_chunk(url, offset=offset, finalize=finalize), body)
        )

    async def query_upload(self, url: str) -> Answer:
        return files.read_upload(await self._transport.send(files.query_upload(url)))

    def read_receipt(self, receipt: bytes) -> RemoteFile | None:
        return files.read_file(receipt) if receipt.strip() else None

    async def find_file(self, name: str) -> RemoteFile | None:
        reply = await self._idempotent("look-up of a file", files.get_file(name), allowed=_ABSENT)
        return files.read_file(reply.body) if reply.status == 200 else None

    async def delete_file(self, name: str) -> None:
        await self._idempotent("deletion of a file", files.delete_file(name), allowed=_ABSENT)

    async def create(self, *, model: str, task: Task, tag: str, file: str) -> RemoteBatch:
        call = batches.create(model=model, task=task, display_name=tag, file=file)
        reply = self._timed(await self._transport.send(call, once=True))
        if reply.status != 200:
            raise error_of("create of a job", reply)
        return batches.read_batch(reply)

    async def find_batch(self, name: str) -> RemoteBatch | None:
        reply = await self._idempotent("look-up of a job", batches.get(name), allowed=frozenset({404}))
        return batches.read_batch(reply) if reply.status == 200 else None

    async def list_page(self, token: str | None) -> BatchPage:
        return batches.read_page(await self._idempotent("list of jobs", batches.list_page(token)))

    async def cancel(self, name: str) -> None:
        await self._idempotent("cancellation of a job", batches.cancel(name), allowed=frozenset({400, 404}))

    @contextlib.asynccontextmanager
    async def download(self, name: str, *, offset: int, etag: str | None = None) -> AsyncIterator[GeminiDownload]:
        async with self._transport.stream(files.download(name, offset=offset, etag=etag)) as (reply, pieces):
            if reply.status not in (200, 206):
                raise error_of("download of results", reply)
            yield GeminiDownload(reply, pieces)

    async def _idempotent(self, operation: str, call: Call, *, allowed: frozenset[int] = frozenset()) -> Reply:
        """The answer, tried for again after what time may heal; one but 200 and ``allowed`` raises."""

        async def send() -> Reply:
            reply = self._timed(await self._transport.send(call))
            if reply.status != 200 and reply.status not in allowed:
                raise error_of(operation, reply)
            return reply

        return await persist(send, self._clock, tries=CALL_ATTEMPTS)

    def _timed(self, reply: Reply) -> Reply:
        at = served_at(reply)
        self._ahead = self._ahead if at is None else at - self._clock.monotonic()
        return reply


class GeminiDownload:
    """Implements ``Download``."""

    def __init__(self, reply: Reply, pieces: AsyncIterator[bytes]) -> None:
        self._pieces = pieces
        length = reply.headers.get("content-length")
        self.etag = reply.headers.get("etag")
        # A body that ends with the connection looks whole wherever it is cut.
        self.vouched = length is not None or "chunked" in reply.headers.get("transfer-encoding", "")
        if reply.status == 200:
            self.offset = 0
            self.total = int(length) if length and length.isdigit() else None
        else:
            self.offset, self.total = _content_range(reply.headers.get("content-range", ""))

    def pieces(self) -> AsyncIterator[bytes]:
        return self._pieces


def _content_range(value: str) -> tuple[int, int | None]:
    match = re.fullmatch(r"bytes (\d{1,18})-\d{1,18}/(\d{1,18}|\*)", value)
    if not match:
        raise ProtocolError(f"download of results: the service answered 206 with the range {value[:80]!r}")
    start, total = match.groups()
    return int(start), None if total == "*" else int(total)
