"""Mutated rows of results, through ``merge`` and through a run against the local service.

``python -m tests.io.mutated_rows`` is the long form. What must become of a row is decided here by its bytes and the
standard library, with none of the code that is tested.
"""

from __future__ import annotations

import argparse
import base64
import json
import random
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio

import packtrain
from packtrain import Options, RowError, Service, serving

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from msgspec import Raw

BOM = b"\xef\xbb\xbf"
DEEP = b"[" * 3000 + b"]" * 3000
#: Put in the place of a value somewhere in the answer.
VALUES = (
    *(b"NaN", b"Infinity", b"-Infinity", b'"\xff"', b'"a\tb"', b'"\x00"', b'"\\ud83d"', b'"\\udc00\\ud83d"', b'"\\x"'),
    *(b"01", b"1e999", b"nul", b"", b'"\xed\xa0\xbd"', b'"' + "\u2028".encode() + b'"', b'"' + BOM + b'"', DEEP),
)


def answer(draw: random.Random, text: str) -> bytes:
    """A plain response, or one that says little."""
    reason = draw.choice(("STOP", "STOP", "STOP", "MAX_TOKENS", "SAFETY", "RECITATION", "OTHER"))
    parts = draw.choice(([{"text": text}], [{"text": text}], [{"text": ""}], []))
    content = {"parts": parts, "role": "model"}
    whole: dict[str, Any] = {"candidates": [{"content": content, "finishReason": reason, "index": 0}], "n": 17}
    little: tuple[dict[str, Any], ...] = ({"promptFeedback": {"blockReason": "OTHER"}}, {"candidates": []}, {})
    response = draw.choice(little) if draw.random() < 0.1 else whole
    spaces = draw.choice(((",", ":"), (", ", ": ")))
    return json.dumps(response, ensure_ascii=draw.random() < 0.5, separators=spaces).encode()


def mutate(draw: random.Random, text: bytes) -> bytes:
    """Some bytes changed, cut, or put in."""
    at = draw.randrange(len(text))
    match draw.randrange(7):
        case 0:
            return text
        case 1:
            return text.replace(b"17", draw.choice(VALUES)) if b"17" in text else text[:at] + draw.choice(VALUES)
        case 2:
            return text[:at] + bytes([text[at] ^ 1 << draw.randrange(8)]) + text[at + 1 :]
        case 3:
            return text[:at] + text[at + 1 :]
        case 4:
            return (
                text[:at] + draw.choice((b'"', b"\\", b"{", b"}", b"[", b"]", b",", b":", b"\x01", b"\xe9")) + text[at:]
            )
        case 5:
            return text[:at]
        case _:
            return text[:at] + draw.randbytes(draw.randrange(1, 4)) + text[at:]


def row(draw: random.Random, key: str) -> bytes:
    """One row, or what became of it, perhaps on more lines than one. Its member ``key`` is always whole."""
    response = mutate(draw, answer(draw, f"the answer to {key} is „yes“"))
    members = [b'"key":"%b"' % key.encode(), b'"response":%b' % response]
    if draw.random() < 0.05:
        members[1] = draw.choice(
            (b'"error":{"code":3,"message":"\\ud83d"}', b'"response":null', b'"error":{"code":NaN}')
        )
    draw.shuffle(members)
    end = draw.choice((b"\n", b"\n", b"\r\n"))
    return (BOM if draw.random() < 0.02 else b"") + b"{%b}%b" % (b",".join(members), end)


def verdict(line: bytes) -> str:
    """``answer``, ``error`` or ``not JSON``."""

    def refuse(word: str) -> None:
        raise ValueError(word)

    try:
        found = json.loads(line.decode().replace(DEEP.decode(), "0"), parse_constant=refuse)
    except ValueError:
        return "not JSON"
    if not isinstance(found, dict) or found.get("error") is not None:
        return "error"
    return "answer" if found.get("response") is not None else "error"


def findings(lines: Sequence[bytes], keys: Sequence[str], out: Path) -> Iterator[str]:
    """What is not as it must be: each line with a key is in the output, or in a list with its bytes and the reason."""
    answers = out.read_bytes().split(b"\n")[:-1]
    failed = {one["key"]: one for one in map(json.loads, _lines(Path(f"{out}.failed.jsonl")))}
    unknown = Counter(_lines(Path(f"{out}.unknown.jsonl")))
    expected = []
    place = {b'"key":"%b"' % key.encode(): key for key in keys}
    for line in lines:
        key = next((place[piece] for piece in _members(line) if piece in place), None)
        text = line.removeprefix(BOM)
        if key is None:
            if line.strip():
                unknown[line] -= 1
                if unknown[line] < 0:
                    yield f"nowhere: {line!r}"
            continue
        what, listed = verdict(text), failed.get(key)
        if what == "answer":
            expected.append(text)
            if listed is not None:
                yield f"{key} was answered and is failed: {listed['reason']}: {line!r}"
        elif listed is None:
            yield f"{key} is {what} and not failed: {line!r}"
        elif what == "not JSON":
            kept = base64.b64decode(listed.get("row_base64", ""))
            if kept != text.rstrip(b"\r") or " is not JSON: " not in listed["reason"] or listed.get("retryable"):
                yield f"{key} is not JSON, but {listed}: {line!r}"
    if answers != expected:
        extra = [line for line in answers if line not in set(expected)]
        yield f"{len(answers)} answers in place of {len(expected)}, such as {extra[:1]!r}"


