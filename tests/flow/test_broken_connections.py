"""Uploads and downloads through connections that are reset at random points."""

from __future__ import annotations

import hashlib
import random

import anyio
import pytest

import packtrain
from packtrain import Options
from packtrain.testing.proxy import open_proxy
from tests.flow.place import Place, read_lines, request_line, write_lines

pytestmark = pytest.mark.both_loops

KIB = 1024


@pytest.mark.parametrize("seed", range(3))
async def test_an_upload_cut_at_random_points_arrives_whole(place: Place, seed: int) -> None:
    """At most one chunk is sent again for each cut, and the service's digest is that of the file."""
    random_source = random.Random(seed)
    path = place.root / "shard.jsonl"
    path.write_bytes(random_source.randbytes(6_000 * KIB))
    chunk = 1_000 * KIB

    def budget() -> int | None:
        return random_source.randrange(50 * KIB, 1_500 * KIB) if proxy.cuts < 8 else None

    options = Options(chunk_bytes=chunk)
    async with open_proxy(place.origin, budget=budget) as proxy:
        (file,) = await packtrain.upload([path], service=place.service_at(proxy.origin), options=options)
    content = path.read_bytes()
    assert (file.bytes, file.sha256) == (len(content), hashlib.sha256(content).hexdigest())
    (entry,) = place.truth("file_finalised")
    assert entry["sha256"] == file.sha256
    assert proxy.cuts > 3
    assert proxy.bytes_forth <= len(content) + proxy.cuts * chunk + 100 * KIB


async def test_a_whole_run_through_a_bad_network_ends_as_through_a_good_one(place: Place) -> None:
    """Every kind of call is cut now and then; each shard still has exactly one job."""
    random_source = random.Random(4)
    rows = [request_line(n, f"prompt {n} " + "x" * 200) for n in range(400)]
    source = write_lines(place.root / "in.jsonl", rows)

    def budget() -> int | None:
        return random_source.randrange(200, 30 * KIB) if random_source.random() < 0.3 and proxy.cuts < 12 else None

    options = Options(shard_requests=50, chunk_bytes=8 * KIB)
    with anyio.fail_after(100):
        async with open_proxy(place.origin, budget=budget) as proxy:
            service = place.service_at(proxy.origin)
            async with packtrain.open_client(place.state, service=service, options=options) as client:
                summary = await client.run(source, model="m", out=place.out)
    assert proxy.cuts > 0
    assert summary.answered == 400
    assert [row["key"] for row in read_lines(place.out)] == [f"key-{n}" for n in range(400)]
    assert len(place.truth("batch_created")) == 8


async def test_a_file_that_stands_there_already_is_not_sent_again(place: Place) -> None:
    """Its name is made of its content."""
    path = place.requests(10)
    first = await packtrain.upload([path], service=place.service)
    assert await packtrain.upload([path], service=place.service) == first
    assert len(place.truth("upload_started")) == 1
    assert not path.with_name("in.jsonl.upload").exists()


async def test_a_long_way_delays_every_byte_and_loses_none(place: Place) -> None:
    """Each call takes a round trip at the least, and the answer comes out before the connection ends."""
    path = place.root / "shard.jsonl"
    path.write_bytes(random.Random(8).randbytes(6_000 * KIB))
    async with open_proxy(place.origin, delay=0.01) as proxy:
        proxy.count = b"Command: query"
        began = anyio.current_time()
        (file,) = await packtrain.upload([path], service=place.service_at(proxy.origin))
        assert anyio.current_time() - began >= 4 * 0.02  # look, start, send, look again
    assert file.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert proxy.counted == 0
    assert path.stat().st_size < proxy.bytes_sent < path.stat().st_size + 10 * KIB
