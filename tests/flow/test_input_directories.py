"""Directories as input of a run."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import anyio
import anyio.lowlevel
import pytest

from packtrain import Client, Options, OtherInputs, Stopped, open_client
from packtrain._exits import plain_errors
from tests.flow.place import Place, read_lines, request_line, write_lines
from tests.manifest.meddling import meddled

if TYPE_CHECKING:
    from pathlib import Path


def directory(place: Place) -> Path:
    """Two lines in each of three files, one of them hidden, and one in a subdirectory."""
    root = place.root / "data"
    (root / "sub").mkdir(parents=True)
    for number, name in enumerate((".hidden.jsonl", "a.jsonl", "sub/b.jsonl")):
        write_lines(root / name, map(request_line, (2 * number, 2 * number + 1)))
    (root / "notes.txt").write_text("no input")
    return root


async def stop_with_a_shard(client: Client) -> None:
    while not (await client.statistics()).shards:
        await anyio.lowlevel.checkpoint()
    client.stop()


async def test_a_directory_is_read_at_any_depth(place: Place, caplog: pytest.LogCaptureFixture) -> None:
    """B6: and what is left out is said, with counts."""
    async with open_client(place.state, service=place.service) as client:
        summary = await client.run(directory(place), model="m", out=place.out)
    assert (summary.answered, summary.rejected) == (4, 0)
    assert [row["key"] for row in read_lines(place.out)] == [f"key-{n}" for n in (2, 3, 4, 5)]
    assert "left out: 1 file with another ending, 1 hidden file" in caplog.text


async def test_a_run_of_an_earlier_version_goes_on_with_the_files_that_it_began_with(place: Place) -> None:
    """There a directory stood for the files right in it, hidden ones as well."""
    root, options = directory(place), Options(shard_requests=1, spool_bytes=1)
    async with open_client(place.state, service=place.service, options=options) as client:
        with pytest.raises(Stopped), plain_errors():
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(stop_with_a_shard, client)
                await client.submit([root / ".hidden.jsonl", root / "a.jsonl"], model="m")
    forget_the_rule(place.state / "manifest.db")
    for _ in range(2):
        async with open_client(place.state, service=place.service, options=options) as client:
            summary = await client.run(root, model="m", out=place.out)
        assert (summary.complete, summary.answered, summary.jobs_created) == (True, 4, 4)
    assert [row["key"] for row in read_lines(place.out)] == [f"key-{n}" for n in range(4)]


def forget_the_rule(manifest: Path) -> None:
    """An earlier version wrote no such member."""
    with meddled(manifest) as database:
        cursor = json.loads(database.execute("SELECT cursor FROM runs").fetchone()[0])
        assert cursor.pop("recursive")
        database.execute("UPDATE runs SET cursor = ?", (json.dumps(cursor),))


async def test_a_file_that_comes_into_a_subdirectory_is_refused(place: Place) -> None:
    """Its lines would not be sent, and the run would end with 0."""
    root = directory(place)
    async with open_client(place.state, service=place.service) as client:
        await client.run(root, model="m", out=place.out)
    write_lines(root / "sub" / "c.jsonl", [request_line(9)])
    async with open_client(place.state, service=place.service) as client:
        with pytest.raises(OtherInputs, match=r"c\.jsonl"):
            await client.run(root, model="m", out=place.out)
