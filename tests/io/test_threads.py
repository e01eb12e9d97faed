"""Calls in worker threads, under both kinds of cancellation."""

from __future__ import annotations

import asyncio
import threading
from contextlib import suppress

import anyio
import anyio.lowlevel
import pytest

from packtrain._io.threads import finish, in_thread, uncancelled, until


class Call:
    """A call that goes on until it is let go."""

    def __init__(self) -> None:
        self.began = anyio.Event()
        self.go_on = threading.Event()
        self.ended = False

    def __call__(self) -> str:
        anyio.from_thread.run_sync(self.began.set)
        self.go_on.wait(60)
        self.ended = True
        return "result"


@pytest.mark.both_loops
async def test_a_cancelled_call_is_over_when_the_cancellation_is_raised() -> None:
    """However often it is cancelled: no thread works for a caller that has gone on."""
    call = Call()
    task = asyncio.ensure_future(in_thread(call))
    await call.began.wait()
    for _ in range(3):
        task.cancel()
        await anyio.lowlevel.checkpoint()
    assert not task.done()
    call.go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert call.ended


async def test_a_call_that_has_not_begun_never_does() -> None:
    """It waits for a free thread."""
    first, second, limiter = Call(), Call(), anyio.CapacityLimiter(1)
    busy = asyncio.ensure_future(in_thread(first, limiter=limiter))
    await first.began.wait()
    waiting = asyncio.ensure_future(in_thread(second, limiter=limiter))
    await anyio.wait_all_tasks_blocked()
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    first.go_on.set()
    assert await busy == "result"
    assert not second.began.is_set()


@pytest.mark.both_loops
async def test_what_is_opened_is_returned_and_the_cancellation_raised_later() -> None:
    """At the next wait of the caller, who has the result by then."""
    call, got = Call(), list[str]()

    async def work() -> None:
        got.append(await uncancelled(call))
        await anyio.lowlevel.checkpoint()
        got.append("not cancelled")

    task = asyncio.ensure_future(work())
    await call.began.wait()
    task.cancel()
    await anyio.lowlevel.checkpoint()
    task.cancel()
    call.go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert got == ["result"]


@pytest.mark.both_loops
async def test_a_time_limit_is_still_a_time_limit() -> None:
    """asyncio counts cancellations; the count is what it would be without us."""
    call = Call()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            with suppress(OSError):
                call.go_on.set()
                await uncancelled(call)
                await anyio.sleep(60)
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0
    await anyio.lowlevel.checkpoint()


async def test_a_time_limit_that_passes_during_the_call() -> None:
    """The cancellation that was held back is the limit's own."""
    call = Call()

    async def let_go() -> None:
        await anyio.sleep(0.05)
        call.go_on.set()

    other = asyncio.ensure_future(let_go())
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await uncancelled(call)
            await anyio.sleep(60)
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0
    await other


async def test_a_scope_cannot_end_it_either() -> None:
    """The result is there, and the next wait is cancelled."""
    call, got = Call(), list[str]()
    with anyio.CancelScope() as scope:
        scope.cancel()
        call.go_on.set()
        got.append(await uncancelled(call))
        await anyio.lowlevel.checkpoint()
        got.append("not cancelled")
    assert got == ["result"]


async def test_errors_pass_through() -> None:
    """Of the call, also when it was cancelled meanwhile."""

    def fail() -> None:
        raise ValueError("this")

    for wait in (in_thread, uncancelled):
        with pytest.raises(ValueError, match="this"):
            await wait(fail)


async def test_cleanup_is_done_to_its_end() -> None:
    """Each of its waits, however often its caller is cancelled."""
    steps: list[int] = []

    async def clean_up() -> None:
        for step in range(3):
            await anyio.sleep(0.001)
            steps.append(step)

    async def work() -> None:
        await finish(clean_up())
        await anyio.sleep(60)

    task = asyncio.ensure_future(work())
    while len(steps) < 3:
        await anyio.lowlevel.checkpoint()
        task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert steps == [0, 1, 2]


async def test_an_event_is_awaited_whatever_happens() -> None:
    """As the outcome of what was handed to another thread."""
    event, passed = anyio.Event(), list[bool]()

    async def work() -> None:
        await until(event)
        passed.append(event.is_set())
        await anyio.sleep(60)

    task = asyncio.ensure_future(work())
    for _ in range(3):
        await anyio.lowlevel.checkpoint()
        task.cancel()
    assert not task.done()
    event.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert passed == [True]
