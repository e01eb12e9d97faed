"""The client against a service that misbehaves by plan.

Each case names the fault of the catalogue by its number. However a run was disturbed, every key is answered once, in
input order, and the service's own log shows exactly one job for each shard; or the run ends as its documents say.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections import Counter
from typing import TYPE_CHECKING, Any

import anyio
import pytest

import packtrain
from packtrain import ApiError, IncompleteRun, Options, serving
from packtrain.testing import (
    Drop,
    Duplicate,
    Edit,
    Expire,
    FaultPlan,
    Flip,
    Garble,
    Header,
    Late,
    List,
    Overrun,
    Results,
    Rewind,
    Script,
    Slow,
    Status,
    Step,
    Truncate,
)
from tests.flow.place import Place, answer_text, read_lines, request_line, write_lines

if TYPE_CHECKING:
    from pathlib import Path

    from packtrain import Summary

KIB = 1024
CREATE, LIST, DATA, DOWNLOAD = "batches.create", "batches.list", "upload.data", "files.download"
LAST = "upload, finalize"
STATUS, ADDRESS = "X-Goog-Upload-Status", "X-Goog-Upload-URL"
LOST = Drop(route=CREATE, calls=(1,), acted=True)


def plan(*rules: Any, **switches: Any) -> FaultPlan:
    return FaultPlan(rules=rules, **switches)


def script(*steps: Step) -> FaultPlan:
    return FaultPlan(scripts=(Script(steps=steps),))


def text_of(number: int, size: int) -> str:
    return f"prompt number {number}\u2028and\u0085on " + "x" * size


async def run(
    root: Path, faults: FaultPlan, *, shards: int = 2, size: int = 0, name: str = "state"
) -> tuple[Place, Summary]:
    """Five keys a shard, each with a text of about ``size`` bytes. ``name`` is the state directory's."""
    async with serving(root / "service", faults=faults) as origin:
        place = Place(root, origin)
        place.state, place.out = root / name, root / f"{name}.jsonl"
        rows = [request_line(n, text_of(n, size)) for n in range(5 * shards)]
        source = write_lines(root / "in.jsonl", rows)
        options = Options(shard_requests=5, chunk_bytes=256 * KIB)
        async with packtrain.open_client(place.state, service=place.service, options=options) as client:
            with anyio.fail_after(100):
                summary = await client.run(source, model="m", out=place.out)
    return place, summary


def jobs_by_shard(place: Place) -> Counter[str]:
    """By the service's own log; a tag is made of mark, run, shard, generation and more."""
    return Counter(entry["displayName"].split(".")[2] for entry in place.truth("batch_created"))


def jobs_by_generation(place: Place) -> Counter[str]:
    return Counter(".".join(entry["displayName"].split(".")[2:4]) for entry in place.truth("batch_created"))


def assert_struck(place: Place, faults: FaultPlan) -> None:
    """Every rule of the plan, or the test would prove nothing."""
    assert {entry["do"] for entry in place.truth("fault")} == {type(rule).__name__.lower() for rule in faults.rules}


def assert_whole(place: Place, summary: Summary, *, shards: int = 2, size: int = 0, again: int = 0) -> None:
    """``again`` is how many later generations there were; each of them had one job, too."""
    rows = read_lines(place.out)
    assert [row["key"] for row in rows] == [f"key-{n}" for n in range(5 * shards)]
    assert [answer_text(row) for row in rows] == [text_of(n, size) for n in range(5 * shards)]
    assert (summary.complete, summary.answered, summary.failed) == (True, 5 * shards, 0)
    generations = jobs_by_generation(place)
    assert set(generations.values()) == {1}
    assert len(jobs_by_shard(place)) == shards
    assert len(generations) == shards + again


