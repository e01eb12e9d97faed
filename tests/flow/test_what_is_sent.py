"""Nothing of a run is sent, or used, that is not what was sealed for it."""

from __future__ import annotations

import gzip
import json
from typing import TYPE_CHECKING, Any

import anyio
import pytest
from aiohttp import ClientSession

import packtrain
from packtrain import IncompleteRun, InputError, Options, serving
from packtrain._rules import naming
from packtrain._wire.gemini.files import file_path
from packtrain.testing import Drop, Edit, Expire, FaultPlan, Status, armed
from tests.flow.place import Place, read_lines, request_line
from tests.server.service_calls import Calls

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def anyio_backend() -> Any:
    """One loop is enough: what is tested are decisions."""
    return "asyncio", {"use_uvloop": False}


async def sealed(place: Place) -> tuple[str, Path]:
    """The token of a run of one shard that was taken in and not sent, and the shard's file."""
    async with packtrain.open_client(place.state, service=place.service) as client:
        run = await client.submit(place.requests(5), model="m")
    (shard,) = (place.state / "shards" / run.token).iterdir()
    return run.token, shard


async def go_on(place: Place, options: Options | None = None) -> None:
    async with packtrain.open_client(place.state, service=place.service, options=options) as client:
        with anyio.fail_after(100):
            await client.run(place.root / "in.jsonl", model="m", out=place.out)


async def test_6_a_file_under_our_name_that_we_did_not_make_is_for_a_person(place: Place) -> None:
    """Not even the same bytes prove anything: a copy of the manifest would have made them, too."""
    token, shard = await sealed(place)
    name = file_path(naming.file_name(token, 0, 0, 1))
    async with ClientSession() as client:
        await Calls(client, place.origin).upload(shard.read_bytes(), name=name, displayName="another's")
    with pytest.raises(IncompleteRun, match="another copy of it"):
        await go_on(place)
    assert place.truth("batch_created") == []


async def test_11_a_shard_that_changed_on_the_disk_is_not_sent(place: Place) -> None:
    """It is found before the last byte goes out, so that no file comes into being."""
    _, shard = await sealed(place)
    shard.write_bytes(shard.read_bytes().replace(b"number 3", b"number 4"))
    with pytest.raises(IncompleteRun, match="nothing of it was submitted"):
        await go_on(place)
    assert place.truth("file_finalised") + place.truth("batch_created") == []


@pytest.mark.parametrize("damage", ["gone", "cut", "changed"])
async def test_11_a_spoiled_shard_is_for_a_person_and_the_others_go_on(place: Place, damage: str) -> None:
    """``split`` makes it anew from the input; put back, ``resolve --retry`` sends it, and refuses it until then."""
    source, options = place.requests(30), Options(shard_requests=10)
    with armed("manifest.UploadIntended.before=raise:EIO@1"), pytest.raises(IncompleteRun):
        await go_on(place, options)
    (path,) = place.state.glob("shards/*/00000-0.jsonl")
    content = path.read_bytes()
    if damage == "gone":
        path.unlink()
    else:
        path.write_bytes(content[:-1] if damage == "cut" else content.replace(b"number 3", b"number 4"))
    with pytest.raises(IncompleteRun, match=r"00000-0\.jsonl (is gone|has|is not what)") as refused:
        await go_on(place, options)
    assert (refused.value.quarantined, len(place.truth("batch_created"))) == (1, 2)
    async with packtrain.open_client(place.state, service=place.service) as client:
        with pytest.raises(InputError, match="nothing was decided"):
            await client.resolve(0, "retry")
        if damage != "changed":
            with pytest.raises(InputError, match="nothing was decided"):
                await client.resolve(0, "drop")
    await packtrain.split(source, place.root / "cut", options=options)
    path.write_bytes((place.root / "cut" / "shard-00000.jsonl").read_bytes())
    assert path.read_bytes() == content
    async with packtrain.open_client(place.state, service=place.service) as client:
        await client.resolve(0, "retry")
    await go_on(place, options)
    assert len(read_lines(place.out)) == 30
    assert len(place.truth("batch_created")) == 3


async def test_6_a_name_that_is_taken_is_for_a_person_and_the_others_go_on(tmp_path: Path) -> None:
    """The service says 409 to the start, and shows no file: it is not ours, for we had not meant to finish one."""
    faults = FaultPlan(rules=(Status(route="upload.start", status=409, calls=(1,)),))
    async with serving(tmp_path / "service", faults=faults) as origin:
        place = Place(tmp_path, origin)
        place.requests(20)
        with pytest.raises(IncompleteRun, match="is taken at the service") as refused:
            await go_on(place, Options(shard_requests=10))
        assert (refused.value.quarantined, len(place.truth("batch_created"))) == (1, 1)


async def test_6_our_own_file_that_shows_late_is_waited_for(tmp_path: Path) -> None:
    """Its finalize was accepted, the answer and the session were lost, and its name is taken while nothing shows it."""
    faults = FaultPlan(
        rules=(
            Drop(route="upload.data", command="upload, finalize", acted=True, times=1),
            Expire(route="upload.data", command="query"),
        ),
        file_lag=1.5,
    )
    async with serving(tmp_path / "service", faults=faults) as origin:
        place = Place(tmp_path, origin)
        place.requests(10)
        await go_on(place)
        assert len(place.truth("file_finalised")) == len(place.truth("batch_created")) == 1
    assert len(read_lines(place.out)) == 10


async def test_the_answer_to_a_create_must_name_a_job(tmp_path: Path) -> None:
    """One that names something else is no answer: the job is looked for, and found."""
    faults = FaultPlan(rules=(Edit(route="batches.create", member="name", value="files/zzz", calls=(1,)),))
    async with serving(tmp_path / "service", faults=faults) as origin:
        place = Place(tmp_path, origin)
        place.requests(10)
        await go_on(place)
        assert len(place.truth("batch_created")) == 1
    assert len(read_lines(place.out)) == 10


async def test_122_nothing_is_sent_of_an_input_that_was_cut(place: Place) -> None:
    """Nearly all its lines come out before its end is missed, enough for several shards."""
    source = place.root / "in.jsonl.gz"
    data = gzip.compress("".join(json.dumps(request_line(n)) + "\n" for n in range(5000)).encode())
    source.write_bytes(data[:-100])
    options = Options(shard_requests=1000, block_bytes=4096)
    async with packtrain.open_client(place.state, service=place.service, options=options) as client:
        with pytest.raises(InputError, match="cut short"), anyio.fail_after(100):
            await client.run(source, model="m", out=place.out)
        assert (await client.statistics()).shards == 0
    assert place.truth() == []
