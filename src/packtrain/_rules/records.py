"""What a line must be, and the lines of a frame judged against it.

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
from collections.abc import Sequence
from typing import TYPE_CHECKING

import msgspec
from msgspec import Raw, Struct

from .._errors import InputError
from .._model import Reject, Request
from .._options import MAX_DEPTH, MAX_KEY_BYTES, MIB
from .framing import BOM
from .keys import digests

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from .framing import Frame, Overlong

QUOTE_BYTES = 200

# Text before the key and between it and the value of "request", as written by most tools and by json.dumps.
_COMPACT = (b'{"key":"', b'","request":')
_SPACED = (b'{"key": "', b'", "request": ')
_PIECE = MIB // 4
_BLANK = b" \t\r"
# As numbers, because ``in`` takes ten times as long with bytes of length one.
_NUL, _QUOTE, _BACKSLASH, _CR, _OBJECT = b'\0"\\\r{'
_NOT_OPENING = bytes(set(range(256)) - set(b"{[\n"))
_NOT_STRUCTURE = bytes(set(range(256)) - set(b'{}[]"'))
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


class _Key(Struct, gc=False):
    key: str


_rows = msgspec.json.Decoder(_Row)
_wrappers = msgspec.json.Decoder(_Wrapper)
_keys = msgspec.json.Decoder(_Key)
# Numbers stay text, because the standard library refuses integers above 4,300 digits.
_members = json.JSONDecoder(object_pairs_hook=lambda pairs: [name for name, _ in pairs], parse_int=str, parse_float=str)


class Batch(Struct, frozen=True, kw_only=True):
    """What a frame came to. The lists from ``ends`` to ``keys`` run parallel, one entry an accepted line."""

    source: str
    #: The accepted lines in order, each with one newline: the frame's own object if nothing had to change.
    data: bytes
    #: End of each line within ``data``.
    ends: Sequence[int]
    #: Where each line starts in the source, and where the byte behind its newline stands.
    raw_starts: Sequence[int]
    raw_ends: Sequence[int]
    #: Number of each line in the source, from 1.
    lines_no: Sequence[int]
    #: Digest of each line's key.
    keys: list[bytes]
    #: In the order of the source.
    rejects: list[Reject]
    blank: int
    #: Lines of any kind: accepted, rejected and blank.
    lines: int
    #: Where the frame ends in the source.
    end: int

    def line(self, position: int) -> bytes:
        """An accepted line, with its newline."""
        return self.data[self.ends[position - 1] if position else 0 : self.ends[position]]


class _Refused(Exception):  # noqa: N818 - a verdict on one line, never seen outside
    """Carries the reason."""


def scan(frame: Frame, *, source: str) -> Batch:
    """Judge the lines of a frame. It blocks for about 2 us per line of 1 kB: call it in a worker thread.

    Raises InputError only when the calling stack leaves no room for ``MAX_DEPTH`` levels of nesting; no
    content of a line raises.
    """
    return _scan_clean(frame, source) or _scan_each(frame, source)


def without(batch: Batch, positions: Collection[int], reason: Callable[[bytes], str]) -> Batch:
    """The batch with the lines at ``positions`` turned into rejects; ``reason`` is given each such line."""
    if not positions:
        return batch
    gone = set(positions)
    kept = [position for position in range(len(batch.ends)) if position not in gone]
    lines = [batch.line(position) for position in kept]
    refused = [
        Reject(batch.source, batch.lines_no[position], batch.raw_starts[position], reason(batch.line(position)))
        for position in sorted(gone)
    ]
    return Batch(
        source=batch.source,
        data=b"".join(lines),
        ends=list(itertools.accumulate(map(len, lines))),
        raw_starts=[batch.raw_starts[position] for position in kept],
        raw_ends=[batch.raw_ends[position] for position in kept],
        lines_no=[batch.lines_no[position] for position in kept],
        keys=[batch.keys[position] for position in kept],
        rejects=sorted([*batch.rejects, *refused], key=lambda reject: reject.line),
        blank=batch.blank,
        lines=batch.lines,
        end=batch.end,
    )


def repeated_key(line: bytes) -> str:
    """The reason for a line whose key was used before."""
    return f"key {_quote(key_of(line).encode())} was already used earlier in this run; keys must be unique"


def larger_than_shard(line: bytes, max_bytes: int) -> str:
    """The reason for a line that fits no shard."""
    return f"a line of {len(line)} bytes is larger than a shard of {max_bytes} bytes; raise the limit or cut it"


def parse_request(line: bytes) -> Request:
    """A line as key and body; the body shares the line's memory. InputError if it is no such line."""
    try:
        row = _rows.decode(line)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise InputError(f"not a request line: {error} in {_quote(line)}") from error
    return Request(row.key, row.request)


def key_of(line: bytes) -> str:
    """The key of a valid line. InputError if it has none."""
    try:
        return _keys.decode(line).key
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise InputError(f"no key: {error} in {_quote(line)}") from error


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


def _scan_clean(frame: Frame, source: str) -> Batch | None:
    """The quick way, for a frame in which every line is good as it stands; None at the first that is not.

    A plain line is the wrapper as tools commonly write it: the text before the value of ``request``, that
    value, a brace. Its length leaves no room for a member given twice, so nothing needs to be searched.
    """
    ends: list[int] = []
    keys: list[bytes] = []
    end = 0
    data = frame.data
    if (
        frame.overlong
        or not data.endswith(b"\n")
        or _CR in data
        or _is_any_too_deep(data)
        or _utf8_error(data) is not None
    ):
        return None
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
    raw_ends = [frame.offset + end for end in ends]
    first = frame.line + 1
    return Batch(
        source=source,
        data=data,
        ends=ends,
        raw_starts=[frame.offset, *raw_ends[:-1]],
        raw_ends=raw_ends,
        lines_no=range(first, first + len(ends)),
        keys=digests(keys),
        rejects=[],
        blank=0,
        lines=len(ends),
        end=frame.end,
    )


