"""Landed results as values."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import aiofiles
import anyio
import msgspec
from msgspec import Raw, Struct

from .._model import Result, RowError
from .._options import MIB
from .._rules.framing import Framer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path


class _Row(Struct):
    """An answer as the service gave it, or a line of failed keys as we wrote it."""

    key: str
    response: Raw = Raw()
    # Whatever the service calls an error, which need not be an object.
    error: Raw = Raw()
    reason: str = ""


_row = msgspec.json.Decoder(_Row)
_error = msgspec.json.Decoder(RowError)


async def read_results(path: Path, offset: int = 0, length: int | None = None) -> AsyncIterator[Result]:
    """The rows of a file of answers or of failed keys, or of a piece of it, read block by block."""
    framer, left = Framer(max_line=1 << 40), sys.maxsize if length is None else length
    with anyio.CancelScope(shield=True):  # or a file that opens meanwhile would be nobody's to close
        file = await aiofiles.open(path, "rb", buffering=0)
    try:
        await file.seek(offset)
        while block := await file.read(min(MIB, left)):
            left -= len(block)
            for frame in framer.feed(block):
                for result in _decode(frame.data):
                    yield result
    finally:
        with anyio.CancelScope(shield=True):
            await file.close()


def _decode(lines: bytes) -> Iterator[Result]:
    for line in lines.split(b"\n")[:-1]:
        row = _row.decode(line)
        if bytes(row.response):
            yield Result(row.key, row.response)
        else:
            yield Result(row.key, None, _as_error(row))


def _as_error(row: _Row) -> RowError:
    try:
        return _error.decode(row.error)
    except msgspec.MsgspecError:
        return RowError(row.reason)
