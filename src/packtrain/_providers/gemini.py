"""The Gemini Batch API as a provider: calls from ``_wire`` sent through the transport."""

from __future__ import annotations

import contextlib
import re
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from .._errors import GatewayError, ProtocolError
from .._io.retry import persist
from .._io.transport import FileRange
from .._rules.service_clock import ServiceClock
from .._wire.gemini import batches as job_calls
from .._wire.gemini import files as file_calls
from .._wire.gemini.errors import (
    ABSENT,
    create_error,
    failure,
    gateway_error,
    is_ours,
    is_page,
    read_nothing,
    read_status,
)
from .._wire.gemini.lines import LINES
from .._wire.gemini.requests import FORMS
from .._wire.http import same_origin, served_at
from .base import Capabilities

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from .._io.clock import Clock
    from .._io.request_file import ShardReader
    from .._io.transport import Transport
    from .._model import JobPage, RemoteFile, RemoteJob, Secret, Task
    from .._options import Policy
    from .._rules.upload import Answer
    from .._wire.http import Call, Reply
    from .service import Service

T = TypeVar("T")

CAPABILITIES = Capabilities(
    upload="offsets",
    chosen_names=True,
    tags=True,
    lists_input_file=True,
    cursor=True,
    page_size=job_calls.PAGE_SIZE,
    job_name=job_calls.JOB_NAME.pattern,
    job_example=job_calls.JOB_EXAMPLE,
    lines=LINES,
    requests=FORMS,
)
#: Seconds by which the service shall give up a create before we do.
_GIVES_UP_EARLIER = 5.0
#: The name is taken, or the file too large: another one may do.
_OF_ONE_FILE = frozenset({409, 413})


def credentials(service: Service) -> dict[str, Secret]:
    """The header that carries the API key."""
    return {} if service.key is None else {"x-goog-api-key": service.key}


class GeminiProvider:
    """Implements ``Provider`` and ``OffsetUploads``. ``sent`` is called with the bytes of file data that leave."""

    def __init__(self, transport: Transport, clock: Clock, policy: Policy, *, sent: Callable[[int], None]) -> None:
        self.capabilities = CAPABILITIES
        self._transport = transport
        self._clock = clock
        self._policy = policy
        self._sent = sent
        self._service_clock = ServiceClock(policy)

    @property
    def uploads(self) -> GeminiProvider:
        return self

    def now(self) -> float | None:
        return self._service_clock.now(self._clock.monotonic())

    async def start_upload(self, *, name: str, display_name: str, size: int) -> Answer:
        call = file_calls.start_upload(name=name, display_name=display_name, size=size)
        return await self._idempotent(call, partial(_upload_answer, call), allowed=_OF_ONE_FILE)

    def owns(self, session: str) -> bool:
        return same_origin(session, self._transport.origin)

    async def send(self, session: str, reader: ShardReader, *, offset: int, length: int, finalize: bool) -> Answer:
        timeout = self._policy.read_timeout
        body = FileRange(reader.read, offset, length, sent=self._sent, timeout=timeout) if length else None
        call = file_calls.send_chunk(session, offset=offset, finalize=finalize)
        return _upload_answer(call, await self._transport.send(call, body))

    async def query_upload(self, session: str) -> Answer:
        call = file_calls.query_upload(session)
        return _upload_answer(call, await self._transport.send(call))

    def read_receipt(self, receipt: bytes) -> RemoteFile | None:
        return file_calls.read_file(receipt) if receipt.strip() else None

    async def find_file(self, name: str) -> RemoteFile | None:
        read = _unless_refused(lambda reply: file_calls.read_file(reply.body))
        return await self._idempotent(file_calls.get_file(name), read, allowed=ABSENT)

    async def delete_file(self, name: str) -> None:
        await self._idempotent(file_calls.delete_file(name), _unless_refused(read_nothing), allowed=ABSENT)

    async def create(
        self, *, model: str, task: Task, tag: str, file: str, requests: ShardReader | None = None
    ) -> RemoteJob:
        del requests  # they are in the file
        seconds = self._policy.create_timeout - _GIVES_UP_EARLIER
        call = job_calls.create(model=model, task=task, display_name=tag, file=file, seconds=seconds)
        reply = self._timed(await self._transport.send(call, once=True))
        if reply.status != 200:
            raise create_error(reply, file)
        return job_calls.read_job(reply)

    async def find_job(self, name: str) -> RemoteJob | None:
        read = _unless_refused(job_calls.read_job)
        return await self._idempotent(job_calls.get(name), read, allowed=frozenset({404}))

    async def list_page(self, token: str | None) -> JobPage:
        return await self._idempotent(job_calls.list_page(token), job_calls.read_page)

    async def cancel(self, name: str) -> None:
        await self._idempotent(job_calls.cancel(name), _unless_refused(read_nothing), allowed=frozenset({400, 404}))

    @contextlib.asynccontextmanager
    async def download(self, name: str, *, offset: int, etag: str | None = None) -> AsyncIterator[GeminiDownload]:
        call = file_calls.download(name, offset=offset, etag=etag)
        async with self._transport.stream(call) as (reply, pieces):
            if reply.status not in (200, 206):
                raise failure(call.operation, reply)
            if is_page(reply, inside=reply.status == 206):
                raise gateway_error(call.operation, reply)
            yield GeminiDownload(reply, pieces)

    async def _idempotent(self, call: Call, read: Callable[[Reply], T], *, allowed: frozenset[int] = frozenset()) -> T:
        """What ``read`` makes of the answer, tried for again after what time may heal. Only 200 and the statuses in
        ``allowed`` come to it, and these only with the service's own error body; all others raise."""

        async def send() -> T:
            reply = await self._transport.send(call)
            if reply.status == 200:
                content = _read(call, reply, read)
            elif reply.status in allowed and read_status(reply):
                content = read(reply)
            else:
                raise failure(call.operation, reply)
            self._timed(reply)
            return content

        policy = self._policy
        return await persist(send, self._clock, tries=policy.call_attempts, seconds=policy.call_seconds)

    def _timed(self, reply: Reply) -> Reply:
        if (at := served_at(reply)) is not None:
            self._service_clock.observe(at, self._clock.monotonic(), self._clock.now())
        return reply


