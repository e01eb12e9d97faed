"""The stages on plain files: check, split, merge, upload, serve, status."""

from __future__ import annotations

import json
import signal
from http.client import HTTPConnection
from typing import TYPE_CHECKING

import pytest

from tests.cli.terminals import listening, request_line

if TYPE_CHECKING:
    from pathlib import Path

    from tests.cli.terminals import Terminal


@pytest.fixture
def requests(terminal: Terminal) -> Path:
    """Three good lines."""
    path = terminal.directory / "requests.jsonl"
    path.write_bytes(b"".join(request_line(number) for number in range(3)))
    return path


def test_check_of_good_lines_ends_with_0(terminal: Terminal, requests: Path) -> None:
    """All lines valid."""
    done = terminal("check", str(requests))
    assert (done.returncode, done.stdout) == (0, "3 lines: 3 valid, 0 rejected\n")


def test_check_names_every_bad_line(terminal: Terminal, requests: Path) -> None:
    """As file, line and byte, with a reason; 1 says that the rest is good."""
    good = requests.read_bytes()
    requests.write_bytes(good + b'{"key": "x"}\n')
    done = terminal("check", requests.name)
    assert done.returncode == 1
    assert done.stdout.startswith(f"{requests.name}:4 (byte {len(good)}): ")
    assert done.stdout.endswith("4 lines: 3 valid, 1 rejected\n")


def test_check_shows_a_kind_of_mistake_three_times(terminal: Terminal, requests: Path) -> None:
    """And counts it; another mistake behind it is still shown. split does the same."""
    bad = b"".join(b'{"id": %d}\n' % number for number in range(2000))
    requests.write_bytes(b"".join(map(request_line, range(30))) + bad + b"nonsense\n")
    done = terminal("check", requests.name)
    assert done.returncode == 1
    assert done.stdout.count("missing required field `key`; ") == 3
    assert "\n  and 1,997 more: Object missing required field `key`\n" in done.stdout
    assert f"\n{requests.name}:2031 (byte " in done.stdout
    assert done.stdout.endswith("\n2,031 lines: 30 valid, 2,001 rejected\n")
    done = terminal("split", requests.name, "--out-dir", "parts")
    assert "\n  and 1,997 more: Object missing required field `key`\n" in done.stdout


def test_a_file_of_another_kind_is_refused_once_and_for_all(terminal: Terminal, requests: Path) -> None:
    """B8: with one diagnosis and a way out, by every command, before anything is made."""
    requests.write_bytes(b"".join(b'{"custom_id": "k%d", "body": {}}\n' % number for number in range(2000)))
    run = ("run", requests.name, "--service", "local", "--model", "m", "--out", "out.jsonl")
    merge = ("merge", "--requests", requests.name, "--results", requests.name, "--out", "out.jsonl")
    for command in (("check", requests.name), ("split", requests.name, "--out-dir", "parts"), run, merge):
        done = terminal(*command)
        assert done.returncode == 3
        assert done.stdout == ""
        assert "OpenAI" in done.stderr or command is merge
        assert done.stderr.count("\n") == 2
    assert [path.name for path in terminal.directory.iterdir()] == [requests.name]


def test_check_of_nothing_usable_ends_with_3(terminal: Terminal, requests: Path) -> None:
    """Not one valid line, or no such file."""
    requests.write_bytes(b"[]\n")
    assert terminal("check", requests.name).returncode == 3
    missing = terminal("check", "nowhere.jsonl")
    assert missing.returncode == 3
    assert "nowhere.jsonl" in missing.stderr
    assert "Traceback" not in missing.stderr


def test_check_reads_standard_input(terminal: Terminal) -> None:
    """Given as a dash."""
    done = terminal("check", "-", "--json", stdin=request_line(1))
    assert done.returncode == 0
    assert json.loads(done.stdout) == {"lines": 1, "valid": 1, "rejected": 0, "rejects": []}


def test_check_as_json_is_one_line(terminal: Terminal, requests: Path) -> None:
    """With exactly the documented fields."""
    requests.write_bytes(request_line(1) + b"nonsense\n")
    done = terminal("check", requests.name, "--json")
    (line,) = done.stdout.splitlines()
    report = json.loads(line)
    assert set(report) == {"lines", "valid", "rejected", "rejects"}
    assert set(report["rejects"][0]) == {"source", "line", "offset", "reason"}


def test_blank_lines_are_named(terminal: Terminal, requests: Path) -> None:
    """Or the counts would not add up."""
    requests.write_bytes(request_line(1) + b"\n\n")
    assert "3 lines: 1 valid, 0 rejected, 2 blank" in terminal("check", requests.name).stdout


