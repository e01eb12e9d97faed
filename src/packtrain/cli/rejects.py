"""Rejected lines for people: a wrong file is wrong in the same way in every line."""

from __future__ import annotations

from collections import Counter
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from packtrain import Reject
from packtrain._validation import kind_of_reason

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

#: Lines shown of each kind.
_SHOWN = 3
#: Lines that are read of a list.
_READ = 10_000


def collapsed(rejects: Iterable[Reject], counts: Mapping[str, int]) -> list[str]:
    """The first lines of each kind with their places, and below them how many more there are of it."""
    first: dict[str, list[Reject]] = {}
    for bad in rejects:
        shown = first.setdefault(kind_of_reason(bad.reason), [])
        if len(shown) < _SHOWN:
            shown.append(bad)
    lines: list[str] = []
    for kind, count in counts.items():
        shown = first.get(kind, [])
        lines += [f"{bad.source}:{bad.line} (byte {bad.offset}): {bad.reason}" for bad in shown]
        if more := count - len(shown):
            lines.append(f"  and {more:,} more: {kind}")
    return lines


def listed(path: str | Path, total: int) -> list[str]:
    """The same from a list of rejected lines, of which the first ten thousand are read."""
    rejects: list[Reject] = []
    counts = Counter[str]()
    decode = msgspec.json.Decoder(Reject).decode
    with suppress(OSError, msgspec.MsgspecError, UnicodeDecodeError), Path(path).open("rb") as lines:
        for bad in map(decode, islice(lines, _READ)):
            counts[kind_of_reason(bad.reason)] += 1
            if counts[kind_of_reason(bad.reason)] <= _SHOWN:
                rejects.append(bad)
    further = total - counts.total()
    return [*collapsed(rejects, counts), *([f"  and {further:,} more in {path}"] if further > 0 else [])]
