"""``packtrain serve``: the local batch service."""

import os
import resource
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import anyio
import anyio.to_thread
from cyclopts import Parameter
from cyclopts.validators import Number

from packtrain._signals import stop_signals

from . import arguments as arg
from .console import put
from .credentials import find_key
from .exits import Exit, OutputError

if TYPE_CHECKING:
    from packtrain.testing import FaultPlan

#: Enough for all the connections that the service takes.
_OPEN_FILES = 4096


async def serve(
    *,
    dir: Annotated[Path, Parameter(metavar="DIR", help="Where it keeps files, jobs and truth.jsonl.")],
    host: Annotated[str, Parameter(help="The address to listen on; others than this machine's need a key.")] = (
        "127.0.0.1"
    ),
    port: Annotated[int, Parameter(validator=Number(gte=0, lte=65535), help="0 picks a free one.")] = 8787,
    backend: Annotated[str, Parameter(help="Who answers: echo, forward:URL, or module:function.")] = "echo",
    backend_key_file: Annotated[
        Path | None, Parameter(metavar="FILE", help="The key that forward:URL's endpoint wants, mode 0600.")
    ] = None,
    workers: Annotated[int, Parameter(metavar="N", validator=Number(gte=1), help="Jobs run side by side.")] = 2,
    api_key_file: Annotated[
        Path | None, Parameter(metavar="FILE", help="The key that callers must show, mode 0600.")
    ] = None,
    faults: Annotated[
        Path | None, Parameter(metavar="PLAN", help="Misbehave as this file says (TOML); see docs/faults.md.")
    ] = None,
    quotas: Annotated[
        bool, Parameter(negative="", help="Refuse with 429 what goes beyond the limits of the real service.")
    ] = False,
    webhooks_to: Annotated[
        tuple[str, ...],
        Parameter(
            negative="",
            metavar="ORIGIN",
            show_default=False,
            help="Where events of jobs may be sent, as in https://host:8443; may be repeated. Default: this machine, "
            "and nowhere for a service that listens on another address.",
        ),
    ] = (),
    common: arg.Common = arg.COMMON,
) -> Exit:
    from packtrain import serving
    from packtrain.server import GEMINI_QUOTAS, Quotas

    key = None if api_key_file is None else find_key(api_key_file, os.environ)
    backend_key = None if backend_key_file is None else find_key(backend_key_file, os.environ)
    if ":" in backend:  # module:function is looked for in the current directory, too
        sys.path.insert(0, "")
    _raise_file_limit()
    plan = None if faults is None else await _read_plan(faults)
    with anyio.open_signal_receiver(*stop_signals()) as signals:
        async with serving(
            dir,
            host=host,
            port=port,
            backend=backend,
            backend_key=backend_key,
            key=key,
            workers=workers,
            faults=plan,
            quotas=GEMINI_QUOTAS if quotas else Quotas(),
            webhooks_to=webhooks_to,
        ) as origin:
            with suppress(OutputError):  # callers may know the port
                put(f"listening on {origin}")
            async for _ in signals:
                break
    return Exit.COMPLETE


def _raise_file_limit() -> None:
    """As far as this process may: each connection is an open file, and the usual limit is 1024."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _OPEN_FILES if hard == resource.RLIM_INFINITY else min(_OPEN_FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


async def _read_plan(path: Path) -> "FaultPlan":
    from packtrain.testing import read_plan

    return await anyio.to_thread.run_sync(read_plan, path)
