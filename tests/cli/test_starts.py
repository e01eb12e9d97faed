"""Starts that are refused, and what a start says and leaves."""

from __future__ import annotations

import resource
import shutil
from pathlib import Path

import pytest

import packtrain
from packtrain._io.requests import pending_requests
from packtrain.cli import perform
from tests.cli.terminals import request_line

LOCAL = ["--model", "m", "--service", "local"]


@pytest.fixture(autouse=True)
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current directory, with an input and a file of somebody else."""
    monkeypatch.chdir(tmp_path)
    Path("a.jsonl").write_bytes(request_line(0))
    Path("taken").write_text("x")
    Path("taken.d").mkdir()
    Path("taken.d/part-00000.jsonl").write_text("x")
    Path("list.failed.jsonl").write_text("x")
    return tmp_path


@pytest.mark.parametrize(
    ("source", "out"),
    [
        ("missing.jsonl", "new/out"),
        ("a.jsonl", "taken"),
        ("a.jsonl", "taken.d/"),
        ("a.jsonl", "list"),
        ("a.jsonl", "a.jsonl"),
        ("*.none", "out"),
    ],
)
def test_a_start_that_is_refused_leaves_nothing(work: Path, source: str, out: str) -> None:
    """C4: neither a state directory nor one for the output."""
    before = sorted(work.rglob("*"))
    assert perform(["run", source, "--out", out, *LOCAL]) == 3
    assert sorted(work.rglob("*")) == before


ADDRESS = "gs://bucket/x.jsonl"


@pytest.mark.parametrize(
    ("command", "code"),
    [
        (["run", "a.jsonl", "--out", ADDRESS, *LOCAL], 2),
        (["run", "a.jsonl", "--out", "out", "--state", ADDRESS, *LOCAL], 2),
        (["run", "s3://bucket/x.jsonl", "--out", "out", *LOCAL], 3),
        (["run", "az://bucket/*.jsonl", "--out", "out", *LOCAL], 3),
        (["check", ADDRESS], 3),
        (["split", ADDRESS, "--out-dir", "d"], 3),
        (["split", "a.jsonl", "--out-dir", ADDRESS], 2),
        (["merge", "--requests", ADDRESS, "--results", "a.jsonl", "--out", "out"], 3),
        (["merge", "--requests", "a.jsonl", "--results", ADDRESS, "--out", "out"], 3),
        (["merge", "--requests", "a.jsonl", "--results", "a.jsonl", "--out", ADDRESS], 2),
        (["recover", "a.jsonl", "--run", "t", "--out", "out", "--state", ADDRESS, *LOCAL], 2),
        (["upload", ADDRESS, "--service", "http://127.0.0.1:9", "--wire", "gemini"], 3),
    ],
)
def test_an_address_is_no_directory(
    work: Path, capsys: pytest.CaptureFixture[str], command: list[str], code: int
) -> None:
    """B7: it is refused as input, output and state, and nothing is made."""
    before = sorted(work.rglob("*"))
    assert perform(command) == code
    assert "://bucket/" in (said := capsys.readouterr().err)
    assert "addresses are not supported" in said
    assert sorted(work.rglob("*")) == before


@pytest.mark.parametrize("name", ["z.jsonl.gz", "z.zst", "z.csv", "z.PARQUET"])
def test_an_output_that_promises_another_form_is_refused(
    work: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    """B7: plain text under such a name would not be read by what it is meant for."""
    before = sorted(work.rglob("*"))
    for command in (
        ["run", "a.jsonl", "--out", name, *LOCAL],
        ["merge", "--requests", "a.jsonl", "--results", "a.jsonl", "--out", name],
    ):
        assert perform(command) == 3
        assert f"which .{name.rpartition('.')[2]} does not say" in capsys.readouterr().err
    assert sorted(work.rglob("*")) == before


async def test_in_python_too() -> None:
    """B7: the addresses of the state directory and of an input, and the form of a new run's answers."""
    with pytest.raises(packtrain.InputError, match="addresses are not supported"):
        async with packtrain.open_client(ADDRESS, service=packtrain.Local()):
            pass
    async with packtrain.open_client("state", service=packtrain.Local()) as client:
        for inputs, out, words in ((ADDRESS, "o", "addresses"), ("a.jsonl", "o.csv", "plain lines of JSON")):
            with pytest.raises(packtrain.InputError, match=words):
                await client.run(inputs, model="m", out=out)


def test_the_store_of_the_local_service_goes_with_success(work: Path) -> None:
    """C4: it holds every request and answer once more. A leftover of a kill goes at the next start."""
    run = ["run", "a.jsonl", "--out", "out", *LOCAL]
    assert perform([*run, "--no-wait"]) == 75
    service = work / "out.packtrain" / "service"
    assert service.exists()
    assert perform(run) == 0
    assert not service.exists()
    shutil.copytree("taken.d", service)
    shutil.copytree("taken.d", f"{service}.removed")
    assert perform(run) == 0
    assert not [path.name for path in service.parent.iterdir() if path.name.startswith("service")]


@pytest.mark.parametrize(("former", "present"), [("fence", "revoke"), ("settle", "wait")])
def test_a_former_value_is_taken_with_a_note(capsys: pytest.CaptureFixture[str], former: str, present: str) -> None:
    """On standard error, once."""
    assert perform(["run", "missing.jsonl", "--out", "out", *LOCAL, "--on-ambiguous", former]) == 3
    said = capsys.readouterr().err.splitlines()
    assert said[0] == f"packtrain: --on-ambiguous {former} is called {present} now"
    assert len([line for line in said if "is called" in line]) == 1


def test_requests_that_cannot_be_listed_are_no_reason_to_go_on_without_them(work: Path) -> None:
    """As when no file can be opened any more: the error says so, and the next start finds them."""
    (work / "requests").mkdir()
    assert pending_requests(work) == []
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))
    try:
        with pytest.raises(packtrain.DiskFailed, match="Too many open files"):
            pending_requests(work)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