CREATES = {
    "15 accepted, then dropped": plan(LOST),
    "16 dropped before": plan(Drop(route=CREATE, calls=(1,))),
    "17 accepted, then 503": plan(Status(route=CREATE, calls=(1,), status=503, acted=True)),
    "18 accepted, half a body": plan(Truncate(route=CREATE, calls=(1,), at=80)),
    "18 accepted, half a body that looks whole": plan(Truncate(route=CREATE, calls=(1,), at=80, length=False)),
    "18 accepted, garbled": plan(Garble(route=CREATE, calls=(1,))),
    "19 accepted, no name": plan(
        Edit(route=CREATE, calls=(1,), member="name"), Edit(route=CREATE, calls=(1,), member="metadata.name")
    ),
    "20 arrives after the fence": plan(Late(route=CREATE, calls=(1,), until="files.delete")),
    "23 list empty": plan(LOST, List(route=LIST, calls=(1, 2), how="empty")),
    "23 list empty in between": plan(LOST, List(route=LIST, calls=(2, 3), how="empty")),
    "24 a page fails": plan(LOST, Status(route=LIST, calls=(2,), status=503), page_size=1),
    "25 a token for ever": plan(LOST, List(route=LIST, calls=(1,), how="looping")),
    "26 twice in the list, in disorder": plan(
        LOST, List(route=LIST, how="doubled"), List(route=LIST, how="shuffled"), page_size=1
    ),
    "31 429 with Retry-After": plan(Status(route=CREATE, calls=(1,), status=429, headers={"Retry-After": "1"})),
    "31 429 with Retry-After below zero": plan(
        Status(route=CREATE, calls=(1,), status=429, headers={"Retry-After": "-5"})
    ),
    "31 429 without, and accepted": plan(Status(route=CREATE, calls=(1,), status=429, acted=True)),
    "31 429 of the very first, accepted, list empty": plan(
        Status(route=CREATE, calls=(1,), status=429, acted=True), List(route=LIST, calls=(1,), how="empty")
    ),
    "31 429, accepted, list empty": plan(
        Status(route=CREATE, calls=(2,), status=429, acted=True), List(route=LIST, times=4, how="empty")
    ),
    "31 429 for the first three": plan(Status(route=CREATE, calls=(1, 2, 3), status=429)),
    "32 400 by a proxy, accepted": plan(Status(route=CREATE, calls=(2,), status=400, form="html", acted=True)),
    "32 400 by a proxy, not accepted": plan(Status(route=CREATE, calls=(2,), status=400, form="html")),
    "A14 400 of the service itself, accepted": plan(Status(route=CREATE, calls=(2,), status=400, acted=True)),
    "35 file expired before the create": plan(Expire(route=CREATE, calls=(1,))),
    "list lags": plan(LOST, list_lag=0.25),
}


@pytest.mark.parametrize("faults", CREATES.values(), ids=CREATES)
async def test_a_disturbed_create_makes_one_job(tmp_path: Path, faults: FaultPlan) -> None:
    """Whatever becomes of its answer."""
    place, summary = await run(tmp_path, faults)
    assert_struck(place, faults)
    assert_whole(place, summary)


