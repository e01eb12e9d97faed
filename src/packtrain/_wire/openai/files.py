"""Files and uploads in parts, as objects on the wire. Times are whole Unix seconds."""

from __future__ import annotations

from typing import Literal

from msgspec import UNSET, Struct, UnsetType


class FileObject(Struct, frozen=True, kw_only=True):
    id: str
    object: Literal["file"] = "file"
    bytes: int
    created_at: int
    expires_at: int
    filename: str
    purpose: str
    status: Literal["uploaded", "processed", "error"] = "processed"


class FilePage(Struct, frozen=True, kw_only=True):
    object: Literal["list"] = "list"
    data: list[FileObject]
    has_more: bool
    first_id: str | None = None
    last_id: str | None = None


class Deleted(Struct, frozen=True, kw_only=True):
    id: str
    object: Literal["file"] = "file"
    deleted: bool = True


class NewUpload(Struct, frozen=True, kw_only=True):
    """The body that begins an upload in parts."""

    bytes: int
    filename: str
    mime_type: str
    purpose: str


class Upload(Struct, frozen=True, kw_only=True):
    id: str
    object: Literal["upload"] = "upload"
    bytes: int
    created_at: int
    expires_at: int
    filename: str
    purpose: str
    status: Literal["pending", "completed", "cancelled", "expired"]
    file: FileObject | UnsetType = UNSET


class Part(Struct, frozen=True, kw_only=True):
    id: str
    object: Literal["upload.part"] = "upload.part"
    created_at: int
    upload_id: str


class Completion(Struct, frozen=True, kw_only=True):
    """The body that ends an upload: its parts in their order, and the MD5 of the whole in hex."""

    part_ids: list[str]
    md5: str | None = None
