"""Injected faults, seen by a plain HTTP client."""

from __future__ import annotations

import json
from contextlib import asynccontextmanager
from random import Random
from typing import TYPE_CHECKING, Any

import anyio
import msgspec
import pytest
from aiohttp import ClientError, ClientSession

from packtrain import InputError
from packtrain.server import serving
from packtrain.server.faults.storage import rearrange
from packtrain.testing import (
    Delay,
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
    read_plan,
)
from tests.server.service_calls import GRANULARITY, Calls, digest_of, generate_lines, sha256, truth

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

CREATE = "batches.create"


@asynccontextmanager
async def faulty(directory: Path, *rules: Any, **plan: Any) -> AsyncIterator[Calls]:
    async with serving(directory, faults=FaultPlan(rules=rules, **plan)) as origin, ClientSession() as session:
        yield Calls(session, origin)


async def made(calls: Calls, count: int = 1) -> str:
    """A file with ``count`` requests."""
    return str((await calls.upload(generate_lines(count)))["name"])


async def results_file(calls: Calls) -> str:
    operation = await calls.ended(await calls.job(await made(calls, 3)))
    return f"/v1beta/{operation['response']['responsesFile']}:download?alt=media"


@pytest.mark.parametrize(("acted", "jobs"), [(False, 0), (True, 1)])
async def test_call_is_dropped_before_or_after_execution(directory: Path, acted: bool, jobs: int) -> None:
    """The client sees the same; the log shows what happened and the injected fault."""
    async with faulty(directory, Drop(route=CREATE, calls=(1,), acted=acted)) as calls:
        file = await made(calls)
        with pytest.raises(ClientError):
            await calls.create(file)
        assert len(truth(directory, "batch_created")) == jobs
        assert (await calls.create(file)).status == 200
    (fault,) = truth(directory, "fault")
    assert (fault["do"], fault["route"]) == ("drop", CREATE)


async def test_late_call_is_executed_after_another_one(directory: Path) -> None:
    """Its client gets no response; a file deleted by then makes no job."""
    async with faulty(directory, Late(route=CREATE, until="files.delete", times=1)) as calls:
        file = await made(calls)
        with pytest.raises(ClientError):
            await calls.create(file)
        assert truth(directory, "batch_created") == []
        await calls.call("DELETE", f"/v1beta/{file}")
        assert (await calls.create(file)).status == 404
    assert truth(directory, "batch_created") == []


async def test_late_download_does_no_harm(directory: Path) -> None:
    """The client has disconnected; the service goes on."""
    async with faulty(directory, Late(route="files.download", until="files.get")) as calls:
        await calls.upload(b"x" * 1000, name="files/in")
        with pytest.raises(ClientError):
            await calls.call("GET", "/v1beta/files/in:download?alt=media", headers={"Connection": "close"})
        for _ in range(20):
            assert (await calls.call("GET", "/v1beta/files/in")).status == 200


async def test_late_create_makes_a_job_unknown_to_its_client(directory: Path) -> None:
    """If its file still exists."""
    async with faulty(directory, Late(route=CREATE, until="batches.get", times=1)) as calls:
        with pytest.raises(ClientError):
            await calls.create(await made(calls), name="ours")
        with anyio.fail_after(100):
            while not (found := (await calls.call("GET", "/v1beta/batches")).json.get("operations")):
                await calls.call("GET", "/v1beta/batches/none")
    assert found[0]["metadata"]["displayName"] == "ours"


async def test_delayed_call_waits_for_another_one(directory: Path) -> None:
    """It is answered afterwards."""
    async with faulty(directory, Delay(route="files.get", until="files.list")) as calls:
        file = await made(calls)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(calls.call, "GET", f"/v1beta/{file}")
            with anyio.fail_after(100):
                while not truth(directory, "fault"):
                    await anyio.lowlevel.checkpoint()
            await calls.call("GET", "/v1beta/files")


