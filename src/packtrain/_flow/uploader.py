"""A sealed shard becomes a file at the service, whole and verified."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import msgspec

from .._errors import ApiError, GatewayError, IntegrityError, ProtocolError, TransportError
from .._model import FileState, RemoteFile, Shard, ShardRow, State, Upload
from .._providers.base import OffsetUploads, PartUploads, WholeUploads
from .._rules import naming, submission, upload
from .._rules.lifecycle import (
    FileNamed,
    FileReady,
    FileUnusable,
    FinalizeIntended,
    PartStored,
    Quarantined,
    UploadIntended,
    UploadLost,
    UploadOpened,
    UploadRested,
)
from .._rules.retry import backoff, is_transient
from .._wire.http import shown_origin
from .reconciler import moment

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from .._io.request_file import ShardReader
    from .run import RunContext


#: Statuses that may mean that an upload session is over.
_GONE = frozenset({404, 410})


async def intend(ctx: RunContext, row: ShardRow) -> ShardRow:
    """Claim the next attempt's file name, in the manifest; from then on it counts as stored."""
    shard = await ctx.manifest.shard(row)
    if row.attempt >= ctx.policy.attempts:
        reason = f"{ctx.policy.attempts} attempts came to nothing; the last: {row.reason or 'unknown'}"
        return await ctx.record(row, Quarantined(reason=reason))
    attempt = row.attempt + 1
    name = naming.file_name(ctx.run.token, row.shard, row.generation, attempt)
    return await ctx.record(row, UploadIntended(attempt=attempt, file=name, upload=Upload(size=shard.bytes)))


async def send(ctx: RunContext, row: ShardRow) -> ShardRow:
    """From an intended or interrupted upload to a file that is ready; a shard that is not as sealed is for a person."""
    if row.state is State.QUARANTINED:
        return row
    sending = _sending(ctx, row, await ctx.manifest.shard(row))
    try:
        return await sending.send()
    except IntegrityError as error:
        return await ctx.record(sending.row, Quarantined(reason=str(error)))


async def send_own(ctx: RunContext, row: ShardRow) -> ShardRow:
    """As ``send``, for a file of the caller's. Raises IntegrityError when it changes meanwhile."""
    return await _sending(ctx, row, await ctx.manifest.shard(row)).send()


def _sending(ctx: RunContext, row: ShardRow, shard: Shard) -> _Sending:
    match ctx.provider.uploads:
        case None:
            return _Inline(ctx, row, shard)
        case OffsetUploads() as uploads:
            return _ByOffsets(ctx, row, shard, uploads)
        case PartUploads() as uploads:
            return _ByParts(ctx, row, shard, uploads)
        case WholeUploads() as uploads:
            return _Whole(ctx, row, shard, uploads)


