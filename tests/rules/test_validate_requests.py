"""Requests as lines, and back."""

from __future__ import annotations

import msgspec
import pytest

from packtrain._errors import InputError
from packtrain._model import Request
from packtrain._rules.validate import encode_line, key_of

GOOD = b'{"key":"k","request":{"contents":[]}}'


def test_the_key_of_a_line_is_text() -> None:
    """Wherever it stands, and however it is spelled."""
    assert key_of(b'{"request":{},"key":"\\u00e9"}\n') == "é"


@pytest.mark.parametrize("line", [b"bad", b'{"key":"\xff","request":{}}', b"[" * 100_000, b"{}"])
def test_a_line_without_a_key_is_an_error(line: bytes) -> None:
    """The parser's own exceptions stay inside."""
    with pytest.raises(InputError):
        key_of(line)


def test_rows_become_lines() -> None:
    """Bytes as they are, a dict as JSON, a Request around its body."""
    assert encode_line(GOOD) == encode_line(GOOD + b"\n") == GOOD + b"\n"
    assert encode_line({"key": "é", "request": {}}) == '{"key":"é","request":{}}\n'.encode()
    request = Request('"\\', msgspec.Raw(b'{"a": 1E5}'))
    assert encode_line(request) == b'{"key":"\\"\\\\","request":{"a": 1E5}}\n'


@pytest.mark.parametrize("row", ["text", None, 7, ["key"]])
def test_other_rows_are_refused(row: object) -> None:
    """The message names the types that are taken."""
    with pytest.raises(TypeError, match="Request, a dict or bytes, not"):
        encode_line(row)  # type: ignore[arg-type]  # on purpose


def test_a_body_on_several_lines_is_refused() -> None:
    """It would be cut at its newline."""
    with pytest.raises(InputError, match="one line"):
        encode_line(Request("k", msgspec.Raw(b'{\n"a":1}')))
