"""More calls at once than are served at a time."""

from __future__ import annotations

import json
import resource
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

import anyio
import pytest

from packtrain.server import serving
from packtrain.server.limits import LIMITS, Limits, affordable

from .raw_http import PATIENCE, error_of, head, statuses, wire

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from msgspec import Raw

    from packtrain._model import Task
    from packtrain.server.backends.backend import Answer

pytestmark = pytest.mark.both_loops

BODY = json.dumps({"contents": [{"parts": [{"text": "x"}]}]}).encode()
CALL = head("POST", "/v1beta/models/m:generateContent", f"Content-Length: {len(BODY)}", "Connection: close") + BODY


class Gate:
    """Answers a request when it is opened, once for each."""

    rows = None

    def __init__(self) -> None:
        self.inside = self.most = 0
        self.changed = anyio.Event()
        self.tickets = anyio.Semaphore(0)

    async def answer(self, requests: Sequence[Raw], *, task: Task, model: str) -> Sequence[Answer]:
        self._move(1)
        try:
            await self.tickets.acquire()
        finally:
            self._move(-1)
        return [b"{}"] * len(requests)

    def _move(self, step: int) -> None:
        self.inside += step
        self.most = max(self.most, self.inside)
        self.changed.set()

    async def until(self, inside: int) -> None:
        with anyio.fail_after(PATIENCE):
            while self.inside != inside:
                self.changed = anyio.Event()
                await self.changed.wait()


async def test_calls_beyond_those_that_are_served_wait_for_their_turn(directory: Path) -> None:
    """B17: each is answered, without a retry; beyond the connections 503 with the time to try again."""
    gate = Gate()
    limits = Limits(calls=2, connections=5)
    async with serving(directory, backend=gate, limits=limits) as origin, AsyncExitStack() as stack:
        lines = [await stack.enter_async_context(wire(origin)) for _ in range(5)]
        for line in lines:
            await line.send(CALL)
        await gate.until(2)
        async with wire(origin) as beyond:
            await beyond.send(CALL)
            answer = await beyond.rest()
        assert statuses(answer) == [503]
        assert b"Retry-After: 1" in answer
        assert error_of(answer)["status"] == "UNAVAILABLE"
        for _ in lines:
            gate.tickets.release()
        with anyio.fail_after(PATIENCE):
            assert [statuses(await line.rest()) for line in lines] == [[200]] * 5
        assert gate.most == 2


async def test_a_call_that_waits_leaves_when_its_client_does(directory: Path) -> None:
    """B17: and the next one takes its turn."""
    gate = Gate()
    async with serving(directory, backend=gate, limits=Limits(calls=1)) as origin, wire(origin) as served:
        await served.send(CALL)
        await gate.until(1)
        async with wire(origin) as gone:
            await gone.send(CALL)
        async with wire(origin) as last:
            await last.send(CALL)
            gate.tickets.release()
            assert statuses(await served.rest()) == [200]
            gate.tickets.release()
            with anyio.fail_after(PATIENCE):
                assert statuses(await last.rest()) == [200]


async def test_calls_that_wait_hold_no_more_memory_than_all_bodies_may(directory: Path) -> None:
    """B17: what a connection buffers counts; 503 with the time to try again."""
    gate = Gate()
    limits = Limits(calls=1, all_bodies=3 * len(BODY))
    async with serving(directory, backend=gate, limits=limits) as origin, AsyncExitStack() as stack:
        lines = [await stack.enter_async_context(wire(origin)) for _ in range(4)]
        for line in lines:
            await line.send(CALL)
        for _ in lines:
            gate.tickets.release()
        with anyio.fail_after(PATIENCE):
            answers = [await line.rest() for line in lines]
    assert sorted(map(statuses, answers)) == [[200], [200], [200], [503]]
    assert sum(b"Retry-After: 1" in answer for answer in answers) == 1


@pytest.mark.parametrize(
    ("descriptors", "connections", "calls"), [(256, 52, 78), (1024, 349, 400), (4096, 2000, 400), (64, 1, 1)]
)
def test_there_are_no_more_connections_than_descriptors(
    monkeypatch: pytest.MonkeyPatch, descriptors: int, connections: int, calls: int
) -> None:
    """B17: each call may need one more for a file, and the service some of its own."""
    monkeypatch.setattr(resource, "getrlimit", lambda _: (descriptors, descriptors))
    limits = affordable(LIMITS)
    assert (limits.connections, limits.calls) == (connections, calls)
