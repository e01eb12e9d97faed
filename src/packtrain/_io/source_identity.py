"""Whether the inputs that a run is given now are those that it was cut from."""

from __future__ import annotations

import fnmatch
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from .._errors import InputError
from .._model import SourceIdentity
from .sources import STDIN, expand

if TYPE_CHECKING:
    from collections.abc import Container, Sequence

_BILLION = 1_000_000_000


def place_of(mark: SourceIdentity) -> str:
    """Where a file lies, however its name is spelled; a stream has only its name. Blocks."""
    return mark.name if mark.size < 0 else str(Path(mark.name).resolve())


def refuse_changed(then: SourceIdentity, now: SourceIdentity) -> None:
    """Raises InputError when a file has another size or time than it had."""
    if then.size != now.size:
        raise InputError(
            f"{now.name} has changed since the run was started ({then.size} bytes then, {now.size} now); "
            "put it back, or start a new run with another --out and --state"
        )
    if then.mtime_ns != now.mtime_ns:
        time = f"{then.mtime_ns // _BILLION}.{then.mtime_ns % _BILLION:09}"
        raise InputError(
            f"{now.name} was written to since the run was started: its size is what it was, its time is not. If its "
            f"content is what it was, `touch -d @{time} {shlex.quote(now.name)}` says so; then start the same "
            "command again. If not, put it back, or start a new run with another --out and --state"
        )


def compare(names: Sequence[str | Path], stored: Sequence[SourceIdentity], own: Container[Path]) -> list[str]:
    """Hold names given for a run that has read its input against it; returns the streams among them, which nobody can
    compare. Files of the run that are gone are not missed. ``own`` as for ``expand``. Blocks.

    Raises InputError for files that have changed, or were no input of the run, and for names that lead nowhere.
    """
    known = {place_of(mark): mark for mark in stored}
    streams: list[str] = []
    for path in (path for name in names for path in _expanded(name, stored, own)):
        if path == STDIN or not path.is_file():
            streams.append(str(path))
            continue
        found = path.stat()
        now = SourceIdentity(str(path), found.st_size, found.st_mtime_ns)
        if place_of(now) not in known:
            raise _other(str(path), stored)
        refuse_changed(known[place_of(now)], now)
    if streams and all(mark.size >= 0 for mark in stored):
        raise _other(streams[0], stored)
    return streams


def _expanded(name: str | Path, stored: Sequence[SourceIdentity], own: Container[Path]) -> list[Path]:
    try:
        return expand([name], own)
    except InputError as error:
        given, known = Path(name).absolute(), [Path(mark.name).absolute() for mark in stored]
        if any(fnmatch.fnmatch(str(path), str(given)) or path.parent == given for path in known):
            return []
        if given.resolve() in {path.resolve() for path in known}:
            return []
        raise InputError(f"{error}; this run was started with {_names(stored)}") from error


def _other(name: str, stored: Sequence[SourceIdentity]) -> InputError:
    return InputError(
        f"{name} is not what this run was started with, which is {_names(stored)}, and its lines would not be sent; "
        "give the same inputs, or start a new run with another --out and --state"
    )


def _names(stored: Sequence[SourceIdentity]) -> str:
    return ", ".join(mark.name for mark in stored[:5]) + (", ..." if len(stored) > 5 else "")
