"""What is published, and what may be in its way: no paid answer is lost, and no file of others is replaced."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Any

import anyio
import anyio.lowlevel
import pytest

import packtrain
import packtrain.testing
from packtrain import Options, OutputBlocked, OutputReserved, OutputTaken, serving
from tests.flow.place import Place, read_lines, request_line
from tests.flow.test_generations import INTERNAL, INVALID, Moody

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

SMALL = Options(shard_requests=5, retries=0)
LINES = 12
PRECIOUS = "of somebody else"


@pytest.fixture
async def place(tmp_path: Path, anyio_backend: Any) -> AsyncIterator[Place]:
    """Two lines fail, one of them for good."""
    async with serving(tmp_path / "service", backend=Moody({3: [INTERNAL], 7: [INVALID] * 9})) as origin:
        yield Place(tmp_path, origin)


def names(directory: Path) -> set[str]:
    return {path.name for path in directory.iterdir()}


def jobs(place: Place) -> int:
    return len(place.truth("batch_created"))


async def rows(*appearing: Path) -> AsyncIterator[Any]:
    """Lines, the last of them bad; in their middle these files appear."""
    for number in range(LINES):
        if number == 6:
            for path in appearing:
                await anyio.Path(path).write_text(PRECIOUS)
        yield request_line(number)
    yield b"no json"


class Broken(Exception):  # noqa: N818 - stands for whatever ends a start
    """The input ends with an error."""


async def broken(place: Place) -> AsyncIterator[Any]:
    """When the first shard is sealed, and its upload has begun."""
    before = len(place.truth("upload_started"))
    for number in range(6):
        yield request_line(number)
    while len(place.truth("upload_started")) == before:  # noqa: ASYNC110 - no event tells what the service did
        await anyio.sleep(0.01)
    raise Broken


async def run(place: Place, inputs: Any = (), *, state: str = "state", out: str = "out.jsonl") -> packtrain.Summary:
    async with packtrain.open_client(place.root / state, service=place.service, options=SMALL) as client:
        return await client.run(inputs, model="m", out=f"{place.root}/{out}")


def published(place: Place, out: str = "out.jsonl") -> list[list[str]]:
    """The keys of the answers and of each list."""
    files = [place.root / out, *(place.root / f"{out}.{kind}.jsonl" for kind in ("failed", "rejected"))]
    return [[row.get("key", "bad") for row in read_lines(file)] for file in files]


ALL = [[f"key-{n}" for n in range(LINES) if n not in {3, 7}], ["key-3", "key-7"], ["bad"]]


@pytest.mark.parametrize("ending", ["", ".failed.jsonl", ".rejected.jsonl"])
async def test_a_file_that_appears_during_the_run_is_not_replaced(place: Place, ending: str) -> None:
    """A2: the run ends with 5 and keeps every paid answer; once the file is moved away, it is published."""
    appearing = place.root / f"out.jsonl{ending}"
    with pytest.raises(OutputBlocked) as raised:
        await run(place, rows(appearing))
    assert (raised.value.path, packtrain.exit_code(raised.value)) == (appearing, 5)
    assert appearing.read_text() == PRECIOUS
    made = jobs(place)
    with pytest.raises(OutputTaken if not ending else (OutputTaken, OutputBlocked)):
        await run(place)
    appearing.rename(place.root / "moved")
    assert (await run(place)).complete
    assert published(place) == ALL
    assert (place.root / "moved").read_text() == PRECIOUS
    assert jobs(place) == made == 3
    assert names(place.root) == {"service", "state", "moved", "out.jsonl"} | {
        f"out.jsonl.{kind}.jsonl" for kind in ("failed", "rejected")
    }


async def test_a_run_that_is_blocked_goes_on_with_another_out(place: Place) -> None:
    """A2: the same state directory, another name; nothing is asked again, and the first name is free."""
    with pytest.raises(OutputBlocked):
        await run(place, rows(place.out))
    assert (await run(place, out="other.jsonl")).complete
    assert published(place, "other.jsonl") == ALL
    assert place.out.read_text() == PRECIOUS
    assert jobs(place) == 3
    assert not [name for name in names(place.root) if "reserved" in name]


async def test_a_part_that_appears_during_the_run_is_not_replaced(place: Place) -> None:
    """A2: each part is published by itself, and each keeps its answers until it is there."""
    (place.root / "parts").mkdir()
    part = place.root / "parts" / "part-00001.jsonl"
    with pytest.raises(OutputBlocked):
        await run(place, rows(part), out="parts/")
    assert part.read_text() == PRECIOUS
    part.unlink()
    assert (await run(place, out="parts/")).complete
    assert sum(len(read_lines(path)) for path in part.parent.glob("part-*.jsonl")) == LINES - 2
    assert jobs(place) == 3


async def test_two_runs_side_by_side_never_share_an_output(place: Place) -> None:
    """A2: with other state directories; the second one is refused before anything is sent, and is told whose it is."""
    reached, go_on = anyio.Event(), anyio.Event()

    async def held() -> AsyncIterator[Any]:
        async for row in rows():
            yield row
        reached.set()
        await go_on.wait()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(run, place, held())
        await reached.wait()
        with pytest.raises(OutputReserved, match="'main'") as raised:
            await run(place, rows(), state="second")
        with pytest.raises(OutputReserved):
            await packtrain.diagnose([], task="generate", state=place.root / "third", out=place.out)
        go_on.set()
    assert raised.value.state == place.state
    assert packtrain.exit_code(raised.value) == 3
    assert published(place) == ALL
    assert jobs(place) == 3
    with pytest.raises(OutputTaken, match="exists already"):
        await run(place, rows(), state="second")


async def test_two_runs_of_one_client_never_share_an_output(place: Place) -> None:
    """A2: side by side or one after the other, as long as the first one is not published."""
    async with packtrain.open_client(place.state, service=place.service, options=SMALL) as client:
        with pytest.raises(Broken):
            await client.run(broken(place), model="m", out=place.out, run_id="one")
        with pytest.raises(OutputReserved, match="'one'"):
            await client.run(rows(), model="m", out=place.out, run_id="two")
        assert (await client.run(rows(), model="m", out=place.out, run_id="one")).complete


async def test_what_a_killed_run_reserved_is_its_own(place: Place) -> None:
    """A2: it goes on; another run is refused until the first one's state directory is gone."""
    with pytest.raises(Broken):
        await run(place, broken(place))
    with pytest.raises(OutputReserved):
        await run(place, rows(), state="second")
    assert (await run(place, rows())).complete
    place.out.unlink()
    for kind in ("failed", "rejected"):
        (place.root / f"out.jsonl.{kind}.jsonl").unlink()
    with pytest.raises(Broken):
        await run(place, broken(place), state="second")
    shutil.rmtree(place.root / "second")
    assert (await run(place, rows(), state="third")).complete
    assert not [name for name in names(place.root) if "reserved" in name]


