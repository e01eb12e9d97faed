"""The join by key: order, accounting, and the service's bytes."""

from __future__ import annotations

import json
import random
from typing import TYPE_CHECKING, Any

import pytest

from packtrain._errors import InputError, IntegrityError
from packtrain._io.join import Outputs, join_files

if TYPE_CHECKING:
    from pathlib import Path

    from packtrain._model import Tally


class Table:
    """Files of one join."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.outputs = Outputs(root / "answers", root / "failed", root / "unknown")

    def write(self, name: str, lines: list[bytes]) -> Path:
        path = self.root / name
        path.write_bytes(b"".join(lines))
        return path

    def join(self, requests: list[bytes], results: list[bytes], **options: Any) -> Tally:
        return join_files([self.write("in", requests)], [self.write("results", results)], self.outputs, **options)

    def answers(self) -> list[bytes]:
        return self.outputs.answers.read_bytes().splitlines(keepends=True)

    def failed(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.outputs.failed.read_bytes().splitlines()]

    def unknown(self) -> list[bytes]:
        return self.outputs.unknown.read_bytes().splitlines(keepends=True)


@pytest.fixture
def table(tmp_path: Path) -> Table:
    return Table(tmp_path)


def request(key: str) -> bytes:
    return json.dumps({"key": key, "request": {"n": key}}).encode() + b"\n"


def answer(key: str, text: str = "yes") -> bytes:
    return b'{"response": {"t":  "%s"}, "key":"%s"}\n' % (text.encode(), key.encode())


def error(key: str, code: int = 13) -> bytes:
    return b'{"key":"%s","error":{"code":%d,"message":"broke"}}\n' % (key.encode(), code)


@pytest.mark.parametrize("window", [1, 3, 1000])
def test_answers_stand_in_the_order_of_the_requests_byte_for_byte(table: Table, window: int) -> None:
    """However the service shuffled them, and however few keys are held at once."""
    keys = [f"k{n}" for n in range(40)]
    results = [answer(key, f"text {key}") for key in keys]
    random.Random(1).shuffle(results)
    tally = table.join([request(key) for key in keys], results, window=window)
    assert table.answers() == [answer(key, f"text {key}") for key in keys]
    assert (tally.answered, tally.failed, tally.unknown, tally.duplicates) == (40, 0, 0, 0)
    assert tally.bytes == table.outputs.answers.stat().st_size


def test_a_key_without_a_row_is_missing_with_the_reason_given(table: Table) -> None:
    """And counts as failed."""
    tally = table.join([request("a"), request("b")], [answer("b")], absent="the job expired")
    assert table.failed() == [{"key": "a", "reason": "the job expired"}]
    assert (tally.answered, tally.failed, tally.missing) == (1, 1, 1)


def test_an_error_row_is_a_failure_with_the_service_s_own_words(table: Table) -> None:
    """The error object goes out as it came."""
    tally = table.join([request("a")], [error("a")])
    assert table.failed() == [{"key": "a", "reason": "broke (code 13)", "error": {"code": 13, "message": "broke"}}]
    assert (tally.failed, tally.missing) == (1, 0)


def test_a_row_with_nothing_in_it_is_a_failure(table: Table) -> None:
    """Null is no response."""
    table.join([request("a"), request("b")], [b'{"key":"a"}\n', b'{"key":"b","response":null}\n'])
    assert [row["key"] for row in table.failed()] == ["a", "b"]


@pytest.mark.parametrize("window", [1, 1000])
def test_of_several_rows_the_first_success_counts(table: Table, window: int) -> None:
    """Success before error, then the first; the others are counted."""
    results = [error("a"), answer("a", "one"), answer("a", "two"), answer("b"), error("b")]
    tally = table.join([request("a"), request("b")], results, window=window)
    assert table.answers() == [answer("a", "one"), answer("b")]
    assert tally.duplicates == 3


@pytest.mark.parametrize("window", [1, 1000])
def test_rows_of_no_request_go_to_a_file_of_their_own(table: Table, window: int) -> None:
    """So do lines that are no rows; never into the output."""
    results = [answer("stranger"), answer("a"), b"garbage\n", b'{"key":"\xff","response":{}}\n', answer("b")]
    tally = table.join([request("a"), request("b")], results, window=window)
    assert table.answers() == [answer("a"), answer("b")]
    assert table.unknown() == [results[0], results[2], results[3]]
    assert tally.unknown == 3


def test_results_cut_in_the_middle_of_a_line_are_refused(table: Table) -> None:
    """At every byte of the last line."""
    whole = answer("b")
    for cut in range(1, len(whole) - 1):
        with pytest.raises(IntegrityError, match="middle of a line"):
            table.join([request("a"), request("b")], [answer("a"), whole[:cut]])


def test_a_last_row_without_a_newline_is_whole_and_gets_one(table: Table) -> None:
    """Some services leave it out."""
    table.join([request("a"), request("b")], [answer("b"), answer("a").rstrip(b"\n")])
    assert table.answers() == [answer("a"), answer("b")]


def test_keys_are_compared_as_text(table: Table) -> None:
    """An escape and the character itself are one key; a composed and a decomposed letter are two."""
    requests = [b'{"key":"A","request":{}}\n', '{"key":"\u00e9","request":{}}\n'.encode()]
    results = [b'{"key":"\\u0041","response":{}}\n', '{"key":"e\u0301","response":{}}\n'.encode()]
    tally = table.join(requests, results)
    assert (tally.answered, tally.missing, tally.unknown) == (1, 1, 1)


def test_blank_lines_in_results_are_nothing(table: Table) -> None:
    """Neither rows nor strangers."""
    assert table.join([request("a")], [b"\n", answer("a"), b"\r\n"]).unknown == 0


def test_with_the_request_its_members_come_first(table: Table) -> None:
    """The request's own bytes, then the response's."""
    line = b'{"key":"a", "request":{"x": 1},  "metadata":{"row":7} }\n'
    table.join([line], [answer("a")], with_request=True)
    assert table.answers() == [b'{"key":"a", "request":{"x": 1},  "metadata":{"row":7} ,"response":{"t":  "yes"}}\n']


def test_line_separators_inside_a_text_do_not_cut_it(table: Table) -> None:
    """Only a newline ends a row."""
    row = '{"key":"a","response":{"t":"one\u2028two\u0085three"}}\n'.encode()
    table.join([request("a")], [row])
    assert table.outputs.answers.read_bytes() == row


def test_several_files_of_requests_and_results_are_one_of_each(table: Table) -> None:
    """In the order given."""
    requests = [table.write(f"in{n}", [request(f"k{n}")]) for n in range(3)]
    results = [table.write(f"out{n}", [answer(f"k{n}", str(n))]) for n in (2, 0, 1)]
    join_files(requests, results, table.outputs)
    assert table.answers() == [answer(f"k{n}", str(n)) for n in range(3)]


def test_a_line_of_requests_without_a_key_is_an_error(table: Table) -> None:
    """A sealed shard has none; a file of somebody else's may."""
    with pytest.raises(InputError, match="no key"):
        table.join([b'{"request":{}}\n'], [])