async def test_duplicated_call_is_executed_twice(directory: Path) -> None:
    """With its body."""
    async with faulty(directory, Duplicate(route=CREATE)) as calls:
        assert (await calls.create(await made(calls), name="twin")).status == 200
    assert [entry["displayName"] for entry in truth(directory, "batch_created")] == ["twin", "twin"]


@pytest.mark.parametrize("acted", [False, True])
async def test_any_status_in_any_format(directory: Path, acted: bool) -> None:
    """With or without creating the job."""
    rules = (
        Status(route=CREATE, calls=(1,), status=503, acted=acted, headers={"Retry-After": "7"}),
        Status(route=CREATE, calls=(2,), status=400, form="html", acted=acted),
    )
    async with faulty(directory, *rules) as calls:
        file = await made(calls)
        first, second = await calls.create(file), await calls.create(file)
    assert first.error == (503, "UNAVAILABLE")
    assert first.headers["Retry-After"] == "7"
    assert (second.status, second.headers["Content-Type"]) == (400, "text/html; charset=utf-8")
    assert len(truth(directory, "batch_created")) == (2 if acted else 0)


async def test_response_is_edited_garbled_and_stripped(directory: Path) -> None:
    """As the plan says."""
    rules = (
        Edit(route="files.list", member="files.*.displayName", value="renamed"),
        Edit(route="files.list", member="files.*.state"),
        Header(route="files.list", name="Content-Type"),
        Garble(route="files.get"),
    )
    async with faulty(directory, *rules) as calls:
        file = await made(calls)
        listed = await calls.call("GET", "/v1beta/files")
        assert listed.json["files"][0]["displayName"] == "renamed"
        assert "state" not in listed.json["files"][0]
        assert "Content-Type" not in listed.headers
        with pytest.raises(ValueError, match=r"utf|JSON|Expecting"):
            json.loads((await calls.call("GET", f"/v1beta/{file}")).body)


@pytest.mark.parametrize("route", ["files.get", "files.download"])
async def test_body_is_truncated_with_and_without_its_length(directory: Path, route: str) -> None:
    """With the length the client notices; without it the response looks complete."""
    rules = (Truncate(route=route, calls=(1,), at=10), Truncate(route=route, calls=(2,), at=10, length=False))
    async with faulty(directory, *rules) as calls:
        path = await results_file(calls)
        path = path if route == "files.download" else path.partition(":")[0]
        with pytest.raises(ClientError):
            await calls.call("GET", path)
        cut = await calls.call("GET", path)
        whole = await calls.call("GET", path)
    assert cut.status == whole.status == 200
    assert "Content-Length" not in cut.headers
    assert len(cut.body) == 10
    assert whole.body.startswith(cut.body) or route == "files.get"


async def test_slow_response_arrives_in_pieces(directory: Path) -> None:
    """Few bytes at first."""
    async with faulty(directory, Slow(route="files.download", rate=200)) as calls:
        path = await results_file(calls)
        async with calls.session.get(calls.origin + path) as response:
            first = await response.content.readany()
            assert 0 < len(first) < int(response.headers["Content-Length"]) / 2


async def test_lists_are_empty_doubled_or_endless(directory: Path) -> None:
    """Page by page."""
    how: list[Any] = ["empty", "doubled", "shuffled", "looping"]
    rules = [List(route="files.list", calls=(n + 1,), how=word) for n, word in enumerate(how)]
    async with faulty(directory, *rules, page_size=1) as calls:
        files = {await made(calls), await made(calls)}
        answers = [(await calls.call("GET", "/v1beta/files?pageSize=9")).json for _ in how]
        token = answers[3]["nextPageToken"]
        again = (await calls.call("GET", f"/v1beta/files?pageToken={token}")).json
    assert answers[0] == {}
    assert [file["name"] for file in answers[1]["files"]] == 2 * [answers[2]["files"][0]["name"]]
    assert again["files"][0]["name"] in files


