"""What one line must be.

A line is one JSON object in UTF-8 with a member ``key`` (a non-empty string, at most ``MAX_KEY_BYTES`` of
UTF-8, without U+0000) and a member ``request`` (an object), each given once. Other members are left alone.
Nothing is ever written anew: an accepted line keeps its bytes, only a CR before its newline is trimmed.

Two rules are our own because the parser's answer would not do. It does not look at the UTF-8 of what it
skips, and it takes the last of two equal members without a word. And its limit on nesting depends on the
interpreter and on the depth of the calling stack, so that a second machine could cut other shards.
"""

from __future__ import annotations

import codecs
import io
import itertools
import json
import re
from typing import TYPE_CHECKING

import msgspec
from msgspec import Raw, Struct

from .._errors import InputError
from .._options import MAX_DEPTH, MAX_KEY_BYTES, MIB
from .framing import BOM

if TYPE_CHECKING:
    from collections.abc import Iterator

QUOTE_BYTES = 200

# Text before the key and between it and the value of "request", as written by most tools and by json.dumps.
_COMPACT = (b'{"key":"', b'","request":')
_SPACED = (b'{"key": "', b'", "request": ')
_PIECE = MIB // 4
# As numbers, because ``in`` takes ten times as long with bytes of length one.
_NUL, _QUOTE, _BACKSLASH, _CR, _OBJECT = b'\0"\\\r{'
_NOT_OPENING = bytes(set(range(256)) - set(b"{[\n"))
_NOT_BRACKETS = bytes(set(range(256)) - set(b"{}[]"))
_STEPS = [(byte in b"{[") - (byte in b"}]") for byte in range(256)]
_LONE_SURROGATE = re.compile(
    rb"(?:[^\\]++|\\[^u]|\\u(?![dD][89a-fA-F])|\\u[dD][89abAB]..\\u[dD][c-fC-F]..)*+\\u[dD][89a-fA-F]", re.DOTALL
)
# An escaped spelling of either name needs the escape of a letter, \u0065 to \u0079.
_NAMED = re.compile(rb'"key"|"request"|\\u00[67]')
_POSITION = re.compile(r"\(byte (\d+)\)")


class _Row(Struct, gc=False):
    key: str
    request: Raw


class _Object(Struct, gc=False):
    """Matches any object, and checks its content without building it."""


class _Wrapper(Struct, gc=False):
    key: str
    request: _Object


_rows = msgspec.json.Decoder(_Row)
_wrappers = msgspec.json.Decoder(_Wrapper)
# Numbers stay text, because the standard library refuses integers above 4,300 digits.
_members = json.JSONDecoder(object_pairs_hook=lambda pairs: [name for name, _ in pairs], parse_int=str, parse_float=str)


class Refused(Exception):  # noqa: N818 - a verdict on one line
    """Carries the reason."""


def judge_all(data: bytes) -> tuple[list[int], list[bytes]] | None:
    """The quick way: end and key of each line, or None unless every line is good as it stands.

    A plain line is the wrapper as tools commonly write it: the text before the value of ``request``, that
    value, a brace. Its length leaves no room for a member given twice, so nothing needs to be searched.
    """
    if not data.endswith(b"\n") or _CR in data or _is_any_too_deep(data) or _utf8_error(data) is not None:
        return None
    ends: list[int] = []
    keys: list[bytes] = []
    end = 0
    before, behind = _SPACED if data.startswith(_SPACED[0]) else _COMPACT
    try:
        # One line at a time stays in the processor's cache; a split of the whole frame does not.
        for line in io.BytesIO(data):
            row = _rows.decode(line)
            key = row.key.encode()
            if not key or len(key) > MAX_KEY_BYTES or _NUL in key:
                return None
            head = before + key + behind
            plain = len(head) + len(row.request) + 2 == len(line) and line.startswith(head)
            if not (plain and line[len(head)] == _OBJECT and _QUOTE not in key and _BACKSLASH not in key) and (
                memoryview(row.request)[0] != _OBJECT or not _is_single(line, row.request, head)
            ):
                return None
            end += len(line)
            ends.append(end)
            keys.append(key)
    except (msgspec.MsgspecError, RecursionError):
        return None
    return ends, keys


