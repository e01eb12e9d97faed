"""The Gemini Batch API as a Remote: calls from ``_wire`` sent through the transport."""

from __future__ import annotations

import contextlib
import re
from typing import TYPE_CHECKING

from .._errors import ProtocolError
from .._io.retry import persist
from .._io.transport import FileRange
from .._options import CALL_ATTEMPTS
from .._wire.gemini import batches as job_calls
from .._wire.gemini import files as file_calls
from .._wire.gemini.errors import error_of
from .._wire.http import served_at

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from .._io.clock import Clock
    from .._io.request_file import ShardReader
    from .._io.transport import Transport
    from .._model import JobPage, RemoteFile, RemoteJob, Secret, Task
    from .._rules.upload import Answer
    from .._wire.http import Call, Reply
    from .service import Service


#: Gone, never there, or not ours: the Files API says 403 for all of them, batches say 404.
_ABSENT = frozenset({403, 404})
#: The name is taken, or the file too large: another one may do.
_OF_ONE_FILE = frozenset({409, 413})


def credentials(service: Service) -> dict[str, Secret]:
    """The header that carries the API key."""
    return {} if service.key is None else {"x-goog-api-key": service.key}


class GeminiProvider:
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
        call = file_calls.start_upload(name=name, display_name=display_name, size=size)
        reply = await self._idempotent("start of an upload", call, allowed=_OF_ONE_FILE)
        return file_calls.read_upload(reply)

    async def send(self, url: str, reader: ShardReader, *, offset: int, length: int, finalize: bool) -> Answer:
        body = FileRange(reader.read, offset, length, self._sent) if length else None
        return file_calls.read_upload(
            await self._transport.send(file_calls.send_chunk(url, offset=offset, finalize=finalize), body)
        )

    async def query_upload(self, url: str) -> Answer:
        return file_calls.read_upload(await self._transport.send(file_calls.query_upload(url)))

    def read_receipt(self, receipt: bytes) -> RemoteFile | None:
        return file_calls.read_file(receipt) if receipt.strip() else None

    async def find_file(self, name: str) -> RemoteFile | None:
        reply = await self._idempotent("look-up of a file", file_calls.get_file(name), allowed=_ABSENT)
        return file_calls.read_file(reply.body) if reply.status == 200 else None

    async def delete_file(self, name: str) -> None:
        await self._idempotent("deletion of a file", file_calls.delete_file(name), allowed=_ABSENT)

    async def create(self, *, model: str, task: Task, tag: str, file: str) -> RemoteJob:
        call = job_calls.create(model=model, task=task, display_name=tag, file=file)
        reply = self._timed(await self._transport.send(call, once=True))
        if reply.status != 200:
            raise error_of("create of a job", reply)
        return job_calls.read_job(reply)

    async def find_job(self, name: str) -> RemoteJob | None:
        reply = await self._idempotent("look-up of a job", job_calls.get(name), allowed=frozenset({404}))
        return job_calls.read_job(reply) if reply.status == 200 else None

    async def list_page(self, token: str | None) -> JobPage:
        return job_calls.read_page(await self._idempotent("list of jobs", job_calls.list_page(token)))

    async def cancel(self, name: str) -> None:
        await self._idempotent("cancellation of a job", job_calls.cancel(name), allowed=frozenset({400, 404}))

    @contextlib.asynccontextmanager
    async def download(self, name: str, *, offset: int, etag: str | None = None) -> AsyncIterator[GeminiDownload]:
        async with self._transport.stream(file_calls.download(name, offset=offset, etag=etag)) as (reply, pieces):
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
