"""The whole job against the real service: taken in, sent, answered, merged."""

from __future__ import annotations

import gzip
import json
import os
import shlex
import sys
import types
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any

import anyio
import anyio.lowlevel
import msgspec
import pytest

import packtrain
from packtrain import ApiError, IncompleteRun, InputError, ManifestError, Options, Request, Secret
from packtrain.cli.advice import advice
from packtrain.testing import armed
from packtrain.testing.proxy import open_proxy
from tests.flow.place import Place, answer_text, read_lines, request_line, write_lines

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from packtrain import Summary

pytestmark = pytest.mark.both_loops

SMALL = Options(shard_requests=10)


async def test_every_key_is_answered_once_in_input_order(place: Place) -> None:
    """Over several shards, each answer with the text of its own prompt."""
    source = place.requests(95)
    async with packtrain.open_client(place.state, service=place.service, options=SMALL) as client:
        summary = await client.run([source], model="m", out=place.out)
    rows = read_lines(place.out)
    assert [row["key"] for row in rows] == [f"key-{n}" for n in range(95)]
    assert [answer_text(row) for row in rows] == [f"prompt number {n}" for n in range(95)]
    assert msgspec.structs.replace(summary, run="", seconds=0.0) == packtrain.Summary(
        run="",
        complete=True,
        lines=95,
        valid=95,
        answered=95,
        failed=0,
        rejected=0,
        shards=10,
        jobs_created=10,
        duplicates_healed=0,
        duplicates_live=0,
        bytes_in=source.stat().st_size,
        bytes_uploaded=source.stat().st_size,
        seconds=0.0,
    )


async def test_a_second_start_has_no_effect_at_the_service(place: Place) -> None:
    """After success the same command is a no-op with the same summary."""
    source = place.requests(25)
    summaries = []
    for _ in range(2):
        async with packtrain.open_client(place.state, service=place.service, options=SMALL) as client:
            summaries.append(await client.run([source], model="m", out=place.out))
        truth = place.truth()
    assert place.truth() == truth
    assert msgspec.structs.replace(summaries[0], seconds=0) == msgspec.structs.replace(summaries[1], seconds=0)


async def test_whether_a_run_is_finished_can_be_told_without_a_service(place: Place) -> None:
    """None before and during, the summary afterwards; another model is another run."""
    unreachable = place.service_at("http://127.0.0.1:9")
    ask = partial(packtrain.finished, place.state, service=unreachable, out=place.out, options=SMALL)
    assert await ask(model="m") is None
    source = place.requests(25)
    async with packtrain.open_client(place.state, service=place.service, options=SMALL) as client:
        client.stop()
        await client.run([source], model="m", out=place.out)
    assert await ask(model="m") is None
    async with packtrain.open_client(place.state, service=place.service, options=SMALL) as client:
        summary = await client.run([source], model="m", out=place.out)
    found = await ask(model="m")
    assert found is not None
    assert msgspec.structs.replace(found, seconds=0) == msgspec.structs.replace(summary, seconds=0)
    with pytest.raises(ManifestError, match="other settings"):
        await ask(model="other")


@pytest.mark.parametrize(("model", "out"), [("m", ""), ("m", "."), ("a/../b", "o"), ("", "o")])
async def test_what_cannot_be_named_is_refused_before_anything_is_read(place: Place, model: str, out: str) -> None:
    """The name of a model and that of the answers become part of other names."""
    async with packtrain.open_client(place.state, service=place.service) as client:
        with pytest.raises(InputError, match="name"):
            await client.run([place.root / "nowhere.jsonl"], model=model, out=out)
    assert place.truth() == []


async def test_what_is_no_longer_needed_is_cleaned_up(place: Place) -> None:
    """Input files at the service, and shards and results here, go when their answers are safe."""
    async with packtrain.open_client(place.state, service=place.service, options=SMALL) as client:
        await client.run([place.requests(25)], model="m", out=place.out)
    uploaded = {entry["name"] for entry in place.truth("file_finalised")}
    assert {entry["name"] for entry in place.truth("file_deleted")} == uploaded
    left = [path for kind in ("shards", "results") for path in (place.state / kind).glob("*/*")]
    assert {path.name for path in left} == {"rejected.jsonl", "places", "sources"}


