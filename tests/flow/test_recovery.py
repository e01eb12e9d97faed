"""Circumstances that changed between two starts."""

from __future__ import annotations

from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any

import anyio
import pytest

import packtrain
from packtrain import IncompleteRun, InputError, Local, ManifestError, Options, State
from packtrain.testing import armed
from packtrain.testing.proxy import open_proxy
from tests.flow.place import Place, read_lines, request_line, write_lines

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

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
            with suppress(packtrain.ManifestError):  # the run is not there yet
                if enough(await client.statistics()):
                    break
            await anyio.sleep(0.002)  # between two looks, so that the work gets the processor
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
        with anyio.fail_after(100):
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
            with anyio.fail_after(100):
                try:
                    await client.run(source, model="m", out=place.out)
                except IncompleteRun as error:
                    assert error.quarantined == 1
                    assert "shard 0" in str(error)
            statistics = await client.statistics()
    assert statistics.cursor.done
    assert statistics.states == {State.CLOSED: 2, State.QUARANTINED: 1}
    assert not place.out.exists()


async def test_an_output_cannot_become_a_directory_between_two_starts(place: Place) -> None:
    """What has landed would be in the wrong place; it is refused before anything is lost."""
    source = place.requests(100)
    async with packtrain.open_client(place.state, service=place.service, options=SMALL) as client:
        work = partial(client.run, source, model="m", out=place.out)
        await run_until(client, lambda statistics: statistics.count(State.CLOSED) >= 3, work)
    async with packtrain.open_client(place.state, service=place.service, options=SMALL) as client:
        with pytest.raises(ManifestError, match="other settings"):
            await client.run(source, model="m", out=f"{place.root}/parts/")
        assert (await client.run(source, model="m", out=place.out)).answered == 100


async def test_an_output_that_exists_is_not_written_over(place: Place) -> None:
    """Neither somebody's file, nor the input itself, nor parts of another run, or what says that these are all there;
    nothing is sent."""
    source = place.requests(3)
    place.out.write_text("precious")
    for name, file in (("parts", "part-00000.jsonl"), ("marked", "_SUCCESS")):
        (place.root / name).mkdir()
        (place.root / name / file).write_text("precious")
    for out in (source, place.out, place.root / "parts", place.root / "marked"):
        async with packtrain.open_client(f"{out}.state", service=place.service) as client:
            with pytest.raises(InputError, match=r"exists already|is an input"):
                await client.run(source, model="m", out=out)
    assert place.out.read_text() == "precious"
    assert len(read_lines(source)) == 3
    assert place.truth("upload_started") == []


@pytest.mark.parametrize("name", ["rejected.jsonl", "failed.jsonl", "unknown.jsonl"])
async def test_an_input_is_never_taken_for_a_list_beside_the_output(place: Place, name: str) -> None:
    """And a list of another run is not written over."""
    source = place.requests(3, f"out.jsonl.{name}")
    with source.open("a") as file:
        file.write("not json\n")
    before = source.read_bytes()
    other = place.requests(3)
    for given, says in ((source, "is an input"), (other, "not of this run")):
        async with packtrain.open_client(place.state, service=place.service) as client:
            with pytest.raises(InputError, match=says):
                await client.run(given, model="m", out=place.out)
    assert source.read_bytes() == before
    assert place.truth("upload_started") == []


async def test_an_input_with_the_name_of_a_draft_stays_as_it_is(place: Place) -> None:
    """Drafts have names that cannot be guessed, and nothing else is taken for one."""
    source = place.requests(3, "out.jsonl.tmp")
    before = source.read_bytes()
    async with packtrain.open_client(place.state, service=place.service) as client:
        await client.run(source, model="m", out=place.out)
    assert source.read_bytes() == before


async def test_a_list_of_bad_lines_of_this_run_is_no_obstacle(place: Place) -> None:
    """A start that found no good line leaves one; the input mended, the same command goes on."""
    source = place.root / "in.jsonl"
    source.write_text("{not json\n")
    async with packtrain.open_client(place.state, service=place.service) as client:
        with pytest.raises(InputError, match="no usable"):
            await client.run(source, model="m", out=place.out)
    assert (place.root / "out.jsonl.rejected.jsonl").exists()
    place.requests(3)
    async with packtrain.open_client(place.state, service=place.service) as client:
        assert (await client.run(source, model="m", out=place.out)).answered == 3


async def test_split_never_takes_an_input_away(place: Place) -> None:
    """One with the name of a shard, as an earlier cut has left it."""
    directory = place.root / "shards"
    directory.mkdir()
    source = place.requests(3, "shards/shard-00000.jsonl")
    with pytest.raises(InputError, match="is an input"):
        await packtrain.split(source, directory)
    assert len(read_lines(source)) == 3


