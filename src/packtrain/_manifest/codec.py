"""Conversion between rows and structs. Columns have the names of the fields; nested values are JSON in one column."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import msgspec
from msgspec import Struct

from .._errors import ManifestDamaged
from .._model import Credential, Cursor, Limits, Run, ShardRow, Tally, Upload
from .._rules.lifecycle import Event, detail
from .digests import refuse_changed

if TYPE_CHECKING:
    import sqlite3

T = TypeVar("T")
Value = str | bytes | int | float | None

#: Made once: a decoder made for every row would take most of the time.
CURSOR = msgspec.json.Decoder(Cursor)
CREDENTIAL = msgspec.json.Decoder(Credential)
NESTED: dict[str, msgspec.json.Decoder[Struct]] = {
    "limits": msgspec.json.Decoder(Limits),
    "upload": msgspec.json.Decoder(Upload),
    "tally": msgspec.json.Decoder(Tally),
}


def to_json(value: Struct) -> str:
    return msgspec.json.encode(value).decode()


def from_json(text: str | bytes, decoder: msgspec.json.Decoder[T]) -> T:
    try:
        return decoder.decode(text)
    except msgspec.DecodeError as error:
        raise _unreadable(error) from error


def dicts(cursor: sqlite3.Cursor) -> list[dict[str, object]]:
    names = [column[0] for column in cursor.description]
    return [dict(zip(names, row, strict=True)) for row in cursor]


def structs(cursor: sqlite3.Cursor, kind: type[T], table: str | None = None) -> list[T]:
    """The result set as structs of one kind; with ``table`` its rows say in ``sound`` whether their digests fit."""
    found = dicts(cursor)
    return _convert(found if table is None else _sound(table, found), kind)


def rows(cursor: sqlite3.Cursor) -> list[ShardRow]:
    return _convert([_with_nested(row, "upload", "tally") for row in _sound("jobs", dicts(cursor))], ShardRow)


def runs(cursor: sqlite3.Cursor) -> list[Run]:
    flags = ("join", "recovered")
    return _convert(
        [
            _with_nested(row, "limits") | {name: row[name] == 1 for name in flags}
            for row in _sound("runs", dicts(cursor))
        ],
        Run,
    )


def flagged(cursor: sqlite3.Cursor, kind: type[T], *flags: str) -> list[T]:
    """The result set as structs with these columns as booleans."""
    return _convert([row | {name: row[name] == 1 for name in flags} for row in dicts(cursor)], kind)


def guard_values(row: ShardRow, node: int) -> dict[str, Value]:
    """What a row must still have to be changed; ``node`` is the one that changes it."""
    return {
        "run": row.run,
        "shard": row.shard,
        "generation": row.generation,
        "before": row.state.value,
        "attempt_before": row.attempt,
        "fence": row.fence,
        "owner": node,
    }


def event_values(row: ShardRow, after: ShardRow, event: Event, node: int, now: float) -> dict[str, Value]:
    """An event of a row, as parameters of its update and of its line in the history."""
    values: dict[str, Value] = msgspec.structs.asdict(event)
    values.pop("upload", None)
    if after.tally is not None:
        values["tally"] = to_json(after.tally)
    values |= guard_values(row, node)
    values["state"] = values["after"] = after.state.value
    values["attempt_after"] = after.attempt
    values["event"] = type(event).__name__
    values["detail"] = detail(event)
    values["node"] = node
    values["due"] = after.due
    values["at"] = now
    return values


def run_values(run: Run) -> dict[str, Value]:
    return msgspec.structs.asdict(run) | {"limits": to_json(run.limits), "cursor": to_json(Cursor())}


def _sound(table: str, rows: list[dict[str, object]]) -> list[dict[str, object]]:
    """Raises ManifestDamaged for a row that is not as it was written."""
    for row in rows:
        place = (row[name] for name in ("id", "run", "shard", "generation") if name in row)
        refuse_changed(table, row["sound"], *place)
    return rows


def _with_nested(row: dict[str, object], *columns: str) -> dict[str, object]:
    for column in columns:
        text = row[column]
        if isinstance(text, str):
            row[column] = from_json(text, NESTED[column])
    return row


def _convert(rows: list[dict[str, object]], kind: type[T]) -> list[T]:
    try:
        return msgspec.convert(rows, list[kind])  # type: ignore[valid-type]  # a list of what the caller names
    except msgspec.ValidationError as error:
        raise _unreadable(error) from error


def _unreadable(error: msgspec.MsgspecError) -> ManifestDamaged:
    return ManifestDamaged(f"the manifest holds a row that cannot be read ({error})")
