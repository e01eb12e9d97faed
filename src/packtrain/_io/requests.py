"""Requests of people to the driver of a state directory: one file each, ``requests/ID.json``.

A request appears whole, by rename. The driver removes what it has taken, and renames what it refuses to
``ID.json.rejected`` with the reason on a line below. All functions block.
"""

from __future__ import annotations

import json
import secrets
from contextlib import suppress
from pathlib import Path

import msgspec
from msgspec import Struct

from .._model import Decision
from .._options import KIB
from .disk import disk_errors, make_directory, make_durable, open_private, remove, rename, sync_directory, write_all

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
    """A request that waits; ``request`` is None for a file that is none."""

    path: Path
    request: DecisionRequest | RetryRequest | None


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
        with open_private("request", draft) as file:
            write_all("request", file, msgspec.json.encode(request))
            make_durable("request", file, draft, path)
    return path.stem


def pending_requests(state: Path) -> list[Pending]:
    """The oldest first."""
    found: list[tuple[int, Path]] = []
    for path in (state / "requests").glob("*.json"):
        with suppress(OSError):
            found.append((path.lstat().st_mtime_ns, path))
    return [Pending(path, _read(path)) for _, path in sorted(found)]


def remove_request(path: Path) -> None:
    """Remove it for good: one that came back after a power cut would be met, and paid for, twice. Raises DiskFailed."""
    remove("request", path)
    with disk_errors(path):
        sync_directory("request", path.parent)


def reject_request(path: Path, reason: str) -> None:
    """Keep the file apart, with the reason."""
    with suppress(OSError):
        rejected = path.with_name(f"{path.name}.rejected")
        rename("request", path, rejected)
        with rejected.open("ab") as file:
            file.write(f"\n{json.dumps({'rejected': reason})}\n".encode())


def rejection(state: Path, id: str) -> str | None:
    """Why the request was refused; None for one that was not."""
    try:
        last = (state / "requests" / f"{id}.json.rejected").read_bytes().splitlines()[-1]
        return str(json.loads(last)["rejected"])
    except FileNotFoundError:
        return None
    except (OSError, LookupError, ValueError):
        return "no reason was written"


def is_pending(state: Path, id: str) -> bool:
    return (state / "requests" / f"{id}.json").exists()


def _read(path: Path) -> DecisionRequest | RetryRequest | None:
    try:
        with path.open("rb") as file:
            return msgspec.json.decode(file.read(_MAX_BYTES + 1), type=DecisionRequest | RetryRequest)
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError):
        return None
