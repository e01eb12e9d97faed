"""A virtual clock and manifest for the flow, in one thread and without real waiting.

A coroutine that uses them suspends only in ``pause``; what it yields are the seconds until it wants to go on. So
a schedule decides what happens between any two steps, and a year passes in no time.
"""

from __future__ import annotations

import types
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import msgspec

from packtrain import _model
from packtrain._errors import ManifestError
from packtrain._model import Cursor, DuplicateJob, Run, Shard, ShardRow, State, Statistics
from packtrain._rules.lifecycle import SETTLED, Event, JobAdopted, advance, detail
from packtrain._rules.retry import is_due

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Generator
    from random import Random

    from packtrain._manifest.base import Change

#: When every schedule begins.
START = 1e9
HOUR = 3600.0
FILE_LIFE = JOB_LIFE = 48 * HOUR
#: Jobs on a page of the list: most passes are of several.
PAGE = 2

Key = tuple[int, int]


class Violation(AssertionError):  # noqa: N818 - a verdict on one schedule
    """Something happened that must never happen."""


@types.coroutine
def pause(seconds: float) -> Generator[float, None, None]:
    yield seconds


@dataclass
class Time:
    """Monotonic seconds, and how far the machine's clock is off them."""

    now: float = START
    skew: float = 0.0


class VirtualClock:
    def __init__(self, time: Time, random: Random) -> None:
        self._time = time
        self.jitter = random.random

    def now(self) -> float:
        return self._time.now + self._time.skew

    def monotonic(self) -> float:
        return self._time.now

    async def sleep(self, seconds: float) -> None:
        await pause(seconds)


@dataclass
class Entry:
    """One recorded event, and the seconds in which it was."""

    before: State
    event: Event
    after: State


@dataclass
class Ledger:
    """What is durable: jobs, claims and history. It outlives every driver."""

    #: Both in the order of their keys.
    shards: dict[Key, Shard]
    rows: dict[Key, ShardRow]
    history: dict[Key, list[Entry]] = field(default_factory=dict)
    #: Duplicate jobs, by name.
    duplicate_jobs: dict[str, DuplicateJob] = field(default_factory=dict)
    #: The claims of rows.
    claimed: dict[Key, object] = field(default_factory=dict)
    #: When the last sweep began; None if there was none.
    swept_at: float | None = None

    @property
    def settled(self) -> bool:
        """Whether nothing more will happen by itself."""
        return all(row.state in SETTLED for row in self.rows.values())

    def events(self, key: Key, kind: type[Event]) -> list[Event]:
        return [entry.event for entry in self.history.get(key, []) if type(entry.event) is kind]


class VirtualManifest:
    """One driver's handle: the verbs that create and reconcile use. Every write is conditional, as in the real ones.

    ``crash`` is asked before and after each write.
    """

    instance = "0123abcd"

    def __init__(self, ledger: Ledger, run: Run, clock: VirtualClock, crash: Callable[[], None]) -> None:
        self._clock = clock
        self._ledger = ledger
        self._run = run
        self._crash = crash
        ledger.claimed.clear()  # those of earlier handles are void

    async def shard(self, row: ShardRow) -> Shard:
        return self._ledger.shards[_key(row)]

    async def rows(self, _: str, states: Collection[State] | None = None) -> list[ShardRow]:
        return [row for row in self._ledger.rows.values() if states is None or row.state in states]

    async def claim(self, _: str, states: Collection[State], *, limit: int = 1) -> list[ShardRow]:
        ledger, now = self._ledger, self._clock.now()
        free = [key for key, row in ledger.rows.items() if row.state in states and key not in ledger.claimed]
        due = [key for key in free if is_due(ledger.rows[key].due, now)][:limit]
        for key in due:
            ledger.claimed[key] = self
            ledger.rows[key] = msgspec.structs.replace(ledger.rows[key], fence=ledger.rows[key].fence + 1)
        return [ledger.rows[key] for key in due]

    def close(self) -> None:
        """The claims of a handle die with it."""
        claimed = self._ledger.claimed
        self._ledger.claimed = {key: holder for key, holder in claimed.items() if holder is not self}

    async def write(self, change: Change) -> ShardRow:
        assert not change.children, "next generations are made of results, which are taken as done"
        assert not change.duplicate_jobs, "no person decides here"
        row = change.row
        if change.event is None:
            return self._release(change)
        change = change.stamped(self._clock.now())
        event = change.event
        assert event is not None
        self._crash()
        await pause(0.01)
        after = advance(row, event)
        stored = self._ledger.rows[_key(row)]
        if (stored.state, stored.attempt, stored.fence) != (row.state, row.attempt, row.fence):
            raise ManifestError(f"shard {row.shard}: stale, nothing was written")
        self._ledger.rows[_key(row)] = after
        self._ledger.history.setdefault(_key(row), []).append(Entry(row.state, event, after.state))
        self._crash()
        return after

    async def note(self, _: str, duplicate: DuplicateJob) -> None:
        self._crash()
        await pause(0.01)
        self._ledger.duplicate_jobs[duplicate.job] = duplicate
        self._crash()

    async def history(self, _: str, shard: int | None = None) -> list[_model.Entry]:
        return [
            _model.Entry(
                at=0.0,
                shard=key[0],
                generation=key[1],
                attempt=0,
                event=type(entry.event).__name__,
                before=entry.before,
                after=entry.after,
                detail=detail(entry.event),
            )
            for key, entries in self._ledger.history.items()
            for entry in entries
            if shard in (None, key[0])
        ]

    async def duplicate_jobs(self, _: str) -> list[DuplicateJob]:
        return list(self._ledger.duplicate_jobs.values())

    def _release(self, change: Change) -> ShardRow:
        row, stored = change.row, self._ledger.rows[_key(change.row)]
        if stored.fence != row.fence:
            raise ManifestError(f"shard {row.shard}: the claim was lost")
        self._ledger.claimed.pop(_key(row), None)
        if change.wait is not None:
            stored = msgspec.structs.replace(stored, due=self._clock.now() + change.wait)
            self._ledger.rows[_key(row)] = stored
        return stored

    async def statistics(self, run: str) -> Statistics:
        states = [row.state for row in self._ledger.rows.values()]
        created = sum(bool(self._ledger.events(key, JobAdopted)) for key in self._ledger.rows)
        counts = {state: states.count(state) for state in set(states)}
        return Statistics(run=run, cursor=Cursor(), states=counts, jobs_created=created)


def _key(row: ShardRow) -> Key:
    return row.shard, row.generation
