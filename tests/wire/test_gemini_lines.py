"""Which errors of a row pass: every row of the tables."""

from __future__ import annotations

import json
from typing import Any

import pytest
from msgspec import Raw

from packtrain._rules.lines import is_retryable
from packtrain._wire.gemini.lines import GRPC, LINES

PASSING = {"CANCELLED", "UNKNOWN", "DEADLINE_EXCEEDED", "RESOURCE_EXHAUSTED", "ABORTED", "INTERNAL", "UNAVAILABLE"}


def raw(error: Any) -> Raw:
    return Raw(json.dumps(error).encode())


@pytest.mark.parametrize(("number", "name", "retryable"), GRPC, ids=[name for _, name, _ in GRPC])
def test_an_error_is_known_by_number_and_by_name(number: int, name: str, retryable: bool) -> None:
    """What may pass is asked again; what is wrong with the request itself stays wrong."""
    assert retryable == (name in PASSING)
    assert is_retryable(raw({"code": number, "message": "m"}), LINES) == retryable
    assert is_retryable(raw({"code": name}), LINES) == retryable
    assert is_retryable(raw({"status": name.lower()}), LINES) == retryable


STATUSES = {
    **dict.fromkeys([400, 401, 403, 404, 409, 413, 422, 501], False),
    **dict.fromkeys([408, 425, 429, 499, 500, 502, 503, 504], True),
}


@pytest.mark.parametrize(("status", "retryable"), STATUSES.items())
def test_an_error_may_be_numbered_as_http_does(status: int, retryable: bool) -> None:
    """Endpoints behind a service pass their own numbers on."""
    assert is_retryable(raw({"code": status, "status": "INVALID_ARGUMENT"}), LINES) == retryable


@pytest.mark.parametrize(
    "error", [{}, {"code": 0}, {"code": 99}, {"code": None}, {"code": "odd"}, "text", [1], {"code": {}}]
)
def test_an_error_that_says_nothing_known_is_not_asked_again(error: Any) -> None:
    """It would be paid for again on a guess."""
    assert not is_retryable(raw(error), LINES)
