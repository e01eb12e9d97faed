"""Unverified behaviours of the real service: the alternatives."""

from __future__ import annotations

import base64
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import anyio
import pytest
from aiohttp import ClientError, ClientSession

from packtrain.server import serving
from packtrain.testing import FaultPlan, Late

from .service_calls import Calls, generate_lines, sha256, truth

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from pathlib import Path

    from msgspec import Raw

    from packtrain._model import Task
    from packtrain.server.backends.backend import Backend

CREATE = "batches.create"
DATA = generate_lines(3)


@asynccontextmanager
async def calls_of(directory: Path, backend: str | Backend = "echo", **plan: Any) -> AsyncIterator[Calls]:
    async with serving(directory, backend=backend, faults=FaultPlan(**plan)) as origin, ClientSession() as session:
        yield Calls(session, origin)


async def deleted(calls: Calls, name: str = "files/mine") -> str:
    await calls.upload(DATA, name=name)
    assert (await calls.call("DELETE", f"/v1beta/{name}")).status == 200
    return name


async def test_h1_blind_service_answers_a_deleted_input(directory: Path) -> None:
    """The job succeeds, the file stays deleted; a job of an unknown file fails."""
    async with calls_of(directory, missing_input="blind") as calls:
        name = await deleted(calls)
        job = await calls.job(name)
        assert (await calls.call("GET", f"/v1beta/{name}")).status == 403
        assert [row["key"] for row in await calls.results(await calls.ended(job))] == ["k0", "k1", "k2"]
        operation = await calls.ended(await calls.job("files/never-there"))
        assert operation["metadata"]["state"] == "BATCH_STATE_FAILED"


class Held:
    """Answers once it is released."""

    rows = 8

    def __init__(self) -> None:
        self.let = anyio.Event()

    async def answer(self, requests: Sequence[Raw], *, task: Task, model: str) -> Sequence[bytes]:
        await self.let.wait()
        return [b"{}"] * len(requests)


@pytest.mark.parametrize(("answer", "state"), [("kept", "SUCCEEDED"), ("fails", "FAILED")])
async def test_h3_a_job_keeps_its_deleted_input_or_fails(directory: Path, answer: str, state: str) -> None:
    """While it is live; a finished job is unchanged."""
    backend = Held()
    async with calls_of(directory, backend, deleted_input=answer) as calls:
        file = (await calls.upload(DATA))["name"]
        job = await calls.job(file)
        await calls.call("DELETE", f"/v1beta/{file}")
        backend.let.set()
        assert (await calls.ended(job))["metadata"]["state"] == f"BATCH_STATE_{state}"
        file = (await calls.upload(DATA))["name"]
        operation = await calls.ended(await calls.job(file))
        await calls.call("DELETE", f"/v1beta/{file}")
        assert (await calls.call("GET", f"/v1beta/{operation['name']}")).json == operation


@pytest.mark.parametrize(("answer", "jobs"), [("again", 2), ("same", 1)])
async def test_h4_a_repeated_create_makes_another_job_or_not(directory: Path, answer: str, jobs: int) -> None:
    """Another display name is another create."""
    async with calls_of(directory, repeated_create=answer) as calls:
        file = (await calls.upload(DATA))["name"]
        assert len({await calls.job(file) for _ in range(2)}) == jobs
        await calls.job(file, name="other")
    assert len(truth(directory, "batch_created")) == jobs + 1


async def test_h5_a_taken_name_is_ignored(directory: Path) -> None:
    """The second file gets a generated name, the first one keeps its content."""
    async with calls_of(directory, taken_names="ignored") as calls:
        first = await calls.upload(DATA, name="files/mine")
        second = await calls.upload(b"other", name="files/mine", displayName="d")
        assert first["name"] == "files/mine" != second["name"]
        assert second["displayName"] == "d"
        download = await calls.call("GET", "/v1beta/files/mine:download?alt=media")
    assert download.body == DATA


@pytest.mark.parametrize(("bound", "jobs"), [(False, 1), (True, 0)])
async def test_h6_a_late_call_may_come_too_late(directory: Path, bound: bool, jobs: int) -> None:
    """After its X-Server-Timeout it is dropped."""
    async with calls_of(directory, rules=(Late(route=CREATE, until="files.list"),), server_timeout=bound) as calls:
        body = {"batch": {"inputConfig": {"fileName": (await calls.upload(DATA))["name"]}}}
        for seconds in ("0", "600"):
            with pytest.raises(ClientError):
                headers = {"X-Server-Timeout": seconds}
                await calls.call("POST", "/v1beta/models/m:batchGenerateContent", json=body, headers=headers)
        await calls.call("GET", "/v1beta/files")
        with anyio.fail_after(100):
            while len(truth(directory, "batch_created")) < jobs + 1:
                await calls.call("GET", "/v1beta/batches")
    assert len(truth(directory, "batch_created")) == jobs + 1


async def test_h7_a_deleted_file_still_shows(directory: Path) -> None:
    """For a while, but it cannot be an input."""
    async with calls_of(directory, delete_lag=600.0) as calls:
        name = await deleted(calls)
        found = await calls.call("GET", f"/v1beta/{name}")
        assert (found.status, found.json["name"], found.json["sizeBytes"]) == (200, name, str(len(DATA)))
        assert (await calls.create(name)).status == 404
        assert (await calls.call("GET", "/v1beta/files/never-there")).status == 403


@pytest.mark.parametrize("form", ["hex", "base64"])
async def test_h9_the_hash_has_another_form(directory: Path, form: str) -> None:
    """After the upload, by name and in the list."""
    digest = sha256(DATA)
    expected = digest if form == "hex" else base64.b64encode(bytes.fromhex(digest)).decode()
    async with calls_of(directory, hash_form=form) as calls:
        file = await calls.upload(DATA)
        again = (await calls.call("GET", f"/v1beta/{file['name']}")).json
        (listed,) = (await calls.call("GET", "/v1beta/files")).json["files"]
    assert [found["sha256Hash"] for found in (file, again, listed)] == [expected] * 3
