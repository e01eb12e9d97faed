"""Lists of rejected and failed lines, with what is needed to put them right."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, Any

import pytest

from packtrain import InputError, Options, open_client
from tests.flow.place import Place, read_lines, request_line

if TYPE_CHECKING:
    from pathlib import Path

#: The service takes no text as contents. Not all lines, or the file would be refused.
ODD = b'{"key":"odd-%d", "request": {"contents": 7.50, "x":\t"\xc3\xa9"}}'
REJECTED = [b"{not json", b'{"key":"x","request":{"t":"\xff"}}', b'{"key":7,"request":{}}']


def inputs(place: Place) -> list[Path]:
    """Two files, in which good, odd, bad and blank lines take turns."""
    paths = [place.root / "a.jsonl", place.root / "b.jsonl"]
    for file, path in enumerate(paths):
        lines: list[bytes] = []
        for number in range(10 * file, 10 * file + 10):
            lines.append(json.dumps(request_line(number)).encode())
            if number % 3 == 0:
                lines += [REJECTED[number // 3 % 3], b"", ODD % number]
        path.write_bytes(b"\n".join(lines) + b"\n")
    return paths


def failed_lines(paths: list[Path]) -> list[tuple[str, int, bytes]]:
    return [
        (str(path), number, line)
        for path in paths
        for number, line in enumerate(path.read_bytes().split(b"\n"), 1)
        if line.startswith(b'{"key":"odd')
    ]


def check_failed(place: Place, paths: list[Path]) -> None:
    rows = [(row["source"], row["line"]) for row in read_lines(place.root / "out.jsonl.failed.jsonl")]
    expected = failed_lines(paths)
    assert rows == [(source, number) for source, number, _ in expected]
    listed = (place.root / "out.jsonl.failed.jsonl").read_bytes().splitlines()
    for line, (_, _, given) in zip(listed, expected, strict=True):
        body = given.partition(b'"request": ')[2][:-1]
        assert line.endswith(b'"request":' + body + b"}")


async def test_a_failed_line_comes_with_its_place_and_its_request(place: Place) -> None:
    """The bytes of the request are those that were given; a retry changes none of it."""
    paths = inputs(place)
    async with open_client(place.state, service=place.service, options=Options(shard_requests=4)) as client:
        summary = await client.run(paths, model="m", out=place.out)
        assert (summary.answered, summary.failed, summary.rejected) == (20, 7, 7)
        check_failed(place, paths)
        summary = await client.retry(place.out, everything=True)
        assert (summary.answered, summary.failed) == (20, 7)
    check_failed(place, paths)
    assert [row["asked"] for row in read_lines(place.root / "out.jsonl.failed.jsonl")] == [2] * 7


@pytest.mark.parametrize("most", [0, 2, 4, 5])
async def test_places_are_right_after_a_restart(place: Place, most: int) -> None:
    """In the first file or the second, with some shards sealed and some lines behind them noted."""
    paths = inputs(place)
    first = Options(shard_requests=3, block_bytes=100, max_rejects=most)
    async with open_client(place.state, service=place.service, options=first) as client:
        with pytest.raises(InputError, match="bad lines"):
            await client.submit(paths, model="m")
    async with open_client(place.state, service=place.service, options=Options(shard_requests=3)) as client:
        await client.run(paths, model="m", out=place.out)
    check_failed(place, paths)


async def test_a_rejected_line_comes_with_its_text(place: Place) -> None:
    """As it was, or as base64 where it is no text; of one above the limit its beginning."""
    path = place.root / "in.jsonl"
    good = [json.dumps(request_line(n)).encode() for n in range(2)]
    long = b'{"key":"' + b"l" * 3000
    path.write_bytes(b"\n".join([good[0], *REJECTED, good[0], long, good[1] + b"\r"]) + b"\n")
    async with open_client(place.state, service=place.service, options=Options(max_line_bytes=2000)) as client:
        summary = await client.run(path, model="m", out=place.out)
    assert (summary.answered, summary.rejected) == (2, 5)
    rows = read_lines(place.root / "out.jsonl.rejected.jsonl")
    assert [line_of(row) for row in rows] == [*REJECTED, good[0], long[:1000]]
    assert [row.get("length") for row in rows] == [None] * 4 + [len(long)]
    assert ["base64" in row for row in rows] == [False, True, False, False, False]


def line_of(row: dict[str, Any]) -> bytes:
    return base64.b64decode(row["base64"]) if "base64" in row else str(row["text"]).encode()
