"""When to look, and when looking has settled something."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from packtrain._model import JobState, RemoteJob
from packtrain._rules.submission import Search, Sight, next_delay, sight, winner

SETTLE = 900.0


def look(search: Search, times: list[float], worth: Sight) -> Search:
    for at in times:
        search = search.after(at, worth)
    return search


@given(st.integers(0, 10_000), st.floats(0, 1))
def test_the_wait_stays_within_its_bounds_and_its_jitter(quiet: int, jitter: float) -> None:
    """However long nothing moves."""
    assert 30 * 0.8 <= next_delay(quiet, (30.0, 300.0), jitter) <= 300 * 1.2 + 1e-6


def test_waits_grow_while_nothing_moves() -> None:
    """A quiet service is not asked every half minute for a day."""
    delays = [next_delay(quiet, (30.0, 300.0), 0.5) for quiet in range(20)]
    assert delays == sorted(delays)
    assert delays[-1] == 300.0


def test_absence_needs_three_controlled_passes_and_the_whole_time() -> None:
    """Neither many quick looks nor one late one will do."""
    assert not look(Search(0.0), [0, 10, 899], Sight.CONTROLLED).absent(SETTLE)
    assert not look(Search(0.0), [0, 900], Sight.CONTROLLED).absent(SETTLE)
    assert look(Search(0.0), [0, 10, 900], Sight.CONTROLLED).absent(SETTLE)


def test_the_pass_that_settles_it_must_itself_be_controlled() -> None:
    """Early controls say nothing of a late empty list."""
    search = look(Search(0.0), [0, 10, 20], Sight.CONTROLLED).after(900, Sight.VOID)
    assert not search.absent(SETTLE)
    assert search.after(910, Sight.CONTROLLED).absent(SETTLE)


def test_without_any_job_to_go_by_absence_takes_twice_the_time_and_five_passes() -> None:
    """The very first create of a run has no control."""
    assert not look(Search(0.0), [0, 10, 900, 1800], Sight.BARE).absent(SETTLE)
    assert not look(Search(0.0), [0, 10, 20, 900, 1799], Sight.BARE).absent(SETTLE)
    assert look(Search(0.0), [0, 10, 20, 900, 1800], Sight.BARE).absent(SETTLE)


def test_void_passes_never_come_to_absence() -> None:
    """However many, and for however long."""
    assert not look(Search(0.0), [900.0 * n for n in range(500)], Sight.VOID).absent(SETTLE)


@pytest.mark.parametrize(("worth", "earliest"), [(Sight.CONTROLLED, 910), (Sight.BARE, 1810), (Sight.VOID, None)])
def test_the_earliest_end_of_a_search_is_that_of_looks_like_the_last_one(worth: Sight, earliest: float | None) -> None:
    """What people are told who wait for it."""
    assert look(Search(10.0), [10, 20], worth).earliest(SETTLE) == earliest


def test_a_pass_counts_only_if_it_shows_a_job_that_we_know() -> None:
    """And one younger than the doubt, where there is one: the list may be older than what is looked for."""
    old, young = {"batches/old": 5.0}, {"batches/old": 5.0, "batches/young": 15.0}
    assert sight(frozenset(), {}, 10.0) is Sight.BARE
    assert sight(frozenset({"batches/other"}), {}, 10.0) is Sight.BARE
    assert sight(frozenset(), old, 10.0) is Sight.VOID
    assert sight(frozenset({"batches/old"}), old, 10.0) is Sight.CONTROLLED
    assert sight(frozenset({"batches/old"}), young, 10.0) is Sight.VOID
    assert sight(frozenset({"batches/old", "batches/young"}), young, 10.0) is Sight.CONTROLLED


def test_a_day_of_void_passes_is_the_end_of_looking() -> None:
    """Counted from the last pass that said something; one void pass after a long pause proves no day."""
    day = 24 * 3600.0
    assert not look(Search(0.0), [0, 600, day - 1], Sight.VOID).hopeless()
    assert not look(Search(0.0), [day, day + 600], Sight.VOID).hopeless()
    assert look(Search(0.0), [0, 600, day], Sight.VOID).hopeless()
    seen = Search(0.0).after(3600, Sight.BARE)
    assert not look(seen, [7200, 9000, day], Sight.VOID).hopeless()
    assert look(seen, [7200, 9000, day + 3600], Sight.VOID).hopeless()


@given(st.floats(0, 1))
def test_looks_come_quickly_first_and_always_end(jitter: float) -> None:
    """A job that was made is found within seconds; one that was not is given up in bounded time."""
    search = Search(100.0)
    times: list[float] = []
    while not search.absent(SETTLE):
        at = search.next_look(SETTLE, jitter)
        assert not times or at >= times[-1] + 2
        times.append(at)
        search = search.after(at, Sight.CONTROLLED)
    assert times[0] == 100.0
    assert times[5] <= 100.0 + 60
    assert len(times) <= 12
    assert SETTLE <= times[-1] - 100.0 <= 1.5 * SETTLE


def test_after_a_long_stop_looks_still_keep_their_distance() -> None:
    """Three in the same second would be one look."""
    search = Search(0.0).after(50_000, Sight.CONTROLLED)
    assert search.next_look(SETTLE, 0.0) == 50_300


def test_the_job_kept_is_the_furthest_then_the_oldest() -> None:
    """What is paid for already is not thrown away."""

    def job(name: str, state: JobState, at: float) -> RemoteJob:
        return RemoteJob(name=name, state=state, created_at=at)

    pending, running = job("batches/a", JobState.PENDING, 1), job("batches/b", JobState.RUNNING, 2)
    older = job("batches/c", JobState.RUNNING, 1)
    assert winner([pending, running]) is running
    assert winner([running, older]) is older
    assert winner([job("batches/d", JobState.FAILED, 0), pending]) is pending
