"""The storage suites against the local directory and against an object store in memory."""

from __future__ import annotations

import gzip
import itertools
from typing import TYPE_CHECKING

import anyio
import pytest

from packtrain._io.directory import Directory
from packtrain._io.disk import open_draft
from packtrain._io.sources import FileSource
from packtrain.testing import armed
from packtrain.testing.objects import ObjectDirectory, ObjectStore
from packtrain.testing.storage import SinkSuite, SourceSuite, SpoolSuite

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from packtrain._io.storage import Sink, Spool
    from packtrain.testing.storage import MakeSource


class TestDirectory(SpoolSuite, SinkSuite):
    """Files, with all that makes them durable."""

    @pytest.fixture
    def spool(self, tmp_path: Path) -> Spool:
        return Directory(tmp_path / "spool", "shard")

    @pytest.fixture
    def sink(self, tmp_path: Path) -> Sink:
        return Directory(tmp_path / "sink", "output", mode=0o777)


class TestObjectStore(SpoolSuite, SinkSuite):
    """PUT, put-if-absent, ranged GET, LIST and DELETE are enough."""

    @pytest.fixture
    def spool(self) -> Spool:
        return ObjectDirectory(ObjectStore(), "run/shards")

    @pytest.fixture
    def sink(self) -> Sink:
        return ObjectDirectory(ObjectStore(), "answers")


class TestPlainFile(SourceSuite):
    """A source of which another process reads ranges."""

    @pytest.fixture
    def make_source(self, tmp_path: Path) -> MakeSource:
        numbers = itertools.count()

        async def make(content: bytes) -> FileSource:
            path = tmp_path / f"{next(numbers)}.jsonl"
            await anyio.Path(path).write_bytes(content)
            return FileSource(path)

        return make


class TestCompressedFile(SourceSuite):
    """A source that is read from front to back only."""

    @pytest.fixture
    def make_source(self, tmp_path: Path) -> MakeSource:
        numbers = itertools.count()

        async def make(content: bytes) -> FileSource:
            path = tmp_path / f"{next(numbers)}.jsonl.gz"
            await anyio.Path(path).write_bytes(gzip.compress(content, 1))
            return FileSource(path)

        return make


async def test_a_file_in_a_spool_is_closed_to_others(tmp_path: Path) -> None:
    """It may hold what nobody else is to read."""
    spool = Directory(tmp_path / "spool", "shard")
    await spool.put("object", b"secret")
    assert [oct(path.stat().st_mode & 0o777) for path in (spool.root, spool.path("object"))] == ["0o700", "0o600"]


def files_in(directory: Path) -> set[str]:
    return {path.name for path in directory.iterdir()}


@pytest.mark.parametrize("error", ["EPERM", "EOPNOTSUPP"])
async def test_nothing_is_replaced_on_a_file_system_without_links(tmp_path: Path, error: str) -> None:
    """As FAT, and some network file systems: another call of the system does it, or a look right before the rename."""
    sink = Directory(tmp_path, "output")
    with armed(f"output.rename.before=raise:{error}@1"):
        assert await sink.publish_if_absent("out", b"first")
    (tmp_path / "other").write_bytes(b"of somebody")

    async def overtaken() -> AsyncIterator[bytes]:
        yield b"ours"
        await anyio.Path(tmp_path / "other").rename(tmp_path / "taken")

    with armed(f"output.rename.before=raise:{error}@1"):
        assert not await sink.publish_if_absent("taken", overtaken())
    assert (tmp_path / "taken").read_bytes() == b"of somebody"
    assert files_in(tmp_path) == {"out", "taken"}


async def test_a_draft_is_a_new_file_whose_name_cannot_be_guessed(tmp_path: Path) -> None:
    """A3: one that was made before would be published as its maker's, and stay open to them."""
    path, names = tmp_path / "out", set[str]()
    for name in ("out.tmp", "out.0000000000000000.tmp"):
        (tmp_path / name).touch(0o666)
    before = files_in(tmp_path)

    async def seen() -> AsyncIterator[bytes]:
        names.update(await anyio.to_thread.run_sync(files_in, tmp_path) - before)
        yield b"answers"

    sink = Directory(tmp_path, "output")
    for _ in range(2):
        await sink.put("out", seen())
    assert len(names - {"out"}) == 2
    assert path.stat().st_mode & 0o777 == 0o600
    assert {name for name in before if (tmp_path / name).stat().st_size} == set()


def test_a_draft_that_is_there_is_never_written_to(tmp_path: Path) -> None:
    """A3: neither a file that another user keeps open, nor what a link leads to."""
    other, opened, linked = tmp_path / "other", tmp_path / "opened.tmp", tmp_path / "linked.tmp"
    other.write_bytes(b"precious")
    linked.symlink_to(other)
    opened.touch(0o666)
    with opened.open("rb") as kept:
        for path in (opened, linked):
            with open_draft("shard", path) as file:
                file.write(b"secret")
            assert path.stat().st_mode & 0o777 == 0o600
        assert kept.read() == b""
    assert other.read_bytes() == b"precious"
