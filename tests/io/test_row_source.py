"""Rows of Python as a source."""

from __future__ import annotations

import sqlite3
import threading
from typing import TYPE_CHECKING

import anyio
import msgspec
import pytest

from packtrain._errors import InputError
from packtrain._io.row_source import RowsSource
from packtrain._model import Request

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable, Iterator

    from packtrain._io.row_source import Row

    Kind = Callable[[Iterable[Row]], Iterable[Row] | AsyncIterator[Row]]

pytestmark = pytest.mark.both_loops

ROWS: list[Row] = [
    {"key": "a", "request": {"n": 1}},
    b'{"key":"b","request":{}}',
    b'{"key":"c","request":{}}\n',
    Request("d", msgspec.Raw(b'{"n": 1E5}')),
]
LINES = (
    b'{"key":"a","request":{"n":1}}\n{"key":"b","request":{}}\n'
    b'{"key":"c","request":{}}\n{"key":"d","request":{"n": 1E5}}\n'
)

#: A row that contains itself.
ENDLESS: dict[str, object] = {}
ENDLESS["request"] = ENDLESS


async def asynchronous(rows: Iterable[Row]) -> AsyncIterator[Row]:
    for row in rows:
        yield row


def synchronous(rows: Iterable[Row]) -> Iterator[Row]:
    yield from rows


both = pytest.mark.parametrize("kind", [synchronous, asynchronous])


async def read(source: RowsSource, *, size: int = 1 << 20, offset: int = 0) -> list[bytes]:
    async with source:
        return [chunk async for chunk in source.blocks(size=size, offset=offset)]


@both
@pytest.mark.parametrize("size", [1, 50, 1 << 20])
async def test_rows_of_all_kinds_become_lines(kind: Kind, size: int) -> None:
    """In their order, whatever the size of blocks."""
    assert b"".join(await read(RowsSource(kind(ROWS)), size=size)) == LINES


@both
async def test_no_rows_are_no_blocks(kind: Kind) -> None:
    """The end comes at once."""
    assert await read(RowsSource(kind([]))) == []


@both
async def test_rows_are_read_from_an_offset(kind: Kind) -> None:
    """By going over what comes before."""
    assert b"".join(await read(RowsSource(kind(ROWS)), offset=40)) == LINES[40:]


@both
async def test_blocks_are_about_the_size_asked_for(kind: Kind) -> None:
    """Not one a row, and no more than a row above it."""
    chunks = await read(RowsSource(kind([b"x" * 99] * 10_000)), size=50_000)
    assert sum(map(len, chunks)) == 1_000_000
    assert len(chunks) < 40
    assert max(map(len, chunks)) <= 50_100


@both
async def test_no_more_is_pulled_ahead_than_one_block(kind: Kind) -> None:
    """A reader that rests holds the rows back."""
    pulled = 0

    def rows() -> Iterator[Row]:
        nonlocal pulled
        while True:
            pulled += 1
            yield b"x" * 99

    async with RowsSource(kind(rows())) as source:
        chunks = source.blocks(size=10_000)
        taken = [len(await anext(chunks)) for _ in range(5)]
        assert pulled * 100 <= sum(taken) + 10_000 + 100


async def test_an_endless_slow_iterable_delivers_what_it_has() -> None:
    """A burst of rows is not held back by the silence after it."""
    resume = threading.Event()

    def rows() -> Iterator[Row]:
        yield from ROWS[:2]
        resume.wait(10)
        yield ROWS[2]

    async with RowsSource(rows()) as source:
        chunks = source.blocks(size=1 << 20)
        with anyio.fail_after(100):
            got = b""
            while len(got) < len(LINES[:55]):
                got += await anext(chunks)
        assert got == LINES[: len(got)]
        resume.set()
        assert got + b"".join([chunk async for chunk in chunks]) == LINES[:80]


