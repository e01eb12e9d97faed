"""Upload content: from socket to disk in large pieces, hashed on the way.

The length of the blob is the offset, also after an interruption: bytes that were written count as received. One call
at a time works on an upload; a newer call ends the older one, whose client has given up, after the bytes that had
arrived are stored.
"""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Literal

import anyio
from anyio import CancelScope, CapacityLimiter

from .._io.threads import in_thread, uncancelled
from .._options import GB, KIB
from .files import name_taken
from .replies import HttpError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from .blobs import Appender, Blobs, Digest
    from .files import Files, StoredFile, UploadSession
    from .request_body import BufferedBody, SocketBody

#: The size of every chunk but the last is a multiple of this.
GRANULARITY = 256 * KIB
MAX_FILE_BYTES = 2 * GB
#: Threads that hash and store.
THREADS = 8
#: Seconds in which an older call may store what has arrived, once a newer one waits.
HANDOVER = 0.25


def check_range(
    *, received: int, declared: int | None, offset: int, length: int, finalize: bool
) -> Literal["append", "replay"]:
    """The action for a data call. A range that is already stored is a replay and stores nothing.

    Raises HttpError 400 for an offset other than the stored length, a range beyond the declared size or the limit,
    and a chunk, not the last, that breaks the granularity.
    """
    end = offset + length
    size = MAX_FILE_BYTES if declared is None else declared
    if end > size:
        raise HttpError(400, f"The range {offset}-{end} goes beyond the file's size of {size} bytes.")
    if end <= received:
        return "replay"
    if offset != received:
        raise HttpError(400, f"The offset is {offset}, but {received} bytes are stored: query and continue from there.")
    if not finalize and end != declared and length % GRANULARITY:
        raise HttpError(400, f"A chunk of {length} bytes is not a multiple of {GRANULARITY}, and not the last one.")
    return "append"


class UploadReceiver:
    """State of one upload in this process."""

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
        """Exclusive access; ends the call that has it. Raises HttpError 409 when a newer call takes over."""
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
        return await in_thread(self._blobs.size, self.blob)

    async def digest(self) -> Digest:
        """Digest of all bytes received; computed from disk after a restart or an error."""
        if self._digest is None:
            self._digest = await in_thread(self._blobs.digest, self.blob)
        return self._digest

    async def append(self, body: BufferedBody | SocketBody) -> None:
        """Stores what arrives of the body. Raises HttpError when it ends early or cannot be stored."""
        digest = await self.digest()
        with await uncancelled(self._blobs.appender, self.blob, digest) as file:
            try:
                while await body.gather():
                    await in_thread(self._store, file, body, limiter=self._threads)
            except anyio.get_cancelled_exc_class():
                await uncancelled(self._store, file, body, limiter=self._threads)
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
    """The uploads in progress in this process."""

    def __init__(self, files: Files, blobs: Blobs) -> None:
        self._files = files
        self._blobs = blobs
        self._receivers: dict[str, UploadReceiver] = {}
        # A separate limit, so that uploads never use up the threads of other calls.
        self._threads = CapacityLimiter(THREADS)

    @asynccontextmanager
    async def turn(self, upload_id: str) -> AsyncIterator[tuple[UploadSession, UploadReceiver]]:
        """Exclusive access to an upload. Raises HttpError 404 for an unknown id."""
        receiver = self._receiver(upload_id, await self._known(upload_id))
        async with receiver.turn():
            session = await self._known(upload_id)
            if session.state != "active":
                self._receivers.pop(upload_id, None)
            yield session, receiver

    async def finalise(self, session: UploadSession, receiver: UploadReceiver) -> StoredFile:
        """Raises HttpError 400 when bytes are missing, 409 when the name was taken in the meantime."""
        received = await receiver.received()
        if session.size not in (None, received):
            raise HttpError(400, f"{received} bytes are stored, {session.size} were declared: query and send the rest.")
        file = await self._files.finalise(session, await receiver.digest())
        self._receivers.pop(session.id, None)
        if file is None:
            raise name_taken(session.name, terminal=True)
        return file

    async def cancel(self, session: UploadSession) -> None:
        await self._files.cancel(session)
        self._receivers.pop(session.id, None)

    async def _known(self, upload_id: str) -> UploadSession:
        session = await self._files.session(upload_id)
        if session is None:
            raise HttpError(404, "There is no such upload; start a new one.")
        return session

    def _receiver(self, upload_id: str, session: UploadSession) -> UploadReceiver:
        """The receiver of the blob that the row names; one of another blob is out of date."""
        receiver = self._receivers.get(upload_id)
        if receiver is None or receiver.blob != session.blob:
            receiver = self._receivers[upload_id] = UploadReceiver(self._blobs, session.blob, self._threads)
        return receiver
