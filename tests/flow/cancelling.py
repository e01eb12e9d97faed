"""Native cancellation at every wait of a coroutine, and what it leaves behind in this process."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import Callable, Container, Coroutine, Generator
from contextlib import suppress
from pathlib import Path
from types import coroutine
from typing import Any, NamedTuple

from tests.flow.test_workers import children

Work = Callable[[], Coroutine[Any, Any, None]]


class Held(NamedTuple):
    """What this process holds: the targets of its descriptors, and its threads, tasks and children."""

    descriptors: tuple[str, ...]
    threads: tuple[str, ...]
    tasks: int
    children: int


def held() -> Held:
    return Held(
        descriptors=tuple(sorted(filter(None, map(_target, Path("/proc/self/fd").iterdir())))),
        threads=tuple(sorted(thread.name for thread in threading.enumerate() if "packtrain" in thread.name)),
        tasks=len(asyncio.all_tasks()),
        children=len(children()),
    )


def left_since(before: Held) -> list[str]:
    """What is held now and was not before; descriptors of another test that are collected meanwhile do not count."""
    now = held()
    names = Counter(now.descriptors + now.threads) - Counter(before.descriptors + before.threads)
    counts = {"tasks": now.tasks - before.tasks, "children": now.children - before.children}
    return [*names.elements(), *(what for what, more in counts.items() if more > 0)]


def _target(descriptor: Path) -> str:
    """Of files and sockets; those of pipes and of the listing itself are not stable."""
    with suppress(OSError):
        return str(descriptor.readlink()).partition(":[")[0].removesuffix(" (deleted)")
    return ""


class Waits:
    """Counts the waits of one task, and cancels it natively at some of them."""

    def __init__(self, at: Container[int] = ()) -> None:
        self.count = 0
        self._at = at

    async def run(self, work: Work) -> bool:
        """Whether the task was cancelled in the end."""
        task = asyncio.ensure_future(self._through(work()))
        try:
            await task
        except asyncio.CancelledError:
            return True
        return False

    @coroutine
    def _through(self, work: Coroutine[Any, Any, None]) -> Generator[Any, Any, None]:
        step: Callable[[], Any] = lambda: work.send(None)  # noqa: E731 - the next step, whichever it is
        while True:
            try:
                waited = step()
            except StopIteration:
                return
            self.count += 1
            if self.count in self._at:
                task = asyncio.current_task()
                assert task is not None
                asyncio.get_running_loop().call_soon(task.cancel)
            try:
                yield waited
            except BaseException as error:  # noqa: BLE001 - thrown into the work
                step = _thrower(work, error)
            else:
                step = lambda: work.send(None)  # noqa: E731


def _thrower(work: Coroutine[Any, Any, None], error: BaseException) -> Callable[[], Any]:
    return lambda: work.throw(error)
