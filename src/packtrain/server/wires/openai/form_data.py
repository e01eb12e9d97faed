"""``multipart/form-data``: fields decoded as text, the one file streamed to disk."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiohttp import BodyPartReader, ClientError, web
from aiohttp.http_exceptions import HttpProcessingError

from ...._io.threads import in_thread, uncancelled
from ...._options import KIB, PIECE_BYTES
from ...blobs import Digest
from ...replies import replace_surrogates
from .errors import OpenAIError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from aiohttp import MultipartReader

    from ...blobs import Appender, Blobs

#: Most bytes of one field, most fields of a form.
MAX_FIELD_BYTES = 64 * KIB
MAX_FIELDS = 32


class Form:
    """A received form. ``digest`` is None until the file is received."""

    def __init__(self) -> None:
        self.fields: dict[str, str] = {}
        self.filename = ""
        self.mime_type = ""
        self.digest: Digest | None = None

    def field(self, name: str) -> str:
        """The value of a field. Raises OpenAIError when it is missing."""
        value = self.fields.get(name, "")
        if not value:
            raise OpenAIError(400, f"The form has no field {name}.", param=name)
        return value


async def receive(request: web.Request, *, name: str, blobs: Blobs, blob: str, limit: int) -> Form:
    """Reads the form, parts in any order; the file in field ``name`` is written to ``blob``.

    Raises OpenAIError 400 for an incomplete form, 413 for a file above ``limit`` bytes, 408 on a timeout.
    """
    if request.content_type != "multipart/form-data":
        raise OpenAIError(400, "The body is not multipart/form-data.")
    form = Form()
    try:
        async for part in _parts(await request.multipart()):
            if part.name == name:
                await _store_file(form, part, blobs, blob, limit)
            else:
                await _read_field(form, part)
    except TimeoutError as error:
        raise OpenAIError(408, f"{error}.") from error
    except (ValueError, ConnectionError, ClientError, HttpProcessingError, web.RequestPayloadError) as error:
        raise OpenAIError(400, f"The form is incomplete: {error}.") from error
    if form.digest is None:
        raise OpenAIError(400, f"The form has no file in its field {name}.", param=name)
    return form


async def _parts(reader: MultipartReader) -> AsyncIterator[BodyPartReader]:
    for _ in range(MAX_FIELDS):
        part = await reader.next()
        if part is None:
            return
        if not isinstance(part, BodyPartReader):
            raise OpenAIError(400, "Nested forms are not supported.")
        yield part
    raise OpenAIError(400, f"The form has more than {MAX_FIELDS} fields.")


async def _store_file(form: Form, part: BodyPartReader, blobs: Blobs, blob: str, limit: int) -> None:
    if form.digest:
        raise OpenAIError(400, "The form has more than one file.", param=part.name)
    digest = form.digest = Digest()
    form.filename = replace_surrogates(part.filename or "")
    form.mime_type = replace_surrogates(part.headers.get("Content-Type", "application/octet-stream"))
    with await uncancelled(blobs.appender, blob, digest) as file:
        while pieces := await _gather(part):
            if digest.bytes + sum(map(len, pieces)) > limit:
                raise OpenAIError(413, f"The file is larger than {limit} bytes.", param=part.name)
            await in_thread(_store, file, pieces)


async def _gather(part: BodyPartReader) -> list[bytes]:
    """Bytes enough to be worth a thread switch; empty at the end."""
    pieces: list[bytes] = []
    size = 0
    while size < PIECE_BYTES and not part.at_eof():
        piece = await part.read_chunk(PIECE_BYTES)
        if piece:
            pieces.append(piece)
            size += len(piece)
    return pieces


def _store(file: Appender, pieces: list[bytes]) -> None:
    try:
        for piece in pieces:
            file.write(piece)
    except OSError as error:
        raise OpenAIError(503, f"The bytes cannot be stored: {error.strerror}.") from error


async def _read_field(form: Form, part: BodyPartReader) -> None:
    value = b""
    while not part.at_eof() and len(value) <= MAX_FIELD_BYTES:
        value += await part.read_chunk()
    if len(value) > MAX_FIELD_BYTES:
        raise OpenAIError(400, f"The field {part.name} is longer than {MAX_FIELD_BYTES} bytes.")
    form.fields[part.name or ""] = value.decode("utf-8")
