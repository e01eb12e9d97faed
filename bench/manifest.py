"""What the manifest costs with ever more jobs: ``python bench/manifest.py --jobs 1000 10000 100000``.

Each row is a manifest of its own, on disk and with every commit synced. ``records`` are events recorded by so many
tasks side by side, as a driver has them; the other figures are single calls with half of the jobs live, in
milliseconds: ``statistics`` is what each step of the driver asks for, ``claim`` takes one job, ``live`` reads all
that are live, ``open`` is a second start. A line of JSON a row, then a table.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import anyio

from packtrain._manifest.base import Change
from packtrain._manifest.sqlite import open_sqlite
from packtrain._model import State
from packtrain.testing.lives import RUN, life, sealed
from trials import tell

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from packtrain._manifest.base import Manifest

TASKS = 64
REPEATS = 20


def row(count: int) -> dict[str, float]:
    with tempfile.TemporaryDirectory(dir=".") as directory:
        return anyio.run(measure, Path(directory) / "manifest.db", count)


async def measure(path: Path, count: int) -> dict[str, float]:
    async with open_sqlite(path) as manifest:
        began = time.perf_counter()
        await sealed(manifest, count)
        seal = time.perf_counter() - began
        began = time.perf_counter()
        steps = await _live_half(manifest, count)
        record = time.perf_counter() - began
        calls = await _calls(manifest)
    began = time.perf_counter()
    async with open_sqlite(path) as manifest:
        await manifest.statistics(RUN.id)
        opened = time.perf_counter() - began
    return {
        "jobs": count,
        "seals a second": round(count / seal),
        "records a second": round(steps / record),
        **calls,
        "open ms": round(opened * 1e3, 1),
    }


async def _live_half(manifest: Manifest, count: int) -> int:
    """Bring half of the jobs to where they live at the service, many side by side; returns the records."""
    jobs = await manifest.claim(RUN.id, {State.SEALED}, limit=count // 2)
    pending = iter(jobs)
    done = 0

    async def work() -> None:
        nonlocal done
        for job in pending:
            for event in life(job.shard):
                if job.state is State.SUBMITTED:
                    break
                job = await manifest.write(Change(job, event))
                done += 1
            await manifest.write(Change(job, release=True))

    async with anyio.create_task_group() as tasks:
        for _ in range(TASKS):
            tasks.start_soon(work)
    return done


async def _calls(manifest: Manifest) -> dict[str, float]:
    return {
        "statistics ms": await _median(lambda: manifest.statistics(RUN.id)),
        "claim ms": await _median(lambda: manifest.claim(RUN.id, {State.SEALED})),
        "live ms": await _median(lambda: manifest.rows(RUN.id, {State.SUBMITTED})),
    }


async def _median(call: Callable[[], Awaitable[object]]) -> float:
    seconds = []
    for _ in range(REPEATS):
        began = time.perf_counter()
        await call()
        seconds.append(time.perf_counter() - began)
    return round(sorted(seconds)[REPEATS // 2] * 1e3, 2)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, nargs="+", default=[1_000, 10_000])
    tell("manifest", map(row, parser.parse_args().jobs))
