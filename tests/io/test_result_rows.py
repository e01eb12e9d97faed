"""Rows that are no plain answers, through the join: what reaches the output, a list, or both sides of it."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, Any

import pytest

from packtrain._errors import InputError, IntegrityError
from packtrain._io import join_worker
from packtrain._io.join import Outputs, join_files
from packtrain._io.result_file import ResultFiles, parse_all
from packtrain._wire.gemini.lines import LINES

if TYPE_CHECKING:
    from pathlib import Path

    from packtrain._model import Tally

BOM = b"\xef\xbb\xbf"
DEEP = b'{"key":"deep","response":{"embedding":%b}}\n' % (b"[" * 3000 + b"]" * 3000)
HALF = b'{"response":{"embedding":"\\ud83d"},"key":"half"}\n'
BAD = {
    "nan": b'{"key":"nan","response":{"embedding":[NaN]}}\n',
    "infinite": b'{"response":{"embedding":[-Infinity]},"key":"infinite"}\r\n',
    "byte": b'{"key":"byte","response":{"embedding":"\xff"}}\n',
    "tab": b'{"key":"tab","response":{"embedding":"a\tb"}}\n',
}
EMPTY = b'{"key":"empty","response":{"candidates":[]}}\n'


def answer(key: str, text: str = "yes") -> bytes:
    return b'{"key":"%b","response":{"embedding":{"values":["%b"]}}}\n' % (key.encode(), text.encode())


class Files:
    """The files of one join, by which way it is made: in order or by index."""

    def __init__(self, root: Path, by_index: bool) -> None:
        self.root = root
        self.by_index = by_index
        self.outputs = Outputs(root / "answers", root / "failed", root / "unknown")

    def join(self, keys: list[str], results: list[bytes], **options: Any) -> Tally:
        if self.by_index:
            # A key more than the window holds, in the first pass, has the index take the place of the order.
            options |= {"window": 1}
        (self.root / "in").write_bytes(b"".join(b'{"key":"%b","request":{}}\n' % key.encode() for key in keys))
        (self.root / "results").write_bytes(b"".join(results))
        return join_files([self.root / "in"], [self.root / "results"], self.outputs, shape=LINES, **options)

    def failed(self) -> dict[str, Any]:
        return {row["key"]: row for row in map(json.loads, self.outputs.failed.read_bytes().splitlines())}


@pytest.fixture(params=[False, True], ids=["in order", "by index"])
def files(tmp_path: Path, request: pytest.FixtureRequest) -> Files:
    return Files(tmp_path, request.param)


def test_what_is_json_passes_untouched_and_what_is_not_is_kept(files: Files) -> None:
    """A6: the output is strict JSON; the other rows fail with their bytes, and nothing is missing or unknown."""
    keys = ["a", "half", "deep", *BAD, "z"]
    tally = files.join(keys, [answer("a"), HALF, DEEP, *BAD.values(), answer("z")])
    assert files.outputs.answers.read_bytes() == answer("a") + HALF + DEEP + answer("z")
    failed = files.failed()
    assert list(failed) == list(BAD)
    for key, line in BAD.items():
        assert failed[key]["reason"].startswith("answer is not JSON: ")
        assert failed[key]["class"] == "not-json"
        assert base64.b64decode(failed[key]["row_base64"]) == line.rstrip(b"\r\n")
    assert (tally.answered, tally.failed, tally.not_json, tally.missing, tally.unknown) == (4, 4, 4, 0, 0)


def test_a_byte_order_mark_is_left_out_wherever_it_is(files: Files) -> None:
    """B13: before the first row, and where a service has put files together."""
    tally = files.join(["a", "b", "c"], [BOM + answer("a"), answer("b"), BOM + answer("c")])
    assert files.outputs.answers.read_bytes() == answer("a") + answer("b") + answer("c")
    assert (tally.answered, tally.unknown) == (3, 0)


def test_answers_that_say_little_are_counted_and_stay(files: Files) -> None:
    """In the output, byte for byte."""
    blocked = b'{"key":"b","response":{"promptFeedback":{"blockReason":"OTHER"}}}\n'
    cut = b'{"key":"c","response":{"candidates":[{"finishReason":"MAX_TOKENS","index":0}]}}\n'
    tally = files.join(["empty", "b", "c", "d"], [EMPTY, blocked, cut, answer("d")])
    assert files.outputs.answers.read_bytes() == EMPTY + blocked + cut + answer("d")
    assert (tally.answered, tally.empty, tally.blocked, tally.truncated) == (4, 1, 1, 1)


@pytest.mark.parametrize("order", [1, -1])
def test_of_several_rows_the_one_that_says_most_counts(files: Files, order: int) -> None:
    """An answer before one that says little, that before a row that is no JSON."""
    rows = [EMPTY, answer("empty"), BAD["nan"], EMPTY.replace(b"empty", b"nan")][::order]
    tally = files.join(["empty", "nan"], rows)
    assert files.outputs.answers.read_bytes() == answer("empty") + EMPTY.replace(b"empty", b"nan")
    assert (tally.answered, tally.empty, tally.not_json, tally.duplicates) == (2, 1, 0, 2)


def test_a_row_above_the_limit_is_failed_with_its_place(files: Files) -> None:
    """A13: wherever its key is; a row of no request that long is kept all the same."""
    long = b'{"response":{"t":"%b\\""},"key":"b"}\n' % (b"x" * 2000)
    strange = b'{"response":{"t":"%b"},"key":"strange"}\n' % (b"x" * 2000)
    rows = [answer("a"), long, strange, answer("c")]
    tally = files.join(["a", "b", "c"], rows, limit=1000)
    assert files.outputs.answers.read_bytes() == answer("a") + answer("c")
    place = f"{len(long):,} bytes at byte {len(answer('a')):,} of the results"
    assert files.failed() == {
        "b": {"key": "b", "reason": f"the row is longer than 1,000 bytes: {place}", "class": "too-long"}
    }
    assert files.outputs.unknown.read_bytes() == strange
    assert (tally.answered, tally.too_long, tally.unknown, tally.missing) == (2, 1, 1, 0)


def test_a_long_row_cut_short_is_refused(files: Files) -> None:
    """As a short one is."""
    with pytest.raises(IntegrityError, match="middle of a line"):
        files.join(["a"], [b'{"key":"a","response":"%b' % (b"x" * 2000)], limit=1000)


def test_an_answer_becomes_a_member_of_its_request_whatever_it_holds(files: Files) -> None:
    """--join, with half a surrogate pair and 3,000 levels."""
    files.join(["half", "deep"], [HALF, DEEP], with_request=True)
    half, deep = files.outputs.answers.read_bytes().splitlines()
    assert half == b'{"key":"half","request":{},"response":{"embedding":"\\ud83d"}}'
    assert deep.startswith(b'{"key":"deep","request":{},"response":{"embedding":[[')


@pytest.mark.parametrize(
    ("requests", "reason"),
    [(b'{"key":"%b","request":{}}\n' % (b"k" * 5000), "in:1: a key of 5,000"), (b"x" * 20_000_002, "in:1: a line of")],
)
def test_a_request_that_is_too_long_is_refused(tmp_path: Path, requests: bytes, reason: str) -> None:
    """A13, of ``merge``, whose requests need not have been checked."""
    (tmp_path / "in").write_bytes(requests)
    (tmp_path / "results").write_bytes(b"")
    with pytest.raises(InputError, match=reason):
        join_files([tmp_path / "in"], [tmp_path / "results"], Outputs(*(tmp_path / name for name in "afu")))


def test_a_process_parses_the_same(tmp_path: Path) -> None:
    """With marks, long rows, and rows that are no JSON."""
    rows = [BOM + answer("a"), *BAD.values(), b'{"key":"l","response":"%b"}\n' % (b"x" * 2000), BOM + EMPTY, b"\n"]
    (tmp_path / "results").write_bytes(b"".join(rows))
    results = ResultFiles([tmp_path / "results"], LINES, 1000)
    with results, join_worker.parsed_in_process(results) as parsed:
        assert [*parsed] == [*parse_all(results)]