UPLOADS = {
    "41 replies lost": plan(Drop(route=DATA, command="upload", calls=(1, 3), acted=True)),
    "42 half of it kept": plan(
        Rewind(route=DATA, command="upload", calls=(2,), bytes=100_000),
        Drop(route=DATA, command="upload", calls=(2,), acted=True),
    ),
    "43 back by a chunk": plan(Rewind(route=DATA, command="upload", calls=(2,), bytes=256 * KIB)),
    "44 ahead": plan(Overrun(route=DATA, command="upload", calls=(1,), bytes=256 * KIB)),
    "44 beyond the size": plan(Overrun(route=DATA, command="upload", calls=(1,), bytes=10**9)),
    "45 start without status": plan(Header(route="upload.start", calls=(1,), name=STATUS)),
    "45 data without status": plan(Header(route=DATA, command="upload", calls=(2,), name=STATUS)),
    "45 query without status": plan(
        Drop(route=DATA, command="upload", calls=(1,)), Header(route=DATA, command="query", calls=(1,), name=STATUS)
    ),
    "46 final and 400": plan(Status(route=DATA, command="upload", calls=(2,), status=400, headers={STATUS: "final"})),
    "47 reply to finalise lost": plan(Drop(route=DATA, command=LAST, acted=True, times=1)),
    "47 the same, file not seen by its name": plan(Drop(route=DATA, command=LAST, acted=True, times=1), file_lag=60.0),
    "48 the same, session gone": plan(
        Drop(route=DATA, command=LAST, acted=True, times=1), Expire(route=DATA, command="query")
    ),
    "49 session expires": plan(Expire(route=DATA, command="upload", calls=(3,))),
    "50 granularity 2 MiB": plan(
        Header(route="upload.start", name="X-Goog-Upload-Chunk-Granularity", value=str(2 * KIB * KIB))
    ),
    "50 granularity absent": plan(Header(route="upload.start", name="X-Goog-Upload-Chunk-Granularity")),
    "50 granularity zero": plan(Header(route="upload.start", name="X-Goog-Upload-Chunk-Granularity", value="0")),
    "51 a bit flips": plan(Flip(route=DATA, command=LAST, times=1, bit=12345)),
    "56 PROCESSING for a while": plan(
        Edit(route=DATA, command=LAST, member="file.state", value="PROCESSING"),
        Edit(route="files.get", member="state", value="PROCESSING", calls=(2,)),
    ),
    "56 FAILED": plan(Edit(route=DATA, command=LAST, member="file.state", value="FAILED", times=1)),
    "503 now and then": plan(Status(route=DATA, status=503, calls=(1, 4))),
    "A7 over as soon as it is there": plan(
        Edit(route=DATA, command=LAST, member="file.expirationTime", value="1970-01-01T00:00:00Z")
    ),
    "A11 at no address": plan(Header(route="upload.start", calls=(1,), name=ADDRESS, value="http://[bad")),
    "A11 at an address elsewhere": plan(Header(route="upload.start", calls=(1,), name=ADDRESS, value="file:///etc/x")),
}


#: What the service holds need not be sent again.
GOES_ON = ("41", "42", "43", "44 ahead", "45 data", "47", "50", "503", "56 PROCESSING", "A7")


@pytest.mark.parametrize("name", UPLOADS)
async def test_a_disturbed_upload_brings_the_whole_file(tmp_path: Path, name: str) -> None:
    """No job is made of a file that is not byte for byte the shard, and no session given up without need."""
    place, summary = await run(tmp_path, UPLOADS[name], shards=1, size=250_000)
    assert_struck(place, UPLOADS[name])
    assert_whole(place, summary, shards=1, size=250_000)
    assert len(place.truth("upload_started")) == 1 or not name.startswith(GOES_ON)
    assert len(place.truth("file_finalised")) <= 2


async def test_an_upload_address_elsewhere_is_never_stored(tmp_path: Path) -> None:
    """No session was opened that had to be given up (A11)."""
    place, _ = await run(tmp_path, UPLOADS["A11 at no address"], shards=1)
    with contextlib.closing(sqlite3.connect(place.state / "manifest.db")) as manifest:
        events = {event for (event,) in manifest.execute("SELECT event FROM events")}
    assert "UploadOpened" in events
    assert "UploadLost" not in events


POLLS = {
    "60 404 once": plan(List(route=LIST, times=2, how="empty"), Status(route="batches.get", status=404, times=1)),
    "62 SUCCEEDED, then RUNNING": script(Step(state="SUCCEEDED"), Step(state="RUNNING", looks=2)),
    "62 EXPIRED once": script(Step(state="EXPIRED")),
    "62 CANCELLED, by name as well": script(Step(state="CANCELLED", looks=2)),
    "62 FAILED, then EXPIRED, then RUNNING": script(
        Step(state="FAILED", looks=2), Step(state="EXPIRED", looks=2), Step(state="RUNNING")
    ),
    "34 results shown by name alone": plan(
        Edit(route=LIST, member="operations.*.response"), Edit(route=LIST, member="operations.*.metadata.output")
    ),
    "63 a word not met before": script(Step(state="MEDITATING", looks=3)),
    "65 SUCCEEDED before its output": script(Step(state="SUCCEEDED", looks=4)),
    "66 JOB_STATE": script(Step(state="JOB_STATE_PENDING", looks=2), Step(state="JOB_STATE_RUNNING", looks=2)),
    "66 no done": plan(Edit(route="batches.*", member="operations.*.done"), Edit(route="batches.*", member="done")),
    "66 numbers as numbers": plan(
        Edit(route="batches.*", member="operations.*.metadata.batchStats.requestCount", value=5)
    ),
}


