"""A state directory is held against its manifest: what is sound passes at every stage, what was changed is found."""

from __future__ import annotations

import shutil
from functools import partial
from typing import TYPE_CHECKING

import pytest

import packtrain
from packtrain import InputError, ManifestError, Options, State
from tests.flow.test_recovery import run_until
from tests.manifest.meddling import meddled

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from packtrain import Statistics
    from tests.flow.place import Place

SMALL = Options(shard_requests=10)
#: A statement that nobody but a broken disk or a curious hand makes, and what is said of it.
MEDDLING = {
    "UPDATE jobs SET state = 'submitted', job = NULL WHERE shard = 1": "is submitted, but has no job",
    "UPDATE jobs SET tag = tag || '0' WHERE shard = 1": "that of none of its 1 attempt",
    "UPDATE jobs SET file = 'files/other' WHERE shard = 1": "not that of attempt 1",
    "UPDATE jobs SET attempt = 9 WHERE shard = 1": "but its history ends as closed in attempt 1",
    'UPDATE jobs SET tally = \'{"answered": 3, "failed": 0}\' WHERE shard = 1': "3 answers and 0 failures",
    "DELETE FROM events WHERE shard = 1 AND event = 'JobAdopted'": "when it was create_intent",
    "UPDATE shards SET first = first + 1 WHERE shard = 1": "where 10 comes next",
    "UPDATE runs SET cursor = json_set(cursor, '$.valid', 31)": "31 valid lines, the shards have 30",
    "UPDATE runs SET cursor = json_set(cursor, '$.shards', 4)": "cut into 4 shards, of which there are 3",
    "INSERT INTO sources (run, position, name, size, mtime_ns) VALUES ('none', 0, x'', 0, 0)": "belongs to none of",
}


async def begin(place: Place, enough: Callable[[Statistics], bool]) -> None:
    async with packtrain.open_client(place.state, service=place.service, options=SMALL) as client:
        await run_until(client, enough, partial(client.run, place.requests(30), model="m", out=place.out))


async def complete(place: Place, out: str | Path) -> None:
    async with packtrain.open_client(place.state, service=place.service, options=SMALL) as client:
        await client.run(place.requests(30), model="m", out=out)


async def findings(place: Place, *, read_data: bool = True, out: str | Path | None = None) -> list[str]:
    found = await packtrain.verify(place.state, out=out or place.out, read_data=read_data)
    return [f"{finding.where}: {finding.what}" for finding in found.findings]


def flip(path: Path) -> None:
    whole = bytearray(path.read_bytes())
    whole[len(whole) // 2] ^= 1
    path.write_bytes(whole)


@pytest.mark.parametrize(
    "enough",
    [
        pytest.param(lambda s: s.shards > 0, id="cut"),
        pytest.param(lambda s: s.count(State.UPLOADING, State.UPLOADED, State.SUBMITTED) > 0, id="sent"),
        pytest.param(lambda s: s.count(State.CLOSED) > 0, id="landed"),
        pytest.param(lambda s: s.merged, id="published"),
    ],
)
async def test_run_is_sound_wherever_it_was_left(place: Place, enough: Callable[[Statistics], bool]) -> None:
    """And looking at it changes no file, the lock aside."""
    await begin(place, enough)
    await packtrain.verify(place.state, out=place.out)
    before = {path: path.read_bytes() for path in place.state.rglob("*") if path.is_file() and path.name != "lock"}
    assert await findings(place) == []
    after = {path: path.read_bytes() for path in place.state.rglob("*") if path.is_file() and path.name != "lock"}
    assert after == before


async def test_parts_are_looked_for_where_they_were_published(place: Place) -> None:
    """Each against its own shard."""
    parts = place.root / "parts"
    await complete(place, f"{parts}/")
    assert await findings(place, out=parts) == []
    flip(parts / "part-00001.jsonl")
    (found,) = await findings(place, out=parts)
    assert "part-00001.jsonl: shard 1: its bytes are not what they were" in found


@pytest.mark.parametrize("statement", MEDDLING)
async def test_row_that_cannot_be_is_found(place: Place, statement: str) -> None:
    """By the rules that hold between the rows; no byte needs to be read for it."""
    await complete(place, place.out)
    with meddled(place.state / "manifest.db") as connection:
        connection.execute(statement)
    assert any(MEDDLING[statement] in found for found in await findings(place, read_data=False))


async def test_shard_that_was_changed_is_found(place: Place) -> None:
    """A byte by reading it, a length or an absence without."""
    async with packtrain.open_client(place.state, service=place.service, options=SMALL) as client:
        await client.submit(place.requests(30), model="m")
    path = max(place.state.glob("shards/*/*.jsonl"))
    flip(path)
    assert await findings(place, read_data=False) == []
    assert f"{path}: shard" in (await findings(place))[0]
    path.write_bytes(path.read_bytes() + b"\n")
    assert "bytes instead of" in (await findings(place, read_data=False))[0]
    path.unlink()
    assert await findings(place, read_data=False) == [f"{path}: is gone"]


async def test_output_that_was_changed_is_found(place: Place) -> None:
    """The message names the shard; lines that changed places are found as well."""
    await complete(place, place.out)
    whole = place.out.read_bytes()
    flip(place.out)
    assert await findings(place, read_data=False) == []
    assert "shard 1: its bytes" in (await findings(place))[0]
    first, second, *rest = whole.splitlines(keepends=True)
    place.out.write_bytes(b"".join([second, first, *rest]))
    assert "shard 0: its bytes" in (await findings(place))[0]
    place.out.write_bytes(whole[:-1])
    assert f"has {len(whole) - 1} bytes instead of {len(whole)}" in (await findings(place, read_data=False))[0]


async def test_what_a_start_would_refuse_is_a_finding(place: Place) -> None:
    """So that a backup can be verified where it lies; also files that others can read."""
    await complete(place, place.out)
    shutil.copytree(place.state, place.root / "backup")
    place.state = place.root / "backup"
    (place.state / "manifest.run").unlink()
    place.state.chmod(0o755)
    said = "\n".join(await findings(place))
    assert "copied here, or put back" in said
    assert "does not name run" in said
    assert "backup: can be read or written by others" in said


async def test_verifying_needs_a_state_that_nobody_drives(place: Place) -> None:
    """One that is there, and whose answers can be found."""
    with pytest.raises(InputError, match="is not there"):
        await packtrain.verify(place.state)
    async with packtrain.open_client(place.state, service=place.service):
        with pytest.raises(ManifestError, match="in use by process"):
            await packtrain.verify(place.state)
    await complete(place, place.out)
    with pytest.raises(InputError, match="where its answers are"):
        await packtrain.verify(place.state)
