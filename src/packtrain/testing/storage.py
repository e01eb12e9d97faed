"""Conformance suites of storage: what every spool, sink and source promises, as tests.

Subclass a suite and give it a fixture:

    class TestMine(SpoolSuite):
        @pytest.fixture
        def spool(self, tmp_path):
            return MySpool(tmp_path)

``SpoolSuite`` needs ``spool``, ``SinkSuite`` needs ``sink``, and ``SourceSuite`` needs ``make_source``, which makes an
unopened source of these bytes.
"""

from __future__ import annotations

import pickle
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

import anyio
import anyio.to_thread
import pytest

from .._errors import InputError, IntegrityError, OutputTaken
from .._io.storage import Piece, Pieces, Readable, Sink, Source, SourceDescription, Spool

#: Longer than one read of a copy, and of no round length.
CONTENT = bytes(range(251)) * 9000

MakeSource = Callable[[bytes], Awaitable[Source]]


class Broken(Exception):  # noqa: N818 - stands for whatever a writer raises
    """The content that is written ends with an error."""


def in_blocks(content: bytes) -> Iterator[bytes]:
    for offset in range(0, len(content), 100_000):
        yield content[offset : offset + 100_000]


async def stream(content: bytes, error: BaseException | None = None) -> AsyncIterator[bytes]:
    for block in in_blocks(content):
        yield block
    if error:
        raise error


async def whole(origin: Readable, name: str) -> bytes:
    return b"".join([block async for block in origin.blocks(name)])


async def names(origin: Readable, prefix: str = "") -> list[str]:
    return [stored.name async for stored in origin.list(prefix)]


def _read_ranges(description: SourceDescription, ranges: list[tuple[int, int]]) -> list[bytes]:
    with description.open() as reader:
        return [reader.read(start, length) for start, length in ranges]


class SpoolSuite:
    """What a spool promises."""

    async def test_put_whole_and_from_iterators(self, spool: Spool) -> None:
        """The same bytes and the same size, however they are given."""
        assert await spool.put("bytes", CONTENT) == len(CONTENT)
        assert await spool.put("iterator", in_blocks(CONTENT)) == len(CONTENT)
        assert await spool.put("stream", stream(CONTENT)) == len(CONTENT)
        for name in ("bytes", "iterator", "stream"):
            assert await whole(spool, name) == CONTENT

    async def test_empty_object(self, spool: Spool) -> None:
        """Nothing is content as well."""
        assert await spool.put("empty", b"") == 0
        assert await spool.head("empty") == 0
        assert await spool.read("empty", 0, 10) == b""

    async def test_read_a_range(self, spool: Spool) -> None:
        """A read is short at the end alone, and empty behind it."""
        await spool.put("object", CONTENT)
        assert await spool.read("object", 12_345, 678) == CONTENT[12_345:13_023]
        assert await spool.read("object", len(CONTENT) - 10, 100) == CONTENT[-10:]
        assert await spool.read("object", len(CONTENT) + 1, 100) == b""

    async def test_blocks_of_a_range(self, spool: Spool) -> None:
        """From any offset, up to the end or for a length, and also when the object is deleted meanwhile."""
        await spool.put("object", CONTENT)
        blocks = [block async for block in spool.blocks("object", 1000, 1_500_000)]
        assert b"".join(blocks) == CONTENT[1000:1_501_000]
        assert all(blocks)
        assert [block async for block in spool.blocks("object", 5, 0)] == []
        rest = spool.blocks("object", 17)
        taken = await anext(aiter(rest))
        await spool.delete("object")
        assert taken + b"".join([block async for block in rest]) == CONTENT[17:]

    async def test_read_what_is_gone(self, spool: Spool) -> None:
        """An error of integrity: a run goes on from objects that it has put."""
        with pytest.raises(IntegrityError, match="gone"):
            await spool.read("object", 0, 1)

    async def test_head(self, spool: Spool) -> None:
        """The size, or None."""
        assert await spool.head("object") is None
        await spool.put("object", CONTENT)
        assert await spool.head("object") == len(CONTENT)
        assert await spool.head("obj") is None

    async def test_put_replaces(self, spool: Spool) -> None:
        """A put that is done again leaves one object."""
        await spool.put("object", CONTENT)
        await spool.put("object", b"other")
        assert await whole(spool, "object") == b"other"
        assert await names(spool) == ["object"]

    async def test_delete(self, spool: Spool) -> None:
        """Several at once; what is gone already is no error."""
        await spool.put("one", b"1")
        await spool.put("two", b"2")
        await spool.delete("one", "two", "three")
        assert await names(spool) == []

    async def test_list(self, spool: Spool) -> None:
        """By name, by prefix, with sizes."""
        for name in ("b/2", "a/1", "b/10"):
            await spool.put(name, name.encode())
        assert await names(spool) == ["a/1", "b/10", "b/2"]
        assert [(stored.name, stored.size) async for stored in spool.list("b/")] == [("b/10", 4), ("b/2", 3)]

    async def test_failed_put_is_invisible(self, spool: Spool) -> None:
        """Neither a part of it, nor a loss of what was there."""
        await spool.put("old", b"old")
        for name in ("old", "new"):
            with pytest.raises(Broken):
                await spool.put(name, stream(CONTENT, Broken()))
        assert await names(spool) == ["old"]
        assert await whole(spool, "old") == b"old"

    async def test_cancelled_put_is_invisible(self, spool: Spool) -> None:
        """Cancelled between two blocks, it leaves what was there."""
        begun = anyio.Event()

        async def endless() -> AsyncIterator[bytes]:
            yield CONTENT
            begun.set()
            await anyio.sleep_forever()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(spool.put, "object", endless())
            await begun.wait()
            tasks.cancel_scope.cancel()
        assert await names(spool) == []

    async def test_pieces_of_another_object(self, spool: Spool) -> None:
        """Ranges of objects as content, in order."""
        await spool.put("object", CONTENT)
        pieces = [Piece("object", 1000, 5), Piece("object", len(CONTENT) - 7), Piece("object", 0, 3)]
        assert await spool.put("copy", Pieces(spool, pieces)) == 15
        assert await whole(spool, "copy") == CONTENT[1000:1005] + CONTENT[-7:] + CONTENT[:3]

    async def test_object_has_a_place(self, spool: Spool) -> None:
        """That messages name."""
        assert spool.locate("a/object").endswith("a/object")


