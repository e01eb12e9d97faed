"""Uploads in one call: content only (``raw``, ``uploadType=media``), or metadata and content (``multipart``)."""

from __future__ import annotations

import re
from contextlib import contextmanager
from typing import TYPE_CHECKING

import msgspec
from aiohttp import BodyPartReader
from aiohttp.http_exceptions import HttpProcessingError

from ...._options import MIB, PIECE_BYTES
from ...._wire.gemini.files import Uploaded
from ...files import NewUploadSession
from ...replies import HttpError, json_response, replace_surrogates
from ...request_body import BufferedBody
from ...routing import Route
from ...uploads import MAX_FILE_BYTES
from .files import file_body, origin
from .json_body import VERSION
from .resumable_upload import read_new_session

if TYPE_CHECKING:
    from collections.abc import Iterator

    from aiohttp import MultipartReader, web

    from ...files import Files, StoredFile
    from ...request_body import ByteSource
    from ...uploads import ActiveUploads

MAX_METADATA_BYTES = 1 * MIB
#: Errors of the multipart parser.
_UNREADABLE = (ValueError, AssertionError, HttpProcessingError)


class SimpleUploadRoutes:
    """The handlers. An interrupted call leaves nothing behind."""

    def __init__(self, files: Files, uploads: ActiveUploads) -> None:
        self._files = files
        self._uploads = uploads

    def routes(self) -> list[Route]:
        path = re.compile(f"/upload{VERSION}/files")
        return [
            Route(name="upload.raw", method="POST", pattern=path, handler=self.raw, accepts=_is_raw, bulk=True),
            Route(
                name="upload.multipart",
                method="POST",
                pattern=path,
                handler=self.multipart,
                accepts=_is_multipart,
                bulk=True,
            ),
        ]

    async def raw(self, request: web.Request) -> web.Response:
        _check_length(request)
        name = replace_surrogates(request.headers.get("X-Goog-Upload-File-Name", ""))
        new = NewUploadSession(
            name=None, display_name=name, mime_type=request.content_type, size=request.content_length
        )
        return _done(request, await self._store(new, request.content))

    async def multipart(self, request: web.Request) -> web.Response:
        _check_length(request)
        with _parsing():
            if "Content-Type" not in request.headers:
                raise ValueError("there is no Content-Type")
            parts = await request.multipart()
            metadata = await _read(await _part(parts))
        new = read_new_session(request, metadata)
        with _parsing():
            content = await _part(parts)
        mime_type = new.mime_type or replace_surrogates(content.headers.get("Content-Type", ""))
        new = msgspec.structs.replace(new, mime_type=mime_type)
        return _done(request, await self._store(new, _Content(content)))

    async def _store(self, new: NewUploadSession, source: ByteSource) -> StoredFile:
        started = await self._files.start(new)
        try:
            async with self._uploads.turn(started.id) as (session, receiver):
                await receiver.append(BufferedBody(source))
                return await self._uploads.finalise(session, receiver)
        except HttpError:
            await self._files.cancel(started)
            raise


@contextmanager
def _parsing() -> Iterator[None]:
    """Raises HttpError 400 for a malformed body."""
    try:
        yield
    except _UNREADABLE as error:
        raise HttpError(400, f"The body is not multipart/related: {error}.") from error


class _Content:
    """A part as a ByteSource."""

    def __init__(self, part: BodyPartReader) -> None:
        self._part = part

    async def readany(self) -> bytes:
        with _parsing():
            return await self._part.read_chunk(PIECE_BYTES)


async def _part(parts: MultipartReader) -> BodyPartReader:
    part = await parts.next()
    if not isinstance(part, BodyPartReader):
        raise ValueError("metadata and content are expected as two parts")
    return part


async def _read(part: BodyPartReader) -> bytes:
    pieces: list[bytes] = []
    while piece := await part.read_chunk():
        pieces.append(piece)
        if sum(map(len, pieces)) > MAX_METADATA_BYTES:
            raise HttpError(400, f"The metadata has more than {MAX_METADATA_BYTES} bytes.")
    return b"".join(pieces)


def _check_length(request: web.Request) -> None:
    if request.content_length is None:
        raise HttpError(400, "An upload in one call needs Content-Length; or use the resumable protocol.")
    if request.content_length > MAX_FILE_BYTES:
        raise HttpError(400, f"A file has at most {MAX_FILE_BYTES} bytes, not {request.content_length}.")


def _done(request: web.Request, file: StoredFile) -> web.Response:
    return json_response(Uploaded(file_body(file, origin(request))), {"X-Goog-Upload-Status": "final"})


def _protocol(request: web.Request) -> str:
    return request.headers.get("X-Goog-Upload-Protocol", "").lower() or request.query.get("uploadType", "")


def _is_raw(request: web.Request) -> bool:
    return _protocol(request) in ("raw", "media")


def _is_multipart(request: web.Request) -> bool:
    return _protocol(request) == "multipart"
