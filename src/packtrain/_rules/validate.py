"""Validation of request lines: one block of lines at a time, with a reason for each rejected line."""

from __future__ import annotations

import codecs
import io
import itertools
import json
import re
from base64 import b64encode
from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

import msgspec
from msgspec import Raw, Struct

from .._errors import InputError
from .._model import Reject, Request
from .._options import MAX_DEPTH, MAX_KEY_BYTES, MIB
from .framing import BOM
from .json_text import utf8_error
from .keys import digests
from .lines import OWN, LineShape, parsers

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator

    from .framing import Overlong, RawBlock

QUOTE_BYTES = 200

#: Lines validated at once, in bytes: few enough that their parsed form stays in the processor's cache.
_GROUP = MIB // 64
_PIECE = MIB // 4
# As numbers, because ``in`` takes ten times as long with bytes of length one.
_NUL, _CR, _OBJECT = b"\0\r{"
_NOT_BRACKETS = bytes(set(range(256)) - set(b"{}[]"))
_STEPS = [(byte in b"{[") - (byte in b"}]") for byte in range(256)]
_LONE_SURROGATE = re.compile(
    rb"(?:[^\\]++|\\[^u]|\\u(?![dD][89a-fA-F])|\\u[dD][89abAB]..\\u[dD][c-fC-F]..)*+\\u[dD][89a-fA-F]", re.DOTALL
)
_KEY_HINT = re.compile(r'"(?:key|id|custom_id)"\s*:\s*("(?:[^"\\]|\\.)*"|-?\d{1,40}(?![\d.eE]))')
_POSITION = re.compile(r"\(byte (\d+)\)")


class _Names:
    """The names of a shape's two members, as a valid line spells them."""

    def __init__(self, shape: LineShape) -> None:
        self.key, self.request = shape.key, shape.request
        key, request = shape.key.encode(), shape.request.encode()
        # A line without its key and the value of the request has so many bytes at least: {"key":"","request":} and the
        # newline. A member more takes six at least, as ,"":{} does, and one of these two a second time takes seven. So
        # with five bytes to spare nothing is given twice, and the value last before the brace is that of the request.
        self.most = len(b'{"":"","":}\n') + len(key) + len(request) + len(b',"":{}') - 1
        #: Text before the key and between it and the request, as written by most tools and by json.dumps.
        self.spellings = (
            (b'{"%b":"' % key, b'","%b":' % request),
            (b'{"%b": "' % key, b'", "%b": ' % request),
        )
        self.quoted = (b'"%b"' % key, b'"%b"' % request)
        # An escaped spelling of either name needs the escape of one of its letters.
        high = sorted({b"%x" % (byte >> 4) for byte in key + request})
        self.escapes = [b"\\u00" + digit for digit in high]
        self.anywhere = re.compile(b"|".join([*map(re.escape, self.quoted), rb"\\u00[%b]" % b"".join(high)]))


@lru_cache(maxsize=8)
def _names(shape: LineShape) -> _Names:
    return _Names(shape)


# Numbers stay text, because the standard library refuses integers above 4,300 digits.
_members = json.JSONDecoder(object_pairs_hook=lambda pairs: [name for name, _ in pairs], parse_int=str, parse_float=str)


class Refused(Exception):  # noqa: N818 - a verdict on one line
    """Carries the reason."""


def judge_all(data: bytes, shape: LineShape = OWN) -> tuple[list[int], list[bytes]] | None:
    """End and key of each line, or None unless every line is valid as it is. The fast way."""
    if not data.endswith(b"\n"):
        return None
    sizes: list[int] = []
    keys: list[bytes] = []
    for lines in groups(data):
        found = judge_group(lines, shape)
        if found is None:
            return None
        sizes += map(len, lines)
        keys += found
    return list(itertools.accumulate(sizes)), keys


def groups(data: bytes) -> Iterator[list[bytes]]:
    """The lines, with their newlines, some at a time."""
    reader = io.BytesIO(data)
    while lines := reader.readlines(_GROUP):
        yield lines


