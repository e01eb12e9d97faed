"""Runs of the release 36f42c7: what goes in, where each was killed, and with which options.

Only the standard library is imported, so that the old code can run this module as well.
"""

from __future__ import annotations

import hashlib
import json
import os
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from pathlib import Path

SHARDS, LINES_A_SHARD = 3, 10
#: A whole second, because an archive keeps no fractions. A run refuses an input whose time has changed.
INPUT_TIME = 1_750_000_000


class Output(NamedTuple):
    """A run that was left alone; its files are kept as digests. ``faults`` are the service's, as TOML."""

    name: str
    options: tuple[str, ...] = ()
    lines: tuple[str, ...] = ()
    faults: str = ""
    out: str = "out.jsonl"


class State(NamedTuple):
    """A run of the plain input that was killed by its failpoints; its directories are kept.

    ``jobs`` is how many jobs each shard has once the run is finished.
    """

    name: str
    failpoints: str
    options: tuple[str, ...] = ()
    faults: str = ""
    jobs: tuple[int, ...] = (1, 1, 1)


def request(key: str, text: str, **more: object) -> str:
    return json.dumps({"key": key, "request": {"contents": [{"parts": [{"text": text}]}], **more}})


def plain_lines() -> list[str]:
    """Good lines, one that is not JSON, and one whose key was used before."""
    lines = [request(f"key-{number}", f"prompt number {number}") for number in range(SHARDS * LINES_A_SHARD)]
    return [*lines[:7], "rubbish", *lines[7:15], request("key-3", "again"), *lines[15:]]


def _with_members() -> list[str]:
    rows = [json.loads(request(f"key-{number}", f"prompt {number}")) for number in range(12)]
    return [json.dumps({"id": number, **row, "note": "näive ☃"}) for number, row in enumerate(rows)]


#: A schema that the local service can't answer: the line fails for good.
_UNANSWERABLE = {"responseMimeType": "application/json", "responseSchema": {"type": "NO SUCH TYPE"}}
_WRONG = ("{", "[]", '{"key":1}', '{"request":{}}', '{"key":"","request":{"contents":[]}}', "\x01", '"text"')
_EMBED = [
    json.dumps({"key": f"key-{number}", "request": {"content": {"parts": [{"text": f"words {number}"}]}}})
    for number in range(12)
]
_MISSING = '[[rules]]\ndo = "results"\nhow = "missing"\nroute = "files.download"\ncalls = [1]\n'

OUTPUTS = (
    Output("plain", lines=tuple(plain_lines())),
    Output("rejected", lines=(*plain_lines()[:4], *_WRONG, *plain_lines()[4:])),
    Output("repeated keys", lines=tuple(plain_lines()[:6] * 3)),
    Output("joined", ("--join",), tuple(_with_members())),
    Output("parts", lines=tuple(plain_lines()), out="out/"),
    Output("failed", lines=(*plain_lines()[:5], request("bad", "x", generationConfig=_UNANSWERABLE))),
    Output("asked again", ("--retries", "1"), tuple(plain_lines()), faults=_MISSING),
    Output("not asked again", ("--retries", "0"), tuple(plain_lines()), faults=_MISSING),
    Output("embeddings", ("--task", "embed"), tuple(_EMBED)),
)

_LOST = "create.post.before=raise:ECONNRESET@1"
_REPLY_LOST = "create.post.after=raise:ECONNRESET@1"
_TWICE = """
[[rules]]
do = "duplicate"
route = "batches.create"
calls = [1]
[[rules]]
do = "drop"
route = "batches.create"
calls = [1]
acted = true
[[scripts]]
jobs = [1, 2]
steps = [{ state = "RUNNING", looks = 4 }]
"""
_OTHER_COUNT = """
[[rules]]
do = "edit"
route = "batches.get"
calls = [1]
member = "metadata.batchStats.requestCount"
value = "7"
"""
_ONE_BY_ONE = ("--uploads", "1")
_QUARANTINE = ("--uploads", "1", "--on-ambiguous", "quarantine")

STATES = (
    State("sealed", "manifest.seal.after=kill@2"),
    State("upload opened", "manifest.UploadOpened.after=kill@1", _ONE_BY_ONE),
    State("file being finalized", "manifest.FinalizeIntended.after=kill@2"),
    State("create intended", "manifest.CreateIntended.after=kill@1", _ONE_BY_ONE),
    State("create sent", "create.post.after=kill@1"),
    State("create ambiguous", f"{_REPLY_LOST};manifest.CreateDoubtful.after=kill@1"),
    State("create lost", f"{_LOST};manifest.CreateDoubtful.after=kill@1"),
    State("revoke intended", f"{_LOST};manifest.FenceIntended.after=kill@1"),
    State("revoked", f"{_LOST};manifest.Fenced.after=kill@1"),
    State("submitted", "manifest.JobKnown.after=kill@3"),
    State("ended", "manifest.JobEnded.after=kill@2"),
    State("landed", "manifest.Landed.after=kill@3"),
    State("to be published", "manifest.publish.before=kill@1"),
    State("published", ""),
    State("quarantined", _LOST, _QUARANTINE),
    State("quarantined with a job", _REPLY_LOST, _QUARANTINE, _OTHER_COUNT),
    State("duplicate job", "manifest.note.after=kill@2", _ONE_BY_ONE, _TWICE, (2, 1, 1)),
    State("asked again", "manifest.CreateIntended.after=kill@4", (), _MISSING, (2, 1, 1)),
)


def write_input(directory: Path, lines: tuple[str, ...]) -> Path:
    path = directory / "in.jsonl"
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    os.utime(path, (INPUT_TIME, INPUT_TIME))
    return path


#: Members that the lists have had since; ``source`` and ``line`` of rejected lines are older.
_LATER = {".rejected.jsonl": {"text", "base64", "length"}, ".failed.jsonl": {"source", "line", "request"}}


def digests(directory: Path) -> dict[str, str]:
    """SHA-256 of the answers as they are, and of the lists of lines without the wording of their reasons, and without
    the members that they did not have."""
    files = [path for path in (*directory.glob("out*.jsonl"), *directory.glob("out/*")) if path.is_file()]
    return {str(path.relative_to(directory)): _digest(path) for path in sorted(files)}


def _digest(path: Path) -> str:
    content = path.read_bytes()
    if later := next((names for ending, names in _LATER.items() if path.name.endswith(ending)), None):
        rows = [{**json.loads(line), "reason": None} for line in content.splitlines()]
        content = json.dumps([{name: row[name] for name in row if name not in later} for row in rows]).encode()
    return hashlib.sha256(content).hexdigest()
