"""Requests to the process that drives a run: write one, and see what became of it."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

import anyio

from .._errors import DecisionRefused, NoRun
from .._io.lock import holder
from .._io.requests import DecisionRequest, RetryRequest, is_pending, rejection, write_request
from .._io.spool import Spool
from .._io.threads import in_thread
from .._options import Policy

if TYPE_CHECKING:
    import os

    from .._model import Decision

#: Seconds between two looks for what became of a request.
_LOOK = 0.05


async def driver(state: str | os.PathLike[str]) -> str | None:
    """The process that holds the state directory, in words; None without a driver.

    Raises UnsafeDirectory for a directory that cannot be read.
    """
    return await in_thread(holder, Path(state))


async def request_decision(
    state: str | os.PathLike[str], shard: int, decision: Decision, *, job: str | None = None, run_id: str = "main"
) -> str:
    """Ask the driver of the run to decide about a quarantined shard, as ``Client.resolve`` does; returns an id.

    The driver takes it between two steps; without a driver, the next one does. Raises NoRun, DiskFull and DiskFailed.
    """
    return await _write(state, DecisionRequest(run=run_id, shard=shard, decision=decision, job=job))


async def request_retry(state: str | os.PathLike[str], *, everything: bool = False, run_id: str = "main") -> str:
    """Ask the driver of the run to ask failed lines again once it has published the run, as ``Client.retry`` does.

    Raises NoRun, DiskFull and DiskFailed.
    """
    return await _write(state, RetryRequest(run=run_id, everything=everything))


async def request_taken(state: str | os.PathLike[str], id: str, *, wait: float = Policy().request_wait) -> bool:
    """Whether the driver has taken the request within ``wait`` seconds. Raises DecisionRefused when it refused it."""
    root, end = Path(state), time.monotonic() + wait
    while await in_thread(is_pending, root, id):
        if time.monotonic() >= end:
            return False
        await anyio.sleep(_LOOK)
    if (reason := await in_thread(rejection, root, id)) is not None:
        raise DecisionRefused(reason)
    return True


async def _write(state: str | os.PathLike[str], request: DecisionRequest | RetryRequest) -> str:
    spool = Spool(Path(state))
    if not await in_thread(spool.manifest.exists):
        raise NoRun(f"{spool.manifest} is not there", state=spool.root)
    return await in_thread(write_request, spool.root, request)
