"""Can two jobs of one shard be live at one instant? Searched exhaustively, and the search is seen to see."""

from __future__ import annotations

from pathlib import Path

import pytest

from .__main__ import found, line
from .protocols import (
    BETS,
    LIST_ONCE,
    NAIVE,
    ONE,
    OURS,
    QUARANTINE,
    REFINEMENTS,
    REFUSALS,
    REVOKE,
    REVOKE_WAIT,
    SETTLE,
    SETTLE_REVOKE_WAIT,
    TABLE,
    TWO,
    WITHOUT_FILE_CHECK,
    WORLDS,
    Cell,
    Row,
)
from .search import Bounds, explore, replay
from .shard import Cell as InManifest
from .shard import Protocol, World

DOCS = Path(__file__).parents[2] / "docs" / "internals" / "model.md"
STRICT, LATE, LAG, BOTH = WORLDS.values()


def name(value: object) -> str:
    return f"{value[0].name}-{value[1].drivers}" if isinstance(value, tuple) and len(value) == 2 else ""


@pytest.mark.parametrize(("row", "cells"), TABLE.items(), ids=name)
def test_the_verdicts_on_the_protocols(row: Row, cells: tuple[Cell, ...]) -> None:
    """The naive protocols reach two live jobs in so many steps, ours in none; the counts check the description."""
    assert found(row, cells) == cells


@pytest.mark.parametrize(("row", "cells"), WITHOUT_FILE_CHECK.items(), ids=name)
def test_the_verdicts_if_the_service_accepts_a_create_without_its_file(row: Row, cells: tuple[Cell, ...]) -> None:
    """The wait before the revocation keeps one driver safe all the same; two drivers need the service's check."""
    assert found(row, cells, checks_file=False) == cells


@pytest.mark.parametrize(("row", "cells"), REFINEMENTS.items(), ids=name)
def test_finer_steps_and_more_parties_change_no_verdict(row: Row, cells: tuple[Cell, ...]) -> None:
    """A revocation in two steps, conditional saves, more crashes."""
    assert found(row, cells) == cells


@pytest.mark.parametrize(("row", "cells"), REFUSALS.items(), ids=name)
def test_a_refusal_that_may_be_an_acceptance_is_a_bet_on_the_list(row: Row, cells: tuple[Cell, ...]) -> None:
    """It is lost where the list shows the job of such a create too late (B16)."""
    assert found(row, cells, refusals=1) == cells


@pytest.mark.parametrize("world", WORLDS.values(), ids=WORLDS)
def test_a_lost_bet_heals(world: World) -> None:
    """The sweep cancels the second job: in the end one is live, or a person decides."""
    assert explore(BETS, world._replace(refusals=1), ONE).dead_end is None


LATE_POST = [
    "A writes intent 1",
    "A sends POST 1",
    "A gives up waiting for POST 1",
    "A sees no job, writes intent 2",
    "POST 1 of A is accepted, the reply lost",
    "A sends POST 2",
    "POST 2 of A is accepted",
]
PAUSED_DRIVER = [
    "A writes intent 1",
    "B finds intent 1",
    "B sees no job, writes intent 2",
    "A sends POST 1",
    "POST 1 of A is accepted",
    "B sends POST 2",
    "POST 2 of B is accepted",
]
LATE_LIST = [
    "A writes intent 1",
    "A sends POST 1",
    "POST 1 of A is accepted, the reply lost",
    "A gives up waiting for POST 1",
    "A deletes file 1",
    "A sees no job, writes intent 2",
    "A sends POST 2",
    "POST 2 of A is accepted",
]
COUNTEREXAMPLES = {
    "a POST that arrives late defeats one look at the list": (LIST_ONCE, LATE, ONE, LATE_POST),
    "a paused driver defeats waiting alone": (SETTLE, STRICT, TWO, PAUSED_DRIVER),
    "a list that lags defeats a revocation without a wait": (REVOKE, LAG, ONE, LATE_LIST),
}


@pytest.mark.parametrize(("protocol", "world", "bounds", "way"), COUNTEREXAMPLES.values(), ids=COUNTEREXAMPLES)
def test_the_shortest_counterexamples(protocol: Protocol, world: World, bounds: Bounds, way: list[str]) -> None:
    """Each is a way that the model allows to two live jobs, and there is none shorter."""
    assert replay(way, protocol, world, bounds).most_live == 2
    found = explore(protocol, world, bounds, whole=False).counterexample
    assert found is not None
    assert len(found) == len(way)


