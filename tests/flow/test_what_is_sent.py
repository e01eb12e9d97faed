"""Nothing of a run is sent, or used, that is not what was sealed for it."""

from __future__ import annotations

import gzip
import json
from typing import TYPE_CHECKING, Any

import anyio
import pytest
from aiohttp import ClientSession

import packtrain
from packtrain import IncompleteRun, InputError, IntegrityError, Options
from packtrain._rules import naming
from tests.flow.place import request_line
from tests.server.service_calls import Calls

if TYPE_CHECKING:
    from pathlib import Path

    from tests.flow.place import Place


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


async def go_on(place: Place) -> None:
    async with packtrain.open_client(place.state, service=place.service) as client:
        with anyio.fail_after(30):
            await client.run(place.root / "in.jsonl", model="m", out=place.out)


async def test_6_a_file_under_our_name_that_we_did_not_make_is_for_a_person(place: Place) -> None:
    """Not even the same bytes prove anything: a copy of the manifest would have made them, too."""
    token, shard = await sealed(place)
    name = naming.file_name(token, 0, 0, 1)
    async with ClientSession() as session:
        await Calls(session, place.origin).upload(shard.read_bytes(), name=name, displayName="another's")
    with pytest.raises(IncompleteRun, match="another copy of it"):
        await go_on(place)
    assert place.truth("batch_created") == []


async def test_11_a_shard_that_changed_on_the_disk_is_not_sent(place: Place) -> None:
    """It is found before the last byte goes out, so that no file comes into being."""
    _, shard = await sealed(place)
    shard.write_bytes(shard.read_bytes().replace(b"number 3", b"number 4"))
    with pytest.raises(IntegrityError, match="nothing of it was submitted"):
        await go_on(place)
    assert place.truth("file_finalised") + place.truth("batch_created") == []


async def test_122_nothing_is_sent_of_an_input_that_was_cut(place: Place) -> None:
    """Nearly all its lines come out before its end is missed, enough for several shards."""
    source = place.root / "in.jsonl.gz"
    data = gzip.compress("".join(json.dumps(request_line(n)) + "\n" for n in range(5000)).encode())
    source.write_bytes(data[:-100])
    options = Options(shard_requests=1000, block_bytes=4096)
    async with packtrain.open_client(place.state, service=place.service, options=options) as client:
        with pytest.raises(InputError, match="cut short"), anyio.fail_after(30):
            await client.run(source, model="m", out=place.out)
        assert (await client.statistics()).shards == 0
    assert place.truth() == []
