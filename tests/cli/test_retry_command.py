"""``packtrain retry``: failed lines asked again from the command line."""

from __future__ import annotations

import json
import re
import shlex
from typing import TYPE_CHECKING

import pytest

from tests.cli.terminals import listening, request_line

if TYPE_CHECKING:
    from tests.cli.terminals import Terminal

CALL = ["run", "requests.jsonl", "--model", "m", "--out", "out.jsonl"]
LOCAL = ["--service", "local"]
RETRY = ["retry", "out.jsonl.packtrain"]
BAD = b'{"key": "bad", "request": {"contents": "no list"}}\n'
#: The first results lose a row for good.
PLAN = """
[[rules]]
do = "results"
route = "files.download"
calls = [1]
how = "missing"
"""


@pytest.fixture(autouse=True)
def requests(terminal: Terminal) -> None:
    """Three good lines, and one that no model takes."""
    lines = [request_line(0), BAD, request_line(1), request_line(2)]
    (terminal.directory / "requests.jsonl").write_bytes(b"".join(lines))


def keys(terminal: Terminal, name: str = "out.jsonl") -> list[str]:
    return [json.loads(line)["key"] for line in (terminal.directory / name).read_text().splitlines()]


def test_what_may_pass_is_asked_again_and_with_all_the_rest(terminal: Terminal) -> None:
    """Ends as the run would end now; the bad line is asked only by --all, and fails again."""
    run = terminal(*CALL, *LOCAL)
    assert run.returncode == 1, run.stderr
    printed = re.findall("`packtrain (.*)`", run.stdout)
    assert printed == ["retry out.jsonl.packtrain --all"]
    assert "none is of a kind that passes" in run.stdout
    for options, jobs, asked in ((["--json"], 1, 1), (["--all", "--json"], 2, 2)):
        done = terminal(*RETRY, *options)
        assert done.returncode == 1, done.stderr
        summary = json.loads(done.stdout)
        assert (summary["answered"], summary["failed"], summary["jobs_created"]) == (3, 1, jobs)
        (failed,) = map(json.loads, (terminal.directory / "out.jsonl.failed.jsonl").read_text().splitlines())
        assert (failed["key"], failed["ordinal"], failed["asked"], failed["retryable"]) == ("bad", 1, asked, False)
    assert keys(terminal) == ["k0", "k1", "k2"]
    assert "asked again 1 line" in terminal("status", "out.jsonl.packtrain").stdout
    assert terminal("verify", "out.jsonl.packtrain", "--read-data").returncode == 0


def test_a_row_that_was_missing_comes_with_the_retry(terminal: Terminal) -> None:
    """At its place in the order of the input; then there is nothing left to list."""
    (terminal.directory / "plan.toml").write_text(PLAN)
    (terminal.directory / "requests.jsonl").write_bytes(request_line(0) + request_line(1))
    service = terminal.start("serve", "--dir", "service", "--port", "0", "--faults", "plan.toml")
    there = ["--service", listening(service), "--wire", "gemini", "--poll", "100ms"]
    run = terminal(*CALL, *there, "--retries", "0", GEMINI_API_KEY="any")
    assert run.returncode == 1, run.stderr
    assert keys(terminal) == ["k1"]
    assert keys(terminal, "out.jsonl.failed.jsonl") == ["k0"]
    assert "asks those again whose failure may pass, --all all" in run.stdout
    done = terminal(*RETRY, "--poll", "100ms", GEMINI_API_KEY="any")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("complete: 2 of 2 lines answered\n  answers   out.jsonl\n")
    assert keys(terminal) == ["k0", "k1"]
    assert not (terminal.directory / "out.jsonl.failed.jsonl").exists()


def test_the_command_that_a_run_prints_can_be_run_whatever_its_output_is_called(terminal: Terminal) -> None:
    """A name with a dash is no option."""
    run = terminal(*CALL[:-2], "--out=-x y", *LOCAL)
    (printed,) = re.findall("`packtrain (.*)`", run.stdout)
    done = terminal(*shlex.split(printed), "--json")
    assert (done.returncode, json.loads(done.stdout)["failed"]) == (1, 1), done.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["elsewhere"], 2, "--out"),
        (["none.packtrain"], 3, "no run here"),
        (["a.packtrain", "--poll", "1s"], 2, "--poll"),
    ],
)
def test_what_cannot_be_retried_is_refused(terminal: Terminal, arguments: list[str], code: int, said: str) -> None:
    """Before anything is opened."""
    (terminal.directory / "a.packtrain").mkdir()
    (terminal.directory / "a.packtrain" / "manifest.db").touch()
    done = terminal("retry", *arguments, *LOCAL)
    assert done.returncode == code
    assert said in done.stderr