@pytest.mark.parametrize("world", WORLDS.values(), ids=WORLDS)
@pytest.mark.parametrize("bounds", [ONE, TWO], ids=["one driver", "two drivers"])
@pytest.mark.parametrize("protocol", [QUARANTINE, REVOKE_WAIT, SETTLE_REVOKE_WAIT, OURS], ids=lambda p: p.name)
def test_it_ends_with_one_live_job_or_with_a_person(protocol: Protocol, bounds: Bounds, world: World) -> None:
    """Where nothing can happen any more, one job is live, or none is and the last attempt is ambiguous."""
    findings = explore(protocol, world, bounds)
    assert findings.terminals
    assert findings.dead_end is None


@pytest.mark.parametrize("world", WORLDS.values(), ids=WORLDS)
@pytest.mark.parametrize("protocol", [LIST_ONCE, SETTLE, REVOKE], ids=lambda p: p.name)
def test_recorded_intents_make_duplicates_heal(protocol: Protocol, world: World) -> None:
    """Two live jobs come and go: the sweep leaves one, because every job is found by its tag."""
    assert explore(protocol, world, ONE).dead_end is None


def test_the_naive_protocol_ends_with_nine_live_jobs() -> None:
    """Nothing is recorded, so nothing heals: three lives of the program with three tries each."""
    findings = explore(NAIVE, STRICT, ONE)
    assert (findings.most_live, findings.states) == (9, 7541)
    assert findings.dead_end is not None


@pytest.mark.parametrize("bounds", [ONE, TWO], ids=["one driver", "two drivers"])
@pytest.mark.parametrize(
    "protocol", [LIST_ONCE, SETTLE, QUARANTINE, REVOKE, REVOKE_WAIT, SETTLE_REVOKE_WAIT, OURS], ids=lambda p: p.name
)
def test_a_create_delivered_twice_makes_two_jobs_whatever_the_protocol(protocol: Protocol, bounds: Bounds) -> None:
    """Intent, POST, accepted, accepted again: no client can prevent it. The sweep heals it."""
    findings = explore(protocol, World(delivers_twice=True), bounds, whole=False)
    assert findings.counterexample is not None
    assert len(findings.counterexample) == 4
    if bounds == ONE:
        assert explore(protocol, World(delivers_twice=True), ONE).dead_end is None


#: Protocol, bounds, and in which worlds an adopted job may be one that a deletion has killed.
KILLED = {
    "one driver, revoke": (REVOKE_WAIT, ONE, []),
    "one driver, revoke in two steps": (REVOKE_WAIT._replace(revokes_in_two=True), ONE, []),
    "one driver, packtrain": (OURS, ONE, []),
    "two drivers, revoke": (REVOKE_WAIT, TWO, [LAG, BOTH]),
    "two drivers, revoke in two steps": (REVOKE_WAIT._replace(revokes_in_two=True), TWO, [STRICT, LATE, LAG, BOTH]),
    "two drivers, settle and revoke": (SETTLE_REVOKE_WAIT, TWO, []),
    "two drivers, packtrain": (OURS, TWO, []),
}


@pytest.mark.parametrize(("protocol", "bounds", "worlds"), KILLED.values(), ids=KILLED)
def test_a_deletion_that_kills_its_job_never_makes_two(protocol: Protocol, bounds: Bounds, worlds: list[World]) -> None:
    """If jobs read their file lazily, an adopted job may be dead: so a job that failed must lead somewhere. Where a
    reply is recorded only at the intent of its attempt, one that comes after the revocation finds no way in."""
    for world in WORLDS.values():
        findings = explore(protocol, world._replace(deletion_kills=True), bounds)
        dead = [state for state in findings.terminals if state.manifest[0] is InManifest.DONE and not _live(state.jobs)]
        assert findings.counterexample is None
        assert bool(dead) == (world in worlds)
        assert (findings.dead_end is not None) == (world in worlds)


@pytest.mark.parametrize(("protocol", "killed"), [(REVOKE_WAIT, True), (SETTLE_REVOKE_WAIT, False), (OURS, False)])
def test_one_driver_that_settles_first_kills_no_job(protocol: Protocol, killed: bool) -> None:
    """Without the wait, all attempts can go to jobs that were made, hidden by the list and killed by the deletion."""
    findings = explore(protocol, LAG._replace(deletion_kills=True), ONE)
    assert any(state.jobs and not _live(state.jobs) for state in findings.terminals) is killed


def _live(jobs: object) -> bool:
    assert isinstance(jobs, tuple)
    return any(job.live for job in jobs)


def test_the_page_on_the_model_shows_what_was_found() -> None:
    """Every row of its tables is one that the tests above assert, and none is missing."""
    rows = {line(*item) for table in (TABLE, WITHOUT_FILE_CHECK, REFINEMENTS, REFUSALS) for item in table.items()}
    shown = [text for text in DOCS.read_text().splitlines() if text.startswith("| ") and "protocol" not in text]
    assert rows <= set(shown)
