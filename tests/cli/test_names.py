"""File names and streams that are not UTF-8: they work, and are shown escaped."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import pytest

import packtrain
from packtrain._text import encodable, path_of, path_text, stored_path
from packtrain.cli import perform
from tests.cli.terminals import request_line

if TYPE_CHECKING:
    from tests.cli.terminals import Terminal

#: As Python keeps the byte 0xe9.
ODD = "caf\udce9"
#: No locale with an encoding of its own: names of files are ASCII, and everything else is kept as bytes.
ASCII = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
LOCAL = ["--model", "m", "--service", "local"]


@pytest.fixture
def odd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with such a name, with such an input: two good lines and a bad one."""
    directory = tmp_path / ODD
    try:
        directory.mkdir()
    except OSError:
        pytest.skip("this file system takes UTF-8 only")
    (directory / f"{ODD}.jsonl").write_bytes(request_line(0) + b"nonsense\n" + request_line(1))
    monkeypatch.chdir(directory)
    return directory


@pytest.mark.usefixtures("odd")
def test_a_run_with_names_that_are_not_utf8_goes_on_and_is_shown_escaped(
    capfdbinary: pytest.CaptureFixture[bytes],
) -> None:
    """B2: as input, OUT, state and working directory, at each start; escaped in every output."""
    run = ["run", f"{ODD}.jsonl", "--out", f"{ODD}.out", "--state", f"{ODD}.state", *LOCAL]
    assert perform([*run, "--no-wait"]) == 75
    assert perform(run) == 1
    shown = capfdbinary.readouterr()
    assert rb"answers   caf\xe9.out" in shown.out
    assert perform([*run, "--json"]) == 1
    assert json.loads(capfdbinary.readouterr().out)["answered"] == 2
    for command in (["status", f"{ODD}.state"], ["verify", f"{ODD}.state", "--out", f"{ODD}.out", "--read-data"]):
        for json_too in ([], ["--json"]):
            assert perform([*command, *json_too]) == 0
            assert rb"\xe9" in (shown := capfdbinary.readouterr()).out or command[0] == "verify"
            assert b"\xe9" not in shown.out + shown.err
    rejected = json.loads(Path(f"{ODD}.out.rejected.jsonl").read_bytes())
    assert rejected["source"] == r"caf\xe9.jsonl"


@pytest.mark.usefixtures("odd")
def test_the_stages_take_names_that_are_not_utf8(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    """B2: check, with worker processes too, split and merge."""
    for command in (
        ["check", f"{ODD}.jsonl", "--workers", "2"],
        ["check", f"{ODD}.jsonl"],
        ["split", f"{ODD}.jsonl", "--out-dir", f"{ODD}.d"],
        ["merge", "--requests", f"{ODD}.d/shard-00000.jsonl", "--results", f"{ODD}.d/rejected.jsonl", "-o", f"{ODD}.m"],
    ):
        for json_too in ([], ["--json"]):
            assert perform([*command, *json_too]) == 1
            shown = capfdbinary.readouterr().out.decode()
            if json_too:
                shown = str(msgspec.json.decode(shown))
            assert "\\xe9" in shown or "merge" in command


@pytest.mark.usefixtures("odd")
async def test_an_error_about_such_a_name_can_be_written_anywhere() -> None:
    """B2: its attributes have the name as it is, its text has it escaped."""
    with pytest.raises(packtrain.InputError) as raised:
        await packtrain.check(f"{ODD}.gone")
    assert r"caf\xe9.gone" in str(raised.value)
    str(raised.value).encode()


def test_a_run_goes_on_in_another_locale(terminal: Terminal) -> None:
    """B2: a UTF-8 name that the second locale has no characters for is the same file."""
    (terminal.directory / "café.jsonl").write_bytes(request_line(0))
    run = ["run", "café.jsonl", "--out", "né.out", *LOCAL]
    assert terminal(*run, "--no-wait").returncode == 75
    terminal.environ.update(ASCII)
    ended = terminal.program(*run, "--quiet")
    _, err = ended.communicate()
    assert (ended.returncode, err) == (0, b"")
    assert (terminal.directory / "né.out").exists()


@pytest.mark.parametrize("environ", [{"PYTHONIOENCODING": "ascii"}, {"PYTHONIOENCODING": "latin-1"}, ASCII])
def test_a_stream_that_has_not_all_characters_gets_escapes(terminal: Terminal, environ: dict[str, str]) -> None:
    """B3: text is escaped, and JSON is UTF-8 in any case."""
    (terminal.directory / "a.jsonl").write_bytes(request_line(0) + "nonsense — é\n".encode())
    terminal.environ.pop("PYTHONUTF8", None)
    terminal.environ.update(environ)
    text, as_json = (terminal.program("check", "a.jsonl", *more) for more in ([], ["--json"]))
    out, err = text.communicate()
    assert (text.returncode, err) == (1, b"")
    assert rb"nonsense \u2014 " in out
    out, err = as_json.communicate()
    assert (as_json.returncode, err) == (1, b"")
    assert "nonsense — é" in json.loads(out)["rejects"][0]["reason"]


@pytest.mark.parametrize(
    ("text", "shown"),
    [("a", "a"), ("café", "café"), ("a\udce9\udc80", r"a\xe9\x80"), ("\ud83d\udc00", r"\ud83d\udc00")],
)
def test_halves_of_pairs_are_escaped(text: str, shown: str) -> None:
    """Those that stand for a byte as that byte; no others are touched."""
    assert encodable(text) == shown


@pytest.mark.parametrize("raw", [b"/a", "/é".encode(), b"/caf\xe9/%41", b"/%41"])
def test_a_path_in_a_file_of_json_comes_back_as_it_was(raw: bytes) -> None:
    """B2: as text that JSON takes."""
    stored = stored_path(os.fsdecode(raw))
    assert os.fsencode(path_of(json.loads(msgspec.json.encode(stored)))) == raw


def test_the_text_of_a_path_is_that_of_its_bytes() -> None:
    """And so the same in every locale."""
    assert path_text(os.fsdecode("é".encode() + b"\xe9")) == r"é\xe9"
