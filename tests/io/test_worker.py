"""A block validated in a worker process has the result that it has in this one."""

from __future__ import annotations

import msgspec
import pytest

from packtrain._io.worker import answer, packed_answer, packed_question, question
from packtrain._rules.framing import Framer, RawBlock
from packtrain._rules.validate import Block, scan

GOOD = b'{"key":"a","request":{}}\n{"key":"b","request":{"x":1}}\n'
BLOCKS = {
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


def raws(data: bytes) -> list[RawBlock]:
    framer = Framer(100, offset=7)
    return [*framer.feed(data), *framer.finish()]


def plain(block: Block) -> Block:
    """With lists for whatever is one in effect."""
    lists = {name: list(getattr(block, name)) for name in ("ends", "raw_starts", "raw_ends", "lines_no")}
    return msgspec.structs.replace(block, **lists)


@pytest.mark.parametrize("data", BLOCKS.values(), ids=BLOCKS)
def test_an_answer_comes_back_as_it_was_given(data: bytes) -> None:
    """Every field of it, and the frame's own data where that is what was accepted."""
    for raw in raws(data):
        block = scan(raw, source="in")
        found = answer(packed_answer(raw, block), raw, "in")
        assert plain(found) == plain(block)
        assert (found.data is raw.data) == (block.data is raw.data and bool(block.data)) or not raw.data


def test_an_answer_about_good_lines_takes_twenty_bytes_each() -> None:
    """They are nearly all lines there are, and a process has little else to do than to judge them."""
    (raw,) = raws(GOOD)
    assert len(packed_answer(raw, scan(raw, source="in"))) == 1 + 2 * 20


def test_a_question_carries_all_but_the_bytes() -> None:
    """These stand in memory that both sides see."""
    for raw in raws(BLOCKS["an overlong line"]):
        asked = question(packed_question(raw, "in"))
        assert msgspec.structs.replace(asked.raw, data=raw.data) == raw
        assert (asked.source, asked.size) == ("in", len(raw.data))
