"""Receiving the bytes of uploads: from socket to disk in large pieces, hashed as they pass.

The length of the blob is the offset, whatever broke off when: bytes that were written count as received.
One call at a time has its turn with an upload; a newer one ends the older, whose client has given up, as soon
as that has stored what is there.
"""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Literal

import anyio
from anyio import CancelScope, CapacityLimiter, to_thread

from .._options import GB, KIB
from .files import name_taken
from .replies import HttpError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from .blobs import Appender, Blobs, Digest
    from .files import Files, Session, StoredFile
    from .request_body import BufferedBody, SocketBody

#: Every data call but the last brings a multiple of this.
GRANULARITY = 256 * KIB
MAX_FILE_BYTES = 2 * GB
#: Threads that hash and store; more of them than this wait for each other.
THREADS = 8
#: Seconds for which a call may still take in what has arrived, once a newer one wants its turn.
HANDOVER = 0.25


def check_range(
    *, received: int, declared: int | None, offset: int, length: int, finalize: bool
) -> Literal["append", "replay"]:
    """What to do with a data call. A range that is stored already is a replay and stores nothing.

    Raises Refusal 400: the offset is not where we are, the range goes beyond the declared size or the limit,
    or a chunk that is not the last breaks the granularity.
    """
    end = offset + length
    size = MAX_FILE_BYTES if declared is None else declared
    if end > size:
        raise HttpError(400, f"The range {offset}-{end} goes beyond the file's size of {size} bytes.")
    if end <= received:
        return "replay"
    if offset != received:
        raise HttpError(400, f"The offset is {offset}, but {received} bytes are stored: query, and go on from there.")
    if not finalize and end != declared and length % GRANULARITY:
        raise HttpError(400, f"A chunk of {length} bytes is not a multiple of {GRANULARITY}, and not the last one.")
    return "append"


class UploadReceiver:
    """One upload as this process knows it."""

    def __init__(self, blobs: Blobs, blob: str, threads: CapacityLimiter) -> None:
        self._blobs = blobs
        self._threads = threads
        self.blob = blob
        self._digest: Digest | None = None
        self._lock = anyio.Lock()
        self._turn: CancelScope | None = None
        self._newest = 0

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Ends the call that has the turn, and takes it. Raises Refusal 409 when ended by a newer one."""
        self._newest = mine = self._newest + 1
        if self._turn:
            self._turn.deadline = min(self._turn.deadline, anyio.current_time() + HANDOVER)
        async with self._lock:
            with CancelScope() as scope:
                if mine != self._newest:
                    scope.deadline = anyio.current_time() + HANDOVER
                self._turn = scope
                try:
                    yield
                finally:
                    self._turn = None
        if scope.cancelled_caught:
            raise HttpError(409, "A newer call took this upload over.", name="ABORTED")

    async def received(self) -> int:
        if self._digest:
            return self._digest.bytes
        return await to_thread.run_sync(self._blobs.size, self.blob)

    async def digest(self) -> Digest:
        """Of all bytes received; read from the disk again after a restart or an error."""
        if self._digest is None:
            self._digest = await to_thread.run_sync(self._blobs.digest, self.blob)
        return self._digest

    async def append(self, body: BufferedBody | SocketBody) -> None:
        """Stores the body as far as it comes. Raises Refusal when it breaks off, or cannot be stored."""
        digest = await self.digest()
        with await to_thread.run_sync(self._blobs.appender, self.blob, digest) as file:
            try:
                while await body.gather():
                    await to_thread.run_sync(self._store, file, body, limiter=self._threads)
            except anyio.get_cancelled_exc_class():
                with CancelScope(shield=True):
                    await to_thread.run_sync(self._store, file, body, limiter=self._threads)
                raise
        if body.broken:
            raise body.broken

    def _store(self, file: Appender, body: BufferedBody | SocketBody) -> None:
        try:
            body.write_to(file.write)
        except OSError as error:
            self._digest = None
            raise HttpError(503, f"The bytes cannot be stored: {error.strerror}.") from error


class ActiveUploads:
    """The uploads under way in this process."""

    def __init__(self, files: Files, blobs: Blobs) -> None:
        self._files = files
        self._blobs = blobs
        self._receivers: dict[str, UploadReceiver] = {}
        # Of their own, so that however many uploads there are, no other call waits for a thread.
        self._threads = CapacityLimiter(THREADS)

    @asynccontextmanager
    async def turn(self, upload_id: str) -> AsyncIterator[tuple[Session, UploadReceiver]]:
        """The upload for this call alone. Raises Refusal 404 when there is none of that id."""
        receiver = self._receiver(upload_id, await self._known(upload_id))
        async with receiver.turn():
            session = await self._known(upload_id)
            if session.state != "active":
                self._receivers.pop(upload_id, None)
            yield session, receiver

    async def finalise(self, session: Session, receiver: UploadReceiver) -> StoredFile:
        """Raises Refusal: 400 when bytes are missing, 409 when the name was taken meanwhile."""
        received = await receiver.received()
        if session.size not in (None, received):
            raise HttpError(
                400, f"{received} bytes are stored, {session.size} were declared: query, and send the rest."
            )
        file = await self._files.finalise(session, await receiver.digest())
        self._receivers.pop(session.id, None)
        if file is None:
            raise name_taken(session.name, over=True)
        return file

    async def cancel(self, session: Session) -> None:
        await self._files.cancel(session)
        self._receivers.pop(session.id, None)

    async def _known(self, upload_id: str) -> Session:
        session = await self._files.session(upload_id)
        if session is None:
            raise HttpError(404, "There is no such upload; start a new one.")
        return session

    def _receiver(self, upload_id: str, session: Session) -> UploadReceiver:
        """The row says where the bytes are; a reception that says otherwise is out of date."""
        known = self._receivers.get(upload_id)
        if known is None or known.blob != session.blob:
            known = self._receivers[upload_id] = UploadReceiver(self._blobs, session.blob, self._threads)
        return known