async def test_new_jobs_and_files_appear_after_a_lag(directory: Path) -> None:
    """Jobs in the list, files by name."""
    async with faulty(directory, list_lag=3600.0, file_lag=3600.0) as calls:
        file = await made(calls)
        job = await calls.job(file)
        assert (await calls.call("GET", f"/v1beta/{file}")).status == 403
        assert (await calls.call("GET", f"/v1beta/{job}")).status == 200
        assert (await calls.call("GET", "/v1beta/batches")).json.get("operations", []) == []


async def test_upload_rewinds_overruns_and_expires(directory: Path) -> None:
    """The service has lost the bytes; the client continues from the new offset."""
    data = generate_lines(6_000)
    rules = (
        Rewind(route="upload.data", command="upload", calls=(2,), bytes=GRANULARITY),
        Overrun(route="upload.data", command="query", calls=(2,), bytes=5),
        Expire(route="upload.data", command="query", calls=(3,)),
    )
    async with faulty(directory, *rules) as calls:
        url = await calls.url(size=len(data))
        for start in (0, GRANULARITY):
            piece = data[start : start + GRANULARITY]
            assert (await calls.command(url, "upload", offset=start, data=piece)).status == 200
        assert await calls.received(url) == GRANULARITY
        assert await calls.received(url) == GRANULARITY + 5
        assert (await calls.command(url, "query")).status == 404


async def test_bytes_lost_in_the_middle_can_be_sent_again(directory: Path) -> None:
    """The file is complete in the end."""
    data = generate_lines(6_000)
    rules = (Rewind(route="upload.data", command="upload", calls=(1,), bytes=1000),)
    async with faulty(directory, *rules) as calls:
        url = await calls.url(size=len(data))
        await calls.command(url, "upload", offset=0, data=data[:GRANULARITY])
        received = await calls.received(url)
        assert received == GRANULARITY - 1000
        answer = await calls.command(url, "upload, finalize", offset=received, data=data[received:])
    assert digest_of(answer.json["file"]) == sha256(data)


async def test_flipped_bit_shows_in_the_hash(directory: Path) -> None:
    """Both in the response and in the log."""
    data = generate_lines(2)
    async with faulty(directory, Flip(route="upload.data", bit=9)) as calls:
        file = await calls.upload(data)
    flipped = data[:1] + bytes([data[1] ^ 2]) + data[2:]
    assert digest_of(file) == sha256(flipped) == truth(directory, "file_changed")[0]["sha256"]


async def test_file_expires_before_the_create(directory: Path) -> None:
    """The create is refused."""
    async with faulty(directory, Expire(route=CREATE)) as calls:
        assert (await calls.create(await made(calls))).status == 404
    assert truth(directory, "file_deleted")[0]["reason"] == "expired"


async def test_lazy_service_accepts_a_create_without_its_file(directory: Path) -> None:
    """The job fails when it runs."""
    async with faulty(directory, missing_input="lazy") as calls:
        operation = await calls.ended(await calls.job("files/never-there"))
        assert (await calls.call("GET", "/v1beta/files/never-there")).status == 403
        assert (await calls.results(await calls.ended(await calls.job(await made(calls)))))[0]["key"] == "k0"
    assert operation["metadata"]["state"] == "BATCH_STATE_FAILED"


async def test_chosen_names_and_ranges_may_be_ignored(directory: Path) -> None:
    """As in a service without these features."""
    async with faulty(directory, chosen_names=False, ranges=False) as calls:
        file = await calls.upload(generate_lines(1), name="files/mine")
        assert file["name"] != "files/mine"
        path = await results_file(calls)
        answer = await calls.call("GET", path, headers={"Range": "bytes=5-"})
    assert answer.status == 200
    assert len(answer.body.splitlines()) == 3


