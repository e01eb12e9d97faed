"""The real command line, in processes of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

import packtrain
from tests.forks import Child

if TYPE_CHECKING:
    from collections.abc import Mapping
    from contextlib import ExitStack

#: A child that has not ended after so many seconds never will.
PATIENCE = 100.0


class Terminal:
    """A directory to stand in, with an environment that holds nothing of ours."""

    def __init__(self, directory: Path, processes: ExitStack) -> None:
        self.directory = directory
        self.environ = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith("PACKTRAIN_") and not name.endswith("_API_KEY")
        }
        self.environ["PYTHONPATH"] = str(Path(packtrain.__file__).parent.parent)
        self._processes = processes

    def __call__(
        self, *arguments: str, stdin: bytes = b"", file_limit: int | None = None, **environ: str
    ) -> subprocess.CompletedProcess[str]:
        """Run ``packtrain`` to its end; with ``file_limit``, no file of its may grow beyond so many bytes."""
        child = self.start(*arguments, file_limit=file_limit, environ=environ)
        out, err = child.communicate(stdin, PATIENCE)
        return subprocess.CompletedProcess(arguments, child.wait(), out.decode(), err.decode())

    def start(
        self,
        *arguments: str,
        stdout: int | None = None,
        stderr: int | None = None,
        file_limit: int | None = None,
        environ: Mapping[str, str] = MappingProxyType({}),
    ) -> Child:
        """Start ``packtrain`` in a fork with pipes; it is killed when the test ends."""
        child = Child(
            arguments,
            directory=self.directory,
            environ={**self.environ, **environ},
            stdout=stdout,
            stderr=stderr,
            file_limit=file_limit,
        )
        self._processes.callback(child.close)
        return child

    def program(self, *arguments: str, stderr: int = subprocess.PIPE, **environ: str) -> subprocess.Popen[bytes]:
        """As ``start``, in a Python of its own, where it matters how the program is loaded or what others see of it."""
        process = subprocess.Popen(
            [sys.executable, "-m", "packtrain", *arguments],
            cwd=self.directory,
            env={**self.environ, **environ},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=stderr,
        )
        self._processes.enter_context(process)
        self._processes.callback(process.kill)
        return process


def request_line(number: int) -> bytes:
    """A valid line, whose answer by echo is known."""
    return b'{"key": "k%d", "request": {"contents": [{"parts": [{"text": "t%d"}]}]}}\n' % (number, number)


def listening(service: Child | subprocess.Popen[bytes]) -> str:
    """The origin that ``serve`` prints once it is ready."""
    assert service.stdout is not None
    words = service.stdout.readline().decode().split()
    assert words[:2] == ["listening", "on"]
    return words[2]
