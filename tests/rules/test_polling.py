"""When to look, and when looking has settled something."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from packtrain._model import BatchState, RemoteBatch
from packtrain._rules.polling import Search, next_delay, winner

SETTLE = 900.0


def look(search: Search, times: list[float], *, controlled: bool) -> Search:
    for at in times:
        search = search.after(at, controlled=controlled)
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
    assert not look(Search(0.0), [0, 10, 899], controlled=True).absent(SETTLE)
    assert not look(Search(0.0), [0, 900], controlled=True).absent(SETTLE)
    assert look(Search(0.0), [0, 10, 900], controlled=True).absent(SETTLE)


def test_the_pass_that_settles_it_must_itself_be_controlled() -> None:
    """Early controls say nothing of a late empty list."""
    search = look(Search(0.0), [0, 10, 20], controlled=True).after(900, controlled=False)
    assert not search.absent(SETTLE)
    assert search.after(910, controlled=True).absent(SETTLE)


def test_without_a_control_absence_takes_twice_the_time_and_five_passes() -> None:
    """The list has been seen empty while jobs were pending."""
    assert not look(Search(0.0), [0, 10, 900, 1799], controlled=False).absent(SETTLE)
    assert not look(Search(0.0), [0, 10, 900, 1800], controlled=False).absent(SETTLE)
    assert look(Search(0.0), [0, 10, 20, 900, 1800], controlled=False).absent(SETTLE)


def test_looks_come_quickly_first_and_always_end() -> None:
    """A job that was made is found within seconds; one that was not is given up in bounded time."""
    search, now = Search(0.0), 0.0
    for _ in range(100):
        search = search.after(now, controlled=True)
        if search.absent(SETTLE):
            break
        now += search.next_look(SETTLE)
    assert search.absent(SETTLE)
    assert now <= 2 * SETTLE
    assert Search(0.0).after(0.0, controlled=True).next_look(SETTLE) <= SETTLE / 10


def test_the_job_kept_is_the_furthest_then_the_oldest() -> None:
    """What is paid for already is not thrown away."""

    def batch(name: str, state: BatchState, at: float) -> RemoteBatch:
        return RemoteBatch(name=name, state=state, created_at=at)

    pending, running = batch("batches/a", BatchState.PENDING, 1), batch("batches/b", BatchState.RUNNING, 2)
    older = batch("batches/c", BatchState.RUNNING, 1)
    assert winner([pending, running]) is running
    assert winner([running, older]) is older
    assert winner([batch("batches/d", BatchState.FAILED, 0), pending]) is pending
