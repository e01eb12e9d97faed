"""Answers of an endpoint or a function as JSON text on one line. What is no JSON fails its line, and no other one."""

from __future__ import annotations

import json

import msgspec
from msgspec import Raw

from ..._rules.framing import BOM
from ..._rules.json_text import flaw, utf8_error


def checked_json(body: bytes) -> bytes:
    """The text without a byte order mark. Raises ValueError for what is no JSON in UTF-8, with the reason."""
    body = body.removeprefix(BOM)
    try:
        msgspec.json.decode(body, type=Raw)
        strict = utf8_error(body) is None
    except (msgspec.DecodeError, RecursionError):
        strict = False
    if not strict and (fault := flaw(body)):
        raise ValueError(f"not JSON: {fault}")
    return body


def object_on_one_line(text: bytes) -> bytes:
    """A JSON object, its bytes as they are but for blanks between the members. Raises ValueError for another value."""
    if not text.lstrip().startswith(b"{"):
        raise ValueError("not an object")
    try:
        return msgspec.json.format(text, indent=-1)
    except (msgspec.DecodeError, RecursionError):  # half a surrogate pair, or very deep
        return text.replace(b"\r", b"").replace(b"\n", b"").strip()


def encode_json(value: object) -> bytes:
    """A Python value as JSON. Raises ValueError or TypeError for what has no JSON form, such as NaN."""
    try:
        text = msgspec.json.encode(value)
    except UnicodeEncodeError:  # half a surrogate pair
        text = b"null"
    if b"null" not in text:
        return text
    # msgspec writes null for NaN; this one refuses it.
    checked = json.dumps(msgspec.to_builtins(value), allow_nan=False).encode()
    return checked if text == b"null" else text