def test_more_bad_lines_than_allowed_end_with_3(terminal: Terminal, requests: Path) -> None:
    """--max-rejects is a limit, not a count of what is fine."""
    requests.write_bytes(request_line(1) + b"one\ntwo\n")
    assert terminal("check", requests.name, "--max-rejects", "1").returncode == 3
    assert terminal("check", requests.name, "--max-rejects", "2").returncode == 1


def test_split_cuts_files_of_the_asked_size(terminal: Terminal, requests: Path) -> None:
    """Nothing is lost at the cuts."""
    whole = requests.read_bytes()
    done = terminal("split", requests.name, "--out-dir", "parts", "--max-shard-requests", "2", "--json")
    assert done.returncode == 0
    report = json.loads(done.stdout)
    parts = [(terminal.directory / file).read_bytes() for file in report["files"]]
    assert [part.count(b"\n") for part in parts] == [2, 1]
    assert b"".join(parts) == whole


def test_merge_joins_by_key_in_the_order_of_the_requests(terminal: Terminal, requests: Path) -> None:
    """Whatever the order of the results; a missing one is told by 1 and listed."""
    rows = [json.dumps({"key": f"k{number}", "response": {"n": number}}) for number in (2, 0)]
    (terminal.directory / "results.jsonl").write_text("\n".join(rows) + "\n")
    done = terminal("merge", "--requests", requests.name, "--results", "results.jsonl", "--out", "out.jsonl")
    assert done.returncode == 1
    assert "2 answered, 1 failed, 1 missing" in done.stdout
    assert (terminal.directory / "out.jsonl").read_text() == f"{rows[1]}\n{rows[0]}\n"
    assert "k1" in (terminal.directory / "out.jsonl.failed.jsonl").read_text()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_serve_ends_with_0_when_asked_to(terminal: Terminal, number: int) -> None:
    """It says where it listens once it does, and SIGINT and SIGTERM are its way to end."""
    service = terminal.start("serve", "--dir", "service", "--port", "0")
    connection = HTTPConnection(listening(service).removeprefix("http://"))
    connection.request("GET", "/v1beta/batches")
    assert connection.getresponse().status == 200
    connection.close()
    service.send_signal(number)
    assert service.wait(30) == 0


def test_serve_to_others_needs_a_key(terminal: Terminal) -> None:
    """Listening beyond this machine without one is refused before a port is open."""
    done = terminal("serve", "--dir", "service", "--port", "0", "--host", "0.0.0.0")  # noqa: S104 - it is refused
    assert done.returncode in (2, 3)
    assert "key" in done.stderr
    assert done.stdout == ""


def test_upload_is_done_once(terminal: Terminal, requests: Path) -> None:
    """A second start finds the file there."""
    origin = listening(terminal.start("serve", "--dir", "service", "--port", "0"))
    call = ["upload", requests.name, "--service", origin, "--wire", "gemini", "--json"]
    first, second = terminal(*call), terminal(*call)
    assert (first.returncode, second.returncode) == (0, 0)
    (file,) = json.loads(first.stdout)
    assert json.loads(second.stdout) == [file]
    truth = (terminal.directory / "service/truth.jsonl").read_text()
    assert truth.count(file["name"] + '"') >= 1
    assert truth.count("file_finalised") == 1


def test_status_of_no_run_ends_with_3(terminal: Terminal) -> None:
    """The message names the place."""
    done = terminal("status", "nowhere.packtrain")
    assert done.returncode == 3
    assert "nowhere.packtrain" in done.stderr


def test_a_merge_that_meets_the_limit_on_file_sizes_names_it_and_leaves_no_draft(terminal: Terminal) -> None:
    """It is no full disk, and there is nothing to go on from."""
    lines = [b'{"key":"k%d","response":{"text":"%s"}}\n' % (number, b"x" * 100) for number in range(2000)]
    (terminal.directory / "requests.jsonl").write_bytes(b"".join(map(request_line, range(2000))))
    (terminal.directory / "results.jsonl").write_bytes(b"".join(lines))
    before = set(terminal.directory.iterdir())
    call = ("merge", "--requests", "requests.jsonl", "--results", "results.jsonl", "--out", "out.jsonl")
    done = terminal(*call, file_limit=20_000)
    assert done.returncode == 75
    assert "the limit on file sizes" in done.stderr
    assert done.stderr.count("Nothing is lost") == 1
    assert set(terminal.directory.iterdir()) == before