class _Sending:
    """One upload under way; ``row`` is its latest row."""

    _reader: ShardReader

    def __init__(self, ctx: RunContext, row: ShardRow, shard: Shard) -> None:
        self.row = row
        self._ctx = ctx
        self._shard = shard
        self._name = row.file or ""
        tag = naming.job_tag(ctx.run.token, shard, row.attempt)
        self._tag = naming.file_tag(tag, ctx.manifest.instance)

    async def send(self) -> ShardRow:
        raise NotImplementedError

    async def _find(self) -> RemoteFile | None:
        """The file under our name; one that gets its id from the service has none before it is finished."""
        if self._ctx.provider.capabilities.chosen_names or self._has_id():
            return await self._ctx.provider.find_file(self._name)
        return None

    def _has_id(self) -> bool:
        return not naming.same_file(self._name, self._claim())

    def _claim(self) -> str:
        return naming.file_name(self._ctx.run.token, self.row.shard, self.row.generation, self.row.attempt)

    async def _intend_to_finish(self, progress: Upload) -> None:
        if self.row.state is State.UPLOADING:
            self.row = await self._ctx.record(self.row, FinalizeIntended(upload=progress))

    async def _lost(self, progress: Upload, reason: str) -> Upload:
        """The session is over without a file; a person must decide after too many."""
        renewed = upload.renewed(progress)
        if renewed.lost >= self._ctx.policy.attempts:
            self.row = await self._ctx.record(self.row, Quarantined(reason=f"uploads keep failing: {reason}"))
        else:
            self.row = await self._ctx.record(self.row, UploadLost(upload=renewed, reason=reason))
        return renewed

    async def _finished(self, file: RemoteFile) -> ShardRow:
        """The service has the whole file, as this one, since just now."""
        if self._ctx.provider.capabilities.chosen_names:
            if not naming.same_file(file.name, self._name):
                return await self._spoil(f"the upload ended, but {self._name} is not there")
        elif file.name != self._name:
            self._name = file.name
            self.row = await self._ctx.record(self.row, FileNamed(file=file.name))
        return await self._check(file, fresh=True)

    async def _pause(self, stalls: int) -> None:
        if stalls > 1:  # the first recovery is a question, and can be asked at once
            await self._ctx.clock.sleep(backoff(stalls, self._ctx.clock.jitter()))

    async def _rest(self, progress: Upload, reason: str) -> TransportError:
        """The error of an upload that must wait, longer each time."""
        progress, policy = upload.rested(progress), self._ctx.policy
        self.row = await self._ctx.record(self.row, UploadRested(upload=progress, reason=reason))
        seconds = backoff(
            progress.rests,
            self._ctx.clock.jitter(),
            floor=policy.upload_rest,
            ceiling=policy.upload_longest_rest,
        )
        return TransportError(f"shard {self.row.shard}: {reason}", retry_after=seconds)

    async def _conflict(self) -> None:
        """The name is taken: by our own file if we meant to finish it, which may be visible only later."""
        if found := await self._find():
            await self._accept(found)
        elif self.row.state is State.FINALIZING:
            raise TransportError(f"shard {self.row.shard}: {self._name} is taken, but not shown yet")
        else:
            reason = f"{self._name} is taken at the service, and not by this manifest; is another copy of it at work?"
            self.row = await self._ctx.record(self.row, Quarantined(reason=reason))

    async def _accept(self, file: RemoteFile) -> None:
        """A file under our name is ours only if we meant to finish one, and it has this manifest's tag."""
        if self.row.state is State.FINALIZING and file.display_name in ("", self._tag):
            await self._check(file, fresh=False)
            return
        reason = f"{self._name} exists already and was not made by this manifest; is another copy of it at work?"
        self.row = await self._ctx.record(self.row, Quarantined(reason=reason))

    async def _check(self, file: RemoteFile, *, fresh: bool) -> ShardRow:
        """Wait until the file can be used, and compare it with the shard. The life of a fresh one is not over yet."""
        file = await self._ready(file)
        if file.state is not FileState.READY:
            return await self._spoil(f"the service could not take the file: {file.reason or file.state}")
        digest = self._shard.sha256 or await self._reader.whole_digest()
        if file.bytes != self._shard.bytes or file.sha256 not in (None, digest):
            return await self._spoil(f"the service holds {file.bytes} bytes with SHA-256 {file.sha256}, not ours")
        expires_at = file.expires_at
        if fresh:
            expires_at = submission.plausible_expiry(expires_at, moment(self._ctx), self._ctx.policy)
        self.row = await self._ctx.record(self.row, FileReady(file_expires_at=expires_at))
        return self.row

    async def _ready(self, file: RemoteFile) -> RemoteFile:
        deadline, waits = self._ctx.clock.monotonic() + self._ctx.policy.file_ready_timeout, 0
        while file.state is FileState.PROCESSING and self._ctx.clock.monotonic() < deadline:
            await self._ctx.clock.sleep(backoff(waits, self._ctx.clock.jitter()))
            waits += 1
            file = await self._find() or file
        return file

    async def _spoil(self, reason: str) -> ShardRow:
        self.row = await self._ctx.record(self.row, FileUnusable(reason=reason))
        await self._ctx.provider.delete_file(self._name)
        return self.row


class _Inline(_Sending):
    """No upload: the create carries the lines."""

    async def send(self) -> ShardRow:
        async with _reading(self._ctx, self._shard) as reader:
            await reader.verify()
        self.row = await self._ctx.record(self.row, FileReady(file_expires_at=None))
        return self.row


