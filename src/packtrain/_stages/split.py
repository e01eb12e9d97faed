"""``split``: an input cut into shards that are files of the caller's."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from .._errors import OutputIsInput
from .._exits import plain_errors
from .._flow.ingest import Ingest
from .._flow.run import Changes, Meter
from .._flow.shares import Shares
from .._io.clock import SystemClock
from .._io.directory import Directory
from .._io.disk import disk_errors, make_directory, remove
from .._io.inputs import named_files, open_sources, refuse_other_formats
from .._io.spool import RunSpool
from .._io.threads import in_thread
from .._manifest.memory import open_memory
from .._model import Run
from .._options import Options
from .._providers.service import Local, line_form
from .._snapshots import SplitReport
from .._validation import check_local
from .scratch import scratch

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence

    from .._io.clock import Clock
    from .._io.inputs import Inputs
    from .._manifest.base import Manifest


async def split(inputs: Inputs, out_dir: str | os.PathLike[str], *, options: Options | None = None) -> SplitReport:
    """Cut the input into ``shard-00000.jsonl`` and so on, and list bad lines in ``rejected.jsonl``.

    The same input and limits give the same files; those of an earlier cut in ``out_dir`` are removed first. Raises
    InputError when nothing in it is usable, OtherFormat for input of another kind than request lines.
    """
    check_local(out_dir)
    options, directory = options or Options(), Path(out_dir)
    # Nothing takes shards away here, so a budget would only stop the work.
    options = msgspec.structs.replace(options, spool_bytes=1 << 62)
    limits = msgspec.structs.replace(
        Local().limits,
        shard_bytes=options.shard_bytes or Local().limits.shard_bytes,
        shard_requests=options.shard_requests,
    )
    run = Run(id="split", token="", fingerprint="", model="", task="generate", limits=limits)
    rejects = directory / "rejected.jsonl"

    await refuse_other_formats(inputs, line_form())
    await in_thread(_empty, directory, await named_files(inputs))
    async with open_memory() as manifest, scratch(directory) as keys:
        await manifest.open_run(run)
        parts = _Parts(run, _Directory(directory, keys), manifest, options, Shares(options))
        ingest = Ingest(parts, await open_sources(inputs), listed=str(rejects), form=line_form())
        with plain_errors():
            await ingest.ingest()
        cursor = await manifest.cursor(run.id)
        shards = [await manifest.shard(row) for row in await manifest.rows(run.id)]
    if not cursor.rejected:
        await in_thread(remove, "rejects", rejects)
    return SplitReport(
        shards=shards,
        files=[str(parts.files.shard_path(shard.index)) for shard in shards],
        lines=cursor.lines,
        valid=cursor.valid,
        rejected=cursor.rejected,
        rejects_file=str(rejects) if cursor.rejected else None,
    )


class _Directory(RunSpool):
    """The caller's directory in place of a spool."""

    def __init__(self, directory: Path, keys: Path) -> None:
        super().__init__(directory, "")
        self.keys = keys
        self.shards = Directory(directory, "shard", mode=0o777)
        self.results = Directory(directory, "results", mode=0o777)

    @property
    def places(self) -> Path:
        return self.keys / "places"

    @property
    def source_names(self) -> Path:
        return self.keys / "sources"

    def shard(self, index: int, generation: int = 0) -> str:
        return f"shard-{index:05d}.jsonl"


@dataclass(frozen=True)
class _Parts:
    """A run that is only cut."""

    run: Run
    files: RunSpool
    manifest: Manifest
    options: Options
    shares: Shares
    clock: Clock = field(default_factory=SystemClock)
    changes: Changes = field(default_factory=Changes)
    meter: Meter = field(default_factory=Meter)


def _empty(directory: Path, inputs: Sequence[Path]) -> None:
    """Blocking. Remove what an earlier cut left, so that no line is in two files. Raises OutputIsInput."""
    with disk_errors(directory):
        make_directory("shard", directory)
        left = [*directory.glob("shard-[0-9][0-9][0-9][0-9][0-9].jsonl"), directory / "rejected.jsonl"]
        for path in filter(Path.exists, inputs):
            if any(name.exists() and path.samefile(name) for name in left):
                raise OutputIsInput(f"{path} is an input, and would be written over", path=path)
        for path in left:
            remove("shard", path)
