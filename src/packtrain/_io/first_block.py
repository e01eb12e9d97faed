"""First block of an input, looked at as a whole before anything of it is used."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .._errors import InputError, OtherFormat
from .._rules.diagnosis import ENOUGH_LINES, HEAD_BYTES, diagnose
from . import codecs

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

    from .._rules.diagnosis import LineForm


def refuse_other_format(path: Path, form: LineForm, *, packed: bool = True) -> None:
    """Look at the first block of a file, which may be compressed unless ``packed`` is false; blocking.

    Raises OtherFormat for a file of another kind, InputDamaged for one whose compressed start is damaged, InputError
    for one that cannot be read.
    """
    try:
        head, whole = _head(path, packed=packed)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error})") from error
    _compare(str(path), head, form, whole=whole)


async def looked_at(blocks: AsyncIterator[bytes], name: str, form: LineForm) -> AsyncIterator[bytes]:
    """The blocks of a stream, which can be looked at only while it is read: as soon as there are enough lines.

    Raises OtherFormat before the block is handed on that makes them enough.
    """
    head, whole = b"", True
    async for block in blocks:
        if whole:
            head += block[: HEAD_BYTES - len(head)]
            if len(head) == HEAD_BYTES or head.count(b"\n") >= ENOUGH_LINES:
                whole = False
                _compare(name, head, form, whole=False)
                head = b""
        yield block
    if whole:
        _compare(name, head, form, whole=True)


def _compare(name: str, head: bytes, form: LineForm, *, whole: bool) -> None:
    if found := diagnose(head, form, whole=whole):
        raise OtherFormat(f"{name} {found.fact}", name=name, kind=found.kind)


def _head(path: Path, *, packed: bool) -> tuple[bytes, bool]:
    """The first bytes of a file, decompressed, and whether they are all."""
    with path.open("rb") as file:
        form = codecs.detect(file.read(codecs.HEAD_BYTES), name=str(path))
        file.seek(0)
        if form == "plain":
            plain = file.read(HEAD_BYTES)
            return plain, len(plain) < HEAD_BYTES
        if not packed:
            raise OtherFormat(
                f"{path} is compressed with {form}, which is not read here", name=str(path), kind="packed"
            )
        head = bytearray()
        decoder = codecs.decoder(str(path), form)
        for piece in _decoded(iter(lambda: file.read(HEAD_BYTES), b""), decoder):
            head += piece
            if len(head) >= HEAD_BYTES:
                return bytes(head[:HEAD_BYTES]), False
        decoder.finish()
        return bytes(head), True


def _decoded(data: Iterator[bytes], decoder: codecs.Decoder) -> Iterator[bytes]:
    for block in data:
        yield from decoder.feed(block)