async def test_a_start_that_is_refused_reserves_nothing(place: Place) -> None:
    """Another run may have the name."""
    with pytest.raises(packtrain.InputError):
        await run(place, [b"no json"])
    assert not [name for name in names(place.root) if "reserved" in name]
    (place.root / "out.jsonl.rejected.jsonl").unlink(missing_ok=True)
    assert (await run(place, rows(), state="second")).complete


@pytest.mark.parametrize("name", ["out.jsonl", "out.jsonl.failed.jsonl"])
async def test_a_retry_replaces_only_what_it_published(place: Place, name: str) -> None:
    """A2: a list that was written to is refused before anything is asked; a file that takes the place of the
    published one meanwhile stays, and so do the answers."""
    await run(place, rows())
    path = place.root / name
    before = path.read_bytes()
    path.write_bytes(before + b"{}\n")
    async with packtrain.open_client(place.state, service=place.service, options=SMALL) as client:
        with pytest.raises((OutputTaken, packtrain.OutputChanged)):
            await client.retry(place.out)
    assert jobs(place) == 3
    path.write_bytes(before)

    async with packtrain.open_client(place.state, service=place.service, options=SMALL) as client:
        begun = jobs(place)

        async def replaced() -> None:
            while jobs(place) == begun:
                await anyio.lowlevel.checkpoint()
            await anyio.Path(path).unlink()
            await anyio.Path(path).write_text(PRECIOUS)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(replaced)
            with pytest.raises(OutputBlocked):
                await client.retry(place.out, everything=True)
    assert path.read_text() == PRECIOUS
    path.unlink()
    assert (await run(place)).complete
    assert published(place)[0] == [f"key-{n}" for n in range(LINES) if n != 7]


async def test_a_publication_that_was_cut_short_is_done_again(place: Place) -> None:
    """What is there already with the same bytes is this run's, whichever file was the last."""
    with packtrain.testing.armed("manifest.publish.before=raise:EIO"), pytest.raises(packtrain.IncompleteRun):
        await run(place, rows())
    assert published(place) == ALL
    assert (await run(place)).complete
    assert published(place) == ALL
