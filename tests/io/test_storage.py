"""The storage suites against the local directory and against an object store in memory."""

from __future__ import annotations

import gzip
import itertools
from typing import TYPE_CHECKING

import anyio
import pytest

from packtrain._io.directory import Directory
from packtrain._io.sources import FileSource
from packtrain.testing.objects import ObjectDirectory, ObjectStore
from packtrain.testing.storage import SinkSuite, SourceSuite, SpoolSuite

if TYPE_CHECKING:
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


async def test_a_link_in_place_of_a_draft_is_not_followed(tmp_path: Path) -> None:
    """Or another user's link would choose what is written over."""
    other = tmp_path / "other"
    other.write_bytes(b"precious")
    (tmp_path / "object.tmp").symlink_to(other)
    with pytest.raises(Exception, match="symbolic links"):
        await Directory(tmp_path, "shard").put("object", b"new")
    assert other.read_bytes() == b"precious"