def _scan_each(frame: Frame, source: str) -> Batch:
    """The careful way: each line by itself, with a reason for each that is refused."""
    kept: list[bytes] = []
    starts: list[int] = []
    stops: list[int] = []
    numbers: list[int] = []
    keys: list[bytes] = []
    rejects: list[Reject] = []
    blank = 0
    number, offset = frame.line, frame.offset
    for line in io.BytesIO(frame.data):
        number += 1
        start, offset = offset, offset + len(line)
        text = line.removesuffix(b"\n").rstrip(b"\r")
        if not text.strip(_BLANK):
            blank += 1
            continue
        try:
            keys.append(_judge(text))
        except _Refused as refused:
            rejects.append(Reject(source, number, start, str(refused)))
            continue
        kept.append(text + b"\n")
        starts.append(start)
        stops.append(offset)
        numbers.append(number)
    if frame.overlong:
        number += 1
        rejects.append(_overlong(frame.overlong, source))
    data = b"".join(kept)
    return Batch(
        source=source,
        data=frame.data if data == frame.data else data,
        ends=list(itertools.accumulate(map(len, kept))),
        raw_starts=starts,
        raw_ends=stops,
        lines_no=numbers,
        keys=digests(keys),
        rejects=rejects,
        blank=blank,
        lines=number - frame.line,
        end=frame.end,
    )


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


def _judge(line: bytes) -> bytes:
    """The key of a line without its newline; raises _Refused."""
    _check_text(line)
    if _is_too_deep(line):
        raise _Refused(f"nested deeper than {MAX_DEPTH} levels")
    try:
        key = _wrappers.decode(line).key.encode()
        doubled = _doubled(line)
    except msgspec.ValidationError as error:
        raise _Refused(f'{error}; a line is {{"key": "…", "request": {{…}}}}, but this is {_quote(line)}') from error
    except msgspec.MsgspecError as error:
        raise _Refused(_malformed(line, str(error))) from error
    except RecursionError:
        raise InputError(
            f"no room on the stack to parse {MAX_DEPTH} levels; call from fewer frames, or raise the recursion limit"
        ) from None
    if doubled:
        raise _Refused(f'the member "{doubled}" is given twice in one line: {_quote(line)}')
    _check_key(key)
    return key


def _check_text(line: bytes) -> None:
    if line.startswith(BOM):
        raise _Refused("a byte order mark in the middle of the input; it may stand only at the very start")
    if line.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise _Refused("UTF-16 text; convert the input to UTF-8")
    if _NUL in line:
        raise _Refused(f"a NUL byte at byte {line.index(0)} of the line; if this is UTF-16, convert it to UTF-8")
    bad = _utf8_error(line)
    if bad is not None:
        raise _Refused(f"not UTF-8 at byte {bad} of the line: {_quote(line, bad)}")


def _check_key(key: bytes) -> None:
    if not key:
        raise _Refused('the member "key" is empty')
    if len(key) > MAX_KEY_BYTES:
        raise _Refused(f"a key of {len(key)} bytes, above the limit of {MAX_KEY_BYTES}: {_quote(key)}")
    if _NUL in key:
        raise _Refused(f"the key contains U+0000: {_quote(key)}")


def _malformed(line: bytes, error: str) -> str:
    if _LONE_SURROGATE.match(line):
        return f"half of a surrogate pair (\\ud800 to \\udfff) stands alone, and is no character: {_quote(line)}"
    place = _POSITION.search(error)
    return f"{error}: {_quote(line, int(place[1]) if place else 0)}"


def _overlong(line: Overlong, source: str) -> Reject:
    reason = f"a line of {line.length} bytes, above the limit of {line.limit}"
    return Reject(source, line.line, line.offset, reason)


def _is_any_too_deep(data: bytes) -> bool:
    """Looks closer only if some line opens more brackets than may be open at once, strings included."""
    return max(map(len, data.translate(None, _NOT_OPENING).split(b"\n"))) > MAX_DEPTH and any(
        map(_is_too_deep, io.BytesIO(data))
    )


def _is_too_deep(line: bytes) -> bool:
    if len(line.translate(None, _NOT_OPENING)) <= MAX_DEPTH:
        return False
    # With escapes gone each quote opens or closes a string; a pair side by side changes nothing for the rest.
    bare = line.replace(b"\\\\", b"").replace(b'\\"', b"").translate(None, _NOT_STRUCTURE).replace(b'""', b"")
    brackets = b"".join(bare.split(b'"')[::2])
    return any(depth > MAX_DEPTH for depth in itertools.accumulate(map(_STEPS.__getitem__, brackets)))


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


def _quote(line: bytes, at: int = 0) -> str:
    """At most ``QUOTE_BYTES`` of a line, from a little before ``at``, with control characters escaped."""
    start = max(0, at - 40)
    piece = line[start : start + QUOTE_BYTES].rstrip(b"\r\n").decode("utf-8", "backslashreplace")
    return f"{'…' if start else ''}{piece!r}{'…' if start + QUOTE_BYTES < len(line) else ''}"
