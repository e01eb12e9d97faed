"""The same command once more: with its answers among its input, after a start that was refused, from elsewhere."""

from __future__ import annotations

import json
import os
import signal
from typing import TYPE_CHECKING

import pytest

from tests.cli.terminals import request_line

if TYPE_CHECKING:
    from pathlib import Path
    from subprocess import CompletedProcess

    from tests.cli.terminals import Terminal

LOCAL = ("--service", "local", "--model", "m")
GOOD = b"".join(map(request_line, range(20)))
BAD = GOOD + b"nonsense\n" * 13


def put(terminal: Terminal, name: str, content: bytes) -> Path:
    path = terminal.directory / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content)
    return path


def answered(done: CompletedProcess[str]) -> int:
    assert done.returncode == 0, done.stderr
    count: int = json.loads(done.stdout)["answered"]
    return count


@pytest.mark.parametrize(
    ("given", "out"), [("d", "d/o.jsonl"), ("d/*.jsonl", "d/o.jsonl"), ("d/**", "d/o.jsonl"), ("**/*", "d/o/")]
)
def test_the_runs_own_files_are_no_input_of_it(terminal: Terminal, given: str, out: str) -> None:
    """Answers, lists, parts and state directory, where a directory or a glob brings them in."""
    put(terminal, "d/a.jsonl", GOOD)
    call = ("run", given, *LOCAL, "--out", out, "--max-shard-requests", "7", "--json")
    assert answered(terminal(*call)) == 20
    assert answered(terminal(*call)) == 20


def test_parts_beside_the_input_are_no_input(terminal: Terminal) -> None:
    """Also when some of them stand there already, and their mark, and the run is not complete."""
    put(terminal, "d/a.jsonl", GOOD)
    call = ("run", "d", *LOCAL, "--out", "d/", "--max-shard-requests", "7")
    killed = terminal(*call, PACKTRAIN_FAILPOINTS="output.rename.after=kill@2")
    assert killed.returncode == -signal.SIGKILL
    assert terminal(*call).returncode == 0
    assert terminal(*call).returncode == 0
    assert len(list((terminal.directory / "d").glob("part-*.jsonl"))) == 3


def test_what_the_user_names_himself_is_never_written_over(terminal: Terminal) -> None:
    """And a file that was there before the run, and so is not of it, is not left out in silence."""
    put(terminal, "d/o.jsonl", GOOD)
    named = terminal("run", "d/o.jsonl", *LOCAL, "--out", "d/o.jsonl")
    assert (named.returncode, "is an input, and would be written over" in named.stderr) == (3, True), named.stderr
    put(terminal, "d/a.jsonl", GOOD)
    found = terminal("run", "d", *LOCAL, "--out", "d/o.jsonl")
    assert (found.returncode, "is not of this run" in found.stderr) == (3, True), found.stderr


def test_an_input_that_came_later_is_still_refused(terminal: Terminal) -> None:
    """Only what the run makes is left out, not what is called like it."""
    put(terminal, "d/a.jsonl", GOOD)
    call = ("run", "d", *LOCAL, "--out", "d/o.jsonl")
    assert terminal(*call).returncode == 0
    put(terminal, "d/o2.jsonl", GOOD)
    done = terminal(*call)
    assert (done.returncode, "o2.jsonl is not what this run was started with" in done.stderr) == (3, True)


def test_the_list_of_a_refused_start_is_no_input(terminal: Terminal) -> None:
    """It lies in the directory that is given now; the run goes on over all of its files."""
    put(terminal, "d/a.jsonl", BAD)
    refused = terminal("run", "d/a.jsonl", *LOCAL, "--out", "d/o", "--max-rejects", "2")
    assert (refused.returncode, (terminal.directory / "d/o.rejected.jsonl").exists()) == (3, True), refused.stderr
    put(terminal, "d/b.jsonl", b"".join(map(request_line, range(20, 30))))
    done = terminal("run", "d", *LOCAL, "--out", "d/o", "--json")
    assert done.returncode == 1, done.stderr
    assert (json.loads(done.stdout)["answered"], json.loads(done.stdout)["rejected"]) == (30, 13)


def test_the_list_of_a_refused_start_goes_when_there_is_nothing_to_list(terminal: Terminal) -> None:
    """Its lines are no longer in the input."""
    put(terminal, "s.jsonl", BAD)
    call = ("run", "s.jsonl", *LOCAL, "--out", "s")
    listed = terminal.directory / "s.rejected.jsonl"
    refused = terminal(*call, "--max-rejects", "2")
    assert (refused.returncode, len(listed.read_bytes().splitlines())) == (3, 13), refused.stderr
    put(terminal, "s.jsonl", GOOD)
    done = terminal(*call)
    assert (done.returncode, listed.exists()) == (0, False), done.stderr


def test_a_list_that_is_not_as_the_run_wrote_it_stays(terminal: Terminal) -> None:
    """It may be somebody else's."""
    put(terminal, "s.jsonl", BAD)
    call = ("run", "s.jsonl", *LOCAL, "--out", "s")
    assert terminal(*call, "--max-rejects", "2").returncode == 3
    listed = put(terminal, "s.rejected.jsonl", b"notes of mine\n")
    put(terminal, "s.jsonl", GOOD)
    assert terminal(*call).returncode == 0
    assert listed.read_bytes() == b"notes of mine\n"


@pytest.mark.parametrize(("first", "gone"), [("p1.jsonl", False), ("p1.jsonl", True), ("*.jsonl", True), (".", True)])
def test_an_input_is_known_from_wherever_it_is_named(terminal: Terminal, first: str, gone: bool) -> None:
    """The same file, by another name from another directory; and when it is gone, it is not missed."""
    source = put(terminal, "gg/p1.jsonl", GOOD)
    parent, terminal.directory = terminal.directory, terminal.directory / "gg"
    assert terminal("run", first, *LOCAL, "--out", "pp").returncode == 0
    terminal.directory = parent
    if gone:
        source.unlink()
    done = terminal("run", os.path.normpath(f"gg/{first}"), *LOCAL, "--out", "gg/pp")
    assert done.returncode == 0, done.stderr


def test_a_run_half_read_goes_on_from_another_directory(terminal: Terminal) -> None:
    """Its shards were cut from the same file."""
    put(terminal, "gg/p1.jsonl", GOOD + b"nonsense\n")
    parent, terminal.directory = terminal.directory, terminal.directory / "gg"
    limits = ("--max-shard-requests", "7")
    assert terminal("run", "p1.jsonl", *LOCAL, "--out", "pp", *limits, "--max-rejects", "0").returncode == 3
    terminal.directory = parent
    done = terminal("run", "gg/p1.jsonl", *LOCAL, "--out", "gg/pp", *limits, "--json")
    assert (done.returncode, json.loads(done.stdout)["answered"]) == (1, 20), done.stderr
