"""A frame judged in another process comes to what it comes to in this one."""

from __future__ import annotations

import msgspec
import pytest

from packtrain._rules.framing import Frame, Framer
from packtrain._rules.records import Batch, scan
from packtrain._rules.verdicts import answer, packed_answer, packed_question, question

GOOD = b'{"key":"a","request":{}}\n{"key":"b","request":{"x":1}}\n'
FRAMES = {
    "clean": GOOD,
    "CRLF": GOOD.replace(b"\n", b"\r\n"),
    "a bad line": GOOD + b"bad\n",
    "only bad lines": b"bad\n\xff\n",
    "a blank line": GOOD + b"\n",
    "only blank lines": b"\n \n",
    "no newline at the end": GOOD[:-1],
    "trailing spaces": GOOD.replace(b"\n", b" \n"),
    "an overlong line": GOOD + b"x" * 200 + b"\n",
    "an overlong line alone": b"x" * 200 + b"\n",
}


def frames(data: bytes) -> list[Frame]:
    framer = Framer(100, offset=7)
    return [*framer.feed(data), *framer.finish()]


def plain(batch: Batch) -> Batch:
    """With lists for whatever is one in effect."""
    lists = {name: list(getattr(batch, name)) for name in ("ends", "raw_starts", "raw_ends", "lines_no")}
    return msgspec.structs.replace(batch, **lists)


@pytest.mark.parametrize("data", FRAMES.values(), ids=FRAMES)
def test_an_answer_comes_back_as_it_was_given(data: bytes) -> None:
    """Every field of it, and the frame's own data where that is what was accepted."""
    for frame in frames(data):
        batch = scan(frame, source="in")
        found = answer(packed_answer(frame, batch), frame, "in")
        assert plain(found) == plain(batch)
        assert (found.data is frame.data) == (batch.data is frame.data and bool(batch.data)) or not frame.data


def test_an_answer_about_good_lines_takes_twenty_bytes_each() -> None:
    """They are nearly all lines there are, and a process has little else to do than to judge them."""
    (frame,) = frames(GOOD)
    assert len(packed_answer(frame, scan(frame, source="in"))) == 1 + 2 * 20


def test_a_question_carries_all_but_the_bytes() -> None:
    """These stand in memory that both sides see."""
    for frame in frames(FRAMES["an overlong line"]):
        asked = question(packed_question(frame, "in"))
        assert msgspec.structs.replace(asked.frame, data=frame.data) == frame
        assert (asked.source, asked.size) == ("in", len(frame.data))
