"""What the progress display says."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from msgspec.structs import replace

from packtrain import MergeProgress, Progress, State, merge
from packtrain.cli.figures import WINDOW, Meter, Rate, merge_line, time_left
from tests.cli.terminals import request_line

if TYPE_CHECKING:
    from pathlib import Path


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


def test_a_merge_says_how_far_it_is() -> None:
    """C4: first that it reads, then bytes, pace and the time left."""
    progress, rate = MergeProgress(), Rate()
    progress.total = 4_000_000_000
    assert merge_line(progress, rate, 0.0) == "reading 4.0 GB of results"
    progress.done = 1_000_000_000
    assert merge_line(progress, rate, 10.0) == "1.0 GB of 4.0 GB joined, 100 MB/s, about 30 s left"
    assert merge_line(progress, rate, 100.0) == "1.0 GB of 4.0 GB joined, 0 B/s"


@pytest.mark.parametrize("ordered", [True, False])
async def test_a_merge_counts_the_bytes_that_it_joins(tmp_path: Path, ordered: bool) -> None:
    """C4: to the end, whatever the order of the results."""
    keys = range(50)
    (tmp_path / "a.jsonl").write_bytes(b"".join(map(request_line, keys)))
    rows = [b'{"key":"k%d","response":{"text":"%s"}}\n' % (key, b"x" * key) for key in keys]
    (tmp_path / "r.jsonl").write_bytes(b"".join(rows if ordered else reversed(rows)))
    progress = MergeProgress()
    await merge([tmp_path / "a.jsonl"], [tmp_path / "r.jsonl"], tmp_path / "out", progress=progress)
    assert progress.done == progress.total == sum(map(len, rows))
