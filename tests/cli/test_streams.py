"""Standard output and standard error that are closed, full or gone, and signals at the edges of a command."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
import pytest

import packtrain
from packtrain._signals import STOPS, stop_signals
from packtrain.cli import perform
from packtrain.cli.interrupts import Interrupts, interruptible
from tests.cli.terminals import request_line

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.cli.terminals import Terminal

RUN = "run requests.jsonl --service local --model m --out answers.jsonl --json"
FULL = Path("/dev/full")

pytestmark = pytest.mark.skipif(not FULL.exists(), reason="needs /dev/full")


def write_requests(terminal: Terminal, more: bytes = b"") -> None:
    (terminal.directory / "requests.jsonl").write_bytes(b"".join(map(request_line, range(3))) + more)


def shell(terminal: Terminal, command: str) -> subprocess.CompletedProcess[str]:
    """The command line through a shell, which alone can close a stream."""
    return subprocess.run(
        ["/bin/sh", "-c", f"exec {sys.executable} -m packtrain {command}"],
        cwd=terminal.directory,
        env=terminal.environ,
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )


@pytest.mark.parametrize("redirection", ["2>/dev/full", "2>&-"])
@pytest.mark.parametrize(("bad", "code"), [(0, 0), (1, 1)])
def test_errors_that_cannot_be_written_change_no_exit_code(
    terminal: Terminal, redirection: str, bad: int, code: int
) -> None:
    """Progress and messages are for whoever listens; the run ends as it would."""
    write_requests(terminal, b"nonsense\n" * bad)
    done = shell(terminal, f"{RUN} {redirection}")
    assert done.returncode == code
    assert json.loads(done.stdout)["answered"] == 3


@pytest.mark.parametrize("redirection", ["2>/dev/full", "2>&-"])
def test_an_error_without_a_place_to_say_it_keeps_its_code(terminal: Terminal, redirection: str) -> None:
    """And never becomes 1, which means a complete run."""
    assert shell(terminal, f"{RUN} {redirection}").returncode == 3
    assert shell(terminal, f"run --nonsense {redirection}").returncode == 2


@pytest.mark.parametrize(
    ("redirection", "reason"),
    [(">/dev/full", "cannot be written (No space left on device)"), (">&-", "is closed")],
    ids=["full", "closed"],
)
def test_standard_output_that_takes_nothing_is_named(terminal: Terminal, redirection: str, reason: str) -> None:
    """What should be printed and cannot be is no success; the work is done, and the same command tells of it later."""
    write_requests(terminal)
    for command in (RUN, "status answers.jsonl.packtrain", "check requests.jsonl --json", "--help"):
        done = shell(terminal, f"{command} {redirection}")
        assert done.returncode == 75, command
        assert f"standard output {reason}" in done.stderr
        assert "Traceback" not in done.stderr
    assert json.loads(shell(terminal, RUN).stdout)["complete"]


def test_a_closed_standard_input_is_missed_by_dash_alone(terminal: Terminal) -> None:
    """B1: as in cron and in daemons. No other command looks at it."""
    write_requests(terminal)
    split, status = "split requests.jsonl --out-dir d", "status answers.jsonl.packtrain"
    for command in ("check requests.jsonl", split, f"{RUN} --quiet", status):
        done = shell(terminal, f"{command} <&-")
        assert (done.returncode, done.stderr) == (0, ""), command
    for command in ("check -", "run - --service local --model m --out other.jsonl"):
        done = shell(terminal, f"{command} <&-")
        assert done.returncode == 3
        assert done.stderr.startswith("packtrain: there is no standard input here"), done.stderr
    assert not (terminal.directory / "other.jsonl.packtrain").exists()


async def test_a_program_without_standard_input_reads_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """B1: None as in a daemon, closed, or text alone as in a notebook."""
    (tmp_path / "a.jsonl").write_bytes(request_line(0))
    (tmp_path / "closed").touch()
    closed = (tmp_path / "closed").open()
    closed.close()
    for stdin in (None, closed, io.StringIO()):
        monkeypatch.setattr(sys, "stdin", stdin)
        assert (await packtrain.check(tmp_path / "a.jsonl")).valid == 1
        with pytest.raises(packtrain.InputError, match="there is no standard input here"):
            await packtrain.check("-")


@pytest.mark.parametrize("number", ["SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1"])
def test_a_signal_while_the_program_is_loaded_ends_it_with_a_line(terminal: Terminal, number: str) -> None:
    """Nothing has begun; the code is that of an interruption, not Python's own, and so is the message."""
    (terminal.directory / "cyclopts.py").write_text(f"import signal\nsignal.raise_signal(signal.{number})\n")
    path = f"{terminal.directory}{os.pathsep}{terminal.environ['PYTHONPATH']}"
    program = terminal.program("check", "x", PYTHONPATH=path)
    out, err = program.communicate(timeout=100)
    assert (program.returncode, out) == (75, b"")
    assert err == b"interrupted; start the same command again\n"


