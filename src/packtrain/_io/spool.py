"""Files of a state directory and of its runs."""

from __future__ import annotations

import hashlib
import os
import threading
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import msgspec
from msgspec import Struct

from .._errors import FileDamaged, IntegrityError
from .._options import MIB
from .._rules.naming import shard_file
from .._validation import counted
from .directory import Directory, digest_of
from .disk import (
    DRAFT,
    disk_errors,
    draft,
    make_directory,
    open_draft,
    open_private,
    remove,
    remove_tree,
    rename,
    sync,
    sync_directory,
    write_all,
)
from .ledger import Ledger
from .places import PlacesFile, write_names
from .request_file import ShardReader, ShardWriter
from .result_file import SUM, PartialDownload
from .storage import Piece, Pieces, Stored
from .threads import in_thread, uncancelled

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .._model import Reject, Shard, ShardRow
    from .request_file import WriteQueue
    from .storage import Sink

#: Failed keys, rows of no request, and requests, which are needed when failed keys are asked again.
_KEPT = (".failed", ".unknown", ".requests")


class Spool:
    """The paths below one state directory."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.manifest = root / "manifest.db"
        self.status = root / "status.json"
        self.service = root / "service"
        self._status_lock = threading.Lock()

    def run(self, token: str) -> RunSpool:
        return RunSpool(self.root, token)

    async def clear(self) -> None:
        """Remove what a crash left half written; for a time when no other process writes."""
        await in_thread(self._clear)

    async def write_status(self, content: bytes) -> None:
        """The status file for others to read: always whole, not necessarily durable."""
        await in_thread(self._write_status, content)

    async def discard_service(self) -> None:
        """Remove what the service inside this program kept, when no run needs it any more. What a kill leaves of it has
        another name, and goes the next time."""
        await uncancelled(self._discard_service)

    def _discard_service(self) -> None:
        gone = self.service.with_name(f"{self.service.name}.removed")
        remove_tree("service", gone)
        with suppress(OSError):
            rename("service", self.service, gone)
            remove_tree("service", gone)

    def _write_status(self, content: bytes) -> None:
        """One at a time: two writers of one draft would each take it from the other."""
        temporary = draft(self.status)
        with self._status_lock, disk_errors(self.status):
            with open_draft("status", temporary) as file:
                write_all("status", file, content)
            rename("status", temporary, self.status)

    def _clear(self) -> None:
        for leftover in self.root.glob(f"*/*/*{DRAFT}"):
            remove("leftover", leftover)


class GenerationFiles(Struct, frozen=True):
    """The files that a generation of a shard leaves. They cover the generations before it as well."""

    #: All answers so far, in input order.
    answers: Path
    #: The keys that still have no answer, in input order.
    failed: Path
    #: Result lines whose key no request has.
    unknown: Path
    #: The requests of the failed keys, except those that the next generation asks again.
    requests: Path

    @property
    def all(self) -> tuple[Path, ...]:
        return self.answers, self.failed, self.unknown, self.requests

    @property
    def drafts(self) -> GenerationFiles:
        return GenerationFiles(*map(draft, self.all))


class RunSpool:
    """The files of one run, by name; several runs share a state directory.

    ``shards`` has the sealed requests, ``results`` the answers and lists, ``parts`` the downloads under way.
    """

    def __init__(self, root: Path, token: str) -> None:
        self.state = root
        self.manifest = root / "manifest.db"
        self.keys = root / "keys" / token
        self.shards = Directory(root / "shards" / token, "shard")
        self.results = Directory(root / "results" / token, "results")
        self.parts = Directory(self.results.root, "part")
        self._token = token

    # Names

    def shard(self, index: int, generation: int = 0) -> str:
        return shard_file(index, generation)

    def answers(self, row: ShardRow) -> str:
        return shard_file(row.shard, row.generation)

    def failed(self, row: ShardRow) -> str:
        return self._beside_answers(row, ".failed")

    def unknown(self, row: ShardRow) -> str:
        return self._beside_answers(row, ".unknown")

    def requests(self, row: ShardRow) -> str:
        return self._beside_answers(row, ".requests")

    def part(self, row: ShardRow, number: int = 0) -> str:
        """The download under way of a results file; ``number`` counts those of one job."""
        return self._beside_answers(row, f".part.{number}" if number else ".part")

    @property
    def rejects(self) -> str:
        return "rejected.jsonl"

    @property
    def reserved(self) -> str:
        """Where the answers are to go: the output that is reserved for the run."""
        return "reserved"

    @property
    def replaced(self) -> str:
        """The versions of published files that the next publication takes the place of."""
        return "replaced.json"

    def _beside_answers(self, row: ShardRow, ending: str) -> str:
        return os.path.splitext(self.answers(row))[0] + ending  # noqa: PTH122 - a name, and no path

    # Local files, for code of this layer

    @property
    def places(self) -> Path:
        """Where valid lines come from."""
        return self.results.path("places")

    @property
    def source_names(self) -> Path:
        return self.results.path("sources")

    def shard_path(self, index: int, generation: int = 0) -> Path:
        return self.shards.path(self.shard(index, generation))

    def kept(self, row: ShardRow) -> GenerationFiles:
        names = self.answers(row), self.failed(row), self.unknown(row), self.requests(row)
        return GenerationFiles(*map(self.results.path, names))

    # Operations

    async def prepare(self) -> None:
        """Make the directories."""
        await in_thread(self._prepare)

    def _prepare(self) -> None:
        for directory in (self.shards.root, self.results.root, self.keys):
            with disk_errors(directory):
                make_directory("spool", directory.parent, 0o700)
                make_directory("spool", directory, 0o700)
                sync_directory("spool", directory.parent)

    async def require(self, *names: str | Stored) -> None:
        """Raises FileDamaged when a file of ``results`` is gone, or not of its size."""
        await in_thread(self.check, self.results, names)

    def check(self, directory: Directory, names: Sequence[str | Stored]) -> None:
        """As ``require``, for files of any directory; blocking."""
        for item in names:
            name, size = (item, None) if isinstance(item, str) else (item.name, item.size)
            actual = directory.size(name)
            if actual is None or size not in (None, actual):
                how = "is gone" if actual is None else f"has {actual} bytes instead of {size}"
                raise self.damaged(directory.path(name), how)

    def compare(self, directory: Directory, name: str, sha256: str) -> None:
        """Read a file to its end, unless ``sha256`` is empty; blocking. Raises FileDamaged when it has another one."""
        if sha256:
            with disk_errors(directory.path(name)):
                found = digest_of(directory.path(name))
            Pieces(directory, (), self.damaged).compare(Piece(name, sha256=sha256), found)

    def damaged(self, path: Path, how: str) -> IntegrityError:
        """The error of a file that is not what it was."""
        return FileDamaged(f"{path} {how}", path=path, manifest=self.manifest, run=self._token)

    def ledger(self, memory_keys: int) -> Ledger:
        return Ledger(self.keys, memory_keys=memory_keys)

    async def open_rejects(self, length: int, sha256: str) -> RejectsFile:
        """The list of rejected lines, from its first ``length`` bytes on. Raises FileDamaged for other bytes."""
        return await uncancelled(self._open_rejects, length, sha256)

    def _open_rejects(self, length: int, sha256: str) -> RejectsFile:
        path = self.results.path(self.rejects)
        digest = hashlib.sha256()
        if length:
            self.check(self.results, [self.rejects])
            with disk_errors(path), path.open("rb", buffering=0) as file:
                _feed(digest, file, length)
            if sha256 not in ("", digest.hexdigest()):
                raise self.damaged(path, "is not what it was")
        return RejectsFile(path, length, digest)

    async def open_places(self, length: int) -> PlacesFile:
        """The places of valid lines, from the first ``length`` bytes on."""
        return await uncancelled(PlacesFile, self.places, length)

    async def keep_names(self, names: Sequence[str]) -> None:
        """The names of the sources, in order."""
        await in_thread(write_names, self.source_names, names)

    async def open_shard(self, index: int, writes: WriteQueue) -> ShardWriter:
        """A new shard, to be sealed or discarded."""
        return await uncancelled(ShardWriter, self.shard_path(index), writes)

    async def read_shard(self, shard: Shard) -> ShardReader:
        """A sealed shard, to be sent. Raises FileDamaged when it is gone or not of its size."""
        return await uncancelled(self._read_shard, shard)

    def _read_shard(self, shard: Shard) -> ShardReader:
        name = self.shard(shard.index, shard.generation)
        self.check(self.shards, [Stored(name, shard.bytes)])
        return ShardReader(self.shards.path(name), shard.bytes, shard.sha256, self.damaged)

    async def shard_flaw(self, shard: Shard, *, read: bool) -> str | None:
        """How the file of a shard differs from what was sealed: by size, and with ``read`` by every byte."""
        return await in_thread(self._shard_flaw, shard, read)

    def _shard_flaw(self, shard: Shard, read: bool) -> str | None:
        name = self.shard(shard.index, shard.generation)
        try:
            size = self.shards.size(name)
            if size is None:
                return "is gone"
            changed = size != shard.bytes or (read and digest_of(self.shards.path(name)) != shard.sha256)
        except OSError as error:
            return f"cannot be read ({error.strerror})"
        return "is not as it was sealed" if changed else None

    async def open_part(self, name: str) -> ResultDownload:
        """The download under way of a results file."""
        return ResultDownload(await uncancelled(PartialDownload, self.parts.path(name)))

    async def drop_parts(self, *names: str) -> None:
        """Remove downloads with their digests."""
        await self.parts.delete(*(name + ending for name in names for ending in ("", SUM)))

    async def restore(self, row: ShardRow, sink: Sink, name: str, offset: int) -> str:
        """Bring the answers of a shard back from where they were published; returns their SHA-256 in hex."""
        assert row.tally is not None
        await self.results.put(self.answers(row), Pieces(sink, [Piece(name, offset, row.tally.bytes)]))
        return await self.results.digest(self.answers(row))

    async def discard_results(self) -> None:
        """Remove what has been published, but for what is needed to ask failed keys again."""
        names = [
            stored.name
            async for stored in self.results.list()
            if stored.name not in (self.rejects, self.places.name, self.source_names.name)
            and (not stored.name.endswith(_KEPT) or not stored.size)
        ]
        await self.results.delete(*names)


class ResultDownload:
    """A partial download in worker threads, a call each."""

    def __init__(self, part: PartialDownload) -> None:
        self._part = part

    @property
    def offset(self) -> int:
        return self._part.offset

    def begin(self, offset: int) -> None:
        self._part.begin(offset)

    async def write(self, piece: bytes) -> None:
        await in_thread(self._part.write, piece)

    async def finish(self, total: int | None) -> None:
        await in_thread(self._part.finish, total)

    async def discard(self) -> None:
        await in_thread(self._part.discard)

    async def close(self) -> None:
        await uncancelled(self._part.close)


class RejectsFile:
    """The list of rejected lines while it grows, from its first ``length`` bytes on, which belong to sealed shards."""

    def __init__(self, path: Path, length: int, digest: hashlib._Hash) -> None:
        self._path = path
        with disk_errors(path):
            self._file = open_private("rejects", path, os.O_WRONLY)
            self._file.truncate(length)
            self._file.seek(length)
        self._length = length
        self._digest = digest

    async def write(self, rejects: Sequence[Reject]) -> list[tuple[int, str]]:
        """One JSON line each; returns the length of the file and its SHA-256 after each of them."""
        return await in_thread(self._write, rejects)

    async def sync(self) -> None:
        await in_thread(self._sync)

    async def close(self) -> None:
        await uncancelled(self._file.close)

    def _write(self, rejects: Sequence[Reject]) -> list[tuple[int, str]]:
        lines = [msgspec.json.encode(reject) + b"\n" for reject in rejects]
        with disk_errors(self._path):
            write_all("rejects", self._file, b"".join(lines))
        return [self._after(line) for line in lines]

    def _after(self, line: bytes) -> tuple[int, str]:
        self._length += len(line)
        self._digest.update(line)
        return self._length, self._digest.hexdigest()

    def _sync(self) -> None:
        with disk_errors(self._path):
            sync("rejects", self._file)
            sync_directory("rejects", self._path.parent)


class Claim(Struct, frozen=True):
    """Expected content of one part of a file; ``lines`` is None when its lines were not counted."""

    name: str
    bytes: int
    sha256: str
    lines: int | None = None


def differences(path: Path, claims: list[Claim], read: bool) -> list[str]:
    """The differences between a file and these parts, one after the other: of bytes with ``read``, else of size."""
    try:
        with path.open("rb", buffering=0) as file:
            size, expected = file.seek(0, 2), sum(claim.bytes for claim in claims)
            if size != expected:
                return [f"has {size} bytes instead of {expected}"]
            file.seek(0)
            return [flaw for claim in claims for flaw in _differences(file, claim)] if read else []
    except FileNotFoundError:
        return ["is gone"]
    except OSError as error:
        return [f"cannot be read ({error.strerror})"]


def _feed(digest: hashlib._Hash, file: BinaryIO, length: int) -> int:
    """The next ``length`` bytes of a file; returns the number of lines in them."""
    lines = 0
    while length and (block := file.read(min(MIB, length))):
        digest.update(block)
        lines += block.count(b"\n")
        length -= len(block)
    return lines


def _differences(file: BinaryIO, claim: Claim) -> list[str]:
    digest = hashlib.sha256()
    lines = _feed(digest, file, claim.bytes)
    if digest.hexdigest() != claim.sha256:
        return [f"{claim.name}: its bytes are not what they were (SHA-256 {digest.hexdigest()[:16]}…)"]
    if claim.lines not in (None, lines):
        return [f"{claim.name}: has {counted(lines, 'line')} instead of {claim.lines}"]
    return []


def land(temporaries: Sequence[Path], finals: Sequence[Path], *, what: str = "results") -> list[str]:
    """Make written files durable under their final names; returns the SHA-256 of each, in hex. Blocking."""
    with disk_errors(finals[0]):
        digests = [digest_of(temporary) for temporary in temporaries]
    settle(temporaries, finals, what=what)
    return digests


def settle(temporaries: Sequence[Path], finals: Sequence[Path], *, what: str = "results") -> None:
    """Make written files durable under their final names. Blocking."""
    with disk_errors(finals[0]):
        for temporary, final in zip(temporaries, finals, strict=True):
            with temporary.open("rb") as file:
                sync(what, file)
            rename(what, temporary, final)
        sync_directory(what, finals[0].parent)