@pytest.mark.parametrize("faults", POLLS.values(), ids=POLLS)
async def test_odd_words_about_a_job_are_waited_out(tmp_path: Path, faults: FaultPlan) -> None:
    """What ends a job is its output."""
    place, summary = await run(tmp_path, faults)
    assert_struck(place, faults)
    assert_whole(place, summary)


DOWNLOADS = {
    **{f"69 cut at {at}": plan(Truncate(route=DOWNLOAD, at=at, times=2)) for at in (0, 1, 97, 65_537, 100_001)},
    **{
        f"69 cut at {at}, length unknown": plan(Truncate(route=DOWNLOAD, at=at, times=1, length=False))
        for at in (97, 9700)
    },
    "71 Range ignored": plan(Truncate(route=DOWNLOAD, at=90_000, times=2), ranges=False),
    "71 wrong start": plan(
        Truncate(route=DOWNLOAD, at=90_000, calls=(1,)),
        Header(route=DOWNLOAD, calls=(2, 3), name="Content-Range", value="bytes 80000-90000/90001"),
    ),
    "71 start beyond what is here": plan(
        Truncate(route=DOWNLOAD, at=90_000, calls=(1,)),
        Header(route=DOWNLOAD, calls=(2, 3), name="Content-Range", value="bytes 95000-126000/126001"),
    ),
    "72 shuffled": plan(Results(route=DOWNLOAD, how="shuffled")),
    "72 reversed": plan(Results(route=DOWNLOAD, how="reversed")),
    "73 a line twice": plan(Results(route=DOWNLOAD, how="repeated")),
    "73 two answers to one key": plan(Results(route=DOWNLOAD, how="conflicting")),
    "75 a key that nobody asked": plan(Results(route=DOWNLOAD, how="unknown")),
    "78 CRLF": plan(Results(route=DOWNLOAD, how="crlf")),
    "37 Range refused": plan(
        Truncate(route=DOWNLOAD, at=90_000, calls=(1,)), Status(route=DOWNLOAD, calls=(2,), status=416)
    ),
    "37 another total": plan(
        Truncate(route=DOWNLOAD, at=90_000, calls=(1,)),
        Header(route=DOWNLOAD, calls=(2,), name="Content-Range", value="bytes 24464-126000/126001"),
    ),
    "71 other ETag": plan(
        Truncate(route=DOWNLOAD, at=90_000, calls=(1,)),
        Header(route=DOWNLOAD, calls=(2,), name="ETag", value='"another"'),
    ),
    "slow": plan(Slow(route=DOWNLOAD, rate=400_000)),
}


@pytest.mark.parametrize("faults", DOWNLOADS.values(), ids=DOWNLOADS)
async def test_disturbed_results_come_down_whole_and_in_order(tmp_path: Path, faults: FaultPlan) -> None:
    """A transport that reports success has not proved completeness; the keys have (77: split at newlines alone)."""
    place, summary = await run(tmp_path, faults, size=25_000)
    assert_struck(place, faults)
    assert_whole(place, summary, size=25_000)


async def test_70_a_cut_at_the_end_of_a_line_is_found_by_the_keys(tmp_path: Path) -> None:
    """HTTP takes it for the whole."""
    place, _ = await run(tmp_path / "first", FaultPlan())
    line = place.truth("batch_finished")[0]["bytes"] // 5
    for cut in range(line - 2, line + 3):
        faults = plan(Truncate(route=DOWNLOAD, at=cut, length=False, times=1))
        assert_whole(*await run(tmp_path / str(cut), faults))


