"""``packtrain run`` through the embedded service: its exit codes, its output, its end by signals."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import re
import signal
from typing import TYPE_CHECKING

import pytest

from tests.cli.terminals import PATIENCE, listening, request_line

if TYPE_CHECKING:
    from tests.cli.terminals import Terminal
    from tests.forks import Child

CALL = ["run", "requests.jsonl", "--service", "local", "--model", "m", "--out", "out.jsonl"]
STREAM = ["run", "-", *CALL[2:]]
#: Behind the first create, when the job is still to be looked at.
KILLED = "create.post.after=kill@1"
FIELDS = {
    *("run", "complete", "lines", "valid", "answered", "failed", "rejected", "shards", "jobs_created"),
    *("skipped", "rows", "paid_twice", "duplicates_healed", "duplicates_live", "bytes_in", "bytes_uploaded", "seconds"),
}


@pytest.fixture(autouse=True)
def requests(terminal: Terminal) -> None:
    """A hundred good lines."""
    lines = b"".join(request_line(number) for number in range(100))
    (terminal.directory / "requests.jsonl").write_bytes(lines)


def answers(terminal: Terminal) -> list[tuple[str, str]]:
    rows = map(json.loads, (terminal.directory / "out.jsonl").read_text().splitlines())
    return [(row["key"], row["response"]["candidates"][0]["content"]["parts"][0]["text"]) for row in rows]


def started_on_a_stream(terminal: Terminal, *options: str) -> Child:
    """A run that reads half of the requests from a pipe, and then waits for more."""
    run = terminal.start(*STREAM, *options)
    assert run.stderr is not None
    stream = (terminal.directory / "requests.jsonl").read_bytes()
    run.stdin.write(stream[: len(stream) // 2])
    run.stdin.flush()
    assert b" read " in run.stderr.readline()
    return run


def ended(run: Child) -> bytes:
    """What it still said, with its standard input open to the last: an end of input would be an end of the run."""
    run.wait(PATIENCE)
    assert run.stderr is not None
    return run.stderr.read()


def test_a_run_answers_every_line_and_a_second_one_does_nothing(terminal: Terminal) -> None:
    """The summary is one line of JSON with exactly the documented fields, and the output is in input order."""
    first, second = terminal(*CALL, "--json"), terminal(*CALL, "--json")
    assert (first.returncode, second.returncode) == (0, 0), first.stderr + second.stderr
    (line,) = first.stdout.splitlines()
    summary, again = json.loads(line), json.loads(second.stdout)
    assert set(summary) == FIELDS
    assert summary["complete"] is True
    assert (summary["lines"], summary["valid"], summary["answered"]) == (100, 100, 100)
    assert (summary["failed"], summary["rejected"]) == (0, 0)
    assert summary["jobs_created"] == again["jobs_created"] == 1
    assert answers(terminal) == [(f"k{number}", f"t{number}") for number in range(100)]


def test_without_json_people_are_told(terminal: Terminal) -> None:
    """How many answers, and where they are."""
    done = terminal(*CALL, "--max-shard-requests", "30")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("complete: 100 of 100 lines answered\n  answers   out.jsonl\n")
    assert "4 shards" in done.stdout
    assert " uploaded, " in done.stdout
    again = terminal(*CALL, "--max-shard-requests", "30").stdout
    assert again.endswith("  4 shards, already complete\n")


def test_quiet_means_silence_on_standard_error(terminal: Terminal) -> None:
    """Progress goes there otherwise."""
    assert terminal(*CALL, "--quiet").stderr == ""


def test_on_a_terminal_the_progress_is_live(terminal: Terminal) -> None:
    """Every figure has its line, drawn again and again, and the last picture is wiped away."""
    screen, ours = pty.openpty()
    run = terminal.start(*STREAM, stderr=ours, environ={"TERM": "xterm"})
    os.close(ours)
    run.stdin.write(b"".join(request_line(number) for number in range(50)))
    run.stdin.flush()
    seen = b""
    while not all(name in seen for name in (b"50 lines", b"read", b"shards", b"sent", b"jobs", b"answers")):
        seen += os.read(screen, 65536)
    run.stdin.close()
    with contextlib.suppress(OSError):  # the other end of a terminal is gone
        while more := os.read(screen, 65536):
            seen += more
    os.close(screen)
    assert run.wait(PATIENCE) == 0
    assert b"\x1b[2K" in seen


def test_rejected_lines_end_with_1(terminal: Terminal) -> None:
    """The run is complete, and the bad line is listed."""
    with (terminal.directory / "requests.jsonl").open("ab") as file:
        file.write(b"nonsense\n")
    done = terminal(*CALL)
    assert done.returncode == 1, done.stderr
    assert "1 rejected" in done.stdout
    (line,) = (terminal.directory / "out.jsonl.rejected.jsonl").read_text().splitlines()
    assert json.loads(line)["line"] == 101


@pytest.mark.parametrize("content", [b"", b"nonsense\n", None], ids=["empty", "bad", "missing"])
def test_input_without_a_usable_line_ends_with_3(terminal: Terminal, content: bytes | None) -> None:
    """The message names the input, and nothing is sent."""
    if content is None:
        (terminal.directory / "requests.jsonl").unlink()
    else:
        (terminal.directory / "requests.jsonl").write_bytes(content)
    done = terminal(*CALL)
    assert done.returncode == 3, done.stderr
    assert "Traceback" not in done.stderr
    assert not (terminal.directory / "out.jsonl").exists()


def test_another_model_for_the_same_state_ends_with_6(terminal: Terminal) -> None:
    """A run is what it was started as."""
    assert terminal(*CALL).returncode == 0
    done = terminal(*CALL[:-3], "other", "--out", "out.jsonl")
    assert done.returncode == 6
    assert "--state" in done.stderr


def test_a_second_driver_ends_with_6_and_names_the_first(terminal: Terminal) -> None:
    """One process at a time."""
    first = started_on_a_stream(terminal)
    second = terminal(*CALL)
    assert second.returncode == 6
    assert str(first.pid) in second.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_with_75_and_the_same_command_goes_on(terminal: Terminal, number: int) -> None:
    """In the middle of its input, with more to come."""
    run = started_on_a_stream(terminal, "--max-shard-requests", "10", "--json")
    run.send_signal(number)
    told = ended(run)
    assert run.returncode == 75, told
    assert b"start the same command again to go on" in told
    stream = (terminal.directory / "requests.jsonl").read_bytes()
    done = terminal(*STREAM, "--max-shard-requests", "10", "--json", stdin=stream)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["answered"] == 100
    assert len(answers(terminal)) == 100


def test_a_stream_that_a_complete_run_does_not_read_is_told_of(terminal: Terminal) -> None:
    """It may have other lines, and nobody can tell without reading them."""
    stream = b"".join(map(request_line, range(3)))
    assert terminal(*STREAM, stdin=stream).returncode == 0
    again = terminal(*STREAM, stdin=request_line(7))
    assert (again.returncode, "standard input is not read again" in again.stderr) == (0, True), again.stderr


def test_two_signals_stop_with_75_as_well(terminal: Terminal) -> None:
    """Whether or not the first one was enough already."""
    run = started_on_a_stream(terminal)
    run.send_signal(signal.SIGINT)
    run.send_signal(signal.SIGINT)
    told = ended(run)
    assert run.returncode == 75, told
    assert b"Traceback" not in told


def test_no_wait_ends_with_75_until_the_answers_are_there(terminal: Terminal) -> None:
    """Submitted is not answered; the same command without it finishes."""
    done = terminal(*CALL, "--no-wait", "--json")
    assert done.returncode in (0, 75), done.stderr
    assert json.loads(done.stdout)["complete"] is (done.returncode == 0)
    assert terminal(*CALL).returncode == 0


def test_a_key_that_the_service_refuses_ends_with_4_and_is_never_shown(terminal: Terminal) -> None:
    """Not by the message, not with --debug, and not in the state directory."""
    keys = terminal.directory / "keys"
    keys.touch(0o600)
    keys.write_text("another-key\n")
    service = terminal.start("serve", "--dir", "service", "--port", "0", "--api-key-file", "keys")
    place = ["--service", listening(service), "--wire", "gemini", "--state", "state", "--debug"]
    done = terminal(*CALL[:2], *CALL[4:], *place, GEMINI_API_KEY="SENTINEL")
    assert done.returncode == 4
    assert "SENTINEL" not in done.stdout + done.stderr
    files = [path for path in (terminal.directory / "state").rglob("*") if path.is_file()]
    assert files
    assert not [path for path in files if b"SENTINEL" in path.read_bytes()]
    keys.write_text("SENTINEL\n")
    assert terminal(*CALL[:2], *CALL[4:], *place, "--api-key-file", "keys", GEMINI_API_KEY="no").returncode == 4


def test_status_tells_how_a_run_stands(terminal: Terminal) -> None:
    """After its end as well, for people and as JSON."""
    assert terminal(*CALL).returncode == 0
    told = terminal("status", "out.jsonl.packtrain")
    assert told.returncode == 0
    assert "100 answered" in told.stdout
    status = json.loads(terminal("status", "out.jsonl.packtrain", "--json").stdout)
    assert status["statistics"]["merged"] is True
    assert status.get("holder") is None
    assert status["token"] in told.stdout
    assert status["token"] in (terminal.directory / "out.jsonl.packtrain" / "manifest.run").read_text()


def test_status_says_when_nobody_drives_an_unfinished_run(terminal: Terminal) -> None:
    """What a killed driver did in its last second does not stand in its figures."""
    assert terminal(*CALL, PACKTRAIN_FAILPOINTS=KILLED).returncode == -signal.SIGKILL
    told = terminal("status", "out.jsonl.packtrain").stdout
    assert "nobody" in told
    assert "if that was killed" in told


def test_a_status_that_is_watched_keeps_its_looks_apart(terminal: Terminal) -> None:
    """On a terminal each takes the place of the last, elsewhere the time stands between them."""
    assert terminal(*CALL, PACKTRAIN_FAILPOINTS=KILLED).returncode == -signal.SIGKILL
    watch = terminal.start("status", "out.jsonl.packtrain", "--watch")
    assert watch.stdout is not None
    assert re.fullmatch(rb"\d\d:\d\d:\d\d\n", watch.stdout.readline())
    assert watch.stdout.readline().startswith(b"run         main")
    screen, ours = pty.openpty()
    watch = terminal.start("status", "out.jsonl.packtrain", "--watch", stdout=ours, environ={"TERM": "xterm"})
    os.close(ours)
    seen = b""
    while seen.count(b"\x1b[H\x1b[J") < 2:
        seen += os.read(screen, 65536)
    os.close(screen)