async def test_an_existing_directory_gets_parts_also_without_a_slash(place: Place) -> None:
    """And a directory that is missing on the way is made."""
    parts = place.root / "deep" / "parts"
    parts.mkdir(parents=True)
    async with packtrain.open_client(place.state, service=place.service, options=SMALL) as client:
        await client.run(place.requests(15), model="m", out=parts)
    assert len(list(parts.glob("part-*"))) == 2
    async with packtrain.open_client(place.root / "state2", service=place.service) as client:
        await client.run(place.requests(3), model="m", out=place.root / "no" / "where" / "out.jsonl")


async def test_a_file_that_grew_after_its_end_was_read_is_refused(place: Place) -> None:
    """Its new lines would be passed over in silence; an input that is gone is not needed any more."""
    source = place.requests(3)
    ask = partial(packtrain.finished, place.state, service=place.service, model="m", out=place.out)
    async with packtrain.open_client(place.state, service=place.service) as client:
        await client.run(source, model="m", out=place.out)
    assert await ask(inputs=[source]) is not None
    place.requests(4)
    with pytest.raises(InputError, match="has changed since the run was started"):
        await ask(inputs=[source])
    async with packtrain.open_client(place.state, service=place.service) as client:
        with pytest.raises(InputError, match="has changed since the run was started"):
            await client.run(source, model="m", out=place.out)
    source.unlink()
    assert await ask(inputs=[source]) is not None


async def test_without_waiting_a_later_call_collects_what_has_ended(place: Place) -> None:
    """A job in the scheduler that never waits still brings the answers home."""
    source = place.requests(25)
    for _ in range(20):
        async with packtrain.open_client(place.state, service=place.service, options=SMALL) as client:
            with anyio.fail_after(100):
                summary = await client.run(source, model="m", out=place.out, wait=False)
        if summary.complete:
            break
    assert (summary.complete, summary.answered) == (True, 25)


async def test_files_of_one_content_are_uploaded_once(place: Place) -> None:
    """They have one name at the service."""
    first, second = place.requests(3, "a.jsonl"), place.requests(3, "b.jsonl")
    found = await packtrain.upload([first, second], service=place.service)
    assert found[0] == found[1]
    assert len(place.truth("upload_started")) == 1


async def test_errors_of_the_stages_come_plain(place: Place) -> None:
    """Not in the groups of the tasks that they happened in."""
    missing = place.root / "missing.jsonl"
    for work in (
        partial(packtrain.check, missing),
        partial(packtrain.split, missing, place.root / "split"),
        partial(packtrain.upload, [missing], service=place.service),
    ):
        with pytest.raises(InputError, match=r"missing\.jsonl"):
            await work()


async def test_a_new_cut_leaves_nothing_of_an_earlier_one(place: Place) -> None:
    """Or lines would stand in two files."""
    source = place.requests(100)
    await packtrain.split(source, place.root / "cut", options=Options(shard_requests=10))
    report = await packtrain.split(source, place.root / "cut", options=Options(shard_requests=60))
    assert sorted(map(str, (place.root / "cut").glob("*.jsonl"))) == report.files


async def test_a_finalize_cut_off_by_a_restart_is_found_at_another_address(place: Place) -> None:
    """The service took the whole file, its word was lost, and then it moved."""
    source = place.requests(10)
    for seen in (State.FINALIZING, State.UPLOADED, State.SUBMITTED):
        async with packtrain.open_client(place.state, service=Local()) as client:
            work = partial(client.run, source, model="m", out=place.out)
            await run_until(client, lambda statistics, seen=seen: statistics.count(seen, State.CLOSED) > 0, work)  # type: ignore[misc]  # mypy cannot infer a lambda with a default
    async with packtrain.open_client(place.state, service=Local()) as client:
        with anyio.fail_after(100):
            assert (await client.run(source, model="m", out=place.out)).answered == 10


async def test_a_create_that_never_arrived_is_fenced_and_made_once(place: Place) -> None:
    """The request was lost on its way: after the wait its input file is revoked, and the next attempt makes the job."""
    source = place.requests(5)
    async with open_proxy(place.origin) as proxy:
        proxy.refuse = b":batchGenerateContent"
        async with packtrain.open_client(place.state, service=place.service_at(proxy.origin)) as client:
            with anyio.fail_after(100):
                summary = await client.run(source, model="m", out=place.out)
    assert summary.answered == 5
    assert len(place.truth("batch_created")) == 1
    files = [entry["name"] for entry in place.truth("file_finalised")]
    assert len(set(files)) == 2
    assert {entry["name"] for entry in place.truth("file_deleted")} == set(files)


async def test_a_create_whose_answer_nobody_saw_is_not_sent_again(place: Place) -> None:
    """The program stops between the answer and its row: the job is looked for, and found."""
    source = place.requests(5)
    with armed("create.post.after=hang@1"):
        async with packtrain.open_client(place.state, service=place.service) as client:
            work = partial(client.run, source, model="m", out=place.out)
            await run_until(client, lambda _: bool(place.truth("batch_created")), work)
    async with packtrain.open_client(place.state, service=place.service) as client:
        with anyio.fail_after(100):
            summary = await client.run(source, model="m", out=place.out)
    assert (summary.answered, summary.duplicates_healed) == (5, 0)
    assert len(place.truth("batch_created")) == 1
