"""Bad input, and a disk that refuses, through the whole of ``packtrain run``."""

from __future__ import annotations

import gzip
import json
import sys
from typing import TYPE_CHECKING

import pytest

from tests.cli.terminals import Terminal, listening, request_line

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

if TYPE_CHECKING:
    from pathlib import Path

RUN = ("run", "in.jsonl", "--service", "local", "--model", "m", "--out", "out.jsonl")


def rejects(directory: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in (directory / "out.jsonl.rejected.jsonl").read_bytes().splitlines()]


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (b"{not json}", "JSON"),
        (b'{"key":"x","request":{"text":"\xff"}}', "UTF-8"),
        (b'{"request":{}}', "key"),
        (b'{"key":"","request":{}}', "key"),
        (b'{"key":7,"request":{}}', "key"),
        (b'{"key":"x","request":[]}', "request"),
        (b'{"key":"x"}', "request"),
        (b'{"key":"x","request":{"n":"\x00"}}', "NUL"),
        (b'{"key":"x","request":{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}}", "96"),
        (b'\xef\xbb\xbf{"key":"x","request":{}}', "byte order mark"),
        (request_line(0).rstrip(), "k0"),
        (b'{"key":"x","request":{"t":"' + b"a" * 100_000_000 + b'"}}', "20000000"),
    ],
    ids=[
        "not-json",
        "not-utf8",
        "no-key",
        "empty-key",
        "number-as-key",
        "array-as-request",
        "no-request",
        "nul",
        "deep",
        "bom-inside",
        "repeated-key",
        "overlong",
    ],
)
def test_a_bad_line_is_listed_and_the_others_are_answered(terminal: Terminal, bad: bytes, reason: str) -> None:
    """With file, line, byte and a reason, and exit code 1."""
    good = [request_line(0), request_line(1)]
    (terminal.directory / "in.jsonl").write_bytes(good[0] + bad + b"\n" + good[1])
    ended = terminal(*RUN, "--json")
    assert ended.returncode == 1
    summary = json.loads(ended.stdout)
    assert (summary["lines"], summary["valid"], summary["answered"], summary["rejected"]) == (3, 2, 2, 1)
    (reject,) = rejects(terminal.directory)
    assert (reject["source"], reject["line"], reject["offset"]) == ("in.jsonl", 2, len(good[0]))
    assert reason in str(reject["reason"])
    assert len(str(reject["reason"])) < 1000


@pytest.mark.parametrize(
    "text",
    [
        b"\xef\xbb\xbf" + request_line(0) + request_line(1),
        request_line(0).replace(b"\n", b"\r\n") + b"\r\n \n" + request_line(1).rstrip(),
        request_line(0) + '{"key":"k1","request":{"contents":[{"parts":[{"text":"a\u2028b\u0085c"}]}]}}'.encode(),
        request_line(0) + b'{"key":"k1","request":{"contents":[{"parts":[{"text":"t"}]}],"n":-0,"big":1e400}}\n',
    ],
    ids=["bom", "crlf-and-blank", "line-separators", "odd-numbers"],
)
def test_what_looks_odd_but_is_sound_is_answered(terminal: Terminal, text: bytes) -> None:
    """Every line of it."""
    (terminal.directory / "in.jsonl").write_bytes(text)
    ended = terminal(*RUN, "--json")
    assert ended.returncode == 0, ended.stderr
    assert json.loads(ended.stdout)["answered"] == 2


@pytest.mark.parametrize("pack", [gzip.compress, zstd.compress], ids=["gzip", "zstd"])
def test_a_cut_archive_is_refused_before_anything_is_submitted(terminal: Terminal, pack: object) -> None:
    """Almost all its lines could be read; put right, the same command does the whole."""
    assert callable(pack)
    packed = pack(b"".join(map(request_line, range(2000))))
    source = terminal.directory / "in.jsonl"
    source.write_bytes(packed[:-5])
    ended = terminal(*RUN)
    assert ended.returncode == 3
    assert "in.jsonl" in ended.stderr
    assert [path.name for path in terminal.directory.iterdir()] == ["in.jsonl"]
    source.write_bytes(packed)
    ended = terminal(*RUN, "--json")
    assert ended.returncode == 0, ended.stderr
    assert json.loads(ended.stdout)["answered"] == 2000


