"""Whether the directory of a local service holds what its truth.jsonl says, all of it and nothing else.

The service must have stopped after a clean start: one that was killed leaves a last line and garbage to be healed.
"""

from __future__ import annotations

import hashlib
import shutil
import sqlite3
import tempfile
from collections import Counter
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
from msgspec import Raw, Struct

from .history import Content, History, read_history

if TYPE_CHECKING:
    from collections.abc import Iterator


def audit_service(directory: Path) -> list[str]:
    """What is wrong in ``directory``, every byte of it read; nothing is changed there."""
    history = read_history(directory)
    with _database(directory) as database:
        return [
            *history.impossible,
            *_files(history, database, directory / "blobs"),
            *_jobs(history, database),
            *_left_over(database, directory / "blobs"),
            *_answers(database, directory / "blobs"),
        ]


@contextmanager
def _database(directory: Path) -> Iterator[sqlite3.Connection]:
    """A copy: even reading would change the evidence."""
    with tempfile.TemporaryDirectory() as copy:
        for path in directory.glob("service.db*"):
            shutil.copy(path, copy)
        with closing(sqlite3.connect(Path(copy) / "service.db")) as connection:
            yield connection


def _files(history: History, database: sqlite3.Connection, blobs: Path) -> Iterator[str]:
    rows = {name: (blob, Content(size, sha256)) for name, blob, size, sha256 in database.execute(_FILES)}
    for name in history.files.keys() | rows.keys():
        told, (blob, stored) = history.files.get(name), rows.get(name, ("", None))
        if stored is None:
            yield f"{name}: lost, finished and never deleted"
        elif told is None:
            yield f"{name}: stored, but never finished, or deleted"
        elif told != stored:
            yield f"{name}: stored as {stored}, finished as {told}"
        elif _content(blobs / blob) != told:
            yield f"{name}: its bytes in {blob} are not those that were finished"


def _jobs(history: History, database: sqlite3.Connection) -> Iterator[str]:
    rows = {name: (state, ended) for name, state, ended in database.execute(_JOBS)}
    there = {name: life for name, life in history.jobs.items() if life.deleted is None}
    for name in there.keys() | rows.keys():
        if name not in rows:
            yield f"{name}: lost, created and never deleted"
            continue
        state, ended = rows[name]
        if name not in there:
            yield f"{name}: stored, but never created, or deleted"
        elif (ended is None) != (there[name].ended is None) or (ended is not None and there[name].state != state):
            yield f"{name}: stored as {state}, told as {there[name].state or 'not ended'}"


def _left_over(database: sqlite3.Connection, blobs: Path) -> Iterator[str]:
    held = {blob for (blob,) in database.execute("SELECT blob FROM held")}
    there = {path.name for path in blobs.iterdir()}
    yield from (f"blobs/{blob}: needed, and not there" for blob in held - there)
    yield from (f"blobs/{blob}: there, and needed by nobody" for blob in there - held)


def _answers(database: sqlite3.Connection, blobs: Path) -> Iterator[str]:
    """Each line of an input that is still there has one answer, under its key."""
    for name, asked, answered in database.execute(_ANSWERED):
        if not ((blobs / asked).is_file() and (blobs / answered).is_file()):
            continue  # said already
        questions, answers = _keys(blobs / asked), _keys(blobs / answered)
        if missing := questions - answers:
            yield f"{name}: {missing.total()} lines without an answer, one has the key {next(iter(missing))!r}"
        if duplicate := answers - questions:
            yield f"{name}: {duplicate.total()} answers too many, one has the key {next(iter(duplicate))!r}"


class _Line(Struct):
    key: Raw = Raw()


_decode = msgspec.json.Decoder(_Line).decode


def _keys(path: Path) -> Counter[bytes]:
    with path.open("rb") as file:
        return Counter(_key(line) for line in file if not line.isspace())


def _key(line: bytes) -> bytes:
    try:
        return bytes(_decode(line).key)
    except msgspec.DecodeError:
        return line


def _content(path: Path) -> Content | None:
    if not path.is_file():
        return None
    with path.open("rb") as file:
        return Content(path.stat().st_size, hashlib.file_digest(file, "sha256").hexdigest())


_FILES = "SELECT name, blob, bytes, sha256 FROM file"
_JOBS = "SELECT name, state, ended FROM job"
_ANSWERED = """
    SELECT job.name, asked.blob, answered.blob
    FROM job JOIN file AS asked ON asked.name = job.file JOIN file AS answered ON answered.name = job.result
    WHERE job.state = 'succeeded' AND job.name NOT IN (SELECT name FROM openai_batch)
"""
