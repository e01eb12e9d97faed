"""Files and the resumable upload protocol (``X-Goog-Upload-*``).

Facts behind the rules: Google's resumable protocol as its own client libraries have it; the Files API
reference for names and limits. ``sha256Hash`` is documented as base64 of the hash but is in reality
base64 of its lower-case hex text, so a reader takes both.
"""

from __future__ import annotations

import base64
import binascii
import datetime
import re
from typing import Any

import msgspec
from msgspec import Struct

from ..._errors import ProtocolError
from ..._model import FileState, RemoteFile
from ..._rules.upload import Answer
from ..http import Call, Reply

VERSION = "v1beta"
#: What a name given by the service may look like before we build a URL from it. No dot comes first: a path with the
#: segment ``..`` leads elsewhere.
NAME = re.compile(r"(files|batches)/[A-Za-z0-9_-][A-Za-z0-9._-]{0,127}")
_FILE = "files/"
#: What a client may choose: at most 40 characters, no hyphen at either end.
CHOSEN_NAME = re.compile(r"files/[a-z0-9](?:[a-z0-9-]{0,38}[a-z0-9])?")
MIME_TYPE = "application/jsonl"
_STATES = {"ACTIVE": FileState.READY, "": FileState.READY, "PROCESSING": FileState.PROCESSING}


class FileBody(Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """A File on the wire. int64 travels as text; what is empty is left out."""

    name: str = ""
    display_name: str = ""
    mime_type: str = ""
    size_bytes: int | str = ""
    create_time: str = ""
    update_time: str = ""
    expiration_time: str = ""
    sha256_hash: str = ""
    uri: str = ""
    download_uri: str = ""
    state: str = ""
    source: str = ""
    error: dict[str, Any] | None = None


class Uploaded(Struct, frozen=True):
    file: FileBody


class FilePage(Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    files: list[FileBody] = []
    next_page_token: str = ""


def start_upload(*, name: str, display_name: str, size: int) -> Call:
    meta = {"file": {"name": file_path(name), "displayName": display_name, "mimeType": MIME_TYPE, "sizeBytes": size}}
    return Call(
        name="upload.start",
        operation="start of an upload",
        method="POST",
        target=f"/upload/{VERSION}/files",
        headers=(
            ("Content-Type", "application/json"),
            ("X-Goog-Upload-Protocol", "resumable"),
            ("X-Goog-Upload-Command", "start"),
            ("X-Goog-Upload-Header-Content-Length", str(size)),
            ("X-Goog-Upload-Header-Content-Type", MIME_TYPE),
        ),
        body=msgspec.json.encode(meta),
    )


def send_chunk(url: str, *, offset: int, finalize: bool) -> Call:
    """A data call; its bytes are given to the transport apart."""
    command = "upload, finalize" if finalize else "upload"
    return Call(
        name="upload.finalize" if finalize else "upload.chunk",
        operation="upload of a shard",
        method="POST",
        target=url,
        headers=(("X-Goog-Upload-Command", command), ("X-Goog-Upload-Offset", str(offset))),
    )


def query_upload(url: str) -> Call:
    return Call(
        name="upload.query",
        operation="query of an upload",
        method="POST",
        target=url,
        headers=(("X-Goog-Upload-Command", "query"),),
    )


def get_file(name: str) -> Call:
    return Call(name="file.get", operation="look-up of a file", method="GET", target=f"/{VERSION}/{file_path(name)}")


def delete_file(name: str) -> Call:
    return Call(
        name="file.delete", operation="deletion of a file", method="DELETE", target=f"/{VERSION}/{file_path(name)}"
    )


def download(name: str, *, offset: int = 0, etag: str | None = None) -> Call:
    headers: list[tuple[str, str]] = []
    if offset:
        headers.append(("Range", f"bytes={offset}-"))
        if etag:
            headers.append(("If-Range", etag))
    return Call(
        name="results.get",
        operation="download of results",
        method="GET",
        target=f"/{VERSION}/{file_path(name)}:download",
        query=(("alt", "media"),),
        headers=tuple(headers),
    )


def read_file(body: bytes) -> RemoteFile:
    """A File, bare or wrapped in ``{"file": …}``. Raises ProtocolError."""
    try:
        wrapped = msgspec.json.decode(body, type=dict[str, msgspec.Raw])
        file = msgspec.json.decode(wrapped.get("file", msgspec.Raw(body)), type=FileBody)
        return to_remote(file)
    except (msgspec.DecodeError, UnicodeDecodeError, ValueError, RecursionError) as error:
        raise ProtocolError(f"the service described a file in a way that we can't read: {error}") from error


def to_remote(file: FileBody) -> RemoteFile:
    return RemoteFile(
        name=checked(file.name),
        state=_STATES.get(file.state, FileState.UNUSABLE),
        bytes=int(file.size_bytes or 0),
        sha256=decode_hash(file.sha256_hash),
        display_name=file.display_name,
        expires_at=decode_time(file.expiration_time),
        reason=_reason(file),
    )


def _reason(file: FileBody) -> str:
    """Why a file can't be used, with the service's own name of its state."""
    if file.state in _STATES:
        return ""
    return f"{file.state} {(file.error or {}).get('message', '')}".strip()


def file_path(name: str) -> str:
    """A file's name as used in a path, from that or from the part that a client chose. Raises ProtocolError."""
    return checked(name if "/" in name else _FILE + name)


def checked(name: str) -> str:
    if not NAME.fullmatch(name):
        raise ProtocolError(f"{name[:80]!r} is not the name of a file or a job")
    return name


def encode_hash(hexdigest: str) -> str:
    """As the real service does it: base64 of the hex text."""
    return base64.b64encode(hexdigest.encode()).decode()


def decode_hash(text: str) -> str | None:
    """Hex from any of the three spellings met: hex, base64 of the raw hash, base64 of the hex text."""
    if not text:
        return None
    if re.fullmatch(r"[0-9a-fA-F]{64}", text):
        return text.lower()
    try:
        raw = base64.b64decode(text, validate=True)
    except binascii.Error as error:
        raise ValueError("sha256Hash is neither hex nor base64") from error
    return raw.hex() if len(raw) == 32 else raw.decode("ascii").lower()


def encode_time(at: float) -> str:
    """RFC 3339 in UTC with microseconds."""
    stamp = datetime.datetime.fromtimestamp(at, datetime.UTC)
    return stamp.strftime("%Y-%m-%dT%H:%M:%S.%f") + "Z"


def decode_time(text: str) -> float | None:
    """Unix seconds; the service writes 0, 3, 6 or 9 digits of a second."""
    if not text:
        return None
    match = re.fullmatch(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(\.\d{1,9})?(Z|[+-]\d\d:\d\d)", text)
    if not match:
        raise ValueError(f"{text[:40]!r} is not a time")
    whole, fraction, zone = match.groups()
    stamp = datetime.datetime.fromisoformat(whole + zone.replace("Z", "+00:00"))
    return stamp.timestamp() + float(fraction or 0)


def read_upload(reply: Reply) -> Answer:
    headers = reply.headers
    return Answer(
        status=reply.status,
        upload_status=headers.get("x-goog-upload-status"),
        received=_count(headers.get("x-goog-upload-size-received")),
        session=headers.get("x-goog-upload-url"),
        granularity=_count(headers.get("x-goog-upload-chunk-granularity")) or 1,
        body=reply.body,
    )


def _count(text: str | None) -> int | None:
    return int(text) if text is not None and re.fullmatch(r"\d{1,18}", text) else None