async def test_bad_lines_are_listed_and_the_rest_is_answered(place: Place) -> None:
    """A bad line never stops the run, and says where it stands and what is wrong."""
    source = place.root / "in.jsonl"
    good = [json.dumps(request_line(n)) for n in range(3)]
    source.write_text("\n".join([good[0], "not json", "", good[1], good[0], good[2]]) + "\n")
    async with packtrain.open_client(place.state, service=place.service) as client:
        summary = await client.run([source], model="m", out=place.out)
    assert (summary.lines, summary.valid, summary.rejected, summary.answered) == (6, 3, 2, 3)
    rejects = read_lines(place.root / "out.jsonl.rejected.jsonl")
    assert [(row["source"], row["line"], row["offset"]) for row in rejects] == [
        (str(source), 2, len(good[0]) + 1),
        (str(source), 5, len(good[0]) + 1 + 9 + 1 + len(good[1]) + 1),
    ]
    assert "key-0" in rejects[1]["reason"]


async def test_with_join_each_line_carries_the_request_as_well(place: Place) -> None:
    """Extra members of the input line included."""
    source = write_lines(place.root / "in.jsonl", [request_line(1) | {"metadata": {"row": 7}}])
    async with packtrain.open_client(place.state, service=place.service) as client:
        await client.run(source, model="m", out=place.out, join=True)
    (row,) = read_lines(place.out)
    assert row["metadata"] == {"row": 7}
    assert row["request"] == request_line(1)["request"]
    assert answer_text(row) == "prompt number 1"


async def test_a_directory_gets_one_part_a_shard_and_a_mark_at_the_end(place: Place) -> None:
    """A trailing slash asks for parts."""
    async with packtrain.open_client(place.state, service=place.service, options=SMALL) as client:
        await client.run([place.requests(25)], model="m", out=f"{place.root}/parts/")
    parts = sorted((place.root / "parts").glob("part-*.jsonl"))
    assert [part.name for part in parts] == ["part-00000.jsonl", "part-00001.jsonl", "part-00002.jsonl"]
    assert [row["key"] for part in parts for row in read_lines(part)] == [f"key-{n}" for n in range(25)]
    assert (place.root / "parts" / "_SUCCESS").exists()


async def test_lines_that_the_service_fails_are_listed_with_its_reason(place: Place) -> None:
    """An error row is no answer."""
    bad = {"key": "bad", "request": {"contents": "not a list"}}
    source = write_lines(place.root / "in.jsonl", [request_line(0), bad, request_line(1)])
    async with packtrain.open_client(place.state, service=place.service) as client:
        summary = await client.run(source, model="m", out=place.out)
    assert (summary.complete, summary.answered, summary.failed) == (True, 2, 1)
    (row,) = read_lines(place.root / "out.jsonl.failed.jsonl")
    assert row["key"] == "bad"
    assert row["error"]["code"] == 3
    assert [row["key"] for row in read_lines(place.out)] == ["key-0", "key-1"]


async def test_embeddings_are_asked_for_by_their_own_method(place: Place) -> None:
    """One vector a line."""
    rows = [{"key": str(n), "request": {"content": {"parts": [{"text": f"word{n}"}]}}} for n in range(3)]
    source = write_lines(place.root / "in.jsonl", rows)
    async with packtrain.open_client(place.state, service=place.service) as client:
        await client.run(source, model="gemini-embedding-001", task="embed", out=place.out)
    vectors = [row["response"]["embedding"]["values"] for row in read_lines(place.out)]
    assert len({tuple(vector) for vector in vectors}) == 3


async def test_a_spool_smaller_than_the_input_is_enough(place: Place) -> None:
    """The source is held back until results have landed."""
    source = place.requests(100)
    options = Options(shard_requests=5, spool_bytes=2000)
    async with packtrain.open_client(place.state, service=place.service, options=options) as client:
        summary = await client.run(source, model="m", out=place.out)
    assert summary.answered == 100
    spooled = max(entry["bytes"] for entry in place.truth("file_finalised"))
    assert spooled < 2000


async def test_without_waiting_the_jobs_are_made_and_a_later_call_collects(place: Place) -> None:
    """Submit now, come back for the answers."""
    source = place.requests(25)
    async with packtrain.open_client(place.state, service=place.service, options=SMALL) as client:
        summary = await client.run(source, model="m", out=place.out, wait=False)
        assert summary.jobs_created == 3
    assert len(place.truth("batch_created")) == 3
    async with packtrain.open_client(place.state, service=place.service, options=SMALL) as client:
        summary = await client.run(source, model="m", out=place.out)
    assert (summary.complete, summary.answered, summary.jobs_created) == (True, 25, 3)


