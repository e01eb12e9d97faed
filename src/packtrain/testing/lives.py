"""Runs, shards and the events of a life, for suites that need a manifest with something in it."""

from __future__ import annotations

from string import ascii_lowercase
from typing import TYPE_CHECKING

from .._manifest.base import Change
from .._model import Cursor, Limits, Run, Shard, ShardRow, State, Tally, Upload
from .._rules import lifecycle

if TYPE_CHECKING:
    from .._manifest.base import Manifest
    from .._rules.lifecycle import Event

RUN = Run(
    id="nightly",
    token=ascii_lowercase,
    fingerprint="as first started",
    model="a-model",
    task="generate",
    limits=Limits(shard_bytes=2_000_000_000, live_jobs=100, stored_bytes=18_000_000_000),
    join=True,
)
OTHER = Run(
    id="weekly",
    token=ascii_lowercase[::-1],
    fingerprint="as first started",
    model="a-model",
    task="embed",
    limits=Limits(shard_bytes=1, live_jobs=1, stored_bytes=1, shard_requests=5, shard_age=0.5),
)
SECRET = "https://upload.example/session?upload_id=only-for-us"  # noqa: S105 - a stand-in for one
BYTES = 1000
LINES = 10


def shard(index: int, run: str = RUN.id) -> Shard:
    first = index * LINES
    return Shard(run=run, index=index, bytes=BYTES, lines=LINES, sha256="ab" * 32, first=first, last=first + LINES - 1)


def life(index: int) -> list[Event]:
    """The events of a shard that goes through at the first attempt."""
    upload = Upload(size=BYTES, session=SECRET, granularity=256)
    return [
        lifecycle.UploadIntended(attempt=1, file=f"files/in{index}", upload=Upload(size=BYTES)),
        lifecycle.UploadOpened(upload=upload),
        lifecycle.FinalizeIntended(upload=upload),
        lifecycle.FileReady(file_expires_at=172_800.5),
        lifecycle.CreateIntended(tag=f"tag.{index}", intent_at=10.25),
        lifecycle.JobAdopted(job=f"batches/{index}", submitted_at=11.5),
        lifecycle.JobEnded(result=f"files/out{index}"),
        lifecycle.Landed(tally=Tally(answered=LINES - 1, failed=1, missing=1, bytes=500, sha256="cd" * 32)),
        lifecycle.Closed(),
    ]


async def sealed(manifest: Manifest, count: int, run: Run = RUN) -> None:
    """Open the run, with shards ``0 … count - 1`` in it."""
    await manifest.open_run(run)
    for index in range(count):
        await manifest.seal(shard(index, run.id), Cursor(shards=index + 1, valid=LINES * (index + 1)))


async def claimed(manifest: Manifest, state: State = State.SEALED, run: str = RUN.id) -> ShardRow:
    (row,) = await manifest.claim(run, {state})
    return row


async def live(manifest: Manifest, row: ShardRow, until: State) -> ShardRow:
    """Record a life's events from the beginning until the job is in the state."""
    for event in life(row.shard):
        if row.state is until:
            break
        row = await manifest.write(Change(row, event))
    return row
