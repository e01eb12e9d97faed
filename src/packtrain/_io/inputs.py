"""What a caller may give as input, made into sources."""

from __future__ import annotations

import os
import sys
from collections.abc import AsyncIterable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, cast

import anyio.to_thread

from .._errors import InputError
from .row_source import Row, RowsSource
from .source_identity import compare
from .sources import STDIN, expand, open_source

if TYPE_CHECKING:
    from collections.abc import Container

    from .._model import SourceIdentity
    from .sources import Source

Name = str | os.PathLike[str]
#: Names of files (one, or several), or rows.
Inputs = Name | Sequence[Name] | Iterable[Row] | AsyncIterable[Row]


async def open_sources(inputs: Inputs, own: Container[Path] = ()) -> list[Source]:
    """The sources in order. Names may be globs, directories, and ``-`` for the standard input. ``own``, here and below,
    is what a run makes itself, as for ``expand``.

    Raises InputError for names that lead nowhere, and for no input at all.
    """
    names = _names(inputs)
    if names is None:
        return [RowsSource(cast("Iterable[Row] | AsyncIterable[Row]", inputs))]
    if not names:
        raise InputError("no input given; name files, a directory, a glob, or - for the standard input")
    return await anyio.to_thread.run_sync(_open_named, names, own)


async def named_files(inputs: Inputs, own: Container[Path] = ()) -> list[Path]:
    """The files that the inputs name and that exist; none for rows. Raises nothing for those that do not."""
    return await anyio.to_thread.run_sync(_existing, _names(inputs) or [], own)


async def compare_inputs(inputs: Inputs, stored: Sequence[SourceIdentity], own: Container[Path]) -> list[str]:
    """As ``marks.compare``, which says what is refused; rows are not compared."""
    return await anyio.to_thread.run_sync(compare, _names(inputs) or [], stored, own)


def _existing(names: list[str | Path], own: Container[Path]) -> list[Path]:
    found: list[Path] = []
    for name in names:
        with suppress(InputError):
            found += [path for path in expand([name], own) if path != STDIN]
    return found


def _open_named(names: list[str | Path], own: Container[Path]) -> list[Source]:
    return [open_source(path, sys.stdin.buffer) for path in expand(names, own)]


def _names(inputs: Inputs) -> list[str | Path] | None:
    """The inputs as names; None when they are rows."""
    if isinstance(inputs, str | os.PathLike):
        inputs = [inputs]
    if not isinstance(inputs, Sequence):
        return None
    names = [item if isinstance(item, str) else Path(item) for item in inputs if isinstance(item, str | os.PathLike)]
    return names if len(names) == len(inputs) else None