async def test_a_stopped_run_goes_on(place: Place) -> None:
    """A stop returns an incomplete summary; the next call ends with the same output and no job too many."""
    source = place.requests(200)
    async with packtrain.open_client(place.state, service=place.service, options=SMALL) as client:
        client.stop()
        summary = await client.run(source, model="m", out=place.out)
    assert not summary.complete
    assert not place.out.exists()
    async with packtrain.open_client(place.state, service=place.service, options=SMALL) as client:
        assert (await client.run(source, model="m", out=place.out)).answered == 200
    assert len(place.truth("batch_created")) == 20


async def test_rows_in_python_are_taken_as_lines(place: Place) -> None:
    """Dicts, bytes and Requests, from sync and async iterables."""
    body = msgspec.Raw(json.dumps(request_line(2)["request"]).encode())

    async def rows() -> AsyncIterator[dict[str, Any] | bytes | Request]:
        yield request_line(0)
        yield json.dumps(request_line(1)).encode()
        yield Request("key-2", body)

    async with packtrain.open_client(place.state, service=place.service) as client:
        summary = await client.run(rows(), model="m", out=place.out)
    assert summary.answered == 3
    assert [answer_text(row) for row in read_lines(place.out)] == [f"prompt number {n}" for n in range(3)]


async def test_rows_given_again_go_on_behind_what_was_sealed(place: Place) -> None:
    """A stream that is given again from its start is compared with the shards that it made, not sent twice."""
    with pytest.raises(RuntimeError, match="source broke"):
        async with packtrain.open_client(place.state, service=place.service, options=SMALL) as client:
            await client.run(rows_until_sealed(client, 35), model="m", out=place.out)
    async with packtrain.open_client(place.state, service=place.service, options=SMALL) as client:
        summary = await client.run(map(request_line, range(50)), model="m", out=place.out)
    assert summary.answered == 50
    assert len(place.truth("batch_created")) == 5


async def test_other_rows_under_the_same_state_are_refused(place: Place) -> None:
    """Before anything of them is sent."""
    with pytest.raises(RuntimeError, match="source broke"):
        async with packtrain.open_client(place.state, service=place.service, options=SMALL) as client:
            await client.run(rows_until_sealed(client, 35), model="m", out=place.out)
    async with packtrain.open_client(place.state, service=place.service, options=SMALL) as client:
        with pytest.raises(InputError, match="not the one that this run was started with"):
            await client.run(map(request_line, range(1, 50)), model="m", out=place.out)


async def rows_until_sealed(client: packtrain.Client, count: int) -> AsyncIterator[dict[str, Any]]:
    """As many rows as that, which break off once a shard is made of them."""
    for number in range(count):
        yield request_line(number)
    with anyio.fail_after(100):
        while not (await client.statistics()).shards:
            await anyio.lowlevel.checkpoint()
    raise RuntimeError("source broke")


