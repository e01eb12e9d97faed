"""Resumable uploads, the ``X-Goog-Upload-*`` protocol.

Errors of data calls carry no status header: ``active`` would make the official SDK skip the chunk.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from urllib.parse import urlencode

from ...._wire.gemini.files import CHOSEN_NAME, Uploaded
from ...files import NewUploadSession
from ...replies import HttpError, json_response, replace_surrogates
from ...request_body import BufferedBody, SocketBody, is_large_body
from ...routing import Route
from ...uploads import GRANULARITY, MAX_FILE_BYTES, check_range
from .files import file_body, origin
from .json_body import VERSION, member, members, object_member, strict_json

if TYPE_CHECKING:
    from aiohttp import web

    from ...files import Files, StoredFile, UploadSession
    from ...uploads import ActiveUploads, UploadReceiver

MAX_DISPLAY_NAME = 512

QUERY, CANCEL, FINALIZE = frozenset({"query"}), frozenset({"cancel"}), frozenset({"finalize"})
UPLOAD, UPLOAD_FINALIZE = frozenset({"upload"}), frozenset({"upload", "finalize"})


class UploadRoutes:
    """The handlers."""

    def __init__(self, files: Files, uploads: ActiveUploads) -> None:
        self._files = files
        self._uploads = uploads

    def routes(self) -> list[Route]:
        path = re.compile(f"/upload{VERSION}/files")
        return [
            # Authorised by the upload id, which cannot be guessed: the SDKs send no key.
            Route(
                name="upload.data",
                method="POST",
                pattern=path,
                handler=self.data,
                query="upload_id",
                keyless=True,
                bulk=True,
            ),
            Route(name="upload.start", method="POST", pattern=path, handler=self.start),
        ]

    async def start(self, request: web.Request) -> web.Response:
        if _commands(request) != {"start"}:
            raise HttpError(
                400, "Start an upload with X-Goog-Upload-Protocol: resumable and X-Goog-Upload-Command: start."
            )
        session = await self._files.start(read_new_session(request, await request.read()))
        query = urlencode({"upload_id": session.id, "upload_protocol": "resumable"})
        url = f"{origin(request)}{request.path}?{query}"
        headers = {
            "X-Goog-Upload-Status": "active",
            "X-Goog-Upload-URL": url,
            "X-Goog-Upload-Control-URL": url,
            "X-Goog-Upload-Chunk-Granularity": str(GRANULARITY),
        }
        return json_response({}, headers)

    async def data(self, request: web.Request) -> web.Response:
        commands = _commands(request)
        if commands not in (QUERY, CANCEL, FINALIZE, UPLOAD, UPLOAD_FINALIZE):
            raise HttpError(400, "X-Goog-Upload-Command: give query, cancel, upload, finalize, or 'upload, finalize'.")
        body = BufferedBody(request.content)
        await body.gather()
        async with self._uploads.turn(request.query["upload_id"]) as (session, receiver):
            match session.state:
                case "final":
                    return await self._final(request, session, commands)
                case "cancelled":
                    raise HttpError(410 if commands == QUERY else 400, "Upload has already been terminated.")
                case "active":
                    if "upload" in commands:
                        await _receive(request, body, session, receiver, commands)
                    return await self._active(request, session, receiver, commands)

    async def _final(self, request: web.Request, session: UploadSession, commands: frozenset[str]) -> web.Response:
        file = await self._files.get(session.name)
        if file is None:
            raise HttpError(404, f"The file {session.name} of this upload was deleted; start a new upload.")
        if commands == CANCEL:
            raise HttpError(400, "The upload is final; delete its file instead.")
        if "upload" in commands:
            _admit(request, file.bytes, file.bytes, commands)
        return _done(request, file)

    async def _active(
        self, request: web.Request, session: UploadSession, receiver: UploadReceiver, commands: frozenset[str]
    ) -> web.Response:
        if commands == CANCEL:
            await self._uploads.cancel(session)
            return json_response({}, {"X-Goog-Upload-Status": "cancelled"})
        if "finalize" in commands:
            return _done(request, await self._uploads.finalise(session, receiver))
        return json_response({}, _progress("active", await receiver.received()))


async def _receive(
    request: web.Request, body: BufferedBody, session: UploadSession, receiver: UploadReceiver, commands: frozenset[str]
) -> None:
    if _admit(request, await receiver.received(), session.size, commands) == "replay":
        return
    if is_large_body(request):
        with SocketBody(request, body) as tap:
            await receiver.append(tap)
    else:
        await receiver.append(body)


def _done(request: web.Request, file: StoredFile) -> web.Response:
    return json_response(Uploaded(file_body(file, origin(request))), _progress("final", file.bytes))


def _progress(status: str, received: int) -> dict[str, str]:
    return {"X-Goog-Upload-Status": status, "X-Goog-Upload-Size-Received": str(received)}


def _admit(request: web.Request, received: int, declared: int | None, commands: frozenset[str]) -> str:
    offset = _number(request, "X-Goog-Upload-Offset")
    length = request.content_length
    if offset is None or length is None:
        raise HttpError(400, "A data call needs X-Goog-Upload-Offset and Content-Length.")
    try:
        return check_range(
            received=received, declared=declared, offset=offset, length=length, finalize="finalize" in commands
        )
    except HttpError as error:
        error.headers = {"X-Goog-Upload-Size-Received": str(received)}
        raise


def _commands(request: web.Request) -> frozenset[str]:
    words = request.headers.get("X-Goog-Upload-Command", "").lower().split(",")
    return frozenset(word.strip() for word in words)


def _number(request: web.Request, header: str) -> int | None:
    text = request.headers.get(header)
    if text is None:
        return None
    if not re.fullmatch(r"[0-9]{1,18}", text):
        raise HttpError(400, f"{header}: {text[:40]!r} is not a number of bytes.")
    return int(text)


def read_new_session(request: web.Request, body: bytes) -> NewUploadSession:
    """Decodes a start call. Raises HttpError 400 for a name, size or display name that the Files API refuses."""
    file = object_member(members(strict_json(body)), "file") if body.strip() else {}
    name = member(file, "name", str, "") or None
    if name and not CHOSEN_NAME.fullmatch(name):
        raise HttpError(
            400,
            f"The name {name[:80]!r} is not files/ and at most 40 characters of a-z, 0-9 and hyphen, "
            "with no hyphen at either end.",
        )
    display_name = member(file, "displayName", str, "")
    if len(display_name) > MAX_DISPLAY_NAME:
        raise HttpError(400, f"displayName is longer than {MAX_DISPLAY_NAME} characters.")
    header_type = replace_surrogates(request.headers.get("X-Goog-Upload-Header-Content-Type", ""))
    mime_type = member(file, "mimeType", str, "") or header_type
    size = _size(_number(request, "X-Goog-Upload-Header-Content-Length"), bytes(file.get("sizeBytes", b"")))
    return NewUploadSession(name=name, display_name=display_name, mime_type=mime_type, size=size)


def _size(header: int | None, member: bytes) -> int | None:
    """The declared size: from the header, from the member ``sizeBytes`` (number or string), or both."""
    if member and not re.fullmatch(rb'"?[0-9]{1,18}"?', member):
        raise HttpError(400, "sizeBytes is not a number of bytes.")
    declared = int(member.strip(b'"')) if member else None
    if header is not None and declared not in (None, header):
        raise HttpError(400, f"The header declares {header} bytes, the body {declared}.")
    size = declared if header is None else header
    if size is not None and size > MAX_FILE_BYTES:
        raise HttpError(400, f"A file has at most {MAX_FILE_BYTES} bytes, not {size}.")
    return size
