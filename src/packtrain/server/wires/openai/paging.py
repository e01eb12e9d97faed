"""Pages of a list in OpenAI's format: ``after`` is the last id of the previous page."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Generic, Literal, Protocol, TypeVar

from msgspec import Struct

from .errors import OpenAIError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ...transactions import Transaction

Order = Literal["asc", "desc"]


class Named(Protocol):
    @property
    def name(self) -> str: ...


Item = TypeVar("Item", bound=Named)


class Cursor(Struct, frozen=True, kw_only=True):
    """The requested page."""

    limit: int
    after: str | None
    order: Order = "desc"


class Page(Struct, Generic[Item], frozen=True, kw_only=True):
    items: list[Item]
    has_more: bool

    @property
    def first_id(self) -> str | None:
        return self.items[0].name if self.items else None

    @property
    def last_id(self) -> str | None:
        return self.items[-1].name if self.items else None


def read_cursor(query: Mapping[str, str], *, default: int, most: int) -> Cursor:
    """Raises OpenAIError 400."""
    limit, order = query.get("limit", str(default)), query.get("order", "desc")
    if not (re.fullmatch("[0-9]{1,9}", limit) and 1 <= int(limit) <= most):
        raise OpenAIError(400, f"limit {limit[:20]!r} is not a number from 1 to {most}.", param="limit")
    if order not in ("asc", "desc"):
        raise OpenAIError(400, f"order {order[:20]!r} is neither asc nor desc.", param="order")
    return Cursor(limit=int(limit), after=query.get("after") or None, order="asc" if order == "asc" else "desc")


def fetch_page(tx: Transaction, kind: type[Item], table: str, cursor: Cursor, purpose: str = "") -> Page[Item]:
    """``table`` is a constant name; it has ``seq`` and ``name``. Raises OpenAIError for an unknown ``after``."""
    low, high = 0, 2**63 - 1
    if cursor.after is not None:
        seq = _position(tx, table, cursor.after)
        low, high = (seq, high) if cursor.order == "asc" else (low, seq)
    test = "AND expires > ? AND ? IN ('', purpose)" if table == "openai_files" else ""
    sql = f"SELECT * FROM {table} WHERE seq > ? AND seq < ? {test} ORDER BY seq {cursor.order} LIMIT ?"  # noqa: S608 - constants
    tests = (tx.now, purpose) if test else ()
    rows = tx.rows(kind, sql, low, high, *tests, cursor.limit + 1)
    return Page(items=rows[: cursor.limit], has_more=len(rows) > cursor.limit)


class _Position(Struct, frozen=True):
    seq: int


def _position(tx: Transaction, table: str, name: str) -> int:
    position = tx.row(_Position, f"SELECT seq FROM {table} WHERE name = ?", name)  # noqa: S608 - a constant
    if position is None:
        raise OpenAIError(400, f"after: there is no {name[:80]!r}; start again without it.", param="after")
    return position.seq