def test_a_key_used_again_a_million_lines_later_is_found(terminal: Terminal) -> None:
    """By ``check``, with more keys than it holds in memory."""
    with (terminal.directory / "in.jsonl").open("wb") as file:
        file.writelines(b'{"key":"k%d","request":{}}\n' % number for number in range(1_000_000))
        file.write(b'{"key":"k0","request":{}}\n')
    ended = terminal("check", "in.jsonl", "--json")
    assert ended.returncode == 1
    report = json.loads(ended.stdout)
    assert (report["lines"], report["valid"], report["rejected"]) == (1_000_001, 1_000_000, 1)
    (reject,) = report["rejects"]
    assert reject["line"] == 1_000_001
    assert "k0" in reject["reason"]


def test_an_empty_file_is_refused(terminal: Terminal) -> None:
    """There is nothing to ask."""
    (terminal.directory / "in.jsonl").touch()
    ended = terminal(*RUN)
    assert ended.returncode == 3
    assert "no usable line" in ended.stderr


@pytest.mark.parametrize("out", ["o", "d/"])
def test_input_that_is_refused_is_refused_with_its_first_reason(terminal: Terminal, out: str) -> None:
    """And with the place of the list of all the others, for either refusal."""
    good = b"".join(map(request_line, range(20)))
    (terminal.directory / "a.jsonl").write_bytes(good)
    listed = f"{out.rstrip('/')}.rejected.jsonl"
    small = terminal("run", "a.jsonl", *RUN[2:-1], out, "--max-shard-bytes", "10")
    assert small.returncode == 3
    assert "a.jsonl:1: " in small.stderr
    assert listed in small.stderr
    assert len((terminal.directory / listed).read_bytes().splitlines()) == 20
    (terminal.directory / "b.jsonl").write_bytes(good + b"nonsense\n" * 13)
    many = terminal("run", "b.jsonl", *RUN[2:-1], f"b{out}", "--max-rejects", "2")
    assert many.returncode == 3
    assert "b.jsonl:21: " in many.stderr
    assert f"b{listed}" in many.stderr


def test_a_missing_file_is_named(terminal: Terminal) -> None:
    """And nothing is begun."""
    ended = terminal(*RUN)
    assert ended.returncode == 3
    assert "in.jsonl: no such file" in ended.stderr


def test_a_file_that_cannot_be_read_is_named(terminal: Terminal) -> None:
    """Here because its directory is a file, which stops root as well."""
    (terminal.directory / "file").touch()
    ended = terminal("run", "file/in.jsonl", *RUN[2:])
    assert ended.returncode == 3
    assert "file/in.jsonl" in ended.stderr


@pytest.mark.parametrize("limit", [20_000, 60_000, 200_000, 700_000])
def test_a_full_disk_stops_with_75_and_the_same_command_goes_on(terminal: Terminal, limit: int) -> None:
    """Wherever it strikes: shard, ledger, manifest, download, join or output."""
    count = 6000
    (terminal.directory / "in.jsonl").write_bytes(b"".join(map(request_line, range(count))))
    origin = listening(terminal.start("serve", "--dir", "service", "--port", "0"))
    command = ("run", "in.jsonl", "--model", "m", "--out", "out.jsonl", "--service", origin, "--wire", "gemini")
    pace = ("--poll", "50ms", "--max-shard-requests", "2500")
    ended = terminal(*command, *pace, file_limit=limit)
    assert ended.returncode == 75, ended.stderr
    assert "same command" in ended.stderr
    assert not (terminal.directory / "out.jsonl").exists()
    ended = terminal(*command, *pace, "--json")
    assert ended.returncode == 0, ended.stderr
    assert json.loads(ended.stdout)["answered"] == count
    rows = [json.loads(line) for line in (terminal.directory / "out.jsonl").read_bytes().splitlines()]
    assert [row["key"] for row in rows] == [f"k{n}" for n in range(count)]
