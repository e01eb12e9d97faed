"""Inputs of a caller, opened as sources, and compared with those that a run began with."""

from __future__ import annotations

import fnmatch
import logging
import os
import sys
from collections.abc import AsyncIterable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, cast

from .._errors import InputChanged, InputError, OtherInputs
from .._model import SourceIdentity
from .._rules.lines import OWN, LineShape
from .._text import encodable
from .first_block import refuse_other_format
from .input_directory import LeftOut
from .row_source import Row, RowsSource
from .sources import STDIN, expand, open_source
from .threads import in_thread

if TYPE_CHECKING:
    from collections.abc import Container

    from .._rules.diagnosis import LineForm
    from .storage import Source

log = logging.getLogger("packtrain")

Name = str | os.PathLike[str]
#: Names of files (one, or several), or rows.
Inputs = Name | Sequence[Name] | Iterable[Row] | AsyncIterable[Row]


async def open_sources(
    inputs: Inputs, own: Container[Path] = (), shape: LineShape = OWN, *, flat: bool = False
) -> list[Source]:
    """The sources in order. Names may be globs, directories, and ``-`` for the standard input. ``own`` and ``flat``,
    here and below, are as for ``expand``. ``shape`` is that of the lines that rows become. What directories hold and is
    left out is logged.

    Raises InputError for names that lead nowhere, and for no input at all.
    """
    names = _names(inputs)
    if names is None:
        return [RowsSource(cast("Iterable[Row] | AsyncIterable[Row]", inputs), shape)]
    if not names:
        raise InputError("the input is empty: it has no rows, and names no files")
    left_out = LeftOut()
    sources = await in_thread(_open_named, names, own, left_out, flat)
    if left_out.counts:
        named = encodable(", ".join(map(str, names[:5])))
        log.warning("%s: left out: %s", named, left_out, extra={"action": "LeftOut"})
    return sources


async def named_files(inputs: Inputs, own: Container[Path] = ()) -> list[Path]:
    """The files that the inputs name and that exist; none for rows. Raises nothing for those that do not."""
    return await in_thread(_existing, _names(inputs) or [], own)


async def refuse_other_formats(inputs: Inputs, form: LineForm, own: Container[Path] = ()) -> None:
    """Look at the first block of each file; streams and rows are left alone.

    Raises OtherFormat for a file that is of another kind than the run's lines, and InputError as ``open_sources``.
    """
    await in_thread(_refuse_other_formats, _names(inputs) or [], form, own)


async def compare_inputs(
    inputs: Inputs, stored: Sequence[SourceIdentity], own: Container[Path], *, flat: bool = False
) -> list[str]:
    """Compare inputs with those that a run has read to the end; returns the streams, which can't be compared.

    Files of the run that are gone are not missed, and rows are not compared. Raises InputError for files that have
    changed, or were no input of the run, and for names without a file.
    """
    return await in_thread(_compare, _names(inputs) or [], stored, own, flat)


async def compare_identities(then: Sequence[SourceIdentity], now: Sequence[SourceIdentity]) -> None:
    """Raises InputError when the inputs of a run are not the ones that its shards were cut from."""
    await in_thread(_compare_identities, then, now)


def _existing(names: list[str | Path], own: Container[Path]) -> list[Path]:
    found: list[Path] = []
    for name in names:
        with suppress(InputError):
            found += [path for path in expand([name], own) if path != STDIN]
    return found


def _open_named(names: list[str | Path], own: Container[Path], left_out: LeftOut, flat: bool) -> list[Source]:
    paths = expand(names, own, flat=flat, left_out=left_out)
    return [open_source(path, _stdin()) for path in paths]


def _stdin() -> BinaryIO | None:
    """A daemon has none, and a notebook has one without bytes."""
    return getattr(sys.stdin, "buffer", None)


def _refuse_other_formats(names: list[str | Path], form: LineForm, own: Container[Path]) -> None:
    for path in expand(names, own):
        if path == STDIN:
            open_source(path, _stdin())  # raises when there is none
        elif path.is_file():
            refuse_other_format(path, form)


def _names(inputs: Inputs) -> list[str | Path] | None:
    """The inputs as names; None when they are rows."""
    if isinstance(inputs, str | os.PathLike):
        inputs = [inputs]
    if not isinstance(inputs, Sequence):
        return None
    names = [item if isinstance(item, str) else Path(item) for item in inputs if isinstance(item, str | os.PathLike)]
    return names if len(names) == len(inputs) else None


def _compare_identities(then: Sequence[SourceIdentity], now: Sequence[SourceIdentity]) -> None:
    if [_resolved(source) for source in now] != [_resolved(source) for source in then]:
        raise _other_inputs(f"this run was started with the inputs {_listed(then)}", then)
    for before, after in zip(then, now, strict=True):
        _refuse_changed(before, after)


def _resolved(identity: SourceIdentity) -> str:
    """The path of a file, however its name is spelled; a stream has only its name."""
    return identity.name if identity.size < 0 else str(Path(identity.name).resolve())


def _refuse_changed(then: SourceIdentity, now: SourceIdentity) -> None:
    """Raises InputError when a file has another size or time than it had."""
    if then.size != now.size:
        raise InputChanged(
            f"{now.name} has changed since the run was started ({then.size} bytes then, {now.size} now)", name=now.name
        )
    if then.mtime_ns != now.mtime_ns:
        raise InputChanged(
            f"{now.name} was written to since the run was started: its size is what it was, its time is not",
            name=now.name,
            mtime_ns=then.mtime_ns,
        )


def _compare(
    names: Sequence[str | Path], stored: Sequence[SourceIdentity], own: Container[Path], flat: bool
) -> list[str]:
    known = {_resolved(mark): mark for mark in stored}
    streams: list[str] = []
    for path in (path for name in names for path in _expanded(name, stored, own, flat)):
        if path == STDIN or not path.is_file():
            streams.append(str(path))
            continue
        found = path.stat()
        now = SourceIdentity(str(path), found.st_size, found.st_mtime_ns)
        if _resolved(now) not in known:
            raise _other(str(path), stored)
        _refuse_changed(known[_resolved(now)], now)
    if streams and all(mark.size >= 0 for mark in stored):
        raise _other(streams[0], stored)
    return streams


def _expanded(name: str | Path, stored: Sequence[SourceIdentity], own: Container[Path], flat: bool) -> list[Path]:
    try:
        return expand([name], own, flat=flat)
    except InputError as error:
        given, known = Path(name).absolute(), [Path(mark.name).absolute() for mark in stored]
        if any(fnmatch.fnmatch(str(path), str(given)) or given in path.parents for path in known):
            return []
        if given.resolve() in {path.resolve() for path in known}:
            return []
        raise _other_inputs(f"{error}; this run was started with {_listed(stored)}", stored) from error


def _other(name: str, stored: Sequence[SourceIdentity]) -> OtherInputs:
    fact = f"{name} is not what this run was started with, which is {_listed(stored)}, and its lines would not be sent"
    return _other_inputs(fact, stored)


def _other_inputs(fact: str, stored: Sequence[SourceIdentity]) -> OtherInputs:
    return OtherInputs(fact, started_with=[source.name for source in stored])


def _listed(stored: Sequence[SourceIdentity]) -> str:
    return ", ".join(mark.name for mark in stored[:5]) + (", ..." if len(stored) > 5 else "")
