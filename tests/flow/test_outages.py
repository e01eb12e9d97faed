"""How long a driver waits when all fails, and by which clock."""

from __future__ import annotations

import re
import time
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from msgspec import structs

import packtrain
from packtrain import ApiError, Options, serving
from packtrain._errors import TransportError
from packtrain._flow.driver import Driver
from packtrain._flow.outage import Outage
from packtrain._flow.reporting import refresh
from packtrain._flow.submitter import Creator
from packtrain._io.spool import Spool
from packtrain._manifest.memory import open_memory
from packtrain._model import State
from packtrain.testing import FaultPlan, ManualClock, Script, Status, Step
from packtrain.testing.lives import claimed, live, sealed
from tests.flow.place import Place
from tests.flow.test_reconciler import Listed, SetClock, context

if TYPE_CHECKING:
    from pathlib import Path

UNREACHABLE = TransportError("unreachable", sent=False)


async def test_an_outage_begins_with_its_first_failure() -> None:
    """An hour without anything to do, or with one long upload, is none; a day of failures is."""
    clock = SetClock()
    outage = Outage(clock, Options().patience)
    clock.time += 3600
    clock.time += outage.setback(UNREACHABLE)
    clock.time += 86_300
    outage.setback(UNREACHABLE)
    clock.time += 100
    with pytest.raises(TransportError):
        outage.setback(UNREACHABLE)


async def test_where_nobody_waits_two_minutes_of_failures_are_enough(caplog: pytest.LogCaptureFixture) -> None:
    """As with --no-wait; and a wait is never told of as 0 s."""
    clock = SetClock()
    async with open_memory() as manifest:
        outage = Driver(context(manifest, Listed(), clock), patient=False).list_outage
        outage.setback(UNREACHABLE)
        assert "trying again in 1 s" in caplog.text
        clock.time += 110
        outage.setback(UNREACHABLE)
        clock.time += 20
        with pytest.raises(TransportError):
            outage.setback(UNREACHABLE)


async def test_a_create_without_an_answer_is_told_of_at_once_and_in_the_status(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The minutes in which nobody knows are no silence."""
    clock = SetClock()
    async with open_memory() as manifest:
        await sealed(manifest, 1)
        row = await live(manifest, await claimed(manifest), State.CREATE_INTENT)
        await Creator(context(manifest, Listed(), clock)).create(row)
        assert "shard 0: it is not known whether its job was created" in caplog.text
        spool = Spool(tmp_path / "state")
        spool.root.mkdir()
        await refresh(replace(context(manifest, Listed(), clock), spool=spool), row.run)
        assert list((await packtrain.status(spool.root)).ambiguous) == [0]


async def test_104_a_clock_that_jumps_makes_no_outage() -> None:
    """Nor ends one."""
    clock = SetClock()
    outage = Outage(clock, Options().patience)
    for jump in (3 * 86_400.0, -6 * 86_400.0):
        outage.setback(UNREACHABLE)
        clock.time, clock.booted = clock.time + jump, clock.booted + jump
        outage.setback(UNREACHABLE)


async def test_104_no_attempt_is_lost_to_a_clock_set_forward() -> None:
    """The file is looked at, unless the service's clock agrees."""
    provider, clock = Listed(), SetClock()
    async with open_memory() as manifest:
        await sealed(manifest, 1)
        row = await live(manifest, await claimed(manifest), State.UPLOADED)
        creator = Creator(context(manifest, provider, clock))
        clock.time += 3 * 86_400
        provider.found = 1
        assert not await creator._expires_soon(row)
        assert await creator._expires_soon(row), "it is gone"
        provider.clock, provider.found = SetClock(), 1
        assert not await creator._expires_soon(row)
        provider.clock.time = (row.file_expires_at or 0.0) - 3600
        assert await creator._expires_soon(row)


async def attempt(root: Path, plan: FaultPlan, shards: int) -> Place:
    """With the patience of one second for an outage."""
    async with serving(root / "service", faults=plan) as origin:
        place = Place(root, origin)
        source = place.requests(shards)
        service = structs.replace(place.service, poll=(1.0, 1.0))
        options, clock = Options(shard_requests=1, patience=30.0), ManualClock(start=time.time())
        opened = packtrain.open_client(place.state, service=service, options=options, clock=clock)
        async with opened as client, clock.running():
            await client.run(source, model="m", out=place.out)
    return place


async def test_31_nothing_but_429_ends_the_run_and_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """After the time of an outage; the next start goes on."""
    with pytest.raises(ApiError, match="429"):
        await attempt(tmp_path, FaultPlan(rules=(Status(route="batches.create", status=429),)), shards=2)
    assert "429" in caplog.text
    assert "trying again in" in caplog.text
    assert re.search(r"shard 0: .* the next create at about \d\d:\d\d:\d\d", caplog.text)


async def test_31_429_while_a_job_of_ours_lives_is_waited_out(tmp_path: Path) -> None:
    """It may be our own jobs that fill the quota."""
    full = Status(route="batches.create", calls=(2, 3, 4), status=429)
    at_work = Script(jobs=(1,), steps=(Step(state="RUNNING", looks=40),))
    place = await attempt(tmp_path, FaultPlan(rules=(full,), scripts=(at_work,)), shards=2)
    assert len(place.truth("batch_created")) == 2
