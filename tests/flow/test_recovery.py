"""Circumstances that changed between two starts."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import anyio

import packtrain
from packtrain import IncompleteRun, Local, Options, State
from packtrain.testing.proxy import open_proxy
from tests.flow.place import Place, read_lines, request_line, write_lines

if TYPE_CHECKING:
    from collections.abc import Callable

    from packtrain import Statistics

KIB = 1024
SMALL = Options(shard_requests=10)


async def run_until(
    client: packtrain.Client, enough: Callable[[Statistics], bool], work: Callable[[], Coroutine[Any, Any, object]]
) -> None:
    """Let the client work until the run stands so, and leave it there."""
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(work)
        while True:
            try:
                if enough(await client.statistics()):
                    break
            except packtrain.ManifestError:
                continue  # the run is not there yet
        tasks.cancel_scope.cancel()


async def test_an_upload_goes_on_although_the_local_service_has_another_port(place: Place) -> None:
    """Its old session lies at an address where nobody listens any more."""
    rows = [request_line(n, f"prompt {n} " + "x" * 20_000) for n in range(500)]
    source = write_lines(place.root / "in.jsonl", rows)
    options = Options(chunk_bytes=256 * KIB)
    for _ in range(4):
        async with packtrain.open_client(place.state, service=Local(), options=options) as client:
            work = partial(client.run, source, model="m", out=place.out)
            await run_until(client, lambda s: s.count(State.UPLOADING) > 0 or s.count(State.CLOSED) > 0, work)
    async with packtrain.open_client(place.state, service=Local(), options=options) as client:
        with anyio.fail_after(30):
            summary = await client.run(source, model="m", out=place.out)
    assert summary.answered == 500


async def test_a_shard_that_waits_for_a_person_does_not_hold_back_the_others(place: Place) -> None:
    """Nor does it keep its place in the spool; the run ends by saying which shards are stuck."""
    rows = [request_line(n, "x" * 1000) for n in range(30)]
    source = write_lines(place.root / "in.jsonl", rows)
    options = Options(shard_bytes=12_000, spool_bytes=20_000, on_ambiguous="quarantine")
    async with open_proxy(place.origin) as proxy:
        proxy.refuse = b":batchGenerateContent"
        service = place.service_at(proxy.origin)
        async with packtrain.open_client(place.state, service=service, options=options) as client:
            with anyio.fail_after(30):
                try:
                    await client.run(source, model="m", out=place.out)
                except IncompleteRun as error:
                    assert error.quarantined == 1
                    assert "shard 0" in str(error)
            statistics = await client.statistics()
    assert statistics.cursor.done
    assert statistics.states == {State.CLOSED: 2, State.QUARANTINED: 1}
    assert not place.out.exists()


async def test_an_output_may_become_a_directory_between_two_starts(place: Place) -> None:
    """Parts of shards that landed before are published as well."""
    source = place.requests(100)
    async with packtrain.open_client(place.state, service=place.service, options=SMALL) as client:
        work = partial(client.run, source, model="m", out=place.out)
        await run_until(client, lambda statistics: statistics.count(State.CLOSED) >= 3, work)
    parts = place.root / "parts"
    async with packtrain.open_client(place.state, service=place.service, options=SMALL) as client:
        summary = await client.run(source, model="m", out=f"{parts}/")
    assert summary.answered == 100
    assert sum(len(read_lines(part)) for part in parts.glob("part-*")) == 100


async def test_a_create_that_never_arrived_is_fenced_and_made_once(place: Place) -> None:
    """The request was lost on its way: after the wait its input file is revoked, and the next attempt makes the job."""
    source = place.requests(5)
    async with open_proxy(place.origin) as proxy:
        proxy.refuse = b":batchGenerateContent"
        async with packtrain.open_client(place.state, service=place.service_at(proxy.origin)) as client:
            with anyio.fail_after(30):
                summary = await client.run(source, model="m", out=place.out)
    assert summary.answered == 5
    assert len(place.truth("batch_created")) == 1
    files = [entry["name"] for entry in place.truth("file_finalised")]
    assert len(set(files)) == 2
    assert {entry["name"] for entry in place.truth("file_deleted")} == set(files)
