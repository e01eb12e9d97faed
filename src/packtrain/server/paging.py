"""Pages of a list, newest first. A token encodes the last item's number, so that pages stay stable while items come
and go."""

from __future__ import annotations

import base64
import binascii
from typing import TYPE_CHECKING, Protocol, TypeVar

from msgspec import Struct

from .replies import HttpError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


class Numbered(Protocol):
    """An item whose number grows with time and is never reused."""

    @property
    def seq(self) -> int: ...


Item = TypeVar("Item", bound=Numbered)

DEFAULT_SIZE = 10
MAX_SIZE = 100
#: Above every number.
_START = 2**63 - 1


class Window(Struct, frozen=True):
    """At most ``size`` items with numbers below ``before``."""

    size: int
    before: int


def read_window(query: Mapping[str, str], *, default: int = DEFAULT_SIZE, most: int = MAX_SIZE) -> Window:
    """Raises HttpError 400. Sizes above ``most`` count as ``most``."""
    size = query.get("pageSize") or query.get("page_size") or "0"
    if not (size.isascii() and size.isdigit()):
        raise HttpError(400, f"pageSize {size[:20]!r} is not a number of items")
    token = query.get("pageToken") or query.get("page_token")
    return Window(min(int(size[:9]) or default, most), _read_token(token) if token else _START)


def next_token(items: Sequence[Item], window: Window) -> str:
    """Token of the next page, for items fetched with one extra; empty on the last page."""
    if len(items) <= window.size:
        return ""
    return base64.urlsafe_b64encode(b"before:%d" % items[window.size - 1].seq).decode()


def _read_token(token: str) -> int:
    try:
        word, _, number = base64.b64decode(token, altchars=b"-_", validate=True).partition(b":")
    except (binascii.Error, ValueError):
        word, number = b"", b""
    if word != b"before" or not number.isdigit() or len(number) > 18:
        raise HttpError(400, "The page token was not issued by this service; start again without it.")
    return int(number)
