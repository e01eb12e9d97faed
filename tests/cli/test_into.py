"""``run --into``: fixed lines added to the output of a complete run."""

from __future__ import annotations

import json
import signal
from typing import TYPE_CHECKING

import pytest

from packtrain.cli import perform
from packtrain.cli.exits import Exit
from tests.cli.terminals import Terminal, request_line

if TYPE_CHECKING:
    from pathlib import Path

RUN = ("run", "in.jsonl", "--service", "local", "--model", "m", "--out", "out.jsonl")
INTO = ("run", "fixed.jsonl", "--into", "out.jsonl")


def keys(path: Path) -> list[str]:
    return [json.loads(line)["key"] for line in path.read_bytes().splitlines()]


@pytest.mark.parametrize("failpoints", ["", "manifest.CreateIntended.after=kill@1", "output.rename.after=kill@1"])
def test_fixed_lines_are_added_and_a_kill_changes_nothing(terminal: Terminal, failpoints: str) -> None:
    """The service is that of the run, and nothing but the input has to be named."""
    good = [request_line(number) for number in range(3)]
    (terminal.directory / "in.jsonl").write_bytes(b"".join([good[0], b'{"key": "k1", "request": {\n', good[2]]))
    assert terminal(*RUN).returncode == 1
    (terminal.directory / "fixed.jsonl").write_bytes(good[1] + good[2])
    if failpoints:
        killed = terminal(*INTO, PACKTRAIN_FAILPOINTS=failpoints)
        assert killed.returncode == -signal.SIGKILL
    done = terminal(*INTO)
    assert done.returncode == 0, done.stderr
    assert "complete: 3 of 3 lines answered, 1 skipped because they had answers" in done.stdout
    assert keys(terminal.directory / "out.jsonl") == ["k0", "k2", "k1"]
    assert not (terminal.directory / "out.jsonl.rejected.jsonl").exists()
    again = terminal(*RUN)
    assert (again.returncode, "already complete" in again.stdout) == (0, True)
    assert keys(terminal.directory / "out.jsonl") == ["k0", "k2", "k1"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["run", "a.jsonl", "--model", "m", "--out", "o", "--into", "o"], "not both"),
        (["run", "a.jsonl", "--into", "-"], "cannot be standard output"),
        (["run", "a.jsonl", "--model", "m"], "--out is missing"),
        (["run", "a.jsonl", "--out", "o"], "--model is missing"),
    ],
)
def test_one_output_is_named(capsys: pytest.CaptureFixture[str], arguments: list[str], words: str) -> None:
    """A new one with its model, or one that is complete."""
    assert perform(arguments) == Exit.USAGE
    assert words in capsys.readouterr().err
