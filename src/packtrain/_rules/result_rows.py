"""Rows of results: whose they are, and a verdict on each.

A row is read by its bytes first, so that its key is known whatever the answer is. What is passed on is strict JSON in
UTF-8; half surrogate pairs as escapes, any depth and any order of members are. All else is kept as bytes.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import msgspec
from msgspec import Raw, Struct

from .._model import Verdict
from .._options import MAX_KEY_BYTES, MB
from .json_text import MemberScanner, decode_string, flaw, key_at_end, utf8_error, without_surrogates
from .lines import is_given, is_parsed, parsers

if TYPE_CHECKING:
    from .lines import Generation, LineShape

#: Kinds of lines, the better the higher: none or blank, a row that is no answer, an answer that says little, an answer.
BLANK, FAILURE, LITTLE, ANSWER = range(4)

#: A character of a key may take six bytes, as an escape.
KEY_TEXT_BYTES = 6 * MAX_KEY_BYTES
#: A longer response has content: nothing that says little is as long.
_LOOKED_INTO = MB
_QUOTE = ord('"')

NO_OUTCOME = "the row has neither a response nor an error"


class ResultRow(Struct, frozen=True):
    """One row; ``key`` is None for a line that is no row, or has a key that no request can have."""

    key: str | None
    verdict: Verdict
    #: Why there is no answer; empty for an answer.
    reason: str = ""
    response: Raw = Raw()
    #: The service's own error.
    error: Raw = Raw()
    #: The line is whole: its last byte was not lost.
    whole: bool = True

    @property
    def kind(self) -> int:
        if self.verdict is Verdict.ANSWERED:
            return ANSWER
        return LITTLE if self.verdict.is_answer else FAILURE


def plain_keys(shape: LineShape, lines: list[bytes]) -> list[str] | None:
    """The keys of rows that all are answers in the usual form; None if one may be anything else. The fast way."""
    try:
        # No character goes across a newline, so lines put together are UTF-8 when each of them is.
        b"".join([line for line in lines if not line.isascii()]).decode()
        keys = [row.key for row in map(parsers(shape).answer.decode, lines)]
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
    return keys if _are_usual(shape, lines) else None


def _are_usual(shape: LineShape, lines: list[bytes]) -> bool:
    """Every response has content, and is complete; False if one may not be."""
    if shape.generation is None:
        return True
    known, first = parsers(shape), lines[0]
    for end in known.usual:
        if end in first:
            try:
                return _QUOTE not in [line[line.rindex(end) - 1] for line in lines]
            except ValueError:
                return False
    for start in known.vector:
        if start in first:
            return all(map(bytes.__contains__, lines, itertools.repeat(start)))
    return False


def read_row(shape: LineShape, line: bytes) -> ResultRow:
    """A line that is not blank, without the byte order mark that it may begin with. The slow way, for any line."""
    try:
        row = parsers(shape).result.decode(line)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return _read_leniently(shape, line)
    if utf8_error(line) is not None or len(row.key) > MAX_KEY_BYTES:
        return _read_leniently(shape, line)
    return _judge(shape, row.key, row.response, row.error)


def key_of_row(shape: LineShape, line: bytes) -> str | None:
    """The key of a row; None without one."""
    try:
        return parsers(shape).key.decode(line).key
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return _read_leniently(shape, line).key


def find_key(shape: LineShape, scanner: MemberScanner) -> str | None:
    """The key that a scanner has found among the members of a row."""
    text = scanner.strings.get(shape.key)
    key = None if text is None else decode_string(text)
    return key if key is not None and len(key) <= MAX_KEY_BYTES else None


def member_scanner(shape: LineShape) -> MemberScanner:
    return MemberScanner((shape.key, shape.response, shape.error), KEY_TEXT_BYTES)


def _read_leniently(shape: LineShape, line: bytes) -> ResultRow:
    scanner = member_scanner(shape)
    scanner.feed(line)
    key = find_key(shape, scanner)
    if key is None and shape.key in scanner.spans:
        key = _number(line, scanner.spans[shape.key])
    elif key is None and (text := key_at_end(line, shape.key)) is not None:
        key = decode_string(text)
    if fault := _flaw(line):
        what = "error" if shape.error in scanner.spans and shape.response not in scanner.spans else "answer"
        return ResultRow(key, Verdict.NOT_JSON, f"{what} is not JSON: {fault} of the row", whole=scanner.complete)
    response, error = (_value(line, scanner.spans.get(name)) for name in (shape.response, shape.error))
    return _judge(shape, key, response, error)


def _flaw(line: bytes) -> str | None:
    """As ``flaw``, which is slow, without it for rows that the parser takes but for half surrogate pairs."""
    plain = utf8_error(line) is None and is_parsed(Raw(without_surrogates(line)))
    return None if plain else flaw(line)


def _number(line: bytes, span: tuple[int, int]) -> str | None:
    """A key that came back as a number, as its digits."""
    text = line[slice(*span)].strip()
    return text.decode() if text.isdigit() and len(text) <= MAX_KEY_BYTES else None


def _value(line: bytes, span: tuple[int, int] | None) -> Raw:
    return Raw() if span is None else Raw(line[slice(*span)].strip())


def _judge(shape: LineShape, key: str | None, response: Raw, error: Raw) -> ResultRow:
    if is_given(error):
        return ResultRow(key, Verdict.FAILED, _reason(error), error=error)
    if not is_given(response):
        return ResultRow(key, Verdict.FAILED, NO_OUTCOME)
    verdict = Verdict.ANSWERED if shape.generation is None else _class_of(shape.generation, response)
    return ResultRow(key, verdict, response=response)


class _Error(Struct):
    """What is shown of a service's error, if it has this form."""

    message: str = ""
    code: int | str | None = None


