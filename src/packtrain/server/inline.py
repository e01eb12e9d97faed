"""Requests that came inside the call that made the job, and their results, which leave inside the job.

On disk they are lines as those of a file are. The lines of results end in a comma, so that the blob without its
last two bytes is the inside of a JSON list and can be sent as it stands.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
from msgspec import Raw, Struct

from .._model import RowError
from .answers import Refusal
from .lines import Row, encode_failure

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .backends import Answer

#: What ends a line of results and does not belong to the list after the last one.
SEPARATOR = b",\n"


class Item(Struct, frozen=True, omit_defaults=True):
    """One inline request. ``metadata`` is any object and comes back with the result."""

    request: Raw
    metadata: Raw = Raw()


class InlineForm:
    """``{"request": ..., "metadata": ...}`` gives ``{"response": ..., "metadata": ...}``."""

    def read(self, line: bytes, number: int) -> Row:
        found = _decode(line)
        return Row(found.metadata, found.request)

    def write(self, key: Raw, answer: Answer) -> bytes:
        found = (b"error", encode_failure(answer)) if isinstance(answer, RowError) else (b"response", answer)
        metadata = b',"metadata":%b' % key if key else b""
        return b'{"%b":%b%b}' % (*found, metadata) + SEPARATOR


_decode = msgspec.json.Decoder(Item).decode


def inline_lines(items: Sequence[Item]) -> bytes:
    """The items as lines. Raises Refusal 400 for none, and for one that is not an object with objects inside."""
    if not items:
        raise Refusal(400, "batch.inputConfig.requests.requests: it is empty; give at least one request.")
    return b"".join(_line(item, at) for at, item in enumerate(items))


def _line(item: Item, at: int) -> bytes:
    if not bytes(item.request).startswith(b"{") or not (bytes(item.metadata) or b"{").startswith(b"{"):
        raise Refusal(400, f"batch.inputConfig.requests.requests[{at}]: request or metadata is not an object.")
    return msgspec.json.format(msgspec.json.encode(item), indent=-1) + b"\n"
