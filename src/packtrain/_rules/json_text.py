"""JSON text read as bytes: members of an object found without parsing their values, and a strict check of the grammar.

Both need memory for the open brackets only, however deep and long the text is.
"""

from __future__ import annotations

import codecs
import json
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection

BLANK = b" \t\r\n"

# As numbers, because bytes are indexed by them.
_QUOTE, _BACKSLASH, _COLON, _COMMA = b'"\\:,'
_OPENING = frozenset(b"{[")
_BRACKETS = re.compile(rb'["{}\[\]]')
_TOP = re.compile(rb'["{}\[\],:]')
_INSIDE = re.compile(rb'(?:[^"\\]++|\\.)*+', re.DOTALL)
#: The last members of a line, of which the given one is the first, when all are short.
_TAIL = rb"""
    "%b" [\ \t]* : [\ \t]* "( (?: [^"\\]++ | \\. )*+ )" [\ \t]*
    (?: , [\ \t]* "\w+" [\ \t]* : [\ \t]* (?: null | "[^"\\]*+" | [-\d.]+ ) [\ \t]* )* } \s* \Z
"""
_TAIL_BYTES = 32 * 1024


class MemberScanner:
    """Finds members of one JSON object. ``feed`` its bytes in order, in pieces of any size.

    Tolerant: only quotes and brackets count, so the values need not be JSON. Of two with one name the last counts.
    At most ``most`` bytes of a string are kept, and a longer one is not found.
    """

    def __init__(self, names: Collection[str], most: int) -> None:
        self._names = {name.encode(): name for name in names}
        self._most = most
        #: Start and end of each value.
        self.spans: dict[str, tuple[int, int]] = {}
        #: What is between the quotes, of values that are strings.
        self.strings: dict[str, bytes] = {}
        #: The last byte was a newline.
        self.ended = False
        self._position = self._depth = 0
        self._in_string = self._escaped = self._closed = self._trailing = False
        #: The last string at the top, and where it began.
        self._text = bytearray()
        self._text_start = 0
        #: The member whose value is read, its start, and the string that it is.
        self._name: str | None = None
        self._start = 0
        self._value: bytes | None = None

    @property
    def complete(self) -> bool:
        """The object has ended, and nothing but blanks follows it."""
        return self._closed and not self._trailing

    def feed(self, data: bytes) -> None:
        self.ended = data.endswith(b"\n")
        at = 0
        if self._escaped and data:
            self._keep(data[:1])
            self._escaped, at = False, 1
        while at < len(data):
            if self._closed:
                self._trailing = self._trailing or bool(data[at:].strip(BLANK))
                break
            at = self._read_string(data, at) if self._in_string else self._read_structure(data, at)
        self._position += len(data)

    def _read_string(self, data: bytes, at: int) -> int:
        matched = _INSIDE.match(data, at)
        stop = matched.end() if matched else at
        self._keep(data[at : min(stop, at + self._most + 1)])
        if stop == len(data):
            return stop
        if data[stop] == _BACKSLASH:
            self._keep(data[stop : stop + 1])
            self._escaped = True
        else:
            self._in_string = False
        return stop + 1

    def _keep(self, piece: bytes) -> None:
        if self._depth == 1 and len(self._text) <= self._most:
            self._text += piece

    def _read_structure(self, data: bytes, at: int) -> int:
        found = (_TOP if self._depth == 1 else _BRACKETS).search(data, at)
        if found is None:
            return len(data)
        place, byte = found.start(), data[found.start()]
        if byte == _QUOTE:
            self._begin_string(self._position + place)
        elif byte == _COLON:
            self._begin_value(self._position + place + 1)
        elif byte == _COMMA:
            self._end_value(self._position + place)
        elif byte in _OPENING:
            self._depth += 1
        else:
            self._close(self._position + place)
        return place + 1

    def _begin_string(self, at: int) -> None:
        self._in_string = True
        if self._depth == 1:
            self._take_string()
            self._text, self._text_start = bytearray(), at

    def _take_string(self) -> None:
        """The first string behind a colon is the value, if it was read to its end."""
        if self._name is not None and self._value is None and self._text_start >= self._start:
            self._value = bytes(self._text)

    def _begin_value(self, at: int) -> None:
        if self._name is not None:
            # The comma before this member is missing.
            self._end_value(self._text_start)
        self._name = self._names.get(bytes(self._text), "")
        self._start, self._value = at, None

    def _end_value(self, at: int) -> None:
        if self._name:
            self._take_string()
            self.spans[self._name] = (self._start, at)
            self.strings.pop(self._name, None)
            if self._value is not None and len(self._value) <= self._most:
                self.strings[self._name] = self._value
        self._name = None

    def _close(self, at: int) -> None:
        if self._depth == 1:
            self._end_value(at)
            self._closed = True
        self._depth = max(0, self._depth - 1)