def test_sigterm_ends_a_command_that_keeps_nothing_like_sigint(terminal: Terminal) -> None:
    """In the middle of its input."""
    os.mkfifo(terminal.directory / "pipe.jsonl")
    check = terminal.start("check", "pipe.jsonl")
    with (terminal.directory / "pipe.jsonl").open("wb"):  # so it has begun to read
        check.terminate()
    _, err = check.communicate(timeout=100)
    assert (check.returncode, err) == (75, b"interrupted; start the same command again\n")


def test_a_signal_before_there_is_anything_to_bring_to_a_stand_offers_no_second_one(terminal: Terminal) -> None:
    """It has ended the work at once."""
    code = (
        "import anyio, signal\n"
        "from packtrain.cli.interrupts import interruptible\n"
        "async def work(_):\n"
        "    signal.raise_signal(signal.SIGTERM)\n"
        "    await anyio.sleep_forever()\n"
        "print(anyio.run(interruptible, work))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env=terminal.environ, capture_output=True, check=True, timeout=100
    )
    assert (done.stdout, done.stderr) == (b"None\n", b"")


def test_interrupts_until_the_very_end_lead_to_75(terminal: Terminal) -> None:
    """However many there are, and wherever they fall in the teardown."""
    write_requests(terminal)
    run = terminal.start(*RUN.replace("requests.jsonl", "-").split())
    while not list(terminal.directory.glob("*.packtrain/status.json")):
        assert run.poll() is None
        time.sleep(0.01)
    while run.poll() is None:
        run.send_signal(signal.SIGINT)
        time.sleep(0.003)
    out, err = run.communicate()
    assert run.returncode == 75, err.decode()
    assert b"Traceback" not in out + err


def test_the_warning_of_a_batch_scheduler_stops_a_run(terminal: Terminal) -> None:
    """B15: as Slurm sends it some time before the limit of a job; nothing is lost."""
    run = terminal.start(*RUN.replace("requests.jsonl", "-").split())
    while not list(terminal.directory.glob("*.packtrain/status.json")):
        assert run.poll() is None
        time.sleep(0.01)
    run.send_signal(signal.SIGUSR1)
    out, err = run.communicate()
    assert (run.returncode, b"stopping; start the same command again" in err) == (75, True), err.decode()
    assert b"Traceback" not in out + err


def test_a_backfill_needs_no_standard_output(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """B1: as in cron; its runs have the null device, and their codes are its own."""
    monkeypatch.setattr(sys, "stdout", None)
    assert perform(["backfill", "requests.jsonl"]) == 2
    assert "give --out OUT" in capsys.readouterr().err


@pytest.fixture
def handlers() -> Iterator[None]:
    """Those of all signals that stop a command are put back."""
    before = {number: signal.getsignal(number) for number in STOPS}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.usefixtures("handlers")
async def test_signals_of_one_moment_are_one_request_except_by_hand() -> None:
    """B15: a scheduler signals each process of a job, and one of them hands it on; Ctrl-C twice means at once."""
    drained = []

    async def work(interrupts: Interrupts) -> bool:
        interrupts.on_first(lambda: drained.append(True))
        for number in (signal.SIGUSR1, signal.SIGTERM, signal.SIGHUP):
            signal.raise_signal(number)
            await anyio.wait_all_tasks_blocked()
        assert drained == [True]
        drained.append(False)
        signal.raise_signal(signal.SIGINT)
        await anyio.sleep_forever()
        return True

    assert await interruptible(work) is None
    assert drained == [True, False]


@pytest.mark.usefixtures("handlers")
def test_a_signal_that_was_ignored_at_the_start_stays_ignored() -> None:
    """B15: nohup lets a run outlive its terminal."""
    for number in STOPS:
        signal.signal(number, signal.SIG_DFL)
    assert stop_signals() == STOPS
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    assert signal.SIGHUP not in stop_signals()


def test_an_interrupted_check_promises_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    """It has kept nothing that a second start could go on from."""
    import packtrain.cli

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(packtrain.cli, "_run", interrupted)
        assert perform(["check", "x"]) == 75
    assert capsys.readouterr().err == "interrupted; start the same command again\n"


def test_the_help_that_an_error_names_is_the_commands_own(terminal: Terminal) -> None:
    """``packtrain --help`` does not list the options of ``check``."""
    assert "See packtrain check --help." in terminal("check", "--nonsense").stderr
