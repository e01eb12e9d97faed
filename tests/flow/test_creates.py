"""Ambiguous creates, counted on the wire between client and service."""

from __future__ import annotations

from typing import TYPE_CHECKING, get_args

import anyio
import pytest

import packtrain
from packtrain import IncompleteRun, Options, serving
from packtrain._options import Ambiguity, Policy
from packtrain.testing import FaultPlan, Status
from packtrain.testing.proxy import Proxy, open_proxy
from tests.flow.place import Place

if TYPE_CHECKING:
    from pathlib import Path

    from packtrain import Summary

CREATE = b":batchGenerateContent"
ACCEPTED = ("drop", "503", "hang")


#: A create is waited for half a second instead of a minute.
IMPATIENT = Policy(create_timeout=0.5)


async def run(root: Path, fault: str, policy: Ambiguity) -> tuple[Place, Proxy, Summary | None]:
    """One shard, whose first create goes wrong; without a summary a person must decide."""
    rules = (Status(route="batches.create", calls=(1,), status=503, acted=True),) if fault == "503" else ()
    async with serving(root / "service", faults=FaultPlan(rules=rules)) as origin, open_proxy(origin) as proxy:
        proxy.count = CREATE
        match fault:
            case "drop":
                proxy.swallow = CREATE
            case "hang":
                proxy.silence = CREATE
            case "lost":
                proxy.refuse = CREATE
        place = Place(root, proxy.origin)
        options = Options(on_ambiguous=policy)
        service = place.service
        async with packtrain.open_client(place.state, service=service, options=options, policy=IMPATIENT) as client:
            with anyio.fail_after(100):
                try:
                    return place, proxy, await client.run(place.requests(3), model="m", out=place.out)
                except IncompleteRun:
                    return place, proxy, None


@pytest.mark.parametrize("policy", get_args(Ambiguity))
@pytest.mark.parametrize("fault", ACCEPTED)
async def test_an_accepted_create_without_an_answer_is_sent_once(tmp_path: Path, fault: str, policy: Ambiguity) -> None:
    """One POST, one job, and every line answered, whatever the policy."""
    place, proxy, summary = await run(tmp_path, fault, policy)
    assert summary is not None
    assert (proxy.counted, len(place.truth("batch_created")), place.truth("batch_cancelled")) == (1, 1, [])
    assert (summary.answered, summary.jobs_created, summary.duplicates_healed) == (3, 1, 0)


@pytest.mark.parametrize(("policy", "posts"), [("revoke", 2), ("wait", 2), ("quarantine", 1)])
async def test_a_create_that_was_lost_is_sent_once_an_attempt(tmp_path: Path, policy: Ambiguity, posts: int) -> None:
    """The second attempt has a file of its own, and the first one's is gone by then."""
    place, proxy, summary = await run(tmp_path, "lost", policy)
    assert proxy.counted == posts
    assert len(place.truth("batch_created")) == posts - 1
    assert (summary is None) == (policy == "quarantine")
    order = [entry["what"] for entry in place.truth() if entry["what"] in ("file_deleted", "batch_created")]
    assert posts == 1 or order[:2] == ["file_deleted", "batch_created"]
