"""The audit of a service directory finds each kind of damage, and nothing in an intact one."""

from __future__ import annotations

import json
import shutil
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

import anyio
import pytest
from aiohttp import ClientSession

from packtrain.server import serving
from packtrain.testing.audit.service import audit_service
from tests.server.service_calls import Calls, generate_lines

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.fixture(scope="module")
def lived(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of a service with files, a finished job and deleted items."""
    directory = tmp_path_factory.mktemp("lived") / "service"
    anyio.run(_live, directory)
    return directory


async def _live(directory: Path) -> None:
    async with serving(directory) as origin, ClientSession() as session:
        calls = Calls(session, origin)
        await calls.upload(generate_lines(20), name="files/in", displayName="in")
        await calls.ended(await calls.job("files/in", name="kept"))
        gone = await calls.job("files/in", name="gone")
        await calls.ended(gone)
        await calls.call("DELETE", f"/v1beta/{gone}")
        await calls.upload(b"of no use\n", name="files/old")
        await calls.call("DELETE", "/v1beta/files/old")
        await calls.upload(b"again\n", name="files/old")


@pytest.fixture
def directory(lived: Path, tmp_path: Path) -> Path:
    """A copy to damage."""
    copy = tmp_path / "service"
    shutil.copytree(lived, copy)
    return copy


def test_a_sound_directory_has_no_findings(directory: Path) -> None:
    """Deletions, reused names and results are no findings."""
    assert audit_service(directory) == []


def _blob(directory: Path, name: str) -> Path:
    ((blob,),) = _ask(directory, "SELECT blob FROM file WHERE name GLOB ?", name)
    return directory / "blobs" / str(blob)


def _ask(directory: Path, sql: str, *values: object) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(directory / "service.db")) as database, database:
        return database.execute(sql, values).fetchall()


def _rewrite_log(directory: Path, change: Callable[[list[str]], list[str]]) -> None:
    path = directory / "truth.jsonl"
    path.write_text("".join(change(path.read_text().splitlines(keepends=True))))


def _kind(line: str) -> str:
    what = json.loads(line)["what"]
    assert isinstance(what, str)
    return what


def lose_bytes(directory: Path) -> None:
    _blob(directory, "files/in").unlink()


def flip_a_bit(directory: Path) -> None:
    path = _blob(directory, "files/in")
    data = bytearray(path.read_bytes())
    data[100] ^= 1
    path.write_bytes(data)


def lose_a_row(directory: Path) -> None:
    _ask(directory, "DELETE FROM file WHERE name = 'files/old'")


def lose_a_job(directory: Path) -> None:
    _ask(directory, "DELETE FROM job")


def forget_the_end(directory: Path) -> None:
    _ask(directory, "UPDATE job SET state = 'running', ended = NULL")


def leave_garbage(directory: Path) -> None:
    (directory / "blobs" / ("0" * 32)).write_bytes(b"unreferenced")


def answer_a_line_twice(directory: Path) -> None:
    path = _blob(directory, "files/batch-*")
    path.write_bytes(path.read_bytes() + path.read_bytes().splitlines(keepends=True)[0])


def drop_an_answer(directory: Path) -> None:
    path = _blob(directory, "files/batch-*")
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[1:]))


def log_a_job_twice(directory: Path) -> None:
    _rewrite_log(directory, lambda lines: [*lines, *(line for line in lines if _kind(line) == "batch_created")])


def log_a_file_twice(directory: Path) -> None:
    _rewrite_log(directory, lambda lines: [*lines, *(line for line in lines if _kind(line) == "file_finalised")])


def log_no_jobs(directory: Path) -> None:
    _rewrite_log(directory, lambda lines: [line for line in lines if _kind(line) != "batch_created"])


def tear_the_last_line(directory: Path) -> None:
    path = directory / "truth.jsonl"
    path.write_bytes(path.read_bytes()[:-2])


@pytest.mark.parametrize(
    ("damage", "word"),
    [
        (lose_bytes, "not that of the finished file"),
        (flip_a_bit, "not that of the finished file"),
        (lose_a_row, "lost"),
        (lose_a_job, "lost"),
        (forget_the_end, "stored as running"),
        (leave_garbage, "unreferenced"),
        (answer_a_line_twice, "answers too many"),
        (drop_an_answer, "without an answer"),
        (log_a_job_twice, "created twice"),
        (log_a_file_twice, "a second time"),
        (log_no_jobs, "never created"),
        (tear_the_last_line, "torn"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_damage_is_found(directory: Path, damage: Callable[[Path], None], word: str) -> None:
    """Lost, changed, duplicated and left-over data have a finding each."""
    damage(directory)
    assert any(word in finding for finding in audit_service(directory))
