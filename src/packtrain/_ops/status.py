"""``status``: progress and state of a run, from the file that its driver writes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from .._errors import NoRun
from .._io.lock import holder
from .._io.spool import Spool
from .._io.threads import in_thread
from .._manifest.witness import read_tokens
from .._snapshots import Status

if TYPE_CHECKING:
    import os


async def status(state: str | os.PathLike[str]) -> Status:
    """The run in a state directory as its driver last wrote it down, whether or not one is at work.

    Raises NoRun when there is none, or when what it wrote cannot be read.
    """
    spool = Spool(Path(state))
    try:
        text = await in_thread(spool.status.read_bytes)
    except OSError as error:
        raise NoRun(f"{spool.root}: no run has reported here yet ({error.strerror})", state=spool.root) from error
    try:
        found = msgspec.json.decode(text, type=Status)
    except msgspec.DecodeError as error:
        raise NoRun(
            f"{spool.status} cannot be read ({error}); the next start writes it again", state=spool.root
        ) from error
    tokens = await in_thread(read_tokens, spool.manifest)
    return msgspec.structs.replace(
        found,
        token=next((token.run for token in tokens if token.id == found.statistics.run), None),
        holder=await in_thread(holder, spool.root),
    )
