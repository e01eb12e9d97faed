"""The clock that tests move by hand."""

from __future__ import annotations

import anyio
import pytest

from packtrain.testing import ManualClock


async def test_time_passes_only_when_it_is_moved() -> None:
    """Both readings move by the same seconds, and never back."""
    clock = ManualClock(start=100.0)
    assert (clock.now(), clock.monotonic()) == (100.0, 0.0)
    clock.advance(2.5)
    assert (clock.now(), clock.monotonic()) == (102.5, 2.5)
    with pytest.raises(ValueError, match="back"):
        clock.advance(-1.0)


async def test_sleepers_wake_in_the_order_of_their_times() -> None:
    """Each after the seconds that it asked for, and those of the same time in the order in which they fell asleep."""
    clock, woken = ManualClock(), list[str]()

    async def sleeper(name: str, seconds: float) -> None:
        await clock.sleep(seconds)
        woken.append(name)

    async with anyio.create_task_group() as tasks:
        for name, seconds in (("late", 3.0), ("early", 1.0), ("second", 1.0)):
            tasks.start_soon(sleeper, name, seconds)
            await anyio.wait_all_tasks_blocked()
        assert clock.next_wake == 1.0
        clock.advance(1.0)
        await anyio.wait_all_tasks_blocked()
        assert woken == ["early", "second"]
        assert clock.next_wake == 2.0
        clock.advance(10.0)
    assert woken == ["early", "second", "late"]
    assert clock.next_wake is None


async def test_a_cancelled_sleeper_is_forgotten() -> None:
    """A wait that was given up does not hold the clock."""
    clock = ManualClock()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(clock.sleep, 5.0)
        await anyio.wait_all_tasks_blocked()
        tasks.cancel_scope.cancel()
    assert clock.next_wake is None


async def test_no_wait_is_needed_for_no_seconds() -> None:
    """A sleep of 0 or less lets others run, and returns."""
    clock = ManualClock()
    with anyio.fail_after(100):
        await clock.sleep(0)
        await clock.sleep(-1)


async def test_a_running_clock_skips_to_the_next_wake() -> None:
    """A day of waits passes in no time, each of its exact length."""
    clock, passed = ManualClock(), list[float]()
    with anyio.fail_after(100):
        async with clock.running():
            for hours in (1, 23):
                await clock.sleep(hours * 3600.0)
                passed.append(clock.monotonic())
    assert passed == [3600.0, 24 * 3600.0]


async def test_an_error_in_a_running_clock_comes_out_as_itself() -> None:
    """Not in a group, so that a test can expect it."""
    with pytest.raises(ValueError, match="mine"):
        async with ManualClock().running():
            raise ValueError("mine")


def test_chance_is_repeatable() -> None:
    """A seed gives the same draws in 0..1 each time; a given jitter is always the same."""
    draws = [ManualClock(seed=7).jitter() for _ in range(2)]
    assert draws[0] == draws[1]
    assert 0 <= draws[0] <= 1
    assert ManualClock(jitter=0.25).jitter() == 0.25
