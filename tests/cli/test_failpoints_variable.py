"""PACKTRAIN_FAILPOINTS, as somebody would give it."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

import pytest

from tests.flow.place import request_line, write_lines

if TYPE_CHECKING:
    from tests.cli.terminals import Terminal

RUN = ("run", "in.jsonl", "--model", "m", "--out", "out.jsonl", "--service", "local")


@pytest.mark.parametrize("text", ["create.post=kill", "create.post.after=explode", "x.after=raise:ENOTHING"])
def test_what_is_not_understood_is_wrong_usage(terminal: Terminal, text: str) -> None:
    """And nothing is begun."""
    done = terminal(*RUN, PACKTRAIN_FAILPOINTS=text)
    assert done.returncode == 2
    assert done.stderr.startswith("packtrain: PACKTRAIN_FAILPOINTS: ")
    assert list(terminal.directory.iterdir()) == []


def test_a_run_that_was_killed_behind_its_create_goes_on_with_the_same_job(terminal: Terminal) -> None:
    """The example of the documents."""
    write_lines(terminal.directory / "in.jsonl", map(request_line, range(3)))
    assert terminal(*RUN, PACKTRAIN_FAILPOINTS="create.post.after=kill@1").returncode == -signal.SIGKILL
    assert terminal(*RUN, "--no-wait").returncode == 75
    service = terminal.directory / "out.jsonl.packtrain" / "service"
    assert (service / "truth.jsonl").read_text().count('"batch_created"') == 1
    assert terminal(*RUN).returncode == 0
    assert not service.exists()


def test_failpoints_that_were_never_reached_are_told(terminal: Terminal) -> None:
    """A name that no effect has, and a time that did not come; the command ends as ever."""
    write_lines(terminal.directory / "in.jsonl", map(request_line, range(3)))
    points = "creat.post.after=kill;create.post.after=delay:1;create.post.before=kill@2"
    done = terminal(*RUN, PACKTRAIN_FAILPOINTS=points)
    assert done.returncode == 0
    told = [line for line in done.stderr.splitlines() if "never reached" in line]
    assert told == [
        "PACKTRAIN_FAILPOINTS: creat.post.after=kill was never reached",
        "PACKTRAIN_FAILPOINTS: create.post.before=kill@2 was never reached",
    ]
