"""``split``: an input cut into shards that are files of the caller's."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import anyio.to_thread
import msgspec

from .._disk import disk_errors, make_directory, remove
from .._errors import InputError
from .._flow.groups import plain_errors
from .._flow.ingest import Ingest
from .._flow.signals import Changes, Meter
from .._io.inputs import named_files, open_sources
from .._manifest.memory import open_memory
from .._model import Run
from .._options import Options
from .._reports import SplitReport
from .._service import GEMINI_LIMITS
from .scratch import scratch

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence

    from .._io.inputs import Inputs


async def split(inputs: Inputs, out_dir: str | os.PathLike[str], *, options: Options | None = None) -> SplitReport:
    """Cut the input into ``shard-00000.jsonl`` and so on, and list bad lines in ``rejected.jsonl``.

    The same input and limits give the same files; those of an earlier cut in ``out_dir`` are removed first. Raises
    InputError when nothing in it is usable.
    """
    options, directory = options or Options(), Path(out_dir)
    limits = msgspec.structs.replace(
        GEMINI_LIMITS,
        shard_bytes=options.shard_bytes or GEMINI_LIMITS.shard_bytes,
        shard_requests=options.shard_requests,
    )
    run = Run(id="split", token="", fingerprint="", model="", task="generate", limits=limits)
    rejects = directory / "rejected.jsonl"

    def shard_path(index: int) -> Path:
        return directory / f"shard-{index:05d}.jsonl"

    await anyio.to_thread.run_sync(_empty, directory, await named_files(inputs))
    async with open_memory() as manifest, scratch(directory) as keys:
        await manifest.open_run(run)
        ingest = Ingest(
            run,
            await open_sources(inputs),
            manifest=manifest,
            # Nothing takes shards away here, so a budget would only stop the work.
            options=msgspec.structs.replace(options, spool_bytes=1 << 62),
            shard_path=shard_path,
            rejects=rejects,
            listed=rejects,
            keys=keys,
            changes=Changes(),
            meter=Meter(),
        )
        with plain_errors():
            await ingest.ingest()
        cursor = await manifest.cursor(run.id)
        shards = [await manifest.shard(job) for job in await manifest.jobs(run.id)]
    if not cursor.rejected:
        await anyio.to_thread.run_sync(remove, "rejects", rejects)
    return SplitReport(
        shards=shards,
        files=[str(shard_path(shard.index)) for shard in shards],
        lines=cursor.lines,
        valid=cursor.valid,
        rejected=cursor.rejected,
        rejects_file=str(rejects) if cursor.rejected else None,
    )


def _empty(directory: Path, inputs: Sequence[Path]) -> None:
    """Blocking. Take away what an earlier cut left, so that no line stands in two. Raises InputError for an input."""
    with disk_errors(directory):
        make_directory("shard", directory)
        left = [*directory.glob("shard-[0-9][0-9][0-9][0-9][0-9].jsonl"), directory / "rejected.jsonl"]
        for path in filter(Path.exists, inputs):
            if any(name.exists() and path.samefile(name) for name in left):
                raise InputError(f"{path} is an input, and would be written over; choose another --out-dir")
        for path in left:
            remove("shard", path)
