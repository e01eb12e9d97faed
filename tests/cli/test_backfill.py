"""``packtrain backfill``: start again while the run ends with 75, once at a time, and stop when asked to.

The run is stood in for by a shell script, since only how it ends matters here.
"""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.cli.terminals import request_line

if TYPE_CHECKING:
    from tests.cli.terminals import Terminal

SCRIPT = Path(__file__).parents[2] / "scripts" / "backfill"
PATIENCE = 100.0
#: Waits of 60 ms between two starts; the program to start, and the hours, come before the arguments of the run.
REPEAT = """
import sys
from packtrain.cli import exits
from packtrain.cli.backfill import repeat
program, hours, *arguments = sys.argv[1:]
try:
    sys.exit(repeat([program, "run"], arguments, seconds=float(hours) * 3600, longest=0.06))
except exits.UsageError as error:
    sys.exit(f"{exits.code(error)} {error}")
"""


class Stage:
    """A directory in which ``script`` stands in for packtrain."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.starts = root / "starts"
        self.program = root / ".venv" / "bin" / "packtrain"

    def packtrain(self, script: str) -> None:
        self.program.parent.mkdir(parents=True)
        self.write(self.program, f'echo "$@" >>{self.starts}\n{script}')

    def start(self, *arguments: str, hours: str = "inf") -> subprocess.Popen[bytes]:
        command = [sys.executable, "-c", REPEAT, str(self.program), hours, *arguments]
        return subprocess.Popen(command, cwd=self.root, stdout=subprocess.PIPE, stderr=subprocess.PIPE)

    def run(self, *arguments: str, hours: str = "inf") -> tuple[int, str]:
        process = self.start(*arguments, hours=hours)
        _, told = process.communicate(timeout=PATIENCE)
        return process.returncode, told.decode()

    def count(self) -> int:
        return self.starts.read_text().count("\n")

    def write(self, path: Path, script: str) -> None:
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    return Stage(tmp_path)


def test_it_starts_again_while_the_run_says_75(stage: Stage) -> None:
    """With the same arguments each time, until the end."""
    stage.packtrain(f'[ "$(wc -l <{stage.starts})" -ge 3 ] || exit 75')
    status, told = stage.run("in.jsonl", "--out", "o", "--model", "m")
    assert status == 0
    assert stage.starts.read_text() == "run in.jsonl --out o --model m\n" * 3
    assert told.count("not finished") == 2


@pytest.mark.parametrize("status", [0, 1, 3, 4, 5, 6, 70])
def test_every_other_exit_code_is_handed_on(stage: Stage, status: int) -> None:
    """A second start would not change it."""
    stage.packtrain(f"exit {status}")
    assert stage.run("in.jsonl", "--out", "o")[0] == status
    assert stage.count() == 1


def test_a_run_that_was_killed_is_started_again(stage: Stage) -> None:
    """As the system does when memory is short."""
    stage.packtrain(f'[ "$(wc -l <{stage.starts})" -ge 2 ] || kill -9 $$')
    assert stage.run("in.jsonl", "--out", "o")[0] == 0
    assert stage.count() == 2


def test_a_second_one_for_the_same_output_ends_with_0(stage: Stage) -> None:
    """And starts nothing; for another output it works."""
    stage.packtrain('echo ready >&2; case "$*" in *first*) read -r _ <fifo;; esac')
    (stage.root / "fifo").unlink(missing_ok=True)
    subprocess.run(["mkfifo", "fifo"], cwd=stage.root, check=True)  # noqa: S607 - found as in any shell
    first = stage.start("in.jsonl", "--out", "first")
    assert first.stderr is not None
    assert first.stderr.readline() == b"ready\n"
    status, told = stage.run("in.jsonl", "--out=first")
    assert (status, stage.count()) == (0, 1)
    assert "another one is at work" in told
    assert stage.run("in.jsonl", "--out", "second")[0] == 0
    (stage.root / "fifo").write_text("go on\n")
    first.communicate(timeout=PATIENCE)
    assert first.returncode == 0


def test_sigterm_reaches_the_run(stage: Stage) -> None:
    """The run ends in its own way, and is not started again."""
    stage.packtrain("trap 'echo drained >&2; exit 75' TERM; echo ready >&2; while :; do sleep 0.1; done")
    process = stage.start("in.jsonl", "--out", "o")
    assert process.stderr is not None
    assert process.stderr.readline() == b"ready\n"
    process.send_signal(signal.SIGTERM)
    _, told = process.communicate(timeout=PATIENCE)
    assert process.returncode == 75
    assert told == b"drained\n"
    assert stage.count() == 1


def test_after_its_hours_it_stops_the_run(stage: Stage) -> None:
    """A job of a batch scheduler has to end before it is ended."""
    stage.packtrain("trap 'exit 75' TERM; while :; do sleep 0.1; done")
    assert stage.run("in.jsonl", "--out", "o", hours="0.0001")[0] == 75
    assert stage.count() == 1


def test_a_run_that_finishes_while_it_is_stopped_counts(stage: Stage) -> None:
    """What it says last is handed on."""
    stage.packtrain("trap 'exit 0' TERM; while :; do sleep 0.1; done")
    assert stage.run("in.jsonl", "--out", "o", hours="0.0001")[0] == 0


def test_without_an_output_it_says_what_is_missing(stage: Stage) -> None:
    """Two backfills are told apart by it."""
    stage.packtrain("exit 0")
    assert "2 give --out OUT" in stage.run("in.jsonl")[1]


@pytest.mark.parametrize(("setup", "status", "started"), [("exit 0", 0, True), ("exit 1", 75, False)])
def test_the_script_sets_up_and_calls_the_command(stage: Stage, setup: str, status: int, started: bool) -> None:
    """A set-up that fails is tried again later: 1 would say that the run is complete."""
    stage.packtrain("exit 0")
    (stage.root / "scripts").mkdir()
    shutil.copy(SCRIPT, stage.root / "scripts" / "backfill")
    stage.write(stage.root / "scripts" / "setup", setup)
    done = subprocess.run([stage.root / "scripts" / "backfill", "in.jsonl", "-o", "o"], cwd=stage.root, check=False)
    assert (done.returncode, stage.starts.exists()) == (status, started)
    assert not started or stage.starts.read_text() == "backfill in.jsonl -o o\n"


def test_the_command_hands_its_arguments_on(terminal: Terminal) -> None:
    """Options of its own are taken wherever they stand, all others and the lone dash go to the run."""
    line = request_line(1)
    given = ["--max-wait", "1", "-", "-m", "m", "--service", "local", "-o", "out.jsonl", "--max-hours", "1"]
    done = terminal("backfill", *given, stdin=line)
    assert (done.returncode, done.stderr.count("Traceback")) == (0, 0)
    assert (terminal.directory / "out.jsonl").exists()
    assert terminal("backfill", "in.jsonl").returncode == 2
