"""A file written by a thread of its own, while the next piece of it is made."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import copy_context
from functools import partial
from typing import TYPE_CHECKING

from .disk import disk_errors, open_private, start_writeback, truncate, write_all

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from .result_file import ResultFiles


class Behind:
    """Takes pieces in order. One is under way at most: the next waits for it, and raises what became of it.

    The disk is told of them early, so that a later sync finds little left to do.
    """

    def __init__(self, what: str, path: Path) -> None:
        self._what = what
        self._path = path
        self._file = open_private(what, path)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=f"packtrain-{what}")
        self._under_way: Future[None] | None = None
        self._told = 0

    def close(self) -> None:
        self._thread.shutdown()
        self._file.close()

    def write(self, data: bytes | bytearray) -> None:
        """``data`` is left alone from now on."""
        self._begin(partial(write_all, self._what, self._file, data))

    def copy(self, results: ResultFiles, offset: int, length: int) -> None:
        self._begin(partial(results.copy, self._what, offset, length, self._file))

    def cut(self, size: int) -> None:
        self._wait()
        with disk_errors(self._path):
            truncate(self._what, self._file, size)
        self._told = min(self._told, size)

    def size(self) -> int:
        self._wait()
        return self._file.tell()

    def _begin(self, act: Callable[[], None]) -> None:
        self._wait()
        # The context says which failpoints are armed.
        self._under_way = self._thread.submit(copy_context().run, self._perform, act)

    def _perform(self, act: Callable[[], None]) -> None:
        with disk_errors(self._path):
            act()
            self._told = start_writeback(self._file, self._told, self._file.tell())

    def _wait(self) -> None:
        if self._under_way:
            self._under_way.result()
