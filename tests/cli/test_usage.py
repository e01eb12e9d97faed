"""What the command line understands, refuses and explains, before any work begins."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from packtrain.cli import perform
from packtrain.cli.commands import COMMANDS
from packtrain.cli.exits import Exit

if TYPE_CHECKING:
    from tests.cli.terminals import Terminal


NAMELESS = (".", "..", "/", "./", "d/..", "d/.", "//")
NO_MODELS = ("a b/../c", "m\n", "../../v1beta/files?x=", "m/", "/m", "a//b", "a/./b", "m#", "m%2e")


@pytest.mark.parametrize("arguments", [[], ["--help"], *([command.name, "--help"] for command in COMMANDS)])
def test_help_ends_with_0(terminal: Terminal, arguments: list[str]) -> None:
    """Every command explains itself on standard output."""
    done = terminal(*arguments)
    assert done.returncode == 0
    assert done.stdout.startswith("Usage: packtrain")
    assert done.stderr == ""


def test_help_that_nobody_reads_on_ends_with_0(terminal: Terminal) -> None:
    """As before ``head``; 1 would say that some lines have no answer."""
    unread, written = os.pipe()
    os.close(unread)
    try:
        command = [sys.executable, "-m", "packtrain", "--help"]
        ended = subprocess.run(command, env=terminal.environ, stdout=written, stderr=subprocess.PIPE, check=False)
    finally:
        os.close(written)
    assert (ended.returncode, ended.stderr) == (0, b"")


def test_help_loads_neither_the_network_nor_the_database(terminal: Terminal) -> None:
    """So that it answers at once."""
    code = "import sys; from packtrain.cli import perform; perform(['run', '--help']); print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", code], env=terminal.environ, capture_output=True, check=True, text=True
    ).stdout
    assert {"aiohttp", "sqlite3", "uvloop"}.isdisjoint(loaded.split())


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["run", "a.jsonl", "--modle", "m", "--out", "o"], "Did you mean --model?"),
        (["resolve", "state", "--shard", "0"], "give one decision"),
        (["resolve", "state", "--shard", "0", "--retry", "--drop"], "give one decision"),
        (["run", "a.jsonl", "--out", "o"], "packtrain: --model is missing"),
        (["run", "a.jsonl", "--model", "m"], "packtrain: --out is missing"),
        (["run", "a.jsonl", "--out", "o", "--model"], "--model requires an argument"),
        (["run", "--model", "m", "--out", "o"], "no input given"),
        (["run", "a.jsonl", "--model", "m", "--out", "-"], "cannot be standard output"),
        *((["run", "a.jsonl", "--model", "m", "--out", out], "has no name of its own") for out in NAMELESS),
        *((["run", "a.jsonl", "--model", model, "--out", "o"], "no name of a model") for model in NO_MODELS),
        (["merge", "--requests", "a", "--results", "b", "--out", "."], "has no name of its own"),
        (["run", "a.jsonl", "--model", "m", "--out", "o", "--max-shard-bytes", "2G"], "'2G' is not a size"),
        (["run", "a.jsonl", "--model", "m", "--out", "o", "--max-shard-age", "5min"], "'5min' is not a duration"),
        (["run", "a.jsonl", "--model", "m", "--out", "o", "--uploads", "0"], "--uploads"),
        (["run", "a.jsonl", "--model", "m", "--out", "o", "--task", "sing"], "--task"),
        (["run", "a.jsonl", "--model", "m", "--out", "o", "--service", "openai"], "not available yet"),
        (["run", "a.jsonl", "--model", "m", "--out", "o", "--wire", "openai"], "not available yet"),
        (["run", "a.jsonl", "--model", "m", "--out", "o", "--partition", "0/2"], "--partition"),
        (["run", "a.jsonl", "--model", "m", "--out", "o", "--service", "local", "--poll", "5s"], "--poll"),
        (["check"], "no input given"),
        (["split", "a.jsonl"], "--out-dir"),
        (["upload"], "no file given"),
        (["upload", "a.jsonl", "--service", "local"], "packtrain serve"),
        (["merge", "--requests", "a", "--out", "o"], "--results"),
        (["status"], "STATE"),
        (["verify"], "STATE"),
        (["recover", "a.jsonl", "--model", "m", "--out", "o"], "--run"),
        (["recover", "--run", "r", "--model", "m", "--out", "o"], "no input given"),
        (["adopt"], "STATE"),
        (["serve", "--dir", "d", "--port", "99999"], "--port"),
        (["doctor"], "doctor"),
    ],
)
def test_wrong_usage_ends_with_2(terminal: Terminal, arguments: list[str], words: str) -> None:
    """The message says what is wrong and where help is; nothing is written."""
    done = terminal(*arguments)
    assert done.returncode == 2
    assert words in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""
    assert list(terminal.directory.iterdir()) == []


def test_without_a_key_nothing_is_read(terminal: Terminal) -> None:
    """The missing key is told at once, with the variable and the way without; the input need not even exist."""
    done = terminal("run", "nowhere.jsonl", "--model", "m", "--out", "o")
    assert done.returncode == 4
    assert "GEMINI_API_KEY" in done.stderr
    assert "--service local" in done.stderr
    assert list(terminal.directory.iterdir()) == []


@pytest.mark.parametrize("arguments", [["--api-key", "SENTINEL"], ["--api-key=SENTINEL"]])
def test_a_key_on_the_command_line_is_refused_unseen(terminal: Terminal, arguments: list[str]) -> None:
    """Neither accepted nor repeated."""
    done = terminal("run", "a.jsonl", "--model", "m", "--out", "o", *arguments)
    assert done.returncode == 2
    assert "--api-key-file" in done.stderr
    assert "SENTINEL" not in done.stderr + done.stdout


def test_the_command_line_comes_before_the_environment_before_the_file(terminal: Terminal) -> None:
    """One option from three places; the message shows which one counted."""
    call = ["run", "a.jsonl", "--model", "m", "--out", "o"]
    (terminal.directory / "packtrain.toml").write_text('[run]\npoll = "from-file"\n')
    assert "'from-file'" in terminal(*call).stderr
    assert "'from-environment'" in terminal(*call, PACKTRAIN_POLL="from-environment").stderr
    told = terminal(*call, "--poll", "from-line", PACKTRAIN_POLL="from-environment")
    assert "'from-line'" in told.stderr
    assert told.returncode == 2


def test_required_options_and_flags_can_come_from_the_file(terminal: Terminal) -> None:
    """Every option may stand in packtrain.toml, sizes as they are written on the command line."""
    (terminal.directory / "packtrain.toml").write_text(
        '[run]\nmodel = "m"\nout = "o"\njoin = true\nmax-shard-bytes = "1GB"\nuploads = 2\n'
    )
    assert terminal("run", "a.jsonl").returncode == 4


@pytest.mark.parametrize("line", ["uplods = 3", 'max-shard-bytes = "2G"', "uploads = 0", "["])
def test_a_mistake_in_the_file_ends_with_2(terminal: Terminal, line: str) -> None:
    """An unknown option or a wrong value there is not ignored."""
    (terminal.directory / "packtrain.toml").write_text(f"[run]\n{line}\n")
    done = terminal("run", "a.jsonl", "--model", "m", "--out", "o", "--service", "local")
    assert done.returncode == 2
    assert line != "[" or done.stderr.startswith("packtrain: packtrain.toml: Invalid")
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[rum]\nuploads = 2", "no command for the table [rum]; did you mean [run]?"),
        ("[tool]", "no command for the table [tool]; commands are run, backfill, check"),
        ('model = "m"', "model is in no table"),
        ("run = 3", "run is in no table"),
        ("[run]\nuplods = 2", "no option is called uplods in [run]. Did you mean --uploads?"),
        ("[run.uploads]\nn = 2", "no option is called uploads.n in [run]"),
    ],
)
def test_nothing_in_the_file_is_passed_over(terminal: Terminal, text: str, words: str) -> None:
    """An unknown table or key is named, with the nearest known one; the help still comes."""
    (terminal.directory / "packtrain.toml").write_text(f"{text}\n")
    done = terminal("run", "a.jsonl", "--model", "m", "--out", "o", "--service", "local")
    assert done.returncode == 2
    assert words in done.stderr
    assert terminal("run", "--help").returncode == 0


def test_what_comes_from_outside_cannot_move_the_cursor(terminal: Terminal) -> None:
    """Control characters are shown as escapes, in results as in messages."""
    (terminal.directory / "\x1b[2J.jsonl").write_text("{nonsense}\n")
    found = terminal("check", "\x1b[2J.jsonl")
    missing = terminal("check", "\x1b[2K.jsonl")
    assert "\\x1b[2J.jsonl:1 " in found.stdout
    assert "\\x1b[2K.jsonl" in missing.stderr
    assert "\x1b" not in found.stdout + missing.stderr


def test_a_service_variable_of_kubernetes_is_not_an_option(terminal: Terminal) -> None:
    """A cluster sets PACKTRAIN_SERVICE_HOST for a service called packtrain; that is not for us."""
    done = terminal("run", "a.jsonl", "--model", "m", "--out", "o", PACKTRAIN_SERVICE_HOST="10.0.0.1")
    assert "GEMINI_API_KEY" in done.stderr


@pytest.mark.parametrize(
    ("name", "advice"),
    [
        ("MODLE", "did you mean PACKTRAIN_MODEL?"),
        ("RUN_JOIN", "did you mean PACKTRAIN_JOIN?"),
        ("FAILPOINT", "did you mean PACKTRAIN_FAILPOINTS?"),
        ("XYZZY", "it is ignored"),
    ],
)
def test_a_variable_that_no_command_has_is_told(terminal: Terminal, name: str, advice: str) -> None:
    """With the nearest that one has, also where the options of the command are wrong for want of it."""
    told = f"packtrain: there is no option for the variable PACKTRAIN_{name}; {advice}\n"
    terminal.environ[f"PACKTRAIN_{name}"] = "1"
    for call, code in ((["check", "nowhere.jsonl"], 3), (["run", "a.jsonl", "--out", "o"], 2)):
        done = terminal(*call)
        assert (done.returncode, done.stderr.startswith(told)) == (code, True), done.stderr
    assert told not in terminal("check", "nowhere.jsonl", "--quiet").stderr


def test_variables_of_other_commands_and_of_a_cluster_are_not_told(terminal: Terminal) -> None:
    """One environment serves all commands."""
    known = {"MODEL": "m", "WEBHOOKS_TO": "x", "FAILPOINTS": "", "SERVICE_PORT": "1", "PORT_87_TCP_ADDR": "::1"}
    terminal.environ.update({f"PACKTRAIN_{name}": value for name, value in known.items()})
    done = terminal("check", "nowhere.jsonl")
    assert (done.returncode, "variable" in done.stderr) == (3, False), done.stderr


def test_a_settings_file_that_cannot_be_read_is_named(terminal: Terminal) -> None:
    """It is not as if there were none."""
    (terminal.directory / "packtrain.toml").mkdir()
    done = terminal("check", "a.jsonl")
    assert (done.returncode, "packtrain.toml: [Errno 21] Is a directory" in done.stderr) == (2, True), done.stderr


@pytest.mark.parametrize(
    ("arguments", "of"),
    [
        (["run", "", "--model", "m", "--out", "o"], "an argument"),
        (["run", "a.jsonl", "--model", "m", "--out", ""], "the value of --out"),
        (["run", "a.jsonl", "--model", "", "--out", "o"], "the value of --model"),
        (["run", "a.jsonl", "--model", "m", "--out", "o", "--state="], "the value of --state"),
        (["run", "a.jsonl", "-m", "", "--out", "o"], "the value of -m"),
        (["backfill", "", "--model", "m", "--out", "o"], "an argument"),
        (["check", ""], "an argument"),
        (["split", "a.jsonl", "--out-dir", ""], "the value of --out-dir"),
        (["merge", "--requests", "a", "", "--results", "b", "--out", "o"], "an argument"),
        (["status", ""], "an argument"),
    ],
)
def test_an_empty_argument_is_refused(capsys: pytest.CaptureFixture[str], arguments: list[str], of: str) -> None:
    """A18: a variable that is not set would stand for the current directory."""
    assert perform(arguments) == Exit.USAGE
    assert capsys.readouterr().err == (f"packtrain: {of} is empty; see whether a variable in the command is not set\n")


def test_an_empty_variable_is_refused(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """A18: by the command that would take it."""
    monkeypatch.setenv("PACKTRAIN_STATE", "")
    assert perform(["run", "a.jsonl", "--model", "m", "--out", "o"]) == Exit.USAGE
    assert "the variable PACKTRAIN_STATE is empty" in capsys.readouterr().err


def test_a_byte_order_mark_in_the_settings_is_skipped(terminal: Terminal) -> None:
    """B13: some editors write one."""
    (terminal.directory / "packtrain.toml").write_text('\ufeff[check]\nduplicates = "never"\n', "utf-8")
    done = terminal("check", "a.jsonl")
    assert done.returncode == 2
    assert "never" in done.stderr
