"""Requests of people to the driver of a run: taken between its steps, or kept apart with the reason."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

import anyio
import anyio.lowlevel
import pytest

import packtrain
from packtrain import DecisionRefused, IncompleteRun, NoRun, Policy, State
from packtrain._io.requests import RetryRequest, reject_request, rejection, write_request
from packtrain.testing import armed
from tests.flow import test_generations as lineage
from tests.flow.test_generations import INTERNAL, Moody, anyio_backend, at
from tests.flow.test_resolve import POLICY, row, stuck

if TYPE_CHECKING:
    from pathlib import Path

    from tests.flow.place import Place

__all__ = ["anyio_backend"]

SOON = Policy(requests_every=0.02)


def waiting(place: Place) -> list[str]:
    return sorted(path.suffix for path in (place.state / "requests").iterdir())


async def test_a_decision_is_taken_by_the_driver(place: Place) -> None:
    """The request is a private file beside the manifest; the driver records the decision and removes it."""
    await stuck(place)
    async with (
        packtrain.open_client(place.state, service=place.service, options=POLICY, policy=SOON) as client,
        anyio.create_task_group() as tasks,
    ):
        assert await packtrain.driver(place.state) is not None
        id = await packtrain.request_decision(place.state, 0, "retry")
        (path,) = (place.state / "requests").iterdir()
        assert (path.name, stat.S_IMODE(path.stat().st_mode)) == (f"{id}.json", 0o600)
        tasks.start_soon(client.drive)
        with anyio.fail_after(100):
            assert await packtrain.request_taken(place.state, id, wait=30)
            while (await client.statistics()).count(State.CLOSED) == 0:
                await anyio.lowlevel.checkpoint()
        tasks.cancel_scope.cancel()
    assert waiting(place) == []
    assert ((await row(place)).state, len(place.truth("batch_created"))) == (State.CLOSED, 1)


async def test_a_request_without_a_driver_is_taken_by_the_next_start(place: Place) -> None:
    """Before it says that a person must decide."""
    await stuck(place)
    assert await packtrain.driver(place.state) is None
    id = await packtrain.request_decision(place.state, 0, "drop")
    assert not await packtrain.request_taken(place.state, id, wait=0.01)
    async with packtrain.open_client(place.state, service=place.service, options=POLICY) as client:
        with anyio.fail_after(100):
            summary = await client.run(place.root / "in.jsonl", model="m-1", out=place.out)
    assert (summary.complete, summary.failed) == (True, 3)
    assert await packtrain.request_taken(place.state, id)


NESTED = b'{"x":' + b"[" * 20_000 + b"]" * 20_000 + b',"what":"retry","run":"main"}'


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b'{"what":"burn"}', b'{"what":"retry","run":"main","x":1}', b"\xff", NESTED],
    ids=["empty", "cut", "other", "field", "bytes", "nested"],
)
async def test_what_is_no_request_is_kept_apart(place: Place, content: bytes, caplog: pytest.LogCaptureFixture) -> None:
    """It is logged, and the driver goes on."""
    await stuck(place)
    directory = place.state / "requests"
    directory.mkdir()
    (directory / "a.json").write_bytes(content)
    await packtrain.request_decision(place.state, 0, "drop")
    async with packtrain.open_client(place.state, service=place.service, options=POLICY) as client:
        with anyio.fail_after(100):
            assert (await client.run(place.root / "in.jsonl", model="m-1", out=place.out)).complete
    assert waiting(place) == [".rejected"]
    assert (directory / "a.json.rejected").read_bytes().startswith(content)
    assert "a.json rejected" in caplog.text


@pytest.mark.parametrize("kind", ["link", "pipe", "directory"])
async def test_a_request_is_a_regular_file(place: Place, kind: str) -> None:
    """A link is not followed, a pipe not waited for: it is kept apart, and the driver goes on."""
    await stuck(place)
    path = place.state / "requests" / "a.json"
    path.parent.mkdir()
    valid = place.root / "valid"
    valid.write_text('{"what":"resolve","run":"main","shard":0,"decision":"drop"}')
    match kind:
        case "link":
            path.symlink_to(valid)
        case "pipe":
            os.mkfifo(path)
        case _:
            path.mkdir()
    before = valid.read_bytes()
    async with packtrain.open_client(place.state, service=place.service, options=POLICY) as client:
        with pytest.raises(IncompleteRun, match="left no job"), anyio.fail_after(100):
            await client.run(place.root / "in.jsonl", model="m-1", out=place.out)
    assert waiting(place) == [".rejected"]
    assert valid.read_bytes() == before


async def test_a_request_that_cannot_be_read_now_waits(place: Place, caplog: pytest.LogCaptureFixture) -> None:
    """As when no more files can be opened: it is logged, and met later."""
    await stuck(place)
    await packtrain.request_decision(place.state, 0, "drop")
    with armed("request.read.before=raise:EMFILE@1"):
        async with packtrain.open_client(place.state, service=place.service, options=POLICY, policy=SOON) as client:
            with anyio.fail_after(100):
                assert (await client.run(place.root / "in.jsonl", model="m-1", out=place.out)).failed == 3
    assert "Too many open files); the request waits" in caplog.text
    assert waiting(place) == []


async def test_a_request_that_cannot_be_met_says_why(place: Place) -> None:
    """A shard that there is not, a run that there is not, and answers that this driver does not publish."""
    await stuck(place)
    reasons = {
        await packtrain.request_decision(place.state, 7, "drop"): "there is no shard 7",
        await packtrain.request_decision(place.state, 0, "adopt", job="nonsense"): "is not the name of a job",
        await packtrain.request_decision(place.state, 0, "drop", run_id="other"): "there is no run 'other'",
        await packtrain.request_retry(place.state): "does not publish",
    }
    async with (
        packtrain.open_client(place.state, service=place.service, options=POLICY, policy=SOON) as client,
        anyio.create_task_group() as tasks,
    ):
        tasks.start_soon(client.drive)
        for id, reason in reasons.items():
            with pytest.raises(DecisionRefused, match=reason):
                await packtrain.request_taken(place.state, id, wait=30)
        tasks.cancel_scope.cancel()
    assert (await row(place)).state is State.QUARANTINED


async def test_a_request_about_a_shard_that_cannot_be_read_is_rejected(place: Place) -> None:
    """With the reason; the driver goes on."""
    await stuck(place)
    (shard,) = (place.state / "shards").glob("*/*")
    shard.unlink()
    shard.symlink_to("x" * 300)  # a name too long for any file system: an error, also for root
    id = await packtrain.request_decision(place.state, 0, "retry")
    async with (
        packtrain.open_client(place.state, service=place.service, options=POLICY, policy=SOON) as client,
        anyio.create_task_group() as tasks,
    ):
        tasks.start_soon(client.drive)
        with pytest.raises(DecisionRefused, match="nothing was decided"):
            await packtrain.request_taken(place.state, id, wait=30)
        tasks.cancel_scope.cancel()
    assert (await row(place)).state is State.QUARANTINED


def test_the_reason_is_there_before_the_new_name(tmp_path: Path) -> None:
    """A driver that ends between the two leaves it to the next one, which keeps the reason."""
    id = write_request(tmp_path, RetryRequest(run="main"))
    path = tmp_path / "requests" / f"{id}.json"
    with armed("request.rename.before=raise:EIO"):
        reject_request(path, "the first reason")
    assert "the first reason" in path.read_text()
    reject_request(path, "another")
    assert rejection(tmp_path, id) == "the first reason"


async def test_a_retry_is_taken_once_the_run_is_published(tmp_path: Path) -> None:
    """Each request is met once; the same request twice is one."""
    async with at(tmp_path, Moody({5: [INTERNAL] * 3, 6: [INTERNAL] * 3})) as place:
        assert (await lineage.run(place)).failed == 2
        id = await packtrain.request_retry(place.state)
        assert await packtrain.request_retry(place.state) == id
        summary = await lineage.run(place)
        assert (summary.complete, summary.failed) == (True, 0)
        assert await packtrain.request_taken(place.state, id)
        before = place.truth()
        assert (await lineage.run(place)).failed == 0
        assert place.truth("batch_created") == [entry for entry in before if entry["what"] == "batch_created"]


@pytest.mark.parametrize("everything", [False, True])
async def test_a_retry_by_hand_meets_the_requests_that_wait(tmp_path: Path, everything: bool) -> None:
    """Lines are asked once for both, and all of them if one of the two says so."""
    model = Moody({5: [INTERNAL] * 99, 6: [lineage.INVALID] * 99})
    async with at(tmp_path, model) as place:
        await lineage.run(place)
        before = dict(model.asked)
        await lineage.retry(place)
        one = model.asked["prompt number 5"] - before["prompt number 5"]
        await packtrain.request_retry(place.state, everything=everything)
        await lineage.retry(place)
        assert model.asked["prompt number 5"] == before["prompt number 5"] + 2 * one
        assert model.asked["prompt number 6"] == before["prompt number 6"] + everything
        assert waiting(place) == []


async def test_without_a_run_nothing_is_written(tmp_path: Path) -> None:
    """No state directory comes into being by a request."""
    with pytest.raises(NoRun):
        await packtrain.request_decision(tmp_path / "state", 0, "drop")
    with pytest.raises(NoRun):
        await packtrain.request_retry(tmp_path / "state")
    assert not (tmp_path / "state").exists()
