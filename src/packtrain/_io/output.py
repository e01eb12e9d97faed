"""Output of a run: one file, or a directory with a part for each shard, and the lists next to it."""

from __future__ import annotations

import os
from fnmatch import fnmatchcase
from glob import escape
from pathlib import Path
from typing import TYPE_CHECKING

import anyio.to_thread

from .._errors import OutputChanged, OutputIsInput
from .._validation import check_form, check_length, check_out
from .directory import Directory
from .disk import DRAFT, draft
from .storage import Pieces

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .._model import ShardRow
    from .spool import RunSpool, Spool
    from .storage import Piece, Readable

#: Lists that may be published next to the answers.
LISTS = ("failed", "unknown", "rejected")


class Output:
    """The names of an output in its ``sink``."""

    def __init__(self, path: Path, *, parts: bool) -> None:
        self.path = path
        self.parts = parts
        self.sink = Directory(path.parent, "output", mode=0o777)

    @property
    def name(self) -> str:
        return self.path.name

    @property
    def success(self) -> str:
        """Of a directory: the object that is published when all parts are there."""
        return f"{self.name}/_SUCCESS"

    def part(self, row: ShardRow) -> str:
        return f"{self.name}/part-{row.shard:05d}.jsonl"

    def list_of(self, kind: str) -> str:
        """``OUT.failed.jsonl`` and the like."""
        return f"{self.name}.{kind}.jsonl"

    def list_path(self, kind: str) -> Path:
        return self.sink.path(self.list_of(kind))

    async def prepare(self, inputs: Sequence[Path]) -> None:
        """Make the directory. Raises OutputIsInput when an input would be written over."""
        await anyio.to_thread.run_sync(self._prepare, inputs)

    async def refuse_taken(self, *, lists: bool) -> None:
        """Raises OutputTaken when the answers of a new run, or one of its lists, would replace something."""
        names = [self.success, *await self._part_names()] if self.parts else [self.name]
        await self.sink.reserve([*names, *(map(self.list_of, LISTS) if lists else ())])

    async def refuse_existing(self, inputs: Sequence[Path]) -> None:
        """Raises what ``prepare`` and ``refuse_taken`` raise for a new run, and makes nothing."""
        if not self.parts:
            check_form(self.path)
        await anyio.to_thread.run_sync(self._refuse_inputs, inputs)
        names = [self.success, *await self._part_names()] if self.parts else [self.name]
        await anyio.to_thread.run_sync(self.sink.refuse_existing, [*names, *map(self.list_of, LISTS)])

    async def size(self) -> int | None:
        """Bytes of the published answers; None when they are not there, or not complete."""
        if not self.parts:
            return await self.sink.head(self.name)
        if await self.sink.head(self.success) is None:
            return None
        return sum([stored.size async for stored in self.sink.list(f"{self.name}/part-")])

    async def check(self, size: int) -> None:
        """Raises OutputChanged when a finished run's answers are not there as they were published."""
        actual = await self.size()
        if actual != size:
            state = "is not there" if actual is None else f"has {actual} bytes"
            raise OutputChanged(
                f"{self.path}: the run is complete and published {size} bytes there, but it {state} now",
                path=self.path,
            )

    async def publish_list(self, kind: str, files: RunSpool, pieces: Sequence[Piece]) -> bool:
        """Publish a list made of whole results; returns False, and publishes nothing, when all of them are empty.

        Raises FileDamaged for one that is not what it was.
        """
        filled = [piece for piece in pieces if await files.results.head(piece.name)]
        if filled:
            await self.sink.replace_own(self.list_of(kind), Pieces(files.results, filled, files.damaged))
        return bool(filled)

    async def _part_names(self) -> list[str]:
        return [stored.name async for stored in self.sink.list(f"{self.name}/part-")]

    def _prepare(self, inputs: Sequence[Path]) -> None:
        self.sink.make(self.path if self.parts else self.path.parent)
        self._refuse_inputs(inputs)

    def _refuse_inputs(self, inputs: Sequence[Path]) -> None:
        answers = [*self.path.glob("part-*.jsonl"), self.sink.path(self.success)] if self.parts else [self.path]
        names = [*answers, *map(self.list_path, LISTS)]
        names = [name for name in [*names, *map(draft, names)] if name.exists()]
        for path in filter(Path.exists, inputs):
            if any(path.samefile(name) for name in names):
                raise OutputIsInput(f"{path} is an input, and would be written over", path=path)


async def output_at(out: str | os.PathLike[str]) -> Output:
    """A file, or a directory of parts: one that exists, or a name with a slash at its end.

    Raises InputError for what has no name of its own.
    """
    check_out(out)
    check_length(out)
    path = Path(out)
    parts = os.fspath(out).endswith(os.sep) or await anyio.to_thread.run_sync(path.is_dir)
    return Output(path, parts=parts)


async def same_content(origin: Readable, name: str, other: Readable, other_name: str) -> bool:
    """Two objects are there and equal, byte for byte, and not empty."""
    size = await origin.head(name)
    if not size or size != await other.head(other_name):
        return False
    offset = 0
    async for block in origin.blocks(name):
        if await other.read(other_name, offset, len(block)) != block:
            return False
        offset += len(block)
    return True


#: Files of a state directory, which may have other files as well.
_OF_STATE = (
    *("keys", "lock", "manifest.*", "recovering.*", "requests", "results", "service", "service.removed", "shards"),
    "status.json*",
)


class OwnFiles:
    """The files that a run makes, by their names, because they come and go while inputs are listed. Blocking."""

    def __init__(self, spool: Spool, output: Output | None) -> None:
        self._patterns = [(spool.root.resolve(), name) for name in _OF_STATE]
        if output is not None:
            parent = output.path.parent.resolve()
            names = [*map(output.list_of, LISTS)]
            if output.parts:
                answers = output.path.resolve()
                self._patterns += [(answers, name) for name in ("part-[0-9][0-9][0-9][0-9][0-9].jsonl", "_SUCCESS")]
            else:
                names.append(output.name)
            self._patterns += [(parent, escape(name)) for name in names]

    def __contains__(self, path: object) -> bool:
        """Also a file in a directory of the run's."""
        resolved = Path(str(path)).resolve()
        return any(map(self._is_own, (resolved, *resolved.parents)))

    def _is_own(self, path: Path) -> bool:
        name = path.name.removesuffix(DRAFT)
        return any(path.parent == directory and fnmatchcase(name, pattern) for directory, pattern in self._patterns)


async def own_files(spool: Spool, output: Output | None = None) -> OwnFiles:
    """Those of all runs of a state directory, and the answers and lists of the run that goes to ``output``."""
    return await anyio.to_thread.run_sync(OwnFiles, spool, output)