class _Whole(_Sending):
    """Upload in one call, which is sent again whole when its outcome is unknown."""

    def __init__(self, ctx: RunContext, row: ShardRow, shard: Shard, uploads: WholeUploads) -> None:
        super().__init__(ctx, row, shard)
        self._uploads = uploads

    async def send(self) -> ShardRow:
        progress = self.row.upload or Upload(size=self._shard.bytes)
        await self._intend_to_finish(progress)
        async with _reading(self._ctx, self._shard) as self._reader:
            for stalls in range(self._ctx.policy.upload_stalls + 1):
                if found := await self._find():
                    await self._accept(found)
                    return self.row
                await self._pause(stalls)
                try:
                    file = await self._uploads.upload(
                        self._reader, name=self._name, display_name=self._tag, size=self._shard.bytes
                    )
                except (TransportError, ApiError) as error:
                    if not is_transient(error):
                        raise
                    continue
                return await self._finished(file)
        raise await self._rest(progress, f"the upload was not answered {self._ctx.policy.upload_stalls + 1} times")


class _ByParts(_Sending):
    """Upload by parts: each that is stored is recorded, and only the others are sent again."""

    def __init__(self, ctx: RunContext, row: ShardRow, shard: Shard, uploads: PartUploads) -> None:
        super().__init__(ctx, row, shard)
        self._uploads = uploads

    async def send(self) -> ShardRow:
        progress = msgspec.structs.replace(self.row.upload or Upload(size=self._shard.bytes), stalls=0)
        async with _reading(self._ctx, self._shard) as self._reader:
            while self.row.state in (State.UPLOADING, State.FINALIZING):
                progress = await self._step(progress)
                await self._pause(progress.stalls)
            return self.row

    async def _step(self, progress: Upload) -> Upload:
        action = upload.next_part(progress, self._uploads.part_bytes, self._ctx.policy)
        if isinstance(action, upload.Stuck):
            raise await self._rest(progress, action.reason)
        try:
            match action:
                case upload.Start():
                    return await self._open(progress)
                case upload.SendPart() as part:
                    return await self._part(progress, part)
                case upload.Complete():
                    return await self._complete(progress)
        except (TransportError, ApiError) as error:
            if isinstance(error, ApiError) and error.kind == "absent":
                return await self._gone(progress, str(error))
            if not is_transient(error):
                raise
            return upload.stalled(progress)

    async def _open(self, progress: Upload) -> Upload:
        if found := await self._find():
            await self._accept(found)
            return progress
        session = await self._uploads.open_parts(name=self._name, display_name=self._tag, size=self._shard.bytes)
        progress = msgspec.structs.replace(progress, session=session, parts=())
        self.row = await self._ctx.record(self.row, UploadOpened(upload=progress))
        return progress

    async def _part(self, progress: Upload, part: upload.SendPart) -> Upload:
        stored = await self._uploads.send_part(
            progress.session or "", self._reader, number=part.number, offset=part.offset, length=part.length
        )
        progress = upload.stored(progress, part, stored)
        self.row = await self._ctx.record(self.row, PartStored(upload=progress))
        return progress

    async def _complete(self, progress: Upload) -> Upload:
        """A reply that was lost can't be asked for; the file may be there, or the parts are sent again."""
        if self.row.state is State.FINALIZING and (found := await self._find()):
            await self._accept(found)
            return progress
        await self._intend_to_finish(progress)
        try:
            file = await self._uploads.complete_parts(progress.session or "", progress.parts)
        except TransportError as error:
            return await self._gone(progress, str(error))
        await self._finished(file)
        return progress

    async def _gone(self, progress: Upload, reason: str) -> Upload:
        """The session is over; it may have left the file all the same."""
        if found := await self._find():
            await self._accept(found)
            return progress
        return await self._lost(progress, reason)