def _read(call: Call, reply: Reply, read: Callable[[Reply], T]) -> T:
    """Raises GatewayError for content that is not the service's, ProtocolError for such that it should not give."""
    if is_page(reply):
        raise gateway_error(call.operation, reply)
    try:
        return read(reply)
    except ProtocolError:
        if is_ours(reply):
            raise
        raise gateway_error(call.operation, reply) from None


def _unless_refused(read: Callable[[Reply], T]) -> Callable[[Reply], T | None]:
    """None for a refusal, which says that there is nothing of the name."""
    return lambda reply: read(reply) if reply.status == 200 else None


def _upload_answer(call: Call, reply: Reply) -> Answer:
    """Raises GatewayError for an answer that bears no sign of the service: neither its header nor its error body. Of
    the answer to data a proxy may have dropped the header."""
    answer = file_calls.read_upload(reply)
    passing = reply.status == 200 and reply.body.strip()[:1] in (b"", b"{") and not is_page(reply)
    if answer.upload_status is None and not passing and not read_status(reply):
        raise gateway_error(call.operation, reply)
    return answer


class GeminiDownload:
    """Implements ``Download``."""

    def __init__(self, reply: Reply, pieces: AsyncIterator[bytes]) -> None:
        self._pieces = pieces
        length = reply.headers.get("content-length")
        etag = reply.headers.get("etag", "")
        # It goes back in a header, so it must be one that a header can carry.
        self.etag = etag if re.fullmatch(r"[!-~]{1,256}", etag) else None
        # A body that ends with the connection looks whole wherever it is cut.
        self.vouched = length is not None or "chunked" in reply.headers.get("transfer-encoding", "")
        if reply.headers.get("content-encoding", "identity") != "identity":
            if reply.status == 206:
                raise GatewayError("download of results: the answer 206 is a range of an encoded file", status=416)
            length = self.etag = None
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
