"""Audit of a run: its input, output and manifest, and the service's log.

Each finding begins with the number of the invariant that is broken, as docs/internals/exactly-once.md lists them.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from .answers import answers
from .history import read_history
from .jobs import created_after, jobs
from .manifest import read_records
from .steps import steps

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from .manifest import Records


def audit_run(
    *,
    inputs: Sequence[Path],
    out: Path,
    state: Path,
    service: Path | None = None,
    run: str = "main",
    exit_code: int | None = None,
) -> list[str]:
    """Findings about a run without a driver; changes nothing.

    ``inputs`` are its files, one by one and in order. ``service`` is the directory of the local service, without which
    jobs are not audited; ``exit_code`` is that of the last start, compared if given.
    """
    records = read_records(state, run)
    findings = [*steps(records), *_code(records, exit_code), *_shards(records, state)]
    if service is not None:
        history = read_history(service)
        findings += [*history.impossible, *jobs(records, history)]
    if records.published is None:
        return findings
    findings += [*_published(records, out), *_leftovers(out, state)]
    if not _missing(out):
        findings += answers(records, inputs, out)
        if service is not None:
            findings += created_after(records, history, _written(out))
    return findings


def _code(records: Records, code: int | None) -> Iterator[str]:
    """I13: success means that the output is published and nothing is quarantined."""
    waiting = [place for place, row in records.rows.items() if row.state == "quarantined"]
    if records.published is not None and waiting:
        yield f"I13 published, although {len(waiting)} shards wait for a person"
    if code == 0 and records.published is None:
        yield "I13 exit code 0, but nothing is published"


def _shards(records: Records, state: Path) -> Iterator[str]:
    """I7: a shard file has the sealed content."""
    for (index, generation), shard in records.shards.items():
        path = state / "shards" / records.token / f"{index:05d}-{generation}.jsonl"
        if path.exists() and _digest(path, 0, None) != shard.sha256:
            yield f"I7 {path}: differs from the sealed shard"


def _published(records: Records, out: Path) -> Iterator[str]:
    """I7: the output is complete, and consists of the verified results of each shard."""
    if _missing(out):
        yield f"I7 {out}: missing or incomplete, although it was published"
        return
    at = 0
    for (shard, _), row in records.latest():
        if row.tally is None:
            yield f"I7 shard {shard}: published without results"
            continue
        path, start = (out / f"part-{shard:05d}.jsonl", 0) if out.is_dir() else (out, at)
        if not path.exists() or _digest(path, start, row.tally.bytes) != row.tally.sha256:
            yield f"I7 {path}: the answers of shard {shard} are not those that were verified"
        at += row.tally.bytes
    if not out.is_dir() and out.stat().st_size != at:
        yield f"I7 {out}: has {out.stat().st_size} bytes instead of {at}"


def _leftovers(out: Path, state: Path) -> Iterator[str]:
    """I16: intermediate files are removed."""
    left = [*state.glob("shards/*/*"), *state.glob("results/*/*.part"), *state.glob("*/*/*.tmp")]
    left += out.parent.glob(f"{out.name}*.tmp")
    yield from (f"I16 {path}: left behind" for path in left)


def _missing(out: Path) -> bool:
    return not ((out / "_SUCCESS").is_file() if out.is_dir() else out.is_file())


def _written(out: Path) -> float:
    return ((out / "_SUCCESS") if out.is_dir() else out).stat().st_mtime


def _digest(path: Path, start: int, size: int | None) -> str:
    digest, left = hashlib.sha256(), path.stat().st_size - start if size is None else size
    with path.open("rb") as file:
        file.seek(start)
        while left and (block := file.read(min(left, 1 << 20))):
            digest.update(block)
            left -= len(block)
    return digest.hexdigest()