async def test_74_a_missing_row_is_asked_again(tmp_path: Path) -> None:
    """After a second copy said the same; and when it never comes, it is a failed key."""
    place, summary = await run(tmp_path, plan(Results(route=DOWNLOAD, how="missing")))
    assert (summary.complete, summary.answered, summary.failed) == (True, 8, 2)
    failed = read_lines(tmp_path / "state.jsonl.failed.jsonl")
    assert [(row["key"], row["ordinal"], row["asked"], row["retryable"]) for row in failed] == [
        ("key-0", 0, 3, True),
        ("key-5", 5, 3, True),
    ]
    assert jobs_by_generation(place) == dict.fromkeys(["0.0", "0.1", "0.2", "1.0", "1.1", "1.2"], 1)
    assert len(place.truth("fault")) == 2 * 6, "each of the six results is fetched twice"


async def test_39_a_body_without_a_length_is_fetched_twice(tmp_path: Path) -> None:
    """Two copies must agree before one is believed, although every key has its row."""
    place, summary = await run(tmp_path, plan(Truncate(route=DOWNLOAD, at=10**9, length=False)))
    assert_whole(place, summary)
    assert len(place.truth("fault")) == 2 * 2


async def test_75_unknown_keys_are_kept_apart(tmp_path: Path) -> None:
    """They never enter the output, and are not thrown away."""
    await run(tmp_path, plan(Results(route=DOWNLOAD, how="unknown")))
    assert [row["key"] for row in read_lines(tmp_path / "state.jsonl.unknown.jsonl")] == ["nobody-asked"] * 2


async def test_69_two_cut_copies_in_a_row_are_no_reason_to_give_up(tmp_path: Path) -> None:
    """The answers are paid for, and the third copy would be whole."""
    faults = plan(Truncate(route=DOWNLOAD, at=97, length=False, times=2))
    assert_whole(*await run(tmp_path, faults, shards=1), shards=1)


async def test_64_a_job_that_expired_is_made_once_more(tmp_path: Path) -> None:
    """As the next generation of its shard, which is another job by right."""
    faults = FaultPlan(scripts=(Script(jobs=(1,), steps=(Step(state="EXPIRED", looks=0),)),))
    place, summary = await run(tmp_path, faults)
    assert_whole(place, summary, again=1)


async def test_64_the_same_end_twice_fails_the_lines_with_the_reason(tmp_path: Path) -> None:
    """The run is complete; a third try would end like the two before it."""
    faults = script(Step(state="EXPIRED", looks=0))
    place, summary = await run(tmp_path, faults, shards=1)
    assert (summary.complete, summary.answered, summary.failed) == (True, 0, 5)
    assert all("expired" in row["reason"] for row in read_lines(tmp_path / "state.jsonl.failed.jsonl"))
    assert jobs_by_generation(place) == {"0.0": 1, "0.1": 1}


async def test_82_results_that_expired_are_asked_for_again_and_counted(tmp_path: Path) -> None:
    """They are paid for twice, and that is said."""
    faults = plan(Expire(route=DOWNLOAD, calls=(1,)))
    place, summary = await run(tmp_path, faults)
    assert_struck(place, faults)
    assert_whole(place, summary, again=1)
    status = await packtrain.status(place.state)
    assert (status.statistics.lost, status.statistics.retried) == (5, 5)


async def test_82_results_that_are_not_shown_for_a_moment_are_not_asked_for_again(tmp_path: Path) -> None:
    """One wrong answer of each kind is no loss; it takes three, over the whole settling time."""
    faults = plan(Status(route=DOWNLOAD, calls=(1, 2), status=404), Status(route="files.get", calls=(2, 3), status=404))
    place, summary = await run(tmp_path, faults, shards=1)
    assert len(place.truth("fault")) == 4
    assert_whole(place, summary, shards=1)


