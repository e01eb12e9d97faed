"""Inputs of another kind than request lines, refused before anything of them is used."""

from __future__ import annotations

import gzip
import json
from typing import TYPE_CHECKING

import anyio
import anyio.lowlevel
import pytest
from msgspec.structs import replace

from packtrain import Client, Options, OtherFormat, Policy, Stopped, check, diagnose, merge, open_client, split
from packtrain._exits import plain_errors
from packtrain._io.clock import SystemClock
from packtrain._providers import open_provider
from packtrain._providers.gemini import CAPABILITIES, GeminiProvider
from tests.flow.place import Place, read_lines, request_line, write_lines

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path


def other_lines(path: Path, count: int = 20) -> Path:
    return write_lines(path, ({"id": f"k{number}", "request": {}} for number in range(count)))


def names(directory: Path) -> set[str]:
    return {path.name for path in directory.iterdir()}


async def test_a_run_refuses_before_it_sends_anything(place: Place) -> None:
    """Also when only the second of its files is of another kind, and would be read much later."""
    inputs = [place.requests(3), other_lines(place.root / "other.jsonl")]
    options = Options(shard_requests=1)
    async with open_client(place.state, service=place.service, options=options) as client:
        with pytest.raises(OtherFormat, match=r'other\.jsonl has no member "key"; "id", a text, may be it') as refused:
            await client.run(inputs, model="m", out=place.out)
    assert (refused.value.kind, refused.value.name) == ("key name", str(inputs[1]))
    assert place.truth() == []


async def test_what_is_refused_can_be_put_right(place: Place) -> None:
    """The same run, with the same file."""
    path = other_lines(place.root / "in.jsonl")
    async with open_client(place.state, service=place.service) as client:
        with pytest.raises(OtherFormat):
            await client.run(path, model="m", out=place.out)
        place.requests(3)
        summary = await client.run(path, model="m", out=place.out)
    assert (summary.complete, summary.answered, summary.rejected) == (True, 3, 0)


async def test_a_run_that_has_shards_is_not_looked_at_again(place: Place) -> None:
    """A version that took these lines has paid for some of them."""
    path = write_lines(place.root / "in.jsonl", ({**request_line(n), "config": {"arm": n}} for n in range(12)))
    options = Options(shard_requests=2, spool_bytes=1)
    async with open_provider(place.service, SystemClock(), Policy(), connections=4, sent=lambda _: None) as provider:
        assert isinstance(provider, GeminiProvider)
        provider.capabilities = replace(CAPABILITIES, requests={})
        async with open_client(place.state, service=place.service, options=options, provider=provider) as client:
            with pytest.raises(Stopped), plain_errors():
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(stop_with_a_shard, client)
                    await client.submit(path, model="m")
    async with open_client(place.state, service=place.service, options=options) as client:
        assert (await client.run(path, model="m", out=place.out)).answered == 12
    with pytest.raises(OtherFormat):
        await check(path)


async def stop_with_a_shard(client: Client) -> None:
    while not (await client.statistics()).shards:
        await anyio.lowlevel.checkpoint()
    client.stop()


async def test_rows_are_looked_at_while_they_come(place: Place) -> None:
    """As soon as there are enough of them; an endless source is not read further."""
    taken = 0

    async def rows() -> AsyncIterator[dict[str, object]]:
        nonlocal taken
        while True:
            taken += 1
            yield {"id": f"k{taken}", "request": {}}

    async with open_client(place.state, service=place.service) as client:
        with pytest.raises(OtherFormat, match='rows has no member "key"'):
            await client.run(rows(), model="m", out=place.out)
    assert place.truth() == []


async def test_the_task_of_the_run_is_compared(place: Place) -> None:
    """Requests of another task would fail at the service, a day later."""
    async with open_client(place.state, service=place.service) as client:
        with pytest.raises(OtherFormat, match='"contents", for --task generate; embed takes "content"'):
            await client.run(place.requests(3), model="m", task="embed", out=place.out)


async def test_split_keeps_what_an_earlier_cut_left(place: Place) -> None:
    """It is removed only for input that can be used."""
    parts = place.root / "parts"
    await split(place.requests(3), parts)
    before = names(parts)
    with pytest.raises(OtherFormat):
        await split(other_lines(place.root / "other.jsonl"), parts)
    assert names(parts) == before


async def test_merge_reads_keys_alone(place: Place) -> None:
    """So a list of keys will do; lines without one, and compressed ones, are named."""
    keys = write_lines(place.root / "keys.jsonl", ({"key": f"k{n}"} for n in range(2)))
    rows = write_lines(place.root / "rows.jsonl", ({"key": f"k{n}", "response": {}} for n in range(2)))
    assert (await merge([keys], [rows], place.out)).answered == 2
    packed = place.root / "keys.jsonl.gz"
    packed.write_bytes(gzip.compress(keys.read_bytes()))
    for path, kind in ((packed, "packed"), (other_lines(place.root / "other.jsonl"), "key name")):
        with pytest.raises(OtherFormat) as refused:
            await merge([path], [rows], place.root / "second.jsonl")
        assert refused.value.kind == kind


async def test_merge_skips_a_byte_order_mark(place: Place) -> None:
    """B13: in each file of requests, with and without the request in the answers."""
    rows = write_lines(place.root / "rows.jsonl", ({"key": f"key-{n}", "response": {}} for n in (1, 0)))
    marked = [place.requests(1, "a.jsonl"), write_lines(place.root / "b.jsonl", [request_line(1)])]
    for path in marked:
        path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    for join in (False, True):
        report = await merge(marked, [rows], place.root / f"{join}.jsonl", join=join)
        assert (report.answered, report.failed) == (2, 0)
        assert [row["key"] for row in read_lines(place.root / f"{join}.jsonl")] == ["key-0", "key-1"]


async def test_a_compressed_file_is_looked_at_inside(tmp_path: Path) -> None:
    """As far as its first block goes."""
    path = tmp_path / "in.jsonl.gz"
    path.write_bytes(gzip.compress(gzip.compress(json.dumps(request_line(0)).encode() + b"\n")))
    with pytest.raises(OtherFormat, match="compressed twice"):
        await check(path)
    with pytest.raises(OtherFormat, match="compressed twice"):
        await diagnose(path, task="generate", state=tmp_path / "state", out=tmp_path / "out.jsonl")
    assert names(tmp_path) == {"in.jsonl.gz"}
