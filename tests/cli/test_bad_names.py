"""Names that no file can have, and a current directory that is gone."""

from __future__ import annotations

from pathlib import Path

import pytest

import packtrain
from packtrain.cli import perform
from tests.cli.terminals import request_line

LONG = "n" * 300
#: A name that a file may have, but not the lists that are named after it.
NEAR = "n" * 245 + ".jsonl"
LOCAL = ["--model", "m", "--service", "local"]


@pytest.fixture(autouse=True)
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current directory, with an input."""
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    Path("a.jsonl").write_bytes(request_line(0))
    return tmp_path / "work"


@pytest.mark.parametrize(
    "command",
    [
        ["run", "a.jsonl", "--out", NEAR, *LOCAL],
        ["merge", "--requests", "a.jsonl", "--results", "a.jsonl", "--out", NEAR],
        ["recover", "a.jsonl", "--run", "t", "--out", NEAR, *LOCAL],
    ],
)
def test_an_output_whose_lists_could_have_no_name_is_refused(
    capsys: pytest.CaptureFixture[str], command: list[str]
) -> None:
    """B12: before anything is sent, because the lists come at the end."""
    assert perform(command) == 3
    assert "its name has 251 bytes; at most 215" in capsys.readouterr().err
    assert [path.name for path in Path().iterdir()] == ["a.jsonl"]


@pytest.mark.parametrize(
    "command",
    [
        ["check", LONG],
        ["check", "a.jsonl/x"],
        ["split", "a.jsonl", "--out-dir", LONG],
        ["run", "a.jsonl", "--out", "o", "--state", LONG, *LOCAL],
        ["run", LONG, "--out", "o", *LOCAL],
        ["status", LONG],
        ["verify", LONG],
        ["adopt", LONG],
        ["retry", f"{LONG}.packtrain"],
        ["resolve", LONG, "--shard", "0", "--drop"],
        ["merge", "--requests", LONG, "--results", "a.jsonl", "--out", "o"],
        ["recover", "a.jsonl", "--run", "t", "--out", "a.jsonl/o", *LOCAL],
        ["serve", "--dir", LONG, "--port", "0"],
    ],
)
def test_a_name_that_no_file_can_have_ends_with_3(capsys: pytest.CaptureFixture[str], command: list[str]) -> None:
    """B12: of every kind; a sentence, and no traceback."""
    assert perform(command) in (3, 6) if command[0] in ("recover", "run", "serve") else perform(command) in (3, 75)
    said = capsys.readouterr().err
    assert said.startswith("packtrain: ")
    assert "Traceback" not in said


def test_a_current_directory_that_is_gone_is_named(capsys: pytest.CaptureFixture[str], work: Path) -> None:
    """B12: all names are looked up from there. The help still comes."""
    file = work / "a.jsonl"
    file.unlink()
    work.rmdir()
    for command in (["check", "a.jsonl"], ["run", "a.jsonl", "--out", "o", *LOCAL], ["status", "s"]):
        assert perform(command) == 3
        assert "packtrain: the current directory cannot be used" in capsys.readouterr().err
    assert perform(["check", "--help"]) == 0


async def test_an_output_with_a_long_name_is_refused_in_python() -> None:
    """B12: before the state directory has a manifest of a run."""
    async with packtrain.open_client("state", service=packtrain.Local()) as client:
        with pytest.raises(packtrain.InputError, match="at most 215"):
            await client.run("a.jsonl", model="m", out=NEAR)