async def test_82_results_that_are_only_refused_are_waited_for(tmp_path: Path) -> None:
    """As long as the service shows the file."""
    faults = plan(Status(route=DOWNLOAD, calls=(1,), status=403))
    place, summary = await run(tmp_path, faults)
    assert_struck(place, faults)
    assert_whole(place, summary)


async def test_31_a_429_that_was_an_acceptance_is_a_duplicate_where_the_list_lags(tmp_path: Path) -> None:
    """The bet on a refusal, lost: two looks do not show its job. The second job is cancelled, and reported (B16)."""
    faults = plan(Status(route=CREATE, calls=(1,), status=429, acted=True), List(route=LIST, calls=(1, 2), how="empty"))
    place, summary = await run(tmp_path, faults, shards=1)
    assert jobs_by_shard(place) == {"0": 2}
    assert (summary.answered, summary.failed, summary.duplicates_healed) == (5, 0, 1)


async def test_32_a_definite_refusal_of_the_first_create_ends_the_run(tmp_path: Path) -> None:
    """Nothing speaks for the others to fare better."""
    with pytest.raises(ApiError, match="Injected fault"):
        await run(tmp_path, plan(Status(route=CREATE, status=400)))
    assert Place(tmp_path, "").truth("batch_created") == []


async def test_32_a_definite_refusal_of_a_later_create_fails_its_lines(tmp_path: Path) -> None:
    """The others are answered; nothing is sent again."""
    place, summary = await run(tmp_path, plan(Status(route=CREATE, calls=(2,), status=400)))
    assert (summary.complete, summary.answered, summary.failed) == (True, 5, 5)
    assert len(place.truth("batch_created")) == 1


async def test_26_jobs_of_another_run_are_not_taken_for_ours(tmp_path: Path) -> None:
    """Nor their answers, although shard and content are the same."""
    for name in ("theirs", "ours"):
        place, summary = await run(tmp_path, plan(LOST), name=name)
        assert (summary.answered, summary.failed) == (10, 0)
        assert summary.jobs_created == 2
    tags = [entry["displayName"] for entry in place.truth("batch_created")]
    assert len(set(tags)) == 4
    assert len({tag.split(".")[1] for tag in tags}) == 2


async def test_h5_a_service_that_ignores_chosen_names_makes_no_job(tmp_path: Path) -> None:
    """Files could not be revoked then; a person must decide."""
    with pytest.raises(IncompleteRun) as caught:
        await run(tmp_path, plan(chosen_names=False), shards=1)
    assert caught.value.quarantined == 1
    assert Place(tmp_path, "").truth("batch_created") == []


TWICE = {
    "21": plan(Duplicate(route=CREATE, calls=(1,))),
    "28": plan(Duplicate(route=CREATE, calls=(1,)), LOST),
}


@pytest.mark.parametrize("faults", TWICE.values(), ids=TWICE)
async def test_a_create_delivered_twice_is_answered_once(tmp_path: Path, faults: FaultPlan) -> None:
    """Two jobs no client can prevent; one of them is read."""
    place, summary = await run(tmp_path, faults, shards=1)
    assert jobs_by_shard(place) == {"0": 2}
    assert (summary.answered, summary.failed) == (5, 0)
    assert [row["key"] for row in read_lines(place.out)] == [f"key-{n}" for n in range(5)]


@pytest.mark.parametrize("faults", TWICE.values(), ids=TWICE)
async def test_a_create_delivered_twice_is_reported(tmp_path: Path, faults: FaultPlan) -> None:
    """That there were two jobs must be said."""
    _, summary = await run(tmp_path, faults, shards=1)
    assert summary.duplicates_healed == 1


async def test_20_a_lazy_service_accepts_the_late_create_and_it_is_found(tmp_path: Path) -> None:
    """H1 the other way: the job fails for want of its input; none is made beside it, one after it."""
    faults = plan(Late(route=CREATE, calls=(1,), until="files.delete"), missing_input="lazy")
    place, summary = await run(tmp_path, faults, shards=1)
    assert jobs_by_generation(place) == {"0.0": 1, "0.1": 1}
    assert (summary.answered, summary.failed) == (5, 0)
