"""The shape of a service's lines: members of a request and of a result, and which errors pass.

A shape is a small value: worker processes get it as JSON.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Annotated, TypeVar, cast

import msgspec
from msgspec import Meta, Raw, Struct

from .._model import Verdict
from .._options import MAX_KEY_BYTES
from .json_text import without_surrogates
from .retry import TRANSIENT

T = TypeVar("T", bound=Struct)


class Generation(Struct, frozen=True, kw_only=True):
    """Where the response of a generating model has its content, and what its reasons for ending mean."""

    candidates: str
    #: From a candidate to the list of its parts.
    parts: tuple[str, str]
    finish: str
    #: Reasons of an answer that ended by itself, and the classes of others. One in neither says nothing.
    complete: tuple[str, ...]
    classes: tuple[tuple[str, Verdict], ...]
    #: From the response to the reason why the prompt was refused.
    refusal: tuple[str, str]
    #: Members of a response that are no content.
    envelope: tuple[str, ...]
    #: Where a complete answer ends in the usual spellings: any byte but a quote before it is the end of a text. And
    #: what a vector begins with. Both save a closer look.
    usual: tuple[str, ...] = ()
    vector: tuple[str, ...] = ()


class LineShape(Struct, frozen=True, kw_only=True, cache_hash=True):
    """Names of members. The defaults are packtrain's own lines."""

    #: Of a request line: what it is known by, and the request itself, a JSON object.
    key: str = "key"
    request: str = "request"
    #: Of a result line, which has the key as well: the answer or the error; an absent member and a null one are none.
    response: str = "response"
    error: str = "error"
    #: Codes by which an error passes, so that the same request may fare better another time: numbers, and names in
    #: upper case. A number that is in neither list is read as an HTTP status.
    passing: tuple[int | str, ...] = ()
    lasting: tuple[int | str, ...] = ()
    #: Of the passing ones, those of lines that a cancelled job did not come to: a person alone asks them again.
    cancelled: tuple[int | str, ...] = ()
    #: None for responses that are not looked into.
    generation: Generation | None = None


#: packtrain's own shape.
OWN = LineShape()


class AnyObject(Struct, gc=False):
    """Matches any JSON object, and checks its content without building it."""


class Key(Struct, gc=False):
    """The key alone."""

    key: str


class Row(Key, gc=False):
    """A request line with the text of its request."""

    request: Raw


class CheckedRow(Key, gc=False):
    """A request line whose request is a JSON object."""

    request: AnyObject


class ResultLine(Struct, frozen=True):
    """A result line; the order of its members varies. An absent member is empty, a null one is none."""

    key: str
    # Not ``Raw | None``: the parser takes such a union to allow null alone.
    response: Raw = Raw()
    error: Raw = Raw()

    @property
    def answered(self) -> bool:
        return is_given(self.response) and not is_given(self.error)


class Answer(Struct, gc=False, forbid_unknown_fields=True):
    """A result line that is an answer and nothing else."""

    key: Annotated[str, Meta(max_length=MAX_KEY_BYTES)]
    response: AnyObject


def is_given(member: Raw) -> bool:
    """Whether a member is there and not null."""
    size = memoryview(member).nbytes
    return size > 4 or (size > 0 and bytes(member) != b"null")


def is_parsed(text: Raw) -> bool:
    """Whether the parser takes it: it refuses half surrogate pairs, and too many levels."""
    try:
        msgspec.json.decode(text, type=Raw)
    except (msgspec.MsgspecError, RecursionError):
        return False
    return True


class Parsers:
    """The parsers of one shape. Made by ``parsers``."""

    def __init__(self, shape: LineShape) -> None:
        names: dict[str, str] = {
            name: value for name, value in msgspec.structs.asdict(shape).items() if isinstance(value, str)
        }
        self.key = msgspec.json.Decoder(_renamed(Key, names))
        self.row = msgspec.json.Decoder(_renamed(Row, names))
        self.checked = msgspec.json.Decoder(_renamed(CheckedRow, names))
        self.result = msgspec.json.Decoder(_renamed(ResultLine, names))
        self.answer = msgspec.json.Decoder(_renamed(Answer, names))
        generation = shape.generation
        self.usual = [text.encode() for text in generation.usual] if generation else []
        self.vector = [text.encode() for text in generation.vector] if generation else []
        #: A line as most tools write it, with a key without escapes.
        self.plain = re.compile(rb'\{"%b": ?"([^"\\]+)"' % re.escape(shape.key.encode()))


@lru_cache(maxsize=8)
def parsers(shape: LineShape) -> Parsers:
    """The parsers of a shape, made once in a process."""
    return Parsers(shape)


def _renamed(kind: type[T], names: dict[str, str]) -> type[T]:
    """The struct with the shape's names in JSON; its own attributes keep theirs."""
    fields, config = msgspec.structs.fields(kind), kind.__struct_config__
    if all(names[field.name] == field.name for field in fields):
        return kind
    made = msgspec.defstruct(
        kind.__name__,
        [(field.name, field.type) if field.required else (field.name, field.type, field.default) for field in fields],
        bases=(kind,),
        rename={field.name: names[field.name] for field in fields},
        frozen=config.frozen,
        gc=config.gc,
        forbid_unknown_fields=config.forbid_unknown_fields,
    )
    return cast("type[T]", made)


class _Error(Struct):
    code: int | str | None = None
    status: str | None = None


_error = msgspec.json.Decoder(_Error)


def is_retryable(error: Raw, shape: LineShape) -> bool:
    """Whether the error of a row is one that passes: by number or name in its shape, or by HTTP status."""
    try:
        said = _error.decode(without_surrogates(bytes(error)))
    except (msgspec.MsgspecError, RecursionError):
        return False
    passing, lasting = _codes(shape)
    if isinstance(said.code, int):
        return said.code in passing or (said.code not in lasting and said.code in TRANSIENT)
    return str(said.code or said.status).upper() in passing


def is_cancelled(error: Raw, shape: LineShape) -> bool:
    """Whether the error of a row says that its job was cancelled before it came to the line."""
    try:
        said = _error.decode(without_surrogates(bytes(error)))
    except (msgspec.MsgspecError, RecursionError):
        return False
    return said.code in shape.cancelled or str(said.code or said.status).upper() in shape.cancelled


@lru_cache(maxsize=8)
def _codes(shape: LineShape) -> tuple[frozenset[int | str], frozenset[int | str]]:
    return frozenset(shape.passing), frozenset(shape.lasting)
