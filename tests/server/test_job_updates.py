"""Updates of pending jobs: name and priority."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from aiohttp import ClientSession

from packtrain.server import serving

from .service_calls import Calls, generate_lines, truth

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

GENERATE, EMBED = "updateGenerateContentBatch", "updateEmbedContentBatch"


@pytest.fixture
async def waiting(directory: Path) -> AsyncIterator[Calls]:
    """Jobs stay pending."""
    async with serving(directory, workers=0) as origin, ClientSession() as session:
        found = Calls(session, origin)
        await found.upload(generate_lines(1), name="files/in")
        yield found


async def make(calls: Calls, **batch: object) -> Any:
    batch["inputConfig"] = {"fileName": "files/in"}
    answer = await calls.call("POST", "/v1beta/models/m:batchGenerateContent", json={"batch": batch})
    assert answer.status == 200, answer.body
    return answer.json


async def test_jobs_run_by_priority_and_age(directory: Path) -> None:
    """Higher priority first, then older ones; updates apply."""
    async with ClientSession() as session:
        async with serving(directory, workers=0) as origin:
            calls = Calls(session, origin)
            await calls.upload(generate_lines(1), name="files/in")
            names = [(await make(calls))["name"]]
            for priority in (5, "-1", "5", -(2**63) + 1):
                made = await make(calls, priority=priority)
                assert made["metadata"]["priority"] == str(priority)
                names.append(made["name"])
            last = f"/v1beta/{names[4]}:{GENERATE}?updateMask=priority"
            answer = await calls.call("PATCH", last, json={"priority": str(2**63 - 1)})
            assert answer.json["priority"] == str(2**63 - 1)
        async with serving(directory, workers=1) as origin:
            calls = Calls(session, origin)
            for name in names:
                await calls.ended(name)
    assert [line["name"] for line in truth(directory, "batch_finished")] == [names[at] for at in (4, 1, 3, 0, 2)]


async def test_an_update_changes_what_its_mask_names(waiting: Calls, directory: Path) -> None:
    """Without a mask, all members of the body; the response is the batch."""
    name = (await make(waiting, displayName="first", priority=1))["name"]
    body = {"display_name": "second", "priority": "2", "model": "models/other"}
    masked = await waiting.call("PATCH", f"/v1beta/{name}:{GENERATE}?update_mask=display_name", json=body)
    batch = masked.json
    assert (batch["name"], batch["displayName"], batch["priority"], batch["model"]) == (name, "second", "1", "models/m")
    assert batch["state"] == "BATCH_STATE_PENDING"
    whole = await waiting.call("PATCH", f"/v1/{name}:{GENERATE}", json=body)
    assert (whole.json["priority"], whole.json["model"]) == ("2", "models/m")
    got = await waiting.call("GET", f"/v1beta/{name}")
    assert {member: got.json["metadata"][member] for member in whole.json} == whole.json
    assert [line["priority"] for line in truth(directory, "batch_updated")] == [1, 2]


@pytest.mark.parametrize(
    ("query", "body"),
    [
        ("?updateMask=model", {"model": "models/other"}),
        ("?updateMask=priority", {"displayName": "second"}),
        ("", {"priority": "high"}),
        ("", {"priority": str(2**63)}),
        ("", {"priority": 1.5}),
        ("", {"displayName": 7}),
        ("", ["displayName"]),
    ],
)
async def test_invalid_update_is_refused(waiting: Calls, query: str, body: object) -> None:
    """Nothing changes."""
    made = await make(waiting, displayName="first")
    answer = await waiting.call("PATCH", f"/v1beta/{made['name']}:{GENERATE}{query}", json=body)
    assert answer.error == (400, "INVALID_ARGUMENT")
    assert (await waiting.call("GET", f"/v1beta/{made['name']}")).json == made


async def test_only_a_job_of_the_same_task_is_updated(waiting: Calls) -> None:
    """404 for another task and for an unknown name."""
    name = (await make(waiting))["name"]
    for path in (f"{name}:{EMBED}", f"batches/unknown:{GENERATE}"):
        assert (await waiting.call("PATCH", f"/v1beta/{path}", json={"priority": 1})).error == (404, "NOT_FOUND")
    embed = await waiting.job("files/in", task="embed")
    assert (await waiting.call("PATCH", f"/v1beta/{embed}:{EMBED}", json={"priority": 1})).status == 200