class _ByOffsets(_Sending):
    """Upload by byte offsets, as the service confirms them."""

    def __init__(self, ctx: RunContext, row: ShardRow, shard: Shard, uploads: OffsetUploads) -> None:
        super().__init__(ctx, row, shard)
        self._uploads = uploads

    async def send(self) -> ShardRow:
        progress = upload.resumed(self.row.upload or Upload(size=self._shard.bytes))
        if progress.session is not None and not self._uploads.owns(progress.session):
            # As the local service is after a restart; the address of the session is void.
            progress = Upload(size=self._shard.bytes)
            lost = UploadLost(upload=progress, reason="the service is at another address now")
            self.row = await self._ctx.record(self.row, lost)
        async with _reading(self._ctx, self._shard) as self._reader:
            return await self._go_on(progress)

    async def _go_on(self, progress: Upload) -> ShardRow:
        while True:
            match upload.next_action(progress, self._ctx.options.chunk_bytes, self._ctx.policy):
                case upload.Start():
                    progress = await self.start(progress)
                case upload.Send() as piece:
                    progress = await self.piece(progress, piece)
                case upload.Query():
                    progress = await self.query(progress)
                case upload.Finished():
                    return await self.finish(progress)
                case upload.Dead(reason):
                    progress = await self.renew(progress, reason)
                case upload.Stuck(reason):
                    raise await self._rest(progress, reason)
            if self.row.state not in (State.UPLOADING, State.FINALIZING):
                return self.row
            await self._pause(progress.stalls)

    async def start(self, progress: Upload) -> Upload:
        if found := await self._find():
            await self._accept(found)
            return progress
        answer = await self._uploads.start_upload(name=self._name, display_name=self._tag, size=self._shard.bytes)
        if answer.status == 409:
            await self._conflict()
            return progress
        if answer.session is not None and not self._uploads.owns(answer.session):
            origin = shown_origin(answer.session)
            what = f"the service named an upload address on {origin!r}, not its own"
            raise ProtocolError(f"shard {self.row.shard}: {what}")
        progress = upload.started(progress, answer)
        if progress.session is not None:
            self.row = await self._ctx.record(self.row, UploadOpened(upload=progress))
        return progress

    async def piece(self, progress: Upload, piece: upload.Send) -> Upload:
        assert progress.session is not None
        if piece.finalize:
            await self._intend_to_finish(progress)
        try:
            answer = await self._uploads.send(
                progress.session, self._reader, offset=piece.offset, length=piece.length, finalize=piece.finalize
            )
        except GatewayError as error:
            return await self._kept_out(progress, error)
        except TransportError:
            return upload.offset_lost(progress)
        return upload.answered(progress, piece.length, answer)

    async def query(self, progress: Upload) -> Upload:
        assert progress.session is not None
        try:
            answer = await self._uploads.query_upload(progress.session)
        except GatewayError as error:
            return await self._kept_out(progress, error)
        except TransportError:
            return upload.offset_lost(progress)
        self._ctx.sightings.forget(progress.session)
        return upload.queried(progress, answer)

    async def _kept_out(self, progress: Upload, error: GatewayError) -> Upload:
        """An outage, which the driver waits out. A service may also end a session without a word of its own: after
        some such answers another session is opened, which costs bytes and nothing else."""
        ctx, session = self._ctx, progress.session or ""
        looks, seconds = ctx.policy.session_looks, ctx.policy.session_seconds
        if error.status not in _GONE or not ctx.sightings.confirmed(
            session, "gone", ctx.clock.monotonic(), looks=looks, seconds=seconds
        ):
            raise error
        ctx.sightings.forget(session)
        progress = Upload(size=self._shard.bytes, lost=progress.lost)
        self.row = await ctx.record(self.row, UploadLost(upload=progress, reason=str(error)))
        return progress

    async def finish(self, progress: Upload) -> ShardRow:
        receipt = self._uploads.read_receipt(progress.receipt or b"")
        file = receipt or await self._find()
        if file is None:
            return await self._spoil(f"the upload ended, but {self._name} is not there")
        return await self._finished(file)

    async def renew(self, progress: Upload, reason: str) -> Upload:
        """The session died; it may have left the file all the same."""
        if found := await self._find():
            await self._accept(found)
            return progress
        return await self._lost(progress, reason)


@contextlib.asynccontextmanager
async def _reading(ctx: RunContext, shard: Shard) -> AsyncIterator[ShardReader]:
    reader = await ctx.files.read_shard(shard)
    try:
        yield reader
    finally:
        reader.close()


async def open_requests(ctx: RunContext, shard: Shard) -> ShardReader | None:
    """The lines for a create at a service without input files, to be closed; None for all others.

    Raises IntegrityError when the shard's file is gone or cut short.
    """
    return await ctx.files.read_shard(shard) if ctx.provider.uploads is None else None
