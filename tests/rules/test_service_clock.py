"""The service's clock, by answers that may be days off."""

from __future__ import annotations

import pytest

from packtrain._options import Policy
from packtrain._rules.service_clock import ServiceClock

DAY = 86_400.0
#: This machine's Unix time when its monotonic clock was at 0.
EPOCH = 1e9


def after(*answers: tuple[float, float]) -> float | None:
    """How far the clock is ahead of this machine's after answers at these monotonic times, each so far ahead."""
    clock = ServiceClock(Policy())
    for monotonic, ahead in answers:
        clock.observe(EPOCH + monotonic + ahead, monotonic, EPOCH + monotonic)
    now = clock.now(1000.0)
    return None if now is None else now - EPOCH - 1000.0


@pytest.mark.parametrize(
    ("answers", "ahead"),
    [
        ([], None),
        ([(0, 20)], 20),
        ([(0, 20), (10, 4 * DAY)], 20),
        ([(0, 4 * DAY)], None),
        ([(0, 4 * DAY), (1, 4 * DAY), (2, 4 * DAY), (119, 4 * DAY)], None),
        ([(0, 4 * DAY), (120, 4 * DAY)], None),
        ([(0, 4 * DAY), (60, 4 * DAY + 2), (120, 4 * DAY)], 4 * DAY),
        ([(0, 4 * DAY), (60, 4 * DAY), (120, 4 * DAY), (121, -DAY)], 4 * DAY),
        ([(0, 4 * DAY), (60, 0), (120, 4 * DAY), (180, 4 * DAY)], 0),
    ],
)
def test_a_time_far_from_ours_needs_several_answers(answers: list[tuple[float, float]], ahead: float | None) -> None:
    """One answer may be days off; a clock that is off all the time is the service's (A7)."""
    assert after(*answers) == ahead


def test_a_time_that_does_not_move_is_no_clock() -> None:
    """As from a cache: it must keep the pace of the monotonic clock."""
    assert after(*((at, 4 * DAY - at) for at in range(0, 600, 40))) is None


def test_a_clock_that_drifts_is_followed() -> None:
    """By as much as answers take longer than others."""
    far = [(float(at), 4 * DAY) for at in (0, 60, 120)]
    assert after(*far, (180.0, 4 * DAY + 20)) == 4 * DAY + 20
