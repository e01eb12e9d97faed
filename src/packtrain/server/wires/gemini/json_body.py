"""JSON request bodies: members in camelCase or snake_case, undecoded until they are read."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, TypeVar

import msgspec

from ...limits import reserve_memory
from ...replies import HttpError

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from aiohttp import web

T = TypeVar("T")

_EXCESS = "Request payload size exceeds the limit: {} bytes."

#: The path before a resource; all versions mean the same.
VERSION = r"/v1(?:beta|alpha)?"


async def read_body(request: web.Request, limit: int) -> bytes:
    """The whole body. Raises HttpError 400 beyond ``limit`` bytes, 503 when the memory for bodies is full."""
    if (request.content_length or 0) > limit:
        raise HttpError(400, _EXCESS.format(limit))
    pieces: list[bytes] = []
    size = 0
    while piece := await request.content.readany():
        reserve_memory(request, len(piece))
        pieces.append(piece)
        size += len(piece)
        if size > limit:
            raise HttpError(400, _EXCESS.format(limit))
    return b"".join(pieces)


def check_utf8(body: bytes) -> None:
    """Raises HttpError 400 for invalid UTF-8, which undecoded members could contain."""
    try:
        str(body, "utf-8")
    except UnicodeDecodeError as error:
        raise HttpError(400, f"Invalid JSON payload: the body is not UTF-8: {error}.") from error


#: A string in single or double quotes. An unterminated one extends to the end, which keeps the search linear.
_STRING = re.compile(rb"""\"(?:[^\"\\]|\\.)*+(?:\"|\\?\Z)|'((?:[^'\\]|\\.)*+)(?:'|\\?\Z)""", re.DOTALL)


def strict_json(body: bytes) -> bytes:
    """Converts single-quoted strings, as in the guide's curl samples, to JSON strings. Other text is unchanged.

    The real service accepts them.
    """
    try:
        msgspec.json.decode(body, type=msgspec.Raw)
    except (msgspec.DecodeError, RecursionError):
        return _STRING.sub(_requoted, body)
    return body


def _requoted(matched: re.Match[bytes]) -> bytes:
    content = matched[1]
    if content is None:
        return matched[0]
    return b'"%b"' % content.replace(b"\\'", b"'").replace(b'\\"', b'"').replace(b'"', b'\\"')


def members(raw: bytes | msgspec.Raw) -> Mapping[str, msgspec.Raw]:
    """The members of one object, by their names in camelCase. Raises HttpError 400."""
    values = _decode(raw, dict[str, msgspec.Raw], "the body")
    return {_camel(name): value for name, value in values.items()}


def member(values: Mapping[str, msgspec.Raw], name: str, kind: type[T], default: T) -> T:
    return _decode(values[name], kind, name) if name in values else default


def object_member(values: Mapping[str, msgspec.Raw], name: str) -> Mapping[str, msgspec.Raw]:
    return members(values[name]) if name in values else {}


def decode_members(values: Mapping[str, msgspec.Raw], kind: type[T]) -> T:
    """Decodes all members as one struct. Raises HttpError 400."""
    return _decode(msgspec.json.encode(values), kind, "the body")


def apply_update_mask(
    values: Mapping[str, msgspec.Raw], query: Mapping[str, str], allowed: Collection[str]
) -> Mapping[str, msgspec.Raw]:
    """The members that an update changes: those in ``updateMask``, or without one all allowed members of the body.

    Raises HttpError 400 for a name that is not allowed or not in the body.
    """
    mask = query.get("updateMask") or query.get("update_mask") or "*"
    names = {_camel(name.strip()) for name in mask.split(",")} if mask != "*" else set(values) & set(allowed)
    if not names <= set(allowed):
        raise HttpError(400, f"updateMask: give some of {', '.join(allowed)}.")
    if not names <= set(values):
        raise HttpError(400, f"updateMask names {', '.join(sorted(names - set(values)))}, not in the body.")
    return {name: values[name] for name in names}


def _decode(raw: bytes | msgspec.Raw, kind: type[T], what: str) -> T:
    try:
        return msgspec.json.decode(raw, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise HttpError(400, f"Invalid JSON payload: {what}: {error}.") from error


def _camel(name: str) -> str:
    return re.sub(r"_([a-z])", lambda matched: matched[1].upper(), name)
