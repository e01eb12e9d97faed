"""Starts that are refused, and what a start says and leaves."""

from __future__ import annotations

import resource
import shutil
from pathlib import Path

import pytest

import packtrain
from packtrain._io.requests import pending_requests
from packtrain.cli import perform
from tests.cli.terminals import request_line

LOCAL = ["--model", "m", "--service", "local"]


@pytest.fixture(autouse=True)
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current directory, with an input and a file of somebody else."""
    monkeypatch.chdir(tmp_path)
    Path("a.jsonl").write_bytes(request_line(0))
    Path("taken").write_text("x")
    Path("taken.d").mkdir()
    Path("taken.d/part-00000.jsonl").write_text("x")
    Path("list.failed.jsonl").write_text("x")
    return tmp_path


@pytest.mark.parametrize(
    ("source", "out"),
    [
        ("missing.jsonl", "new/out"),
        ("a.jsonl", "taken"),
        ("a.jsonl", "taken.d/"),
        ("a.jsonl", "list"),
        ("a.jsonl", "a.jsonl"),
        ("*.none", "out"),
    ],
)
def test_a_start_that_is_refused_leaves_nothing(work: Path, source: str, out: str) -> None:
    """C4: neither a state directory nor one for the output."""
    before = sorted(work.rglob("*"))
    assert perform(["run", source, "--out", out, *LOCAL]) == 3
    assert sorted(work.rglob("*")) == before


def test_the_store_of_the_local_service_goes_with_success(work: Path) -> None:
    """C4: it holds every request and answer once more. A leftover of a kill goes at the next start."""
    run = ["run", "a.jsonl", "--out", "out", *LOCAL]
    assert perform([*run, "--no-wait"]) == 75
    service = work / "out.packtrain" / "service"
    assert service.exists()
    assert perform(run) == 0
    assert not service.exists()
    shutil.copytree("taken.d", service)
    shutil.copytree("taken.d", f"{service}.removed")
    assert perform(run) == 0
    assert not [path.name for path in service.parent.iterdir() if path.name.startswith("service")]


@pytest.mark.parametrize(("former", "present"), [("fence", "revoke"), ("settle", "wait")])
def test_a_former_value_is_taken_with_a_note(capsys: pytest.CaptureFixture[str], former: str, present: str) -> None:
    """On standard error, once."""
    assert perform(["run", "missing.jsonl", "--out", "out", *LOCAL, "--on-ambiguous", former]) == 3
    said = capsys.readouterr().err.splitlines()
    assert said[0] == f"packtrain: --on-ambiguous {former} is called {present} now"
    assert len([line for line in said if "is called" in line]) == 1


def test_requests_that_cannot_be_listed_are_no_reason_to_go_on_without_them(work: Path) -> None:
    """As when no file can be opened any more: the error says so, and the next start finds them."""
    (work / "requests").mkdir()
    assert pending_requests(work) == []
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))
    try:
        with pytest.raises(packtrain.DiskFailed, match="Too many open files"):
            pending_requests(work)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
