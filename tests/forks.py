"""The real command line in processes forked from one that has loaded it, so that Python and its imports are paid once.

A child is a process like any other: it has its own streams, environment, signals and locks, and it can be killed. Only
its first half second is shared with its siblings.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from multiprocessing import connection, reduction
from typing import IO, TYPE_CHECKING, Any

from packtrain.cli.commands import COMMANDS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from multiprocessing.process import BaseProcess
    from pathlib import Path

#: A child that has not ended after so many seconds never will.
PATIENCE = 120.0

_forks = multiprocessing.get_context("forkserver")
#: What a child would import anyway.
_forks.set_forkserver_preload(
    [
        *("packtrain.cli", "packtrain.testing", "packtrain._client", "packtrain._ops.finished", "packtrain.server.app"),
        *("anyio._backends._asyncio", "anyio._core._signals", "uvloop", "tests.forks"),
        *(f"packtrain.cli.{command.name}" for command in COMMANDS),
    ]
)
#: The exit code of a child can be read once, and every start of another looks for it.
_turn = threading.Lock()


def fork(target: Callable[..., None], *arguments: object) -> BaseProcess:
    """A process that calls ``target``; arguments are pickled."""
    process = _forks.Process(target=target, args=arguments, daemon=True)
    with _turn:
        process.start()
    return process


def exit_code(process: BaseProcess, timeout: float = PATIENCE) -> int:
    """Negative for a signal. A child that does not end in time is killed, and that is an error."""
    ended = connection.wait([process.sentinel], timeout)
    if not ended:
        process.kill()
    with _turn:
        process.join()
        code = process.exitcode
    if not ended or code is None:
        raise TimeoutError(f"a child has not ended after {timeout:.0f} seconds")
    return code


class Child:
    """``packtrain`` with these arguments, in a fork; it resembles ``subprocess.Popen``.

    ``stdin``, ``stdout`` and ``stderr`` are pipes, unless ``stdout`` or ``stderr`` is given as a file descriptor.
    """

    def __init__(
        self,
        arguments: tuple[str, ...],
        *,
        directory: Path,
        environ: Mapping[str, str],
        stdout: int | None = None,
        stderr: int | None = None,
        file_limit: int | None = None,
    ) -> None:
        read, written = os.pipe()
        theirs, self.stdin = [read], os.fdopen(written, "wb")
        ours: list[IO[bytes] | None] = []
        for given in (stdout, stderr):
            if given is None:
                read, written = os.pipe()
                theirs.append(written)
                ours.append(os.fdopen(read, "rb"))
            else:
                theirs.append(os.dup(given))
                ours.append(None)
        self.stdout, self.stderr = ours
        self.returncode: int | None = None
        handles = [_Handle(handle) for handle in theirs]
        self._process = fork(_perform, arguments, str(directory), dict(environ), handles, file_limit)
        for handle in theirs:
            os.close(handle)

    @property
    def pid(self) -> int:
        assert self._process.pid is not None
        return self._process.pid

    def poll(self) -> int | None:
        """The exit code, or None while it lives."""
        if self.returncode is None and connection.wait([self._process.sentinel], 0):
            self.wait()
        return self.returncode

    def wait(self, timeout: float = PATIENCE) -> int:
        """The exit code. Raises TimeoutError, and kills it, when it does not end in time."""
        if self.returncode is None:
            self.returncode = exit_code(self._process, timeout)
        return self.returncode

    def send_signal(self, number: int) -> None:
        with suppress(ProcessLookupError):
            if self.poll() is None:
                os.kill(self.pid, number)

    def terminate(self) -> None:
        self._process.terminate()

    def kill(self) -> None:
        self._process.kill()

    def communicate(self, data: bytes = b"", timeout: float = PATIENCE) -> tuple[bytes, bytes]:
        """Give it ``data``, then an end of input, and wait for its end; all that it wrote."""
        with ThreadPoolExecutor(3) as threads:
            writer = threads.submit(self._feed, data)
            readers = [threads.submit(stream.read) for stream in (self.stdout, self.stderr) if stream is not None]
            self.wait(timeout)
            writer.result()
            out, err = [reader.result() for reader in readers]
        return out, err

    def _feed(self, data: bytes) -> None:
        with suppress(BrokenPipeError):
            self.stdin.write(data)
            self.stdin.flush()
        with suppress(BrokenPipeError):
            self.stdin.close()

    def close(self) -> None:
        """Kill it, unless it has ended."""
        self.kill()
        self.wait()
        for stream in (self.stdin, self.stdout, self.stderr):
            if stream is not None:
                with suppress(BrokenPipeError):
                    stream.close()


class _Handle:
    """A file descriptor that is handed to a child while it is started."""

    def __init__(self, handle: Any) -> None:
        self._handle = handle

    def __reduce__(self) -> tuple[type[_Handle], tuple[Any]]:
        return _Handle, (reduction.DupFd(self._handle),)

    def take(self, place: int) -> None:
        """In the child, as this file descriptor."""
        handle = self._handle.detach()
        os.dup2(handle, place)
        os.close(handle)


def _perform(
    arguments: tuple[str, ...],
    directory: str,
    environ: dict[str, str],
    streams: list[_Handle],
    file_limit: int | None,
) -> None:
    os.chdir(directory)
    os.environ.clear()
    os.environ.update(environ)
    for place, stream in enumerate(streams):
        stream.take(place)
    sys.stdin = os.fdopen(0, encoding="utf-8", closefd=False)
    sys.stdout = os.fdopen(1, "w", encoding="utf-8", closefd=False)
    sys.stderr = os.fdopen(2, "w", 1, encoding="utf-8", errors="backslashreplace", closefd=False)
    if file_limit is not None:
        import resource

        resource.setrlimit(resource.RLIMIT_FSIZE, (file_limit, file_limit))
    sys.argv = ["packtrain", *arguments]
    from packtrain.__main__ import main

    main()
