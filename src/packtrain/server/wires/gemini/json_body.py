"""Request bodies: every member in camelCase or snake_case, and what is not read stays raw."""

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
    """The whole body. Raises Refusal 400 as soon as it is longer than ``limit``, 503 when there is no room for it."""
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
    """Raises Refusal 400. Members that stay raw are not decoded, so that nobody else would notice."""
    try:
        str(body, "utf-8")
    except UnicodeDecodeError as error:
        raise HttpError(400, f"Invalid JSON payload: the body is not UTF-8: {error}.") from error


#: A string in either kind of quotes; one that does not end goes to the end, so that the search stays linear.
_STRING = re.compile(rb"""\"(?:[^\"\\]|\\.)*+(?:\"|\\?\Z)|'((?:[^'\\]|\\.)*+)(?:'|\\?\Z)""", re.DOTALL)


def strict_json(body: bytes) -> bytes:
    """JSON with strings in single quotes, as the guide's samples for the command line have them, made strict.

    The real service takes it. Other text comes back as it is.
    """
    try:
        msgspec.json.decode(body, type=msgspec.Raw)
    except (msgspec.DecodeError, RecursionError):
        return _STRING.sub(_requoted, body)
    return body


def _requoted(found: re.Match[bytes]) -> bytes:
    inside = found[1]
    if inside is None:
        return found[0]
    return b'"%b"' % inside.replace(b"\\'", b"'").replace(b'\\"', b'"').replace(b'"', b'\\"')


def members(raw: bytes | msgspec.Raw) -> Mapping[str, msgspec.Raw]:
    """The members of one object, by their names in camelCase. Raises Refusal 400."""
    found = _decode(raw, dict[str, msgspec.Raw], "the body")
    return {_camel(name): value for name, value in found.items()}


def member(found: Mapping[str, msgspec.Raw], name: str, kind: type[T], default: T) -> T:
    return _decode(found[name], kind, name) if name in found else default


def object_member(found: Mapping[str, msgspec.Raw], name: str) -> Mapping[str, msgspec.Raw]:
    return members(found[name]) if name in found else {}


def decode_members(found: Mapping[str, msgspec.Raw], kind: type[T]) -> T:
    """All members at once. Raises Refusal 400."""
    return _decode(msgspec.json.encode(found), kind, "the body")


def apply_update_mask(
    found: Mapping[str, msgspec.Raw], query: Mapping[str, str], allowed: Collection[str]
) -> Mapping[str, msgspec.Raw]:
    """What an update is to change: what ``updateMask`` names, or without one all there is that may be changed.

    Raises Refusal 400 for a name that may not be changed, and for one that the body does not have.
    """
    mask = query.get("updateMask") or query.get("update_mask") or "*"
    names = {_camel(name.strip()) for name in mask.split(",")} if mask != "*" else set(found) & set(allowed)
    if not names <= set(allowed):
        raise HttpError(400, f"updateMask: what can be changed is {', '.join(allowed)}.")
    if not names <= set(found):
        raise HttpError(400, f"updateMask names {', '.join(sorted(names - set(found)))}, which the body does not have.")
    return {name: found[name] for name in names}


def _decode(raw: bytes | msgspec.Raw, kind: type[T], what: str) -> T:
    try:
        return msgspec.json.decode(raw, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise HttpError(400, f"Invalid JSON payload: {what}: {error}.") from error


def _camel(name: str) -> str:
    return re.sub(r"_([a-z])", lambda found: found[1].upper(), name)
