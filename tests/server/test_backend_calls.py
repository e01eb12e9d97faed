"""Slow and dead backends: retries, and prompt cancellation."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import anyio
import pytest
from aiohttp import ClientSession
from msgspec import Raw

from packtrain import ApiError, ProtocolError
from packtrain._model import RowError, Task
from packtrain.server import serving
from packtrain.server.backends.calls import OUTAGE_SECONDS, answer_block

from .service_calls import Calls, blobs, generate_line, generate_lines

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from pathlib import Path

    from packtrain.server.backends.backend import Answer, Backend

UNAVAILABLE = RowError(code=14, message="connection refused")


class Stalling:
    """Never answers a block that contains "stall"."""

    rows = 4

    def __init__(self) -> None:
        self.stalled = anyio.Event()

    async def answer(self, requests: Sequence[Raw], *, task: Task, model: str) -> Sequence[Answer]:
        if any(b"stall" in bytes(request) for request in requests):
            self.stalled.set()
            await anyio.sleep_forever()
        return [b'{"candidates":[{"content":{"parts":[{"text":"hi"}]},"finishReason":"STOP"}]}'] * len(requests)


class Scripted:
    """Returns the scripted answers, one call after the other, then good ones."""

    rows = 8

    def __init__(self, *answers: Sequence[Answer] | ApiError) -> None:
        self._answers = list(answers)
        self.calls = 0

    async def answer(self, requests: Sequence[Raw], *, task: Task, model: str) -> Sequence[Answer]:
        self.calls += 1
        answers = self._answers.pop(0) if self._answers else [b"{}"] * len(requests)
        if isinstance(answers, ApiError):
            raise answers
        return answers


class Dead:
    rows = 8

    async def answer(self, requests: Sequence[Raw], *, task: Task, model: str) -> Sequence[Answer]:
        return [UNAVAILABLE] * len(requests)


class VirtualClock:
    """Sleeps return at once and are recorded."""

    def __init__(self) -> None:
        self.waits: list[float] = []

    def now(self) -> float:
        return sum(self.waits)

    def monotonic(self) -> float:
        return self.now()

    def jitter(self) -> float:
        return 1.0

    async def sleep(self, seconds: float) -> None:
        self.waits.append(seconds)


@asynccontextmanager
async def calls_of(directory: Path, backend: Backend) -> AsyncIterator[Calls]:
    async with serving(directory, backend=backend, workers=1) as origin, ClientSession() as session:
        yield Calls(session, origin)


async def stalled_job(calls: Calls, backend: Stalling) -> str:
    """A job with one block answered and one in flight."""
    job = await calls.job((await calls.upload(generate_lines(4) + generate_lines(8, "stall")))["name"])
    with anyio.fail_after(100):
        await backend.stalled.wait()
    return job


async def test_cancel_does_not_wait_for_a_slow_backend(directory: Path) -> None:
    """Answered lines are delivered, the rest has code 1."""
    backend = Stalling()
    async with calls_of(directory, backend) as calls:
        job = await stalled_job(calls, backend)
        assert (await calls.call("POST", f"/v1beta/{job}:cancel")).status == 200
        operation = await calls.ended(job)
        assert operation["metadata"]["state"] == "BATCH_STATE_SUCCEEDED"
        rows = await calls.results(operation)
    assert [row.get("error", {}).get("code") for row in rows] == [None] * 4 + [1] * 8


async def test_delete_does_not_wait_for_a_slow_backend(directory: Path) -> None:
    """The one worker is free for the next job."""
    backend = Stalling()
    async with calls_of(directory, backend) as calls:
        job = await stalled_job(calls, backend)
        assert (await calls.call("DELETE", f"/v1beta/{job}")).status == 200
        next_job = await calls.job((await calls.upload(generate_lines(1)))["name"])
        assert len(await calls.results(await calls.ended(next_job))) == 1


async def test_job_with_lost_input_fails_without_naming_blobs(directory: Path) -> None:
    """The error message has no internal names."""
    backend = Stalling()
    async with calls_of(directory, backend) as calls:
        stalled = await stalled_job(calls, backend)
        known = set(blobs(directory))
        job = await calls.job((await calls.upload(generate_lines(1)))["name"])
        for blob in set(blobs(directory)) - known:
            blob.unlink()
        assert (await calls.call("DELETE", f"/v1beta/{stalled}")).status == 200
        error = (await calls.ended(job))["error"]
    assert error["message"] == "The service cannot use the stored data of this job: No such file or directory."


async def test_cancelled_openai_batch_lists_the_block_in_flight(directory: Path) -> None:
    """Each line is in one of the two files, once."""
    backend = Stalling()
    async with calls_of(directory, backend) as calls:
        job = await stalled_batch(calls, backend)
        path = f"/v1/batches/{job.replace('/', '%2F')}"
        assert (await calls.call("POST", f"{path}/cancel", headers=OPENAI)).status == 200
        operation = await calls.until(job, lambda found: found["metadata"]["state"] == "BATCH_STATE_CANCELLED")
        batch = (await calls.call("GET", path, headers=OPENAI)).json
        assert operation["done"]
        assert batch["request_counts"] == {"total": 12, "completed": 4, "failed": 8}
        errors = await calls.call("GET", f"/v1/files/{batch['error_file_id']}/content", headers=OPENAI)
    assert errors.body.count(b"batch_cancelled") == 8
    assert [errors.body.count(b'"custom_id":"r%d"' % at) for at in range(12)] == [0] * 4 + [1] * 8


OPENAI = {"Authorization": "Bearer any"}


async def stalled_batch(calls: Calls, backend: Stalling) -> str:
    """As stalled_job."""
    lines = b"".join(chat_line(at, "hello" if at < 4 else "stall") for at in range(12))
    body = {"input_file_id": (await calls.upload(lines))["name"], "endpoint": "/v1/chat/completions"}
    body["completion_window"] = "24h"
    made = await calls.call("POST", "/v1/batches", json=body, headers=OPENAI)
    with anyio.fail_after(100):
        await backend.stalled.wait()
    return str(made.json["id"])


def chat_line(at: int, text: str) -> bytes:
    body = b'{"model":"m","messages":[{"role":"user","content":"%b"}]}' % text.encode()
    return b'{"custom_id":"r%d","method":"POST","url":"/v1/chat/completions","body":%b}\n' % (at, body)


async def test_job_waits_for_an_unavailable_backend(directory: Path) -> None:
    """Its lines do not fail: requests are repeated until they are answered."""
    backend = Scripted([UNAVAILABLE] * 3, [RowError(code=8), RowError(code=4), UNAVAILABLE])
    async with calls_of(directory, backend) as calls:
        job = await calls.job((await calls.upload(generate_lines(3)))["name"])
        rows = await calls.results(await calls.ended(job))
    assert [set(row) for row in rows] == [{"key", "response"}] * 3
    assert backend.calls == 3


async def test_job_that_waits_for_a_dead_backend_can_be_cancelled(directory: Path) -> None:
    """Also between two attempts."""
    async with calls_of(directory, Dead()) as calls:
        job = await calls.job((await calls.upload(generate_line("a", "x")))["name"])
        await calls.until(job, lambda found: found["metadata"]["state"] == "BATCH_STATE_RUNNING")
        assert (await calls.call("POST", f"/v1beta/{job}:cancel")).status == 200
        (row,) = await calls.results(await calls.ended(job))
    assert row["error"] == {"code": 1}


async def answers_of(backend: Backend, count: int = 2, clock: VirtualClock | None = None) -> Any:
    async def wanted() -> bool:
        return True

    return await answer_block(
        backend, [Raw(b"{}")] * count, task="generate", model="models/m", wanted=wanted, clock=clock or VirtualClock()
    )


async def test_errors_are_final_after_an_hour() -> None:
    """Delays grow to a minute; after an hour the requests themselves may be the cause, and the job goes on."""
    clock = VirtualClock()
    assert await answers_of(Dead(), clock=clock) == [UNAVAILABLE, UNAVAILABLE]
    assert clock.waits[:3] == [0.5, 1.0, 2.0]
    assert max(clock.waits) == 60.0
    assert OUTAGE_SECONDS <= sum(clock.waits) < OUTAGE_SECONDS + 60


async def test_errors_of_an_available_backend_are_final() -> None:
    """The backend rejected the requests."""
    errors = [RowError(code=3), RowError(code=13)]
    backend = Scripted(errors)
    assert await answers_of(backend) == errors
    assert backend.calls == 1


async def test_only_lines_that_failed_in_an_outage_are_repeated() -> None:
    """Answers keep their place, and each answer resets the delays."""
    clock, other = VirtualClock(), RowError(code=13)
    backend = Scripted(
        [b"1", UNAVAILABLE, other, UNAVAILABLE, UNAVAILABLE],
        [UNAVAILABLE, b"4", UNAVAILABLE],
        [UNAVAILABLE, UNAVAILABLE],
        [b"2", b"5"],
    )
    assert await answers_of(backend, 5, clock) == [b"1", b"2", other, b"4", b"5"]
    assert (backend.calls, clock.waits) == (4, [0.5, 0.5, 1.0])


async def test_backend_with_too_few_answers_fails_the_job() -> None:
    """The answers cannot be assigned to requests."""
    with pytest.raises(ProtocolError, match="1 answers to 2 requests"):
        await answers_of(Scripted([UNAVAILABLE]))


async def test_block_without_requests() -> None:
    """A block of bad lines is no outage."""
    assert await answers_of(Scripted(), 0) == []


async def test_failure_of_the_whole_job_is_not_wrapped() -> None:
    """It is not in an exception group."""
    with pytest.raises(ApiError, match="no"):
        await answers_of(Scripted(ApiError("no", status=500)))
