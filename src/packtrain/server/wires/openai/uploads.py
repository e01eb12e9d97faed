"""Uploads in parts: create, add a part, complete, cancel."""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING

from msgspec import UNSET

from ...._io.threads import in_thread
from ...._options import PIECE_BYTES
from ...._wire.openai.files import Completion, NewUpload, Part, Upload
from ...blobs import Digest
from ...replies import json_response
from ...routing import Route
from .errors import OpenAIError, decode, openai_error_response
from .files import BASE, check_purpose, file_object
from .form_data import receive

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Literal

    from aiohttp import web
    from msgspec import UnsetType

    from ...._wire.openai.files import FileObject
    from ...blobs import Blobs
    from ...routing import Handler
    from .upload_store import OpenAIUploads, StoredPart, StoredUpload

ID = "(upload_[^/:]+)"


class OpenAIUploadRoutes:
    """The handlers."""

    def __init__(self, uploads: OpenAIUploads, blobs: Blobs) -> None:
        self._uploads = uploads
        self._blobs = blobs

    def routes(self) -> list[Route]:
        handlers: dict[str, tuple[str, Handler]] = {
            "create": ("", self.create),
            "part": (f"/{ID}/parts", self.part),
            "complete": (f"/{ID}/complete", self.complete),
            "cancel": (f"/{ID}/cancel", self.cancel),
        }
        return [
            Route(
                name=f"openai.uploads.{verb}",
                method="POST",
                pattern=re.compile(f"{BASE}/uploads{path}"),
                handler=handler,
                error_response=openai_error_response,
                bulk=verb == "part",
            )
            for verb, (path, handler) in handlers.items()
        ]

    async def create(self, request: web.Request) -> web.Response:
        new = decode(await request.read(), NewUpload)
        check_purpose(new.purpose)
        most = self._uploads.limits.upload_bytes
        if not 0 < new.bytes <= most:
            raise OpenAIError(400, f"bytes: {new.bytes} is not a number from 1 to {most}.", param="bytes")
        return json_response(_object(await self._uploads.start(new), "pending"))

    async def part(self, request: web.Request, upload_id: str) -> web.Response:
        await self._uploads.pending(upload_id)
        async with self._uploads.temporary_blob() as blob:
            limit = self._uploads.limits.part_bytes
            form = await receive(request, name="data", blobs=self._blobs, blob=blob, limit=limit)
            assert form.digest
            part = await self._uploads.add(upload_id, blob, form.digest)
        return json_response(Part(id=part.id, created_at=int(part.created), upload_id=upload_id))

    async def complete(self, request: web.Request, upload_id: str) -> web.Response:
        completion = decode(await request.read(), Completion)
        completed = await self._uploads.completed(upload_id)
        if completed is None:
            parts = await self._uploads.parts(upload_id, completion.part_ids)
            async with self._uploads.temporary_blob() as blob:
                digest = await in_thread(_join, self._blobs, parts, blob, completion.md5)
                completed = await self._uploads.complete(upload_id, blob, digest)
        upload, file = completed
        return json_response(_object(upload, "completed", file_object(file)))

    async def cancel(self, request: web.Request, upload_id: str) -> web.Response:
        return json_response(_object(await self._uploads.cancel(upload_id), "cancelled"))


def _object(
    upload: StoredUpload,
    status: Literal["pending", "completed", "cancelled"],
    file: FileObject | UnsetType = UNSET,
) -> Upload:
    return Upload(
        id=upload.id,
        bytes=upload.bytes,
        created_at=int(upload.created),
        expires_at=int(upload.expires),
        filename=upload.filename,
        purpose=upload.purpose,
        status=status,
        file=file,
    )


def _join(blobs: Blobs, parts: Sequence[StoredPart], blob: str, md5: str | None) -> Digest:
    """Concatenates the parts; blocks. Raises OpenAIError for another MD5, or an upload that has ended meanwhile."""
    whole = hashlib.md5(usedforsecurity=False)
    try:
        with blobs.appender(blob, Digest()) as target:
            for part in parts:
                with blobs.reader(part.blob) as source:
                    while piece := source.read(PIECE_BYTES):
                        target.write(piece)
                        whole.update(piece)
    except FileNotFoundError as error:
        raise OpenAIError(400, "The upload was ended by another call.") from error
    except OSError as error:
        raise OpenAIError(503, f"The bytes cannot be stored: {error.strerror}.") from error
    if md5 is not None and md5.lower() != whole.hexdigest():
        raise OpenAIError(400, f"The MD5 of the parts is {whole.hexdigest()}, not the one given.", param="md5")
    return target.digest