def key_at_end(line: bytes, name: str) -> bytes | None:
    """What is between the quotes of a member among the last of a line, whatever comes before it."""
    tail = line[-_TAIL_BYTES:]
    start = tail.rfind(b'"%b"' % name.encode())
    found = (
        re.compile(_TAIL % re.escape(name.encode()), re.DOTALL | re.VERBOSE).match(tail, start) if start >= 0 else None
    )
    return found[1] if found else None


def decode_string(raw: bytes) -> str | None:
    """The text of a string between its quotes, control characters allowed; None when it can't be a text."""
    try:
        text = json.loads(b'"%b"' % raw, strict=False)
        text.encode()
    except (ValueError, RecursionError):
        return None
    return str(text)


# The strict grammar, RFC 8259.

_STRING = rb'"(?:[^"\\\x00-\x1f]++|\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4}))*+'
_SCALAR = rb"-?(?:0|[1-9][0-9]*+)(?:\.[0-9]++)?(?:[eE][+-]?[0-9]++)?|true|false|null"
_TOKEN = re.compile(rb'[ \t\r\n]*+(?:([{\[])|([}\]])|(,)|(:)|(%b")|(%b))' % (_STRING, _SCALAR))
_STRING_START = re.compile(_STRING)
_OPEN, _CLOSE, _SEPARATOR, _NAME_END, _TEXT, _OTHER = range(1, 7)
#: What may come next: the groups of ``_TOKEN``.
_VALUE = frozenset({_OPEN, _TEXT, _OTHER})
_VALUE_OR_CLOSE = _VALUE | {_CLOSE}
_NAME = frozenset({_TEXT})
_NAME_OR_CLOSE = frozenset({_TEXT, _CLOSE})
_COLON_NEXT = frozenset({_NAME_END})
_AFTER = frozenset({_SEPARATOR, _CLOSE})
_NOTHING: frozenset[int] = frozenset()
_PARTNER = {ord("}"): ord("{"), ord("]"): ord("[")}
_NO_NUMBERS = (b"NaN", b"Infinity", b"-Infinity")
_PIECE = 256 * 1024


def flaw(text: bytes) -> str | None:
    """Why a text is not one JSON value in UTF-8, with the place; None when it is.

    Half surrogate pairs are allowed as escapes, since the grammar has them, and any depth is.
    """
    bad = utf8_error(text)
    if bad is not None:
        return f"not UTF-8 at byte {bad}"
    stack, at, expected = bytearray(), 0, _VALUE
    while found := _TOKEN.match(text, at):
        group = found.lastindex or 0
        if group not in expected:
            return _unexpected(text, found.start(group))
        if group == _OPEN:
            stack += found[0][-1:]
            expected = _NAME_OR_CLOSE if stack[-1] == _OBJECT else _VALUE_OR_CLOSE
        elif group == _SEPARATOR:
            expected = _NAME if stack[-1] == _OBJECT else _VALUE
        elif group == _NAME_END:
            expected = _VALUE
        elif group == _TEXT and stack and stack[-1] == _OBJECT and expected is not _VALUE:
            expected = _COLON_NEXT
        else:
            if group == _CLOSE and _PARTNER[found[0][-1]] != stack.pop():
                return _unexpected(text, found.start(group))
            expected = _AFTER if stack else _NOTHING
        at = found.end()
    rest = len(text) - len(text[at:].lstrip(BLANK))
    if rest == len(text):
        return None if expected is _NOTHING else f"it ends too early, at byte {rest}"
    return _unexpected(text, rest)


_OBJECT = ord("{")


def _unexpected(text: bytes, at: int) -> str:
    for word in _NO_NUMBERS:
        if text.startswith(word, at):
            return f"{word.decode()} at byte {at}"
    if text[at] == _QUOTE and (matched := _STRING_START.match(text, at)):
        at = matched.end()
        if at == len(text):
            return "a string that does not end"
        if text[at] == _BACKSLASH:
            return f"an escape that JSON does not have at byte {at}"
    if text[at] < ord(" "):
        return f"a control character, U+{text[at]:04X}, at byte {at}"
    return f"unexpected {text[at : at + 1].decode('ascii', 'backslashreplace')!r} at byte {at}"


def utf8_error(data: bytes) -> int | None:
    """Position of the first byte that is not UTF-8. In pieces, since text takes up to four times the memory."""
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


_SURROGATE = re.compile(rb"(?<!\\)((?:\\\\)*+)\\u[dD][89a-fA-F][0-9a-fA-F]{2}")


def without_surrogates(text: bytes) -> bytes:
    """The text with U+FFFD in place of every surrogate escape, so that a parser takes it; as long as before."""
    return _SURROGATE.sub(rb"\1\\uFFFD", text)
