"""The real command line in forked processes, which are killed without remorse."""

from __future__ import annotations

import os
import sys
import time
from contextlib import contextmanager
from multiprocessing import connection
from typing import TYPE_CHECKING

from tests.forks import PATIENCE, exit_code, fork

if TYPE_CHECKING:
    from collections.abc import Iterator
    from multiprocessing.process import BaseProcess
    from pathlib import Path


def start(arguments: list[str], log: Path, *, failpoints: str = "") -> BaseProcess:
    """``packtrain`` with these arguments; what it says goes to the end of ``log``."""
    return fork(_perform, arguments, log, failpoints)


@contextmanager
def serving(directory: Path, *arguments: str) -> Iterator[str]:
    """The local service as a child, until the block ends; gives its address."""
    log = directory.with_suffix(".log")
    process = serve(directory, log, "--port", "0", *arguments)
    try:
        yield address(process, log)
    finally:
        process.kill()
        exit_code(process)


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
