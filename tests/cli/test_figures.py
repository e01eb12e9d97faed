"""What the progress display says."""

from __future__ import annotations

from msgspec.structs import replace

from packtrain import Progress, State
from packtrain.cli.figures import WINDOW, Meter, Rate, time_left


def test_a_rate_is_taken_over_the_last_seconds_only() -> None:
    """What was fast long ago does not count."""
    rate = Rate()
    rate.observe(0.0, 0)
    assert rate.per_second == 0
    rate.observe(1.0, 1000)
    assert rate.per_second == 1000
    rate.observe(1.0 + WINDOW, 1000)
    assert rate.per_second == 0


def test_time_left_counts_lines_that_are_not_read_yet() -> None:
    """With a tenth of the input read, ten times the valid lines are expected."""
    progress = Progress(bytes_total=1000, bytes_read=100, valid=50, lines_answered=20)
    assert time_left(progress, 4.0) == (500 - 20) / 4


def test_time_left_is_unknown_without_answers_or_an_end() -> None:
    """Nobody can say when a stream ends, or how fast a service is that has not answered yet."""
    assert time_left(Progress(bytes_total=None, bytes_read=100, valid=50), 4.0) is None
    assert time_left(Progress(bytes_total=1000, bytes_read=100, valid=50), 0.0) is None


def test_the_display_names_every_figure() -> None:
    """Bytes read, shards by state, upload rate, jobs, answers and time left."""
    progress = Progress(
        bytes_total=2_000_000,
        bytes_read=1_000_000,
        bytes_sent=0,
        lines=1_010,
        valid=1_000,
        rejected=10,
        states={State.UPLOADING: 2, State.SEALED: 0},
        jobs=3,
    )
    meter = Meter()
    meter.lines(0.0, progress)
    later = replace(progress, bytes_sent=500_000, lines_answered=100)
    assert dict(meter.lines(10.0, later)) == {
        "read": "1.0 MB of 2.0 MB, 1,010 lines, 10 rejected",
        "shards": "2: 2 uploading",
        "sent": "500 KB, 50.0 KB/s",
        "jobs": "3",
        "answers": "100 of 1,000 lines, about 3 min left",
    }
