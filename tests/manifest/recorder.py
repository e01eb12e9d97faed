"""A driver for the crash tests: seals and records without an end, and prints each change once it is durable.

    python recorder.py MANIFEST [BYTES]

With BYTES, no file may grow beyond them, as on a full disk. The manifest's error is the last line.
"""

from __future__ import annotations

import resource
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import anyio

from packtrain._errors import PacktrainError
from packtrain._manifest.base import Change
from packtrain._manifest.sqlite import open_sqlite
from packtrain._model import Cursor
from packtrain.testing.lives import RUN, claimed, life, shard

if TYPE_CHECKING:
    from packtrain._manifest.base import Manifest

TASKS = 8


async def drive(manifest: Manifest, first: int) -> None:
    index = first
    while True:
        await manifest.seal(shard(index), Cursor(shards=index))
        print(index, "seal", flush=True)
        row = await claimed(manifest)
        for event in life(row.shard):
            row = await manifest.write(Change(row, event))
            print(row.shard, type(event).__name__, flush=True)
        await manifest.write(Change(row, release=True))
        index += TASKS


async def main(path: Path) -> None:
    async with open_sqlite(path) as manifest:
        await manifest.open_run(RUN)
        print("open", flush=True)
        async with anyio.create_task_group() as tasks:
            for first in range(TASKS):
                tasks.start_soon(drive, manifest, first)


if __name__ == "__main__":
    if len(sys.argv) > 2:
        resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), int(sys.argv[2])))
    try:
        anyio.run(main, Path(sys.argv[1]))
    except* PacktrainError as errors:
        messages = {str(error) for error in errors.exceptions}
        print("error", *messages, flush=True)
