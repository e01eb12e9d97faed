"""Output of a run: one file, or a directory with a part for each shard, and the lists next to it."""

from __future__ import annotations

import os
from fnmatch import fnmatchcase
from glob import escape
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
from msgspec import Struct

from .._errors import OutputBlocked, OutputChanged, OutputIsInput, OutputReserved, PacktrainError
from .._options import KIB
from .._text import path_of
from .._validation import check_form, check_length, check_out
from .directory import Directory
from .disk import DRAFT, is_leftover, remove, undrafted
from .storage import Piece, Pieces
from .threads import in_thread

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Container, Sequence

    from .._model import ShardRow
    from .spool import RunSpool, Spool

#: Lists that may be published next to the answers.
LISTS = ("failed", "unknown", "rejected")
#: A longer file is no reservation; two paths fit.
_MAX_RESERVATION = 16 * KIB


class Reservation(Struct, frozen=True):
    """A run that is to be published under a name, and its state directory."""

    #: As ``stored_path`` has it.
    state: str
    run: str
    token: str


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

    @property
    def answers(self) -> str:
        """The object that appears last: the file of all answers, or the one that says that all parts are there."""
        return self.success if self.parts else self.name

    def part(self, row: ShardRow) -> str:
        return f"{self.name}/part-{row.shard:05d}.jsonl"

    def list_of(self, kind: str) -> str:
        """``OUT.failed.jsonl`` and the like."""
        return f"{self.name}.{kind}.jsonl"

    def list_path(self, kind: str) -> Path:
        return self.sink.path(self.list_of(kind))

    @property
    def reservation(self) -> str:
        """Names the run that is to be published here, from its start to its publication."""
        return f"{self.name}.packtrain.reserved"

    async def prepare(self, inputs: Sequence[Path]) -> None:
        """Make the directory. Raises OutputIsInput when an input would be written over."""
        await in_thread(self._prepare, inputs)

    async def reserve(self, claim: Reservation, runs: Container[str]) -> None:
        """Keep other runs from being published here. ``runs`` are the tokens of all runs of this state directory.

        What a start of this run that was killed has reserved stays its own. The reservation of a run that is gone with
        its state directory gives way. Raises OutputReserved for that of any other run.
        """
        content = msgspec.json.encode(claim)
        while not await self.sink.publish_if_absent(self.reservation, content):
            version = await self.sink.version(self.reservation)
            if version is None:
                continue
            holder = await self._holder()
            if holder == claim:
                return
            if not await in_thread(_gives_way, holder, claim, runs):
                raise self._reserved(holder)
            if await self.sink.replace(self.reservation, content, version):
                return

    async def release(self, token: str) -> None:
        """End the reservation of the run with this token, if there is one."""
        holder = await self._holder()
        if holder is not None and holder.token == token:
            await self.sink.delete(self.reservation)

    async def clear(self) -> None:
        """Remove what a crash left half written; for a time when this run alone is published here."""
        await in_thread(self._clear)

    async def refuse_taken(self, *, lists: Sequence[str]) -> None:
        """Raises OutputTaken when the answers of a new run, or one of these lists, would replace something."""
        names = [self.success, *await self._part_names()] if self.parts else [self.name]
        await self.sink.reserve([*names, *map(self.list_of, lists)])

    async def refuse_existing(self, inputs: Sequence[Path]) -> None:
        """Raises what ``prepare``, ``reserve`` and ``refuse_taken`` raise for a new run, and makes nothing."""
        if not self.parts:
            check_form(self.path)
        await in_thread(self._refuse_inputs, inputs)
        names = [self.success, *await self._part_names()] if self.parts else [self.name]
        await in_thread(self.sink.refuse_existing, [*names, *map(self.list_of, LISTS)])
        holder = await self._holder()
        if holder is not None and await in_thread(path_of(holder.state).is_dir):
            raise self._reserved(holder)

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

    async def count_list(self, kind: str) -> int:
        """Lines of a published list."""
        name = self.list_of(kind)
        if await self.sink.head(name) is None:
            return 0
        return sum([block.count(b"\n") async for block in self.sink.blocks(name)])

    async def publish(self, name: str, content: Pieces, is_own: Callable[[str], Awaitable[bool]]) -> None:
        """Publish an object. One of the same content stays as it is; another one gives way if ``is_own`` says so of its
        version. Raises OutputBlocked for one that is not of this run, and changes nothing then."""
        while not await self.sink.publish_if_absent(name, content):
            version = await self.sink.version(name)
            if version is None:
                continue
            if await self.matches(name, content):
                return
            if await is_own(version) and await self.sink.replace(name, content, version):
                return
            async for _ in content:
                pass  # it may be our copy that is not what it was
            path = self.sink.path(name)
            raise OutputBlocked(f"{path} is not of this run, and was not there when it began", path=path)

    async def matches(self, name: str, content: Pieces, *, whole: bool = True) -> bool:
        """An object is there with this content; without ``whole``, one of the two may be the beginning of the other."""
        size = await self.sink.head(name)
        if size is None:
            return False
        offset = 0
        async for block in content:
            found = await self.sink.read(name, offset, len(block))
            if found != block[: len(found)]:
                return False
            offset += len(found)
            if len(found) < len(block):
                return not whole and offset > 0
        return offset == size or (not whole and offset > 0)

    async def publish_list(
        self, kind: str, files: RunSpool, pieces: Sequence[Piece], is_own: Callable[[str], Awaitable[bool]]
    ) -> bool:
        """Publish a list made of whole results, as ``publish``; returns False, and does nothing, when all are empty.

        Raises FileDamaged for one that is not what it was.
        """
        filled = [piece for piece in pieces if await files.results.head(piece.name)]
        if filled:
            await self.publish(self.list_of(kind), Pieces(files.results, filled, files.damaged), is_own)
        return bool(filled)

    async def _part_names(self) -> list[str]:
        return [stored.name async for stored in self.sink.list(f"{self.name}/part-")]

    async def _holder(self) -> Reservation | None:
        """The run of a reservation that is there; None for one that cannot be read."""
        try:
            return msgspec.json.decode(await self.sink.read(self.reservation, 0, _MAX_RESERVATION), type=Reservation)
        except (PacktrainError, msgspec.DecodeError, UnicodeDecodeError):
            return None

    def _reserved(self, holder: Reservation | None) -> OutputReserved:
        path = self.sink.path(self.reservation)
        if holder is None:
            return OutputReserved(f"{self.path} may be reserved: {path} cannot be read", path=path)
        state = path_of(holder.state)
        return OutputReserved(
            f"{self.path} is reserved for the run {holder.run!r} of {state}, which is not published yet",
            path=path,
            state=state,
        )

    def _clear(self) -> None:
        names = {self.name, self.reservation, *map(self.list_of, LISTS)}
        drafts = [
            draft for draft in self.path.parent.glob(f"{escape(self.name)}.*{DRAFT}") if undrafted(draft.name) in names
        ]
        drafts += [*self.path.glob(f"part-*{DRAFT}"), *self.path.glob(f"_SUCCESS.*{DRAFT}")] if self.parts else []
        for draft in filter(is_leftover, drafts):
            remove("leftover", draft)

    def _prepare(self, inputs: Sequence[Path]) -> None:
        self.sink.make(self.path if self.parts else self.path.parent)
        self._refuse_inputs(inputs)

    def _refuse_inputs(self, inputs: Sequence[Path]) -> None:
        answers = [*self.path.glob("part-*.jsonl"), self.sink.path(self.success)] if self.parts else [self.path]
        names = [name for name in [*answers, *map(self.list_path, LISTS)] if name.exists()]
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
    parts = os.fspath(out).endswith(os.sep) or await in_thread(path.is_dir)
    return Output(path, parts=parts)


