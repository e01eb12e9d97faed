"""State directories and outputs of the release 36f42c7: today's code finishes them, to the same bytes.

The archives in ``release_36f42c7/`` were made by the old code; ``make.py`` beside them says how.
"""

from __future__ import annotations

import json
import os
import sqlite3
import tarfile
import time
from collections import Counter
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

import packtrain
from packtrain import DecisionNeeded, Options, Restored, serving
from packtrain.testing import FaultPlan
from tests.flow.place import Place, read_lines
from tests.release_36f42c7.cases import LINES_A_SHARD, OUTPUTS, SHARDS, STATES, Output, State, digests, write_input

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from packtrain import Summary

ARCHIVES = Path(__file__).parent / "release_36f42c7"
MADE = json.loads((ARCHIVES / "made.json").read_text())
PLAIN = MADE["outputs"]["plain"]["files"]

#: Columns of both databases, as they were, that hold Unix seconds.
TIMES = {
    "out.jsonl.packtrain/manifest.db": {
        "jobs": ("not_before", "file_expires_at", "intent_at", "doubtful_at", "submitted_at"),
        "events": ("at",),
    },
    "service/service.db": {
        "file": ("created", "expires"),
        "upload": ("created",),
        "job": ("created", "updated", "ended"),
    },
}


def options_of(arguments: tuple[str, ...]) -> Options:
    retries = int(arguments[arguments.index("--retries") + 1]) if "--retries" in arguments else 2
    # One at a time, in the order of the shards: the faults count downloads.
    return Options(shard_requests=LINES_A_SHARD, retries=retries, uploads=1, downloads=1)


def unpack(state: str, root: Path) -> None:
    """The directories of that state, as if it had been interrupted just now and here.

    The service's files expire after two days, and the manifest names the input by its absolute path.
    """
    with tarfile.open(ARCHIVES / f"{state.replace(' ', '-')}.tar.xz") as archive:
        archive.extractall(root, filter="tar")  # which keeps the modes
    passed = time.time() - MADE["made_at"][state]
    for name, tables in TIMES.items():
        with closing(sqlite3.connect(root / name)) as database, database:
            for table, columns in tables.items():
                later = ", ".join(f"{column} = {column} + :passed" for column in columns)
                database.execute(f"UPDATE {table} SET {later}", {"passed": passed})  # noqa: S608 - names from above
    with closing(sqlite3.connect(root / "out.jsonl.packtrain" / "manifest.db")) as database, database:
        database.execute("UPDATE sources SET name = ?", (os.fsencode(root / "in.jsonl"),))


class Old:
    """An unpacked state directory, and the local service on the directory that it was driven with."""

    def __init__(self, root: Path, origin: str) -> None:
        self.root = root
        self.place = Place(root, origin)
        self.state = root / "out.jsonl.packtrain"

    async def run(self) -> Summary:
        options = Options(shard_requests=LINES_A_SHARD)
        async with packtrain.open_client(self.state, service=self.place.service, options=options) as client:
            return await client.run("in.jsonl", model="m", out=self.place.out)

    async def resolve(self, decision: packtrain.Decision, job: str | None = None) -> None:
        async with packtrain.open_client(self.state, service=self.place.service) as client:
            await client.resolve(0, decision, job=job)

    def jobs(self) -> list[dict[str, Any]]:
        return self.place.truth("batch_created")

    def jobs_by_shard(self) -> tuple[int, ...]:
        made = Counter(int(entry["displayName"].split(".")[2]) for entry in self.jobs())
        return tuple(made[shard] for shard in range(SHARDS))


@pytest.fixture
async def old(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Old]:
    """The state that the test is about; the input is named as then, by a relative path."""
    unpack(request.param, tmp_path)
    monkeypatch.chdir(tmp_path)
    async with serving(tmp_path / "service") as origin:
        yield Old(tmp_path, origin)


async def finish(old: Old, state: State) -> Summary:
    """Run to the end; a quarantined shard is decided about on the way."""
    if not state.name.startswith("quarantined"):
        return await old.run()
    with pytest.raises(DecisionNeeded):
        await old.run()
    if state.name == "quarantined":
        await old.resolve("retry")
    else:
        (job,) = (entry["name"] for entry in old.jobs() if entry["displayName"].split(".")[2] == "0")
        await old.resolve("adopt", job)
    return await old.run()


def by_name(*names: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("old", names, indirect=True, ids=str)


@pytest.mark.parametrize(
    ("old", "state"), [(state.name, state) for state in STATES], indirect=["old"], ids=[state.name for state in STATES]
)
async def test_a_state_of_the_release_before_is_finished(old: Old, state: State) -> None:
    """Adopt, because it was copied here; then the same output to the byte, one job a shard, and nothing to find."""
    with pytest.raises(Restored):
        await old.run()
    await packtrain.adopt(old.state)
    assert (await finish(old, state)).complete
    assert digests(old.root) == PLAIN
    assert old.jobs_by_shard() == state.jobs
    assert (await packtrain.verify(old.state)).findings == []


@by_name("submitted", "landed", "create ambiguous", "asked again")
async def test_an_interrupted_state_of_the_release_before_is_verified(old: Old) -> None:
    """``verify`` reads it as it is: nothing is wrong but that the manifest was copied."""
    findings = (await packtrain.verify(old.state)).findings
    assert [finding for finding in findings if "manifest" not in finding.where] == []


@by_name("submitted", "create sent", "landed")
async def test_a_lost_manifest_of_the_release_before_is_recovered(old: Old) -> None:
    """By the token that the old code wrote beside it; the run then takes over every job, and the output is the same."""
    (token,) = read_lines(old.state / "manifest.run")
    for file in old.state.glob("manifest.db*"):
        file.unlink()
    recovered = await packtrain.recover(
        "in.jsonl",
        run=token["run"],
        model="m",
        out=old.place.out,
        state=old.state,
        service=old.place.service,
        options=Options(shard_requests=LINES_A_SHARD),
    )
    assert recovered.jobs == len(old.jobs())
    assert (await old.run()).complete
    assert digests(old.root) == PLAIN
    assert old.jobs_by_shard() == (1, 1, 1)


@pytest.mark.parametrize("output", OUTPUTS, ids=lambda output: output.name)
async def test_the_output_is_that_of_the_release_before(
    tmp_path: Path, output: Output, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same input and options give the same files, to the byte: answers, failed lines, rejected lines."""
    write_input(tmp_path, output.lines)
    monkeypatch.chdir(tmp_path)
    plan = msgspec.toml.decode(output.faults, type=FaultPlan)
    async with serving(tmp_path / "service", faults=plan) as origin:
        service = Place(tmp_path, origin).service
        options = options_of(output.options)
        async with packtrain.open_client(tmp_path / "state", service=service, options=options) as client:
            summary = await client.run(
                "in.jsonl",
                model="m",
                out=output.out,
                task="embed" if "embed" in output.options else "generate",
                join="--join" in output.options,
            )
    assert summary.complete
    assert digests(tmp_path) == MADE["outputs"][output.name]["files"]
