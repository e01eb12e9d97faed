"""The client at the local service, on Google's wire."""

from __future__ import annotations

import contextlib
import functools
import json
from collections import Counter
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from packtrain import Service, serving
from packtrain.testing import Drop, Duplicate, FaultPlan, Late, List, Status, Truncate
from packtrain.testing.providers import Faults, ProviderSuite, text

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from packtrain.testing.providers import Serve

CREATE, LIST, DATA, DOWNLOAD = "batches.create", "batches.list", "upload.data", "files.download"


def plan(faults: Faults) -> FaultPlan:
    """The same in the words of the local service."""
    rules: list[Any] = []
    if faults.delivered_twice:
        rules.append(Duplicate(route=CREATE, calls=(1,)))
    if faults.lost_replies:
        rules.append(Drop(route=CREATE, times=faults.lost_replies, acted=True))
    if faults.lost_creates:
        rules.append(Drop(route=CREATE, times=faults.lost_creates))
    if faults.late_create:
        rules.append(Late(route=CREATE, calls=(1,), until="files.delete"))
    if faults.throttled:
        rules.append(Status(route=CREATE, times=faults.throttled, status=429))
    if faults.void_pages:
        rules.append(List(route=LIST, times=faults.void_pages, how="empty"))
    if faults.lookups_404:
        rules.append(Status(route="batches.get", times=faults.lookups_404, status=404))
        rules.append(List(route=LIST, times=2 * faults.lookups_404, how="empty"))
    if faults.lost_uploads:
        rules.append(Drop(route=DATA, times=faults.lost_uploads, acted=True))
    if faults.cut_downloads:
        rules.append(Truncate(route=DOWNLOAD, times=faults.cut_downloads, at=100))
    return FaultPlan(rules=tuple(rules), list_lag=faults.list_lag)


class Local:
    """The local service in this process."""

    provider = None

    def __init__(self, root: Path, origin: str) -> None:
        self._root = root
        self.service = Service(origin=origin, poll=(0.01, 0.05), settle=0.1)

    def line(self, number: int) -> dict[str, object]:
        return {"key": f"key-{number}", "request": {"contents": [{"parts": [{"text": text(number)}]}]}}

    def key(self, row: dict[str, object]) -> object:
        return row["key"]

    async def jobs(self) -> list[int]:
        """By the service's own log; the third part of a tag is the shard."""
        lines = (await anyio.Path(self._root / "truth.jsonl").read_text()).splitlines()
        made = [entry for entry in map(json.loads, lines) if entry["what"] == "batch_created"]
        return list(Counter(entry["displayName"].split(".")[2] for entry in made).values())


@contextlib.asynccontextmanager
async def serve(root: Path, faults: Faults) -> AsyncIterator[Local]:
    async with serving(root, faults=plan(faults)) as origin:
        yield Local(root, origin)


class TestGemini(ProviderSuite):
    """Google's wire."""

    @pytest.fixture
    def served(self, tmp_path: Path) -> Serve:
        return functools.partial(serve, tmp_path / "service")
