"""Audit of the output and the lists of failed and rejected lines against the input. Keeps all keys in memory."""

from __future__ import annotations

import gzip
import hashlib
import itertools
import json
import sys
from collections import Counter
from contextlib import contextmanager
from typing import TYPE_CHECKING, BinaryIO, cast

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from .manifest import Records

_BOM = b"\xef\xbb\xbf"


def answers(records: Records, inputs: Sequence[Path], out: Path) -> Iterator[str]:
    """Findings about a published output."""
    lists = {kind: out.with_name(f"{out.name}.{kind}.jsonl") for kind in ("failed", "rejected", "unknown")}
    parts = sorted(out.glob("part-*.jsonl")) if out.is_dir() else [out]
    torn = [path for path in (*parts, *lists.values()) if path.exists() and not _ends_well(path)]
    if torn:
        yield from (f"I7 {path}: ends in the middle of a line" for path in torn)
        return
    rejected = [(str(row["source"]), int(str(row["line"]))) for row in _rows(lists["rejected"])]
    yield from _inputs(records, inputs)
    valid = _Valid(records, inputs, set(rejected))
    yield from valid.shards()
    yield from valid.problems
    answered = [str(row["key"]) for part in parts for row in _rows(part)]
    failed = [str(row["key"]) for row in _rows(lists["failed"])]
    yield from _sums(valid.lines, len(answered), len(failed), rejected)
    yield from _each_once(valid.keys, answered, failed)
    yield from _errors(parts)


def _inputs(records: Records, inputs: Sequence[Path]) -> Iterator[str]:
    """I15: the input is unchanged."""
    if len(inputs) != len(records.sources):
        yield f"I15 the run has {len(records.sources)} inputs, {len(inputs)} were given"
    for source, path in zip(records.sources, inputs, strict=False):
        found = path.stat()
        if source.size >= 0 and (found.st_size, found.st_mtime_ns) != (source.size, source.mtime_ns):
            yield f"I15 {path}: has another size or time than when the run began"


class _Valid:
    """The valid lines of the input, read by ``shards``."""

    def __init__(self, records: Records, inputs: Sequence[Path], rejected: set[tuple[str, int]]) -> None:
        self.keys: list[str] = []
        self.lines = 0
        self.problems: list[str] = []
        self._records = records
        self._inputs = inputs
        self._rejected = rejected

    def shards(self) -> Iterator[str]:
        """I15, I6: each shard was sealed from these lines."""
        lines = self._lines()
        cut = sorted((place, shard) for place, shard in self._records.shards.items() if not place[1])
        for (index, _), shard in cut:
            digest, size = hashlib.sha256(), 0
            for line in itertools.islice(lines, shard.lines):
                digest.update(line)
                size += len(line)
            if (size, digest.hexdigest()) != (shard.bytes, shard.sha256):
                yield f"I15 shard {index}: was not sealed from the present lines of the input"
        if beyond := sum(1 for _ in lines):
            yield f"I1 {beyond} valid lines are in no shard"

    def _lines(self) -> Iterator[bytes]:
        names = [source.name for source in self._records.sources]
        for path, name in itertools.zip_longest(self._inputs, names[: len(self._inputs)]):
            with _opened(path) as file:
                for number, line in enumerate(file, 1):
                    yield from self._judge(line.removeprefix(_BOM) if number == 1 else line, (name, number))

    def _judge(self, line: bytes, at: tuple[str, int]) -> Iterator[bytes]:
        text = line.strip(b" \t\r\n")
        if not text:
            return
        self.lines += 1
        if at in self._rejected:
            return
        try:
            self.keys.append(str(json.loads(text)["key"]))
        except (ValueError, KeyError, TypeError) as error:
            self.problems.append(f"I1 {at[0]}:{at[1]}: not a request ({error}), but not listed as rejected")
        yield line.rstrip(b"\r\n") + b"\n"


def _sums(lines: int, answered: int, failed: int, rejected: list[tuple[str, int]]) -> Iterator[str]:
    if twice := len(rejected) - len(set(rejected)):
        yield f"I1 {twice} lines are listed as rejected more than once"
    if answered + failed + len(rejected) != lines:
        yield f"I1 {answered} answered, {failed} failed, {len(rejected)} rejected, but the input has {lines} lines"


def _each_once(valid: list[str], answered: list[str], failed: list[str]) -> Iterator[str]:
    """I1: every valid line is in the output once, or among the failed once, both in input order."""
    requested, finished = Counter(valid), Counter(itertools.chain(answered, failed))
    if lost := requested - finished:
        yield f"I1 {lost.total()} lines are neither answered nor failed, one has the key {next(iter(lost))!r}"
    if duplicate := finished - requested:
        yield f"I1 {duplicate.total()} answers or failures too many, one has the key {next(iter(duplicate))!r}"
    for what, keys in (("answers", answered), ("failed keys", failed)):
        present = set(keys)
        if not (lost or duplicate) and [key for key in valid if key in present] != keys:
            yield f"I1 the {what} are not in the order of the input"


def _errors(parts: Iterable[Path]) -> Iterator[str]:
    """I1: every line of the output is an answer."""
    for part in parts:
        for row in _rows(part):
            if row.get("response") is None or row.get("error") is not None:
                yield f"I1 {part}: the line of key {row['key']!r} is not an answer"


@contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    """An input file, decompressed if its first bytes say so."""
    with path.open("rb") as file:
        magic = file.read(4)
        file.seek(0)
        if magic.startswith(b"\x1f\x8b"):
            yield cast("BinaryIO", gzip.GzipFile(fileobj=file))
        elif magic == b"\x28\xb5\x2f\xfd":
            yield cast("BinaryIO", zstd.ZstdFile(file))
        else:
            yield file


def _ends_well(path: Path) -> bool:
    with path.open("rb") as file:
        size = file.seek(0, 2)
        file.seek(max(0, size - 1))
        return file.read(1) in (b"", b"\n")


def _rows(path: Path) -> Iterator[dict[str, object]]:
    if path.exists():
        with path.open("rb") as file:
            yield from map(json.loads, file)
