"""A file gets its name only when it is durable, and its name is made durable next."""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio.to_thread

from packtrain._io.directory import Directory
from packtrain._io.request_file import ShardWriter, open_write_queue
from packtrain._io.requests import remove_request
from packtrain._io.spool import land
from packtrain._io.storage import Piece, Pieces
from packtrain.testing import armed

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path


async def steps(tmp_path: Path, work: Callable[[], Awaitable[object]]) -> list[str]:
    """The steps of durability that were taken, in order."""
    trace = tmp_path / "trace"
    with armed(f"trace={trace}"):
        await work()
    points = [line.split()[0].split(".") for line in (await anyio.Path(trace).read_text()).splitlines()]
    return [step for _, step, side in points if side == "after" and step in ("fsync", "rename", "dirsync")]


async def test_a_shard_is_synced_before_it_gets_its_name(tmp_path: Path) -> None:
    """A machine that loses its power leaves the whole shard, or none under that name."""

    async def work() -> None:
        async with open_write_queue() as writes:
            writer = await anyio.to_thread.run_sync(ShardWriter, tmp_path / "shard", writes)
            await writer.write(memoryview(b"line\n"))
            await writer.seal()

    assert await steps(tmp_path, work) == ["fsync", "rename", "dirsync"]


async def test_an_output_is_synced_before_it_gets_its_name(tmp_path: Path) -> None:
    """As what is published is all that is left in the end."""
    directory = Directory(tmp_path, "output")
    (tmp_path / "part").write_bytes(b"line\n")
    pieces = Pieces(directory, [Piece("part")])
    assert await steps(tmp_path, lambda: directory.publish_if_absent("out", pieces)) == ["fsync", "rename", "dirsync"]


async def test_results_are_synced_before_they_get_their_names(tmp_path: Path) -> None:
    """Each file for itself, and then the directory."""
    drafts, finals = [tmp_path / "a.tmp", tmp_path / "b.tmp"], [tmp_path / "a", tmp_path / "b"]
    for draft in drafts:
        draft.write_bytes(b"line\n")

    async def work() -> None:
        await anyio.to_thread.run_sync(land, drafts, finals)

    assert await steps(tmp_path, work) == ["fsync", "rename", "fsync", "rename", "dirsync"]


async def test_the_removal_of_a_request_is_durable(tmp_path: Path) -> None:
    """A request that came back after a power cut would be met twice."""
    request = tmp_path / "a.json"
    request.write_bytes(b"{}")

    async def work() -> None:
        await anyio.to_thread.run_sync(remove_request, request)

    assert await steps(tmp_path, work) == ["dirsync"]
    assert not request.exists()
