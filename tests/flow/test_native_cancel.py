"""A client whose task is cancelled by asyncio itself, as services that embed it do, leaves nothing behind."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING

import anyio
import pytest

import packtrain
from packtrain import Local, Options
from tests.flow.cancelling import Waits, held, left_since
from tests.flow.place import read_lines, request_line
from tests.seeds import LONG, seeded, short

if TYPE_CHECKING:
    from pathlib import Path

    from tests.flow.cancelling import Work

LINES = 12


#: Of the long form.
pytestmark = [pytest.mark.both_loops] if LONG else []


class Embedded:
    """A client on a local service, opened and closed, and with ``runs`` a run in between."""

    def __init__(self, root: Path, *, runs: bool) -> None:
        self.out = root / "out.jsonl"
        self._state = root / "state"
        self._runs = runs

    async def __call__(self) -> None:
        options = Options(shard_requests=5, workers=1)
        async with packtrain.open_client(self._state, service=Local(), options=options) as client:
            if self._runs:
                await client.run(map(request_line, range(LINES)), model="m", out=self.out)


async def waits_of(work: Work) -> int:
    """Of a second start, when everything is loaded."""
    for _ in range(2):
        waits = Waits()
        assert not await waits.run(work)
    return waits.count


async def test_opening_a_client_is_cancelled_at_every_wait(tmp_path: Path) -> None:
    """A17: descriptors, threads, tasks and children are those of before, at once; and the next start is not refused."""
    work = Embedded(tmp_path, runs=False)
    count = await waits_of(work)
    before = held()
    for number in range(1, count + 1):
        await Waits({number}).run(work)
        assert not left_since(before), f"cancelled at wait {number}"
    assert not await Waits().run(work)


async def test_a_client_is_cancelled_again_while_it_closes(tmp_path: Path) -> None:
    """A17: as by a service that loses its patience; what was begun is done to its end."""
    work, chance = Embedded(tmp_path, runs=False), seeded("again")
    count = await waits_of(work)
    before = held()
    for _ in range(count if LONG else 5):
        first = chance.randrange(1, count + 1)
        await Waits(range(first, 10 * count)).run(work)
        assert not left_since(before), f"cancelled at every wait from {first} on"


async def test_a_run_is_cancelled_at_any_wait_and_goes_on(tmp_path: Path) -> None:
    """A17: with a time limit, by its task, and by a scope; in the end every line has its one answer."""
    chance = seeded("run")
    count = await waits_of(Embedded(tmp_path / "calm", runs=True))
    before = held()
    for number in range(short(1, 40)):
        work = Embedded(tmp_path / str(number), runs=True)
        first = chance.randrange(1, 2 * count)
        await Waits({first}).run(work)
        assert not left_since(before), f"cancelled at wait {first}"
        with anyio.move_on_after(chance.random()):
            await work()
        assert not left_since(before), "cancelled by a scope"
        with suppress(TimeoutError):
            await asyncio.wait_for(work(), chance.random())
        assert not left_since(before), "cancelled by a time limit"
        await work()
        assert [row["key"] for row in read_lines(work.out)] == [f"key-{n}" for n in range(LINES)]
