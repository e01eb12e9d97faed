"""Checks of names that a caller gives, the paths derived from them, and counts in words."""

from __future__ import annotations

import os
import re
from pathlib import Path

from ._errors import InputError

_MODEL = re.compile(r"(?!.*(?:^|/)\.{1,2}(?:/|$))[A-Za-z0-9._:@-]+(?:/[A-Za-z0-9._:@-]+)*")


def check_model(model: str) -> None:
    """Raises InputError for what can be no model: its name becomes part of the path that every job is created at."""
    if not _MODEL.fullmatch(model):
        raise InputError(
            f"{model[:80]!r} is no name of a model: letters, digits and . _ - : @ are, with / between parts, as in "
            "gemini-2.5-flash or tunedModels/mine"
        )


_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")


def check_local(name: str | os.PathLike[str]) -> None:
    """Raises InputError for an address such as ``gs://bucket/x``, which would be taken for a directory ``gs:``, and for
    a name with a zero byte."""
    text = os.fspath(name)
    if _ADDRESS.match(text):
        raise InputError(f"{text}: addresses are not supported, only files and directories of this machine")
    if "\0" in text:
        raise InputError(f"{text!r}: a name of a file has no zero byte")


#: Endings that promise another form than lines of JSON.
_OTHER_FORMS = (".gz", ".zst", ".bz2", ".xz", ".zip", ".csv", ".tsv", ".parquet")


def check_form(out: str | os.PathLike[str]) -> None:
    """Raises InputError for a file whose name promises another form than that of the answers; a directory may have
    any name."""
    name = os.fspath(out)
    if name.lower().endswith(_OTHER_FORMS):
        ending = name[name.rindex(".") :]
        raise InputError(f"{name}: answers are plain lines of JSON, which {ending} does not say; give a name in .jsonl")


def check_out(out: str | os.PathLike[str]) -> None:
    """Raises InputError for what has no name of its own: those of the state directory and of the lists are made of
    it; and for an address."""
    check_local(out)
    if os.path.basename(os.fspath(out).rstrip("/")) in ("", ".", ".."):  # noqa: PTH119 - a Path drops the dot
        raise InputError(f"{os.fspath(out)!r} has no name of its own, as answers.jsonl has")


#: Bytes of a name on the file systems of Linux and macOS, and those that may be added to the name of an output: the
#: ending of a list, and what a file is called until it is whole.
_NAME_BYTES, _ADDED_BYTES = 255, 40


def check_length(out: str | os.PathLike[str]) -> None:
    """Raises InputError for an output whose lists could not be written next to it, at the end of a run."""
    name = os.fsencode(os.path.basename(os.fspath(out).rstrip("/")))  # noqa: PTH119 - as above
    if len(name) > _NAME_BYTES - _ADDED_BYTES:
        raise InputError(
            f"{os.fspath(out)}: its name has {len(name)} bytes; at most {_NAME_BYTES - _ADDED_BYTES} leave room for "
            "the names of its lists"
        )


_SUFFIX = ".packtrain"


def state_of(out: str | os.PathLike[str]) -> Path:
    """The state directory of a run whose answers go to ``out``."""
    return Path(os.fspath(out).rstrip("/") + _SUFFIX)


def answers_of(state: Path) -> Path | None:
    """Where the answers of a run with this state directory go; None when its name does not say."""
    name = state.name.removesuffix(_SUFFIX)
    return state.with_name(name) if name not in ("", ".", state.name) else None


def counted(number: int, noun: str) -> str:
    """``1 shard``, ``2,000 shards``; the noun is one that only takes an s."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


#: Text of a line in a reason, and numbers; names of our own members stay.
_DETAIL = re.compile(r"""(?!"\w{1,12}")(?:'[^']*'|"[^"]*")|\d+""")


def kind_of_reason(reason: str) -> str:
    """A reason for a rejected line without what is about that line alone: equal for equal mistakes."""
    return _DETAIL.sub("…", re.split("; |: ", reason, maxsplit=1)[0])