def judge_group(lines: list[bytes], shape: LineShape = OWN) -> list[bytes] | None:
    """The key of each line, or None unless every line is valid as it is.

    One check of all lines costs less than a check of each.
    """
    text, names = b"".join(lines), _names(shape)
    if _CR in text or _is_any_too_deep(lines, text):
        return None
    # No character goes across a newline, so lines put together are UTF-8 when each of them is.
    if not text.isascii() and utf8_error(b"".join([line for line in lines if not line.isascii()])) is not None:
        return None
    try:
        rows = list(map(parsers(shape).row.decode, lines))
        keys = [row.key.encode() for row in rows]
        if not all(keys) or max(map(len, keys)) > MAX_KEY_BYTES or _NUL in b"".join(keys):
            return None
        plain = max([len(line) - len(key) - len(row.request) for line, key, row in zip(lines, keys, rows, strict=True)])
        if plain <= names.most and all(map(bytes.endswith, lines, itertools.repeat(b"}}\n"))):
            return keys
        single = all(
            memoryview(row.request)[0] == _OBJECT and _is_single(line, key, row.request, names)
            for line, key, row in zip(lines, keys, rows, strict=True)
        )
    except (msgspec.MsgspecError, RecursionError):
        return None
    return keys if single else None


def judge(line: bytes, shape: LineShape = OWN) -> bytes:
    """The key of a line without its newline; raises Refused."""
    names = _names(shape)
    _check_text(line)
    if _is_too_deep(line):
        raise Refused(f"nested deeper than {MAX_DEPTH} levels")
    try:
        key = parsers(shape).checked.decode(line).key.encode()
        doubled = _doubled(line, names)
    except msgspec.ValidationError as error:
        wanted = f'{{"{shape.key}": "…", "{shape.request}": {{…}}}}'
        raise Refused(f"{error}; a line is {wanted}, but this is {quote(line)}") from error
    except msgspec.MsgspecError as error:
        raise Refused(_malformed(line, str(error))) from error
    except RecursionError:
        raise InputError(
            f"no room on the stack to parse {MAX_DEPTH} levels; call from fewer frames, or raise the recursion limit"
        ) from None
    if doubled:
        raise Refused(f'the member "{doubled}" is given twice in one line: {quote(line)}')
    _check_key(key, shape)
    return key


def _is_single(line: bytes, key: bytes, body: Raw, names: _Names) -> bool:
    """Neither member is given twice; for a parsed line of which ``body`` is the last ``request``."""
    for before, behind in names.spellings:
        head = before + key + behind
        if line.startswith(head) and line.startswith(memoryview(body), len(head)):
            rest = line[len(head) + len(body) :]
            if not names.anywhere.search(rest) and head.count(b'"') == 6 and b"\\" not in head:
                return True
    return _doubled(line, names) is None


def _doubled(line: bytes, names: _Names) -> str | None:
    """The wrapper's member that a valid line gives twice, if any, in whatever spelling."""
    once = all(line.count(name) == 1 for name in names.quoted)
    if once and not any(escape in line for escape in names.escapes):
        return None
    members = _members.decode(line.decode())
    return next((name for name in (names.key, names.request) if members.count(name) > 1), None)


def _check_text(line: bytes) -> None:
    if line.startswith(BOM):
        raise Refused("a byte order mark in the middle of the input; it may stand only at the very start")
    if line.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise Refused("UTF-16 text; convert the input to UTF-8")
    if _NUL in line:
        raise Refused(f"a NUL byte at byte {line.index(0)} of the line; if this is UTF-16, convert it to UTF-8")
    bad = utf8_error(line)
    if bad is not None:
        raise Refused(f"not UTF-8 at byte {bad} of the line: {quote(line, bad)}")


