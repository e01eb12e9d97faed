"""scripts/backfill: start again while the run says 75, once at a time, and stop when asked to.

The run is stood in for by a shell script, since only how it ends matters here.
"""

from __future__ import annotations

import shutil
import signal
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "scripts" / "backfill"
PATIENCE = 60.0
#: Waits of 60 ms between two starts.
QUICKLY = ("--max-wait", "0.001")


class Checkout:
    """A directory laid out as a checkout, whose packtrain runs ``script``."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.starts = root / "starts"
        (root / "scripts").mkdir()
        shutil.copy(SCRIPT, root / "scripts" / "backfill")
        self._program(root / "scripts" / "setup", "exit 0")

    def packtrain(self, script: str) -> None:
        path = self.root / ".venv" / "bin" / "packtrain"
        path.parent.mkdir(parents=True)
        self._program(path, f'echo "$@" >>{self.starts}\n{script}')

    def start(self, *arguments: str) -> subprocess.Popen[bytes]:
        command = [str(self.root / "scripts" / "backfill"), *QUICKLY, *arguments]
        return subprocess.Popen(command, cwd=self.root, stdout=subprocess.PIPE, stderr=subprocess.PIPE)

    def run(self, *arguments: str) -> tuple[int, str]:
        process = self.start(*arguments)
        _, told = process.communicate(timeout=PATIENCE)
        return process.returncode, told.decode()

    def count(self) -> int:
        return self.starts.read_text().count("\n")

    def _program(self, path: Path, script: str) -> None:
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    return Checkout(tmp_path)


def test_it_starts_again_while_the_run_says_75(checkout: Checkout) -> None:
    """With the same arguments each time, until the end."""
    checkout.packtrain(f'[ "$(wc -l <{checkout.starts})" -ge 3 ] || exit 75')
    status, told = checkout.run("in.jsonl", "--out", "o", "--model", "m")
    assert status == 0
    assert checkout.starts.read_text() == "run in.jsonl --out o --model m\n" * 3
    assert told.count("not finished") == 2


@pytest.mark.parametrize("status", [0, 1, 3, 4, 5, 6, 70])
def test_every_other_exit_code_is_handed_on(checkout: Checkout, status: int) -> None:
    """A second start would not change it."""
    checkout.packtrain(f"exit {status}")
    assert checkout.run("in.jsonl", "--out", "o")[0] == status
    assert checkout.count() == 1


def test_a_run_that_was_killed_is_started_again(checkout: Checkout) -> None:
    """As the system does when memory is short."""
    checkout.packtrain(f'[ "$(wc -l <{checkout.starts})" -ge 2 ] || kill -9 $$')
    assert checkout.run("in.jsonl", "--out", "o")[0] == 0
    assert checkout.count() == 2


def test_a_second_one_for_the_same_output_ends_with_0(checkout: Checkout) -> None:
    """And starts nothing; for another output it works."""
    checkout.packtrain('echo ready >&2; case "$*" in *first*) read -r _ <fifo;; esac')
    (checkout.root / "fifo").unlink(missing_ok=True)
    subprocess.run(["mkfifo", "fifo"], cwd=checkout.root, check=True)  # noqa: S607 - found as in any shell
    first = checkout.start("in.jsonl", "--out", "first")
    assert first.stderr is not None
    assert first.stderr.readline() == b"ready\n"
    status, told = checkout.run("in.jsonl", "--out=first")
    assert (status, checkout.count()) == (0, 1)
    assert "another one is at work" in told
    assert checkout.run("in.jsonl", "--out", "second")[0] == 0
    (checkout.root / "fifo").write_text("go on\n")
    first.communicate(timeout=PATIENCE)
    assert first.returncode == 0


def test_sigterm_reaches_the_run(checkout: Checkout) -> None:
    """The run ends in its own way, and is not started again."""
    checkout.packtrain("trap 'echo drained >&2; exit 75' TERM; echo ready >&2; while :; do sleep 0.1; done")
    process = checkout.start("in.jsonl", "--out", "o")
    assert process.stderr is not None
    assert process.stderr.readline() == b"ready\n"
    process.send_signal(signal.SIGTERM)
    _, told = process.communicate(timeout=PATIENCE)
    assert process.returncode == 75
    assert told == b"drained\n"
    assert checkout.count() == 1


def test_after_its_hours_it_stops_the_run(checkout: Checkout) -> None:
    """A job of a batch scheduler has to end before it is ended."""
    checkout.packtrain("trap 'exit 75' TERM; while :; do sleep 0.1; done")
    assert checkout.run("in.jsonl", "--out", "o", "--max-hours", "0.0001")[0] == 75
    assert checkout.count() == 1


def test_a_run_that_finishes_while_it_is_stopped_counts(checkout: Checkout) -> None:
    """What it says last is handed on."""
    checkout.packtrain("trap 'exit 0' TERM; while :; do sleep 0.1; done")
    assert checkout.run("in.jsonl", "--out", "o", "--max-hours", "0.0001")[0] == 0


def test_a_setup_that_fails_is_tried_again_later(checkout: Checkout) -> None:
    """The network may be back by then; 1 would say that the backfill is complete."""
    (checkout.root / "scripts" / "setup").write_text("#!/bin/sh\nexit 1\n")
    assert checkout.run("in.jsonl", "--out", "o")[0] == 75


def test_without_an_output_it_says_what_is_missing(checkout: Checkout) -> None:
    """Two backfills are told apart by it."""
    checkout.packtrain("exit 0")
    status, told = checkout.run("in.jsonl")
    assert status == 2
    assert "--out" in told
