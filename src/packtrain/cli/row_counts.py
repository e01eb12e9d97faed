"""Rows that are no plain answers, and what was paid for twice, in words."""

from __future__ import annotations

from typing import TYPE_CHECKING

from packtrain._validation import counted

if TYPE_CHECKING:
    from packtrain import PaidTwice, RowCounts

#: Classes of answers that say little, and the words for a count of them.
_LITTLE = (
    ("empty", "without content"),
    ("blocked", "blocked by the service"),
    ("recitation", "ended as a recitation"),
    ("truncated", "cut off at the token limit"),
)


def little_text(rows: RowCounts) -> str:
    """Answers that say little, by class; empty without any."""
    return ", ".join(f"{getattr(rows, name):,} {words}" for name, words in _LITTLE if getattr(rows, name))


def unusable_text(rows: RowCounts) -> str:
    """Rows of failed lines that can't be passed on."""
    counts = ((rows.not_json, "not JSON"), (rows.too_long, "too long"))
    return ", ".join(f"{count:,} {words}" for count, words in counts if count)


def paid_twice_text(paid: PaidTwice) -> str:
    """What was or may have been paid for twice; empty without any."""
    texts = []
    if paid.duplicate_jobs:
        jobs = counted(paid.duplicate_jobs, "duplicate job")
        texts.append(f"{counted(paid.duplicate_lines, 'line')} of {jobs}, as far as they ran")
    if paid.lost_lines:
        texts.append(f"{counted(paid.lost_lines, 'line')} whose answers were gone before they could be fetched")
    if paid.repeated_lines:
        texts.append(f"{counted(paid.repeated_lines, 'line')} asked again after an answer")
    return "; ".join(texts)
