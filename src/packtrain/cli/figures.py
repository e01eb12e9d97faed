"""Lines of a progress display, computed from snapshots; pure."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from packtrain._validation import counted

from .quantities import duration_text, size_text

if TYPE_CHECKING:
    from packtrain import MergeProgress, Progress

#: Seconds over which a rate is taken.
WINDOW = 30.0


class Rate:
    """How fast a growing number grew within the last ``WINDOW`` seconds."""

    def __init__(self) -> None:
        self._samples: deque[tuple[float, float]] = deque()

    def observe(self, now: float, value: float) -> None:
        self._samples.append((now, value))
        while self._samples[0][0] < now - WINDOW:
            self._samples.popleft()

    @property
    def per_second(self) -> float:
        (first, low), (last, high) = self._samples[0], self._samples[-1]
        return (high - low) / (last - first) if last > first else 0.0


class Meter:
    """Turns snapshots, each with its time, into named lines of text."""

    def __init__(self) -> None:
        self._sent, self._answered = Rate(), Rate()

    def lines(self, now: float, progress: Progress) -> list[tuple[str, str]]:
        self._sent.observe(now, progress.bytes_sent)
        self._answered.observe(now, progress.lines_answered)
        return [
            ("read", _read(progress)),
            ("shards", _shards(progress)),
            ("sent", f"{size_text(progress.bytes_sent)}, {size_text(self._sent.per_second)}/s"),
            ("jobs", f"{progress.jobs:,}"),
            ("answers", self._answers(progress)),
        ]

    def _answers(self, progress: Progress) -> str:
        text = f"{progress.lines_answered:,} of {counted(progress.valid, 'line')}"
        left = time_left(progress, self._answered.per_second)
        return text if left is None else f"{text}, about {duration_text(left)} left"


def time_left(progress: Progress, answers_per_second: float) -> float | None:
    """Seconds to the last answer at this pace; None while no answers flow or the end of the input is unknown."""
    if answers_per_second <= 0 or not progress.bytes_read or progress.bytes_total is None:
        return None
    expected = progress.valid * max(1.0, progress.bytes_total / progress.bytes_read)
    return max(0.0, expected - progress.lines_answered) / answers_per_second


def merge_line(progress: MergeProgress, rate: Rate, now: float) -> str:
    """One line about a merge; ``rate`` is that of its bytes."""
    rate.observe(now, progress.done)
    if not progress.done:
        return f"reading {size_text(progress.total)} of results"
    text = f"{size_text(progress.done)} of {size_text(progress.total)} joined, {size_text(rate.per_second)}/s"
    left = max(0, progress.total - progress.done)
    return f"{text}, about {duration_text(left / rate.per_second)} left" if left and rate.per_second else text


def _read(progress: Progress) -> str:
    text = size_text(progress.bytes_read)
    if progress.bytes_total is not None:
        text += f" of {size_text(progress.bytes_total)}"
    text += f", {counted(progress.lines, 'line')}"
    return f"{text}, {progress.rejected:,} rejected" if progress.rejected else text


def _shards(progress: Progress) -> str:
    states = ", ".join(f"{count:,} {state}" for state, count in progress.states.items() if count)
    return f"{sum(progress.states.values()):,}" + (f": {states}" if states else "")
