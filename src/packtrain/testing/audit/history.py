"""History of a service from its truth.jsonl, with the contradictions in it."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import msgspec
from msgspec import Struct, field

if TYPE_CHECKING:
    from pathlib import Path


class Entry(Struct, frozen=True, rename={"display_name": "displayName"}):
    """One line of truth.jsonl. ``at`` is in Unix seconds; the other members belong to some kinds only."""

    at: float
    what: str
    name: str = ""
    display_name: str | None = None
    model: str | None = None
    file: str | None = None
    bytes: int | None = None
    sha256: str | None = None
    state: str | None = None
    result: str | None = None


class Content(Struct, frozen=True):
    """Content of a file, by length and digest."""

    bytes: int
    sha256: str


class Life(Struct, kw_only=True):
    """The life of a job."""

    name: str
    display_name: str
    model: str
    file: str
    #: Content of the input file at the creation; None when it had been deleted.
    content: Content | None
    created: float
    cancelled: float | None = None
    #: Time and state of its end.
    ended: float | None = None
    state: str | None = None
    deleted: float | None = None


class History(Struct):
    """Existing files, and all jobs ever created; ``impossible`` lists contradictions."""

    files: dict[str, Content] = field(default_factory=dict)
    jobs: dict[str, Life] = field(default_factory=dict)
    #: Number of finished files per display name.
    finished: dict[str, int] = field(default_factory=dict)
    impossible: list[str] = field(default_factory=list)

    def add(self, entry: Entry) -> None:
        match entry.what:
            case "file_finalised":
                self.finished[entry.display_name or ""] = self.finished.get(entry.display_name or "", 0) + 1
                self._file(entry, entry.name)
            case "file_changed":
                self.files[entry.name] = Content(entry.bytes or 0, entry.sha256 or "")
            case "file_deleted":
                self._gone(entry, entry.name)
            case "batch_created":
                self._created(entry)
            case "batch_cancelled":
                if life := self._known(entry):
                    life.cancelled = entry.at
            case "batch_finished":
                self._ended(entry)
            case "batch_errors":
                self._file(entry, entry.file or "")
            case "batch_deleted":
                self._deleted(entry)

    def _file(self, entry: Entry, name: str) -> None:
        if name in self.files:
            self.impossible.append(f"{name}: finished a second time without a delete in between")
        self.files[name] = Content(entry.bytes or 0, entry.sha256 or "")

    def _gone(self, entry: Entry, name: str) -> None:
        if self.files.pop(name, None) is None:
            self.impossible.append(f"{name}: {entry.what} at {entry.at}, when there was no such file")

    def _created(self, entry: Entry) -> None:
        if entry.name in self.jobs:
            self.impossible.append(f"{entry.name}: created twice")
        self.jobs[entry.name] = Life(
            name=entry.name,
            display_name=entry.display_name or "",
            model=entry.model or "",
            file=entry.file or "",
            content=self.files.get(entry.file or ""),
            created=entry.at,
        )

    def _ended(self, entry: Entry) -> None:
        life = self._known(entry)
        if life and life.ended is not None:
            self.impossible.append(f"{entry.name}: ended twice, as {life.state} and as {entry.state}")
        if life:
            life.ended, life.state = entry.at, entry.state
        if entry.result:
            self._file(entry, entry.result)

    def _deleted(self, entry: Entry) -> None:
        if life := self._known(entry):
            life.deleted = entry.at
        if entry.result:
            self._gone(entry, entry.result)

    def _known(self, entry: Entry) -> Life | None:
        life = self.jobs.get(entry.name)
        if life is None or life.deleted is not None:
            self.impossible.append(f"{entry.name}: {entry.what} at {entry.at}, when there was no such job")
        return life


def read_history(directory: Path) -> History:
    """History of the service in ``directory``. Torn lines and invalid JSON are listed in ``impossible``."""
    history = History()
    decoder = msgspec.json.Decoder(Entry)
    for number, line in enumerate(_read_lines(directory / "truth.jsonl"), 1):
        try:
            history.add(decoder.decode(line))
        except msgspec.DecodeError as error:
            history.impossible.append(f"truth.jsonl:{number}: {error}")
        if not line.endswith(b"\n"):
            history.impossible.append(f"truth.jsonl:{number}: torn")
    return history


def _read_lines(path: Path) -> list[bytes]:
    """All lines. Reads again while a running service completes its last line."""
    data = path.read_bytes()
    while not data.endswith(b"\n") and (longer := path.read_bytes()) != data:
        data = longer
    return io.BytesIO(data).readlines()
