"""Requests on disk, the local service in this process, and its record of what really happened."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from packtrain import Service

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path


def request_line(number: int, text: str | None = None) -> dict[str, Any]:
    parts = [{"text": text or f"prompt number {number}"}]
    return {"key": f"key-{number}", "request": {"contents": [{"parts": parts}]}}


def write_lines(path: Path, rows: Iterable[dict[str, Any]]) -> Path:
    with path.open("w") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)
    return path


def read_lines(path: Path) -> list[dict[str, Any]]:
    with path.open() as file:
        return [json.loads(line) for line in file]


def answer_text(row: dict[str, Any]) -> str:
    text: str = row["response"]["candidates"][0]["content"]["parts"][0]["text"]
    return text


class Place:
    """Where one test keeps its files, and the service that it speaks to."""

    def __init__(self, root: Path, origin: str) -> None:
        self.root = root
        self.origin = origin
        self.out = root / "out.jsonl"
        self.state = root / "state"

    @property
    def service(self) -> Service:
        return self.service_at(self.origin)

    def service_at(self, origin: str) -> Service:
        return Service(origin=origin, poll=(0.02, 0.2), settle=0.3)

    def requests(self, count: int, name: str = "in.jsonl") -> Path:
        return write_lines(self.root / name, map(request_line, range(count)))

    def truth(self, what: str | None = None) -> list[dict[str, Any]]:
        entries = read_lines(self.root / "service" / "truth.jsonl")
        return [entry for entry in entries if what is None or entry["what"] == what]
