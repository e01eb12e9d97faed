"""Requests of people to the driver of a state directory: one file each, ``requests/ID.json``.

A request appears whole, by rename. The driver removes what it has taken, and renames what it refuses to
``ID.json.rejected`` with the reason on a line below. All functions block.
"""

from __future__ import annotations

import json
import os
import secrets
import stat
from contextlib import suppress
from pathlib import Path

import msgspec
from msgspec import Struct

from .._model import Decision
from .._options import KIB
from .disk import disk_errors, make_directory, make_durable, open_draft, remove, rename, sync_directory, write_all
from .effects import effect

#: A longer file is no request.
_MAX_BYTES = 64 * KIB


class DecisionRequest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="what", tag="resolve"):
    """A decision about a quarantined shard; ``job`` is the one to adopt."""

    run: str
    shard: int
    decision: Decision
    job: str | None = None


class RetryRequest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="what", tag="retry"):
    """The failed lines of the run are to be asked again once it is published; with ``everything`` all of them."""

    run: str
    everything: bool = False


class Pending(Struct, frozen=True):
    """A request that waits; ``request`` is None for a file that is none, and for one that cannot be read now."""

    path: Path
    request: DecisionRequest | RetryRequest | None
    #: Why it cannot be read now; it may be a request.
    unreadable: str | None = None


def write_request(state: Path, request: DecisionRequest | RetryRequest) -> str:
    """The id of the request; of an equal one that waits already, if there is one. Raises DiskFull or DiskFailed."""
    for waiting in pending_requests(state):
        if waiting.request == request:
            return waiting.path.stem
    directory = state / "requests"
    path = directory / f"{secrets.token_hex(8)}.json"
    draft = path.with_suffix(".tmp")
    with disk_errors(path):
        make_directory("request", directory, 0o700)
        with open_draft("request", draft) as file:
            write_all("request", file, msgspec.json.encode(request))
            make_durable("request", file, draft, path)
    return path.stem


def pending_requests(state: Path) -> list[Pending]:
    """The oldest first. Raises DiskFailed when they cannot be listed."""
    found: list[tuple[int, Path]] = []
    for path in _listed(state / "requests"):
        with suppress(OSError):
            found.append((path.lstat().st_mtime_ns, path))
    return [pending for _, path in sorted(found) if (pending := _read(path))]


def _listed(directory: Path) -> list[Path]:
    with disk_errors(directory):
        try:
            return [path for path in directory.iterdir() if path.suffix == ".json"]
        except FileNotFoundError:
            return []


def remove_request(path: Path) -> None:
    """Remove it for good: one that came back after a power cut would be met, and paid for, twice. Raises DiskFailed."""
    remove("request", path)
    with disk_errors(path):
        sync_directory("request", path.parent)


def reject_request(path: Path, reason: str) -> None:
    """Keep the file apart, with the reason, which is there before the file has its new name."""
    with suppress(OSError):
        _append_reason(path, reason)
    with suppress(OSError):
        rename("request", path, path.with_name(f"{path.name}.rejected"))


def _append_reason(path: Path, reason: str) -> None:
    """To a regular file, unless it has one since a rejection that was cut short."""
    if not stat.S_ISREG(path.lstat().st_mode) or _reason_in(_content(path)) is not None:
        return
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_APPEND | os.O_NOFOLLOW | os.O_NONBLOCK), "ab", buffering=0) as file:
        write_all("request", file, f"\n{json.dumps({'rejected': reason})}\n".encode())


def rejection(state: Path, id: str) -> str | None:
    """Why the request was refused; None for one that was not."""
    try:
        content = (state / "requests" / f"{id}.json.rejected").read_bytes()
    except FileNotFoundError:
        return None
    except OSError:
        content = b""
    return _reason_in(content) or "no reason was written"


def _reason_in(content: bytes) -> str | None:
    """The reason on the last line, if there is one."""
    try:
        return str(json.loads(content.splitlines()[-1])["rejected"])
    except (LookupError, TypeError, ValueError, RecursionError):
        return None


def is_pending(state: Path, id: str) -> bool:
    return (state / "requests" / f"{id}.json").exists()


def _read(path: Path) -> Pending | None:
    """None for a file that is gone."""
    try:
        content = _content(path)
    except FileNotFoundError:
        return None
    except OSError as error:
        return Pending(path, None, unreadable=error.strerror)
    try:
        return Pending(path, msgspec.json.decode(content, type=DecisionRequest | RetryRequest))
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return Pending(path, None)


def _content(path: Path) -> bytes:
    """The beginning of a regular file; nothing of any other."""
    if not stat.S_ISREG(path.lstat().st_mode):
        return b""
    # Another file may have taken its place: a link must not be followed, a pipe not be waited for.
    with effect("request.read"):
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(handle, "rb") as file:
        return file.read(_MAX_BYTES + 1) if stat.S_ISREG(os.fstat(handle).st_mode) else b""
