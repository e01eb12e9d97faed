"""Files of a state directory and of its runs. All functions block; call them in a worker thread."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import os
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import msgspec
from msgspec import Struct

from .._errors import FileDamaged, IntegrityError
from .._options import MIB, PIECE_BYTES
from .._rules.naming import shard_file
from .._validation import counted
from .disk import (
    DRAFT,
    copy_range,
    disk_errors,
    draft,
    make_directory,
    make_durable,
    open_private,
    remove,
    rename,
    sync,
    sync_directory,
    write_all,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .._model import Reject, ShardRow

#: Failed keys, rows of no request, and requests, which are needed when failed keys are asked again.
_KEPT = {".failed", ".unknown", ".requests"}


class Spool:
    """The paths below one state directory."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.manifest = root / "manifest.db"
        self.status = root / "status.json"
        self.service = root / "service"

    def run(self, token: str) -> RunSpool:
        return RunSpool(self.root, token)

    def clear(self) -> None:
        """Blocking. Remove what a crash left half written; for a time when nobody writes."""
        for leftover in self.root.glob(f"*/*/*{DRAFT}"):
            remove("leftover", leftover)


class Kept(Struct, frozen=True):
    """What a generation of a shard leaves: all its answers so far in input order, the keys still without one, rows that
    nobody asked for, and the requests of those failed keys that are not asked again by themselves."""

    answers: Path
    failed: Path
    unknown: Path
    requests: Path

    @property
    def all(self) -> tuple[Path, ...]:
        return self.answers, self.failed, self.unknown, self.requests

    @property
    def drafts(self) -> Kept:
        return Kept(*map(draft, self.all))


class RunSpool:
    """The files of one run; several runs share a state directory."""

    def __init__(self, root: Path, token: str) -> None:
        self._root = root
        self._token = token
        self.manifest = root / "manifest.db"
        self.keys = root / "keys" / token
        self._shards = root / "shards" / token
        self._results = root / "results" / token
        self.rejects = self._results / "rejected.jsonl"

    def prepare(self) -> None:
        """Blocking. Make the directories."""
        for directory in (self._shards, self._results, self.keys):
            with disk_errors(directory):
                make_directory("spool", directory.parent, 0o700)
                make_directory("spool", directory, 0o700)
                sync_directory("spool", directory.parent)

    def shard(self, index: int, generation: int = 0) -> Path:
        return self._shards / shard_file(index, generation)

    def kept(self, row: ShardRow) -> Kept:
        answers = self.answers(row)
        return Kept(answers, self.failed(row), self.unknown(row), answers.with_suffix(".requests"))

    def answers(self, row: ShardRow) -> Path:
        return self._results / shard_file(row.shard, row.generation)

    def part(self, row: ShardRow) -> Path:
        """What has come down so far of a results file."""
        return self.answers(row).with_suffix(".part")

    def failed(self, row: ShardRow) -> Path:
        return self.answers(row).with_suffix(".failed")

    def unknown(self, row: ShardRow) -> Path:
        return self.answers(row).with_suffix(".unknown")

    def require(self, path: Path, size: int | None = None) -> None:
        """Blocking. Raises FileDamaged when a file that the run goes on from is gone, or not of this size."""
        found = path.stat().st_size if path.is_file() else None
        if found is None:
            raise self.damaged(path, "is gone")
        if size not in (None, found):
            raise self.damaged(path, f"has {found} bytes instead of {size}")

    def damaged(self, path: Path, how: str) -> IntegrityError:
        """The error for a file of the run that is not what it should be."""
        return FileDamaged(f"{path} {how}", path=path, manifest=self.manifest, run=self._token)

    def discard_results(self) -> None:
        """Blocking. Let go of what has been published, but for what is needed to ask failed keys again."""
        for path in self._results.glob("*"):
            if path != self.rejects and (path.suffix not in _KEPT or not path.stat().st_size):
                remove("results", path)


