"""Lines of another service's shape: validated, keyed and encoded like packtrain's own."""

from __future__ import annotations

import pickle
from typing import TYPE_CHECKING

import msgspec
import pytest
from msgspec import Raw

from packtrain._io.join import Outputs, join_files
from packtrain._model import Request
from packtrain._rules.framing import RawBlock
from packtrain._rules.lines import LineShape, is_cancelled, is_retryable, parsers
from packtrain._rules.validate import encode_line, key_of, repeated_key, scan
from packtrain._wire.gemini.lines import LINES

if TYPE_CHECKING:
    from pathlib import Path

SHAPE = LineShape(key="id", request="ask_for", response="output", error="fault", passing=("BUSY", 7), lasting=(429,))
GOOD = b'{"id":"a","ask_for":{"x":1}}\n{"id": "b", "ask_for": {}, "more": 1}\n{"ask_for":{},"id":"c"}\n'


def block(data: bytes) -> RawBlock:
    return RawBlock(data, 0, len(data))


def test_a_shape_is_a_value_that_any_process_can_be_given() -> None:
    """As JSON, and pickled."""
    assert msgspec.json.decode(msgspec.json.encode(SHAPE), type=LineShape) == SHAPE
    assert pickle.loads(pickle.dumps(SHAPE)) == SHAPE  # noqa: S301 - made in the line itself
    assert parsers(SHAPE) is parsers(pickle.loads(pickle.dumps(SHAPE)))  # noqa: S301


def test_lines_of_the_shape_are_accepted_as_they_are() -> None:
    """Their bytes go out unchanged."""
    raw = block(GOOD)
    scanned = scan(raw, source="in", shape=SHAPE)
    assert scanned.data is raw.data
    assert [key_of(line, SHAPE) for line in GOOD.splitlines()] == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b'{"key":"a","request":{}}', '{"id": "…", "ask_for": {…}}'),
        (b'{"id":"","ask_for":{}}', 'the member "id" is empty'),
        (b'{"id":"a","ask_for":{},"id":"b"}', 'the member "id" is given twice'),
        (b'{"id":"a","ask_for":{},"ask\\u005ffor":{}}', 'the member "ask_for" is given twice'),
        (b'{"id":"a","ask_for":{},"\\u0069d":"b"}', 'the member "id" is given twice'),
        (b'{"id":"a","ask_for":[]}', "ask_for"),
    ],
)
def test_other_lines_are_rejected_with_the_names_of_the_shape(line: bytes, reason: str) -> None:
    """A person reads the names that the service wants."""
    (reject,) = scan(block(line + b"\n"), source="in", shape=SHAPE).rejects
    assert reason in reject.reason


def test_a_row_given_in_python_is_written_in_the_shape() -> None:
    """The body as it is."""
    line = encode_line(Request("k", Raw(b'{"a": 1}')), SHAPE)
    assert line == b'{"id":"k","ask_for":{"a": 1}}\n'
    assert "'k'" in repeated_key(line, SHAPE)


def test_the_codes_of_the_shape_decide_before_those_of_http() -> None:
    """A number in neither list is read as an HTTP status."""
    errors = {b'{"code":7}': True, b'{"code":429}': False, b'{"code":503}': True, b'{"status":"busy"}': True}
    assert {error: is_retryable(Raw(error), SHAPE) for error in errors} == errors


def test_a_line_that_a_cancelled_job_left_is_known_by_its_code() -> None:
    """A number or a name, as the shape has it (A5)."""
    errors = {b'{"code":1}': True, b'{"status":"cancelled"}': True, b'{"code":13}': False, b"7": False, b"": False}
    assert {error: is_cancelled(Raw(error), LINES) for error in errors} == errors


@pytest.mark.parametrize("with_request", [False, True])
@pytest.mark.parametrize("reverse", [False, True])
def test_requests_and_results_of_the_shape_are_joined(tmp_path: Path, with_request: bool, reverse: bool) -> None:
    """In any order, with and without the request's members; several files of results count as one."""
    results = [b'{"id":"a","output":{"n":1}}\n', b'{"id":"c","output":{"n":3},"fault":null}\n']
    requests, first, second = tmp_path / "in", tmp_path / "results", tmp_path / "errors"
    requests.write_bytes(GOOD)
    first.write_bytes(b"".join(reversed(results) if reverse else results))
    second.write_bytes(b'{"id":"b","fault":{"message":"no"}}\n')
    outputs = Outputs(tmp_path / "answers", tmp_path / "failed", tmp_path / "unknown")
    tally = join_files([requests], [first, second], outputs, with_request=with_request, validated=True, shape=SHAPE)
    assert (tally.answered, tally.failed, tally.missing, tally.unknown) == (2, 1, 0, 0)
    answers = [msgspec.json.decode(line) for line in outputs.answers.read_bytes().splitlines()]
    assert [(row["id"], row["output"], "ask_for" in row) for row in answers] == [
        ("a", {"n": 1}, with_request),
        ("c", {"n": 3}, with_request),
    ]
    assert outputs.failed.read_bytes() == b'{"key":"b","reason":"no","error":{"message":"no"}}\n'