_error = msgspec.json.Decoder(_Error)
_object = msgspec.json.Decoder(dict[str, Raw])
_objects = msgspec.json.Decoder(list[dict[str, Raw]])
_word = msgspec.json.Decoder(str)
#: Values of a part that are no content: nothing, or a mark on it.
_NOTHING = (b"", b"null", b'""', b"{}", b"[]", b"true", b"false")


def _reason(error: Raw) -> str:
    try:
        decoded = _error.decode(without_surrogates(bytes(error)))
    except (msgspec.MsgspecError, RecursionError):
        return "the service answered with an error"
    code = f" (code {decoded.code})" if decoded.code is not None else ""
    return f"{decoded.message or 'the service gave no reason'}{code}"


def _class_of(generation: Generation, response: Raw) -> Verdict:
    if memoryview(response).nbytes > _LOOKED_INTO:
        return Verdict.ANSWERED
    try:
        members = _object.decode(without_surrogates(bytes(response)))
        candidates = _objects.decode(_member(members, generation.candidates, b"[]"))
        reasons = [_word.decode(_member(candidate, generation.finish, b'""')) for candidate in candidates]
        content = any(_has_content(generation, candidate) for candidate in candidates)
        refused = generation.refusal[1] in _object.decode(_member(members, generation.refusal[0], b"{}"))
    except (msgspec.MsgspecError, RecursionError):
        return Verdict.ANSWERED  # in a form that we don't know
    if content and any(not reason or reason in generation.complete for reason in reasons):
        return Verdict.ANSWERED
    classes = dict(generation.classes)
    named = next((classes[reason] for reason in reasons if reason in classes), None)
    if named is not None:
        return named
    if content or not (generation.candidates in members or set(members) <= set(generation.envelope)):
        return Verdict.ANSWERED
    return Verdict.BLOCKED if refused else Verdict.EMPTY


def _has_content(generation: Generation, candidate: dict[str, Raw]) -> bool:
    content, parts = generation.parts
    held = _object.decode(_member(candidate, content, b"{}"))
    values = (value for part in _objects.decode(_member(held, parts, b"[]")) for value in part.values())
    return any(bytes(value) not in _NOTHING for value in values)


def _member(members: dict[str, Raw], name: str, default: bytes) -> Raw:
    """The value of a member; the default where it is not there or null."""
    value = members.get(name, Raw())
    return value if is_given(value) else Raw(default)
