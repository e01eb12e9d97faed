"""Files: create, list, retrieve, delete, content."""

from __future__ import annotations

import re
from functools import partial
from typing import TYPE_CHECKING

from ...._wire.openai.files import Deleted, FileObject, FilePage
from ...replies import json_response
from ...routing import Route
from .errors import OpenAIError, openai_error_response, uses_bearer_key
from .file_store import NewFile
from .form_data import receive
from .paging import read_cursor

if TYPE_CHECKING:
    from aiohttp import web

    from ...blobs import Blobs
    from ..gemini.files import FileRoutes
    from .file_store import OpenAIFile, OpenAIFiles
    from .form_data import Form
    from .limits import OpenAILimits

BASE = "/v1(?:beta/openai)?"
ID = "(files/[^/:]+)"
DEFAULT_LIMIT = MAX_LIMIT = 10_000
PURPOSES = frozenset({"assistants", "batch", "evals", "fine-tune", "user_data", "vision"})


def file_object(file: OpenAIFile) -> FileObject:
    return FileObject(
        id=file.name,
        bytes=file.bytes,
        created_at=int(file.created),
        expires_at=int(file.expires),
        filename=file.display_name or file.name.removeprefix("files/") + ".jsonl",
        purpose=file.purpose,
    )


class OpenAIFileRoutes:
    """The handlers. ``downloads`` sends file content, as on the Gemini wire."""

    def __init__(self, files: OpenAIFiles, blobs: Blobs, downloads: FileRoutes) -> None:
        self._files = files
        self._blobs = blobs
        self._downloads = downloads

    def routes(self) -> list[Route]:
        many, one = re.compile(f"{BASE}/files"), re.compile(f"{BASE}/files/{ID}")
        content, listed = re.compile(f"{BASE}/files/{ID}/content"), re.compile("/v1beta/openai/files")
        shared = re.compile("/v1/files")
        route = partial(Route, error_response=openai_error_response)
        return [
            route(name="openai.files.create", method="POST", pattern=many, handler=self.create, bulk=True),
            route(name="openai.files.list", method="GET", pattern=listed, handler=self.page),
            route(name="openai.files.list", method="GET", pattern=shared, handler=self.page, accepts=uses_bearer_key),
            route(name="openai.files.get", method="GET", pattern=one, handler=self.get),
            route(name="openai.files.delete", method="DELETE", pattern=one, handler=self.delete),
            route(name="openai.files.content", method="GET", pattern=content, handler=self.content),
        ]

    async def create(self, request: web.Request) -> web.Response:
        async with self._files.temporary_blob() as blob:
            limits = self._files.limits
            form = await receive(request, name="file", blobs=self._blobs, blob=blob, limit=limits.file_bytes)
            assert form.digest
            return json_response(file_object(await self._files.add(_new_file(form, limits), blob, form.digest)))

    async def page(self, request: web.Request) -> web.Response:
        cursor = read_cursor(request.query, default=DEFAULT_LIMIT, most=MAX_LIMIT)
        page = await self._files.page(cursor, request.query.get("purpose", ""))
        data = [file_object(file) for file in page.items]
        return json_response(FilePage(data=data, has_more=page.has_more, first_id=page.first_id, last_id=page.last_id))

    async def get(self, request: web.Request, name: str) -> web.Response:
        return json_response(file_object(await self._existing(name)))

    async def delete(self, request: web.Request, name: str) -> web.Response:
        if not await self._files.delete(name):
            raise no_file(name)
        return json_response(Deleted(id=name))

    async def content(self, request: web.Request, name: str) -> web.StreamResponse:
        await self._existing(name)
        return await self._downloads.download(request, name)

    async def _existing(self, name: str) -> OpenAIFile:
        file = await self._files.get(name)
        if file is None:
            raise no_file(name)
        return file


def no_file(name: str, param: str = "id") -> OpenAIError:
    return OpenAIError(404, f"No such File object: {name}", param=param)


def check_purpose(purpose: str) -> str:
    """Raises OpenAIError 400 for an unknown purpose."""
    if purpose not in PURPOSES:
        known = ", ".join(sorted(PURPOSES))
        raise OpenAIError(400, f"purpose {purpose[:40]!r} is none of: {known}.", param="purpose")
    return purpose


def _new_file(form: Form, limits: OpenAILimits) -> NewFile:
    purpose = check_purpose(form.field("purpose"))
    life = read_life(form.fields.get("expires_after[anchor]"), form.fields.get("expires_after[seconds]"), limits)
    return NewFile(filename=form.filename, mime_type=form.mime_type, purpose=purpose, life=life)


def read_life(anchor: str | None, seconds: str | None, limits: OpenAILimits) -> float:
    """Life of a file in seconds. Raises OpenAIError for a number out of range, or another anchor than created_at."""
    if anchor is None and seconds is None:
        return limits.file_life
    if anchor != "created_at":
        raise OpenAIError(400, "expires_after: the anchor is created_at.", param="expires_after[anchor]")
    if not re.fullmatch("[0-9]{1,9}", seconds or "") or not (
        limits.shortest_life <= int(seconds or 0) <= limits.longest_life
    ):
        span = f"{limits.shortest_life:.0f} to {limits.longest_life:.0f}"
        raise OpenAIError(400, f"expires_after: seconds is not a number from {span}.", param="expires_after[seconds]")
    return float(seconds or 0)