async def test_standard_input_is_a_source(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """Named by a dash; compressed or not."""
    packed = gzip.compress("".join(json.dumps(request_line(n)) + "\n" for n in range(12)).encode())
    path = place.root / "stdin.gz"
    path.write_bytes(packed)
    with path.open("rb") as file:
        monkeypatch.setattr(sys, "stdin", types.SimpleNamespace(buffer=file))
        async with packtrain.open_client(place.state, service=place.service) as client:
            summary = await client.run("-", model="m", out=place.out)
        monkeypatch.undo()
    assert summary.answered == 12


async def shards(client: packtrain.Client) -> int:
    with suppress(ManifestError):  # the run is not there yet
        return (await client.statistics()).shards
    return 0


async def partly_sealed(place: Place, source: Path) -> None:
    """Leave a run behind of which one shard is sealed, and no more fits the spool."""
    options = Options(shard_requests=10, spool_bytes=1)
    async with (
        packtrain.open_client(place.state, service=place.service, options=options) as client,
        anyio.create_task_group() as tasks,
    ):
        tasks.start_soon(partial(client.submit, source, model="m"))
        while not await shards(client):
            pass
        tasks.cancel_scope.cancel()


async def test_an_input_that_changed_is_refused(place: Place) -> None:
    """Shards were cut from what it was."""
    source = place.requests(25)
    await partly_sealed(place, source)
    place.requests(26)
    async with packtrain.open_client(place.state, service=place.service, options=SMALL) as client:
        with pytest.raises(InputError, match=r"in\.jsonl has changed since the run was started"):
            await client.run(source, model="m", out=place.out)


@pytest.mark.parametrize("done", [False, True])
async def test_an_input_with_another_time_alone_goes_on_as_it_is_told(place: Place, done: bool) -> None:
    """Put back with the same bytes: the advice is run as it stands. Another spelling of its name is no other file."""
    source = place.requests(25)
    if done:
        await ran(place, source)
    else:
        await partly_sealed(place, source)
    os.utime(source)
    with pytest.raises(InputError, match="its size is what it was, its time is not") as refused:
        await ran(place, source)
    command = advice(refused.value).split("`")[1]
    await anyio.run_process(shlex.split(command))
    assert (await ran(place, place.root / ".." / place.root.name / source.name)).answered == 25


async def test_a_complete_run_takes_no_other_input_for_its_own(place: Place) -> None:
    """A name that leads nowhere, another file, the standard input: until now it was complete with each. A file of its
    own that is gone is not missed, alone or in a directory or pattern."""
    folder = place.root / "inputs"
    folder.mkdir()
    source = place.requests(25, "inputs/in.jsonl")
    await ran(place, source)
    for wrong in (place.root / "typo.jsonl", place.requests(1, "other.jsonl"), "-", str(place.root / "*.nothing")):
        with pytest.raises(InputError, match=r"started with.*in\.jsonl"):
            await ran(place, wrong)
    source.unlink()
    for gone in (source, str(folder / "*.jsonl"), folder):
        assert (await ran(place, gone)).complete


async def ran(place: Place, inputs: Path | str) -> Summary:
    async with packtrain.open_client(place.state, service=place.service, options=SMALL) as client:
        return await client.run(inputs, model="m", out=place.out)


async def test_other_inputs_than_at_first_are_refused(place: Place) -> None:
    """The shards that exist were not cut from them."""
    source = place.requests(25)
    await partly_sealed(place, source)
    async with packtrain.open_client(place.state, service=place.service, options=SMALL) as client:
        with pytest.raises(InputError, match="started with the inputs"):
            await client.run([source, place.requests(3, "more.jsonl")], model="m", out=place.out)


async def test_another_model_under_the_same_state_is_refused(place: Place) -> None:
    """One run asks one model."""
    source = place.requests(25)
    await partly_sealed(place, source)
    async with packtrain.open_client(place.state, service=place.service, options=SMALL) as client:
        with pytest.raises(ManifestError, match="model m then and other now"):
            await client.run(source, model="other", out=place.out)


@pytest.mark.parametrize(("rows", "words"), [([], "it has no rows"), (iter([]), "rows: .* because the input is empty")])
async def test_no_rows_are_an_error_worded_for_rows(place: Place, rows: Any, words: str) -> None:
    """A21: and not for files."""
    async with packtrain.open_client(place.state, service=place.service) as client:
        with pytest.raises(InputError, match=words):
            await client.run(rows, model="m", out=place.out)


async def test_nothing_usable_is_an_error_and_says_so(place: Place) -> None:
    """The rejects are there to read all the same."""
    source = place.root / "in.jsonl"
    source.write_text("{nonsense}\n")
    async with packtrain.open_client(place.state, service=place.service) as client:
        with pytest.raises(InputError, match="no usable line among 1"):
            await client.run(source, model="m", out=place.out)
    assert len(read_lines(place.root / "out.jsonl.rejected.jsonl")) == 1
    assert place.truth("upload_started") == []


async def test_too_many_bad_lines_stop_the_run(place: Place) -> None:
    """When the caller set a limit."""
    source = place.root / "in.jsonl"
    source.write_text("nonsense\n" * 5 + json.dumps(request_line(0)) + "\n")
    async with packtrain.open_client(place.state, service=place.service, options=Options(max_rejects=4)) as client:
        with pytest.raises(InputError, match="5 bad lines, more than the 4"):
            await client.run(source, model="m", out=place.out)


async def test_an_output_that_was_moved_is_not_paid_for_again(place: Place) -> None:
    """The run is over; only a person can say what became of its output."""
    source = place.requests(3)
    async with packtrain.open_client(place.state, service=place.service) as client:
        await client.run(source, model="m", out=place.out)
    place.out.unlink()
    async with packtrain.open_client(place.state, service=place.service) as client:
        with pytest.raises(ManifestError, match="complete"):
            await client.run(source, model="m", out=place.out)
    assert len(place.truth("batch_created")) == 1


async def test_a_lost_reply_to_a_create_leaves_one_job(place: Place) -> None:
    """The service made the job, the answer was cut off: it is found by its name and adopted."""
    source = place.requests(5)
    async with open_proxy(place.origin) as proxy:
        proxy.swallow = b":batchGenerateContent"
        async with packtrain.open_client(place.state, service=place.service_at(proxy.origin)) as client:
            summary = await client.run(source, model="m", out=place.out)
        assert proxy.cuts == 1
    assert summary.answered == 5
    assert len(place.truth("batch_created")) == 1


async def test_an_output_that_is_there_is_not_written_over_whoever_submitted(place: Place) -> None:
    """Nor one that came while the run was away; moved, the run goes on."""
    source = place.requests(30)
    async with packtrain.open_client(place.state, service=place.service, options=SMALL) as client:
        await client.submit(source, model="m")
        place.out.write_text("precious")
        with pytest.raises(InputError, match="exists already"):
            await client.run(source, model="m", out=place.out)
        assert place.out.read_text() == "precious"
        assert not place.truth("batch_created")
        place.out.unlink()
        assert (await client.run(source, model="m", out=place.out)).answered == 30


async def test_an_output_that_was_published_but_not_recorded_is_the_runs_own(place: Place) -> None:
    """Killed between the two, it is published again; another file in its place is not written over."""
    source = place.requests(30)
    with armed("manifest.publish.before=raise:EIO@1"), pytest.raises(IncompleteRun):
        async with packtrain.open_client(place.state, service=place.service, options=SMALL) as client:
            await client.run(source, model="m", out=place.out)
    content = place.out.read_bytes()
    async with packtrain.open_client(place.state, service=place.service, options=SMALL) as client:
        place.out.write_bytes(b"precious")
        with pytest.raises(InputError, match="exists already"):
            await client.run(source, model="m", out=place.out)
        place.out.write_bytes(content)
        assert (await client.run(source, model="m", out=place.out)).complete
    assert place.out.read_bytes() == content


async def test_results_of_a_published_run_are_read_from_its_output(place: Place) -> None:
    """Where the state directory bears its name, or where they are said to be; and it must be what was published."""
    source = place.requests(30)
    async with packtrain.open_client(place.state, service=place.service, options=SMALL) as client:
        await client.run(source, model="m", out=place.out)
        run = await client.submit(source, model="m")
        assert [result.key async for result in client.results(run, out=place.out)] == [f"key-{n}" for n in range(30)]
        with pytest.raises(InputError, match="``out`` names them"):
            await anext(client.results(run))
        place.out.write_bytes(place.out.read_bytes()[1:])
        with pytest.raises(ManifestError, match="the run is complete and published"):
            await anext(client.results(run, out=place.out))


async def test_results_know_the_output_from_the_name_of_the_state(place: Place) -> None:
    """As the command line gives it."""
    source = place.requests(12)
    async with packtrain.open_client(f"{place.out}.packtrain", service=place.service, options=SMALL) as client:
        await client.run(source, model="m", out=place.out)
        run = await client.submit(source, model="m")
        assert len([result async for result in client.results(run)]) == 12


async def test_results_come_while_the_client_drives(place: Place) -> None:
    """Submit, drive and read side by side, as a service would."""
    answered: dict[str, str] = {}
    async with (
        packtrain.open_client(place.state, service=place.service, options=SMALL) as client,
        anyio.create_task_group() as tasks,
    ):
        tasks.start_soon(client.drive)
        run = await client.submit(map(request_line, range(30)), run_id="nightly", model="m")
        async for result in client.results(run):
            assert result.response is not None
            answered[result.key] = answer_text({"response": json.loads(bytes(result.response))})
        tasks.cancel_scope.cancel()
    assert answered == {f"key-{n}": f"prompt number {n}" for n in range(30)}


async def test_what_was_driven_is_published_by_a_run(place: Place) -> None:
    """With the same client once the drive is cancelled, without its rows, and however much of it has landed."""
    async with packtrain.open_client(place.state, service=place.service, options=SMALL) as client:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(client.drive)
            run = await client.submit(map(request_line, range(30)), model="m", run_id="one")
            assert len([result async for result in client.results(run)]) == 30
            tasks.cancel_scope.cancel()
        await client.submit(map(request_line, range(12)), model="m", run_id="two")
        for run_id, lines in (("one", 30), ("two", 12)):
            out = place.root / f"{run_id}.jsonl"
            summary = await client.run((), model="m", run_id=run_id, out=out)
            assert summary.complete
            assert [row["key"] for row in read_lines(out)] == [f"key-{number}" for number in range(lines)]
    assert len(place.truth("batch_created")) == 5


async def test_a_client_that_was_stopped_says_that_another_one_goes_on(place: Place) -> None:
    """Submitting to the same one would never come to an end."""
    rows = [request_line(number) for number in range(25)]
    async with packtrain.open_client(place.state, service=place.service, options=SMALL) as client:
        client.stop()
        for _ in range(2):
            with pytest.raises(packtrain.IncompleteRun, match="'main': stopped before the end"):
                await client.submit(rows, model="m")
    async with packtrain.open_client(place.state, service=place.service, options=SMALL) as client:
        await client.submit(rows, model="m")
        assert (await client.run(rows, model="m", out=place.out)).answered == 25


async def test_results_do_not_wait_for_what_a_stop_keeps_from_coming(place: Place) -> None:
    """Whoever reads them is told that some are missing, and is not left waiting."""
    async with packtrain.open_client(place.state, service=place.service, options=SMALL) as client:
        run = await client.submit(place.requests(30), model="m")
        client.stop()
        with anyio.fail_after(100), pytest.raises(IncompleteRun, match="stopped before all answers had come"):
            _ = [result async for result in client.results(run)]


async def test_a_run_that_was_refused_is_taken_up_again_by_the_same_client(tmp_path: Path) -> None:
    """Nothing stays claimed by what is no longer at work: until now the second call waited for ever."""
    async with packtrain.serving(tmp_path / "service", key=Secret("right")) as origin:
        place = Place(tmp_path, origin)
        source = place.requests(30)
        async with packtrain.open_client(place.state, service=place.service, options=SMALL) as client:
            for _ in range(3):
                with anyio.fail_after(100), pytest.raises(ApiError, match="A key is needed"):
                    await client.run(source, model="m", out=place.out)


async def test_an_input_is_taken_in_once_at_a_time(place: Place) -> None:
    """Two would write into the same files; the first goes on as if nothing had been."""
    rows = [request_line(number) for number in range(12)]
    async with packtrain.open_client(place.state, service=place.service, options=SMALL) as client:

        async def gently() -> AsyncIterator[dict[str, Any]]:
            yield rows[0]
            with pytest.raises(RuntimeError, match="already"):
                await client.submit(rows, model="m")
            for row in rows[1:]:
                yield row

        await client.submit(gently(), model="m")
        assert (await client.statistics()).cursor.valid == 12


async def test_how_a_driven_run_stands_is_told(place: Place) -> None:
    """To this process and to others, as while `run` is at work."""
    async with packtrain.open_client(place.state, service=place.service, options=SMALL) as client:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(client.drive)
            run = await client.submit(map(request_line, range(12)), model="m")
            assert len([result async for result in client.results(run)]) == 12
            client.stop()
        progress, status = client.progress(), await packtrain.status(place.state)
    assert (progress.lines_answered, progress.jobs, status.statistics.tally.answered) == (12, 2, 12)
    assert status.token == run.token


async def test_a_run_is_driven_once_at_a_time(place: Place) -> None:
    """Neither beside a drive of all runs nor beside itself; other runs are, and when that has ended so is this one."""
    rows = [request_line(number) for number in range(8)]
    async with packtrain.open_client(place.state, service=place.service, options=SMALL) as client:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(client.drive)
            run = await client.submit(rows, model="m")
            assert len([result async for result in client.results(run)]) == 8
            for beside in (client.run(rows, model="m", out=place.out), client.retry(place.out), client.drive()):
                with pytest.raises(RuntimeError, match="drives already"):
                    await beside
            tasks.cancel_scope.cancel()
        async with anyio.create_task_group() as tasks:
            for run_id, out in (("other", place.root / "other.jsonl"), ("main", place.out)):
                tasks.start_soon(partial(client.run, rows, model="m", out=out, run_id=run_id))
            await anyio.lowlevel.checkpoint()
            for beside in (client.run(rows, model="m", out=place.out), client.drive()):
                with pytest.raises(RuntimeError, match="drives already"):
                    await beside
    assert len(read_lines(place.out)) == len(read_lines(place.root / "other.jsonl")) == 8