def _gives_way(holder: Reservation | None, claim: Reservation, runs: Container[str]) -> bool:
    """A reservation is void: its run is in no state directory any more. Blocks."""
    if holder is None:
        return False
    state = path_of(holder.state)
    if not state.is_dir():
        return True
    return state.samefile(path_of(claim.state)) and (holder.token == claim.token or holder.token not in runs)


#: Files of a state directory, which may have other files as well.
_OF_STATE = (
    *(
        "further",
        "keys",
        "lock",
        "manifest.*",
        "recovering.*",
        "requests",
        "results",
        "service",
        "service.removed",
        "shards",
    ),
    "status.json*",
)


class OwnFiles:
    """The files that a run makes, by their names, because they come and go while inputs are listed. Blocking."""

    def __init__(self, spool: Spool, output: Output | None) -> None:
        self._patterns = [(spool.root.resolve(), name) for name in _OF_STATE]
        if output is not None:
            parent = output.path.parent.resolve()
            names = [output.reservation, *map(output.list_of, LISTS)]
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
        name = undrafted(path.name)
        return any(path.parent == directory and fnmatchcase(name, pattern) for directory, pattern in self._patterns)


async def own_files(spool: Spool, output: Output | None = None) -> OwnFiles:
    """Those of all runs of a state directory, and the answers and lists of the run that goes to ``output``."""
    return await in_thread(OwnFiles, spool, output)