def _check_key(key: bytes, shape: LineShape) -> None:
    if not key:
        raise Refused(f'the member "{shape.key}" is empty')
    if len(key) > MAX_KEY_BYTES:
        raise Refused(f"a key of {len(key)} bytes, above the limit of {MAX_KEY_BYTES}: {quote(key)}")
    if _NUL in key:
        raise Refused(f"the key contains U+0000: {quote(key)}")


def _malformed(line: bytes, error: str) -> str:
    if _LONE_SURROGATE.match(line):
        return f"half of a surrogate pair (\\ud800 to \\udfff) stands alone, and is no character: {quote(line)}"
    place = _POSITION.search(error)
    return f"{error}: {quote(line, int(place[1]) if place else 0)}"


def _is_any_too_deep(lines: list[bytes], text: bytes) -> bool:
    """Looks closer only where a line may have more opening brackets than may be open at once, strings included.

    The wrapper and its request take two in each line that is good.
    """
    return _opening(text) > MAX_DEPTH + 2 * (len(lines) - 1) and any(map(_is_too_deep, lines))


def _is_too_deep(line: bytes) -> bool:
    if _opening(line) <= MAX_DEPTH:
        return False
    brackets = itertools.chain.from_iterable(_brackets(line))
    return any(depth > MAX_DEPTH for depth in itertools.accumulate(map(_STEPS.__getitem__, brackets)))


def _opening(text: bytes) -> int:
    # replace() leaps from hit to hit, and is several times faster than count(), which looks at each byte.
    return 2 * len(text) - len(text.replace(b"{", b"")) - len(text.replace(b"[", b""))


def _brackets(line: bytes) -> Iterator[bytes]:
    """The brackets outside of strings, piece by piece, since a line may consist of little else than quotes."""
    line = line.replace(b"\\\\", b"").replace(b'\\"', b"")  # now each quote opens or closes a string
    inside = 0
    for at in range(0, len(line), _PIECE):
        parts = line[at : at + _PIECE].split(b'"')
        yield b"".join(parts[inside::2]).translate(None, _NOT_BRACKETS)
        inside = (inside + len(parts) - 1) % 2


def quote(line: bytes, at: int = 0) -> str:
    """At most ``QUOTE_BYTES`` of a line, from a little before ``at``, with control characters escaped."""
    start = max(0, at - 40)
    piece = line[start : start + QUOTE_BYTES].rstrip(b"\r\n").decode("utf-8", "backslashreplace")
    return f"{'…' if start else ''}{piece!r}{'…' if start + QUOTE_BYTES < len(line) else ''}"


def key_of(line: bytes, shape: LineShape = OWN) -> str:
    """The key of a valid line. InputError if it has none."""
    try:
        return parsers(shape).key.decode(line).key
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise InputError(f"no key: {error} in {quote(line)}") from error


