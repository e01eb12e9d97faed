"""Directory that is given as an input: the files that it stands for, and what is left out. Blocking."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from .._errors import InputError

if TYPE_CHECKING:
    from collections.abc import Container

#: Endings by which files are chosen.
ENDINGS = tuple(name + packed for name in (".jsonl", ".ndjson") for packed in ("", ".gz", ".zst"))
#: A directory with this file is the state of a run: its shards are no input.
_STATE = "manifest.db"


#: What is left out, and several of it.
_Kind = Literal["hidden file", "file with another ending", "hidden or linked subdirectory", "state directory of a run"]
_PLURAL: dict[_Kind, str] = {
    "file with another ending": "files with another ending",
    "hidden file": "hidden files",
    "hidden or linked subdirectory": "hidden or linked subdirectories",
    "state directory of a run": "state directories of runs",
}


class LeftOut:
    """Counts of what directories hold and was not taken for input."""

    def __init__(self) -> None:
        self.counts = Counter[_Kind]()

    def __str__(self) -> str:
        counts = [(self.counts[kind], kind, plural) for kind, plural in _PLURAL.items()]
        return ", ".join(f"{count:,} {kind if count == 1 else plural}" for count, kind, plural in counts if count)


def files_in(directory: Path, own: Container[Path], left_out: LeftOut, *, flat: bool) -> list[Path]:
    """The files at any depth that end in one of ``ENDINGS``, by path; hidden ones, what a run makes itself (``own``),
    and state directories are left out, and links to directories are not followed.

    ``flat``: as earlier versions did it: right in the directory alone, hidden ones as well. Raises InputError
    when there is none, or when a directory cannot be read.
    """
    found = sorted(_flat(directory) if flat else _deep(directory, left_out))
    found = [path for path in found if path not in own]
    if not found:
        raise InputError(f"{directory}: no file in it ends in {', '.join(ENDINGS)}")
    return found


def _flat(directory: Path) -> list[Path]:
    try:
        return [path for path in directory.iterdir() if path.name.endswith(ENDINGS) and path.is_file()]
    except OSError as error:
        raise _unreadable(error) from error


def _deep(directory: Path, left_out: LeftOut) -> list[Path]:
    found: list[Path] = []
    for place, directories, names in os.walk(directory, onerror=_raise):
        if _STATE in names and Path(place) != directory:
            left_out.counts["state directory of a run"] += 1
            directories.clear()
            continue
        for name in [name for name in directories if name.startswith(".") or Path(place, name).is_symlink()]:
            directories.remove(name)
            left_out.counts["hidden or linked subdirectory"] += 1
        for name in names:
            if name.startswith("."):
                left_out.counts["hidden file"] += 1
            elif name.endswith(ENDINGS) and Path(place, name).is_file():
                found.append(Path(place, name))
            else:
                left_out.counts["file with another ending"] += 1
    return found


def _raise(error: OSError) -> None:
    raise _unreadable(error)


def _unreadable(error: OSError) -> InputError:
    return InputError(f"{error.filename}: cannot be read ({error.strerror or error})")