class RejectsFile:
    """The list of rejected lines while it grows, from its first ``length`` bytes on, which belong to sealed shards."""

    def __init__(self, path: Path, length: int) -> None:
        self._path = path
        with disk_errors(path):
            self._file = open_private("rejects", path, os.O_WRONLY)
            self._file.truncate(length)
            self._file.seek(length)
        self._length = length

    def write(self, rejects: Sequence[Reject]) -> list[int]:
        """One JSON line each; returns the length of the file after each of them."""
        lines = [msgspec.json.encode(reject) + b"\n" for reject in rejects]
        ends = list(itertools.accumulate(map(len, lines), initial=self._length))
        with disk_errors(self._path):
            write_all("rejects", self._file, b"".join(lines))
        self._length = ends[-1]
        return ends[1:]

    def sync(self) -> None:
        with disk_errors(self._path):
            sync("rejects", self._file)
            sync_directory("rejects", self._path.parent)

    def close(self) -> None:
        self._file.close()


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


def _differences(file: BinaryIO, claim: Claim) -> list[str]:
    digest, lines, left = hashlib.sha256(), 0, claim.bytes
    while left and (block := file.read(min(MIB, left))):
        digest.update(block)
        lines += block.count(b"\n")
        left -= len(block)
    if digest.hexdigest() != claim.sha256:
        return [f"{claim.name}: its bytes are not what they were (SHA-256 {digest.hexdigest()[:16]}…)"]
    if claim.lines not in (None, lines):
        return [f"{claim.name}: has {counted(lines, 'line')} instead of {claim.lines}"]
    return []


def digest_of(path: Path) -> str:
    """SHA-256 of a file, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def publish_file(parts: Sequence[Path], final: Path) -> None:
    """The parts, one after the other, under one name, which shows up only when all are there."""
    temporary = draft(final)
    with disk_errors(final), contextlib.ExitStack() as stack:
        target = stack.enter_context(open_private("output", temporary))
        for part in parts:
            with part.open("rb", buffering=0) as source:
                copy_range("output", source, 0, part.stat().st_size, target)
        if target.tell() != sum(part.stat().st_size for part in parts):
            raise IntegrityError(f"{final}: the copy is not as long as its parts; nothing was published")
        make_durable("output", target, temporary, final)


def land(temporaries: Sequence[Path], finals: Sequence[Path], *, what: str = "results") -> str:
    """Make written files durable under their final names; returns the SHA-256 of the first, in hex."""
    with disk_errors(finals[0]):
        digest = digest_of(temporaries[0])
    settle(temporaries, finals, what=what)
    return digest


def settle(temporaries: Sequence[Path], finals: Sequence[Path], *, what: str = "results") -> None:
    """Make written files durable under their final names."""
    with disk_errors(finals[0]):
        for temporary, final in zip(temporaries, finals, strict=True):
            with temporary.open("rb") as file:
                sync(what, file)
            rename(what, temporary, final)
        sync_directory(what, finals[0].parent)


def restore(source: Path, offset: int, length: int, final: Path) -> str:
    """A piece of a published file, durable under a name of its own; returns its SHA-256 in hex."""
    temporary, digest = draft(final), hashlib.sha256()
    with disk_errors(final), source.open("rb") as published, open_private("results", temporary) as target:
        published.seek(offset)
        while length and (piece := published.read(min(length, PIECE_BYTES))):
            digest.update(piece)
            write_all("results", target, piece)
            length -= len(piece)
        make_durable("results", target, temporary, final)
    return digest.hexdigest()


def replace(path: Path, content: bytes) -> None:
    """A small file for others to read: always whole, not necessarily durable."""
    temporary = draft(path)
    with disk_errors(path):
        with open_private("status", temporary) as file:
            write_all("status", file, content)
        rename("status", temporary, path)


def touch(path: Path) -> None:
    """An empty file that is durable."""
    publish_file([], path)