async def test_script_falsifies_the_states_of_a_job(directory: Path) -> None:
    """State by state, then the real state; other jobs show the real state always."""
    steps = (Step(state="WHO_KNOWS"), Step(state="SUCCEEDED", looks=2), Step(state="JOB_STATE_EXPIRED"))
    async with faulty(directory, scripts=(Script(jobs=(2,), steps=steps),)) as calls:
        file = await made(calls)
        first, second = await calls.job(file), await calls.job(file)
        reports = [(await calls.call("GET", f"/v1beta/{second}")).json for _ in range(4)]
        assert (await calls.ended(first))["metadata"]["state"] == "BATCH_STATE_SUCCEEDED"
        assert (await calls.results(await calls.ended(second)))[0]["key"] == "k0"
    assert [job["metadata"]["state"] for job in reports] == [
        "BATCH_STATE_WHO_KNOWS",
        "BATCH_STATE_SUCCEEDED",
        "BATCH_STATE_SUCCEEDED",
        "JOB_STATE_EXPIRED",
    ]
    assert [job.get("done", False) for job in reports] == [False, True, True, True]
    assert not any("response" in job or "output" in job["metadata"] for job in reports)


@pytest.mark.parametrize(
    ("how", "keys"),
    [
        ("reversed", ["k2", "k1", "k0"]),
        ("repeated", ["k0", "k1", "k2", "k0"]),
        ("conflicting", ["k0", "k0", "k1", "k2"]),
        ("missing", ["k1", "k2"]),
        ("unknown", ["nobody-asked", "k0", "k1", "k2"]),
        ("crlf", ["k0", "k1", "k2"]),
    ],
)
async def test_results_are_changed_once_on_the_disk(directory: Path, how: Any, keys: list[str]) -> None:
    """Every download returns the same bytes."""
    async with faulty(directory, Results(route="files.download", how=how)) as calls:
        path = await results_file(calls)
        bodies = {(await calls.call("GET", path)).body for _ in range(2)}
    (body,) = bodies
    assert [json.loads(line)["key"] for line in body.splitlines()] == keys
    assert (b"\r\n" in body) == (how == "crlf")


async def test_results_are_shuffled_by_the_seed(directory: Path) -> None:
    """All lines, in an order that depends on the seed."""
    orders = []
    for number, seed in enumerate((7, 7, 8)):
        plan = FaultPlan(seed=seed, rules=(Results(route="files.download", how="shuffled"),))
        async with serving(directory / str(number), faults=plan) as origin, ClientSession() as session:
            calls = Calls(session, origin)
            file = await calls.upload(generate_lines(20))
            orders.append([row["key"] for row in await calls.results(await calls.ended(await calls.job(file["name"])))])
    keys = [f"k{at}" for at in range(20)]
    assert [sorted(order) == sorted(keys) for order in orders] == [True] * 3
    assert orders[0] == orders[1]
    assert len({tuple(order) for order in (keys, orders[0], orders[2])}) == 3


async def test_share_of_calls_depends_on_the_seed_only(directory: Path) -> None:
    """Each rule has its own random numbers."""
    struck = []
    for number in range(2):
        rule = Status(route="files.list", status=500, share=0.5)
        other = Status(route="files.get", status=500, share=0.5)
        async with faulty(directory / str(number), rule, *[other] * number, seed=7) as calls:
            struck.append([(await calls.call("GET", "/v1beta/files")).status for _ in range(20)])
    assert struck[0] == struck[1]
    assert {200, 500} == set(struck[0])


async def test_plan_with_an_unknown_route_is_refused(directory: Path) -> None:
    """The error lists the known routes."""
    with pytest.raises(InputError, match=r"no route 'batches\.craete'.*batches\.create"):
        async with faulty(directory, Drop(route="batches.craete")):
            pass