def encode_line(request: Request | dict[str, object] | bytes, shape: LineShape = OWN) -> bytes:
    """A row given in Python as one line with its newline. It is validated later, like any line of a file.

    Raises TypeError for other types and for members that have no JSON form, InputError for a body of several
    lines.
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
    key, value = shape.key.encode(), shape.request.encode()
    return b'{"%b":%b,"%b":%b}\n' % (key, msgspec.json.encode(request.key), value, body)


_BLANK = b" \t\r"
_CR = ord("\r")


class Block(Struct, frozen=True, kw_only=True):
    """A validated block. The lists from ``ends`` to ``keys`` run parallel, one entry an accepted line.

    Lines are counted from the start of the block, until ``numbered`` counts them from the start of the source.
    """

    source: str
    #: The accepted lines in order, each with one newline: the block's own object if nothing had to change.
    data: bytes
    #: End of each line within ``data``.
    ends: Sequence[int]
    #: Offset of the block in the source.
    offset: int
    #: Start of each line in the block, and the end behind its newline.
    raw_starts: Sequence[int]
    raw_ends: Sequence[int]
    #: Number of each line, from 1.
    lines_no: Sequence[int]
    #: Digest of each line's key.
    keys: list[bytes]
    #: In the order of the source.
    rejects: list[Reject]
    blank: int
    #: Numbers of lines that are not asked, because their keys have answers.
    skipped: tuple[int, ...] = ()
    #: Lines of any kind: accepted, rejected, skipped and blank.
    lines: int
    #: Offset of its end in the source.
    end: int

    def line(self, position: int) -> bytes:
        """An accepted line, with its newline."""
        return self.data[self.ends[position - 1] if position else 0 : self.ends[position]]

    def start(self, position: int) -> int:
        """Where an accepted line starts in the source."""
        return self.offset + self.raw_starts[position]


def scan(raw: RawBlock, *, source: str, shape: LineShape = OWN) -> Block:
    """Validate the lines of a block. It blocks for about 2 us per line of 1 kB: call it in a worker thread or process.

    Raises InputError only when the calling stack leaves no room for ``MAX_DEPTH`` levels of nesting; no
    content of a line raises.
    """
    return _scan_clean(raw, source, shape) or _scan_each(raw, source, shape)


def numbered(block: Block, before: int) -> Block:
    """The block with its lines counted from the start of the source, where ``before`` lines come before them."""
    if not before:
        return block
    numbers = block.lines_no
    return msgspec.structs.replace(
        block,
        lines_no=range(numbers.start + before, numbers.stop + before)
        if isinstance(numbers, range)
        else [number + before for number in numbers],
        rejects=[msgspec.structs.replace(reject, line=reject.line + before) for reject in block.rejects],
    )


def without(block: Block, positions: Collection[int], reason: Callable[[bytes], str] | None) -> Block:
    """The block with the lines at ``positions`` turned into rejects; ``reason`` is given each such line. Without a
    reason they are skipped."""
    if not positions:
        return block
    gone = set(positions)
    kept = [position for position in range(len(block.ends)) if position not in gone]
    lines = [block.line(position) for position in kept]
    refused = (
        []
        if reason is None
        else [
            rejected(block.source, block.lines_no[position], block.start(position), reason(line), line)
            for position in sorted(gone)
            for line in (block.line(position),)
        ]
    )
    skipped = () if reason else [block.lines_no[position] for position in sorted(gone)]
    return msgspec.structs.replace(
        block,
        data=b"".join(lines),
        ends=list(itertools.accumulate(map(len, lines))),
        raw_starts=[block.raw_starts[position] for position in kept],
        raw_ends=[block.raw_ends[position] for position in kept],
        lines_no=[block.lines_no[position] for position in kept],
        keys=[block.keys[position] for position in kept],
        skipped=(*block.skipped, *skipped),
        rejects=sorted([*block.rejects, *refused], key=lambda reject: reject.line),
    )


def rejected(source: str, number: int, offset: int, reason: str, line: bytes) -> Reject:
    """A reject with its line, of which the newline is left out."""
    line = line.removesuffix(b"\n")
    try:
        return Reject(source, number, offset, reason, text=line.decode())
    except UnicodeDecodeError:
        return Reject(source, number, offset, reason, base64=b64encode(line).decode())


def key_hint(text: str) -> str:
    """The key that a rejected line seems to have; empty where none is found."""
    found = _KEY_HINT.search(text)
    if found is None:
        return ""
    try:
        value = msgspec.json.decode(found[1])
    except msgspec.MsgspecError:
        return ""
    return str(value)


def repeated_key(line: bytes, shape: LineShape = OWN) -> str:
    """The reason for a line whose key was used before."""
    return f"key {quote(key_of(line, shape).encode())} was already used earlier in this run; keys must be unique"


def larger_than_shard(line: bytes, max_bytes: int) -> str:
    """The reason for a line that fits no shard."""
    return f"a line of {len(line)} bytes is larger than a shard of {max_bytes} bytes; raise the limit or cut it"


def _scan_clean(raw: RawBlock, source: str, shape: LineShape) -> Block | None:
    """A block in which every line is valid, with all its lines ending alike; None for any other."""
    if raw.overlong:
        return None
    data = raw.data.replace(b"\r\n", b"\n") if _CR in raw.data else raw.data
    found = judge_all(data, shape)
    if found is None:
        return None
    ends, keys = found
    trimmed, uneven = divmod(len(raw.data) - len(data), len(ends))
    if uneven:
        return None
    raw_ends = [end + number * trimmed for number, end in enumerate(ends, 1)] if trimmed else ends
    return clean(raw, data, ends, digests(keys), source=source, raw_ends=raw_ends)


def clean(
    raw: RawBlock, data: bytes, ends: Sequence[int], keys: list[bytes], *, source: str, raw_ends: Sequence[int]
) -> Block:
    """A block of which every line is accepted."""
    return Block(
        source=source,
        data=data,
        ends=ends,
        offset=raw.offset,
        raw_starts=[0, *raw_ends[:-1]],
        raw_ends=raw_ends,
        lines_no=range(1, len(ends) + 1),
        keys=keys,
        rejects=[],
        blank=0,
        lines=len(ends),
        end=raw.end,
    )


def _scan_each(raw: RawBlock, source: str, shape: LineShape) -> Block:
    """Each line of a group that is not all valid by itself, with a reason for each rejected one. The slow way."""
    found = _Found(raw, source, shape)
    for lines in groups(raw.data):
        keys = judge_group(lines, shape) if lines[-1].endswith(b"\n") else None
        if keys is None:
            for line in lines:
                found.judge(line)
        else:
            found.take(lines, keys)
    return found.block()


class _Found:
    """The verdicts on the lines of a block so far."""

    def __init__(self, raw: RawBlock, source: str, shape: LineShape) -> None:
        self._raw = raw
        self._shape = shape
        self._source = source
        self._kept: list[bytes] = []
        self._starts: list[int] = []
        self._stops: list[int] = []
        self._numbers: list[int] = []
        self._keys: list[bytes] = []
        self._rejects: list[Reject] = []
        self._blank = self._number = self._stop = 0

    def take(self, lines: list[bytes], keys: list[bytes]) -> None:
        """The next lines, all of them valid."""
        ends = [*itertools.accumulate(map(len, lines), initial=self._stop)]
        self._kept += lines
        self._starts += ends[:-1]
        self._stops += ends[1:]
        self._numbers += range(self._number + 1, self._number + len(lines) + 1)
        self._keys += keys
        self._number += len(lines)
        self._stop = ends[-1]

    def judge(self, line: bytes) -> None:
        """The next line, not validated yet."""
        text = line.removesuffix(b"\n").rstrip(b"\r")
        self._number += 1
        start, self._stop = self._stop, self._stop + len(line)
        if not text.strip(_BLANK):
            self._blank += 1
            return
        try:
            self._keys.append(judge(text, self._shape))
        except Refused as refused:
            self._rejects.append(rejected(self._source, self._number, self._raw.offset + start, str(refused), line))
            return
        self._kept.append(text + b"\n")
        self._starts.append(start)
        self._stops.append(self._stop)
        self._numbers.append(self._number)

    def block(self) -> Block:
        raw, data = self._raw, b"".join(self._kept)
        rejects, lines = self._rejects, self._number
        if raw.overlong:
            lines += 1
            rejects = [*rejects, _overlong(raw.overlong, lines, self._source)]
        return Block(
            source=self._source,
            data=raw.data if data == raw.data else data,
            ends=list(itertools.accumulate(map(len, self._kept))),
            offset=raw.offset,
            raw_starts=self._starts,
            raw_ends=self._stops,
            lines_no=self._numbers,
            keys=digests(self._keys),
            rejects=rejects,
            blank=self._blank,
            lines=lines,
            end=raw.end,
        )


def _overlong(line: Overlong, number: int, source: str) -> Reject:
    reason = f"a line of {line.length} bytes, above the limit of {line.limit}"
    return msgspec.structs.replace(rejected(source, number, line.offset, reason, line.head), length=line.length)
