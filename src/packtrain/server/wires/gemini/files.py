"""Files: get, list, delete, download."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from aiohttp import web

from ...._io.threads import in_thread, uncancelled
from ...._options import PIECE_BYTES
from ...._wire.gemini.files import FileBody, FilePage, encode_hash, encode_time
from ...paging import next_token, read_window
from ...replies import HttpError, json_response
from ...routing import Route
from .json_body import VERSION

if TYPE_CHECKING:
    from typing import BinaryIO

    from ...blobs import Blobs
    from ...files import Files, StoredFile

FILE = r"/(files/[^/:]+)"
#: Longest id that a delete accepts; the real service refuses the longer ids of result files.
MAX_DELETE_ID = 40


def origin(request: web.Request) -> str:
    return f"{request.scheme}://{request.host}"


def file_body(file: StoredFile, origin: str) -> FileBody:
    generated = file.source == "GENERATED"
    created = encode_time(file.created)
    return FileBody(
        name=file.name,
        display_name=file.display_name,
        mime_type=file.mime_type,
        size_bytes=str(file.bytes),
        create_time=created,
        update_time=created,
        expiration_time=encode_time(file.expires),
        sha256_hash=encode_hash(file.sha256),
        uri=f"{origin}/v1beta/{file.name}",
        download_uri=f"{origin}/download/v1beta/{file.name}:download?alt=media" if generated else "",
        state="ACTIVE",
        source=file.source,
    )


class FileRoutes:
    """The handlers."""

    def __init__(self, files: Files, blobs: Blobs) -> None:
        self._files = files
        self._blobs = blobs

    def routes(self) -> list[Route]:
        one, many = re.compile(VERSION + FILE), re.compile(VERSION + "/files")
        content = re.compile(rf"(?:/download)?{VERSION}{FILE}:download")
        return [
            Route(name="files.list", method="GET", pattern=many, handler=self.page),
            Route(name="files.get", method="GET", pattern=one, handler=self.get),
            Route(name="files.delete", method="DELETE", pattern=one, handler=self.delete),
            Route(name="files.download", method="GET", pattern=content, handler=self.download),
        ]

    async def get(self, request: web.Request, name: str) -> web.Response:
        return json_response(file_body(await self._known(name), origin(request)))

    async def page(self, request: web.Request) -> web.Response:
        window = read_window(request.query)
        files = await self._files.page(window)
        bodies = [file_body(file, origin(request)) for file in files[: window.size]]
        return json_response(FilePage(files=bodies, next_page_token=next_token(files, window)))

    async def delete(self, request: web.Request, name: str) -> web.Response:
        if len(name.removeprefix("files/")) > MAX_DELETE_ID:
            raise HttpError(400, f"File ID cannot be more than {MAX_DELETE_ID} characters; delete the batch instead.")
        if not await self._files.delete(name):
            raise _missing(name)
        return json_response({})

    async def download(self, request: web.Request, name: str) -> web.StreamResponse:
        file = await self._known(name)
        start, stop, partial = _range(request, file)
        response = web.StreamResponse(status=206 if partial else 200, headers=_headers(file))
        response.content_length = stop - start
        if partial:
            response.headers["Content-Range"] = f"bytes {start}-{stop - 1}/{file.bytes}"
        with await self._open(file) as blob:
            await response.prepare(request)
            await send_blob(response, blob, start, stop)
        return response

    async def _open(self, file: StoredFile) -> BinaryIO:
        try:
            return await uncancelled(self._blobs.reader, file.blob)
        except FileNotFoundError:
            await self._known(file.name)  # usually deleted meanwhile
            raise

    async def _known(self, name: str) -> StoredFile:
        file = await self._files.get(name)
        if file is None:
            raise _missing(name)
        return file


def _missing(name: str) -> HttpError:
    """The real service does not distinguish missing files from those of other projects."""
    return HttpError(403, f"You do not have permission to access the File {name} or it may not exist.")


def _headers(file: StoredFile) -> dict[str, str]:
    return {
        "Content-Type": "application/octet-stream",
        "Accept-Ranges": "bytes",
        "ETag": _etag(file),
    }


def _etag(file: StoredFile) -> str:
    return f'"{file.sha256}"'


def _range(request: web.Request, file: StoredFile) -> tuple[int, int, bool]:
    """Start and end offset, and whether the response is partial. Raises HttpError 416."""
    if "Range" not in request.headers or request.headers.get("If-Range", _etag(file)) != _etag(file):
        return 0, file.bytes, False
    try:
        requested = request.http_range
    except ValueError:
        # HTTP ignores a malformed Range header.
        return 0, file.bytes, False
    start, stop, _ = requested.indices(file.bytes)
    if start >= stop:
        headers = {"Content-Range": f"bytes */{file.bytes}"}
        raise HttpError(416, f"The range begins beyond the {file.bytes} bytes of the file.", headers=headers)
    return start, stop, True


async def send_blob(response: web.StreamResponse, blob: BinaryIO, start: int, stop: int) -> None:
    """Sends a range of the blob. Raises ConnectionError on a read error: the response has already started."""
    try:
        await in_thread(blob.seek, start)
        while start < stop:
            piece = await in_thread(blob.read, min(PIECE_BYTES, stop - start))
            await response.write(piece)
            start += len(piece)
    except OSError as error:
        raise ConnectionAbortedError(f"the download stopped at byte {start}: {error}") from error