def test_a_plan_is_read_from_toml(tmp_path: Path) -> None:
    """Every member of it."""
    path = tmp_path / "plan.toml"
    path.write_text("""
        seed = 3
        list_lag = 0.5
        missing_input = "lazy"
        [[rules]]
        do = "drop"
        route = "batches.create"
        calls = [1, 3]
        acted = true
        [[rules]]
        do = "edit"
        route = "files.get"
        member = "state"
        value = "PROCESSING"
        [[scripts]]
        steps = [{ state = "PENDING", looks = 0 }]
    """)
    assert read_plan(path) == FaultPlan(
        seed=3,
        list_lag=0.5,
        missing_input="lazy",
        rules=(
            Drop(route="batches.create", calls=(1, 3), acted=True),
            Edit(route="files.get", member="state", value="PROCESSING"),
        ),
        scripts=(Script(steps=(Step(state="PENDING", looks=0),)),),
    )


@pytest.mark.parametrize("text", ["rules = 1", "[[rules]]\ndo = 'dropp'\nroute = '*'", "= no", "sede = 1"])
def test_malformed_plan_is_refused_with_its_path(tmp_path: Path, text: str) -> None:
    """A misspelt word must not be ignored."""
    path = tmp_path / "plan.toml"
    path.write_text(text)
    with pytest.raises(InputError, match=r"plan\.toml: not a plan of faults"):
        read_plan(path)


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("page_size = 0", r"page_size"),
        ("list_lag = -1.0", r"list_lag"),
        ("[[rules]]\ndo = 'drop'\nroute = '*'\nshare = 2.0", r"rules\[0\].share"),
        ("[[rules]]\ndo = 'drop'\nroute = '*'\nshare = nan", r"rules\[0\].share"),
        ("[[rules]]\ndo = 'drop'\nroute = '*'\ncalls = [0]", r"rules\[0\].calls"),
        ("[[rules]]\ndo = 'delay'\nroute = '*'\nseconds = -1", r"rules\[0\].seconds"),
        ("[[rules]]\ndo = 'status'\nroute = '*'\nstatus = 99", r"rules\[0\].status"),
        ("[[rules]]\ndo = 'slow'\nroute = '*'\nrate = 0", r"rules\[0\].rate"),
        ("[[scripts]]\nsteps = []", r"scripts\[0\].steps"),
    ],
)
def test_values_out_of_range_are_refused_with_their_place(tmp_path: Path, text: str, place: str) -> None:
    """Each would do nothing, or end calls with 500."""
    path = tmp_path / "plan.toml"
    path.write_text(text)
    with pytest.raises(InputError, match=place):
        read_plan(path)


def test_missing_plan_file_is_reported_as_such(tmp_path: Path) -> None:
    """The error names the path."""
    with pytest.raises(InputError, match=r"plan\.toml: the plan of faults cannot be read: No such file or directory$"):
        read_plan(tmp_path / "plan.toml")


@pytest.mark.parametrize("rule", [Drop(route="batches.make"), Drop(route=CREATE, share=2.0)])
async def test_refused_start_leaves_nothing_behind(directory: Path, rule: Drop) -> None:
    """Plans made in Python are checked too."""
    with pytest.raises(InputError, match="plan of faults"):
        async with faulty(directory, rule):
            pass
    assert not await anyio.Path(directory).exists()


@pytest.mark.parametrize("how", ["conflicting", "unknown"])
def test_results_whose_first_line_has_no_key(how: str) -> None:
    """The added row copies the first row with a key; without one nothing changes."""
    bad, good = b'{"error":{"code":3}}\n', b'{"key":"k","response":{}}\n'
    assert rearrange(bad, how, Random(1)) == bad
    made_up, *others = rearrange(bad + good, how, Random(1)).splitlines(keepends=True)
    assert others == [bad, good]
    assert msgspec.json.decode(made_up)["key"] == {"conflicting": "k", "unknown": "nobody-asked"}[how]


def test_a_plan_survives_a_round_trip() -> None:
    """A plan can be encoded and decoded."""
    plan = FaultPlan(rules=(Flip(route="upload.data", bit=3), Expire(route="batches.create")))
    assert msgspec.json.decode(msgspec.json.encode(plan), type=FaultPlan) == plan
