"""Passing time over real sockets, with a manual clock."""

from __future__ import annotations

from typing import TYPE_CHECKING

from anyio.lowlevel import checkpoint

if TYPE_CHECKING:
    from packtrain.testing import ManualClock

#: Turns of the event loop in which bytes on loopback reach the peer and its handlers.
TURNS = 50


async def pass_time(clock: ManualClock, seconds: float) -> None:
    """Advances the clock after bytes in flight have arrived, and lets those that wake up act."""
    await _settle()
    clock.advance(seconds)
    await _settle()


async def _settle() -> None:
    for _ in range(TURNS):
        await checkpoint()
