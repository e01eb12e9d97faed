"""Requests as lines, and back."""

from __future__ import annotations

import msgspec
from msgspec import Struct

from .._errors import InputError
from .._model import Request
from .lines import quote


class _Key(Struct, gc=False):
    key: str


_keys = msgspec.json.Decoder(_Key)


def key_of(line: bytes) -> str:
    """The key of a valid line. InputError if it has none."""
    try:
        return _keys.decode(line).key
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise InputError(f"no key: {error} in {quote(line)}") from error


def encode_line(request: Request | dict[str, object] | bytes) -> bytes:
    """A row given in Python as one line with its newline. It is judged later, like any line of a file.

    Raises TypeError for other types and for members that have no JSON form, InputError for a body that
    stands on several lines.
    """
    if isinstance(request, bytes):
        return request if request.endswith(b"\n") else request + b"\n"
    if isinstance(request, dict):
        return msgspec.json.encode(request) + b"\n"
    if not isinstance(request, Request):
        raise TypeError(
            f"a row is a Request, a dict or bytes, not {type(request).__name__}; a str line is given as line.encode()"
        )
    body = bytes(request.body)
    if b"\n" in body:
        raise InputError(f"the body of key {request.key!r} stands on several lines; give its JSON text on one line")
    return b'{"key":%b,"request":%b}\n' % (msgspec.json.encode(request.key), body)
