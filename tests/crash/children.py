"""The real command line in forked processes, so that Python and its imports are paid for once.

A child is a process like any other: it can be killed, it holds its locks, and its death is the kernel's business. Only
its first half second, which no kill could tell from one another, is shared with its siblings.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
import threading
import time
from contextlib import contextmanager
from multiprocessing import connection
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from multiprocessing.process import BaseProcess
    from pathlib import Path

#: A child that has not done its work after so many seconds never will.
PATIENCE = 120.0
#: What a child would import anyway.
_IMPORTED = ["packtrain.cli", "packtrain.testing", "packtrain._client", "packtrain._ops.finished"]
_IMPORTED += ["anyio._backends._asyncio", "anyio._core._signals", "uvloop"]

_forks = multiprocessing.get_context("forkserver")
_forks.set_forkserver_preload(_IMPORTED)
#: The exit code of a child can be read once, and every start of another looks for it.
_turn = threading.Lock()


def start(arguments: list[str], log: Path, *, failpoints: str = "") -> BaseProcess:
    """``packtrain`` with these arguments; what it says goes to the end of ``log``."""
    process = _forks.Process(target=_perform, args=(arguments, log, failpoints), daemon=True)
    with _turn:
        process.start()
    return process


def finish(process: BaseProcess) -> int:
    """The exit code, negative for a signal. A child that hangs is killed, and that is an error."""
    ended = connection.wait([process.sentinel], PATIENCE)
    if not ended:
        process.kill()
    with _turn:
        process.join()
        code = process.exitcode
    if not ended or code is None:
        raise TimeoutError(f"a child has not ended after {PATIENCE:.0f} seconds")
    return code


@contextmanager
def serving(directory: Path, *arguments: str) -> Iterator[str]:
    """The local service as a child, until the block ends; gives its address."""
    log = directory.with_suffix(".log")
    process = serve(directory, log, "--port", "0", *arguments)
    try:
        yield address(process, log)
    finally:
        process.kill()
        finish(process)


def serve(directory: Path, log: Path, *arguments: str) -> BaseProcess:
    log.unlink(missing_ok=True)
    return start(["serve", "--dir", str(directory), *arguments], log)


def address(process: BaseProcess, log: Path) -> str:
    """Where a service that was just started listens."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline and not connection.wait([process.sentinel], 0.01):
        said = log.read_text() if log.exists() else ""
        if said.endswith("\n"):
            return said.split()[-1]
    raise TimeoutError(f"the service did not start; see {log}")


def _perform(arguments: list[str], log: Path, failpoints: str) -> None:
    handle = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(handle, 1)
    os.dup2(handle, 2)
    os.environ["GEMINI_API_KEY"] = "none-needed"
    os.environ["PACKTRAIN_FAILPOINTS"] = failpoints
    from packtrain.cli import perform

    sys.exit(perform(arguments))
