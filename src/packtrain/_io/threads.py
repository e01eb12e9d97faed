"""Calls in worker threads, and cleanup, that no cancellation leaves halfway.

A cancelled scope of anyio leaves a shielded block alone. ``Task.cancel``, ``asyncio.wait_for`` and ``asyncio.timeout``
do not: they end any wait, of a shielded block as well, and a thread that works for it goes on. Here such a cancellation
is raised when the work has ended, at this wait or at the next one.
"""

from __future__ import annotations

import asyncio
import threading
from importlib import import_module
from typing import TYPE_CHECKING, Generic, TypeVar, TypeVarTuple

import anyio
import anyio.to_thread

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


async def in_thread(act: Callable[[*Ts], T], *arguments: *Ts, limiter: anyio.CapacityLimiter | None = None) -> T:
    """The result of a call in a worker thread. When the caller is cancelled, the call is over, or never began."""
    call = _Call(act, arguments)
    try:
        return await anyio.to_thread.run_sync(call.run, limiter=limiter)
    except asyncio.CancelledError:
        if not call.give_up():
            with anyio.CancelScope(shield=True):
                await _end_of(call)
        raise


async def uncancelled(act: Callable[[*Ts], T], *arguments: *Ts, limiter: anyio.CapacityLimiter | None = None) -> T:
    """As ``in_thread``, but the call is made and its result returned also when the caller is cancelled meanwhile.

    For what opens a file or gives one its name: otherwise the caller would not have the file that is to be closed. The
    cancellation is raised at the caller's next wait.
    """
    return await finish(in_thread(act, *arguments, limiter=limiter))


async def finish(work: Coroutine[object, object, T]) -> T:
    """The result of ``work``, which is done to its end also when the caller is cancelled meanwhile.

    The cancellation is raised at the caller's next wait.
    """
    caller, task, cancelled = asyncio.current_task(), asyncio.ensure_future(work), False
    assert caller is not None
    with anyio.CancelScope(shield=True):
        while not task.done():
            try:
                await asyncio.wait({task})
            except asyncio.CancelledError:
                cancelled = True
                caller.uncancel()  # counted again below
    if cancelled:
        caller.cancel()
    return task.result()


async def until(event: anyio.Event) -> None:
    """Until the event is set, also when the caller is cancelled meanwhile, which is raised at its next wait."""
    with anyio.CancelScope(shield=True):
        try:
            await event.wait()
        except asyncio.CancelledError:
            pass
        else:
            return
    caller = asyncio.current_task()
    assert caller is not None
    caller.uncancel()
    await finish(event.wait())
    caller.cancel()


async def load(*modules: str) -> None:
    """Import modules in a worker thread: reading them, and what they read themselves, would block the loop."""
    await in_thread(lambda: [import_module(module) for module in modules])


class _Call(Generic[*Ts, T]):
    """One call in a thread, whose caller may stop waiting for it."""

    def __init__(self, act: Callable[[*Ts], T], arguments: tuple[*Ts]) -> None:
        self._act = act
        self._arguments = arguments
        self._loop = asyncio.get_running_loop()
        self._lock = threading.Lock()
        self._begun = False
        self._given_up = False
        self._waiter: asyncio.Future[None] | None = None
        self._ended = False

    def run(self) -> T:
        with self._lock:
            if self._given_up:
                raise asyncio.CancelledError
            self._begun = True
        try:
            return self._act(*self._arguments)
        finally:
            with self._lock:
                self._ended = True
                if self._waiter is not None:
                    self._loop.call_soon_threadsafe(self._waiter.set_result, None)

    def give_up(self) -> bool:
        """Keep it from beginning; False when it has begun."""
        with self._lock:
            self._given_up = not self._begun
            return self._given_up

    def end(self) -> asyncio.Future[None]:
        """Done when the call is over."""
        with self._lock:
            if self._waiter is None:
                self._waiter = self._loop.create_future()
                if self._ended:
                    self._waiter.set_result(None)
            return self._waiter


async def _end_of(call: _Call[*Ts, T]) -> None:
    waiter = call.end()
    while not waiter.done():
        try:
            await asyncio.wait({waiter})
        except asyncio.CancelledError:  # the caller raises the first one
            continue
