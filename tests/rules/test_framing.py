"""Lines out of blocks: cuts, numbers, offsets, the byte order mark, and lines that are too long."""

from __future__ import annotations

import itertools
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from packtrain._rules.framing import Framer, RawBlock

#: Number from 1, offset, length without newline, and the content, None when it was dropped.
Line = tuple[int, int, int, bytes | None]


def feed(chunks: list[bytes], max_line: int = 5, *, offset: int = 0) -> list[RawBlock]:
    framer = Framer(max_line, offset=offset)
    return [raw for chunk in chunks for raw in framer.feed(chunk)] + framer.finish()


def lines_of(raws: list[RawBlock]) -> list[Line]:
    found: list[Line] = []
    for raw in raws:
        offset = raw.offset
        for text in pieces(raw.data):
            found.append((len(found) + 1, offset, len(text), text))
            offset += len(text) + 1
        if raw.overlong:
            found.append((len(found) + 1, raw.overlong.offset, raw.overlong.length, None))
    return found


def pieces(data: bytes) -> list[bytes]:
    """The lines of data; a last one without newline counts if it is not empty."""
    texts = data.split(b"\n")
    return texts if texts[-1] else texts[:-1]


def expected(data: bytes, max_line: int) -> list[Line]:
    """The same by the plainest means."""
    bom = 3 if data.startswith(b"\xef\xbb\xbf") else 0
    found: list[Line] = []
    offset = bom
    for number, text in enumerate(pieces(data[bom:]), 1):
        found.append((number, offset, len(text), text if len(text) <= max_line else None))
        offset += len(text) + 1
    return found


inputs = st.lists(st.sampled_from([b"\n", b"a", b"bc", b"\r\n", b"\xef\xbb\xbf", b"\xef", b"long line"]))


@given(inputs, st.data())
def test_any_cut_into_blocks_gives_the_same_lines(parts: list[bytes], data: st.DataObject) -> None:
    """Whole, byte by byte, or cut anywhere: every line has the same number, offset and content."""
    whole = b"".join(parts)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(whole)))))
    chunks = [whole[start:stop] for start, stop in zip([0, *cuts], [*cuts, len(whole)], strict=True)]
    wanted = expected(whole, 5)
    assert lines_of(feed([whole])) == wanted
    assert lines_of(feed([bytes([byte]) for byte in whole])) == wanted
    assert lines_of(feed(chunks)) == wanted


@given(inputs)
def test_frames_follow_each_other(parts: list[bytes]) -> None:
    """Each frame starts where the last one ended, and they end where the source ends."""
    whole = b"".join(parts)
    raws = feed([whole[at : at + 4] for at in range(0, len(whole), 4)])
    for before, after in itertools.pairwise(raws):
        assert after.offset == before.end
    assert not raws or raws[-1].end == len(whole)


@pytest.mark.parametrize("ending", ["\r", "\u2028", "\u0085", "\x0b", "\x0c", "\x1c"])
def test_only_a_newline_ends_a_line(ending: str) -> None:
    """Whatever else some tools cut at is content."""
    data = f"a{ending}b\n".encode()
    assert lines_of(feed([data], 100)) == [(1, 0, len(data) - 1, data[:-1])]


def test_a_line_of_exactly_the_limit_stays() -> None:
    """The limit excludes the newline."""
    assert [line[3] for line in lines_of(feed([b"12345\n123456\n12345\n"]))] == [b"12345", None, b"12345"]


def test_an_overlong_line_never_stands_in_memory() -> None:
    """A line of 200 MB passes in less than 4 MB."""
    framer = Framer(1_000_000)
    tracemalloc.start()
    for _ in range(400):
        assert framer.feed(bytes(500_000)) == []
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    (dropped, rest) = framer.feed(b"\nshort\n")
    assert peak < 4_000_000
    assert dropped.overlong
    assert (dropped.overlong.length, rest.data, rest.offset) == (200_000_000, b"short\n", 200_000_001)


def test_a_frame_holds_the_block_itself_when_nothing_is_carried() -> None:
    """One frame a block, so that work per frame is work per block."""
    raws = Framer(100).feed(b"a\nb\nc\n")
    assert raws == [RawBlock(b"a\nb\nc\n", 0, 6)]


def test_reading_goes_on_in_the_middle() -> None:
    """Offsets go on; a byte order mark there is content."""
    raws = feed([b"\xef\xbb\xbfa\nb"], 100, offset=70)
    assert lines_of(raws) == [(1, 70, 4, b"\xef\xbb\xbfa"), (2, 75, 1, b"b")]


@pytest.mark.parametrize("data", [b"", b"\xef\xbb\xbf"])
def test_an_empty_source_has_no_lines(data: bytes) -> None:
    """Neither nothing nor a byte order mark alone is a line."""
    assert feed([data]) == []


@pytest.mark.parametrize("data", [b"\xef", b"\xef\xbb", b"\xef\xbbx"])
def test_half_a_byte_order_mark_is_content(data: bytes) -> None:
    """Only all three bytes are skipped."""
    assert lines_of(feed([data])) == [(1, 0, len(data), data)]