def judge(line: bytes) -> bytes:
    """The key of a line without its newline; raises Refused."""
    _check_text(line)
    if len(line.translate(None, _NOT_OPENING)) > MAX_DEPTH and _is_too_deep(line):
        raise Refused(f"nested deeper than {MAX_DEPTH} levels")
    try:
        key = _wrappers.decode(line).key.encode()
        doubled = _doubled(line)
    except msgspec.ValidationError as error:
        raise Refused(f'{error}; a line is {{"key": "…", "request": {{…}}}}, but this is {quote(line)}') from error
    except msgspec.MsgspecError as error:
        raise Refused(_malformed(line, str(error))) from error
    except RecursionError:
        raise InputError(
            f"no room on the stack to parse {MAX_DEPTH} levels; call from fewer frames, or raise the recursion limit"
        ) from None
    if doubled:
        raise Refused(f'the member "{doubled}" is given twice in one line: {quote(line)}')
    _check_key(key)
    return key


def _is_single(line: bytes, body: Raw, head: bytes) -> bool:
    """Neither member is given twice; for a parsed line of which ``body`` is the last ``request``."""
    if line.startswith(head) and line.startswith(memoryview(body), len(head)):
        rest = line[len(head) + len(body) :]
        if not _NAMED.search(rest) and head.count(b'"') == 6 and _BACKSLASH not in head:
            return True
    return _doubled(line) is None


def _doubled(line: bytes) -> str | None:
    """The wrapper's member that a valid line gives twice, if any, in whatever spelling."""
    once = line.count(b'"key"') == 1 and line.count(b'"request"') == 1
    if once and b"\\u006" not in line and b"\\u007" not in line:
        return None
    names = _members.decode(line.decode())
    return next((name for name in ("key", "request") if names.count(name) > 1), None)


def _check_text(line: bytes) -> None:
    if line.startswith(BOM):
        raise Refused("a byte order mark in the middle of the input; it may stand only at the very start")
    if line.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise Refused("UTF-16 text; convert the input to UTF-8")
    if _NUL in line:
        raise Refused(f"a NUL byte at byte {line.index(0)} of the line; if this is UTF-16, convert it to UTF-8")
    bad = _utf8_error(line)
    if bad is not None:
        raise Refused(f"not UTF-8 at byte {bad} of the line: {quote(line, bad)}")


def _check_key(key: bytes) -> None:
    if not key:
        raise Refused('the member "key" is empty')
    if len(key) > MAX_KEY_BYTES:
        raise Refused(f"a key of {len(key)} bytes, above the limit of {MAX_KEY_BYTES}: {quote(key)}")
    if _NUL in key:
        raise Refused(f"the key contains U+0000: {quote(key)}")


def _malformed(line: bytes, error: str) -> str:
    if _LONE_SURROGATE.match(line):
        return f"half of a surrogate pair (\\ud800 to \\udfff) stands alone, and is no character: {quote(line)}"
    place = _POSITION.search(error)
    return f"{error}: {quote(line, int(place[1]) if place else 0)}"


def _is_any_too_deep(data: bytes) -> bool:
    """Looks closer only where a line has more opening brackets than may be open at once, strings included."""
    opening = data.translate(None, _NOT_OPENING).split(b"\n")
    if max(map(len, opening)) <= MAX_DEPTH:
        return False
    lines = zip(opening, io.BytesIO(data), strict=False)
    return any(len(brackets) > MAX_DEPTH and _is_too_deep(line) for brackets, line in lines)


def _is_too_deep(line: bytes) -> bool:
    brackets = itertools.chain.from_iterable(_brackets(line))
    return any(depth > MAX_DEPTH for depth in itertools.accumulate(map(_STEPS.__getitem__, brackets)))


def _brackets(line: bytes) -> Iterator[bytes]:
    """The brackets outside of strings, piece by piece, since a line may consist of little else than quotes."""
    line = line.replace(b"\\\\", b"").replace(b'\\"', b"")  # now each quote opens or closes a string
    inside = 0
    for at in range(0, len(line), _PIECE):
        parts = line[at : at + _PIECE].split(b'"')
        yield b"".join(parts[inside::2]).translate(None, _NOT_BRACKETS)
        inside = (inside + len(parts) - 1) % 2


def _utf8_error(data: bytes) -> int | None:
    """Where the first byte stands that is not UTF-8. In pieces, since text takes up to four times the room."""
    if data.isascii():
        return None
    view = memoryview(data)
    at = 0
    while at < len(data):
        final = at + _PIECE >= len(data)
        try:
            at += codecs.utf_8_decode(view[at : at + _PIECE], "strict", final)[1]
        except UnicodeDecodeError as error:
            return at + error.start
    return None


def quote(line: bytes, at: int = 0) -> str:
    """At most ``QUOTE_BYTES`` of a line, from a little before ``at``, with control characters escaped."""
    start = max(0, at - 40)
    piece = line[start : start + QUOTE_BYTES].rstrip(b"\r\n").decode("utf-8", "backslashreplace")
    return f"{'…' if start else ''}{piece!r}{'…' if start + QUOTE_BYTES < len(line) else ''}"