async def test_an_endless_slow_async_iterable_delivers_what_it_has() -> None:
    """The same without a thread."""
    resume = anyio.Event()

    async def rows() -> AsyncIterator[Row]:
        for row in ROWS[:2]:
            yield row
        await resume.wait()
        yield ROWS[2]

    async with RowsSource(rows()) as source:
        chunks = source.blocks(size=1 << 20)
        with anyio.fail_after(100):
            got = await anext(chunks)
        assert got == LINES[:55]
        resume.set()
        assert [chunk async for chunk in chunks] == [LINES[55:80]]


@both
async def test_what_the_rows_raise_passes_through(kind: Kind) -> None:
    """After the rows before it, and not wrapped."""

    def rows() -> Iterator[Row]:
        yield ROWS[0]
        raise ZeroDivisionError("mine")

    got = b""
    with pytest.raises(ZeroDivisionError, match="mine"):
        async with RowsSource(kind(rows())) as source:
            async for chunk in source.blocks(size=1 << 20):
                got += chunk
    assert got == LINES[:30]


@both
async def test_a_row_of_another_type_is_a_type_error(kind: Kind) -> None:
    """It names the types that are taken."""
    with pytest.raises(TypeError, match="a Request, a dict or bytes, not str"):
        await read(RowsSource(kind(["text"])))  # type: ignore[list-item]  # on purpose


@both
@pytest.mark.parametrize(
    ("row", "kind_of_error", "words"),
    [
        ({"key": "\ud800", "request": {}}, InputError, r"row 5 \(key '\\ud800'\): half of a surrogate"),
        ({"key": "k", "request": {"text": "\udfff"}}, InputError, r"row 5 \(key 'k'\): half of a surrogate"),
        ({"key": 7, "request": object()}, TypeError, r"row 5 \(key 7\): .*object is unsupported"),
        (ENDLESS, InputError, r"row 5: .*recursion"),
        (Request("d", msgspec.Raw(b"{\n}")), InputError, r"row 5 \(key 'd'\): the body .* several lines"),
        (None, TypeError, "row 5: a row is a Request, a dict or bytes, not NoneType"),
    ],
)
async def test_the_error_of_a_bad_row_says_which_row(
    kind: Kind, row: Row, kind_of_error: type[Exception], words: str
) -> None:
    """A21: its number, from 1, and its key, as far as it has one."""
    with pytest.raises(kind_of_error, match=words):
        await read(RowsSource(kind([*ROWS, row])))


async def test_a_synchronous_iterable_stays_in_one_thread() -> None:
    """So that it may hold a database connection."""

    def rows() -> Iterator[Row]:
        database = sqlite3.connect(":memory:")
        count = "WITH RECURSIVE n(i) AS (VALUES(1) UNION ALL SELECT i + 1 FROM n LIMIT 5000) SELECT i FROM n"
        for (number,) in database.execute(count):
            yield {"key": str(number), "request": {}}
        database.close()

    chunks = await read(RowsSource(rows()), size=1000)
    assert b"".join(chunks).count(b"\n") == 5000


async def test_closing_ends_the_pull() -> None:
    """A thread ends with its next row, a task at once, and its clean-up is run."""
    ended = threading.Event()

    def endless() -> Iterator[Row]:
        try:
            while True:
                yield ROWS[1]
        finally:
            ended.set()

    async with RowsSource(endless()) as source:
        await anext(source.blocks(size=100))
    del source
    assert ended.wait(5)

    closed = anyio.Event()

    async def waiting() -> AsyncIterator[Row]:
        try:
            yield ROWS[1]
            await anyio.sleep_forever()
        finally:
            closed.set()

    async with RowsSource(waiting()) as source:
        await anext(source.blocks(size=100))
    assert closed.is_set()


async def test_waiting_for_a_row_can_be_cancelled() -> None:
    """Though the iterable blocks; its thread ends when it comes back."""
    resume = threading.Event()

    def rows() -> Iterator[Row]:
        resume.wait(10)
        yield ROWS[0]

    async with RowsSource(rows()) as source:
        with anyio.move_on_after(0.05) as scope:
            await anext(source.blocks(size=100))
        assert scope.cancelled_caught
        resume.set()


async def test_a_source_that_was_never_read_closes() -> None:
    """Nothing was started."""
    async with RowsSource(ROWS) as source:
        assert source.identity().size == -1
