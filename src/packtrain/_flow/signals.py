"""What the parts of a running client tell one another: that something changed, and how much went by."""

from __future__ import annotations

import anyio


class Changes:
    """Wakes whoever waits, whenever the manifest may have something new for them."""

    def __init__(self) -> None:
        self._event = anyio.Event()

    def notify(self) -> None:
        self._event.set()
        self._event = anyio.Event()

    def mark(self) -> anyio.Event:
        """An event that the next notification sets. Take it before reading the manifest, and none is missed."""
        return self._event


async def wait(event: anyio.Event, seconds: float) -> None:
    """Until the event, or for so long."""
    with anyio.move_on_after(seconds):
        await event.wait()


class Meter:
    """Counts of this process, for people to look at; nothing is decided by them."""

    def __init__(self) -> None:
        self.bytes_total: int | None = None
        self.bytes_read = 0
        self.bytes_sent = 0
        self.lines = 0
        self.valid = 0
        self.rejected = 0

    def sent(self, count: int) -> None:
        self.bytes_sent += count
