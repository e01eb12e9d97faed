"""Audit of a local service's directory against its truth.jsonl.

The service must have stopped after a clean start: a killed one leaves repairs to its next start.
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
    """Findings about ``directory``. Reads every byte, changes nothing."""
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
    """Opens a copy, since even reading would change the files."""
    with tempfile.TemporaryDirectory() as copy:
        for path in directory.glob("service.db*"):
            shutil.copy(path, copy)
        with closing(sqlite3.connect(Path(copy) / "service.db")) as connection:
            yield connection


def _files(history: History, database: sqlite3.Connection, blobs: Path) -> Iterator[str]:
    rows = {name: (blob, Content(size, sha256)) for name, blob, size, sha256 in database.execute(_FILES)}
    for name in history.files.keys() | rows.keys():
        logged, (blob, stored) = history.files.get(name), rows.get(name, ("", None))
        if stored is None:
            yield f"{name}: lost, finished and never deleted"
        elif logged is None:
            yield f"{name}: stored, but never finished, or deleted"
        elif logged != stored:
            yield f"{name}: stored as {stored}, finished as {logged}"
        elif _content(blobs / blob) != logged:
            yield f"{name}: the content of {blob} is not that of the finished file"


def _jobs(history: History, database: sqlite3.Connection) -> Iterator[str]:
    rows = {name: (state, ended) for name, state, ended in database.execute(_JOBS)}
    logged = {name: life for name, life in history.jobs.items() if life.deleted is None}
    for name in logged.keys() | rows.keys():
        if name not in rows:
            yield f"{name}: lost, created and never deleted"
            continue
        state, ended = rows[name]
        if name not in logged:
            yield f"{name}: stored, but never created, or deleted"
        elif (ended is None) != (logged[name].ended is None) or (ended is not None and logged[name].state != state):
            yield f"{name}: stored as {state}, logged as {logged[name].state or 'not ended'}"


def _left_over(database: sqlite3.Connection, blobs: Path) -> Iterator[str]:
    held = {blob for (blob,) in database.execute("SELECT blob FROM held")}
    present = {path.name for path in blobs.iterdir()}
    yield from (f"blobs/{blob}: missing" for blob in held - present)
    yield from (f"blobs/{blob}: unreferenced" for blob in present - held)


def _answers(database: sqlite3.Connection, blobs: Path) -> Iterator[str]:
    """Each line of an existing input has one answer under its key."""
    for name, asked, answered in database.execute(_ANSWERED):
        if not ((blobs / asked).is_file() and (blobs / answered).is_file()):
            continue  # reported by _left_over
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