class SinkSuite:
    """What a sink promises."""

    async def test_reserve_free_names(self, sink: Sink) -> None:
        """It makes the place ready, and no object; it can be done again."""
        for _ in range(2):
            await sink.reserve(["out", "parts/part-1"])
        assert await names(sink) == []

    async def test_reserve_refuses_taken_names(self, sink: Sink) -> None:
        """Whatever has the name, and how often it is tried."""
        await sink.publish_if_absent("out", b"of somebody")
        for _ in range(2):
            with pytest.raises(OutputTaken, match="exists already"):
                await sink.reserve(["free", "out"])
        assert await whole(sink, "out") == b"of somebody"

    async def test_publish_if_absent(self, sink: Sink) -> None:
        """The first one is published, a second one changes nothing."""
        assert await sink.publish_if_absent("out", CONTENT)
        assert not await sink.publish_if_absent("out", b"other")
        assert await whole(sink, "out") == CONTENT

    async def test_failed_publication_is_invisible(self, sink: Sink) -> None:
        """And can be done again."""
        with pytest.raises(Broken):
            await sink.publish_if_absent("out", stream(CONTENT, Broken()))
        assert await names(sink) == []
        assert await sink.publish_if_absent("out", stream(CONTENT))

    async def test_replace_a_version(self, sink: Sink) -> None:
        """A publication with later answers takes the place of the first; until it is whole the first one stays."""
        assert await sink.version("out") is None
        await sink.publish_if_absent("out", b"first")
        version = await sink.version("out")
        assert version is not None
        with pytest.raises(Broken):
            await sink.replace("out", stream(CONTENT, Broken()), version)
        assert await whole(sink, "out") == b"first"
        assert await sink.version("out") == version
        assert await sink.replace("out", stream(CONTENT), version)
        assert await whole(sink, "out") == CONTENT

    async def test_another_version_is_not_replaced(self, sink: Sink) -> None:
        """It is of somebody else by now."""
        await sink.publish_if_absent("out", b"first")
        version = await sink.version("out")
        assert version is not None
        await sink.delete("out")
        assert not await sink.replace("out", CONTENT, version)
        await sink.publish_if_absent("out", b"other")
        assert not await sink.replace("out", stream(CONTENT), version)
        assert await whole(sink, "out") == b"other"
        assert await names(sink) == ["out"]

    async def test_a_name_that_is_taken_meanwhile(self, sink: Sink) -> None:
        """Whoever is first has it: what is written while the content is made is not replaced."""

        async def overtaken() -> AsyncIterator[bytes]:
            yield CONTENT
            assert await sink.publish_if_absent("out", b"first")
            yield CONTENT

        assert not await sink.publish_if_absent("out", overtaken())
        assert await whole(sink, "out") == b"first"
        assert await names(sink) == ["out"]


class SourceSuite:
    """What a source that can be read again promises."""

    async def test_blocks_from_any_offset(self, make_source: MakeSource) -> None:
        """All bytes in order, in blocks that are never empty."""
        source = await make_source(CONTENT)
        async with source:
            await source.verify()
            for offset in (0, 1, 1_000_000, len(CONTENT)):
                blocks = [block async for block in source.blocks(size=100_000, offset=offset)]
                assert b"".join(blocks) == CONTENT[offset:]
                assert all(blocks)

    async def test_source_that_is_too_short(self, make_source: MakeSource) -> None:
        """An offset beyond its end belongs to a longer source."""
        async with await make_source(CONTENT) as source:
            with pytest.raises(InputError, match="shorter"):
                async for _ in source.blocks(size=100_000, offset=len(CONTENT) + 1):
                    pass

    async def test_identity_stays(self, make_source: MakeSource) -> None:
        """The next start recognises it."""
        async with (source := await make_source(CONTENT)):
            first = source.identity()
        async with source:
            assert source.identity() == first

    async def test_another_process_reads_ranges(self, make_source: MakeSource) -> None:
        """By the description, which is pickled; a source without one is read from front to back only."""
        source = await make_source(CONTENT)
        async with source:
            described = pickle.dumps(source.description)
            size = source.size
        description = pickle.loads(described)  # noqa: S301 - pickled above
        if description is None:
            return
        ranges = [(1_000_000, 1000), (len(CONTENT) - 5, 100), (0, 10)]
        assert size == len(CONTENT)
        expected = [CONTENT[start : start + length] for start, length in ranges]
        assert await anyio.to_thread.run_sync(_read_ranges, description, ranges) == expected
