"""Random lives of a manifest, step by step, compared with a plain account of what was written.

Claims, events, stale and forbidden writes, crashes, second drivers and a moving clock in any order, 80 steps a life, on
the manifest in memory and on the one in SQLite. After each step the rows and the history are those of the account.
"""

from __future__ import annotations

import tempfile
from contextlib import ExitStack
from functools import partial
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import pytest
from anyio.from_thread import start_blocking_portal
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from packtrain._errors import ManifestError
from packtrain._manifest.base import Change
from packtrain._manifest.memory import Storage, open_memory
from packtrain._manifest.sqlite import open_sqlite
from packtrain._model import Cursor, Entry, ShardRow, State
from packtrain._rules import lifecycle
from packtrain._rules.lifecycle import TABLE, Event, advance
from packtrain.testing.lives import LINES, RUN, shard
from tests.rules.test_lifecycle import EVENT
from tests.seeds import short

if TYPE_CHECKING:
    from collections.abc import Callable

    from packtrain._manifest.base import Manifest
    from packtrain.testing.manifests import OpenManifest

KINDS = sorted(TABLE, key=lambda kind: kind.__name__)
#: More likely than a quarantine: what leads on.
ONWARD = [kind for kind in KINDS if kind is not lifecycle.Quarantined]


class Machine(RuleBasedStateMachine):
    """``storage`` makes a fresh one, and returns how to open it."""

    storage: Callable[[ExitStack], OpenManifest]
    #: Whether a second handle is refused while the first is open.
    exclusive = False

    def __init__(self) -> None:
        super().__init__()
        self.stack = ExitStack()
        self.portal = self.stack.enter_context(start_blocking_portal())
        self.open = type(self).storage(self.stack)
        self.handle = ExitStack()
        self.now = 0.0
        self.manifest = self._opened()
        self.portal.call(self.manifest.open_run, RUN)
        self.names = count()
        #: The account: rows, who is claimed, rows that were overtaken, and every event.
        self.rows: dict[int, ShardRow] = {}
        self.claimed: set[int] = set()
        self.overtaken: list[ShardRow] = []
        self.written: list[tuple[int, str, State, State]] = []

    def _opened(self) -> Manifest:
        return self.handle.enter_context(self.portal.wrap_async_context_manager(self.open(clock=lambda: self.now)))

    def teardown(self) -> None:
        self.handle.close()
        self.stack.close()

    def _write(self, row: ShardRow, event: Event) -> None:
        self.overtaken.append(self.rows[row.shard])
        self.rows[row.shard] = self.portal.call(self.manifest.write, Change(row, event))
        assert self.rows[row.shard] == msgspec.structs.replace(advance(row, event), version=row.version + 1)
        self.written.append((row.shard, type(event).__name__, row.state, self.rows[row.shard].state))

    def _event(self, kind: type[Event], row: ShardRow) -> Event:
        """The sample of that kind, with names of its own."""
        fresh = f"{row.shard}x{next(self.names)}"
        named = {
            "file": f"files/{fresh}",
            "job": f"batches/{fresh}",
            "tag": f"tag {fresh}",
            "attempt": row.attempt + 1,
        }
        sample = EVENT[kind]
        return msgspec.structs.replace(
            sample, **{name: value for name, value in named.items() if getattr(sample, name, None) is not None}
        )

    # What a driver does

    @precondition(lambda self: len(self.rows) < 4)
    @rule()
    def seal(self) -> None:
        index = len(self.rows)
        cursor = Cursor(shards=index + 1, valid=LINES * (index + 1))
        self.portal.call(self.manifest.seal, shard(index), cursor)
        self.rows[index] = ShardRow(run=RUN.id, shard=index)

    @rule(states=st.sets(st.sampled_from(State), min_size=4), limit=st.integers(0, 3))
    def claim(self, states: set[State], limit: int) -> None:
        """Due rows that are free, lowest shard first, each with a new fence."""
        due = [
            row
            for row in self.rows.values()
            if row.state in states and row.shard not in self.claimed and row.due <= self.now
        ]
        expected = [msgspec.structs.replace(row, owner=0, fence=row.fence + 1) for row in due[:limit]]
        got = self.portal.call(partial(self.manifest.claim, RUN.id, states, limit=limit))
        assert got == expected
        for row in got:
            self.overtaken.append(self.rows[row.shard])
            self.rows[row.shard] = row
            self.claimed.add(row.shard)

    @precondition(lambda self: self.rows)
    @rule(data=st.data())
    def happen(self, data: st.DataObject) -> None:
        """A few events that the table allows, one after the other."""
        index = data.draw(st.sampled_from(sorted(self.rows)), "shard")
        for _ in range(data.draw(st.integers(1, 8), "events")):
            row = self.rows[index]
            kinds = [
                kind for kind in data.draw(st.sampled_from([ONWARD, ONWARD, KINDS])) if row.state in TABLE[kind][0]
            ]
            if kinds:
                self._write(row, self._event(data.draw(st.sampled_from(kinds), "event"), row))

    @precondition(lambda self: self.rows)
    @rule(data=st.data(), kind=st.sampled_from(KINDS))
    def forbid(self, data: st.DataObject, kind: type[Event]) -> None:
        """An event that the table does not allow is refused, and changes nothing."""
        row = data.draw(st.sampled_from(sorted(self.rows.values(), key=lambda row: row.shard)), "job")
        if row.state not in TABLE[kind][0]:
            with pytest.raises(ManifestError, match="cannot follow"):
                self.portal.call(self.manifest.write, Change(row, self._event(kind, row)))

    @precondition(lambda self: self.overtaken)
    @rule(data=st.data())
    def come_late(self, data: st.DataObject) -> None:
        """A driver that still holds an older row writes nothing: state, attempt or fence has moved on."""
        # Most often one that differs from its row in the attempt alone.
        alike = [row for row in self.overtaken if _but_for_attempt(row) == _but_for_attempt(self.rows[row.shard])]
        row = data.draw(st.sampled_from(alike or self.overtaken), "older row")
        now = self.rows[row.shard]
        kinds = [kind for kind in KINDS if row.state in TABLE[kind][0]]
        if kinds and (row.state, row.attempt, row.fence) != (now.state, now.attempt, now.fence):
            with pytest.raises(ManifestError, match="nothing was written"):
                self.portal.call(self.manifest.write, Change(row, self._event(data.draw(st.sampled_from(kinds)), row)))

    @precondition(lambda self: len(self.rows) > 1)
    @rule(data=st.data())
    def steal(self, data: st.DataObject) -> None:
        """A job that one shard has adopted is adopted by no other."""
        adopted = [row.job for row in self.rows.values() if row.job]
        takers = [row for row in self.rows.values() if row.state in TABLE[lifecycle.JobAdopted][0] and not row.job]
        if adopted and takers:
            event = lifecycle.JobAdopted(job=data.draw(st.sampled_from(adopted)), submitted_at=self.now)
            with pytest.raises(ManifestError, match="another shard"):
                self.portal.call(self.manifest.write, Change(takers[0], event))

    @precondition(lambda self: self.claimed)
    @rule(data=st.data(), wait=st.sampled_from([None, 5.0, 100.0]))
    def release(self, data: st.DataObject, wait: float | None) -> None:
        index = data.draw(st.sampled_from(sorted(self.claimed)), "shard")
        change = Change(self.rows[index], release=True, wait=wait)
        self.rows[index] = self.portal.call(self.manifest.write, change)
        assert self.rows[index] == change.applied(self.now)
        self.claimed.remove(index)

    # What happens to it

    @rule(seconds=st.sampled_from([1.0, 50.0, -30.0, 1e6]))
    def clock(self, seconds: float) -> None:
        self.now += seconds

    @rule()
    def restart(self) -> None:
        """All that was written is there, and every claim is void."""
        self.handle.close()
        self._free()
        self.manifest = self._opened()

    @rule()
    def second_driver(self) -> None:
        """Refused while the first one lives; where a storage cannot refuse it, the first one's claims are void."""
        if self.exclusive:
            with pytest.raises(ManifestError), self.portal.wrap_async_context_manager(self.open()):
                pass
        else:
            self.manifest = self._opened()
            self._free()

    def _free(self) -> None:
        """The next handle takes over what this one held."""
        for index in self.claimed:
            self.overtaken.append(self.rows[index])
            self.rows[index] = msgspec.structs.replace(self.rows[index], owner=None, fence=self.rows[index].fence + 1)
        self.claimed.clear()

    # What is always true

    @invariant()
    def rows_are_those_of_the_account(self) -> None:
        assert self.portal.call(self.manifest.rows, RUN.id) == [self.rows[index] for index in sorted(self.rows)]

    @invariant()
    def the_history_is_whole_and_goes_along_the_table(self) -> None:
        entries = self.portal.call(self.manifest.history, RUN.id)
        assert [(entry.shard, entry.event, entry.before, entry.after) for entry in entries] == self.written
        for index, row in self.rows.items():
            self._check_life([entry for entry in entries if entry.shard == index], row)

    def _check_life(self, entries: list[Entry], row: ShardRow) -> None:
        state, attempts, intents, withdrawn, rows = State.SEALED, 0, 0, 0, 0
        for entry in entries:
            assert entry.before is state
            assert entry.attempt - attempts in (0, 1)
            intents += entry.event == "CreateIntended"
            withdrawn += entry.event in ("CreateDeferred", "JobNeverStarted")
            # Another job only by a person's decision, after a quarantine, or when the first one never started.
            over = entry.event in ("Quarantined", "JobNeverStarted")
            rows = 0 if over else rows + (entry.event == "JobAdopted")
            state, attempts = entry.after, entry.attempt
            # At most one create of an attempt is not known to have come to nothing.
            assert intents <= attempts + withdrawn
            assert rows <= 1
        assert (state, attempts) == (row.state, row.attempt)

    @invariant()
    def the_figures_add_up(self) -> None:
        figures = self.portal.call(self.manifest.statistics, RUN.id)
        states = [row.state for row in self.rows.values()]
        assert figures.states == {state: states.count(state) for state in set(states)}
        assert figures.jobs_created == sum(event == "JobAdopted" for _, event, _, _ in self.written)
        tallies = [row.tally for row in self.rows.values() if row.tally]
        assert figures.tally.answered == sum(tally.answered for tally in tallies)


def _but_for_attempt(row: ShardRow) -> tuple[State, int]:
    return row.state, row.fence


class InMemory(Machine):
    @staticmethod
    def storage(_: ExitStack) -> OpenManifest:
        return partial(open_memory, Storage())


class InSqlite(Machine):
    exclusive = True

    @staticmethod
    def storage(stack: ExitStack) -> OpenManifest:
        root = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        return partial(open_sqlite, root / "state" / "manifest.db")


@pytest.mark.parametrize(("machine", "lives"), [(InMemory, short(10, 20)), (InSqlite, short(2, 4))])
def test_any_life_of_a_manifest(machine: type[Machine], lives: int) -> None:
    """Whatever happens in whatever order, the manifest is what was written, along the table and nothing else."""
    chosen = settings(max_examples=lives, stateful_step_count=80, deadline=None, print_blob=True)
    run_state_machine_as_test(machine, settings=chosen)