def _members(line: bytes) -> Iterator[bytes]:
    """Texts that may be the member ``key``, which no mutation touches."""
    at = line.find(b'"key":"')
    while at >= 0:
        yield line[at : line.find(b'"', at + 7) + 1]
        at = line.find(b'"key":"', at + 1)


def _lines(path: Path) -> list[bytes]:
    return path.read_bytes().split(b"\n")[:-1] if path.exists() else []


async def through_merge(root: Path, rows: int, seed: int) -> list[str]:
    """In the order of the requests, with one row a key; in both ways of the join by turns."""
    draw = random.Random(seed)
    keys = [f"k{number}" for number in range(rows)]
    requests, results, out = root / "requests", root / "results", root / f"out{seed}.jsonl"
    requests.write_bytes(b"".join(b'{"key":"%b","request":{}}\n' % key.encode() for key in keys))
    results.write_bytes(b"".join(row(draw, key) for key in keys))
    await packtrain.merge([requests], [results], out, options=Options(join_window=draw.choice((rows // 2, 1_000_000))))
    lines = results.read_bytes().removeprefix(BOM).split(b"\n")[:-1]
    return [*findings(lines, keys, out)]


class Mutating:
    """A backend whose answers are mutated; every twentieth request fails at first, in a way that passes."""

    rows = None

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self.asked: Counter[str] = Counter()

    async def answer(self, requests: Sequence[Raw], *, task: str, model: str) -> list[bytes | RowError]:
        return [self._answer(json.loads(bytes(request))["contents"][0]["parts"][0]["text"]) for request in requests]

    def _answer(self, key: str) -> bytes | RowError:
        self.asked[key] += 1
        if self.fails_first(key) and self.asked[key] == 1:
            return RowError(code=13, message="Try again.")
        return self.response(key)

    def fails_first(self, key: str) -> bool:
        return int(key.removeprefix("k")) % 20 == 0

    def response(self, key: str) -> bytes:
        draw = random.Random(f"{self._seed} {key}")
        # A newline would be the service's own fault.
        return mutate(draw, answer(draw, f"the answer to {key}")).replace(b"\n", b" ") or b"0"


async def through_run(root: Path, rows: int, seed: int) -> list[str]:
    """A whole run, with lines that fail at first: nothing that was answered is asked twice."""
    backend, keys = Mutating(seed), [f"k{number}" for number in range(rows)]
    source, out = root / "in.jsonl", root / "out.jsonl"
    body = b'{"key":"%b","request":{"contents":[{"parts":[{"text":"%b"}]}]}}\n'
    source.write_bytes(b"".join(body % (key.encode(), key.encode()) for key in keys))
    async with serving(root / "service", backend=backend) as origin:
        service = Service(origin=origin, poll=(0.02, 0.2), settle=0.3)
        options = Options(shard_requests=max(1, rows // 3))
        async with packtrain.open_client(root / "state", service=service, options=options) as client:
            summary = await client.run([source], model="m", out=out)
    lines = [b'{"response":%b,"key":"%b"}' % (backend.response(key), key.encode()) for key in keys]
    listed = sum(json.loads(line).get("class") == "not-json" for line in _lines(Path(f"{out}.failed.jsonl")))
    counted = [] if summary.rows.not_json == listed else [f"{listed} rows are not JSON, counted: {summary.rows}"]
    twice = [key for key, count in backend.asked.items() if count != 1 + backend.fails_first(key)]
    return [*counted, *findings(lines, keys, out), *(f"{key} was asked {backend.asked[key]} times" for key in twice)]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=20261130)
    ways: dict[str, Callable[..., Any]] = {"merge": through_merge, "run": through_run}
    parser.add_argument("--ways", nargs="+", choices=list(ways), default=list(ways))
    given = parser.parse_args()
    began, found, portion = time.monotonic(), list[str](), 5_000
    for at in range(0, given.rows, portion):
        for way in given.ways:
            with tempfile.TemporaryDirectory() as root:
                count = min(portion, given.rows - at)
                found += [f"{way}: {one}" for one in anyio.run(ways[way], Path(root), count, given.seed + at)]
    for one in found[:20]:
        print(one[:500], file=sys.stderr)
    seconds = round(time.monotonic() - began)
    report = {"rows": given.rows, "ways": given.ways, "seed": given.seed, "findings": len(found)}
    print(json.dumps({"campaign": "results", **report, "seconds": seconds}))
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
